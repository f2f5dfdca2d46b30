"""Report: of each feature how much was compared, what differed, by how much and where; pure.

    report = Report("BTCUSDT")
    report.compare("lake", close_ns, {"return_1m": 0.1}, {"return_1m": 0.1})
    report.features["return_1m"].matched

Only null and equal bits are equal.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from typing import Any, Literal

from feature_repo.contracts import SECOND_NS
from feature_repo.slow_features import SLOW_VIEWS, SlowView
from feature_repo.views import CONTEXT_VIEW, ROW_STATE, ROW_VIEWS, SEQUENCE_VIEW, SLOW_STATE

EXAMPLES = 10
MOST_UNREADABLE = 100
"""Things that cannot be read that are written out; each of them is counted."""
LAST_NS = 2**62
"""In 2116: what names a time beyond it names none."""
MOST_REVISIONS = 100
"""Revised cells that are written out; the rest is counted."""
ROW, SEQUENCE, PREDICTION, MIRROR = "row", "sequence", "prediction", "mirror"
MIRROR_KEYS = "mirror_keys"
SLOW_TIMES = ("row", "ts_event")
"""What is said of a slow row as a whole: whether it is there, and the moment it describes."""


def slow_names(view: SlowView) -> tuple[str, ...]:
    """Names of a slow row's cells as they are counted."""
    return (*view.names, *(view.state(name) for name in (*SLOW_STATE, *SLOW_TIMES)))


CONTEXT_ROW, CONTEXT_CREATED = (f"{CONTEXT_VIEW.name}_{what}" for what in ("row", "created"))
_SLOW = {name: f"{view.name}_features" for view in SLOW_VIEWS for name in slow_names(view)} | dict.fromkeys(
    (*CONTEXT_VIEW.names, CONTEXT_ROW, CONTEXT_CREATED), CONTEXT_VIEW.name)
_VIEW = {name: view.name for view in ROW_VIEWS for name in view.names} | {SEQUENCE: SEQUENCE_VIEW.name} | _SLOW


@dataclass(frozen=True)
class Mismatch:
    """One cell that differs. Floats as hex, so that the last bit is seen."""

    where: str
    feature: str
    second: str
    expected: str
    found: str
    absolute: float | None = None
    """|found − expected|; null unless both are numbers."""
    relative: float | None = None
    """The same over |expected|; null also where that is 0."""
    ulp: int | None = None
    """How many floats lie between them, one end included."""

    @property
    def size(self) -> float:
        """What ranks mismatches: the distance in floats; what is no number at all comes first."""
        return math.inf if self.ulp is None else self.ulp


@dataclass(frozen=True)
class Unreadable:
    """Something that is held and that nobody can read."""

    where: str
    key: str
    """What holds it: a key of Redis as `redis-cli` takes it, or an identity in a zone of the lake."""
    name: str
    """The field at fault; `the row` where each field can be read and they make no row."""
    expected: str
    found: str


@dataclass
class Tally:
    """What was compared of one feature, in every place looked at."""

    compared: int = 0
    known: int = 0
    """Of those, how many were to have a value."""
    mismatches: int = 0
    worst: Mismatch | None = None
    close_ns: int = 0
    """The second of the worst mismatch."""
    raw: Mapping[str, Any] | None = None
    """The raw events that the worst mismatch's value is made of."""

    @property
    def matched(self) -> int:
        return self.compared - self.mismatches


@dataclass
class Revised:
    """What a reconcile wrote for these seconds, judged apart: none of it was known in time."""

    rows: int = 0
    cells: int = 0
    """Cells that a revision changed."""
    mismatches: int = 0
    """Revised rows that do not follow, to the last bit, from the revised bars, and those that are missing."""
    revisions: list[Mapping[str, Any]] = field(default_factory=list)
    left_out: int = 0
    examples: list[Mismatch] = field(default_factory=list)
    filled_in: int = 0
    """Rows of a later backfill: no raw record tells them, so they are counted and not judged."""

    def explain(self, cell: Mapping[str, Any]) -> None:
        self.cells += 1
        if len(self.revisions) < MOST_REVISIONS:
            self.revisions.append(cell)
        else:
            self.left_out += 1

    def differs(self, feature: str, second: int, expected: Any, found: Any) -> None:
        self.mismatches += 1
        if len(self.examples) < EXAMPLES:
            self.examples.append(difference("as revised", feature, second, expected, found))


