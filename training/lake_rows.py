"""Lake rows: what the deployment's own lake was known to hold at each whole minute, to be learnt from.

    rows = lake_rows(settings, Asked("BTCUSDT"))          # FeatureStore.history → Feast get_historical_features

A minute is decided when its row first became known, and has what was known then: a later revision of it changes
nothing, and is counted. Outcomes are those of the clean zone's bars as they are known now. What cannot have been shown
in time is a gap: a minute without a row, one whose row came when a newer one was known already or by a revision alone,
a row of another source, or of features that this code declares otherwise.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import pyarrow.compute as pc
import structlog

from feature_repo.context import CONTEXT_FEATURE
from feature_repo.contracts import DAY_NS, MINUTE_NS, NANOS, SECOND_NS, Source
from feature_repo.feature_sets import Sets
from feature_repo.features import FORECAST_BAR
from feature_repo.grid import Floats, Ints
from feature_repo.lake_reader import Lake
from feature_repo.settings import Settings
from feature_repo.store import FeatureStore
from feature_repo.topics import base
from feature_repo.views import ENTITY, ROW_TTL_S
from training.dataset import PURGE_NS, KnownRows, Singles
from training.known import apply_definitions, references

LOG = structlog.get_logger()
TTL_NS = ROW_TTL_S * NANOS
LEAST_SECONDS = 57
"""Of a minute's 60: with more than 5 % of holes it is no minute (`definitions`), unless a minute bar tells of it."""


@dataclass(frozen=True)
class Asked:
    """Which rows."""

    symbol: str
    source: Source = "live"
    start_ns: int | None = None
    """Decisions of minutes that close at or after it."""
    end_ns: int | None = None
    """Nothing that closes later is read."""


class Decisions(NamedTuple):
    """Whole minutes by their first row: (N,) each."""

    close_ns: Ints
    created_ns: Ints


class Minutes(NamedTuple):
    """Minutes that have a bar: (N,) each; an open is NaN where its second has none."""

    close_ns: Ints
    opens: Floats
    closes: Floats


def lake_rows(settings: Settings, asked: Asked) -> KnownRows:
    """A symbol's minutes with a row or a bar, a label's reach around those with a row.

    Raises `ValueError` where no row can be learnt from, `StoreUnavailable` for a lake that cannot be read.
    """
    lake = Lake.open(settings.lake, settings.s3_endpoint)
    seen: Counter[str] = Counter()
    judged = Sets.open(lake)
    found = [_decisions(lake, asked, span, judged, seen) for span in _days(lake, asked)]
    decided = Decisions(*map(np.concatenate, zip(*found, strict=True))) if found else Decisions(_none(), _none())
    told = ", ".join(f"{name} {count:,}" for name, count in sorted(seen.items())) or "no row at all"
    if not len(decided.close_ns):
        raise ValueError(f"expected {asked.source} feature rows of {asked.symbol} at whole minutes in {settings.lake}, "
                         f"found {told}; let the stack run, or name another --symbol, --source or --from")
    LOG.info("lake read", symbol=asked.symbol, source=asked.source, decisions=len(decided.close_ns), **seen)
    values, context = _as_known(settings, asked, decided)
    minutes = _joined([_minutes(lake, asked, span) for span in _spans(*_reach(asked, decided))])
    return _rows(asked, decided, values, context, minutes)


