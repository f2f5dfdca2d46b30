"""Packed source: topics of Kafka as a streaming source of Spark whose rows are packs, many records of one key each.

    packs = kafka_packs(spark, settings, pattern, most=40_000, tasks=1)
    packs.groupBy("symbol")…                     # `packs.unpack` gives the events, in Python

Spark's own source makes a row of each record in the JVM, and pyspark takes each apart again for Python: 13 µs of both
cores a record before anything of ours runs. Here librdkafka hands whole batches to Python, which passes them on as
they are. Offsets are Spark's to keep, as those of any source: a batch is a range of offsets, and the same range gives
the same records again, but for what retention has removed meanwhile; that is a hole like any other.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import pyarrow as pa
from pyspark.sql.datasource import DataSource, DataSourceStreamReader, InputPartition
from pyspark.sql.streaming.datasource import (
    ReadAllAvailable,
    ReadLimit,
    ReadMaxRows,
    SupportsTriggerAvailableNow,
)

from feature_repo import topics
from feature_repo.contracts import StoreUnavailable
from feature_repo.settings import Settings
from streaming.packs import ANSWER_WITHIN_S, Place, Span, pack, read_spans

NAME: Final = "candlewick_packs"
ROW: Final = "symbol string, topic string, partition int, offset long, pack binary"
"""Columns of a row: the records' key, where the first of them lies, and a pack of them."""
ONE_TASK = 10_000
"""Records that are not worth a second task."""
_ROWS = pa.schema([
    ("symbol", pa.string()), ("topic", pa.string()), ("partition", pa.int32()), ("offset", pa.int64()),
    ("pack", pa.binary()),
])
_LOOK_FOR_TOPICS_S = 1.0
Offsets = dict[str, dict[str, int]]
"""Topic → partition → the next offset to read, as Spark keeps it."""


def kafka_packs(spark: Any, settings: Settings, pattern: str, most: int, tasks: int) -> Any:
    """Packs of the topics that match, from their beginning: at most `most` records a batch, read by up to `tasks` tasks.

    The topics are those of the settings' namespace, under their plain names.
    """
    spark.dataSource.register(PackedKafka)
    prefix = topics.prefix(settings.namespace)
    return spark.readStream.format(NAME).options(**{
        "bootstrap": settings.kafka, "prefix": prefix, "pattern": f"{re.escape(prefix)}({pattern})",
        "most": str(most), "tasks": str(tasks),
    }).load()


class PackedKafka(DataSource):
    """The source as Spark registers it. Its options are those of `kafka_packs`."""

    @classmethod
    def name(cls) -> str:
        return NAME

    def schema(self) -> str:
        return ROW

    def streamReader(self, schema: Any) -> PackReader:  # noqa: N802, ARG002 Spark's names
        return PackReader(
            self.options["bootstrap"], self.options["prefix"], self.options["pattern"], int(self.options["most"]),
            int(self.options["tasks"]),
        )


@dataclass
class PackReader(DataSourceStreamReader, SupportsTriggerAvailableNow):
    """Plans batches in one process beside the driver; `read` runs in the workers."""

    bootstrap: str
    prefix: str
    pattern: str
    most: int
    tasks: int
    _target: dict[Place, int] | None = None
    """Where a query that is to end has read everything."""
    _broker: Broker | None = None

    def initialOffset(self) -> Offsets:  # noqa: N802 Spark's name
        """Nothing is read yet: every partition begins at its oldest record."""
        return {}

    def getDefaultReadLimit(self) -> ReadLimit:  # noqa: N802 Spark's name
        return ReadMaxRows(self.most)

    def prepareForTriggerAvailableNow(self) -> None:  # noqa: N802 Spark's name
        self._target = self._look().ends()

    def latestOffset(self, start: Offsets, limit: ReadLimit) -> Offsets:  # noqa: N802 Spark's name
        """Where the next batch ends: everything there is, or each partition's share of the limit."""
        ends = self._look().ends() if self._target is None else self._target
        most = None if isinstance(limit, ReadAllAvailable) else self.most
        return _offsets(next_ends(_places(start), ends, self._look().begins, most))

    def partitions(self, start: Offsets, end: Offsets) -> Sequence[InputPartition]:
        return [InputPartition(share) for share in shares(_places(start), _places(end), self.tasks)]

    def read(self, partition: InputPartition) -> Iterator[pa.RecordBatch]:
        """One row for each key of each range."""
        for span, records in read_spans(self.bootstrap, partition.value):
            topic = span.topic.removeprefix(self.prefix)
            rows = [(key, topic, *packed) for key, packed in pack(records).items()]
            columns = [pa.array(values, kind) for values, kind in zip(zip(*rows, strict=True), _ROWS.types, strict=True)]
            if rows:
                yield pa.record_batch(columns, schema=_ROWS)

    def _look(self) -> Broker:
        if self._broker is None:
            self._broker = Broker(self.bootstrap, re.compile(self.pattern))
        return self._broker

    def __getstate__(self) -> dict[str, Any]:
        """Connections stay where they are."""
        return {**self.__dict__, "_broker": None}


