"""FeatureTail: the publisher's reading of Kafka: feature rows from the last commit on, and the newest book's stamp.

    tail = FeatureTail("127.0.0.1:19092", ("BTCUSDT",), metrics)
    batch = tail.poll()          # rows in order, with their append times
    tail.commit()                # after what was made of them is written

Partitions are assigned, not subscribed: the lease already says who reads, and no rebalance delays a start.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import structlog

from bentos.metrics import PublisherMetrics
from feature_repo.contracts import FeatureRow, InvalidMessage, OrderBook, UnknownSchema
from feature_repo.topics import FEATURES, decode, order_book_topic, record_schema

GROUP = "candlewick-publisher"
POLL_MS, MAX_ROWS = 250, 500
CLOSE_MS = 2_000
log = structlog.get_logger()


@dataclass
class Batch:
    """What one poll found."""

    rows: list[tuple[FeatureRow, int]] = field(default_factory=list)
    """In order, each with the broker's append time in ms."""
    book: tuple[int, int] | None = None
    """(`ts_init` in ns, append time in ms) of a new order book: what the venue's clock is learned from."""


class FeatureTail:
    """A consumer of `crypto_features` for some symbols. Connects when made; raises when a topic is missing."""

    def __init__(self, bootstrap: str, symbols: tuple[str, ...], metrics: PublisherMetrics) -> None:
        from kafka import KafkaConsumer

        self._keys = {symbol.encode() for symbol in symbols}
        self._metrics = metrics
        self._books = sorted({order_book_topic(symbol) for symbol in symbols})
        self._book_ms = 0
        self._consumer = KafkaConsumer(
            bootstrap_servers=bootstrap.split(","), client_id=GROUP, group_id=GROUP, enable_auto_commit=False,
            auto_offset_reset="latest", fetch_max_wait_ms=100, max_poll_records=MAX_ROWS,
        )
        try:
            self._begin()
        except BaseException:
            self.close()  # whoever made us tries again in a second, and has nothing to close
            raise

    def poll(self) -> Batch:
        """Rows that came since; waits up to `POLL_MS` for the first."""
        batch = Batch()
        for partition, records in self._consumer.poll(timeout_ms=POLL_MS).items():
            if partition.topic == FEATURES:
                batch.rows += [(row, r.timestamp) for r in records if isinstance(row := self._decoded(r), FeatureRow)]
            elif records[-1].timestamp - self._book_ms >= 1_000:
                book = self._decoded(records[-1])
                self._book_ms = records[-1].timestamp
                batch.book = (book.ts_init, self._book_ms) if isinstance(book, OrderBook) else None
        return batch

    def commit(self) -> None:
        """Remember that everything polled so far was dealt with."""
        from kafka import OffsetAndMetadata

        offsets = {p: OffsetAndMetadata(self._consumer.position(p), "", -1) for p in self._features}
        self._consumer.commit(offsets)

    def close(self) -> None:
        self._consumer.close(timeout_ms=CLOSE_MS)

    def _begin(self) -> None:
        self._features = self._partitions(FEATURES)
        books = [partition for topic in self._books for partition in self._partitions(topic)]
        self._consumer.assign([*self._features, *books])
        self._consumer.seek_to_end(*books)
        for partition in self._features:
            committed = self._consumer.committed(partition)
            if committed is None:
                self._consumer.seek_to_end(partition)
            else:
                self._consumer.seek(partition, committed)

    def _partitions(self, topic: str) -> list[Any]:
        from kafka import TopicPartition

        numbers = self._consumer.partitions_for_topic(topic)
        if not numbers:
            raise LookupError(f"expected topic {topic}, found none; run `candlewick topics`")
        return [TopicPartition(topic, number) for number in sorted(numbers)]

    def _decoded(self, record: Any) -> object:
        """The message; None for another symbol's and for an unreadable one, which the lake query dead-letters."""
        if record.key not in self._keys:
            return None
        try:
            return decode(record.value, record_schema(record.headers))
        except (InvalidMessage, UnknownSchema) as error:
            log.warning("message not readable", topic=record.topic, offset=record.offset, reason=str(error))
            self._metrics.undecoded.labels(reason=type(error).__name__).inc()
            return None
