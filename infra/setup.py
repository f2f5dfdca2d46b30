"""setup: bring a fresh clone to where it can run, with nothing but Python, Java and Node on the machine.

    python3 infra/setup.py            # what `make up` needs before training: packages, jars, page
    python3 infra/setup.py all        # training, reports and tests too

Uses the standard library only. Quick when nothing changed: each step remembers the hash of what it was made
from. Packages come from `requirements/*.lock` by hash; a machine's own package index settings apply.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
VENV = ROOT / ".venv"
PYTHON = VENV / "bin" / "python"
LOGS = Path(os.environ.get("CANDLEWICK_RUN_DIR", str(ROOT / ".run"))) / "logs"
LOCK = ROOT / ".run" / "setup.lock"
OLDEST, NEWEST = (3, 11), (3, 13)
GROUPS = ("run", "all")
HEARTBEAT_S = 15.0
CONSOLE_SCRIPT = """#!/bin/sh
# Written by infra/setup.py: the command line of this working copy.
here=$(CDPATH= cd -- "$(dirname -- "$0")" && pwd)
exec "$here/python" "$here/../../candlewick.py" "$@"
"""


class SetupFailed(RuntimeError):
    """A step failed; the message says which, why, and what to do."""


def say(text: str) -> None:
    """A line for the person who waits."""
    sys.stderr.write(text + "\n")
    sys.stderr.flush()


def run(step: str, command: list[str], cwd: Path = ROOT, env: dict[str, str] | None = None) -> None:
    """Run one command, its output in the step's log. Raises `SetupFailed` with the end of that log."""
    LOGS.mkdir(parents=True, exist_ok=True)
    log = LOGS / f"setup-{step.split(maxsplit=1)[0]}.log"
    with log.open("ab") as output:
        output.write("$ {}\n".format(" ".join(command)).encode())
        output.flush()
        environ = {**os.environ, "UV_PYTHON_DOWNLOADS": "never", "UV_NO_PROGRESS": "1", **(env or {})}
        done = subprocess.run(command, cwd=cwd, stdout=output, stderr=output, env=environ, check=False)
    if done.returncode != 0:
        tail = "\n".join(log.read_text(errors="replace").splitlines()[-12:])
        raise SetupFailed(f"{step} failed (exit {done.returncode}); {log} ends with:\n{tail}")


def digest(*paths: Path, salt: str = "") -> str:
    """One hash of several files, of their names and their contents."""
    total = hashlib.sha256(salt.encode())
    for path in paths:
        total.update(path.name.encode() + b"\0" + path.read_bytes())
    return total.hexdigest()


class Stamp:
    """Remembers in a file what a step was made from."""

    def __init__(self, path: Path, content: str) -> None:
        self.path, self.content = path, content

    def fresh(self) -> bool:
        return self.path.exists() and self.path.read_text() == self.content

    def write(self) -> None:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self.path.write_text(self.content)


def interpreter() -> str:
    """A Python that the packages exist for: this one, else the newest fitting one on PATH. Raises `SetupFailed`."""
    if OLDEST <= sys.version_info[:2] <= NEWEST:
        return sys.executable
    names = [f"python3.{minor}" for minor in range(NEWEST[1], OLDEST[1] - 1, -1)]
    for path in filter(None, map(shutil.which, names)):
        return path
    found = "{}.{}".format(*sys.version_info[:2])
    raise SetupFailed(f"expected Python 3.11 to 3.13, found {found}; install one (`make doctor` tells how)")


def make_venv() -> None:
    """Create `.venv` when there is none, or one whose Python is gone."""
    if PYTHON.exists() and subprocess.run([str(PYTHON), "-c", ""], check=False).returncode == 0:
        return
    python = interpreter()
    try:
        run("venv", [python, "-m", "venv", "--clear", str(VENV)])
    except SetupFailed as error:
        raise SetupFailed(f"{error}\nOn Debian and Ubuntu: apt-get install python3-venv") from error


def installer() -> list[str]:
    """The command that installs a lock file into `.venv`: uv, pinned by hash, else pip itself."""
    uv, own_lock = VENV / "bin" / "uv", lock("setup")
    remembered = Stamp(VENV / ".stamps" / "setup", digest(own_lock))
    if not (uv.exists() and remembered.fresh()):
        pip = [str(PYTHON), "-m", "pip"]
        if subprocess.run([*pip, "--version"], capture_output=True, check=False).returncode != 0:
            run("pip", [str(PYTHON), "-m", "ensurepip", "--upgrade"])
        try:
            run("uv", [*pip, "install", "--quiet", "--require-hashes", "-r", str(own_lock)])
        except SetupFailed as error:  # no build of uv for this machine; pip does the same work, slower
            say(f"  uv is not to be had here, using pip: {str(error).splitlines()[0]}")
            return [*pip, "install", "--quiet", "--require-hashes"]
        remembered.write()
    return [str(uv), "pip", "install", "--quiet", "--python", str(PYTHON), "--require-hashes"]


