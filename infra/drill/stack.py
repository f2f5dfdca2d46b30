"""Stack: some services of the one table, on free ports and in a folder of their own, gone at the end.

    with own_stack(("redis", "kafka", "topics", "streaming"), symbols=("AAAUSDT",)) as drill:
        drill.await_ready(120)
        drill.kill("streaming")          # -9, with what it started; its supervisor starts it again

The supervisor is the product's, in a thread: what is seen here is what `candlewick up` would do.
"""

from __future__ import annotations

import os
import signal
import socket
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import psutil

from feature_repo.contracts import StoreUnavailable
from feature_repo.settings import LOOPBACK, PREFIX, ROOT, Ports, Settings, load_settings
from feature_repo.store import FeatureStore
from infra.stack import logfiles, processes, services
from infra.stack.probes import Health, examine
from infra.stack.supervisor import Supervisor
from infra.stack.venue import Source

LOOK_EVERY_S = 0.1


@dataclass(frozen=True)
class Drill:
    """A running stack: its settings and its supervisor."""

    settings: Settings
    supervisor: Supervisor

    def ready(self) -> bool:
        """Whether every service is as it should be."""
        return all(unit.satisfied for unit in self.supervisor.units.values())

    def answers(self, name: str) -> bool:
        """Whether a service's probe says ready now, whatever the supervisor last saw."""
        probe = self.supervisor.units[name].service.probe
        return probe is not None and examine(probe)[0] is Health.READY

    def await_ready(self, seconds: float) -> None:
        """Raises `TimeoutError` with the states and last lines of what is not ready."""
        try:
            until(self.ready, seconds, "every service ready")
        except TimeoutError as error:
            raise TimeoutError(f"{error}\n{self.complaints()}") from None

    def complaints(self) -> str:
        """The state of what is not ready, and its last words."""
        return "\n".join(
            line for unit in self.supervisor.units.values() if not unit.satisfied
            for line in (f"{unit.service.name}: {unit.state} {unit.message}", *self.tail(unit.service.name))
        )

    def tail(self, name: str, lines: int = 15) -> list[str]:
        """The end of a service's log."""
        return logfiles.tail(logfiles.path(self.settings.run_dir, name), lines)

    def members(self, name: str) -> list[psutil.Process]:
        """The living processes of a service, its leader first."""
        child = self.supervisor.units[name].child
        if child is None:
            return []
        found = processes.members(self.settings.run_dir, {name: child.pid}).get(name, [])
        return sorted(found, key=lambda process: process.pid != child.pid)

    def signal(self, name: str, number: signal.Signals) -> int:
        """Send a signal to every process of a service. Returns how many got it."""
        living = self.members(name)
        for process in living:
            process.send_signal(number)
        return len(living)

    def kill(self, name: str) -> int:
        """SIGKILL to a service and what it started."""
        return self.signal(name, signal.SIGKILL)

    def rss_mb(self, name: str) -> float:
        """Resident memory of a service's processes, shared pages divided among them, MB."""
        return sum(processes.pss_bytes(process.pid) for process in self.members(name)) / 1e6

    def starts(self, name: str) -> int:
        """How often a service was started again."""
        return self.supervisor.units[name].restarts

    @cached_property
    def store(self) -> FeatureStore:
        return FeatureStore.open(self.settings)

    def newest(self) -> int:
        """Close of the oldest of the symbols' rows in Redis; 0 when one has none or Redis is away."""
        try:
            held = self.store.versions(self.settings.symbols)
        except StoreUnavailable:
            return 0
        return min(version[0] if version else 0 for version in held.values())


@contextmanager
def own_stack(
    names: Sequence[str], source: Source = "simulated", anchor_ns: int | None = None,
    arguments: Callable[[str], Sequence[str]] = lambda _name: (),
    within: Callable[[Settings], AbstractContextManager[Any]] = nullcontext, **changes: Any,
) -> Iterator[Drill]:
    """Run the services named until the block ends. `changes` are settings; `arguments(name)` adds to a command.

    `within(settings)` is entered before the first service starts and left after the last has ended.
    """
    with tempfile.TemporaryDirectory(prefix="candlewick-drill-", ignore_cleanup_errors=True) as folder:
        settings = own_settings(Path(folder), **changes)
        table = [
            replace(service, command=(*service.command, *arguments(service.name)))
            for service in services.table(settings, source, anchor_ns) if service.name in names
        ]
        environ = {**os.environ, **services.environment(settings, source), **environment(settings)}
        supervisor = Supervisor(table, settings.run_dir, ROOT, environ)
        runner = threading.Thread(target=supervisor.run, name="drill")
        with _ended_in_order(), within(settings):
            runner.start()
            try:
                yield Drill(settings, supervisor)
            finally:
                supervisor.stop_requested = True
                runner.join()


@contextmanager
def _ended_in_order() -> Iterator[None]:
    """SIGTERM ends the block as Ctrl-C does: otherwise the stack would outlive this process."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def own_settings(run_dir: Path, **changes: Any) -> Settings:
    """The environment's settings, but for a folder, free ports and stores of their own; no history is fetched."""
    outer = load_settings()
    own = {
        "kafka_bootstrap": "", "redis_url": "", "redis_writer_url": "", "lake_url": "", "s3_endpoint": "",
        "history_days": 0,
    }
    return replace(outer, run_dir=run_dir, ports=free_ports(), **{**own, **changes})


def environment(settings: Settings) -> dict[str, str]:
    """What makes a child read these settings, whatever its parent's environment says."""
    plain = {
        name: ",".join(value) if isinstance(value, tuple) else str(value)
        for name, value in asdict(settings).items() if name not in ("ports", "venue_ws", "venue_rest")
    }
    ports = {f"PORTS_{name.upper()}": str(port) for name, port in asdict(settings.ports).items()}
    other_names = dict.fromkeys(("KAFKA_BOOTSTRAP_SERVERS", "CRYPTO_SYMBOLS", "REDIS_URL"), "")
    return other_names | {f"{PREFIX}{name.upper()}": value for name, value in (plain | ports).items()}


def free_ports() -> Ports:
    """A free loopback port for every service."""
    sockets = {name: socket.socket() for name in asdict(Ports())}
    try:
        for probe in sockets.values():
            probe.bind((LOOPBACK, 0))
        return Ports(**{name: probe.getsockname()[1] for name, probe in sockets.items()})
    finally:
        for probe in sockets.values():
            probe.close()


def until(condition: Callable[[], object], seconds: float, what: str, every_s: float = LOOK_EVERY_S) -> float:
    """Wait for a condition. Returns the seconds it took; raises `TimeoutError` naming it."""
    began = time.monotonic()
    while not condition():
        if time.monotonic() - began > seconds:
            raise TimeoutError(f"expected within {seconds:g} s: {what}")
        time.sleep(every_s)
    return time.monotonic() - began


def within(condition: Callable[[], object], seconds: float, every_s: float = LOOK_EVERY_S) -> float | None:
    """Wait for a condition that may not come true. Returns the seconds it took; null when it did not in time."""
    try:
        return until(condition, seconds, "", every_s)
    except TimeoutError:
        return None
