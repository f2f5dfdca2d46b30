"""Check: one symbol's newest minutes in every place that holds them, against rows made again from raw, to the last bit.

    report = check(settings, "BTCUSDT", minutes=60, watch_s=5)
    certifier = Certifier.open(settings, "BTCUSDT", room_s=900)      # the same for a job that goes on

One expected row for each second, as it was known at its `created`, and the places to look for it: the lake's features
zone, the online row, its sequence and its mirror keys in Redis, the inputs that logged predictions name, the slow rows
of lake and Redis, Feast's `get_historical_features` at instants spread over the window, Feast's online read. The online
store keeps the newest row alone, so it is sampled first and compared when the lake's raw zone has caught up with it.
Each row is judged as the code of the feature set that it names wrote it (`written`).
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import structlog

from feature_repo.contracts import MINUTE_NS, SECOND_NS, FeatureRow, InvalidMessage, Message, Prediction
from feature_repo.feature_sets import Sets
from feature_repo.lake_layout import Zone, identity, unflatten
from feature_repo.lake_reader import Lake
from feature_repo.models import Model, models
from feature_repo.settings import Settings
from feature_repo.store import FeatureStore, OnlineRow
from feature_repo.unreadable import BROKEN, UnreadableRow, blame
from feature_repo.views import ROW_VIEWS, as_text
from monitoring.parity.context import ContextChecker, keeps_closes
from monitoring.parity.mirrors import check_mirrors
from monitoring.parity.predictions import PLACE as PREDICTIONS
from monitoring.parity.predictions import Judged, check_predictions
from monitoring.parity.raw import RawTail, events, look_back_s, read_span
from monitoring.parity.report import PREDICTION, ROW, Report, Unreadable, foreign, is_slow, time_text
from monitoring.parity.revised import check_revised
from monitoring.parity.sampled import Samples, Sleep, sample
from monitoring.parity.slow import SlowChecker
from monitoring.parity.written import as_served, as_stored, as_written, beyond
from streaming.recompute import Recomputation, Running

INSTANTS = 25
ATTEMPTS = 20
PATIENCE_S = 60.0
"""How long the lake may take to hold what the online store has shown."""
SLACK_S = 600
"""How much further than the window raw may be by the time that it is read."""
SHOWN = 5
"""Features whose worst mismatch is shown with its raw events."""
STATE = ("ts_init", "created", "source", "session", "provenance", "feature_set", "reasons")
_ROW_OF: Mapping[str, str] = {"features": ROW, "predictions": f"{PREDICTION}.row"}
_REFS = [f"{view.name}:{name}" for view in ROW_VIEWS for name in view.names]
OF_BEFORE = "online, of before"
"""An online row that was left behind too long ago to be made again: how old rows are is watched elsewhere."""
log = structlog.get_logger()


def check(
    settings: Settings, symbol: str, *, minutes: int, watch_s: float = 0.0, sleep: Sleep = time.sleep,
) -> Report:
    """Compare the newest `minutes` of the lake, and the online rows of the next `watch_s` seconds (at least one)."""
    certifier = Certifier.open(settings, symbol, minutes * 60)
    samples = sample(certifier.store, symbol, watch_s, sleep)
    end = certifier.await_lake(samples.newest, sleep)
    if end is None:
        report = Report(symbol)
        report.differs("lake", ROW, 0, "feature rows", "none")
        return report
    certifier.catch_up(samples.newest, sleep)
    report, rows = certifier.certify(end - minutes * MINUTE_NS, end, samples, sleep)
    check_feast_online(report, certifier.store, symbol)
    check_history(report, certifier.store, symbol, rows)
    return report


@dataclass
class Certifier:
    """What certificates of one symbol need; holds a few megabytes between them, and reads each raw record once."""

    settings: Settings
    symbol: str
    store: FeatureStore
    lake: Lake
    expected: Running
    """Rows made again from raw."""
    tail: RawTail
    slow: SlowChecker
    context: ContextChecker
    _held: dict[str, Model] = field(default_factory=dict)
    """Version → model, of those that the next window may name."""

    @classmethod
    def open(cls, settings: Settings, symbol: str, room_s: int) -> Certifier:
        """For windows of up to `room_s` seconds. Raises `StoreUnavailable`."""
        lake = Lake.open(settings.lake, settings.s3_endpoint)
        tail = RawTail.behind(lake, symbol, (look_back_s() + room_s) * SECOND_NS)
        return cls(
            settings, symbol, FeatureStore.open(settings), lake, Running(symbol, room_s + SLACK_S), tail,
            SlowChecker(lake, symbol, settings.data_dir), ContextChecker(lake, symbol, keeps_closes(settings)),
        )

    def await_lake(self, close: int, sleep: Sleep) -> int | None:
        """Newest close in the lake, once it has reached what the online store has shown; null when it has none."""
        newest = self.lake.newest("features", self.symbol)
        for _ in range(int(PATIENCE_S)):
            if (newest or 0) >= close:
                return newest
            sleep(1.0)
            newest = self.lake.newest("features", self.symbol)
        log.warning("lake behind the online store", symbol=self.symbol, second=time_text(close), waited_s=PATIENCE_S)
        return newest

    def catch_up(self, close: int, sleep: Sleep) -> None:
        """Take what raw holds, again while it does not reach `close` yet: zones are written one by one."""
        for attempt in range(ATTEMPTS + 1):
            if attempt:
                sleep(1.0)
            for records in self.tail.fresh():
                self.expected.take(records)
            if close <= max(self.expected.closes, default=0):
                return  # what is not there by now never comes: an older row, or one of a second that raw lacks

    def certify(
        self, start: int, end: int, samples: Samples, sleep: Sleep,
    ) -> tuple[Report, dict[int, FeatureRow]]:
        """The closes in (start, end], ns, in lake and predictions, and what was sampled online. Also the rows expected.

        Raises `StoreUnavailable`.
        """
        report, expected, sets = Report(self.symbol), self.expected, Sets.open(self.lake)
        window = sorted(close for close in expected.closes if start < close <= end)
        found = [row for row in readable(report, "lake", self.lake, "features", (start + 1, end))
                 if isinstance(row, FeatureRow)]
        for (what, feature), at_ns in samples.unreadable.items():
            report.cannot_read(what, feature, at_ns)
        written = {row.ts_event: row for row in found if row.provenance != "reconcile"}
        made = {
            close: as_written(row, written.get(close), sets)
            for close, row in zip(window, expected.rows(window), strict=True)
        }
        rows = {close: row for close, row in made.items() if row is not None}
        check_known(report, expected, window)
        check_lake(report, found, rows, sets)
        check_online(report, expected, samples.rows, sets)
        check_mirrors(report, expected, samples.mirrors)
        logged = self._logged(report, start, end)
        held = self._models(logged)
        others = {close: written[close].feature_set for close in window if close not in rows}
        served = {close: as_served(row, sets) for close, row in rows.items()}
        check_predictions(report, expected, logged, Judged(served, others, held, sets))
        revised = [row for row in found if row.provenance == "reconcile"]
        check_revised(report, self.lake, (start, end), rows, revised, sets)
        # Backfilled minutes have rows too, of before the symbol was followed.
        followed_ns = next((close for close in window if expected.closes[close].provenance == "live"), None)
        self.slow.check(report, (start, end), followed_ns, samples.slow, sleep)
        self.context.check(report, (start, end), samples.context)
        self._show_raw(report, (start, end))
        report.start, report.end = (time_text(window[0]), time_text(window[-1])) if window else ("", "")
        return report, rows

    def _logged(self, report: Report, start: int, end: int) -> list[Prediction]:
        logged = readable(report, PREDICTIONS, self.lake, "predictions", (start + 1, end))
        return [made for made in logged if isinstance(made, Prediction)]

    def _models(self, logged: Iterable[Prediction]) -> dict[str, Model]:
        """Version → model, of the deployment's now and those that it had at the certificate before.

        One that is gone is kept while a window names it, and once more: whoever served it may log a last forecast
        after it was removed, in this window or in the next.
        """
        now = {model.version: model for model in models(self.settings)}
        held = self._held | now
        named = {made.model_version for made in logged}
        self._held = {version: model for version, model in held.items() if version in now or version in named}
        return held

    def _show_raw(self, report: Report, window: tuple[int, int]) -> None:
        """The raw events behind the worst mismatches; a slow row's observations are there already."""
        for tally in report.worst()[:SHOWN]:
            # Of a second that raw does not reach all of it would be read, and nothing found.
            is_near = window[0] < tally.close_ns <= window[1] or tally.close_ns in self.expected.closes
            if tally.worst is not None and is_near and tally.raw is None and not is_slow(tally.worst.feature):
                tally.raw = events(self.lake, self.symbol, *read_span(tally.worst.feature, tally.close_ns))


