"""The doctor: what it calls missing, what it only warns of, and that its mending loses nothing."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest

from feature_repo.settings import LOOPBACK, Ports, Settings
from feature_repo.topics import topics
from feature_repo.views import definitions_hash
from infra import setup
from infra.jars import resolve
from infra.stack import doctor, processes, state
from infra.stack.doctor import folders, installed, machine, schemas, stack
from infra.stack.doctor.finding import FAIL, OK, UNKNOWN, WARN, Finding
from infra.stack.service import Service

WELL = Finding("java", OK, "17.0.15")
MISSING = Finding("node", FAIL, "not on PATH", "20.9 or newer", "apt-get install nodejs")
NOTE = Finding("venue", WARN, "no host answers", do="a recording is played")
UNSEEN = Finding("clock", UNKNOWN, "no venue host tells its time")
GIB = 1024**3


def looking(*findings: Finding) -> Iterator[Finding]:
    yield from findings


# --- the verdict ----------------------------------------------------------------------------------------------------


def test_only_what_the_stack_needs_makes_it_fail(capsys: pytest.CaptureFixture[str]) -> None:
    assert doctor.main(look=lambda: looking(WELL, NOTE, UNSEEN)) == 0
    assert doctor.main(look=lambda: looking(WELL, MISSING, NOTE)) == 1
    said = capsys.readouterr().out
    assert "fail    node                   not on PATH (expected 20.9 or newer)  → apt-get install nodejs" in said
    assert "1 thing(s) to mend" in said


def test_as_json_each_finding_has_what_was_expected_found_and_is_to_do(capsys: pytest.CaptureFixture[str]) -> None:
    doctor.main(as_json=True, look=lambda: looking(MISSING))
    told = json.loads(capsys.readouterr().out)
    assert told["ok"] is False
    assert told["findings"] == [{
        "name": "node", "state": "fail", "expected": "20.9 or newer", "found": "not on PATH",
        "do": "apt-get install nodejs", "mendable": False,
    }]


def test_a_check_that_lacks_a_package_is_unknown_and_one_that_cannot_look_says_why() -> None:
    def needs_a_package(_settings: Settings) -> Iterator[Finding]:
        raise ModuleNotFoundError("No module named 'psutil'")

    def forbidden(_settings: Settings) -> Iterator[Finding]:
        raise PermissionError("/proc/1")

    [unread] = doctor.looked("ports", needs_a_package, Settings())
    assert (unread.state, unread.do) == (UNKNOWN, "make setup")
    assert "psutil" in unread.found
    [refused] = doctor.looked("ports", forbidden, Settings())
    assert (refused.state, refused.found) == (UNKNOWN, "could not look: PermissionError: /proc/1")


def test_a_wrong_option_is_bad_usage() -> None:
    command = [sys.executable, "-m", "infra.stack.doctor", "--mend"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, "unrecognized arguments: --mend" in done.stderr) == (2, True)


def test_a_setting_that_is_wrong_is_a_finding(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CANDLEWICK_PORTS_REDIS", "none")
    last = list(doctor.examine())[-1]
    assert (last.name, last.state) == ("settings", FAIL)
    assert "ports.redis: expected 1 to 65535, found 'none'" in last.found


def test_it_runs_where_nothing_is_installed(tmp_path: Path) -> None:
    # -S leaves the site-packages out, as on a machine where only Python is there.
    code = (
        "import sys; sys.path.insert(0, '.'); from infra.stack import doctor; sys.exit(doctor.main(as_json=True))"
    )
    environ = {**os.environ, "CANDLEWICK_RUN_DIR": str(tmp_path / "run"), "CANDLEWICK_VENUE_REST": "http://127.0.0.1:9",
               "CANDLEWICK_VENUE_WS": "ws://127.0.0.1:9", "CANDLEWICK_VENUE_USDM_REST": "http://127.0.0.1:9",
               "CANDLEWICK_VENUE_USDM_WS": "ws://127.0.0.1:9"}
    command = [sys.executable, "-I", "-S", "-c", code]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environ)
    found = {finding["name"]: finding for finding in json.loads(done.stdout)["findings"]}
    assert {"python", "java", "node", "npm", "make", "disk", "memory", "encoding", "clock"} <= found.keys()
    assert found["run folder"]["found"] == f"none at {tmp_path / 'run'} yet"
    assert found["venue ws://127.0.0.1:9"]["state"] == WARN
    assert {found[name]["state"] for name in ("topics", "derived files", "checkpoints")} == {UNKNOWN}


# --- mending --------------------------------------------------------------------------------------------------------


def test_fix_mends_what_is_not_well_looks_again_and_says_what_it_did(capsys: pytest.CaptureFixture[str]) -> None:
    mended: list[str] = []

    def mending(name: str) -> str:
        mended.append(name)
        return f"made the {name}"

    def look() -> Iterator[Finding]:
        yield Finding("folder", OK if "folder" in mended else FAIL, "none", mend=partial(mending, "folder"))
        yield Finding("jars", OK, "all", mend=partial(mending, "jars"))

    assert doctor.main(look=look) == 1
    assert mended == []
    assert "`make doctor FIX=1` mends 1 finding(s)" in capsys.readouterr().out
    assert doctor.main(fix=True, look=look) == 0
    assert mended == ["folder"]
    assert "mended  folder                 made the folder" in capsys.readouterr().out


def test_what_could_not_be_mended_is_said_and_stays(capsys: pytest.CaptureFixture[str]) -> None:
    def no_network() -> str:
        raise resolve.JarsUnavailable("Ivy could not bring the spark jars")

    broken = Finding("jars (spark)", FAIL, "a.jar: missing", mend=no_network)
    assert doctor.main(as_json=True, fix=True, look=lambda: looking(broken)) == 1
    told = json.loads(capsys.readouterr().out)
    assert told["mended"] == [
        {"name": "jars (spark)", "ok": False, "did": "could not mend it: Ivy could not bring the spark jars"}
    ]


# --- the machine ----------------------------------------------------------------------------------------------------


def test_an_old_program_is_told_with_what_was_expected() -> None:
    found = machine.program(machine.Program("python3", (99,), "a newer one"))
    assert (found.state, found.expected, found.do) == (FAIL, "99 or newer", "a newer one")


def test_a_version_that_was_not_tried_and_a_program_for_a_part_only_are_warnings() -> None:
    newer = machine.program(machine.Program("python3", (3,), "another one", below=(3, 1)))
    assert (newer.state, newer.expected) == (WARN, "3 or newer, before 3.1")
    absent = machine.program(machine.Program("no-such-program", (1,), "install it", use="pictures"))
    assert (absent.state, absent.found, absent.do) == (WARN, "not on PATH", "for pictures: install it")


def test_a_program_that_tells_no_version_is_unknown() -> None:
    assert machine.program(machine.Program("true", (1,), "another one", question=())).state == UNKNOWN


@pytest.mark.parametrize(
    ("group", "expected_gib"),
    [
        pytest.param({}, 6, id="no group: the system's"),
        pytest.param({"memory.max": "max\n", "memory.current": "1\n"}, 6, id="a group without a limit"),
        pytest.param({"memory.max": f"{4 * GIB}", "memory.current": f"{3 * GIB}"}, 1, id="a group with less"),
        pytest.param(
            {
                "memory.max": f"{4 * GIB}", "memory.current": f"{3 * GIB}",
                "memory.stat": f"anon 1\ninactive_file {2 * GIB}\n",
            },
            3, id="pages of files give way",
        ),
    ],
)
def test_free_memory_is_what_new_processes_can_have(tmp_path: Path, group: dict[str, str], expected_gib: int) -> None:
    meminfo = tmp_path / "meminfo"
    meminfo.write_text(f"MemTotal: 99 kB\nMemAvailable: {6 * GIB // 1024} kB\n")
    for name, text in group.items():
        (tmp_path / name).write_text(text)
    assert machine.available(meminfo, tmp_path) == expected_gib * GIB


def test_limits_of_this_machine_are_warnings() -> None:
    assert machine.memory_for_start(3 * GIB).state == WARN
    assert machine.memory_for_start(4 * GIB).state == OK
    assert machine.open_files(256).state == WARN
    assert machine.open_files(1024).state == OK
    assert machine.encoding("ANSI_X3.4-1968", "utf-8").state == WARN
    assert machine.encoding("UTF-8", "utf-8").state == OK


# --- folders --------------------------------------------------------------------------------------------------------


def test_a_missing_folder_is_made(tmp_path: Path) -> None:
    found = folders.folder("run folder", tmp_path / "a" / "b")
    assert (found.state, found.found) == (WARN, f"none at {tmp_path / 'a' / 'b'} yet")
    assert found.mend is not None
    assert found.mend() == f"made {tmp_path / 'a' / 'b'}"
    assert folders.folder("run folder", tmp_path / "a" / "b").state == OK


def test_what_another_user_left_in_it_is_a_failure_that_nobody_mends_by_himself(tmp_path: Path) -> None:
    (tmp_path / "kafka").mkdir()
    found = folders.folder("run folder", tmp_path, writable=lambda path: path.name != "kafka")
    assert (found.state, found.mend) == (FAIL, None)
    assert found.found.startswith(f"{tmp_path / 'kafka'} is not writable for us")
    assert found.do == f"sudo chown -R {os.geteuid()} {tmp_path}"


def test_a_file_in_the_place_of_a_folder_is_a_failure(tmp_path: Path) -> None:
    (tmp_path / "run").write_text("")
    found = folders.folder("run folder", tmp_path / "run" / "lake")
    assert (found.state, found.found) == (FAIL, f"{tmp_path / 'run'} is a file")


def test_a_lake_elsewhere_is_no_folder_of_this_machine(tmp_path: Path) -> None:
    settings = Settings(run_dir=tmp_path, jars_dir=tmp_path)
    assert folders.written(settings)["lake"] == tmp_path / "lake"
    assert "lake" not in folders.written(replace(settings, lake_url="s3://bucket/prefix"))


def test_too_little_room_is_a_failure(tmp_path: Path) -> None:
    assert folders.room(tmp_path, 9 * GIB, 9).state == OK
    assert folders.room(tmp_path, 9 * GIB - 1, 9).state == FAIL


# --- packages and jars ----------------------------------------------------------------------------------------------


def test_every_pin_of_a_lock_is_read() -> None:
    text = setup.lock("all").read_text()
    pins = [line for line in text.splitlines() if line and not line.startswith((" ", "#"))]
    assert len(pins) > 200
    assert sum(bool(installed.PINNED.match(line)) for line in pins) == len(pins)


def test_drifted_and_missing_packages_are_told_and_foreign_systems_left_out(tmp_path: Path) -> None:
    for name, version in (("Kept_One", "1.0"), ("moved", "2.1"), ("unlocked", "9"), ("twice", "5"), ("twice", "6")):
        info = tmp_path / "lib" / "python3.11" / "site-packages" / f"{name}-{version}.dist-info"
        info.mkdir(parents=True)
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
    wanted = installed.pinned(
        "kept-one==1.0 ; sys_platform != 'beos' \\\n    --hash=sha256:00\n"
        "moved==2.0\nabsent==3\ntwice==6\nelsewhere==4 ; sys_platform == 'beos'\n"
    )
    assert installed.drift(wanted, installed.installed(tmp_path)) == [
        "absent: missing", "moved: expected 2.0, found 2.1", "twice: expected 6, found 5 and 6",
    ]


def test_packages_are_not_replaced_under_a_running_stack() -> None:
    assert installed.judged("run", [], running=True).state == OK
    stopped = installed.judged("run", ["moved: expected 2.0, found 2.1"], running=False)
    running = installed.judged("run", ["moved: expected 2.0, found 2.1"], running=True)
    assert (stopped.state, stopped.mend is not None) == (FAIL, True)
    assert (running.state, running.mend, running.do) == (FAIL, None, "make down, then make doctor FIX=1")


def test_a_changed_jar_is_found_by_its_hash_and_missing_ones_are_told(tmp_path: Path) -> None:
    settings = Settings(run_dir=tmp_path, jars_dir=tmp_path)
    first, *others = sorted(resolve.expected_sums("spark"))
    (tmp_path / "spark").mkdir()
    (tmp_path / "spark" / first).write_bytes(b"cut short")
    broker, spark = installed.jars(settings)
    assert (broker.state, broker.do) == (WARN, "make setup")
    assert (spark.state, spark.mend is not None) == (FAIL, True)
    assert f"{others[0]}: missing" in spark.found


def test_bad_jars_are_replaced_only_by_right_ones(tmp_path: Path) -> None:
    def bringing(content: bytes) -> resolve.Bring:
        def bring(_group: str, into: Path, _ivy: Path) -> Path:
            (into / "jars").mkdir()
            (into / "jars" / "a.jar").write_bytes(content)
            return into / "jars"

        return bring

    (tmp_path / "spark").mkdir()
    jar = tmp_path / "spark" / "a.jar"
    jar.write_bytes(b"bad")
    right = tmp_path / "right"
    right.write_bytes(b"right")
    wanted = {"a.jar": resolve.sha256(right)}
    with pytest.raises(resolve.JarsUnavailable, match=r"a\.jar: expected"):
        resolve.refetch("spark", tmp_path, wanted, bringing(b"worse"))
    assert jar.read_bytes() == b"bad"
    resolve.refetch("spark", tmp_path, wanted, bringing(b"right"))
    assert jar.read_bytes() == b"right"


# --- the stack ------------------------------------------------------------------------------------------------------


def sleeper(run_dir: Path, code: str) -> subprocess.Popen[bytes]:
    """A process that carries the mark of a stack."""
    service = Service("sleeper", (sys.executable, "-c", code))
    return processes.spawn(service, run_dir, run_dir / "logs" / "sleeper.log", Path.cwd(), os.environ)


def leave_state(run_dir: Path) -> None:
    """What a supervisor that was killed leaves; the process id of its service belongs to nobody now."""
    state.write(run_dir, {"phase": "ready", "services": [{"name": "redis", "pid": 2**22 - 1, "create_time": 1.0}]})
    (run_dir / state.LOCK).touch()


def test_what_a_killed_supervisor_left_is_removed(tmp_path: Path) -> None:
    settings = Settings(run_dir=tmp_path)
    assert [(f.state, f.found) for f in stack.stack(settings)] == [(OK, "not running")]
    leave_state(tmp_path)
    [found] = stack.stack(settings)
    assert (found.state, found.found) == (WARN, "state.json and stack.lock of a supervisor that was killed")
    assert found.mend is not None
    found.mend()
    assert list(tmp_path.iterdir()) == []


def test_processes_without_a_supervisor_are_told_and_never_ended(tmp_path: Path) -> None:
    leave_state(tmp_path)
    orphan = sleeper(tmp_path, "import time; time.sleep(600)")
    try:
        [found] = stack.stack(Settings(run_dir=tmp_path))
        assert (found.state, found.mend, found.do) == (WARN, None, "make down ends them")
        assert f"sleeper ({orphan.pid})" in found.found
        assert orphan.poll() is None
    finally:
        orphan.kill()
        orphan.wait()


def test_a_living_supervisors_state_is_not_removed(tmp_path: Path) -> None:
    leave_state(tmp_path)
    [found] = stack.stack(Settings(run_dir=tmp_path))
    assert found.mend is not None
    with state.Lock(tmp_path), pytest.raises(state.AlreadyRunning):
        found.mend()  # a stack was started since the look
    assert (tmp_path / state.STATE).exists()


def test_a_running_stack_is_judged_by_what_is_awaited_and_by_its_memory() -> None:
    row = {"name": "ingest", "state": "ready", "message": "", "awaited": True}
    extras = {"name": "extras", "state": "starting", "message": "", "awaited": False}
    waiting = {**row, "state": "backoff", "message": "port 1 is held"}
    assert stack.readiness([row, extras]).found == "running, 1 of 2 components ready"
    assert (stack.readiness([waiting, extras]).state, stack.readiness([waiting]).found) == (
        WARN, "running; ingest backoff port 1 is held",
    )
    assert (stack.weight(4 * GIB).state, stack.weight(4 * GIB + 1).state) == (OK, WARN)


def ports_from(first: int) -> Ports:
    """A table whose ports all are `first`: what holds that one holds all of them."""
    return Ports(**dict.fromkeys(Ports.__dataclass_fields__, first))


@pytest.fixture
def held() -> Iterator[int]:
    """A port that this test listens on."""
    with socket.socket() as listener:
        listener.bind((LOOPBACK, 0))
        listener.listen()
        yield listener.getsockname()[1]


def test_a_port_that_somebody_holds_is_told_with_process_and_command(tmp_path: Path, held: int) -> None:
    settings = Settings(run_dir=tmp_path, ports=ports_from(held))
    found = {finding.name: finding for finding in stack.ports(settings)}
    redis = found[f"port {held} (redis)"]
    assert (redis.state, redis.expected) == (FAIL, "free")
    assert redis.do == "stop it, or set CANDLEWICK_PORTS_REDIS to a free port"
    assert f"(pid {os.getpid()}): " in redis.found
    assert found[f"port {held} (kafka_controller)"].state == FAIL
    assert found[f"port {held} (mlflow)"].state == WARN  # nothing of `make up` listens there
    assert len(found) == len(Ports.__dataclass_fields__)


def test_a_port_that_our_own_stack_holds_is_well_and_another_stack_is_named(tmp_path: Path) -> None:
    code = (
        "import socket, time; s = socket.socket(); s.bind(('127.0.0.1', 0)); s.listen();"
        "print(s.getsockname()[1], flush=True); time.sleep(600)"
    )
    listening = sleeper(tmp_path / "one", code)
    log = tmp_path / "one" / "logs" / "sleeper.log"
    try:
        while not (text := log.read_text()).endswith("\n"):  # ended by pytest's timeout
            assert listening.poll() is None
            time.sleep(0.02)
        port = int(text)
        [own] = stack.ports(Settings(run_dir=tmp_path / "one", ports=ports_from(port)))
        assert own.state == OK
        assert "; held by this stack: kafka, " in own.found
        foreign = next(iter(stack.ports(Settings(run_dir=tmp_path / "two", ports=ports_from(port)))))
        assert foreign.state == FAIL
        assert foreign.found.endswith(f", of the stack in {tmp_path / 'one'}")
    finally:
        listening.kill()
        listening.wait()


# --- schemas --------------------------------------------------------------------------------------------------------


def test_missing_topics_can_be_made_and_other_settings_are_left_to_a_person() -> None:
    settings, count = Settings(), len(topics(("BTCUSDT",)))
    assert schemas.compared(settings, count, {}).state == OK
    missing = schemas.compared(settings, count, {"crypto_dlq": "missing", "crypto_clean": "partitions: …"})
    assert (missing.state, missing.mend is not None) == (FAIL, True)
    other = schemas.compared(settings, count, {"crypto_clean": "retention.ms: expected 1, found 2"})
    assert (other.state, other.mend) == (WARN, None)


def test_without_a_broker_the_topics_are_unknown() -> None:
    assert [found.state for found in schemas.topics(Settings(kafka_bootstrap=f"{LOOPBACK}:9"))] == [UNKNOWN]


def test_a_registry_made_from_other_definitions_is_told(tmp_path: Path) -> None:
    settings = Settings(run_dir=tmp_path)
    assert [found.state for found in schemas.registry(settings)] == [UNKNOWN]
    settings.registry.parent.mkdir()
    settings.registry.write_bytes(b"\x0a\x0bdefinitions\x12\x10" + definitions_hash().encode())
    assert [found.state for found in schemas.registry(settings)] == [OK]
    settings.registry.write_bytes(b"\x0a\x0bdefinitions\x12\x10" + b"0" * 16)
    assert [found.state for found in schemas.registry(settings)] == [WARN]


def test_checkpoints_of_another_layout_are_told_and_never_removed(tmp_path: Path) -> None:
    assert schemas.layouts(tmp_path, "hot-new").state == OK
    (tmp_path / "hot-old").mkdir()
    other = schemas.layouts(tmp_path, "hot-new")
    assert (other.state, other.found, other.mend) == (WARN, "state of another layout: hot-old", None)
    (tmp_path / "hot-new").mkdir()
    assert schemas.layouts(tmp_path, "hot-new").found == "hot-new, and 1 of other layouts"
    (tmp_path / "hot-old").rmdir()
    assert schemas.layouts(tmp_path, "hot-new").state == OK
