"""The supervisor, with small real processes."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from pathlib import Path

import psutil
import pytest

from infra.stack import logfiles, processes, state
from infra.stack.probes import Probe
from infra.stack.service import Service, State, in_order
from infra.stack.supervisor import Supervisor
from infra.stack.unit import Patience, Unit

QUICK = Patience(first_s=0.1, most_s=0.4, healthy_after_s=0.3, silent_s=1.0, probe_starting_s=0.05, probe_ready_s=0.1)
SLEEPER = (sys.executable, "-c", "import time; time.sleep(600)")
# Writes its start into the shared file after `delay`, then serves HTTP on its port.
SERVER = """
import http.server, sys, time
port, delay, trace = int(sys.argv[1]), float(sys.argv[2]), sys.argv[3]
time.sleep(delay)
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200); self.end_headers()
    def log_message(self, *words): pass
server = http.server.HTTPServer(("127.0.0.1", port), Handler)
open(trace, "a").write(f"{port}\\n")
server.serve_forever()
"""
# A parent that waits for a child with a session of its own, as some worker pools make.
PARENT = """
import subprocess, sys, time
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"], start_new_session=True)
open(sys.argv[1], "w").write(str(child.pid))
time.sleep(600)
"""


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def web(name: str, port: int, trace: Path, *, delay: float = 0.0, depends_on: tuple[str, ...] = ()) -> Service:
    command = (sys.executable, "-c", SERVER, str(port), str(delay), str(trace))
    return Service(name, command, port, Probe("http", port, "/"), depends_on, grace_s=2)


class Stack:
    """A supervisor in a thread of the test, so that it can be watched from outside."""

    def __init__(self, run_dir: Path, *services: Service) -> None:
        self.supervisor = Supervisor(services, run_dir, Path.cwd(), os.environ, patience=QUICK)
        self.thread = threading.Thread(target=self.supervisor.run)
        self.thread.start()

    def __getitem__(self, name: str) -> dict[str, object]:
        written = state.read(self.supervisor.run_dir) or {"services": []}
        return next((s for s in written["services"] if s["name"] == name), {})

    def stop(self) -> None:
        self.supervisor.stop_requested = True
        self.thread.join(20)
        assert not self.thread.is_alive()


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., Stack]]:
    stacks: list[Stack] = []

    def make(*services: Service) -> Stack:
        stacks.append(Stack(tmp_path, *services))
        return stacks[-1]

    yield make
    for stack in stacks:
        stack.stop()


def eventually(claim: Callable[[], object], within_s: float = 10.0) -> None:
    deadline = time.monotonic() + within_s
    while not claim():
        assert time.monotonic() < deadline, "did not come true in time"
        time.sleep(0.05)


def test_a_service_starts_only_when_what_it_needs_is_ready(start: Callable[..., Stack], tmp_path: Path) -> None:
    slow, quick = free_port(), free_port()
    stack = start(
        web("page", quick, tmp_path / "trace", depends_on=("store",)),
        web("store", slow, tmp_path / "trace", delay=0.7),
    )
    eventually(lambda: stack["page"].get("state") == "ready")
    assert (tmp_path / "trace").read_text().split() == [str(slow), str(quick)]
    assert state.read(tmp_path)["phase"] == "ready"  # type: ignore[index]


def test_a_killed_service_comes_back_and_the_count_says_so(start: Callable[..., Stack], tmp_path: Path) -> None:
    stack = start(web("store", free_port(), tmp_path / "trace"))
    eventually(lambda: stack["store"].get("state") == "ready")
    os.kill(int(str(stack["store"]["pid"])), signal.SIGKILL)
    eventually(lambda: stack["store"]["restarts"] == 1 and stack["store"]["state"] == "ready")


def test_a_service_that_dies_at_once_is_tried_at_growing_intervals(start: Callable[..., Stack], tmp_path: Path) -> None:
    code = "import sys, time; open(sys.argv[1], 'a').write(f'{time.monotonic()}\\n'); raise SystemExit(3)"
    stack = start(Service("broken", (sys.executable, "-c", code, str(tmp_path / "starts"))))
    eventually(lambda: stack["broken"].get("restarts", 0) >= 4, within_s=15)  # type: ignore[operator]
    starts = [float(line) for line in (tmp_path / "starts").read_text().split()]
    pauses = [later - earlier for earlier, later in pairwise(starts)]
    assert pauses[0] >= 0.1
    assert pauses[1] >= 0.2
    assert all(pause >= 0.4 for pause in pauses[2:])
    eventually(lambda: stack["broken"]["message"] == "ended with exit code 3")


def test_a_one_shot_that_ends_badly_is_tried_again(start: Callable[..., Stack], tmp_path: Path) -> None:
    code = "import sys, pathlib as p; f = p.Path(sys.argv[1]); was = f.exists(); f.touch(); sys.exit(not was)"
    stack = start(
        Service("topics", (sys.executable, "-c", code, str(tmp_path / "been here")), once=True),
        Service("user", SLEEPER, depends_on=("topics",), grace_s=1),
    )
    eventually(lambda: stack["user"].get("state") == "ready")
    assert (stack["topics"]["state"], stack["topics"]["restarts"]) == ("done", 1)


def test_a_one_shot_with_limited_tries_fails_for_good(start: Callable[..., Stack]) -> None:
    stack = start(Service("extras", ("false",), once=True, tries=2, awaited=False))
    eventually(lambda: stack["extras"].get("state") == "failed")


def test_a_missing_program_is_a_message_and_not_a_crash(start: Callable[..., Stack]) -> None:
    stack = start(Service("ghost", ("no-such-program-here",)))
    eventually(lambda: "no-such-program-here" in str(stack["ghost"].get("message")))


def test_a_service_that_stops_answering_is_started_again(start: Callable[..., Stack], tmp_path: Path) -> None:
    stack = start(web("store", free_port(), tmp_path / "trace"))
    eventually(lambda: stack["store"].get("state") == "ready")
    os.kill(int(str(stack["store"]["pid"])), signal.SIGSTOP)
    eventually(lambda: stack["store"]["restarts"] == 1 and stack["store"]["state"] == "ready", within_s=20)


def test_a_process_that_the_system_does_not_let_go_of_is_a_failure_and_no_crash() -> None:
    class Undying:
        pid = 2**22 - 1  # nobody's

        def poll(self) -> None: ...

        def wait(self, timeout: float) -> int:
            raise subprocess.TimeoutExpired("undying", timeout)

    service = Service("store", ("true",), probe=Probe("tcp", 9), ready_within_s=5)
    with ThreadPoolExecutor(1) as pool:
        unit = Unit(service, lambda _: Undying(), pool, QUICK)  # type: ignore[arg-type,return-value]
        unit.tick(0.0, dependencies_ready=True)
        unit.tick(6.0, dependencies_ready=True)
    assert (unit.state, unit.message) == (State.BACKOFF, "not ready within 5 s")


def test_an_occupied_port_is_named_with_its_holder_and_used_once_it_is_free(
    start: Callable[..., Stack], tmp_path: Path
) -> None:
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", 0))
        holder.listen()
        port = holder.getsockname()[1]
        stack = start(web("store", port, tmp_path / "trace"))
        eventually(lambda: f"port {port} is held by" in str(stack["store"].get("message")))
        assert str(os.getpid()) in str(stack["store"]["message"])
    eventually(lambda: stack["store"]["state"] == "ready")


def test_stopping_ends_even_a_process_that_left_its_group(start: Callable[..., Stack], tmp_path: Path) -> None:
    note = tmp_path / "child pid"
    stack = start(Service("pool", (sys.executable, "-c", PARENT, str(note)), grace_s=1))
    eventually(lambda: note.exists() and note.read_text())
    child = psutil.Process(int(note.read_text()))
    stack.stop()
    assert not child.is_running()
    assert processes.members(tmp_path) == {}
    assert {unit.state for unit in stack.supervisor.units.values()} == {State.STOPPED}


def test_a_program_deaf_to_sigterm_is_killed_after_its_grace(start: Callable[..., Stack]) -> None:
    deaf = "import signal, time; signal.signal(15, signal.SIG_IGN); print('deaf', flush=True); time.sleep(600)"
    stack = start(Service("deaf", (sys.executable, "-c", deaf), grace_s=0.5))
    log = logfiles.path(stack.supervisor.run_dir, "deaf")
    eventually(lambda: logfiles.tail(log, 1) == ["deaf"])
    began = time.monotonic()
    stack.stop()
    assert 0.5 <= time.monotonic() - began < 5


def test_a_circle_and_an_unknown_dependency_are_refused() -> None:
    with pytest.raises(ValueError, match="circle: a, b"):
        in_order([Service("a", ("x",), depends_on=("b",)), Service("b", ("x",), depends_on=("a",))])
    with pytest.raises(ValueError, match="unknown service\\(s\\) z"):
        in_order([Service("a", ("x",), depends_on=("z",))])


def test_only_one_supervisor_holds_a_run_folder_and_its_lock_dies_with_it(tmp_path: Path) -> None:
    with state.Lock(tmp_path):
        assert state.held(tmp_path)
        with pytest.raises(state.AlreadyRunning):
            state.Lock(tmp_path).__enter__()
    assert not state.held(tmp_path)
    assert not (tmp_path / state.LOCK).exists()
    (tmp_path / state.LOCK).touch()  # left by a machine that lost power
    assert not state.held(tmp_path)


def test_a_state_file_of_a_dead_supervisor_is_not_believed(tmp_path: Path) -> None:
    ended = subprocess.Popen(["true"])
    ended.wait()
    state.write(tmp_path, {"phase": "ready", "supervisor": {"pid": ended.pid}, "services": []})
    assert not state.held(tmp_path)
    assert not processes.alive(os.getpid(), create_time=1.0)
    (tmp_path / state.STATE).write_text("{ torn")
    assert state.read(tmp_path) is None
