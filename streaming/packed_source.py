"""Packed source: topics of Kafka as a streaming source of Spark whose rows are packs, many records of one key each.

    packs = kafka_packs(spark, settings, r"crypto\\.[a-z0-9]+\\.trades", most=40_000)
    packs.groupBy("symbol")…                     # `packs.unpack` gives the events, in Python

Spark's own source makes a row of each record in the JVM, and pyspark takes each apart again for Python: 13 µs of both
cores a record before anything of ours runs. Here librdkafka hands whole batches to a process beside the driver, which
passes them on as they are. Offsets are Spark's to keep, as those of any source: a batch is a range of offsets, and the
same range gives the same records again, but for what retention has removed meanwhile; that is a hole like any other.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

import pyarrow as pa
from pyspark.sql.datasource import DataSource, SimpleDataSourceStreamReader
from pyspark.sql.streaming.datasource import SupportsTriggerAvailableNow

from feature_repo import topics
from feature_repo.settings import Settings
from streaming.packs import Place, Records, Span, pack
from streaming.tail_reader import TailReader, read_spans

NAME: Final = "candlewick_packs"
ROW: Final = "symbol string, topic string, partition int, offset long, pack binary"
"""Columns of a row: the records' key, where the first of them lies, and a pack of them."""
_ROWS = pa.schema([
    ("symbol", pa.string()), ("topic", pa.string()), ("partition", pa.int32()), ("offset", pa.int64()),
    ("pack", pa.binary()),
])
Offsets = dict[str, dict[str, int]]
"""Topic → partition → the next offset to read, as Spark keeps it."""


def kafka_packs(spark: Any, settings: Settings, pattern: str, most: int) -> Any:
    """Packs of the topics that match, from their beginning: at most `most` records a batch.

    The topics are those of the settings' namespace, under their plain names.
    """
    spark.dataSource.register(PackedKafka)
    prefix = topics.prefix(settings.namespace)
    return spark.readStream.format(NAME).options(
        bootstrap=settings.kafka, prefix=prefix, pattern=f"{re.escape(prefix)}({pattern})", most=str(most),
    ).load()


class PackedKafka(DataSource):  # type: ignore[misc]
    """The source as Spark registers it. Its options are those of `kafka_packs`."""

    @classmethod
    def name(cls) -> str:
        return NAME

    def schema(self) -> str:
        return ROW

    def simpleStreamReader(self, schema: Any) -> PackReader:  # noqa: N802, ARG002 Spark's names
        options = self.options
        return PackReader(options["bootstrap"], options["prefix"], options["pattern"], int(options["most"]))


@dataclass
class PackReader(SimpleDataSourceStreamReader, SupportsTriggerAvailableNow):  # type: ignore[misc]
    """Reads in one process beside the driver; only what a restart has to read again is read by a worker."""

    bootstrap: str
    prefix: str
    pattern: str
    most: int
    _target: dict[Place, int] | None = None
    """Where a query that is to end has read everything."""
    _tail: TailReader | None = None

    def initialOffset(self) -> Offsets:  # noqa: N802 Spark's name
        """Nothing is read yet: every partition begins at its oldest record."""
        return {}

    def prepareForTriggerAvailableNow(self) -> None:  # noqa: N802 Spark's name
        self._target = self._open().ends()

    def read(self, start: Offsets) -> tuple[Iterator[pa.RecordBatch], Offsets]:
        """What there is behind `start`, and where that ends."""
        found, end = self._open().take(_places(start), self.most, self._target)
        return iter(self._rows(found)), _offsets(end) if found else start

    def readBetweenOffsets(self, start: Offsets, end: Offsets) -> Iterator[pa.RecordBatch]:  # noqa: N802 Spark's name
        """The records of a batch that was planned before a restart.

        Where a topic was made anew within that very batch, and has more records than the old one had, those below the
        old one's offset are not read again.
        """
        begun = _places(start)
        # What was made anew meanwhile begins before where it had been read to.
        spans = [
            Span(*place, at if (at := begun.get(place, 0)) <= until else 0, until)
            for place, until in _places(end).items()
        ]
        return iter(self._rows(read_spans(self.bootstrap, [span for span in spans if span.end > span.start])))

    def _rows(self, found: Mapping[Place, Records]) -> list[pa.RecordBatch]:
        """A row for each key of each partition."""
        rows = [
            (key, topic.removeprefix(self.prefix), *packed)
            for (topic, _), records in found.items() for key, packed in pack(records).items()
        ]
        if not rows:
            return []
        columns = zip(zip(*rows, strict=True), _ROWS.types, strict=True)
        return [pa.record_batch([pa.array(values, kind) for values, kind in columns], schema=_ROWS)]

    def _open(self) -> TailReader:
        if self._tail is None:
            self._tail = TailReader(self.bootstrap, re.compile(self.pattern))
        return self._tail

    def __getstate__(self) -> dict[str, Any]:
        """Connections stay where they are."""
        return {**self.__dict__, "_tail": None}


def _places(offsets: Offsets) -> dict[Place, int]:
    return {(topic, int(number)): at for topic, numbers in offsets.items() for number, at in numbers.items()}


def _offsets(places: Mapping[Place, int]) -> Offsets:
    found: Offsets = {}
    for (topic, number), at in sorted(places.items()):
        found.setdefault(topic, {})[str(number)] = at
    return found
