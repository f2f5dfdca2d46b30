"""Parity: online rows, lake rows and Feast's history against rows made again from raw, to the last bit.

    report = check(settings, "BTCUSDT", minutes=10, recompute=recompute)
    report.mismatches                                  # none, or the product is not what it says

One expected row for each second, four places to look for it: the lake's features zone, the online row and its
sequence in Redis, Feast's `get_historical_features` at instants spread over the window, Feast's online read.
Only null and equal bits are equal. The online store keeps the newest row alone, so it is sampled first and
compared when the lake's raw zone has caught up with it.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Protocol

import numpy as np
import structlog

from feature_repo.contracts import HOUR_NS, MINUTE_NS, SECOND_NS, FeatureRow
from feature_repo.features import FEATURE_NAMES, SEQUENCE_FEATURES
from feature_repo.history import RETIRED_NAMES, RETIRED_REASON
from feature_repo.lake_layout import unflatten
from feature_repo.lake_reader import Lake
from feature_repo.settings import Settings
from feature_repo.store import FeatureStore, OnlineRow
from feature_repo.topics import base, trades_topic
from feature_repo.views import ROW_VIEWS, as_text

EXAMPLES = 10
INSTANTS = 25
ATTEMPTS = 20
LOOK_BACK_NS = 27 * HOUR_NS
"""Raw records before the window that its rows may depend on: a day's windows, 64 minutes of them, and slack."""
PATIENCE_S = 60.0
"""How long the lake may take to hold what the online store has shown."""
COMPARED = (*FEATURE_NAMES, "price")
STATE = ("ts_init", "created", "source", "session", "provenance", "feature_set", "reasons")
_REFS = [f"{view.name}:{name}" for view in ROW_VIEWS for name in view.names]
log = structlog.get_logger()


class Expected(Protocol):
    """Rows made again from raw records."""

    @property
    def closes(self) -> Mapping[int, Any]: ...
    def rows(self, closes_ns: Sequence[int]) -> list[FeatureRow]: ...
    def sequence(self, close_ns: int) -> np.ndarray: ...


Recompute = Callable[[str, Iterable[Mapping[str, Any]]], Expected]


@dataclass(frozen=True)
class Mismatch:
    """One cell that differs. Floats as hex, so that the last bit is seen."""

    where: str
    feature: str
    second: str
    expected: str
    found: str


@dataclass
class Report:
    """What was compared and what differed. `rows` and `cells` count every place looked at."""

    symbol: str
    start: str = ""
    end: str = ""
    rows: int = 0
    cells: int = 0
    known: int = 0
    mismatches: int = 0
    revisions: int = 0
    """Lake rows of a later repair or filling in: the raw records do not hold them, so they are not judged here."""
    places: dict[str, int] = field(default_factory=dict)
    examples: list[Mismatch] = field(default_factory=list)

    @property
    def passed(self) -> bool:
        """Something was compared, and nothing differed."""
        return self.rows > 0 and self.mismatches == 0

    def as_dict(self) -> dict[str, Any]:
        return {
            "symbol": self.symbol, "start": self.start, "end": self.end, "rows": self.rows, "cells": self.cells,
            "non_null_share": round(self.known / self.cells, 4) if self.cells else None,
            "mismatches": self.mismatches, "places": self.places, "revisions_not_judged": self.revisions,
            "examples": [vars(example) for example in self.examples], "passed": self.passed,
        }

    def compare(self, where: str, second: int, expected: Mapping[str, Any], found: Mapping[str, Any]) -> None:
        """One row at one place, name by name."""
        self.rows += 1
        self.places[where] = self.places.get(where, 0) + 1
        for name, value in expected.items():
            if name in COMPARED or name.startswith("sequence"):
                self.cells += 1
                self.known += value is not None
            if _bits(value) != _bits(found.get(name)):
                self.differs(where, name, second, _bits(value), _bits(found.get(name)))

    def differs(self, where: str, feature: str, second: int, expected: str, found: str) -> None:
        self.mismatches += 1
        if len(self.examples) < EXAMPLES:
            self.examples.append(Mismatch(where, feature, _time(second), expected, found))


