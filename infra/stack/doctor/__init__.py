"""Doctor: what this machine lacks, what is occupied and what has drifted, and how to mend it.

    python3 -m infra.stack.doctor [--fix] [--json]

Runs before anything is installed: a check that needs a package says so. `--fix` does only what loses nothing: it
fetches, installs, creates what is missing, and removes what a killed supervisor left. It deletes no data and ends no
process.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from feature_repo.settings import Settings, load_settings, settings_of
from infra.stack.doctor import folders, installed, machine, market, schemas, stack
from infra.stack.doctor.finding import FAIL, OK, UNKNOWN, Finding, render

Look = Callable[[Settings], Iterable[Finding]]
CHECKS: tuple[tuple[str, Look], ...] = (
    ("memory", machine.memory),
    ("disk", folders.disk),
    ("folders", folders.folders),
    ("packages", installed.packages),
    ("page", installed.page),
    ("jars", installed.jars),
    ("stack", stack.stack),
    ("ports", stack.ports),
    ("derived files", schemas.derived),
    ("topics", schemas.topics),
    ("feature registry", schemas.registry),
    ("checkpoints", schemas.checkpoints),
    ("data folder", market.data),
    ("venue", market.venue),
)


def examine() -> Iterator[Finding]:
    """Every check, in the order a person would mend them."""
    yield from machine.examine()
    try:
        settings = _settings()
    except ValueError as error:
        yield Finding("settings", FAIL, str(error), do="correct that setting; what depends on the settings comes after")
        return
    for name, look in CHECKS:
        yield from looked(name, look, settings)


def looked(name: str, look: Look, settings: Settings) -> list[Finding]:
    """What one check found; `unknown` with its cause when it could not look."""
    try:
        return list(look(settings))
    except ImportError as error:
        return [Finding(name, UNKNOWN, f"looked at once the packages are installed ({error})", do="make setup")]
    except (OSError, RuntimeError) as error:  # Kafka's errors are of the second kind
        return [Finding(name, UNKNOWN, f"could not look: {type(error).__name__}: {error}")]


def _settings() -> Settings:
    try:
        return load_settings()
    except ImportError:  # nothing is installed yet: the profile's file cannot be read, the environment can
        return settings_of({}, os.environ)


def mend(findings: Iterable[Finding]) -> list[dict[str, Any]]:
    """Do what is safe for each finding that has it; what was done, or why it could not be."""
    done: list[dict[str, Any]] = []
    for finding in findings:
        if finding.mend is None or finding.state == OK:
            continue
        try:
            done.append({"name": finding.name, "ok": True, "did": finding.mend()})
        except (OSError, RuntimeError, subprocess.SubprocessError) as error:
            done.append({"name": finding.name, "ok": False, "did": f"could not mend it: {error}"})
    return done


def main(as_json: bool = False, fix: bool = False, look: Callable[[], Iterable[Finding]] = examine) -> int:
    """Print what was found, after mending when asked to. 0 when the stack can run, 1 when something it needs fails."""
    findings = list(look())
    mended = mend(findings) if fix else []
    if mended:
        findings = list(look())
    well = all(finding.state != FAIL for finding in findings)
    told = {"ok": well, "mended": mended, "findings": [finding.as_dict() for finding in findings]}
    sys.stdout.write((json.dumps(told) if as_json else render(findings, mended)) + "\n")
    return 0 if well else 1
