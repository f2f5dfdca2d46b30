"""LiveFeed: the one Kafka consumer of a service process, on its own thread.

It starts with one bulk pass from `RELOAD_S` ago (a seek by time) and then follows. It commits nothing: every
process reads for itself, and the offset of a message is its sequence on `/live`. A broker that is away is tried
again with growing, jittered pauses, from where reading stopped.
"""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import structlog

from bentos.live import Received
from bentos.live_state import Channel
from bentos.venue_clock import MILLI_NS
from feature_repo.contracts import InvalidMessage, UnknownSchema
from feature_repo.topics import ANALYTICS, CLEAN, FEATURES, PREDICTIONS, decode, order_book_topic, record_schema

RELOAD_S = 720
"""600 bars and what a stall of two minutes would have delayed."""
BOOK_EVERY_MS, OLD_BOOK_EVERY_MS, OLD_MS = 150, 1_000, 10_000
"""A book is decoded and sent on at most this often; of those older than `OLD_MS` one a second is enough."""
FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.5, 10.0

SHARED: Mapping[str, Channel] = {CLEAN: "bar", FEATURES: "features", PREDICTIONS: "prediction", ANALYTICS: "market"}
"""Topics of all symbols."""
Sink = Callable[[list[Received]], object]
log = structlog.get_logger()


class LiveFeed:
    """Follows the channels of some symbols and hands batches to `sink`, on the feed's own thread."""

    def __init__(
        self, bootstrap: str, symbols: Iterable[str], sink: Sink, refused: Callable[[str], None],
        wall_ns: Callable[[], int] = time.time_ns,
    ) -> None:
        self._bootstrap = bootstrap
        self._followed = self._wanted = tuple(symbols)
        self._symbols, self._channels = _keys(self._followed), _channels(self._followed)
        self._sink, self._refused, self._wall_ns = sink, refused, wall_ns
        self._next_offset: dict[Any, int] = {}
        self._seen_offset: dict[Any, int] = {}
        """Partition → before which offset only what is new among the symbols is news."""
        self._new: set[bytes] = set()
        self._last_book_ms: dict[str, int] = {}
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="live-feed", daemon=True)
        self.connected = False

    def start(self) -> None:
        self._thread.start()

    def follow(self, symbols: Iterable[str]) -> None:
        """Follow these symbols from the next poll on; callable from any thread."""
        self._wanted = tuple(symbols)

    def stop(self) -> None:
        """Ask the thread to end and wait for it; at most two seconds."""
        self._stopping.set()
        if self._thread.is_alive():
            self._thread.join(timeout=2.0)

    def _run(self) -> None:
        pause_s = FIRST_PAUSE_S
        while not self._stopping.is_set():
            try:
                self._follow()
            except Exception as error:  # noqa: BLE001  whatever ends the connection, the answer is to connect again
                log.warning("live feed lost", error=f"{type(error).__name__}: {error}", retry_within_s=pause_s)
            if self.connected:
                self.connected, pause_s = False, FIRST_PAUSE_S
            self._stopping.wait(random.uniform(0, pause_s))
            pause_s = min(2 * pause_s, LONGEST_PAUSE_S)

    def _follow(self) -> None:
        from kafka import KafkaConsumer

        consumer = KafkaConsumer(
            bootstrap_servers=self._bootstrap.split(","), client_id="candlewick-live", group_id=None,
            enable_auto_commit=False, auto_offset_reset="latest", fetch_max_wait_ms=200, max_poll_records=1_000,
        )
        try:
            self._assign(consumer)
            while not self._stopping.is_set():
                if self._wanted != self._followed:
                    self._change()
                    self._assign(consumer)
                polled = consumer.poll(timeout_ms=500)
                self.connected = True
                self._deliver(polled)
        finally:
            consumer.close(timeout_ms=1_000)

    def _change(self) -> None:
        """Take on what is wanted. What is new among it is read from `RELOAD_S` ago, from the shared topics too."""
        self._new = {symbol.encode() for symbol in set(self._wanted) - set(self._followed)}
        self._followed = self._wanted
        self._symbols, self._channels = _keys(self._followed), _channels(self._followed)
        if self._new:
            shared = [partition for partition in self._next_offset if partition.topic in SHARED]
            self._seen_offset = {partition: self._next_offset.pop(partition) for partition in shared}

    def _assign(self, consumer: Any) -> None:
        """Every partition of every channel; those never read begin `RELOAD_S` ago. Raises when a topic is missing."""
        from kafka import TopicPartition

        partitions = []
        for topic in self._channels:
            numbers = consumer.partitions_for_topic(topic)
            if not numbers:
                raise LookupError(f"expected topic {topic}, found none; run `candlewick topics`")
            partitions += [TopicPartition(topic, number) for number in sorted(numbers)]
        consumer.assign(partitions)
        since_ms = self._wall_ns() // MILLI_NS - RELOAD_S * 1_000
        found = consumer.offsets_for_times(dict.fromkeys(partitions, since_ms))
        ends = consumer.end_offsets(partitions)
        for partition in partitions:
            by_time = found[partition].offset if found.get(partition) else ends[partition]
            consumer.seek(partition, self._next_offset.get(partition, by_time))

    def _deliver(self, polled: dict[Any, list[Any]]) -> None:
        batch = []
        for partition, records in polled.items():
            for record in records:
                self._next_offset[partition] = record.offset + 1
                if record.offset < self._seen_offset.get(partition, 0) and record.key not in self._new:
                    continue
                if (item := self._received(record)) is not None:
                    batch.append(item)
        if batch:
            self._sink(batch)

    def _received(self, record: Any) -> Received | None:
        symbol = self._symbols.get(record.key)
        channel = self._channels[record.topic]
        if symbol is None or (channel == "book" and not self._is_due(symbol, record.timestamp)):
            return None
        try:
            message = decode(record.value, record_schema(record.headers))
        except (InvalidMessage, UnknownSchema) as error:  # the lake query dead-letters it; here it is only not shown
            self._refused(type(error).__name__)
            return None
        return Received(
            channel, symbol, record.offset, message, record.timestamp, record.partition,  # type: ignore[arg-type]
        )

    def _is_due(self, symbol: str, appended_ms: int) -> bool:
        is_old = self._wall_ns() // MILLI_NS - appended_ms > OLD_MS
        last_ms = self._last_book_ms.get(symbol)
        if last_ms is not None and appended_ms - last_ms < (OLD_BOOK_EVERY_MS if is_old else BOOK_EVERY_MS):
            return False
        self._last_book_ms[symbol] = appended_ms
        return True


def _keys(symbols: Iterable[str]) -> dict[bytes, str]:
    return {symbol.encode(): symbol for symbol in symbols}


def _channels(symbols: Iterable[str]) -> dict[str, Channel]:
    """Topic → the channel that it feeds."""
    channels = dict(SHARED)
    channels |= {order_book_topic(symbol): "book" for symbol in symbols}
    return channels
