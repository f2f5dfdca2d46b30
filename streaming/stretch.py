"""Stretch: what travelled through Kafka in a span of market time, read again from the lake.

    stretch = Stretch(start_ns, end_ns, ("BTCUSDT",))
    before = warm_up(lake, "BTCUSDT", start_ns)      # the bars known before it
    records = raw_records(lake, stretch)             # then its records, in the order in which they came

A stretch is the seconds that close in (start, end]. A record belongs to it by what its message says: broker's times are
another clock when a recording was streamed in its own time. What nobody can decode belongs to it when it lies between
two records that do.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, NamedTuple

import pyarrow as pa

from feature_repo import topics
from feature_repo.contracts import (
    HOUR_NS,
    MINUTE_NS,
    SECOND_NS,
    Bar,
    InvalidMessage,
    Message,
    OrderBook,
    Trade,
    UnknownSchema,
)
from feature_repo.lake_layout import unflatten
from feature_repo.lake_reader import Lake
from streaming.backfill import HISTORY_MINUTES

RECORD_LAG_NS = 2 * HOUR_NS
"""A raw file lies in the hour of its first record, which is later than the event by the venue's delay at most."""


class Record(NamedTuple):
    """One Kafka record under its topic's plain name; the time is the one it is to keep."""

    topic: str
    key: str | None
    schema: str | None
    value: bytes
    timestamp_ms: int


@dataclass(frozen=True)
class Stretch:
    """The seconds of `symbols` that close in (start, end], ns UTC, both whole seconds."""

    start_ns: int
    end_ns: int
    symbols: tuple[str, ...]

    def __post_init__(self) -> None:
        if self.start_ns % SECOND_NS or self.end_ns % SECOND_NS or not 0 <= self.start_ns < self.end_ns:
            raise ValueError(
                f"stretch: expected whole seconds, `from` before `to`; found {self.start_ns} and {self.end_ns} ns"
            )

    def holds(self, message: Message) -> bool:
        """Whether a message is of these seconds: seals and bars by their close, trades and books by their moment."""
        at: int = message.ts_event  # type: ignore[attr-defined]
        if isinstance(message, Trade | OrderBook):
            return self.start_ns <= at < self.end_ns
        return self.start_ns < at <= self.end_ns


def moment(text: str) -> int:
    """A time as people write it, ns: ISO 8601 (UTC unless it says otherwise) or integer nanoseconds.

    >>> moment("2024-08-08T23:58:30Z") == moment("2024-08-08 23:58:30") == moment("1723161510000000000")
    True
    """
    if text.isdecimal() and len(text) > 8:
        return int(text)
    try:
        at = datetime.fromisoformat(text)
    except ValueError as error:
        raise ValueError(f"expected a time such as 2024-08-08T23:58:30Z, found {text!r}") from error
    at = at if at.tzinfo else at.replace(tzinfo=UTC)
    return int(at.replace(microsecond=0).timestamp()) * SECOND_NS + at.microsecond * 1_000


def raw_records(lake: Lake, stretch: Stretch) -> Iterator[Record]:
    """The raw zone's records of a stretch, merged by the broker's time; a symbol's stay in their order."""
    names = {name for s in stretch.symbols for name in (topics.trades_topic(s), topics.order_book_topic(s))}
    parts = [within(stretch, topic_records(lake, stretch, name)) for name in sorted(names)]
    return heapq.merge(*parts, key=lambda record: record.timestamp_ms)


def within(stretch: Stretch, records: Iterable[Record]) -> Iterator[Record]:
    """The records of a stretch, of one topic, in order."""
    between: list[Record] = []
    begun = False
    for record in records:
        if record.key is not None and record.key not in stretch.symbols:
            continue
        try:
            message = topics.decode(record.value, record.schema)
        except (InvalidMessage, UnknownSchema):
            between += [record] if begun else []
            continue
        if stretch.holds(message):
            yield from between
            yield record
            between, begun = [], True


def warm_up(lake: Lake, symbol: str, start_ns: int) -> list[Bar]:
    """The bars that the stream knew before a stretch, each as it was known first: minutes, then seconds.

    The same order as ingest's at its first start, and as long a time: no window reaches further back.
    """
    rows = lake.read("clean", symbol, start_ns - HISTORY_MINUTES * MINUTE_NS, start_ns).to_pylist()
    first: dict[tuple[int, int], dict[str, Any]] = {}
    for row in rows:  # of one close, those known earlier come first
        if row["provenance"] != "reconcile":
            first.setdefault((-row["interval_s"], row["close_time"]), row)
    return [unflatten("clean", first[at]) for at in sorted(first)]  # type: ignore[misc]


def topic_records(lake: Lake, stretch: Stretch, topic: str, *, anywhere: bool = True) -> Iterator[Record]:
    """A topic's records of the hours around a stretch, by the broker's time; more than the stretch holds.

    `anywhere`: where there are no such hours, those of all hours.
    """
    base = topics.topic_base(topic)
    hours = sorted(lake.hours("raw", base))
    near = [hour for hour in hours if stretch.start_ns - RECORD_LAG_NS < hour < stretch.end_ns + RECORD_LAG_NS]
    # A recording that was streamed in its own time lies in the hours in which that was done.
    for hour in near or (hours if anywhere else []):
        found = lake.read_raw(base, topic, hour, hour)
        found = found.sort_by([(name, "ascending") for name in ("kafka_timestamp", "partition", "offset")])
        times_ms = (found["kafka_timestamp"].cast(pa.int64()).to_numpy() // 1_000).tolist()
        columns = (found[name].to_pylist() for name in ("key", "schema", "value"))
        for key, schema, value, at_ms in zip(*columns, times_ms, strict=True):
            yield Record(topic, key, schema, value or b"", at_ms)
