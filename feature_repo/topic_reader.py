"""Topic reader: the newest records of a topic, decoded, for people and scripts that have no Avro at hand.

    for record in newest("127.0.0.1:19092", "crypto.btc.trades", 5):
        print(record.offset, record.key, record.body)

`candlewick tail TOPIC --json` is this. A record that nobody can decode is shown with the reason, not left out.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from feature_repo.contracts import InvalidMessage, StoreUnavailable, UnknownSchema
from feature_repo.topics import decode, record_schema

POLL_MS = 1_000
MOST = 100_000


@dataclass(frozen=True)
class Read:
    """One record: where it lies, when the broker had it, and its message as plain values."""

    partition: int
    offset: int
    timestamp_ms: int
    key: str
    schema: str
    body: dict[str, Any]


def newest(bootstrap: str, topic: str, count: int) -> list[Read]:
    """The last `count` records, oldest first. Raises `ValueError` for an unknown topic, `StoreUnavailable`."""
    from kafka import KafkaConsumer
    from kafka.errors import KafkaError

    if not 0 < count <= MOST:
        raise ValueError(f"-n: expected 1 to {MOST:,} records, found {count}")
    try:
        consumer = KafkaConsumer(bootstrap_servers=bootstrap.split(","), client_id="candlewick-tail", group_id=None)
    except KafkaError as error:
        raise StoreUnavailable(f"Kafka expected at {bootstrap}, found {type(error).__name__}; do `make up`") from error
    try:
        records = _last(consumer, topic, count)
    except KafkaError as error:
        raise StoreUnavailable(f"{topic}: expected records, found {error!r}") from error
    finally:
        consumer.close()
    records.sort(key=lambda record: (record.timestamp, record.partition, record.offset))
    return [_read(record) for record in records[-count:]]


def _last(consumer: Any, topic: str, count: int) -> list[Any]:
    """The last `count` records of each partition."""
    from kafka import TopicPartition

    if topic not in consumer.topics():
        known = ", ".join(sorted(name for name in consumer.topics() if not name.startswith("__")))
        raise ValueError(f"topic: expected one of {known or 'none yet'}; found {topic!r}")
    partitions = [TopicPartition(topic, number) for number in consumer.partitions_for_topic(topic) or ()]
    consumer.assign(partitions)
    begins, ends = consumer.beginning_offsets(partitions), consumer.end_offsets(partitions)
    for partition in partitions:
        consumer.seek(partition, max(begins[partition], ends[partition] - count))
    records: list[Any] = []
    while any(consumer.position(partition) < ends[partition] for partition in partitions):
        for batch in consumer.poll(timeout_ms=POLL_MS).values():
            records += batch
    return records


def _read(record: Any) -> Read:
    schema = record_schema(record.headers) or b""
    try:
        body = decode(record.value, schema).model_dump(mode="json")
    except (InvalidMessage, UnknownSchema) as error:
        body = {"error": f"{type(error).__name__}: {error}"}
    key = (record.key or b"").decode(errors="replace")
    return Read(record.partition, record.offset, record.timestamp, key, schema.decode(errors="replace"), body)
