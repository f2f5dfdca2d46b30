"""Bulk producer: many records to Kafka at once, and not gone on before the broker has stored each of them.

    with BulkProducer("127.0.0.1:19092", "streaming") as producer:
        producer.add("crypto_clean", "BTCUSDT", "Bar:…", body)
        producer.confirm()

librdkafka builds a record in a tenth of the time that kafka-python takes, which is what counts behind a backlog.
"""

from __future__ import annotations

import logging
from types import TracebackType
from typing import Any, Self

from feature_repo import topics
from feature_repo.contracts import StoreUnavailable

TIMEOUT_S = 30.0
"""How long the broker may take to store a record."""
MOST_WAITING_KB = 64 * 1024
LARGEST = 4 * 1024 * 1024
"""Bytes of one record: as the other producers."""


class BulkProducer:
    """With acks=all and idempotence; topics are those of the namespace. Not for several threads at once."""

    def __init__(self, bootstrap: str, client_id: str, namespace: str = "", timeout_s: float = TIMEOUT_S) -> None:
        self._timeout_s = timeout_s
        self._prefix = topics.prefix(namespace)
        self._config = {
            "bootstrap.servers": bootstrap, "client.id": client_id, "acks": "all", "enable.idempotence": True,
            "linger.ms": 2, "batch.size": 256 * 1024, "message.max.bytes": LARGEST,
            "queue.buffering.max.kbytes": MOST_WAITING_KB, "delivery.timeout.ms": int(timeout_s * 1e3),
            # The default waits up to 10 s before it notices that the broker is back.
            "reconnect.backoff.max.ms": 1_000,
            # A key goes where every other client of Kafka puts it.
            "partitioner": "murmur2_random",
        }
        self._producer: Any = None
        self._refused: list[str] = []

    def add(self, topic: str, key: str | None, schema: str | None, value: bytes, timestamp_ms: int = 0) -> None:
        """Queue a record; its time is now unless given. Waits while the queue is full.

        Raises `StoreUnavailable` when the broker takes nothing from a full queue, or the record is too large.
        """
        producer = self._open()
        record = {
            "key": None if key is None else key.encode(), "value": value, "timestamp": timestamp_ms,
            "headers": [(topics.SCHEMA_HEADER, schema.encode())] if schema is not None else None,
            "on_delivery": self._delivered,
        }
        while True:
            try:
                producer.produce(self._prefix + topic, **record)
                return
            except BufferError:
                if self._refused:
                    self.confirm()  # it raises
                producer.poll(0.1)
            except _kafka_exception() as error:
                self._forget()
                raise StoreUnavailable(f"Kafka, {topic}: expected to take a record, found {error}") from error

    def confirm(self) -> None:
        """Return when the broker has stored all that was added. Raises `StoreUnavailable` when it has not."""
        left = self._producer.flush(self._timeout_s + 1.0) if self._producer is not None else 0
        if not left and not self._refused:
            return
        why = ", ".join(sorted(set(self._refused))) or f"no answer within {self._timeout_s:g} s"
        count = left + len(self._refused)
        self._forget()
        raise StoreUnavailable(f"Kafka: expected every record stored, found {count} that are not: {why}")

    def close(self) -> None:
        """Drop what was not confirmed."""
        if self._producer is not None:
            self._forget()

    def _open(self) -> Any:
        if self._producer is None:
            from confluent_kafka import Producer

            self._producer = Producer(self._config, logger=logging.getLogger("kafka.bulk"))
        return self._producer

    def _forget(self) -> None:
        """Leave this producer: after some errors it refuses everything, and what it still holds comes again."""
        self._producer.purge()
        self._producer.flush(1.0)
        self._producer, self._refused = None, []

    def _delivered(self, error: Any, _record: Any) -> None:
        if error is not None:
            self._refused.append(str(error))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        self.close()


def _kafka_exception() -> type[Exception]:
    from confluent_kafka import KafkaException

    return KafkaException