@dataclass
class Report:
    """A certificate of one symbol. `rows` and `cells` count every place looked at."""

    symbol: str
    start: str = ""
    end: str = ""
    rows: int = 0
    mismatches: int = 0
    places: dict[str, int] = field(default_factory=dict)
    """Place → rows compared there."""
    features: dict[str, Tally] = field(default_factory=dict)
    examples: list[Mismatch] = field(default_factory=list)
    revised: Revised = field(default_factory=Revised)
    unproven_predictions: dict[str, int] = field(default_factory=dict)
    """Reason → logged predictions that name nothing they were made from."""
    feature_sets: dict[str, dict[str, int]] = field(default_factory=dict)
    """Feature set → `rows` and `predictions` judged under it, the set they were logged with."""
    not_judged: dict[tuple[str, str], int] = field(default_factory=dict)
    """Place and reason → rows (of slow views: cells) that are neither a match nor a mismatch."""
    unreadable: list[Unreadable] = field(default_factory=list)
    """What was there and could not be read. Each is a mismatch, and says nothing of anything else."""

    @property
    def cells(self) -> int:
        return sum(tally.compared for tally in self.features.values())

    @property
    def known(self) -> int:
        return sum(tally.known for tally in self.features.values())

    @property
    def passed(self) -> bool:
        """Rows of the lake were compared, not their mirrors alone, and nothing differed, as known or as revised."""
        return self.places.get("lake", 0) > 0 and self.mismatches == 0 and self.revised.mismatches == 0

    def compare(self, where: str, second: int, expected: Mapping[str, Any], found: Mapping[str, Any]) -> None:
        """One row at one place, name by name."""
        self.rows += 1
        self.places[where] = self.places.get(where, 0) + 1
        for name, value in expected.items():
            self._compared(name, known=value is not None)
            if bits(value) != bits(found.get(name)):
                self._differs(difference(where, name, second, value, found.get(name)), second)

    def differs(self, where: str, feature: str, second: int, expected: str, found: str) -> None:
        """What is no cell, such as a row that is not there."""
        self._compared(feature, known=True)
        self._differs(Mismatch(where, feature, time_text(second), expected, found), second)

    def cannot_read(self, what: Unreadable, feature: str, second: int) -> None:
        """A row, counted as `feature`, whose bytes are no row: a mismatch, told with its key and field."""
        self.name(what)
        self.differs(what.where, feature, second, f"{what.name}: {what.expected}", what.found)

    def name(self, what: Unreadable) -> None:
        """Tell of something that cannot be read and whose cells are compared, and so counted, all the same."""
        if len(self.unreadable) < MOST_UNREADABLE:
            self.unreadable.append(what)

    def under(self, feature_set: str, what: Literal["rows", "predictions"]) -> None:
        """One row or prediction was judged under the set that it was logged with."""
        counts = self.feature_sets.setdefault(feature_set, {"rows": 0, "predictions": 0})
        counts[what] += 1

    def leave(self, where: str, reason: str, count: int = 1) -> None:
        """One thing, or some, cannot be judged: counted, and neither a match nor a mismatch."""
        self.not_judged[where, reason] = self.not_judged.get((where, reason), 0) + count

    def by_view(self) -> dict[str, tuple[int, int]]:
        """Feature view (or `predictions`) → cells compared, cells that differ."""
        found: dict[str, tuple[int, int]] = {}
        for name, tally in self.features.items():
            compared, mismatches = found.get(view_of(name), (0, 0))
            found[view_of(name)] = compared + tally.compared, mismatches + tally.mismatches
        return found

    def worst(self) -> list[Tally]:
        """The features that differ, the one that is furthest off first."""
        wrong = [tally for tally in self.features.values() if tally.worst is not None]
        return sorted(wrong, key=lambda tally: -tally.worst.size if tally.worst else 0.0)

    def as_dict(self) -> dict[str, Any]:
        """The shape that docs/parity.md describes."""
        return {
            "symbol": self.symbol, "start": self.start, "end": self.end, "passed": self.passed, "rows": self.rows,
            "cells": self.cells, "known_share": round(self.known / self.cells, 4) if self.cells else None,
            "mismatches": self.mismatches, "mismatch_ratio": self.mismatches / self.cells if self.cells else None,
            "places": self.places,
            "features": [_feature(name, tally) for name, tally in self.features.items()],
            "examples": [asdict(example) for example in self.examples],
            "unreadable": [asdict(each) for each in self.unreadable],
            "as_revised": asdict(self.revised), "unproven_predictions": self.unproven_predictions,
            "feature_sets": self.feature_sets,
            "not_judged": [{"where": where, "reason": reason, "count": count}
                           for (where, reason), count in self.not_judged.items()],
        }

    def _compared(self, name: str, *, known: bool) -> None:
        tally = self.features.setdefault(_counted_as(name), Tally())
        tally.compared += 1
        tally.known += known

    def _differs(self, mismatch: Mismatch, second: int) -> None:
        self.mismatches += 1
        if len(self.examples) < EXAMPLES:
            self.examples.append(mismatch)
        tally = self.features[_counted_as(mismatch.feature)]
        tally.mismatches += 1
        if tally.worst is None or mismatch.size > tally.worst.size:
            tally.worst, tally.close_ns, tally.raw = mismatch, second, None


