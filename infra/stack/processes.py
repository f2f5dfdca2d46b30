"""Processes: start one in a group of its own, find all that belong to a stack, end them, weigh them.

Every child carries its stack and service in the environment, so that what slipped out of its group
(a worker that made its own session, an orphan of a killed supervisor) is found all the same.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import psutil

from infra.stack.probes import port_is_free
from infra.stack.service import Service

STACK, SERVICE = "CANDLEWICK_STACK", "CANDLEWICK_SERVICE"
GONE = (psutil.NoSuchProcess, psutil.AccessDenied, psutil.ZombieProcess)
KILL_WAIT_S = 5.0


def spawn(service: Service, run_dir: Path, log: Path, cwd: Path, environ: Mapping[str, str]) -> subprocess.Popen[bytes]:
    """Start a service as the leader of a new session, its output appended to `log`. Raises `OSError`."""
    env = {**environ, **service.env, STACK: str(run_dir), SERVICE: service.name}
    command = ("nice", "-n", str(service.nice), *service.command) if service.nice else service.command
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("ab") as output:
        return subprocess.Popen(
            command, cwd=cwd / service.cwd, env=env, stdin=subprocess.DEVNULL, stdout=output, stderr=output,
            start_new_session=True,
        )


def members(run_dir: Path, leaders: Mapping[str, int] | None = None) -> dict[str, list[psutil.Process]]:
    """Service → its living processes: by the mark in their environment, by the leader's session, or by descent.

    Never this process itself nor its ancestors. Programs that overwrite their environment (Redis sets its
    title there) are found by `leaders`, service → process id of the session's leader.
    """
    mine = {os.getpid(), *(parent.pid for parent in psutil.Process().parents())}
    sessions = {pid: name for name, pid in (leaders or {}).items()}
    found: dict[str, list[psutil.Process]] = {}
    for process in psutil.process_iter():
        if process.pid not in mine and (name := _owner(process, str(run_dir), sessions)):
            found.setdefault(name, []).append(process)
    return found


def _owner(process: psutil.Process, run_dir: str, sessions: Mapping[int, str]) -> str | None:
    with contextlib.suppress(*GONE, OSError):
        if process.status() == psutil.STATUS_ZOMBIE:
            return None
        if sessions and (name := sessions.get(os.getsid(process.pid))):
            return name
        env = process.environ()
        if env.get(STACK) == run_dir:
            return env.get(SERVICE, "?")
    return None


def end(processes: Iterable[psutil.Process], grace_s: float) -> int:
    """SIGTERM, up to `grace_s`, SIGKILL to what is left. Returns how many had to be killed."""
    living = list(processes)
    _signal(living, signal.SIGTERM)
    _, left = psutil.wait_procs(living, timeout=grace_s)
    _signal(left, signal.SIGKILL)
    psutil.wait_procs(left, timeout=KILL_WAIT_S)
    return len(left)


def kill_group(leader: int) -> None:
    """SIGKILL to what is left of a group; none left is fine."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(leader, signal.SIGKILL)


def stop(children: Sequence[tuple[Service, subprocess.Popen[bytes]]]) -> None:
    """End several services side by side: SIGTERM to each leader, its grace, then the whole group.

    Only the leader is asked, because it stops its own workers in the right order (Spark's driver its JVM).
    """
    for _, child in children:
        if child.poll() is None:
            child.terminate()
    deadline = {child.pid: time.monotonic() + service.grace_s for service, child in children}
    while any(child.poll() is None and time.monotonic() < deadline[child.pid] for _, child in children):
        time.sleep(0.05)
    for _, child in children:
        kill_group(child.pid)
        with contextlib.suppress(subprocess.TimeoutExpired):
            child.wait(KILL_WAIT_S)


def _signal(processes: Iterable[psutil.Process], number: signal.Signals) -> None:
    for process in processes:
        with contextlib.suppress(*GONE):
            process.send_signal(number)


def alive(pid: int, create_time: float) -> bool:
    """Whether this very process still runs: a number alone may have been given to another."""
    try:
        process = psutil.Process(pid)
        return abs(process.create_time() - create_time) < 1.0 and process.status() != psutil.STATUS_ZOMBIE
    except GONE:
        return False


def port_holder(port: int) -> str | None:
    """Who listens on a loopback port, in words; None when it is free."""
    if port_is_free(port):
        return None
    pid = listeners().get(port)
    return "another program" if pid is None else described(pid)


def listeners() -> dict[int, int]:
    """TCP port → id of the process that listens on it, of those that this system lets us see."""
    found: dict[int, int] = {}
    with contextlib.suppress(*GONE, OSError):
        for connection in psutil.net_connections("tcp"):
            if connection.status == psutil.CONN_LISTEN and connection.laddr and connection.pid:
                found[connection.laddr.port] = connection.pid
    return found


def described(pid: int) -> str:
    """A process in words: its name and id."""
    try:
        return f"{psutil.Process(pid).name()} (pid {pid})"
    except GONE:
        return f"pid {pid}"


def command_line(pid: int) -> list[str]:
    """A process's program and arguments; none when we may not see them."""
    try:
        return psutil.Process(pid).cmdline()
    except GONE:
        return []


def of_stack(pid: int) -> str | None:
    """The run folder of the stack that a process belongs to, by the mark in its environment."""
    try:
        return psutil.Process(pid).environ().get(STACK)
    except (*GONE, OSError):
        return None


def pss_bytes(pid: int) -> int:
    """Memory of one process with shared pages divided among their users; resident size where the system has no PSS."""
    if psutil.LINUX:
        try:
            lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
        except OSError:
            return 0
        return sum(int(line.split()[1]) * 1024 for line in lines if line.startswith("Pss:"))
    with contextlib.suppress(*GONE):
        return int(psutil.Process(pid).memory_info().rss)
    return 0
