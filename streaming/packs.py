"""Packs: ranges of Kafka's offsets as packs of records, which travel through Spark as one value each.

    for span, records in read_spans("127.0.0.1:19092", [Span("crypto.btc.trades", 0, 0, 500)]):
        packs = pack(records)                               # key → its records, as Arrow's bytes
    events = unpack([("crypto.btc.trades", *packs["BTCUSDT"])])      # by offset

librdkafka reads in threads of its own and hands over thousands of records a call.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import repeat
from operator import itemgetter
from typing import Any, NamedTuple

import pyarrow as pa

from feature_repo.contracts import StoreUnavailable
from feature_repo.topics import SCHEMA_HEADER
from streaming.symbol_stream import Event

ANSWER_WITHIN_S = 30.0
"""How long the broker may take over an answer."""
_MOST_AT_ONCE = 10_000
_FETCH_BYTES = 8 * 1024 * 1024
_ROUND_S = 0.05
"""A range with holes has fewer records than offsets: nobody waits longer than this for those that are not there."""
_PACK = pa.schema([
    ("offset", pa.int64()), ("timestamp_ms", pa.int64()), ("schema", pa.string()), ("body", pa.binary()),
])
_consumers: dict[str, Any] = {}
"""Broker → this process's consumer of it: connecting anew takes longer than a batch."""
Place = tuple[str, int]
"""Topic, under the broker's name, and partition."""


