"""Finding: one thing that the doctor looked at, and how findings are printed.

    >>> print(render([Finding("java", FAIL, "11.0.2", "17 or newer", "apt-get install openjdk-17-jre-headless")]))
    fail    java                   11.0.2 (expected 17 or newer)  → apt-get install openjdk-17-jre-headless
    <BLANKLINE>
    1 thing(s) to mend
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

NARROWEST = 22
OK, WARN, FAIL, UNKNOWN = "ok", "warn", "fail", "unknown"
"""`warn`: something is left out or may go wrong. `fail`: the stack cannot run. `unknown`: it could not be looked at."""


@dataclass(frozen=True)
class Finding:
    """One thing looked at."""

    name: str
    state: str
    """ok | warn | fail | unknown"""
    found: str
    expected: str = ""
    do: str = ""
    """What a person does about it; empty when it is well."""
    mend: Callable[[], str] | None = field(default=None, compare=False, repr=False)
    """Does it, where that is safe, and returns what was done. Raises `OSError`, `RuntimeError` or a subprocess's
    error when it could not."""

    def as_dict(self) -> dict[str, Any]:
        """What `--json` prints."""
        told = {name: getattr(self, name) for name in ("name", "state", "expected", "found", "do")}
        return {**told, "mendable": self.mend is not None}


def render(findings: Sequence[Finding], mended: Sequence[Mapping[str, Any]] = ()) -> str:
    """What was mended, a line for each finding, and the verdict."""
    width = max([NARROWEST, *(len(finding.name) for finding in findings)])
    did = [f"{'mended' if done['ok'] else 'left':<7} {done['name']:<{width}} {done['did']}" for done in mended]
    failing = sum(finding.state == FAIL for finding in findings)
    mendable = sum(finding.mend is not None and finding.state != OK for finding in findings)
    verdict = f"{failing} thing(s) to mend" if failing else "nothing is missing that the stack needs"
    offer = f"; `make doctor FIX=1` mends {mendable} finding(s)" if mendable and not mended else ""
    return "\n".join([*did, *[""] * bool(did), *(_line(finding, width) for finding in findings), "", verdict + offer])


def _line(finding: Finding, width: int) -> str:
    expected = f" (expected {finding.expected})" if finding.expected and finding.state != OK else ""
    do = f"  → {finding.do}" if finding.do else ""
    return f"{finding.state:<7} {finding.name:<{width}} {finding.found}{expected}{do}"
