"""Control: up, down, status and logs, as a person's terminal sees them.

Each returns the exit code: 0 as asked, 1 not so (something is not ready, nothing runs).
"""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import psutil
import typer

from feature_repo.settings import ROOT, Settings, load_settings
from infra.stack import logfiles, processes, services, state, table, venue

LOOK_EVERY_S = 0.2
# A message that differs in its numbers only is the same news.
AGES = re.compile(r"\d+")
UP_WITHIN_S = 420.0
START_WITHIN_S = 20.0
DOWN_WITHIN_S = 120.0
SWEEP_GRACE_S = 10.0


def up(as_json: bool = False, source: str = "auto") -> int:
    """Start the supervisor unless one runs, wait until everything awaited is ready, print the table."""
    settings = load_settings()
    venue.wanted(source)
    if state.held(settings.run_dir):
        _say("already running")
        return _report(settings, as_json)
    _sweep(settings)
    if taken := _taken(settings, source):
        _say("\n".join(taken))
        return 1
    supervisor = _start_supervisor(settings, source)
    try:
        arrived = _await_ready(settings, supervisor)
    except KeyboardInterrupt:
        _say("interrupted: stopping what was started")
        down()
        return 130
    if arrived:
        return _report(settings, as_json)
    return _report(settings, as_json) or 1


def down(as_json: bool = False) -> int:
    """Ask the supervisor to stop everything, wait for it, then end whatever still carries the stack's mark."""
    settings = load_settings()
    before = current(settings)
    if before is not None:
        _ask_to_stop(before, settings)
    killed = _sweep(settings)
    state.clear(settings.run_dir)
    stopped = len(before["services"]) if before else 0
    if as_json:
        typer.echo(json.dumps({"stopped": stopped, "swept": killed}))
    else:
        _say("stopped" if before or killed else "nothing was running")
    return 0


def status(as_json: bool = False) -> int:
    """Print what runs. 0 when every awaited component is ready."""
    return _report(load_settings(), as_json)


def logs(service: str | None, follow: bool, lines: int, as_json: bool) -> int:
    """Print the ends of the logs, and go on until Ctrl-C when following. Raises `ValueError` for an unknown name."""
    folder = load_settings().run_dir / "logs"
    wanted = _chosen(folder, service)
    print_line = _printer(as_json, named=len(wanted) > 1)
    for log in wanted:
        for line in logfiles.tail(log, lines):
            print_line(log.stem, line)
    offsets: dict[Path, int] = {}
    try:
        while follow:
            for name, line in logfiles.added(_chosen(folder, service), offsets):
                print_line(name, line)
            time.sleep(LOOK_EVERY_S)
    except KeyboardInterrupt:
        return 0
    return 0


def current(settings: Settings) -> dict[str, Any] | None:
    """The supervisor's last word, when a supervisor lives; None when nothing runs."""
    return state.read(settings.run_dir) if state.held(settings.run_dir) else None


def with_venue(settings: Settings) -> Settings:
    """The settings with the venue of the running stack: the local exchange when that is where its market comes from."""
    found = current(settings)
    if found is None or found["source"] == "live":
        return settings
    env = services.environment(settings, found["source"])
    return replace(
        settings, venue_ws=(env["CANDLEWICK_VENUE_WS"],), venue_rest=(env["CANDLEWICK_VENUE_REST"],),
    )


def measured(settings: Settings) -> dict[str, Any] | None:
    """`current`, with the process ids and memory (PSS) of each service, of the supervisor, and of all together."""
    found = current(settings)
    if found is None:
        return None
    leaders = {service["name"]: service["pid"] for service in found["services"] if service["pid"]}
    of = processes.members(settings.run_dir, leaders)
    for service in found["services"]:
        service.update(_weight(sorted(process.pid for process in of.get(service["name"], []))))
    found["supervisor"] |= _weight([found["supervisor"]["pid"]])
    found["memory_bytes"] = sum(s["memory_bytes"] for s in (*found["services"], found["supervisor"]))
    found["running"] = True
    from feature_repo.models import live_sets, unread

    found["feature_sets"], found["unread_features"] = live_sets(settings), unread(settings)
    return found


def _weight(pids: Sequence[int]) -> dict[str, Any]:
    return {"pids": list(pids), "memory_bytes": sum(processes.pss_bytes(pid) for pid in pids)}