def check(
    settings: Settings, symbol: str, *, minutes: int, recompute: Recompute, watch_s: float = 0.0,
    sleep: Callable[[float], None] = time.sleep,
) -> Report:
    """Compare the newest `minutes` of the lake, and the online rows of the next `watch_s` seconds (at least one)."""
    store, lake = FeatureStore.open(settings), Lake.open(settings.lake, settings.s3_endpoint)
    samples = sample(store, symbol, watch_s, sleep)
    end = _wait_for_lake(lake, symbol, max(samples), sleep)
    report = Report(symbol)
    if end is None:
        report.differs("lake", "row", 0, "feature rows", "none")
        return report
    expected = _recompute(recompute, lake, symbol, minutes, max(samples), sleep)
    start = end - minutes * MINUTE_NS
    window = sorted(close for close in expected.closes if start < close <= end)
    held = lake_rows(lake, symbol, start + 1, max(window, default=end))
    written = {row.ts_event: row for row in held}
    rows = {
        close: as_written(row, written.get(close)) for close, row in zip(window, expected.rows(window), strict=True)
    }
    check_lake(report, held, rows)
    check_online(report, expected, samples)
    check_feast_online(report, store, symbol)
    check_history(report, store, symbol, rows)
    if window:
        report.start, report.end = _time(window[0]), _time(window[-1])
    return report


def sample(
    store: FeatureStore, symbol: str, watch_s: float, sleep: Callable[[float], None],
) -> dict[int, OnlineRow | None]:
    """Online rows by close: one now, then one a second. Null under 0 when the online store has no row."""
    found: dict[int, OnlineRow | None] = {}
    for n in range(int(watch_s) + 1):
        if n:
            sleep(1.0)
        row = store.read(symbol)
        found[row.row.ts_event if row else 0] = row
    return found


def lake_rows(lake: Lake, symbol: str, start_ns: int, end_ns: int) -> list[FeatureRow]:
    """The feature rows the lake holds with a close in [start, end]: one that is there twice is here twice."""
    records = lake.read("features", symbol, start_ns, end_ns).to_pylist()
    found = (unflatten("features", record) for record in records)
    return [row for row in found if isinstance(row, FeatureRow)]


def as_written(expected: FeatureRow, found: FeatureRow | None) -> FeatureRow:
    """`expected` less the retired features that the stream had ceased to write, which raw records do not tell."""
    unread = _unread(found) if found else ()
    if not unread:
        return expected
    values = {**expected.values, **dict.fromkeys(unread)}
    return expected.model_copy(
        update={"values": values, "reasons": {**expected.reasons, **dict.fromkeys(unread, RETIRED_REASON)}},
    )


def _unread(row: FeatureRow) -> tuple[str, ...]:
    return tuple(name for name in RETIRED_NAMES if row.reasons.get(name) == RETIRED_REASON)


def check_lake(report: Report, found: Iterable[FeatureRow], rows: Mapping[int, FeatureRow]) -> None:
    """Each expected row is among those found in the lake once, and there is no other."""
    held: dict[int, FeatureRow] = {}
    for row in found:
        # What was filled in later the raw records do not tell either.
        if row.provenance == "reconcile" or (row.provenance == "backfill" and row.ts_event not in rows):
            report.revisions += 1
        elif row.ts_event in held:
            report.differs("lake", "row", row.ts_event, "one row", "two of different created")
        else:
            held[row.ts_event] = row
    for close in sorted(rows.keys() | held.keys()):
        if close not in held or close not in rows:
            report.differs("lake", "row", close, _presence(close in rows), _presence(close in held))
        else:
            report.compare("lake", close, _cells(rows[close]), _cells(held[close]))


def check_online(report: Report, expected: Expected, samples: Mapping[int, OnlineRow | None]) -> None:
    """Each sampled online row, its state and its sequence."""
    for close, online in samples.items():
        if online is None:
            report.differs("online", "row", close, "a row", "none")
        elif close not in expected.closes:
            report.differs("online", "row", close, "no row", "a row")
        else:
            row = as_written(expected.rows([close])[0], online.row)
            report.compare("online", close, _cells(row), _cells(online.row))
            found = {} if online.sequence is None else _sequence_cells(online.sequence)
            sequence = expected.sequence(close).copy()
            sequence[:, [name in _unread(online.row) for name in SEQUENCE_FEATURES]] = np.nan
            report.compare("online sequence", close, _sequence_cells(sequence), found)


