"""Views: what the feature store holds for a symbol, stated once for Feast's schema, Redis and the lake.

    >>> [view.name for view in ROW_VIEWS]
    ['price_features', 'volatility_features', 'volume_features', 'flow_features', 'book_features',
     'anomaly_features', 'calendar_features', 'row_state']
    >>> SEQUENCE_VIEW.zone is None
    True

The row views hold one feature row together: they come from the same rows of the lake and are written to
Redis in one step. `forecast_sequence` is online only (offline it is rebuilt), `volatility_context` is slow. The
`SLOW_VIEWS` (funding, open interest, fear & greed, macro) come from their own zones, a row when something is told.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, cast

from feature_repo.context import CONTEXT_FEATURE
from feature_repo.contracts import NANOS
from feature_repo.features import DECLARED, FAMILIES, FEATURES, FORECAST_BAR, SEQUENCE_FEATURES
from feature_repo.slow_features import SLOW_VIEWS as DECLARED_SLOW
from feature_repo.slow_features import VIEW_OF, SlowRow, SlowView

PROJECT = "bitcoin_trading"
ENTITY = "symbol"
MIRROR_TTL_S = 300
ROW_TTL_S = 900
"""A row older than the oldest tier that still forecasts (15 minutes) is no answer."""
CONTEXT_TTL_S = 86_400
"""Renewed hourly; a percentile over 30 days is still good after a day without renewal."""

Kind = Literal["double", "int64", "string", "bytes"]
SlowZone = Literal["funding", "open_interest", "fear_greed", "macro"]


@dataclass(frozen=True)
class Column:
    """One field of a view and its type in Feast's words."""

    name: str
    kind: Kind
    description: str = ""


@dataclass(frozen=True)
class View:
    """One feature view. `zone` is the lake's zone its history lives in; null for online only."""

    name: str
    columns: tuple[Column, ...]
    zone: Literal["features", "context"] | SlowZone | None
    ttl_s: int
    description: str

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(column.name for column in self.columns)


def _family(family: str) -> View:
    declared = [f for f in DECLARED if f.family == family]
    columns = tuple(Column(f.name, "double", f"{f.formula} [{f.unit}] from {f.requires}") for f in declared)
    return View(f"{family}_features", columns, "features", ROW_TTL_S, f"{family} features at a second's close")


ROW_STATE = View(
    "row_state",
    (
        Column("price", "double", "the bar's close, quote currency"),
        Column("ts_init", "int64", "when the seal was made, ns UTC"),
        Column("created", "int64", "when the row became known, ns UTC"),
        Column("source", "string", "live | recording | simulated"),
        Column("session", "string", "the run of the source it comes from"),
        Column("feature_set", "string", "hash of the feature declarations"),
        Column("provenance", "string", "live | backfill | reconcile"),
        Column("reasons", "string", "JSON object: feature name → why it is null"),
    ),
    "features", ROW_TTL_S, "what a feature row is besides its features",
)
FAMILY_VIEWS = tuple(_family(family) for family in FAMILIES)
ROW_VIEWS = (*FAMILY_VIEWS, ROW_STATE)
SEQUENCE_VIEW = View(
    "forecast_sequence",
    (
        Column("newest", "bytes", f"little-endian float64 [{len(SEQUENCE_FEATURES)}]: the row itself, NaN = masked"),
        Column("minutes", "bytes", f"the same [63, {len(SEQUENCE_FEATURES)}]: whole minutes before it, oldest first"),
        Column("columns", "string", "names of its columns in order, separated by commas"),
    ),
    None, ROW_TTL_S, "the models' input: the last 63 whole-minute rows and the newest row",
)
CONTEXT_VIEW = View(
    "volatility_context", (Column(CONTEXT_FEATURE, "double", "90th percentile of RV_15 over 30 days"),),
    "context", CONTEXT_TTL_S, "what counts as high volatility, renewed hourly",
)
VIEWS = (*ROW_VIEWS, SEQUENCE_VIEW, CONTEXT_VIEW)
"""What a forecast may read: the fields of one HMGET."""


def _slow(view: SlowView) -> View:
    columns = tuple(Column(f.name, "double", f"{f.formula} [{f.unit}]") for f in view.features)
    state = tuple(Column(view.state(name), "string", description) for name, description in SLOW_STATE.items())
    return View(
        f"{view.name}_features", (*columns, *state), cast(SlowZone, view.name), view.ttl_ns // NANOS,
        view.description,
    )


SLOW_STATE: Mapping[str, str] = {
    "source": "live | recording | simulated",
    "provenance": "live | backfill",
    "reasons": "JSON object: feature name → why it is null",
}
"""What a slow row is besides its features; each view has names of its own for it, so that views can be joined."""
SLOW_VIEWS = tuple(_slow(view) for view in DECLARED_SLOW)
STORED_VIEWS = (*VIEWS, *SLOW_VIEWS)
"""Every view of the store."""


def slow_state(row: SlowRow) -> dict[str, str]:
    """The text columns of a slow row."""
    told = {"source": row.source, "provenance": row.provenance, "reasons": as_text(row.reasons)}
    return {VIEW_OF[row.view].state(name): told[name] for name in SLOW_STATE}


def services() -> Mapping[str, Mapping[str, tuple[str, ...]]]:
    """Feature service → view → the features it takes, in FEATURES order.

    >>> services()["forecast_bar_v1"]["volatility_context"]
    ('realized_vol_15m_p90_30d',)
    """
    bar = {view.name: tuple(name for name in view.names if name in FORECAST_BAR) for view in FAMILY_VIEWS}
    current = {feature.name for feature in FEATURES}
    micro = {view.name: tuple(name for name in view.names if name in current) for view in FAMILY_VIEWS}
    context = {CONTEXT_VIEW.name: CONTEXT_VIEW.names}
    return {
        "forecast_bar_v1": {**{name: taken for name, taken in bar.items() if taken}, **context},
        "forecast_micro_v1": {**{name: taken for name, taken in micro.items() if taken}, **context},
        "context_v1": {f"{view.name}_features": view.names for view in DECLARED_SLOW},
    }


def definitions_hash() -> str:
    """Names what is defined here; Feast's registry carries it, so that an old registry is seen without Feast.

    >>> len(definitions_hash())
    16
    """
    return hashlib.sha256(repr((STORED_VIEWS, sorted(services().items()))).encode()).hexdigest()[:16]


def as_text(value: Any) -> str:
    """What is not a scalar, as the one JSON text that lake and Redis hold.

    >>> as_text({"b": "gap", "a": "warmup"})
    '{"a": "warmup", "b": "gap"}'
    """
    return _TEXT.encode(value)


_TEXT = json.JSONEncoder(sort_keys=True)
