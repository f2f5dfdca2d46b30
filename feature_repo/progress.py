"""Progress: what a drill or a fit of many minutes says while it runs, one line at a time, beside its result.

    say = on_stderr()
    say("steady: 120 of 600 s")                  #    143 s  steady: 120 of 600 s
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable

Say = Callable[[str], None]
EVERY_S = 10.0


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