def _days(lake: Lake, asked: Asked) -> Iterator[tuple[int, int]]:
    """(start, end] of each UTC day that has feature rows and was asked for, ascending."""
    days = {hour // DAY_NS for hour in lake.hours("features", base(asked.symbol))}
    first, last = asked.start_ns or 0, asked.end_ns or 2**62
    for day in sorted({each - 1 for each in days} | set(days)):  # the close at midnight ends the day before
        begin, end = max(day * DAY_NS, first - 1), min((day + 1) * DAY_NS, last)
        if begin < end:
            yield begin, end


def _decisions(lake: Lake, asked: Asked, span: tuple[int, int], judged: Sets, seen: Counter[str]) -> Decisions:
    """The whole minutes of a day whose first row can have been shown before any newer one."""
    columns = ["ts_event", "created", "source", "provenance", "feature_set"]
    # As far beyond the day as a row may be old that still answers: a newer one may have been known before it.
    held = lake.rows("features", [asked.symbol], span[0] + 1, span[1] + TTL_NS, columns)
    event, created = (held[name].to_numpy() for name in columns[:2])
    order = np.lexsort((created, event))
    starts = np.flatnonzero(np.diff(event[order], prepend=-1))
    versions = np.diff(np.append(starts, len(order)))
    first = order[starts]
    event, created = event[first], created[first]
    of = {name: held[name].to_numpy()[first] for name in columns[2:]}
    newer_from = np.append(np.minimum.accumulate(created[::-1])[::-1][1:], np.iinfo(np.int64).max)[: len(event)]
    whole = (event % MINUTE_NS == 0) & (event <= span[1])
    can_judge = {name: bool(judged.of(name)) for name in set(of["feature_set"])}
    faults = {
        "of_another_source": of["source"] != asked.source,
        "of_other_features": ~np.array([can_judge[name] for name in of["feature_set"]], dtype=bool),
        "known_too_late": (of["provenance"] == "reconcile") | (created - event > TTL_NS) | (newer_from <= created),
    }
    good = whole
    for name, wrong in faults.items():
        seen[name] += int((good & wrong).sum())
        good = good & ~wrong
    seen["revised_since"] += int((good & (versions > 1)).sum())
    return Decisions(event[good], created[good])


def _as_known(settings: Settings, asked: Asked, decided: Decisions) -> tuple[Singles, Floats]:
    """Features (N, F) in FORECAST_BAR order and the slow view's percentile (N,), a day at a time through Feast."""
    apply_definitions(settings)
    store = FeatureStore.open(settings)
    cuts = np.flatnonzero(np.diff(decided.close_ns // DAY_NS)) + 1
    parts = []
    for created in np.split(decided.created_ns, cuts):
        found = store.history(
            pd.DataFrame({ENTITY: asked.symbol, "event_timestamp": pd.to_datetime(created, utc=True)}), references(),
        )
        _refuse_others(found, created, asked)
        parts.append(found[[*FORECAST_BAR, CONTEXT_FEATURE]].astype(np.float64))
    known = pd.concat(parts, ignore_index=True)
    return known[list(FORECAST_BAR)].to_numpy(np.float32), known[CONTEXT_FEATURE].to_numpy(np.float64)


def _refuse_others(found: pd.DataFrame, created: Ints, asked: Asked) -> None:
    """What was listed before must answer: else the past was filled in meanwhile, and the set would be of two lakes."""
    own = (found["created"].to_numpy() == created) & (found["source"].to_numpy() == asked.source)
    if not own.all():
        at = datetime.fromtimestamp(int(created[~own][0]) / 1e9, UTC)
        raise ValueError(f"expected the rows that the lake was seen to hold, found {int((~own).sum())} others or none, "
                         f"the first known at {at.isoformat()}; a backfill is under way: train again behind it")


def _reach(asked: Asked, decided: Decisions) -> tuple[int, int]:
    """(start, end] of the bars: thresholds look an hour back, labels an hour ahead."""
    end = int(decided.close_ns[-1]) + PURGE_NS
    return int(decided.close_ns[0]) - PURGE_NS - MINUTE_NS, end if asked.end_ns is None else min(end, asked.end_ns)


def _spans(start: int, end: int) -> list[tuple[int, int]]:
    """(start, end] cut at midnights."""
    edges = [start, *range((start // DAY_NS + 1) * DAY_NS, end, DAY_NS), end]
    return list(pairwise(edges))


def _minutes(lake: Lake, asked: Asked, span: tuple[int, int]) -> Minutes:
    """Minutes of (start, end] as they are known now; of a close's bars the one known last counts."""
    columns = ["close_time", "interval_s", "created", "open", "close", "source"]
    held = lake.rows("clean", [asked.symbol], span[0] + 1, span[1], columns)
    bars = held.filter(pc.equal(held["source"], asked.source)).to_pandas().sort_values("created", kind="stable")
    bars = bars.drop_duplicates(["close_time", "interval_s"], keep="last")
    whole = bars[(bars["interval_s"] == 60) & (bars["close_time"] % MINUTE_NS == 0)]
    told = pd.concat([whole, _of_seconds(bars[bars["interval_s"] == 1])]).sort_values("created", kind="stable")
    told = told.drop_duplicates("close_time", keep="last").sort_values("close_time")
    return Minutes(told["close_time"].to_numpy(np.int64), *(told[name].to_numpy(np.float64) for name in
                                                            ("open", "close")))


def _of_seconds(bars: pd.DataFrame) -> pd.DataFrame:
    """Second bars as minutes: those whose last second is there and that have few holes."""
    minute = -(-bars["close_time"] // MINUTE_NS) * MINUTE_NS
    count = minute.map(minute.value_counts())
    ends = bars[(bars["close_time"] == minute) & (count >= LEAST_SECONDS)]
    opens = bars.set_index("close_time")["open"]
    return ends.assign(open=(ends["close_time"] - MINUTE_NS + SECOND_NS).map(opens).astype(np.float64))


def _joined(parts: list[Minutes]) -> Minutes:
    return Minutes(*map(np.concatenate, zip(*parts, strict=True)))


def _rows(asked: Asked, decided: Decisions, values: Singles, context: Floats, minutes: Minutes) -> KnownRows:
    """Rows and bars on the minutes that have either; the other's half is unknown."""
    close_ns = np.union1d(decided.close_ns, minutes.close_ns)
    row, bar = np.searchsorted(close_ns, decided.close_ns), np.searchsorted(close_ns, minutes.close_ns)
    columns: dict[str, Any] = {name: np.full(len(close_ns), np.nan) for name in ("opens", "closes", "context")}
    columns["values"] = np.full((len(close_ns), values.shape[1]), np.nan, dtype=np.float32)
    columns["values"][row], columns["context"][row] = values, context
    columns["opens"][bar], columns["closes"][bar] = minutes.opens, minutes.closes
    content = hashlib.sha256(close_ns.tobytes())
    for name in sorted(columns):
        content.update(columns[name].tobytes())
    return KnownRows(asked.symbol, asked.source, close_ns=close_ns, content=content.hexdigest(), **columns)


def _none() -> Ints:
    return np.empty(0, dtype=np.int64)
