"""The bulk producer and a real broker: stored and confirmed, or refused in words and fit for use again."""

from __future__ import annotations

import pytest
from kafka import KafkaConsumer, TopicPartition
from kafka.admin import KafkaAdminClient, NewTopic

from feature_repo import topics
from feature_repo.bulk_producer import LARGEST, BulkProducer
from feature_repo.contracts import StoreUnavailable
from tests.integration.conftest import free_port

pytestmark = [pytest.mark.integration, pytest.mark.alone, pytest.mark.timeout(120)]
SMALL = 1_000


def made(kafka: str, topic: str, **configs: str) -> None:
    admin = KafkaAdminClient(bootstrap_servers=kafka)
    try:
        admin.create_topics([NewTopic(topic, 1, 1, topic_configs=configs)])
    finally:
        admin.close()


def stored(kafka: str, topic: str) -> list[tuple[bytes | None, bytes | None, bytes, int]]:
    """Key, schema, value and time in ms of everything in a topic."""
    partition = TopicPartition(topic, 0)
    reader = KafkaConsumer(bootstrap_servers=kafka, auto_offset_reset="earliest")
    try:
        reader.assign([partition])
        end = reader.end_offsets([partition])[partition]
        found = [next(reader) for _ in range(end)]
    finally:
        reader.close()
    return [(record.key, topics.record_schema(record.headers), record.value, record.timestamp) for record in found]


def test_what_is_confirmed_is_in_the_topic_of_the_namespace_in_order(kafka: str) -> None:
    topic = f"{topics.prefix('bulk')}ordered"
    made(kafka, topic)
    with BulkProducer(kafka, "test", "bulk") as producer:
        for at in range(5_000):
            producer.add("ordered", "BTCUSDT", "Trade:1", b"%d" % at, 1_000 + at)
        producer.confirm()
        producer.add("ordered", None, None, b"", 7_000)
        producer.confirm()
    expected = [(b"BTCUSDT", b"Trade:1", b"%d" % at, 1_000 + at) for at in range(5_000)]
    found = stored(kafka, topic)
    # The broker is every test's, and some count the topics of replays.
    topics.delete_topics(kafka, topic)
    assert found == [*expected, (None, None, b"", 7_000)]


def test_a_record_that_the_broker_refuses_is_told_and_the_next_batch_is_stored(kafka: str) -> None:
    made(kafka, "narrow", **{"max.message.bytes": str(SMALL)})
    with BulkProducer(kafka, "test") as producer:
        producer.add("narrow", "BTCUSDT", None, bytes(2 * SMALL))
        with pytest.raises(StoreUnavailable, match=r"every record stored, found 1 that are not: .*too large"):
            producer.confirm()
        with pytest.raises(StoreUnavailable, match=r"narrow: expected to take a record, found .*too large"):
            producer.add("narrow", "BTCUSDT", None, bytes(LARGEST + 1))
        producer.add("narrow", "BTCUSDT", None, b"fits")
        producer.confirm()
    assert [value for _, _, value, _ in stored(kafka, "narrow")] == [b"fits"]


def test_a_broker_that_is_away_is_told() -> None:
    with BulkProducer(f"127.0.0.1:{free_port()}", "test", timeout_s=1.0) as producer:
        producer.confirm()  # nothing was added
        producer.add("any", "BTCUSDT", None, b"x")
        with pytest.raises(StoreUnavailable, match="found 1 that are not"):
            producer.confirm()


def test_a_full_queue_ends_in_an_error_and_not_in_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("feature_repo.bulk_producer.MOST_WAITING_KB", 64)

    def add_a_megabyte(producer: BulkProducer) -> None:
        for _ in range(1_000):
            producer.add("any", "BTCUSDT", None, bytes(1_024))

    with BulkProducer(f"127.0.0.1:{free_port()}", "test", timeout_s=1.0) as producer, pytest.raises(StoreUnavailable):
        add_a_megabyte(producer)
