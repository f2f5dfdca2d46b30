"""What is left of a killed supervisor is seen, and ended by `down`."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from infra.stack import control, processes, state

# A supervisor of one sleeper, in a process of its own that can be killed.
SUPERVISOR = """
import os, sys, pathlib
from infra.stack.service import Service
from infra.stack.supervisor import Supervisor, serve
sleeper = Service("sleeper", (sys.executable, "-c", "import time; time.sleep(600)"), grace_s=1)
run_dir = pathlib.Path(sys.argv[1])
sys.exit(serve(Supervisor([sleeper], run_dir, pathlib.Path.cwd(), os.environ, {"source": "recording", "page": ""})))
"""


@pytest.fixture
def supervisor(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> subprocess.Popen[bytes]:
    monkeypatch.setenv("CANDLEWICK_RUN_DIR", str(tmp_path))
    started = subprocess.Popen(
        [sys.executable, "-c", SUPERVISOR, str(tmp_path)], stdout=subprocess.DEVNULL, start_new_session=True,
    )
    deadline = time.monotonic() + 20
    while (state.read(tmp_path) or {}).get("phase") != "ready":
        assert time.monotonic() < deadline, "the supervisor did not become ready"
        time.sleep(0.05)
    return started


def test_status_weighs_each_service_and_down_leaves_nothing(
    supervisor: subprocess.Popen[bytes], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert control.status() == 0
    assert "sleeper    ready" in capsys.readouterr().out
    measured = control.measured(control.load_settings())
    assert measured is not None
    assert measured["services"][0]["memory_bytes"] > 1_000_000
    assert control.down() == 0
    assert supervisor.wait(5) == 0
    assert processes.members(tmp_path) == {}
    assert [path.name for path in tmp_path.iterdir()] == ["logs"]


def test_after_a_killed_supervisor_status_counts_its_orphans_and_down_ends_them(
    supervisor: subprocess.Popen[bytes], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    orphan = psutil.Process(processes.members(tmp_path)["sleeper"][0].pid)
    os.kill(supervisor.pid, signal.SIGKILL)
    supervisor.wait()
    assert control.status() == 1
    assert "the supervisor is gone, 1 of its processes are not" in capsys.readouterr().out
    assert control.down() == 0
    assert not orphan.is_running()
    assert not (tmp_path / state.LOCK).exists()


def test_when_nothing_runs_status_says_so_and_down_is_content(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("CANDLEWICK_RUN_DIR", str(tmp_path))
    assert (control.status(), control.down()) == (1, 0)
    said = capsys.readouterr()
    assert "not running; `make up` starts it" in said.out
    assert "nothing was running" in said.err


def test_the_log_of_an_unknown_service_is_refused_with_the_known_ones(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CANDLEWICK_RUN_DIR", str(tmp_path))
    (tmp_path / "logs").mkdir()
    (tmp_path / "logs" / "kafka.log").write_text("started\n")
    with pytest.raises(ValueError, match="expected one of kafka; found 'kaffka'"):
        control.logs("kaffka", follow=False, lines=5, as_json=False)