class Span(NamedTuple):
    """Offsets of one partition, from `start` up to but without `end`."""

    topic: str
    partition: int
    start: int
    end: int

    def piece(self, number: int, of: int) -> Span:
        """One of so many pieces that follow each other.

        >>> Span("a", 0, 10, 15).piece(0, 2), Span("a", 0, 10, 15).piece(1, 2)
        (Span(topic='a', partition=0, start=10, end=12), Span(topic='a', partition=0, start=12, end=15))
        """
        size = self.end - self.start
        return self._replace(start=self.start + size * number // of, end=self.start + size * (number + 1) // of)


@dataclass
class Records:
    """Records of one partition in their order, a list for each field."""

    partition: int
    offsets: list[int] = field(default_factory=list)
    times_ms: list[int] = field(default_factory=list)
    keys: list[bytes | None] = field(default_factory=list)
    schemas: list[bytes | None] = field(default_factory=list)
    bodies: list[bytes] = field(default_factory=list)

    def at(self, places: Sequence[int]) -> Records:
        """Those at some places."""
        return Records(
            self.partition, [self.offsets[place] for place in places], [self.times_ms[place] for place in places],
            [self.keys[place] for place in places], [self.schemas[place] for place in places],
            [self.bodies[place] for place in places],
        )


class Pack(NamedTuple):
    """Records of one key, as Arrow's bytes; where the first of them lies."""

    partition: int
    offset: int
    body: bytes


def read_spans(bootstrap: str, spans: Sequence[Span]) -> Iterator[tuple[Span, Records]]:
    """The records of each span. Raises `StoreUnavailable` when the broker does not answer."""
    from confluent_kafka import KafkaException

    consumer = _consumer(bootstrap)
    try:
        found = _consume(consumer, spans)
    except KafkaException as error:
        raise StoreUnavailable(f"Kafka at {bootstrap}: expected records, found {error}") from error
    finally:
        consumer.unassign()
    yield from zip(spans, found, strict=True)


def _consumer(bootstrap: str) -> Any:
    if bootstrap not in _consumers:
        from confluent_kafka import Consumer

        _consumers[bootstrap] = Consumer({
            "bootstrap.servers": bootstrap, "client.id": "candlewick-packs",
            # Required, but never used: what was read is Spark's to remember.
            "group.id": "candlewick-packs", "enable.auto.commit": False, "enable.auto.offset.store": False,
            # What retention removed while we were away is a hole like any other; the stream goes on behind it.
            "auto.offset.reset": "earliest", "enable.partition.eof": True,
            "max.partition.fetch.bytes": _FETCH_BYTES, "fetch.wait.max.ms": 10, "reconnect.backoff.max.ms": 1_000,
        })
    return _consumers[bootstrap]


def _consume(consumer: Any, spans: Sequence[Span]) -> list[Records]:
    from confluent_kafka import KafkaError, KafkaException, TopicPartition

    found = {span[:2]: Records(span.partition) for span in spans}
    ends = {span[:2]: span.end for span in spans}
    left = {span[:2]: span.end - span.start for span in spans}
    consumer.assign([TopicPartition(span.topic, span.partition, span.start) for span in spans])
    deadline, nothing_there = time.monotonic() + ANSWER_WITHIN_S, _no_more()
    while left:
        messages = consumer.consume(min(_MOST_AT_ONCE, sum(left.values())), _ROUND_S)
        if not messages and time.monotonic() > deadline:
            raise KafkaException(KafkaError(KafkaError._TIMED_OUT, f"nothing of {sorted(left)}"))
        for message in messages:
            place = message.topic(), message.partition()
            error, end = message.error(), ends[place]
            if error is not None:
                if error.code() not in nothing_there:
                    raise KafkaException(error)
                left.pop(place, None)
                continue
            offset = message.offset()
            if offset < end:
                records = found[place]
                records.offsets.append(offset)
                records.times_ms.append(message.timestamp()[1])
                records.keys.append(message.key())
                records.schemas.append(_schema(message.headers()))
                records.bodies.append(message.value() or b"")
            if place in left:
                left[place] = end - offset - 1
                if left[place] <= 0:
                    del left[place]
        if messages:
            deadline = time.monotonic() + ANSWER_WITHIN_S
    return list(found.values())


def _no_more() -> frozenset[int]:
    """Errors that say: there is nothing there (any more)."""
    from confluent_kafka import KafkaError

    names = ("_PARTITION_EOF", "_UNKNOWN_PARTITION", "_UNKNOWN_TOPIC", "UNKNOWN_TOPIC_OR_PART")
    return frozenset(getattr(KafkaError, name) for name in names)


def _schema(headers: Sequence[tuple[str, bytes | None]] | None) -> bytes | None:
    return next((value for name, value in headers or () if name == SCHEMA_HEADER), None)


def pack(records: Records) -> dict[str, Pack]:
    """Key → its records, in their order; what has no key goes under the empty one."""
    texts = {key: _text(key) or "" for key in set(records.keys)}
    if len(set(texts.values())) == 1:
        return {text: _packed(records) for text in texts.values()}
    places: dict[str, list[int]] = {}
    for place, key in enumerate(records.keys):
        places.setdefault(texts[key], []).append(place)
    return {text: _packed(records.at(chosen)) for text, chosen in places.items()}


def _packed(records: Records) -> Pack:
    texts = {schema: _text(schema) for schema in set(records.schemas)}
    columns = [records.offsets, records.times_ms, [texts[schema] for schema in records.schemas], records.bodies]
    batch = pa.record_batch(
        [pa.array(column, kind) for column, kind in zip(columns, _PACK.types, strict=True)], schema=_PACK)
    return Pack(records.partition, records.offsets[0], batch.serialize().to_pybytes())


def unpack(rows: Iterable[tuple[str, int, int, bytes]]) -> list[Event]:
    """The events of one key's rows (topic, partition, first offset, pack), by topic, partition and offset."""
    events: list[Event] = []
    for topic, partition, _, packed in sorted(rows, key=itemgetter(0, 1, 2)):
        batch = pa.ipc.read_record_batch(pa.py_buffer(packed), _PACK)
        offsets, times_ms, schemas, bodies = (column.to_pylist() for column in batch.columns)
        times_ns = [time_ms * 1_000_000 for time_ms in times_ms]
        events += map(Event, repeat(partition), offsets, times_ns, repeat(topic), schemas, bodies)
    return events


def _text(value: bytes | None) -> str | None:
    return None if value is None else value.decode("utf-8", "replace")
