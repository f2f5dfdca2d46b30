"""Progress: what a drill or a fit of many minutes says while it runs, one line at a time, beside its result.

    say = on_stderr()
    say("steady: 120 of 600 s")                  #    143 s  steady: 120 of 600 s

    with shown(Bar()):
        step("epoch 2 of 6", 51_200, 170_000)    #    143 s  [######··············]  30 %  epoch 2 of 6

Whoever works calls `step` wherever it knows how far it is; it costs nothing and says nothing until somebody asked for
it by `shown`, so that the fits themselves carry no stream, no clock and no option for it.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TextIO

Say = Callable[[str], None]
Step = Callable[[str, int, int], None]
"""What is done, how much of it, of how much; of 0 where that is not known."""
EVERY_S = 10.0
WIDTH = 20


def silent(_line: str) -> None:
    """For callers that only want the result."""


def on_stderr() -> Say:
    """Lines on standard error, each with the seconds since now."""
    began = time.monotonic()

    def say(line: str) -> None:
        sys.stderr.write(f"{time.monotonic() - began:6.0f} s  {line}\n")
        sys.stderr.flush()

    return say


def seldom(say: Say, every_s: float = EVERY_S) -> Say:
    """Passes on a line only when the one before is `every_s` old: for what a loop has to say."""
    last = time.monotonic()

    def sometimes(line: str) -> None:
        nonlocal last
        if time.monotonic() - last >= every_s:
            last = time.monotonic()
            say(line)

    return sometimes


def _unseen(_what: str, _done: int, _of: int) -> None:
    """Nobody looks."""


_LOOKING: ContextVar[Step] = ContextVar("looking", default=_unseen)


def step(what: str, done: int = 0, of: int = 0) -> None:
    """Tell whoever looks how far the work is."""
    _LOOKING.get()(what, done, of)


@contextmanager
def shown(by: Step) -> Iterator[None]:
    """Everything that `step` tells inside is shown by this."""
    token = _LOOKING.set(by)
    try:
        yield
    finally:
        _LOOKING.reset(token)


class Bar:
    """A bar on standard error: one line that grows on a terminal, else a line each time there is something to say.

    That is when another thing is begun, when it is done, and when the last line is `EVERY_S` old.
    """

    def __init__(self, stream: TextIO | None = None, now: Callable[[], float] = time.monotonic) -> None:
        self._stream, self._now = stream or sys.stderr, now
        self._began = self._last = now()
        self._what, self._open = "", False

    def __call__(self, what: str, done: int, of: int) -> None:
        at, terminal = self._now(), self._stream.isatty()
        fresh, ended = what != self._what, 0 < of <= done
        if not (terminal or fresh or ended or at - self._last >= EVERY_S):
            return
        self._what, self._last = what, at
        drawn = drawn_bar(done, of)
        line = f"{at - self._began:6.0f} s  {drawn}{'  ' if drawn else ''}{what}"
        if terminal:
            # A new thing begins a new line; what the old one was stays above it.
            before = "\n" if fresh and self._open else ""
            self._stream.write(f"{before}\r{line}\x1b[K")
            self._open = True
        else:
            self._stream.write(f"{line}\n")
        self._stream.flush()


def drawn_bar(done: int, of: int) -> str:
    """The bar alone; nothing where the whole is not known.

    >>> drawn_bar(3, 10)
    '[######··············]  30 %'
    """
    if of <= 0:
        return ""
    share = min(done / of, 1.0)
    full = int(share * WIDTH)
    return f"[{'#' * full}{'·' * (WIDTH - full)}] {100 * share:3.0f} %"
