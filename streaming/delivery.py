"""Delivery: what a hot batch computed, first to Kafka and confirmed, then to the online store.

    deliver = Delivery(BulkProducer(bootstrap, "streaming"), store.write, StreamMetrics(), now=time.time_ns)
    deliver(outputs)

Kafka comes first, so that the lake never lacks what the online store has shown. A batch that Kafka refuses
fails and is run again; its messages repeat by identity. The online store takes only the newest row of a symbol:
when it cannot be reached the row waits for the next batch, and the stream goes on, because the lake is then
what the product falls back to. A row that the store refuses is counted with its reason and holds no other back.
"""

from __future__ import annotations

import json
from collections import Counter as Counts
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np
import structlog
from prometheus_client import REGISTRY, CollectorRegistry, Counter, Gauge, Histogram

from feature_repo import topics
from feature_repo.bulk_producer import BulkProducer
from feature_repo.contracts import NANOS, DeadLetter, FeatureRow, InvalidMessage, StoreUnavailable
from feature_repo.online_row import SEQUENCE_SHAPE, OnlineWrite
from streaming.symbol_stream import COUNTS, ONLINE, Output

_BUCKETS = (0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 1.0, 1.25, 1.5, 2.0, 3.0, 5.0, 10.0, 30.0, 60.0)
log = structlog.get_logger()


class StreamMetrics:
    """What the streaming process tells Prometheus."""

    def __init__(self, registry: CollectorRegistry = REGISTRY) -> None:
        self.hop = Histogram(
            "candlewick_hop_seconds", "Latency of one hop, venue clock.", ["hop"], buckets=_BUCKETS, registry=registry,
        )
        self.batch = Histogram(
            "candlewick_batch_seconds", "Time a query's batch took on the driver.", ["query", "part"], buckets=_BUCKETS,
            registry=registry,
        )
        self.messages = Counter(
            "candlewick_stream_messages_total", "Messages sent, or records written to the lake.", ["to"],
            registry=registry,
        )
        self.late = Counter("candlewick_late_trades_total", "Trades after their seal.", ["symbol"], registry=registry)
        self.resent = Counter(
            "candlewick_resent_messages_total", "Trades, seals and bars met again.", ["symbol"], registry=registry,
        )
        self.dead = Counter(
            "candlewick_dead_letters_total", "Messages that could not be used.", ["component", "reason"],
            registry=registry,
        )
        self.store_failures = Counter(
            "candlewick_online_write_failures_total", "Online writes put off because the store was away.",
            registry=registry,
        )
        self.last_close = Gauge(
            "candlewick_last_close_timestamp_seconds", "Newest close delivered.", ["symbol"], registry=registry,
        )


@dataclass
class Delivery:
    """The driver's side of the hot query. `now` is the venue clock, ns; at 1× the wall clock."""

    producer: BulkProducer
    write: Callable[[Sequence[OnlineWrite]], int]
    metrics: StreamMetrics
    now: Callable[[], int]
    on_close: Callable[[str, int], None] = lambda _symbol, _close: None
    """Told each delivered newest close: the slow views follow event time."""
    _waiting: dict[str, OnlineWrite] = field(default_factory=dict)

    def __call__(self, outputs: Iterable[Output]) -> None:
        """Deliver one batch. Raises `StoreUnavailable` when Kafka did not confirm a message."""
        rows = list(outputs)
        self._send([row for row in rows if row.topic not in (ONLINE, COUNTS)])
        newest = {row.key: online_write(row) for row in rows if row.topic == ONLINE}
        self._observe("seal_to_kafka", [write.row.ts_init for write in newest.values()])
        self._write(newest)
        for row in rows:
            if row.topic == COUNTS:
                self._count(row)
        for symbol, write in newest.items():
            self.metrics.last_close.labels(symbol).set(write.row.ts_event / NANOS)
            self.on_close(symbol, write.row.ts_event)

    def _send(self, messages: Sequence[Output]) -> None:
        for message in messages:
            self.producer.add(message.topic, message.key, message.schema, bytes(message.body))
        self.producer.confirm()
        for topic, count in Counts(message.topic for message in messages).items():
            self.metrics.messages.labels(topic).inc(count)
        for message in messages:
            if message.topic == topics.DEAD_LETTERS:
                self._count_dead(message)

    def _write(self, newest: dict[str, OnlineWrite]) -> None:
        self._waiting |= newest
        if not self._waiting:
            return
        try:
            self._write_good(list(self._waiting.values()))
        except StoreUnavailable as error:
            self.metrics.store_failures.inc()
            log.error("online store away: rows wait for the next batch", reason=str(error), rows=len(self._waiting))
            return
        self._waiting.clear()
        self._observe("close_to_redis", [write.row.ts_event for write in newest.values()])

    def _write_good(self, writes: Sequence[OnlineWrite]) -> None:
        """Write all at once; when one of them is refused, each by itself."""
        try:
            self.write(writes)
        except InvalidMessage as error:
            if len(writes) > 1:
                for write in writes:
                    self._write_good([write])
                return
            self.metrics.dead.labels("streaming", "online row refused").inc()
            log.error("online store refuses a row", reason=str(error), symbol=writes[0].row.symbol)

    def _observe(self, hop: str, since: Sequence[int]) -> None:
        now = self.now()
        for start in since:
            self.metrics.hop.labels(hop).observe(max(0, now - start) / NANOS)

    def _count(self, row: Output) -> None:
        counts = json.loads(row.mirrors or "{}")
        self.metrics.late.labels(row.key).inc(counts.get("late", 0))
        self.metrics.resent.labels(row.key).inc(counts.get("resent", 0))

    def _count_dead(self, message: Output) -> None:
        letter = topics.decode(message.body, message.schema)
        assert isinstance(letter, DeadLetter)
        self.metrics.dead.labels(letter.component, letter.reason).inc()


def online_write(output: Output) -> OnlineWrite:
    """The online row of an `ONLINE` output."""
    row = topics.decode(bytes(output.body), output.schema)
    assert isinstance(row, FeatureRow)
    sequence = np.frombuffer(output.sequence or b"", dtype="<f8").reshape(SEQUENCE_SHAPE)
    return OnlineWrite(row, sequence, json.loads(output.mirrors or "{}"))
