"""Scenarios: what goes wrong at the venue and when, and what must be true of ingest afterwards; plain data.

    >>> scenario = parse_scenario({"name": "one-gap", "shows": "a lost diff", "steps": [{"after_s": 2, "fault": "gap"}],
    ...                            "expect": {"resyncs": 1, "resync_p95_s": {"at_most": 3}}})
    >>> scenario.judge({"resyncs": 2, "resync_p95_s": 0.4})
    ['resyncs: expected 1, found 2']

A step may repeat (`repeat`, `every_s`). An expectation is an exact value, the word `faults` (as many as were declared)
or bounds (`at_least`, `at_most`) of a figure of the report; `ALWAYS` holds for every scenario that does not say
otherwise.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import yaml

from streaming.exchange_faults import Fault, parse

FOLDER = Path(__file__).parent / "scenarios"
FIELDS = frozenset({"name", "shows", "steps", "expect", "settle_s"})
TIMING = ("after_s", "repeat", "every_s")
MOST_STEPS = 10_000
QUICK_REPEATS = 2
ALWAYS: Mapping[str, Any] = {
    "started": True, "crashed": None, "settled": True, "missing_ids": 0, "doubled_ids": 0, "wrong_trades": 0,
    "late_trades": 0, "wrong_books": 0, "wrong_seals": 0, "books_equal": True,
}
"""What must be true whatever goes wrong: every trade once and as the venue has it, the venue's book, and no other."""


@dataclass(frozen=True)
class Step:
    """A fault, `after_s` seconds after the step before it, `repeat` times every `every_s`."""

    fault: Fault
    after_s: float = 0.0
    repeat: int = 1
    every_s: float = 0.0


@dataclass(frozen=True)
class Scenario:
    """What a file holds. `settle_s`: how long ingest may take, after the last fault, to be whole again."""

    name: str
    shows: str
    steps: tuple[Step, ...]
    expect: Mapping[str, Any]
    settle_s: float = 30.0

    def schedule(self) -> Iterator[tuple[float, Fault]]:
        """Seconds to wait before each fault, and the fault."""
        for step in self.steps:
            for number in range(step.repeat):
                yield (step.every_s if number else step.after_s), step.fault

    def quick(self) -> Scenario:
        """The same with every repetition cut short."""
        steps = tuple(replace(step, repeat=min(step.repeat, QUICK_REPEATS)) for step in self.steps)
        return replace(self, steps=steps)

    def judge(self, report: Mapping[str, Any]) -> list[str]:
        """What of the expectations is not true of a report; empty when all is."""
        expected = {name: wanted for name, wanted in ALWAYS.items() if name in report} | dict(self.expect)
        declared = sum(step.repeat * step.fault.count for step in self.steps)
        failures = (
            _unmet(name, declared if wanted == "faults" else wanted, report.get(name))
            for name, wanted in expected.items())
        return [failure for failure in failures if failure]


def _unmet(name: str, wanted: Any, found: Any) -> str | None:
    if not isinstance(wanted, dict):
        return None if found == wanted else f"{name}: expected {wanted}, found {found}"
    low, high = wanted.get("at_least"), wanted.get("at_most")
    if found is None or (low is not None and found < low) or (high is not None and found > high):
        return f"{name}: expected {' '.join(f'{word} {bound}' for word, bound in wanted.items())}, found {found}"
    return None


def parse_scenario(body: object) -> Scenario:
    """A scenario from its plain form. Raises `ValueError` that says what was expected."""
    if not isinstance(body, dict) or not body.keys() <= FIELDS or not {"name", "shows", "steps"} <= body.keys():
        raise ValueError(f"expected an object with {', '.join(sorted(FIELDS))}; found {body!r:.200}")
    if not isinstance(body["steps"], list) or not body["steps"]:
        raise ValueError(f"steps: expected a list of at least one step, found {body['steps']!r:.100}")
    steps = tuple(map(_step, body["steps"]))
    if (total := sum(step.repeat for step in steps)) > MOST_STEPS:
        raise ValueError(f"steps: expected at most {MOST_STEPS} faults, found {total}")
    expect = body.get("expect", {})
    if not isinstance(expect, dict) or not all(_is_expectation(wanted) for wanted in expect.values()):
        raise ValueError(f"expect: expected values, or bounds at_least and at_most, by figure; found {expect!r:.200}")
    return Scenario(
        str(body["name"]), str(body["shows"]), steps, expect, _number(body, "settle_s", 30.0, most=3_600))


def _is_expectation(wanted: object) -> bool:
    if isinstance(wanted, dict):
        return bool(wanted) and wanted.keys() <= {"at_least", "at_most"} and all(
            isinstance(bound, (int, float)) for bound in wanted.values())
    return isinstance(wanted, (bool, int, float, str))


def _step(body: object) -> Step:
    if not isinstance(body, dict):
        raise ValueError(f"step: expected an object, found {body!r:.100}")
    fault = parse({name: value for name, value in body.items() if name not in TIMING})
    repeat = body.get("repeat", 1)
    if type(repeat) is not int or repeat < 1:
        raise ValueError(f"repeat: expected a whole number of 1 or more, found {repeat!r}")
    return Step(fault, _number(body, "after_s", 0.0), repeat, _number(body, "every_s", 0.0))


def _number(body: Mapping[str, Any], name: str, default: float, most: float = 86_400) -> float:
    value = body.get(name, default)
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value <= most:
        raise ValueError(f"{name}: expected a number of 0 to {most}, found {value!r}")
    return float(value)


def load_scenario(path: Path) -> Scenario:
    """A scenario file, YAML or JSON (which is YAML too)."""
    try:
        return parse_scenario(yaml.safe_load(path.read_text()))
    except (OSError, yaml.YAMLError, ValueError) as error:
        raise ValueError(f"{path}: {error}") from error


def names() -> list[str]:
    """The scenarios that come with the product."""
    return sorted(path.stem for path in FOLDER.glob("*.yaml"))


def find(what: str) -> list[Scenario]:
    """One scenario by name or file; `all` gives every one that comes with the product."""
    if what == "all":
        return [load_scenario(FOLDER / f"{name}.yaml") for name in names()]
    if what in names():
        return [load_scenario(FOLDER / f"{what}.yaml")]
    if not Path(what).is_file():
        raise ValueError(f"scenario: expected all, a file, or one of {', '.join(names())}; found {what}")
    return [load_scenario(Path(what))]
