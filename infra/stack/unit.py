"""Unit: one service's life, from waiting over starting to ready, and back again after a crash.

`tick` looks at the process and the last probe and takes at most one step. Time comes in as an argument
(monotonic seconds); starting a process and asking a probe are callables, so that tests bring their own.
"""

from __future__ import annotations

import contextlib
import subprocess
from collections.abc import Callable
from concurrent.futures import Executor, Future
from dataclasses import dataclass

import psutil

from infra.stack import processes
from infra.stack.probes import Health, Probe, examine
from infra.stack.service import SATISFIED, Service, State

Spawn = Callable[[Service], "subprocess.Popen[bytes]"]
Answer = tuple[Health, str]


@dataclass(frozen=True)
class Patience:
    """How long things may take, in seconds."""

    first_s: float = 0.5
    """pause before the first new try; doubled each time"""
    most_s: float = 30.0
    """longest pause"""
    healthy_after_s: float = 30.0
    """ready for this long: earlier failures are forgotten"""
    silent_s: float = 60.0
    """a service that once was ready and gives no answer for this long is started again"""
    probe_starting_s: float = 0.2
    probe_ready_s: float = 2.0

    def pause_s(self, failures: int) -> float:
        """The pause after so many failures in a row.

        >>> [Patience().pause_s(n) for n in (1, 2, 3, 20)]
        [0.5, 1.0, 2.0, 30.0]
        """
        return float(min(self.most_s, self.first_s * 2.0 ** min(failures - 1, 30)))


class Unit:
    """One service and its process. `changed` is true after any tick that moved it."""

    def __init__(self, service: Service, spawn: Spawn, pool: Executor, patience: Patience) -> None:
        self.service, self.patience = service, patience
        self.state, self.message = State.WAITING, ""
        self.child: subprocess.Popen[bytes] | None = None
        self.create_time = 0.0
        self.starts = self.failures = 0
        self.since = self.started = self.heard = 0.0
        self._was_ready = False
        self._next_try = self._next_probe = 0.0
        self._spawn, self._pool = spawn, pool
        self._answer: Future[Answer] | None = None

    @property
    def satisfied(self) -> bool:
        return self.state in SATISFIED

    @property
    def restarts(self) -> int:
        return max(0, self.starts - 1)

    def tick(self, now: float, dependencies_ready: bool) -> bool:
        """Take one step; returns whether the state or its message changed."""
        before = (self.state, self.message)
        match self.state:
            case State.WAITING if dependencies_ready:
                self._start(now)
            case State.BACKOFF if now >= self._next_try:
                self._move(State.WAITING, now)
            case State.STARTING | State.READY | State.UNREADY:
                self._watch(now)
            case _:
                pass
        return (self.state, self.message) != before

    def _start(self, now: float) -> None:
        if self.service.port and (holder := processes.port_holder(self.service.port)):
            self._fail(now, f"port {self.service.port} is held by {holder}")
            return
        try:
            self.child = self._spawn(self.service)
        except OSError as error:
            self._fail(now, f"{self.service.command[0]}: {error}")
            return
        self.starts += 1
        self.create_time = _create_time(self.child.pid)
        self.started = self.heard = now
        self._was_ready, self._answer, self._next_probe = False, None, now
        self._move(State.STARTING, now)

    def _watch(self, now: float) -> None:
        assert self.child is not None
        code = self.child.poll()
        if code is not None:
            self._ended(code, now)
        elif self.service.probe is None:
            if not self.service.once and self.state is State.STARTING:
                self._ready(now)
        else:
            self._ask(self.service.probe, now)
        # One that answers, and says why it is not ready, is left to it.
        if self.state is State.STARTING and now - self.heard > self.service.ready_within_s and not self.service.once:
            self._give_up(now, f"not ready within {self.service.ready_within_s:.0f} s")
        if self._settled(now):
            self.failures = 0

    def _settled(self, now: float) -> bool:
        return self.state is State.READY and now - self.since > self.patience.healthy_after_s

    def _ask(self, probe: Probe, now: float) -> None:
        if self._answer is not None and self._answer.done():
            self._hear(*self._answer.result(), now)
            self._answer = None
            pause = self.patience.probe_ready_s if self.state is State.READY else self.patience.probe_starting_s
            self._next_probe = now + pause
        elif self._answer is None and now >= self._next_probe:
            self._answer = self._pool.submit(examine, probe)

    def _hear(self, health: Health, words: str, now: float) -> None:
        if health is not Health.SILENT:
            self.heard = now
        if health is Health.READY:
            self._ready(now, words)
        elif self._was_ready:
            self._move(State.UNREADY, now, words)
            if now - self.heard > self.patience.silent_s:
                self._give_up(now, f"silent for {now - self.heard:.0f} s")
        else:
            self.message = words if health is Health.ALIVE else ""

    def _ready(self, now: float, notes: str = "") -> None:
        self._was_ready = True
        self._move(State.READY, now, notes)

    def _ended(self, code: int, now: float) -> None:
        assert self.child is not None
        processes.kill_group(self.child.pid)  # what it left behind would hold its port
        if self.service.once and code == 0:
            self._move(State.DONE, now)
        else:
            self._fail(now, f"ended by signal {-code}" if code < 0 else f"ended with exit code {code}")

    def _give_up(self, now: float, why: str) -> None:
        assert self.child is not None
        processes.kill_group(self.child.pid)
        # One that the system has not let go of yet holds its port, and the next start waits for that.
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.child.wait(processes.KILL_WAIT_S)
        self._fail(now, why)

    def _fail(self, now: float, why: str) -> None:
        self.failures += 1
        self.child = None
        if self.service.tries and self.failures >= self.service.tries:
            self._move(State.FAILED, now, why)
            return
        pause = self.patience.pause_s(self.failures)
        self._next_try = now + pause
        self._move(State.BACKOFF, now, why)

    def _move(self, state: State, now: float, message: str = "") -> None:
        if state is not self.state:
            self.since = now
        self.state, self.message = state, message


def _create_time(pid: int) -> float:
    try:
        return float(psutil.Process(pid).create_time())
    except processes.GONE:
        return 0.0
