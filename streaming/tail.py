"""Tail: what a symbol's trades topic ends with, so that ingest goes on exactly where it stopped.

Reads backwards in growing steps until the symbol's last seal is found; what was sent after it was sent. What the raw
history still lacks is told by the topic `missing.latest`.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from feature_repo.contracts import InvalidMessage, MissingTrades, SecondClosed, Source, Trade, UnknownSchema
from feature_repo.topics import MISSING, decode, record_schema, trades_topic
from streaming.seal import Resume

FIRST_STEP = 2_000
LONGEST_STEP = 1_000_000
POLL_MS = 1_000


@dataclass(frozen=True)
class LastSeal:
    """The last seal of a symbol, and where to go on from."""

    source: Source
    session: str
    resume: Resume
    missing: MissingTrades | None = None
    """What the raw history lacked then."""


def last_seal(bootstrap: str, symbol: str) -> LastSeal | None:
    """The last seal in the topic's tail; None when there is none. Blocks; raises kafka-python's errors."""
    from kafka import KafkaConsumer, TopicPartition

    consumer = KafkaConsumer(
        bootstrap_servers=bootstrap.split(","), client_id="ingest-tail", enable_auto_commit=False, group_id=None,
    )
    try:
        said, partitions = (
            [TopicPartition(topic, p) for p in consumer.partitions_for_topic(topic) or ()]
            for topic in (MISSING, trades_topic(symbol)))
        consumer.assign(said)
        missing = _read_last(consumer, said, LONGEST_STEP)[0] if said else []
        consumer.assign(partitions)
        step = FIRST_STEP
        while partitions:
            records, whole = _read_last(consumer, partitions, step)
            found = find_last_seal([*missing, *records], symbol)
            if found is not None or whole or step > LONGEST_STEP:
                return found
            step *= 10
        return None
    finally:
        consumer.close()


def find_last_seal(records: Iterable[Any], symbol: str) -> LastSeal | None:
    """The greatest seal of a symbol among Kafka records, its trades of later seconds, and what was last missing."""
    last: SecondClosed | None = None
    missing: MissingTrades | None = None
    trades: dict[int, Trade] = {}
    for record in records:
        try:
            message = decode(record.value, record_schema(record.headers))
        except (InvalidMessage, UnknownSchema):
            continue  # its readers dead-letter it; here only our own seals and trades matter
        if getattr(message, "symbol", None) != symbol:
            continue
        if isinstance(message, SecondClosed) and (last is None or message.close > last.close):
            last = message
        elif isinstance(message, Trade) and not message.late:
            trades[message.trade_id] = message
        elif isinstance(message, MissingTrades):
            missing = message
    if last is None:
        return None
    after = tuple(trades[i] for i in sorted(trades) if trades[i].ts_event >= last.close)
    return LastSeal(last.source, last.session, Resume(last.close, last.last_trade_id, after), missing)


def _read_last(consumer: Any, partitions: list[Any], step: int) -> tuple[list[Any], bool]:
    """The last `step` records of each partition, and whether that is all there is."""
    beginnings, ends = consumer.beginning_offsets(partitions), consumer.end_offsets(partitions)
    starts = {p: max(beginnings[p], ends[p] - step) for p in partitions}
    for partition, start in starts.items():
        consumer.seek(partition, start)
    records: list[Any] = []
    while any(consumer.position(p) < ends[p] for p in partitions):
        for batch in consumer.poll(timeout_ms=POLL_MS).values():
            records += batch
    return records, all(starts[p] == beginnings[p] for p in partitions)
