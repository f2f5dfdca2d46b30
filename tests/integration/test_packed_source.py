"""The packed source and a real broker: every record once, in its order, from the offsets that its caller keeps."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator

import pytest
from kafka import KafkaProducer
from kafka.admin import KafkaAdminClient, NewTopic
from kafka.structs import TopicPartition

from feature_repo import topics
from streaming import tail_reader
from streaming.packed_source import PackReader
from streaming.packs import Place, Records, Span, unpack
from streaming.tail_reader import TailReader, read_spans

pytestmark = [pytest.mark.integration, pytest.mark.alone, pytest.mark.timeout(240)]
WITHIN_S = 60.0


@pytest.fixture
def admin(kafka: str) -> Iterator[KafkaAdminClient]:
    client = KafkaAdminClient(bootstrap_servers=kafka)
    yield client
    # The broker is every test's.
    made = [name for name in client.list_topics() if name.startswith("packs.")]
    client.delete_topics(made)
    client.close()


@pytest.fixture(autouse=True)
def _look_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tail_reader, "LOOK_FOR_TOPICS_S", 0.0)


def fill(kafka: str, topic: str, first: int, count: int, partition: int = 0) -> None:
    """Records whose bodies are numbered."""
    producer = KafkaProducer(bootstrap_servers=kafka, acks="all")
    for number in range(first, first + count):
        producer.send(
            topic, b"%d" % number, key=b"BTCUSDT", partition=partition, headers=[(topics.SCHEMA_HEADER, b"Trade:1")])
    producer.flush()
    producer.close()


def reader(kafka: str, case: str) -> TailReader:
    return TailReader(kafka, re.compile(rf"packs\.{case}\.[a-z]+"))


def all_of(tail: TailReader, start: dict[Place, int], most: int, count: int) -> tuple[list[Records], dict[Place, int]]:
    """Take until so many records were found; each time at most `most`."""
    found: list[Records] = []
    deadline = time.monotonic() + WITHIN_S
    while sum(len(records.bodies) for records in found) < count:
        assert time.monotonic() < deadline, f"expected {count} records, found {found}"
        taken, start = tail.take(start, most)
        assert sum(len(records.bodies) for records in taken.values()) <= most
        found += taken.values()
    return found, start


def bodies(found: list[Records]) -> list[int]:
    return [int(body) for records in found for body in records.bodies]


def test_every_record_comes_once_in_order_and_again_from_the_same_offsets(kafka: str, admin: KafkaAdminClient) -> None:
    admin.create_topics([NewTopic("packs.order.btc", 1, 1)])
    fill(kafka, "packs.order.btc", 0, 2_500)
    tail = reader(kafka, "order")
    found, end = all_of(tail, {}, 700, 2_500)
    assert bodies(found) == list(range(2_500))
    assert end == {("packs.order.btc", 0): 2_500}
    assert found[0].offsets == list(range(700))
    assert set(found[0].keys) == {b"BTCUSDT"}
    assert set(found[0].schemas) == {b"Trade:1"}
    again, _ = all_of(tail, {("packs.order.btc", 0): 1_300}, 10_000, 1_200)
    assert bodies(again) == list(range(1_300, 2_500))
    spans = read_spans(kafka, [Span("packs.order.btc", 0, 40, 90)])
    assert bodies(list(spans.values())) == list(range(40, 90))
    tail.close()


def test_a_new_topic_and_a_new_partition_are_read_from_their_beginning(kafka: str, admin: KafkaAdminClient) -> None:
    admin.create_topics([NewTopic("packs.new.btc", 1, 1)])
    fill(kafka, "packs.new.btc", 0, 10)
    tail = reader(kafka, "new")
    _, at = all_of(tail, {}, 1_000, 10)
    admin.create_topics([NewTopic("packs.new.eth", 2, 1)])
    fill(kafka, "packs.new.eth", 100, 5)
    fill(kafka, "packs.new.eth", 200, 5, partition=1)
    found, at = all_of(tail, at, 1_000, 10)
    assert sorted(bodies(found)) == [*range(100, 105), *range(200, 205)]
    assert at == {("packs.new.btc", 0): 10, ("packs.new.eth", 0): 5, ("packs.new.eth", 1): 5}
    tail.close()


def test_what_retention_removed_is_a_hole_and_the_rest_is_read(kafka: str, admin: KafkaAdminClient) -> None:
    admin.create_topics([NewTopic("packs.hole.btc", 1, 1)])
    fill(kafka, "packs.hole.btc", 0, 100)
    admin.delete_records({TopicPartition("packs.hole.btc", 0): 60})
    tail = reader(kafka, "hole")
    read, at = all_of(tail, {("packs.hole.btc", 0): 20}, 1_000, 40)
    assert bodies(read) == list(range(60, 100))
    assert at == {("packs.hole.btc", 0): 100}
    assert read_spans(kafka, [Span("packs.hole.btc", 0, 10, 50)]) == {}
    assert bodies(list(read_spans(kafka, [Span("packs.hole.btc", 0, 10, 70)]).values())) == list(range(60, 70))
    tail.close()


def test_a_topic_that_is_gone_is_dropped_and_one_made_anew_is_read_from_its_beginning(
    kafka: str, admin: KafkaAdminClient,
) -> None:
    admin.create_topics([NewTopic("packs.gone.btc", 1, 1), NewTopic("packs.gone.eth", 1, 1)])
    fill(kafka, "packs.gone.btc", 0, 50)
    fill(kafka, "packs.gone.eth", 0, 5)
    tail = reader(kafka, "gone")
    _, at = all_of(tail, {}, 1_000, 55)
    admin.delete_topics(["packs.gone.btc"])
    deadline = time.monotonic() + WITHIN_S
    while ("packs.gone.btc", 0) in at:
        assert time.monotonic() < deadline, "expected the topic to be dropped"
        taken, at = tail.take(at, 1_000)
        assert taken == {}
    assert at == {("packs.gone.eth", 0): 5}
    admin.create_topics([NewTopic("packs.gone.btc", 1, 1)])
    fill(kafka, "packs.gone.btc", 300, 7)
    # A batch that was planned of the old topic is gone with it, and takes nothing of the new one's.
    assert read_spans(kafka, [Span("packs.gone.btc", 0, 50, 60)]) == {}
    # A restart remembers the old topic's offset, which is behind the end of the new one.
    for tail_of, start in ((tail, at), (reader(kafka, "gone"), {**at, ("packs.gone.btc", 0): 50})):
        found, end = all_of(tail_of, start, 1_000, 7)
        assert bodies(found) == list(range(300, 307))
        assert end == {("packs.gone.btc", 0): 7, ("packs.gone.eth", 0): 5}
        tail_of.close()


def test_a_query_that_is_to_end_reads_what_was_there_and_nothing_behind_it(
    kafka: str, admin: KafkaAdminClient,
) -> None:
    admin.create_topics([NewTopic(f"packs.drain.{name}", 1, 1) for name in ("btc", "eth", "old")])
    fill(kafka, "packs.drain.btc", 0, 900)
    fill(kafka, "packs.drain.old", 0, 20)
    admin.delete_records({TopicPartition("packs.drain.old", 0): 20})
    source = PackReader(kafka, "packs.", r"packs\.drain\.[a-z]+", 400)
    source.prepareForTriggerAvailableNow()
    fill(kafka, "packs.drain.btc", 900, 50)
    fill(kafka, "packs.drain.eth", 0, 50)
    rows, start = [], source.initialOffset()
    while True:
        batches, end = source.read(start)
        if end == start:
            break
        again = source.readBetweenOffsets(start, end)
        rows += [row for batch in batches for row in batch.to_pylist()]
        assert [row for batch in again for row in batch.to_pylist()] == rows[-1:]
        start = end
    assert start == {"packs.drain.btc": {"0": 900}, "packs.drain.eth": {"0": 0}}
    assert {(row["symbol"], row["topic"], row["partition"]) for row in rows} == {("BTCUSDT", "drain.btc", 0)}
    events = unpack([(row["topic"], row["partition"], row["offset"], row["pack"]) for row in rows])
    assert [int(event.body) for event in events] == list(range(900))


def test_a_source_travels_to_where_it_reads(kafka: str, admin: KafkaAdminClient) -> None:
    from pyspark import cloudpickle

    admin.create_topics([NewTopic("packs.travel.btc", 1, 1)])
    fill(kafka, "packs.travel.btc", 0, 3)
    source = PackReader(kafka, "packs.", r"packs\.travel\.[a-z]+", 400)
    source.prepareForTriggerAvailableNow()
    sent = cloudpickle.loads(cloudpickle.dumps(source))
    batches, end = sent.read({})
    assert [batch.num_rows for batch in batches] == [1]
    assert end == {"packs.travel.btc": {"0": 3}}
