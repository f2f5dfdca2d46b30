"""Tail reader: what has come to the topics that match a pattern since some offsets, read ahead while others compute.

    reader = TailReader("127.0.0.1:19092", re.compile(r"crypto\\.[a-z0-9]+\\.trades"))
    found, end = reader.take({("crypto.btc.trades", 0): 500}, most=40_000)

librdkafka fetches in threads of its own and hands over thousands of records a call. There is no consumer group: who
calls keeps the offsets.
"""

from __future__ import annotations

import logging
import re
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from typing import Any

import structlog

from feature_repo.contracts import StoreUnavailable
from streaming.collector import no_collection
from streaming.packs import Place, Records, Span

ANSWER_WITHIN_S = 60.0
"""How long the broker may take over an answer: it may be starting again."""
LOOK_FOR_TOPICS_S = 1.0
AHEAD_KB = 32 * 1024
"""What is read ahead of a batch that is computed."""
_MOST_AT_ONCE = 10_000
_ROUND_S = 0.01
_BEGINNING = -2
"""Kafka's word for the oldest record there is."""
log = structlog.get_logger()


@dataclass
class TailReader:
    """A reader of every partition that matches. `clock` is monotonic, seconds."""

    bootstrap: str
    pattern: re.Pattern[str]
    clock: Callable[[], float] = time.monotonic
    _at: dict[Place, int] = field(default_factory=dict)
    """The next offset of each partition that is read."""
    _ended: set[Place] = field(default_factory=set)
    """Partitions that had nothing more when they were last looked at: that is told once."""
    _looked: float | None = None
    _client: Any = None
    _admin: Any = None

    def take(
        self, start: Mapping[Place, int], most: int, until: Mapping[Place, int] | None = None,
    ) -> tuple[dict[Place, Records], dict[Place, int]]:
        """Up to `most` records from `start` on, by partition, and the offsets behind them.

        A partition that `start` lacks begins at its oldest record. Without `until` nothing is waited for; with it,
        nothing behind it is read, and no record is given only when all before it have been. Raises `StoreUnavailable`.
        """
        with no_collection():
            return self._take(start, most, until)

    def _take(
        self, start: Mapping[Place, int], most: int, until: Mapping[Place, int] | None,
    ) -> tuple[dict[Place, Records], dict[Place, int]]:
        self._follow(start)
        found: dict[Place, Records] = {}
        count, deadline = 0, self.clock() + ANSWER_WITHIN_S
        waited_for = {place for place, end in (until or {}).items() if end > max(0, self._at.get(place, end))}
        waited_for -= self._ended
        while count < most:
            asked = min(_MOST_AT_ONCE, most - count)
            messages = self._messages(asked)
            count += collect(messages, found, self._at, until)
            if until is not None:
                self._ended |= ended(messages, self._at, until)
                waited_for -= self._ended
            if len(messages) < asked and (count or not waited_for):
                break
            if not messages and self.clock() > deadline:
                raise StoreUnavailable(
                    f"Kafka at {self.bootstrap}: expected the records of {sorted(waited_for)}, found no answer")
        known = {place: at for place, at in self._at.items() if at != _BEGINNING}
        return found, known

    def ends(self) -> dict[Place, int]:
        """The offset behind the newest record of every partition. Raises `StoreUnavailable`."""
        return {place: self._end(place) for place in self._look()}

    def close(self) -> None:
        """End the connection."""
        if self._client is not None:
            self._client.close()
            self._client = None

    def _follow(self, start: Mapping[Place, int]) -> None:
        """Read on from `start`, and from the beginning of what is new."""
        now = self.clock()
        if self._looked is None or now - self._looked >= LOOK_FOR_TOPICS_S:
            places = self._look()
            self._looked = now
        else:
            places = tuple(self._at)
        wanted = {place: start.get(place, self._at.get(place, _BEGINNING)) for place in places}
        if wanted != self._at:
            self._consumer().assign(_assigned(wanted))
            self._ended.clear()
            self._at = wanted

    def _look(self) -> tuple[Place, ...]:
        """The partitions that there are."""
        from confluent_kafka import KafkaException

        try:
            found = self._asker().list_topics(timeout=ANSWER_WITHIN_S).topics
        except KafkaException as error:
            raise StoreUnavailable(f"Kafka at {self.bootstrap}: expected its topics, found {error}") from error
        return tuple(sorted(
            (name, number) for name in found if self.pattern.fullmatch(name) for number in found[name].partitions
        ))

    def _end(self, place: Place) -> int:
        from confluent_kafka import KafkaException, TopicPartition

        try:
            bounds: tuple[int, int] = self._consumer().get_watermark_offsets(TopicPartition(*place), ANSWER_WITHIN_S)
        except KafkaException as error:
            raise StoreUnavailable(f"Kafka at {self.bootstrap}: expected {place}'s end, found {error}") from error
        return bounds[1]

    def _messages(self, most: int) -> list[Any]:
        messages: list[Any] = self._consumer().consume(most, _ROUND_S)
        return messages

    def _consumer(self) -> Any:
        if self._client is None:
            self._client = consumer(self.bootstrap)
        return self._client

    def _asker(self) -> Any:
        """A connection of its own: on the consumer's an answer waits until the broker has new records."""
        if self._admin is None:
            from confluent_kafka.admin import AdminClient

            self._admin = AdminClient({"bootstrap.servers": self.bootstrap, "client.id": "candlewick-packs"})
        return self._admin