def view_of(name: str) -> str:
    """The feature view of a name as it is counted.

    >>> view_of("return_1m"), view_of("created"), view_of("prediction.row_hash"), view_of("mirror.5m.vwap")
    ('price_features', 'row_state', 'predictions', 'mirror_keys')
    """
    if name.startswith(MIRROR):
        return MIRROR_KEYS
    return "predictions" if name.startswith(PREDICTION) else _VIEW.get(name, ROW_STATE.name)


def is_slow(name: str) -> bool:
    """Whether a name is of a slow view's rows.

    >>> is_slow("vix_close_1d"), is_slow("macro_row"), is_slow("volatility_context_row"), is_slow("return_1m")
    (True, True, True, False)
    """
    return name in _SLOW


def foreign(feature_set: str) -> str:
    """Why what was logged with a feature set is not judged."""
    return f"feature set {feature_set} is not this code's"


def difference(where: str, feature: str, second: int, expected: Any, found: Any) -> Mismatch:
    """Two cells that differ, and by how much."""
    told = Mismatch(where, feature, time_text(second), bits(expected), bits(found))
    if not (_is_number(expected) and _is_number(found)):
        return told
    absolute = abs(found - expected)
    relative = absolute / abs(expected) if expected else None
    return Mismatch(where, feature, told.second, told.expected, told.found, absolute, relative, ulps(expected, found))


def ulps(a: float, b: float) -> int:
    """How many steps from one float to the next lead from `a` to `b`.

    >>> ulps(1.0, 1.0 + 2**-52), ulps(0.0, -0.0), ulps(-5e-324, 5e-324)
    (1, 0, 2)
    """
    return abs(_ordinal(a) - _ordinal(b))


def bits(value: Any) -> str:
    """A cell as text that differs when a bit does; NaN, which pandas makes of null, is null."""
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return "null"
    return value.hex() if isinstance(value, float) else repr(value)


def time_text(at_ns: int) -> str:
    """A whole second as people write it; one that no calendar has, which a torn row may name, as its number.

    >>> time_text(1_723_161_600_000_000_000), time_text(2**80)
    ('2024-08-09T00:00:00Z', '1208925819614629174706176 ns')
    """
    if not -LAST_NS <= at_ns <= LAST_NS:
        return f"{at_ns} ns"
    return datetime.fromtimestamp(at_ns // SECOND_NS, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _feature(name: str, tally: Tally) -> dict[str, Any]:
    worst = None if tally.worst is None else {**asdict(tally.worst), "raw": tally.raw}
    return {
        "name": name, "view": view_of(name), "compared": tally.compared, "known": tally.known,
        "matched": tally.matched, "mismatches": tally.mismatches, "worst": worst,
    }


def _counted_as(name: str) -> str:
    """The 1,100 cells of a model's input are counted as one."""
    return SEQUENCE if name.startswith(f"{SEQUENCE}[") else name


def _is_number(value: Any) -> bool:
    return isinstance(value, float) and math.isfinite(value)


def _ordinal(value: float) -> int:
    """Place of a float among all floats, 0 for either zero."""
    number: int = struct.unpack("<q", struct.pack("<d", value))[0]
    return number if number >= 0 else -(number & 0x7FFF_FFFF_FFFF_FFFF)
