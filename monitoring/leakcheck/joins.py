"""Joins: what the lake's history gives at a decision, through Feast, when rows become known at other times.

    joins = open_joins(folder)
    check(report, joins.ask, at_ns, rng)

The rows are made, for the join does not look at their values: feature rows every few seconds, the slow views once an
hour, each known at its `created`, in a lake of their own.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

import numpy as np

from feature_repo.context import CONTEXT_FEATURE, CONTEXT_LAG_NS
from feature_repo.contracts import HOUR_NS, MINUTE_NS, SECOND_NS, FeatureRow
from feature_repo.features import FEATURE_NAMES, FEATURE_SET
from feature_repo.lake_layout import ContextRow, Zone
from feature_repo.settings import Settings
from feature_repo.slow_features import SLOW_NAMES, SLOW_VIEWS, SlowRow, SlowView
from feature_repo.store import FeatureStore
from feature_repo.views import CONTEXT_VIEW, ENTITY, FAMILY_VIEWS
from monitoring.leakcheck.report import MADE_ROWS, Report
from monitoring.leakcheck.world import Table
from streaming.lake import LakeWriter

EVERY_NS = 7 * SECOND_NS
LAG_NS = SECOND_NS // 4
ASKED = 40
NAMES = (*FEATURE_NAMES, CONTEXT_FEATURE, *SLOW_NAMES)
REFS = [f"{view.name}:{name}" for view in (*FAMILY_VIEWS, CONTEXT_VIEW) for name in view.names]
REFS += [f"{view.name}_features:{name}" for view in SLOW_VIEWS for name in view.names]
SYMBOL = "BTCUSDT"


@dataclass(frozen=True)
class Rows:
    """Rows of the zones, in no order."""

    features: tuple[FeatureRow, ...]
    context: tuple[ContextRow, ...]
    slow: tuple[SlowRow, ...]

    def changed(self, change: Callable[[Any], Any]) -> Rows:
        """Every row changed; null leaves it out, a list puts several in its place."""
        return Rows(*(_flat(change(row) for row in each) for each in (self.features, self.context, self.slow)))


def _flat(found: Any) -> tuple[Any, ...]:
    lists = (row if isinstance(row, list) else [] if row is None else [row] for row in found)
    return tuple(row for rows in lists for row in rows)


Ask = Callable[[Rows, Sequence[int]], Table]


def check(report: Report, ask: Ask, at_ns: int, rng: np.random.Generator) -> None:
    """At decisions up to `at_ns` the answer must not change with any row that is known later, whatever it describes."""
    base = made_rows(at_ns, rng)
    times = sorted({at_ns, *(at_ns - rng.integers(1, 3 * MINUTE_NS, ASKED)).tolist(),
                    *(at_ns + rng.integers(1, 3 * MINUTE_NS, ASKED // 4)).tolist()})
    for how, one, two in _variants(base, at_ns, rng):
        report.compare(MADE_ROWS, how, at_ns, (ask(one, times), ask(two, times)))


def _variants(base: Rows, at_ns: int, rng: np.random.Generator) -> list[tuple[str, Rows, Rows]]:
    def later(row: Any) -> bool:
        return bool(row.created > at_ns)

    def delayed(row: Any) -> Any:
        return _known(row, at_ns + int(rng.integers(1, MINUTE_NS)))

    moved = base.changed(lambda row: delayed(row) if rng.random() < 0.3 else row)
    revised = base.changed(lambda row: row if later(row) else [row, _other(delayed(row), rng)])
    return [
        ("future truncated", base, base.changed(lambda row: None if later(row) else row)),
        ("future overwritten", base, base.changed(lambda row: _other(row, rng) if later(row) else row)),
        ("known later", moved, moved.changed(lambda row: _other(row, rng) if later(row) else row)),
        ("revised later", base, revised),
    ]


def made_rows(at_ns: int, rng: np.random.Generator) -> Rows:
    """Rows around an instant, each known a little after its second, the slow view its declared lag after its hour."""
    closes = np.arange(at_ns - 4 * MINUTE_NS, at_ns + 4 * MINUTE_NS, EVERY_NS) // SECOND_NS * SECOND_NS
    hours = np.arange(at_ns - 3 * HOUR_NS, at_ns + 3 * HOUR_NS, HOUR_NS) // HOUR_NS * HOUR_NS
    return Rows(
        tuple(_row(int(close), rng) for close in closes),
        tuple(ContextRow(SYMBOL, int(h), int(h) + CONTEXT_LAG_NS, float(rng.random())) for h in hours),
        tuple(_slow_row(view, at_ns, n, rng) for view in SLOW_VIEWS for n in range(-4, 5)),
    )


def _slow_row(view: SlowView, at_ns: int, n: int, rng: np.random.Generator) -> SlowRow:
    """The n-th row about the instant: known a minute apart, each its view's lag after the moment that it describes."""
    known = (at_ns // MINUTE_NS + n) * MINUTE_NS + int(rng.integers(0, MINUTE_NS))
    values = dict(zip(view.names, rng.normal(size=len(view.names)).tolist(), strict=True))
    return SlowRow(view.name, SYMBOL, known - view.lag_ns, known, "simulated", "backfill", values, {})


def _row(close_ns: int, rng: np.random.Generator) -> FeatureRow:
    values = dict(zip(FEATURE_NAMES, rng.normal(size=len(FEATURE_NAMES)).tolist(), strict=True))
    return FeatureRow(
        symbol=SYMBOL, ts_event=close_ns, ts_init=close_ns + LAG_NS, source="simulated", session="leakcheck",
        created=close_ns + LAG_NS, provenance="backfill", feature_set=FEATURE_SET, price=1.0, values=values, reasons={},
    )


def _known(row: Any, at_ns: int) -> Any:
    """The same row, known at another time: the slow view's hour may have begun to be described since."""
    known = max(at_ns, row.created)
    if isinstance(row, ContextRow | SlowRow):
        return replace(row, created=known)
    return row.model_copy(update={"created": known})


def _other(row: Any, rng: np.random.Generator) -> Any:
    if isinstance(row, ContextRow):
        return replace(row, value=float(rng.random()))
    if isinstance(row, SlowRow):
        return replace(row, values={name: float(rng.normal()) for name in row.values})
    return row.model_copy(update={"values": dict(zip(FEATURE_NAMES, rng.normal(size=len(FEATURE_NAMES)).tolist(),
                                                     strict=True))})


@dataclass
class Joins:
    """Asks Feast, over a lake that lasts for one question, with the registry of one folder."""

    folder: Path
    known: Callable[[Any], Any] = lambda row: row
    """What the lake says of a row's knowledge time; a planted leak says something else."""

    def ask(self, rows: Rows, times: Sequence[int]) -> Table:
        """The history at some decision times, through `FeatureStore.history` as training reads it."""
        import pandas as pd

        with tempfile.TemporaryDirectory(dir=self.folder) as place:
            lake, held = Path(place).as_uri(), rows.changed(self.known)
            writer = LakeWriter.open(lake)
            writer.add_revision("features", held.features, "backfill")
            writer.add_revision("context", held.context, "backfill")
            for view in SLOW_VIEWS:
                zone_rows = [row for row in held.slow if row.view == view.name]
                writer.add_revision(cast(Zone, view.name), zone_rows, "backfill")
            store = FeatureStore.open(replace(settings_in(self.folder), lake_url=lake))
            entities = pd.DataFrame({ENTITY: SYMBOL, "event_timestamp": pd.to_datetime(list(times), utc=True)})
            found = store.history(entities, REFS)
        values = found[list(NAMES)].to_numpy(np.float64, na_value=np.nan)
        return Table(NAMES, np.array(times, dtype=np.int64), values)


def settings_in(folder: Path) -> Settings:
    """Settings whose every place is in a folder."""
    return Settings(run_dir=folder)


def open_joins(folder: Path) -> Joins:
    """A place for lakes, with Feast's registry of our definitions."""
    from feature_repo.feast_config import apply

    settings = settings_in(folder)
    settings.registry.parent.mkdir(parents=True, exist_ok=True)
    apply(settings)
    return Joins(folder)