@dataclass
class Broker:
    """What the broker says of the topics that match. `clock` is monotonic, seconds."""

    bootstrap: str
    pattern: re.Pattern[str]
    clock: Callable[[], float] = time.monotonic
    _places: tuple[Place, ...] = ()
    _looked: float | None = None
    _begins: dict[Place, int] = field(default_factory=dict)
    _client: Any = None

    def ends(self) -> dict[Place, int]:
        """The offset behind the newest record of every partition. Raises `StoreUnavailable`."""
        from confluent_kafka.admin import OffsetSpec

        return self._ask(self._topics(), OffsetSpec.latest())

    def begins(self, places: Sequence[Place]) -> dict[Place, int]:
        """The offset of the oldest record of partitions."""
        from confluent_kafka.admin import OffsetSpec

        return self._ask(places, OffsetSpec.earliest())

    def _topics(self) -> tuple[Place, ...]:
        now = self.clock()
        if self._looked is None or now - self._looked >= _LOOK_FOR_TOPICS_S:
            found = self._admin().list_topics(timeout=ANSWER_WITHIN_S).topics
            self._places = tuple(sorted(
                (name, number) for name in found if self.pattern.fullmatch(name) for number in found[name].partitions
            ))
            self._looked = now
        return self._places

    def _ask(self, places: Sequence[Place], spec: Any) -> dict[Place, int]:
        from confluent_kafka import KafkaException, TopicPartition

        if not places:
            return {}
        asked = self._admin().list_offsets(
            {TopicPartition(*place): spec for place in places}, request_timeout=ANSWER_WITHIN_S)
        try:
            return {(at.topic, at.partition): answer.result().offset for at, answer in asked.items()}
        except KafkaException as error:
            self._looked = None  # a topic may be gone
            raise StoreUnavailable(f"Kafka at {self.bootstrap}: expected the offsets of topics, found {error}") from error

    def _admin(self) -> Any:
        if self._client is None:
            from confluent_kafka.admin import AdminClient

            self._client = AdminClient({"bootstrap.servers": self.bootstrap, "client.id": "candlewick-packs"})
        return self._client


def next_ends(
    start: Mapping[Place, int], ends: Mapping[Place, int], begins: Callable[[Sequence[Place]], Mapping[Place, int]],
    most: int | None,
) -> dict[Place, int]:
    """Where a batch ends that begins at `start` and takes `most` records, a share of each partition's backlog.

    A partition that is new begins at its oldest record; so does one that ends before its start, because its topic
    was made anew. One that is gone is not in the answer.

    >>> next_ends({("a", 0): 10}, {("a", 0): 40, ("b", 0): 90}, lambda new: dict.fromkeys(new, 60), 30)
    {('a', 0): 25, ('b', 0): 75}
    >>> next_ends({("a", 0): 10, ("c", 0): 7}, {("a", 0): 4}, lambda new: dict.fromkeys(new, 1), None)
    {('a', 0): 4}
    """
    new = [place for place, end in ends.items() if start.get(place, end + 1) > end]
    at = {**start, **(begins(new) if new else {})}
    left = {place: max(0, end - at[place]) for place, end in ends.items()}
    total = sum(left.values())
    if most is None or total <= most:
        return dict(ends)
    # Rounded up, so that no backlog waits for the others' to end.
    return {place: at[place] + -(-count * most // total) for place, count in left.items()}


def shares(start: Mapping[Place, int], end: Mapping[Place, int], tasks: int) -> list[list[Span]]:
    """What each task of a batch reads: all of it by one, or of a backlog each an equal piece of every partition.

    >>> shares({("a", 0): 3}, {("a", 0): 5, ("b", 0): 0}, 2)
    [[Span(topic='a', partition=0, start=3, end=5)]]
    >>> [[(span.start, span.end) for span in share] for share in shares({}, {("a", 0): 20_001}, 2)]
    [[(0, 10000)], [(10000, 20001)]]
    """
    begun = {place: at if (at := start.get(place, 0)) <= until else 0 for place, until in end.items()}
    spans = [Span(*place, begun[place], until) for place, until in end.items() if until > begun[place]]
    if sum(span.end - span.start for span in spans) <= ONE_TASK:
        return [spans] if spans else []
    pieces = [[span.piece(number, tasks) for span in spans] for number in range(tasks)]
    return [[span for span in share if span.end > span.start] for share in pieces]


def _places(offsets: Offsets) -> dict[Place, int]:
    return {(topic, int(number)): at for topic, numbers in offsets.items() for number, at in numbers.items()}


def _offsets(places: Mapping[Place, int]) -> Offsets:
    found: Offsets = {}
    for (topic, number), at in sorted(places.items()):
        found.setdefault(topic, {})[str(number)] = at
    return found