def readable(report: Report, where: str, lake: Lake, zone: Zone, span: tuple[int, int]) -> list[Message]:
    """The report's symbol's rows of a zone with `ts_event` in the span [start, end]; those that are none are named.

    Raises `StoreUnavailable`.
    """
    found: list[Message] = []
    for record in lake.read(zone, report.symbol, *span).to_pylist():
        try:
            found.append(unflatten(zone, record))
        except BROKEN as error:
            key = f"{zone} " + " ".join(f"{name}={record[name]}" for name in identity(zone))
            torn = blame(key, (), error)
            report.cannot_read(Unreadable(where, key, torn.name, torn.expected, torn.found), _ROW_OF[zone],
                               record["ts_event"])
    return found


def lake_rows(lake: Lake, symbol: str, start_ns: int, end_ns: int) -> list[FeatureRow]:
    """The feature rows the lake holds with a close in [start, end]: one that is there twice is here twice."""
    records = lake.read("features", symbol, start_ns, end_ns).to_pylist()
    found = (unflatten("features", record) for record in records)
    return [row for row in found if isinstance(row, FeatureRow)]


def check_known(report: Report, expected: Recomputation, window: Iterable[int]) -> None:
    """No row is made of a bar that became known after it did."""
    for close in window:
        if close in expected.known_later:
            bar, known = expected.closes[close], expected.known_later[close]
            report.differs("raw", "created", close, f"at least {known}, of its newest bar", str(bar.created))