def read_spans(bootstrap: str, spans: Sequence[Span]) -> dict[Place, Records]:
    """The records of each span, in its order. Raises `StoreUnavailable` when the broker does not answer."""
    found: dict[Place, Records] = {}
    if not spans:
        return found
    starts, until = {span[:2]: span.start for span in spans}, {span[:2]: span.end for span in spans}
    at = dict(starts)
    waited_for, deadline = set(at), time.monotonic() + ANSWER_WITHIN_S
    client = consumer(bootstrap)
    try:
        client.assign(_assigned(at))
        while waited_for:
            messages = client.consume(_MOST_AT_ONCE, _ROUND_S)
            # What lies before its start was written anew since: the range that was asked for is gone.
            anew = {_place(each) for each in messages if each.error() is None and each.offset() < starts[_place(each)]}
            told = [each for each in messages if _place(each) not in anew]
            collect(told, found, at, until)
            waited_for -= ended(told, at, until) | anew
            if messages:
                deadline = time.monotonic() + ANSWER_WITHIN_S
            elif time.monotonic() > deadline:
                raise StoreUnavailable(
                    f"Kafka at {bootstrap}: expected the records of {sorted(waited_for)}, found no answer")
    finally:
        client.close()
    return found


def collect(
    messages: Iterable[Any], found: dict[Place, Records], at: dict[Place, int], until: Mapping[Place, int] | None,
) -> int:
    """Put records where they belong, and what comes next in `at`; those behind `until` are left out.

    Returns how many were taken. Raises `StoreUnavailable` for an error that is not the end of something.
    """
    taken = 0
    for place, run in groupby(messages, _place):
        told = list(run)
        if any(failed := [message.error() for message in told]):
            for error in filter(None, failed):
                _check(place, error)
            told = [message for message, error in zip(told, failed, strict=True) if error is None]
            if not told:
                continue
        at[place] = told[-1].offset() + 1
        if until is not None and at[place] > (bound := until.get(place, 0)):
            told = [message for message in told if message.offset() < bound]
            at[place] = bound
            if not told:
                continue
        found.setdefault(place, Records(place[1])).add(told)
        taken += len(told)
    return taken


def ended(messages: Iterable[Any], at: Mapping[Place, int], until: Mapping[Place, int] | None) -> set[Place]:
    """The partitions that have nothing more to give: read to their bound, to the end of the log, or gone."""
    at_end = {(message.topic(), message.partition()) for message in messages if message.error() is not None}
    return at_end | {place for place, end in (until or {}).items() if at.get(place, end) >= end}


def consumer(bootstrap: str) -> Any:
    """A consumer that is told what to read."""
    from confluent_kafka import Consumer

    return Consumer({
        "bootstrap.servers": bootstrap, "client.id": "candlewick-packs",
        # Required, but no group is ever joined: what was read is the caller's to remember.
        "group.id": "candlewick-packs", "enable.auto.commit": False, "enable.auto.offset.store": False,
        # What retention removed while we were away is a hole like any other; the stream goes on behind it.
        "auto.offset.reset": "earliest", "enable.partition.eof": True,
        "queued.max.messages.kbytes": AHEAD_KB, "reconnect.backoff.max.ms": 1_000,
    }, logger=logging.getLogger("kafka.packs"))


def _assigned(at: Mapping[Place, int]) -> list[Any]:
    from confluent_kafka import TopicPartition

    return [TopicPartition(topic, number, offset) for (topic, number), offset in at.items()]


def _place(message: Any) -> Place:
    return message.topic(), message.partition()


def _check(place: Place, error: Any) -> None:
    """Raise `StoreUnavailable` for an error, unless it says that there is nothing there (any more)."""
    from confluent_kafka import KafkaError

    if error.code() == KafkaError._PARTITION_EOF:  # noqa: SLF001 librdkafka's own codes are named so
        return
    gone = (KafkaError._UNKNOWN_PARTITION, KafkaError._UNKNOWN_TOPIC, KafkaError.UNKNOWN_TOPIC_OR_PART)  # noqa: SLF001
    if error.code() not in gone:
        raise StoreUnavailable(f"Kafka, {place}: expected records, found {error}")
    log.warning("topic is gone: what was still to be read of it is a hole", topic=place[0])
