"""Supervisor: the process that starts the services, keeps them running and ends them.

It holds the run folder's lock, writes `state.json` at every change, and stops everything on SIGTERM,
SIGINT or when it fails itself. It listens on nothing: `status` reads the file, `down` sends the signal.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import structlog

from infra.stack import logfiles, processes, state
from infra.stack.service import Service, State, in_order
from infra.stack.unit import Patience, Unit

TICK_S = 0.1
ROTATE_EVERY_S = 5.0
SWEEP_GRACE_S = 2.0
NAME = "supervisor"
log = structlog.get_logger()


class Supervisor:
    """Runs a table of services until `stop_requested`."""

    def __init__(
        self, services: Sequence[Service], run_dir: Path, cwd: Path, environ: Mapping[str, str],
        facts: Mapping[str, Any] | None = None, patience: Patience | None = None,
    ) -> None:
        self.levels = in_order(services)
        self.run_dir, self.cwd, self.environ = run_dir, cwd, dict(environ)
        self.facts = dict(facts or {})
        self.stop_requested = False
        self._pool = ThreadPoolExecutor(max_workers=max(4, len(services)), thread_name_prefix="probe")
        self.units = {s.name: Unit(s, self._spawn, self._pool, patience or Patience()) for s in services}
        self._phase = "starting"
        self._began = time.monotonic()
        self._rotated = 0.0

    def _spawn(self, service: Service) -> subprocess.Popen[bytes]:
        processes.end(processes.members(self.run_dir).get(service.name, []), SWEEP_GRACE_S)
        return processes.spawn(service, self.run_dir, logfiles.path(self.run_dir, service.name), self.cwd, self.environ)

    def run(self) -> None:
        """Start, watch, and stop at the end, whatever the end is."""
        try:
            self._write()
            while not self.stop_requested:
                if self.tick(time.monotonic()):
                    self._write()
                time.sleep(TICK_S)
        finally:
            self.stop()

    def tick(self, now: float) -> bool:
        """One look at every service. Returns whether anything changed."""
        moved = [unit for unit in self.units.values() if unit.tick(now, self._dependencies_ready(unit.service))]
        for unit in moved:
            log.info("service", service=unit.service.name, state=unit.state.value, message=unit.message)
        if self._phase == "starting" and all(u.satisfied for u in self.units.values() if u.service.awaited):
            self._phase = "ready"
            log.info("everything is ready", after_s=round(now - self._began, 1))
            return True
        self._rotate(now)
        return bool(moved)

    def _dependencies_ready(self, service: Service) -> bool:
        return all(self.units[name].satisfied for name in service.depends_on)

    def _rotate(self, now: float) -> None:
        if now - self._rotated > ROTATE_EVERY_S:
            self._rotated = now
            for name in (*self.units, NAME):
                logfiles.rotate(logfiles.path(self.run_dir, name))

    def stop(self) -> None:
        """End every service, dependents first, then whatever still carries this stack's mark."""
        self._phase = "stopping"
        for level in reversed(self.levels):
            units = [self.units[service.name] for service in level]
            running = [(unit.service, unit.child) for unit in units if unit.child is not None]
            for unit in units:
                unit.state, unit.message = State.STOPPING, ""
            self._write()
            processes.stop(running)
            for unit in units:
                unit.state, unit.child = State.STOPPED, None
        leftovers = [p for found in processes.members(self.run_dir).values() for p in found]
        processes.end(leftovers, SWEEP_GRACE_S)
        self._pool.shutdown(wait=False, cancel_futures=True)
        self._phase = "stopped"
        self._write()
        log.info("stopped", leftovers=len(leftovers))

    def _write(self) -> None:
        now, wall = time.monotonic(), time.time()
        state.write(self.run_dir, {
            "version": 1, "phase": self._phase, **self.facts,
            "supervisor": {"pid": os.getpid(), "log": str(logfiles.path(self.run_dir, NAME))},
            "started_at": round(wall - (now - self._began), 3),
            "services": [_row(unit, self.run_dir, wall - now) for unit in self.units.values()],
        })


def _row(unit: Unit, run_dir: Path, wall_offset: float) -> dict[str, Any]:
    service = unit.service
    return {
        "name": service.name, "group": service.group, "state": unit.state.value, "message": unit.message,
        "pid": unit.child.pid if unit.child else None, "create_time": unit.create_time, "restarts": unit.restarts,
        "since": round(unit.since + wall_offset, 3) if unit.since else None, "address": service.address,
        "port": service.port, "awaited": service.awaited, "log": str(logfiles.path(run_dir, service.name)),
    }


def serve(supervisor: Supervisor) -> int:
    """Hold the lock, run until a signal, leave nothing. Exit code: 0 stopped as asked, 1 somebody else runs it."""
    def ask_to_stop(_number: int, _frame: object) -> None:
        supervisor.stop_requested = True

    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, ask_to_stop)
    try:
        with state.Lock(supervisor.run_dir):
            supervisor.run()
            (supervisor.run_dir / state.STATE).unlink(missing_ok=True)
    except state.AlreadyRunning as error:
        log.error("refused", reason=str(error))
        return 1
    return 0


def main(arguments: Sequence[str]) -> int:
    """`python -m infra.stack.supervisor <auto|live|recording|simulated>`; started by `candlewick up`."""
    from feature_repo.logs import configure
    from feature_repo.settings import ROOT, load_settings
    from infra.stack import services, venue

    settings = load_settings()
    configure(NAME, settings.log_level)
    source = venue.choose(settings, venue.wanted(arguments[0] if arguments else "auto"))
    log.info("source", source=source)
    table = services.table(settings, source, venue.anchor(settings.run_dir, time.time_ns()))
    environ = {**os.environ, **services.environment(settings, source)}
    facts = {"source": source, "page": services.page(settings)}
    return serve(Supervisor(table, settings.run_dir, ROOT, environ, facts))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