def check_lake(
    report: Report, found: Iterable[FeatureRow], rows: Mapping[int, FeatureRow], sets: Sets | None = None,
) -> None:
    """Each expected row is among those found in the lake once, and there is no other; revisions are judged apart.

    `sets`: what this code can judge, by default its own set; rows of another are counted and left.
    """
    sets = sets or Sets.here()
    held: dict[int, FeatureRow] = {}
    for row in found:
        if row.provenance == "reconcile":
            continue
        if not sets.of(row.feature_set):
            report.leave("lake", foreign(row.feature_set))
        elif row.provenance == "backfill" and row.ts_event not in rows:
            report.revised.filled_in += 1
        elif row.ts_event in held:
            report.differs("lake", ROW, row.ts_event, "one row", "two of different created")
        else:
            held[row.ts_event] = row
    for close in sorted(rows.keys() | held.keys()):
        if close not in held or close not in rows:
            report.differs("lake", ROW, close, _presence(close in rows), _presence(close in held))
        else:
            report.under(held[close].feature_set, "rows")
            wanted = {**beyond(held[close], rows[close].values), **_cells(rows[close])}
            report.compare("lake", close, wanted, _cells(held[close]))


def check_online(
    report: Report, expected: Recomputation, samples: Mapping[int, OnlineRow | None], sets: Sets | None = None,
) -> None:
    """Each sampled online row, its state and its sequence. `sets` as in `check_lake`."""
    sets = sets or Sets.here()
    for close, online in samples.items():
        if online is None:
            report.differs("online", ROW, close, "a row", "none")
        elif expected.closes and close < min(expected.closes):
            report.leave(OF_BEFORE, "raw of its second is held no longer")
        elif close not in expected.closes:
            report.differs("online", ROW, close, "no row", "a row")
        elif (row := as_written(expected.rows([close])[0], online.row, sets)) is None:
            report.leave("online", foreign(online.row.feature_set))
        else:
            report.under(row.feature_set, "rows")
            report.compare("online", close, _cells(row), _cells(online.row))
            found = {} if online.sequence is None else _sequence_cells(online.sequence)
            sequence = as_stored(expected.sequence(close), row)
            report.compare("online sequence", close, _sequence_cells(sequence), found)


def check_feast_online(report: Report, store: FeatureStore, symbol: str) -> None:
    """Feast's online read beside ours; the row may move between the two, so a moved one is read again."""
    at_ns = 0
    at_its_time = store.with_clock(lambda: at_ns)
    for _ in range(ATTEMPTS):
        try:
            ours = store.read(symbol)
        except UnreadableRow as error:
            report.differs("feast online", ROW, 0, f"{error.name}: {error.expected}", error.found)
            return
        except InvalidMessage as error:  # a key of another type
            report.differs("feast online", ROW, 0, "a row", str(error))
            return
        at_ns = ours.row.ts_event if ours else 0
        theirs = at_its_time.online([symbol], _REFS)
        if ours and store.version(symbol) == (ours.row.ts_event, ours.row.created):
            found = {name: values[0] for name, values in theirs.items()}
            report.compare("feast online", ours.row.ts_event, _cells(ours.row), found)
            return
    report.differs("feast online", ROW, 0, "a row that stands still", "none")


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


def _cells(row: FeatureRow) -> dict[str, Any]:
    """A row as cells, as the columns of lake and Redis hold them."""
    state = {name: getattr(row, name) for name in STATE}
    return {**row.values, "price": row.price, **state, "reasons": as_text(row.reasons)}


def _sequence_cells(sequence: np.ndarray) -> dict[str, float | None]:
    flat = np.asarray(sequence, dtype=np.float64).ravel().tolist()
    return {f"sequence[{i}]": None if value != value else value for i, value in enumerate(flat)}  # noqa: PLR0124


def _presence(present: bool) -> str:
    return "a row" if present else "no row"
