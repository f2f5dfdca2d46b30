"""Plants: leaks put in on purpose, so that a check which finds nothing shows that it can find something.

    for plant in PLANTS: ...      # each replaces one step of the product's by one that knows too much

Every plant runs in the same worlds as the product itself and must be found by its name.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from feature_repo.context import CONTEXT_FEATURE, hourly_percentiles
from feature_repo.contracts import MINUTE_NS, SECOND_NS
from feature_repo.features import DECLARED, Feature
from feature_repo.lake_layout import ContextRow
from feature_repo.slow_features import SlowRow
from monitoring.leakcheck.paths import Path, planted
from monitoring.leakcheck.sets import Assemble, Inputs, inputs, set_of
from monitoring.leakcheck.slow import Rows as SlowRows
from monitoring.leakcheck.slow import SlowWorld, made
from monitoring.leakcheck.world import Table
from training.dataset import KnownRows, Split, TrainingSet, dense_places
from training.klines import MinuteBars
from training.targets import HORIZONS, realised_after

_BY_NAME = {feature.name: feature for feature in DECLARED}


@dataclass(frozen=True)
class Plant:
    """One leak. Exactly one of the steps is set."""

    name: str
    finds: str
    """The name under which it must be reported."""
    bars: Path | None = None
    inputs: Inputs | None = None
    known: Callable[[Any], Any] | None = None
    labels: Assemble | None = None
    slow: SlowRows | None = None


def _feature(of: str, name: str) -> Feature:
    return replace(_BY_NAME[of], name=name, formula="planted")


def label_as_feature(bars: MinuteBars) -> Table:
    """The volatility of the next five minutes among the inputs."""
    table = inputs(bars)
    after = _on_rows(bars, lambda closes: realised_after(closes, 5))
    return Table((*table.names, "planted_label"), table.decided_ns, np.column_stack([table.values, after]))


def _on_rows(bars: MinuteBars, label: Callable[[Any], Any]) -> Any:
    place = dense_places(bars.close_ns)
    dense = np.full(int(place[-1]) + 1, np.nan)
    dense[place] = bars.closes
    return label(dense)[place]


def normalised(bars: MinuteBars) -> Table:
    """Every input scaled by mean and deviation of the whole sample, what comes later with it."""
    table = inputs(bars)
    scaled = (table.values - np.nanmean(table.values, axis=0)) / (np.nanstd(table.values, axis=0) + 1e-12)
    return table._replace(values=scaled)


def slow_view_by_event_time(bars: MinuteBars) -> Table:
    """The slow view joined by the hour it describes instead of by when it was published."""
    hours, values = hourly_percentiles(bars.close_ns, bars.closes)
    place = np.searchsorted(hours, bars.created_ns, side="right") - 1
    joined = np.where(place >= 0, values[np.maximum(place, 0)], np.nan)
    return Table((CONTEXT_FEATURE,), bars.created_ns, joined[:, None])


def known_at_once(row: Any) -> Any:
    """A row that counts as known when its event happened, however late it came."""
    if isinstance(row, ContextRow | SlowRow):
        return replace(row, created=row.ts_event)
    return row.model_copy(update={"created": row.ts_event})


def slow_rows_by_event_time(world: SlowWorld) -> list[SlowRow]:
    """Slow rows that count as known when the session closed, not when its close was published."""
    return [replace(row, created=row.ts_event) for row in made(world)]


def label_beyond_its_horizon(rows: KnownRows, split: Split) -> TrainingSet:
    """A label of five minutes that looks at six."""
    table = set_of(rows, split)
    return replace(table, targets={**table.targets, "rv_5": realised_after(table.closes, 6)})


def split_without_purge(rows: KnownRows, split: Split) -> TrainingSet:
    """A train part that goes on to the cut, its last labels into the next part."""
    table = set_of(rows, split)
    last = int(np.flatnonzero(table.parts == 0)[-1])
    parts = table.parts.copy()
    parts[last : last + max(HORIZONS) + 1] = 0
    return replace(table, parts=parts)


PLANTS: tuple[Plant, ...] = (
    Plant("a centred window", "planted_centred",
          bars=planted(_feature("realized_vol_60m", "planted_centred"), ahead_ns=30 * MINUTE_NS)),
    Plant("a label used as a feature", "planted_label", inputs=label_as_feature),
    Plant("a close one bar ahead", "planted_ahead",
          bars=planted(_feature("return_1m", "planted_ahead"), ahead_ns=SECOND_NS)),
    Plant("normalised by the whole sample", "realized_vol_60m", inputs=normalised),
    Plant("a slow view joined by event time", CONTEXT_FEATURE, inputs=slow_view_by_event_time),
    Plant("a macro close known before its lag", "sp500_return_1d", slow=slow_rows_by_event_time),
    Plant("late rows joined by event time", "return_1m", known=known_at_once),
    Plant("a label beyond its horizon", "rv_5", labels=label_beyond_its_horizon),
    Plant("a split without purge", "train to calibration", labels=split_without_purge),
)
