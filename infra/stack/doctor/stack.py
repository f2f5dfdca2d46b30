"""Stack: whether one runs and how it fares, what a killed one left, and who holds its ports."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

from feature_repo.settings import Settings
from infra.stack import state
from infra.stack.doctor.finding import FAIL, OK, WARN, Finding

GIB = 1024**3
MOST_GIB = 4
COMMAND_SHOWN = 100


def stack(settings: Settings) -> Iterator[Finding]:
    """The running stack, or what is left of one."""
    if state.held(settings.run_dir):
        from infra.stack import control

        found = control.measured(settings)
        if found is not None:
            yield readiness(found["services"])
            yield weight(found["memory_bytes"])
        return
    left = [name for name in (state.STATE, state.LOCK) if (settings.run_dir / name).exists()]
    orphans = _orphans(settings)
    if not left and not orphans:
        yield Finding("stack", OK, "not running")
    elif orphans:
        found_ = f"the supervisor is gone, its processes are not: {', '.join(orphans)}"
        yield Finding("stack", WARN, found_, "no process without a supervisor", "make down ends them")
    else:
        found_ = f"{' and '.join(left)} of a supervisor that was killed"
        clear = partial(_clear, settings.run_dir)
        yield Finding("stack", WARN, found_, "neither without a supervisor", "make doctor FIX=1, or make down", clear)


def _orphans(settings: Settings) -> list[str]:
    from infra.stack import processes

    last = state.read(settings.run_dir) or {"services": []}
    leaders = {
        s["name"]: s["pid"] for s in last["services"] if s["pid"] and processes.alive(s["pid"], s["create_time"])
    }
    found = processes.members(settings.run_dir, leaders)
    return [f"{name} ({', '.join(str(p.pid) for p in of)})" for name, of in sorted(found.items())]


def _clear(run_dir: Path) -> str:
    """Remove a dead supervisor's notes, under the lock that a living one would hold."""
    with state.Lock(run_dir):
        (run_dir / state.STATE).unlink(missing_ok=True)
    return f"removed what a killed supervisor left in {run_dir}"


def readiness(rows: Sequence[Mapping[str, Any]]) -> Finding:
    """Whether everything that is awaited is ready."""
    from infra.stack.service import SATISFIED

    waiting = [f"{s['name']} {s['state']} {s['message']}".rstrip() for s in rows if s["state"] not in SATISFIED]
    awaited = [s["name"] for s in rows if s["awaited"] and s["state"] not in SATISFIED]
    if not awaited:
        return Finding("stack", OK, f"running, {len(rows) - len(waiting)} of {len(rows)} components ready")
    return Finding("stack", WARN, "running; " + "; ".join(waiting), "every component ready", "make status; make logs")


def weight(memory_bytes: int) -> Finding:
    """The memory of all processes together, shared pages counted once."""
    found, expected = f"{memory_bytes / GIB:.1f} GiB in use by the stack", f"at most {MOST_GIB} GiB"
    if memory_bytes <= MOST_GIB * GIB:
        return Finding("stack memory", OK, found, expected)
    return Finding("stack memory", WARN, found, expected, "make status shows which component takes it")


def ports(settings: Settings) -> Iterator[Finding]:
    """Every port of the one table, and who holds it when it is not free."""
    from infra.stack import services
    from infra.stack.probes import port_is_free

    table: dict[str, int] = asdict(settings.ports)
    taken = {name: port for name, port in table.items() if not port_is_free(port)}
    ours, holders = _holders(settings) if taken else (frozenset[int](), {})
    foreign = {name: port for name, port in taken.items() if holders.get(port) not in ours}
    if not foreign:
        own = f"; held by this stack: {', '.join(taken)}" if taken else ""
        yield Finding("ports", OK, ", ".join(f"{name} {port}" for name, port in table.items()) + own)
    needed = {*services.ports(services.table(settings, "recording", on_path=lambda _: None)), "kafka_controller"}
    for name, port in foreign.items():
        do = f"stop it, or set CANDLEWICK_PORTS_{name.upper()} to a free port"
        found = f"held by {_described(holders.get(port))}"
        yield Finding(f"port {port} ({name})", FAIL if name in needed else WARN, found, "free", do)


def _holders(settings: Settings) -> tuple[frozenset[int], Mapping[int, int]]:
    """The process ids of our running stack, and port → process id of all that listen, as far as we may see."""
    try:
        from infra.stack import processes
    except ImportError:  # no packages yet: held is all that is known
        return frozenset(), {}
    found = state.read(settings.run_dir) if state.held(settings.run_dir) else None
    leaders = {s["name"]: s["pid"] for s in found["services"] if s["pid"]} if found else {}
    of = processes.members(settings.run_dir, leaders)
    return frozenset(process.pid for members in of.values() for process in members), processes.listeners()


def _described(pid: int | None) -> str:
    if pid is None:
        return "another program"
    from infra.stack import processes

    stack_of, command = processes.of_stack(pid), shlex.join(processes.command_line(pid))
    shown = command[:COMMAND_SHOWN] + ("…" if len(command) > COMMAND_SHOWN else "")
    return f"{processes.described(pid)}: {shown}" + (f", of the stack in {stack_of}" if stack_of else "")
