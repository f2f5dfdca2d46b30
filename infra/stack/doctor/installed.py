"""Installed: whether packages and jars are those that the committed lists name."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from importlib import metadata
from pathlib import Path

from feature_repo.settings import Settings
from infra import page as frontend
from infra import setup
from infra.jars import resolve
from infra.stack import state
from infra.stack.doctor.finding import FAIL, OK, WARN, Finding

SHOWN = 4
DOWN_FIRST = "make down, then make doctor FIX=1"
PINNED = re.compile(
    r"^(?P<name>[A-Za-z0-9._-]+)(?:\[[^]]*\])?==(?P<version>[^ ;\\\n]+)(?: *;(?P<marker>[^\\\n]*))?", re.MULTILINE,
)


def packages(settings: Settings) -> Iterator[Finding]:
    """The stamps of what was installed, and each package's version against its lock."""
    there = [group for group in ("all", "run") if setup.stamp(group).path.exists()]
    if not there:
        yield Finding("packages", WARN, "none yet", "those of requirements/run.lock", "make setup")
        return
    group = there[0]
    differing = drift(pinned(setup.lock(group).read_text()), installed(setup.VENV))
    stale = [] if setup.stamp(group).fresh() else [f"requirements/{group}.lock or the Python is another than installed"]
    yield judged(group, [*stale, *differing], running=state.held(settings.run_dir))


def judged(group: str, wrong: Sequence[str], running: bool) -> Finding:
    """The finding about a group's packages. They are not replaced under a running stack."""
    expected = f"those of requirements/{group}.lock"
    if not wrong:
        return Finding("packages", OK, group, expected)
    if running:
        return Finding("packages", FAIL, _shortened(wrong), expected, DOWN_FIRST)
    do = "make doctor FIX=1; should it stay: rm -r .venv, then make setup"
    return Finding("packages", FAIL, _shortened(wrong), expected, do, partial(_reinstall, group))


def pinned(lock: str) -> dict[str, tuple[str, str]]:
    """Package → (version, marker) of a lock file.

    >>> pinned('A_b[x]==1.0 ; python_version > "3" \\\\\\n    --hash=sha256:00\\nc==2')
    {'a-b': ('1.0', 'python_version > "3"'), 'c': ('2', '')}
    """
    found = PINNED.finditer(lock)
    return {canonical(pin["name"]): (pin["version"], (pin["marker"] or "").strip()) for pin in found}


def canonical(name: str) -> str:
    """A package's name as PEP 503 compares it.

    >>> canonical("Typing_Extensions")
    'typing-extensions'
    """
    return re.sub(r"[-_.]+", "-", name).lower()


def installed(venv: Path) -> dict[str, str]:
    """Package → version of a virtual environment, whichever Python asks; both versions where one was left behind."""
    versions: dict[str, set[str]] = {}
    for found in metadata.distributions(path=[str(site) for site in (venv / "lib").glob("python3.*/site-packages")]):
        versions.setdefault(canonical(found.metadata["Name"]), set()).add(found.version)
    return {name: " and ".join(sorted(held)) for name, held in versions.items()}


def drift(wanted: Mapping[str, tuple[str, str]], there: Mapping[str, str]) -> list[str]:
    """What differs from the lock on this system, in words."""
    from packaging.markers import Marker

    needed = {name: pin[0] for name, pin in wanted.items() if not pin[1] or Marker(pin[1]).evaluate()}
    missing = [f"{name}: missing" for name in sorted(needed.keys() - there.keys())]
    other = [
        f"{name}: expected {needed[name]}, found {there[name]}"
        for name in sorted(needed.keys() & there.keys()) if needed[name] != there[name]
    ]
    return [*missing, *other]


def page(settings: Settings) -> Iterator[Finding]:
    """The page's packages against their lock, its build against its sources."""
    expected = "packages of package-lock.json, built from the sources here"
    if not frontend.PACKAGES_STAMP.exists():
        yield Finding("page", WARN, "not installed yet", expected, "make setup")
    elif frontend.PACKAGES_STAMP.read_text() != frontend.locked():
        mend = None if state.held(settings.run_dir) else _reinstall_page
        do = "make doctor FIX=1" if mend else DOWN_FIRST
        yield Finding("page", FAIL, "packages of another package-lock.json", expected, do, mend)
    elif not frontend.BUILD_STAMP.exists() or frontend.BUILD_STAMP.read_text() != frontend.digest(frontend.sources()):
        yield Finding("page", WARN, "built from other sources, or not built", expected, "make setup builds it")
    else:
        yield Finding("page", OK, "installed and built", expected)


def jars(settings: Settings) -> Iterator[Finding]:
    """Each jar of the broker and of Spark, by its hash."""
    for group in sorted(resolve.GROUPS):
        folder, wanted = settings.jars_dir / group, resolve.expected_sums(group)
        name, expected = f"jars ({group})", f"the {len(wanted)} of infra/jars/SHA256SUMS"
        if not folder.is_dir():
            yield Finding(name, WARN, f"none yet at {folder}", expected, "make setup")
        elif wrong := resolve.check(folder, wanted):
            fetch = partial(_refetch, group, settings.jars_dir)
            yield Finding(name, FAIL, _shortened(wrong), expected, "make doctor FIX=1", fetch)
        else:
            yield Finding(name, OK, f"{len(wanted)} with the committed hashes", expected)


def _shortened(wrong: Sequence[str]) -> str:
    more = f" and {len(wrong) - SHOWN} more" if len(wrong) > SHOWN else ""
    return "; ".join(wrong[:SHOWN]) + more


def _reinstall(group: str) -> str:
    with setup.alone():
        for name in setup.GROUPS:
            setup.stamp(name).path.unlink(missing_ok=True)
        setup.packages(group)
    return f"installed requirements/{group}.lock"


def _reinstall_page() -> str:
    with setup.alone():
        setup.run("page", [sys.executable, str(setup.ROOT / "infra" / "page.py"), "--packages"])
    return "installed package-lock.json"


def _refetch(group: str, cache: Path) -> str:
    resolve.refetch(group, cache, resolve.expected_sums(group))
    return f"fetched the {group} jars again"