def _report(settings: Settings, as_json: bool) -> int:
    found = measured(settings)
    if found is None:
        orphans = sum(map(len, processes.members(settings.run_dir).values()))
        if as_json:
            typer.echo(json.dumps({"running": False, "phase": "stopped", "services": [], "orphans": orphans}))
        elif orphans:
            typer.echo(f"the supervisor is gone, {orphans} of its processes are not; `make down` ends them")
        else:
            typer.echo("not running; `make up` starts it")
        return 1
    typer.echo(json.dumps(found) if as_json else table.render(found))
    return 1 if table.away(found) else 0


def _taken(settings: Settings, source: str) -> list[str]:
    """A line for each port that somebody else holds."""
    plan = services.table(settings, "live" if source == "live" else "recording")
    held = [(name, port, processes.port_holder(port)) for name, port in services.ports(plan).items()]
    return [
        f"{name}: expected port {port} free, found {who}; stop it or set CANDLEWICK_PORTS_{name.upper()}=<other port>"
        for name, port, who in held if who
    ]


def _start_supervisor(settings: Settings, source: str) -> subprocess.Popen[bytes]:
    log = logfiles.path(settings.run_dir, "supervisor")
    log.parent.mkdir(parents=True, exist_ok=True)
    environ = {**os.environ, "CANDLEWICK_RUN_DIR": str(settings.run_dir)}
    with log.open("ab") as output:
        return subprocess.Popen(
            [sys.executable, "-m", "infra.stack.supervisor", source], cwd=ROOT, env=environ,
            stdin=subprocess.DEVNULL, stdout=output, stderr=output, start_new_session=True,
        )


def _await_ready(settings: Settings, supervisor: subprocess.Popen[bytes]) -> bool:
    began = time.time()
    seen: dict[str, tuple[str, str]] = {}
    while time.time() - began < UP_WITHIN_S:
        found = current(settings)
        if supervisor.poll() is not None:
            _say(f"the supervisor ended; its last words:\n{_last_words(settings)}")
            return False
        if found is None:
            if time.time() - began > START_WITHIN_S:
                _say("the supervisor did not start; see `candlewick logs supervisor`")
                return False
        else:
            _say_changes(found, seen, began)
            if found["phase"] != "starting":
                return True
        time.sleep(LOOK_EVERY_S)
    _say(f"not everything was ready within {UP_WITHIN_S:.0f} s; it goes on trying")
    return False


def _say_changes(found: Mapping[str, Any], seen: dict[str, tuple[str, str]], began: float) -> None:
    for service in found["services"]:
        now = (service["state"], AGES.sub("", service["message"]))
        if service["state"] != "waiting" and seen.get(service["name"]) != now:
            seen[service["name"]] = now
            _say(table.progress(service, time.time() - began))


def _last_words(settings: Settings) -> str:
    return "\n".join(logfiles.tail(logfiles.path(settings.run_dir, "supervisor"), 15))


def _ask_to_stop(found: Mapping[str, Any], settings: Settings) -> None:
    pid = found["supervisor"]["pid"]
    try:
        os.kill(pid, signal.SIGTERM)
    except ProcessLookupError:
        return
    began = time.time()
    while state.held(settings.run_dir) and time.time() - began < DOWN_WITHIN_S:
        time.sleep(LOOK_EVERY_S)
    if state.held(settings.run_dir):
        processes.end([psutil.Process(pid)], 0)


def _sweep(settings: Settings) -> int:
    """End processes of this stack that no supervisor looks after. Returns how many there were."""
    last = state.read(settings.run_dir) or {"services": []}
    leaders = {
        s["name"]: s["pid"] for s in last["services"] if s["pid"] and processes.alive(s["pid"], s["create_time"])
    }
    left = [process for found in processes.members(settings.run_dir, leaders).values() for process in found]
    processes.end(left, SWEEP_GRACE_S)
    return len(left)


def _chosen(folder: Path, service: str | None) -> list[Path]:
    found = sorted(folder.glob("*.log"))
    if service is None:
        return found
    if (folder / f"{service}.log") not in found:
        names = ", ".join(log.stem for log in found) or "none yet"
        raise ValueError(f"logs: expected one of {names}; found {service!r}")
    return [folder / f"{service}.log"]


def _printer(as_json: bool, named: bool) -> Callable[[str, str], None]:
    def print_line(name: str, line: str) -> None:
        if as_json:
            typer.echo(json.dumps({"service": name, "line": line}))
        else:
            typer.echo(f"{name:<12} {line}" if named else line)

    return print_line


def _say(text: str) -> None:
    typer.echo(text, err=True)