def check_feast_online(report: Report, store: FeatureStore, symbol: str) -> None:
    """Feast's online read beside ours; the row may move between the two, so a moved one is read again."""
    at_ns = 0
    at_its_time = store.with_clock(lambda: at_ns)
    for _ in range(ATTEMPTS):
        ours = store.read(symbol)
        at_ns = ours.row.ts_event if ours else 0
        theirs = at_its_time.online([symbol], _REFS)
        if ours and store.version(symbol) == (ours.row.ts_event, ours.row.created):
            found = {name: values[0] for name, values in theirs.items()}
            report.compare("feast online", ours.row.ts_event, _cells(ours.row), found)
            return
    report.differs("feast online", "row", 0, "a row that stands still", "none")


def check_history(report: Report, store: FeatureStore, symbol: str, rows: Mapping[int, FeatureRow]) -> None:
    """Feast's history at the decision times of rows spread over the window."""
    import pandas as pd

    # What is known at one row's created may be another row: the rule is applied here a second time, by hand.
    times = [row.created for row in list(rows.values())[:: max(1, len(rows) // INSTANTS)]]
    if not times:
        return
    entities = pd.DataFrame({"symbol": symbol, "event_timestamp": pd.to_datetime(times, utc=True)})
    history = store.history(entities, _REFS).to_dict("records")
    for at, found in zip(times, history, strict=True):
        known = max((row for row in rows.values() if row.created <= at), key=lambda row: (row.ts_event, row.created))
        cells = {str(name): value for name, value in found.items()}
        report.compare("feast history", known.ts_event, _cells(known), cells)


def _recompute(
    recompute: Recompute, lake: Lake, symbol: str, minutes: int, close: int, sleep: Callable[[float], None],
) -> Expected:
    """Rows from raw, read again while the newest sample's records are not there yet: zones are written one by one."""
    expected = recompute(symbol, _raw(lake, symbol, minutes))
    for _ in range(ATTEMPTS):
        if not close or close in expected.closes:
            break
        sleep(1.0)
        expected = recompute(symbol, _raw(lake, symbol, minutes))
    return expected


def _raw(lake: Lake, symbol: str, minutes: int) -> list[dict[str, Any]]:
    """The trades topic's records, by the broker's time: event time may be a recording's."""
    newest = next(lake.hours("raw", base(symbol)), 0)
    start = newest - LOOK_BACK_NS - minutes * MINUTE_NS
    records: list[dict[str, Any]] = lake.read_raw(
        base(symbol), trades_topic(symbol), max(start, 0), newest + HOUR_NS - 1,
    ).to_pylist()
    return records


def _wait_for_lake(lake: Lake, symbol: str, close: int, sleep: Callable[[float], None]) -> int | None:
    """Newest close in the lake, once it has reached what the online store has shown."""
    for _ in range(int(PATIENCE_S)):
        newest = lake.newest("features", symbol)
        if (newest or 0) >= close:
            return newest
        sleep(1.0)
    log.warning("lake behind the online store", symbol=symbol, second=_time(close), waited_s=PATIENCE_S)
    return lake.newest("features", symbol)


def _cells(row: FeatureRow) -> dict[str, Any]:
    """A row as cells, as the columns of lake and Redis hold them."""
    state = {name: getattr(row, name) for name in STATE}
    return {**row.values, "price": row.price, **state, "reasons": as_text(row.reasons)}


def _sequence_cells(sequence: np.ndarray) -> dict[str, float | None]:
    flat = np.asarray(sequence, dtype=np.float64).ravel().tolist()
    return {f"sequence[{i}]": None if value != value else value for i, value in enumerate(flat)}  # noqa: PLR0124


def _bits(value: Any) -> str:
    """A cell as text that differs when a bit does; NaN, which pandas makes of null, is null."""
    if value is None or (isinstance(value, float) and value != value):  # noqa: PLR0124
        return "null"
    return value.hex() if isinstance(value, float) else repr(value)


def _presence(present: bool) -> str:
    return "a row" if present else "no row"


def _time(at_ns: int) -> str:
    return datetime.fromtimestamp(at_ns // SECOND_NS, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
