"""Raw: the records of a symbol's trades topic in the lake, each taken once, and those behind one value.

    tail = RawTail.behind(lake, "BTCUSDT", (look_back_s() + 600) * SECOND_NS)
    for records in tail.fresh():                    # then what has come since, whenever it is called again
        running.take(records)
    events(lake, "BTCUSDT", start_ns, end_ns)       # trade ids, seals and offsets of some seconds
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa

from feature_repo import topics
from feature_repo.contracts import (
    HOUR_NS,
    MINUTE_NS,
    SECOND_NS,
    Bar,
    InvalidMessage,
    SecondClosed,
    Trade,
    UnknownSchema,
)
from feature_repo.features import DECLARED, SEQUENCE_FEATURES, SEQUENCE_LENGTH
from feature_repo.history import MIRROR_WINDOWS
from feature_repo.lake_reader import Lake
from monitoring.parity.report import MIRROR, time_text
from streaming.bars import Tick, tick_of
from streaming.stretch import RECORD_LAG_NS
from streaming.ticks import TRADE, read_ticks

NEWEST_SECONDS = 10
"""Seconds behind a value whose events are named one by one; of those before them the sums are told."""
MOST_IDS = 40
"""Trade ids of a second that are written out."""
AT_ONCE = 10_000
"""Records that are Python objects at one time."""
SLACK_S = 600
_UNIT_S = {"second": 1, "sixty": 60, "minute": 60}
_FEATURES = {feature.name: feature for feature in DECLARED}


@dataclass
class RawTail:
    """Where a reader of the raw zone stands: it gives each record once, in offset order."""

    lake: Lake
    symbol: str
    hour_ns: int
    """Start of the hour to go on from, by the broker's time: event time may be a recording's."""
    taken: dict[int, int] = field(default_factory=dict)
    """Partition → the last offset given."""

    @classmethod
    def behind(cls, lake: Lake, symbol: str, look_back_ns: int) -> RawTail:
        """From so long before the newest hour of the zone."""
        newest = next(lake.hours("raw", topics.base(symbol)), 0)
        return cls(lake, symbol, max(newest - look_back_ns, 0) // HOUR_NS * HOUR_NS)

    def fresh(self) -> Iterator[list[Mapping[str, Any]]]:
        """The records that have come since, `schema` and `value`, some thousand at a time.

        They count as given when the next are asked for. Raises `StoreUnavailable`, and nothing is lost by it.
        """
        # Listed once: when an hour is there, all that goes into the hours before it was written before.
        hours = sorted(hour for hour in self.lake.hours("raw", topics.base(self.symbol)) if hour >= self.hour_ns)
        for hour in hours:
            found = _hour(self.lake, self.symbol, hour)
            news = pa.array(self._are_new(found["partition"].to_numpy(), found["offset"].to_numpy()))
            yield from self._given(found.select(["partition", "offset", "schema", "value"]).filter(news))
            self.hour_ns = hour

    def _are_new(self, partitions: np.ndarray, offsets: np.ndarray) -> np.ndarray:
        new = np.ones(len(offsets), dtype=bool)
        for partition, last in self.taken.items():
            new &= (partitions != partition) | (offsets > last)
        return new

    def _given(self, records: pa.Table) -> Iterator[list[Mapping[str, Any]]]:
        """In parts: an hour of trades as Python objects is a hundred megabytes that are not given back."""
        for start in range(0, len(records), AT_ONCE):
            part = records.slice(start, AT_ONCE)
            yield part.select(["schema", "value"]).to_pylist()
            self.taken |= dict(zip(part["partition"].to_pylist(), part["offset"].to_pylist(), strict=True))


def reach_s(feature: str) -> int:
    """Seconds before a row's close that a feature reads, by its own declaration; whole clock minutes begin earlier.

    >>> reach_s("spread_1s"), reach_s("return_1m"), reach_s("price")
    (1, 120, 1)
    """
    declared = _FEATURES.get(feature)
    needs = declared.needs if declared else ()
    return max((_UNIT_S[need.grid] * (need.length + need.lag + (need.grid == "minute")) for need in needs), default=1)


def look_back_s() -> int:
    """Seconds before a close that its row and its sequence may depend on, by the features' own declarations.

    The oldest line of the sequence is that of a minute 63 whole minutes back; a silent second carries the price of a
    trade before it, and a market that was away is late with its first minutes: hence the slack.

    >>> 86_400 < look_back_s() < 26 * 3_600
    True
    """
    # A sum since midnight declares the second that it needs, and reads its window.
    longest = max(max(reach_s(feature.name), feature.window_s) for feature in DECLARED if feature.needs)
    return longest + SEQUENCE_LENGTH * 60 + SLACK_S


def read_span(feature: str, close_ns: int) -> tuple[int, int]:
    """Start and end, ns, of the time whose events a cell is made of; one of the sequence belongs to its own minute.

    >>> read_span("mirror.5m.vwap", 900 * SECOND_NS)[0] // SECOND_NS
    600
    """
    if feature.startswith(f"{MIRROR}."):
        return close_ns - MIRROR_WINDOWS.get(feature.split(".")[1], 1) * SECOND_NS, close_ns
    if not feature.startswith("sequence["):
        return close_ns - reach_s(feature) * SECOND_NS, close_ns
    line, column = divmod(int(feature[len("sequence[") : -1]), len(SEQUENCE_FEATURES))
    last = (close_ns - 1) // MINUTE_NS * MINUTE_NS
    close = close_ns if line == SEQUENCE_LENGTH - 1 else last - (SEQUENCE_LENGTH - 2 - line) * MINUTE_NS
    return close - reach_s(SEQUENCE_FEATURES[column]) * SECOND_NS, close


def events(lake: Lake, symbol: str, start_ns: int, end_ns: int) -> dict[str, Any]:
    """What the raw zone holds of the seconds that close in (start, end]: sums, and the newest seconds one by one."""
    seconds: defaultdict[int, _Second] = defaultdict(_Second)
    bars = 0
    for hour in _hours(lake, symbol, start_ns, end_ns):
        for offset, partition, read in _messages(_hour(lake, symbol, hour), symbol):
            close = read.ts_event // SECOND_NS * SECOND_NS + SECOND_NS if isinstance(read, Tick) else read.ts_event
            if start_ns < close <= end_ns:
                if isinstance(read, Bar):
                    bars += 1
                else:
                    seconds[close].add(read, partition, offset)
    newest = sorted(seconds)[-NEWEST_SECONDS:]
    offsets = sorted({offset for second in seconds.values() for offset in second.offsets})
    return {
        "topic": topics.trades_topic(symbol), "after": time_text(start_ns), "to": time_text(end_ns),
        "seconds": len(seconds), "trades": sum(len(second.trades) for second in seconds.values()),
        "late_trades": sum(second.late for second in seconds.values()), "history_bars": bars,
        "first_offset": offsets[0] if offsets else None, "last_offset": offsets[-1] if offsets else None,
        "newest": [seconds[close].as_dict(close) for close in newest], "seconds_left_out": len(seconds) - len(newest),
    }


@dataclass
class _Second:
    """What raw holds of one second."""

    trades: dict[int, bool] = field(default_factory=dict)
    """Trade id → whether it came late; one that was sent twice is here once, its offsets both."""
    offsets: list[int] = field(default_factory=list)
    seal: dict[str, int] | None = None

    def add(self, read: Tick | SecondClosed, partition: int, offset: int) -> None:
        self.offsets.append(offset)
        if isinstance(read, Tick):
            self.trades.setdefault(read.trade_id, read.late)
        elif self.seal is None:  # the first seal wins
            self.seal = {"partition": partition, "offset": offset, "trades": read.n_trades, "ts_init": read.ts_init}

    @property
    def late(self) -> int:
        return sum(self.trades.values())

    def as_dict(self, close_ns: int) -> dict[str, Any]:
        ids = sorted(self.trades)
        return {
            "second": time_text(close_ns), "seal": self.seal, "trades": len(ids), "late": self.late,
            "trade_ids": ids[:MOST_IDS], "trade_ids_left_out": len(ids[MOST_IDS:]),
            "first_offset": min(self.offsets), "last_offset": max(self.offsets),
        }


def _hour(lake: Lake, symbol: str, hour_ns: int) -> pa.Table:
    return lake.read_raw(topics.base(symbol), topics.trades_topic(symbol), hour_ns, hour_ns)


def _hours(lake: Lake, symbol: str, start_ns: int, end_ns: int) -> list[int]:
    hours = sorted(lake.hours("raw", topics.base(symbol)))
    near = [hour for hour in hours if start_ns - RECORD_LAG_NS < hour < end_ns + RECORD_LAG_NS]
    return near or hours  # a recording streamed in its own time lies in the hours in which that was done


def _messages(records: pa.Table, symbol: str) -> Iterator[tuple[int, int, Tick | SecondClosed | Bar]]:
    """Offset, partition and content of the symbol's trades, seals and bars; what nobody can read is left out."""
    columns = [records[name].to_pylist() for name in ("offset", "partition", "schema", "value")]
    is_trade = np.array([schema == TRADE for schema in columns[2]], dtype=bool)
    ticks = iter(read_ticks([columns[3][at] or b"" for at in np.flatnonzero(is_trade)], symbol))
    for offset, partition, schema, value in zip(*columns, strict=True):
        tick = next(ticks) if schema == TRADE else None
        read = tick or _strictly(value or b"", schema, symbol)
        if read is not None:
            yield offset, partition, read


def _strictly(body: bytes, schema: str | None, symbol: str) -> Tick | SecondClosed | Bar | None:
    try:
        message = topics.decode(body, schema)
    except (InvalidMessage, UnknownSchema):
        return None
    if getattr(message, "symbol", None) != symbol:
        return None
    if isinstance(message, Trade):
        return tick_of(message)
    return message if isinstance(message, SecondClosed | Bar) else None
