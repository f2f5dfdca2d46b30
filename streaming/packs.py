"""Packs: many records of one key as one value, which travels through Spark as it is.

    packs = pack(records)                                            # key → its records, as Arrow's bytes
    events = unpack([("crypto.btc.trades", *packs["BTCUSDT"])])      # by offset
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import repeat
from operator import itemgetter
from typing import Any, NamedTuple

import pyarrow as pa

from feature_repo.topics import SCHEMA_HEADER
from streaming.symbol_stream import Event

_PACK = pa.schema([
    ("offset", pa.int64()), ("timestamp_ms", pa.int64()), ("schema", pa.string()), ("body", pa.binary()),
])
Place = tuple[str, int]
"""Topic, under the broker's name, and partition."""


class Span(NamedTuple):
    """Offsets of one partition, from `start` up to but without `end`."""

    topic: str
    partition: int
    start: int
    end: int


@dataclass
class Records:
    """Records of one partition in their order, a list for each field."""

    partition: int
    offsets: list[int] = field(default_factory=list)
    times_ms: list[int] = field(default_factory=list)
    keys: list[bytes | None] = field(default_factory=list)
    schemas: list[bytes | None] = field(default_factory=list)
    bodies: list[bytes] = field(default_factory=list)

    def add(self, messages: Sequence[Any]) -> None:
        """Put confluent-kafka's messages behind the others, field by field: a call a record costs more."""
        self.offsets += [message.offset() for message in messages]
        self.times_ms += [message.timestamp()[1] for message in messages]
        self.keys += [message.key() for message in messages]
        self.bodies += [message.value() or b"" for message in messages]
        self.schemas += [
            # Ours is the only header of our own records: the search is for strangers'.
            headers[0][1] if headers and headers[0][0] == SCHEMA_HEADER else _schema(headers)
            for headers in [message.headers() for message in messages]
        ]

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


def pack(records: Records) -> dict[str, Pack]:
    """Key → its records, in their order; what has no key goes under the empty one."""
    texts = {key: _text(key) or "" for key in set(records.keys)}
    if len(set(texts.values())) == 1:
        return {text: _packed(records) for text in texts.values()}
    places: dict[str, list[int]] = {}
    for place, key in enumerate(records.keys):
        places.setdefault(texts[key], []).append(place)
    return {text: _packed(records.at(chosen)) for text, chosen in places.items()}


def unpack(rows: Iterable[tuple[str, int, int, bytes]]) -> list[Event]:
    """The events of one key's rows (topic, partition, first offset, pack), by topic, partition and offset."""
    events: list[Event] = []
    for topic, partition, _, packed in sorted(rows, key=itemgetter(0, 1, 2)):
        batch = pa.ipc.read_record_batch(pa.py_buffer(packed), _PACK)
        offsets, times_ms, schemas, bodies = (column.to_pylist() for column in batch.columns)
        times_ns = [time_ms * 1_000_000 for time_ms in times_ms]
        events += map(Event, repeat(partition), offsets, times_ns, repeat(topic), schemas, bodies)
    return events


def _packed(records: Records) -> Pack:
    texts = {schema: _text(schema) for schema in set(records.schemas)}
    columns = [records.offsets, records.times_ms, [texts[schema] for schema in records.schemas], records.bodies]
    batch = pa.record_batch(
        [pa.array(column, kind) for column, kind in zip(columns, _PACK.types, strict=True)], schema=_PACK)
    return Pack(records.partition, records.offsets[0], batch.serialize().to_pybytes())


def _schema(headers: Sequence[tuple[str, bytes | None]] | None) -> bytes | None:
    return next((value for name, value in headers or () if name == SCHEMA_HEADER), None)


def _text(value: bytes | None) -> str | None:
    return None if value is None else value.decode("utf-8", "replace")
