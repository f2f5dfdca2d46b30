"""Quality: feature rows against what `FEATURES` expects of them, column by column.

    found = examine(rows)                     # rows: a table of the lake's features zone
    found["return_1m"].outside                # values beyond the declared bounds
    out_of_order(rows)                        # rows that became known before one that describes an earlier second

A null that says why (`requires …`, `warmup`) is no lack of quality; one for a gap, or without a reason, is. History
computed in bulk does not spell its reasons and is excused. What is found is counted; no value is changed or left out.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from feature_repo.contracts import NANOS, SECOND_NS
from feature_repo.features import DECLARED, FEATURE_NAMES, FEATURE_SET, Feature
from feature_repo.history import RETIRED_REASON
from feature_repo.slow_features import SlowFeature, SlowView

TOLERANCE = 1e-9
"""How far a value may lie beyond a bound that rounding can pass."""
EXCUSES = ("warmup", "requires", RETIRED_REASON)
BULK = "{}"
Bools = NDArray[np.bool_]
Floats = NDArray[np.float64]
_LOW = np.array([feature.expects.low for feature in DECLARED]) - TOLERANCE
_HIGH = np.array([feature.expects.high for feature in DECLARED]) + TOLERANCE
_PLACE = {name: i for i, name in enumerate(FEATURE_NAMES)}


@dataclass(frozen=True)
class Column:
    """What was found of one feature in some rows."""

    rows: int
    known: int
    excused: int
    """Nulls of rows whose source or history could not know the value."""
    outside: int
    """Values beyond the declared bounds."""
    low: float | None
    high: float | None
    age_s: float | None
    """From the newest known value to the newest row that could know it; null where nothing was known."""

    @property
    def nulls(self) -> int:
        """Nulls that nothing excuses."""
        return self.rows - self.known - self.excused

    @property
    def null_share(self) -> float:
        due = self.rows - self.excused
        return self.nulls / due if due else 0.0

    def missed(self, feature: Feature | SlowFeature) -> list[str]:
        """Which expectations were not met: range, null, stale."""
        expects = feature.expects
        met = {
            "range": not self.outside, "null": self.null_share <= expects.max_null,
            "stale": self.known == 0 or (self.age_s or 0.0) <= expects.max_age_s,
        }
        return [name for name, is_met in met.items() if not is_met]

    def as_dict(self, feature: Feature | SlowFeature) -> dict[str, Any]:
        return {**asdict(self), "nulls": self.nulls, "null_share": round(self.null_share, 6),
                "missed": self.missed(feature)}


def examine(rows: pa.Table) -> dict[str, Column]:
    """Every feature of some rows of one symbol."""
    values, times = _values(rows), rows["ts_event"].to_numpy()
    known, excused = ~np.isnan(values), _excused(rows)
    outside = _outside(values).sum(axis=0)
    return {
        feature.name: _column(values[known[:, i], i], known[:, i], excused[:, i], times, int(outside[i]))
        for i, feature in enumerate(DECLARED)
    }


def examine_slow(rows: pa.Table, view: SlowView) -> dict[str, Column]:
    """Every feature of some rows of one symbol and slow view, in order of `ts_event`."""
    times = rows["ts_event"].to_numpy()
    reasons = [json.loads(text) for text in rows[view.state("reasons")].to_pylist()]
    found = {}
    for feature in view.features:
        values = rows[feature.name].to_numpy().astype(np.float64)
        known = ~np.isnan(values)
        excused = np.array([str(each.get(feature.name, "")).startswith(EXCUSES) for each in reasons], dtype=bool)
        expects = feature.expects
        outside = (values < expects.low - TOLERANCE) | (values > expects.high + TOLERANCE)
        found[feature.name] = _column(values[known], known, excused, times, int(outside.sum()))
    return found


def _column(
    held: Floats, known: Bools, excused: Bools, times: NDArray[np.int64], outside: int,
) -> Column:
    due = times[known | ~excused]
    return Column(
        rows=len(known), known=len(held), excused=int((excused & ~known).sum()), outside=outside,
        low=float(held.min()) if len(held) else None, high=float(held.max()) if len(held) else None,
        age_s=float(due.max() - times[known].max()) / NANOS if len(held) else None,
    )


def misses(rows: pa.Table) -> dict[tuple[str, str], int]:
    """(feature, range or null) → how many values miss it, of those that some do: what `examine` counts, and no more.

    For writers: a few vector operations over all features at once.
    """
    values = _values(rows)
    counts = {"range": _outside(values).sum(axis=0), "null": (np.isnan(values) & ~_excused(rows)).sum(axis=0)}
    return {
        (FEATURE_NAMES[i], rule): int(count[i]) for rule, count in counts.items() for i in np.flatnonzero(count)
    }


def misses_slow(rows: pa.Table, view: SlowView) -> dict[tuple[str, str], int]:
    """`misses` of rows of a slow view, of any symbols."""
    counts = {
        (name, rule): count for name, column in examine_slow(rows, view).items()
        for rule, count in (("range", column.outside), ("null", column.nulls))
    }
    return {key: count for key, count in counts.items() if count}


def _values(rows: pa.Table) -> Floats:
    """(N, F), NaN for null; a contract refuses a NaN, so there is no other."""
    columns = [rows[name].to_numpy() for name in FEATURE_NAMES]
    return np.column_stack(columns).astype(np.float64, copy=False)


def _outside(values: Floats) -> Bools:
    outside: Bools = (values < _LOW) | (values > _HIGH)
    return outside


def _excused(rows: pa.Table) -> Bools:
    """(N, F): where a row may lack a feature. Few texts of reasons are told apart, so each is read once."""
    coded = rows["reasons"].combine_chunks().dictionary_encode()
    codes, texts = coded.indices.to_numpy(zero_copy_only=False), coded.dictionary.to_pylist()
    excused = np.zeros((len(texts), len(FEATURE_NAMES)), dtype=bool)
    for n, text in enumerate(texts):
        for name, reason in json.loads(text).items():
            if name in _PLACE and reason.startswith(EXCUSES):
                excused[n, _PLACE[name]] = True
    bulk = np.array([text == BULK for text in texts], dtype=bool)[codes]
    bulk &= pc.equal(rows["provenance"], "backfill").to_numpy()
    # A row of another set lacks what that set did not have.
    others = pc.not_equal(rows["feature_set"], FEATURE_SET).to_numpy(zero_copy_only=False)
    unsaid = np.array([[name not in json.loads(text) for name in FEATURE_NAMES] for text in texts], dtype=bool)
    unsaid = unsaid.reshape(len(texts), len(FEATURE_NAMES))
    found: Bools = excused[codes] | bulk[:, None] | (others[:, None] & unsaid[codes])
    return found


def out_of_order(rows: pa.Table) -> int:
    """Rows that break the order of time: off the whole second, known before they happened, or, among live rows of a
    symbol, known before a row that describes an earlier second."""
    if not rows.num_rows:
        return 0
    event, created = (rows[name].to_numpy() for name in ("ts_event", "created"))
    broken = int(((event % SECOND_NS != 0) | (created < event)).sum())
    live = np.flatnonzero(pc.equal(rows["provenance"], "live").to_numpy())
    symbol = rows["symbol"].combine_chunks().dictionary_encode().indices.to_numpy()[live]
    order = live[np.lexsort((event[live], symbol))]
    same = np.diff(np.sort(symbol)) == 0
    return broken + int((same & (np.diff(created[order]) < 0)).sum())