def packages(group: str) -> None:
    """Install a group's lock file, unless it or a larger one is in already; then link the working copy."""
    make_venv()
    stamps = {name: stamp(name) for name in GROUPS}
    if not (stamps[group].fresh() or stamps["all"].fresh()):
        run(f"packages ({group})", [*installer(), "-r", str(lock(group))])
        stamps[group].write()
    link()


def lock(group: str) -> Path:
    """A group's lock file."""
    return ROOT / "requirements" / f"{group}.lock"


def stamp(group: str) -> Stamp:
    """What remembers of which lock file, for which Python, a group was installed."""
    return Stamp(VENV / ".stamps" / group, digest(lock(group), salt=str(PYTHON.resolve())))


@contextlib.contextmanager
def alone() -> Iterator[None]:
    """One at a time: the background install of a running stack and a person's `make test` may meet."""
    LOCK.parent.mkdir(exist_ok=True)
    with LOCK.open("w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        yield


def link() -> None:
    """Put `candlewick` beside Python, and the working copy on Python's path, as an editable install does."""
    script = VENV / "bin" / "candlewick"
    if not script.exists() or script.read_text() != CONSOLE_SCRIPT:
        script.write_text(CONSOLE_SCRIPT)
        script.chmod(0o755)
    for site in (VENV / "lib").glob("python3.*/site-packages"):
        (site / "candlewick.pth").write_text(f"{ROOT}\n")


def jars() -> None:
    """Fetch the broker's and Spark's jars, checked by hash; nothing to do when they are there."""
    run("jars", [str(PYTHON), "-m", "infra.jars.resolve"])


def python_side(group: str) -> None:
    """Packages, then what the packages fetch."""
    timed(f"packages ({group})", lambda: packages(group))
    timed("jars", jars)


def page_side() -> None:
    """The page's packages, then its production build."""
    if not shutil.which("npm"):
        raise SetupFailed("expected Node 20 or newer with npm, found no npm; `make doctor` tells how to get it")
    timed("page", lambda: run("page", [sys.executable, str(ROOT / "infra" / "page.py")]))


def timed(step: str, work: Callable[[], None]) -> None:
    """Do a step and say how long it took, when a person could notice."""
    began = time.monotonic()
    work()
    took = time.monotonic() - began
    if took > 1:
        say(f"  {step}: {took:.0f} s")


def side_by_side(sides: dict[str, Callable[[], None]]) -> None:
    """Run callables in threads, say every 15 s which still work. Raises `SetupFailed` with all that went wrong."""
    failures: list[str] = []
    unfinished = set(sides)

    def guarded(name: str, work: Callable[[], None]) -> None:
        try:
            work()
        except (SetupFailed, OSError) as error:
            failures.append(f"{name}: {error}")
        else:
            unfinished.discard(name)

    threads = {name: threading.Thread(target=guarded, args=(name, work), daemon=True) for name, work in sides.items()}
    for thread in threads.values():
        thread.start()
    began = said = time.monotonic()
    while any(thread.is_alive() for thread in threads.values()):
        time.sleep(0.05)
        if time.monotonic() - said > HEARTBEAT_S:
            said = time.monotonic()
            working = ", ".join(name for name, thread in threads.items() if thread.is_alive())
            say(f"  … {said - began:.0f} s, working on: {working} (logs in {LOGS})")
    if unfinished:  # with no word in `failures` when its own mistake ended it; the traceback is printed
        raise SetupFailed("\n".join(failures) or f"{', '.join(sorted(unfinished))}: ended by the error above")


def main(arguments: list[str]) -> int:
    """Exit code: 0 done, 1 a step failed, 2 an unknown group."""
    group = arguments[0] if arguments else "run"
    if group not in GROUPS:
        say(f"setup: expected one of {', '.join(GROUPS)}; found {group!r}")
        return 2
    LOGS.mkdir(parents=True, exist_ok=True)
    try:
        with alone():
            side_by_side({"packages": lambda: python_side(group), "page": page_side})
    except SetupFailed as error:
        say(f"setup: {error}")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
