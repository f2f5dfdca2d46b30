"""Symbols: which instruments are followed: the settings' own, changed while running through the topic `symbols.latest`.

    symbols = read_followed(settings.kafka, settings.symbols)          # once, at a start
    watch = SymbolWatch(settings.kafka, settings.symbols, on_change)   # from then on, on a thread of its own
    announce(settings.kafka, FollowedSymbol(symbol="SOLUSDT", ts_init=now_ns, followed=True))

The topic is compacted by symbol, so it holds the last word on each for ever and is the same for every process of
every machine. What it does not name is as the settings say.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from typing import Any

import structlog

from feature_repo.contracts import FollowedSymbol, InvalidMessage, StoreUnavailable, UnknownSchema
from feature_repo.topics import SYMBOLS, decode, producer, record_schema, send

POLL_MS = 1_000
BOOTSTRAP_MS = 10_000
RETRY_S = 2.0
MOST_EMPTY = 10
ACKNOWLEDGED_S = 10.0
CLIENT = "candlewick-symbols"
log = structlog.get_logger()


def followed(defaults: Iterable[str], changes: Iterable[FollowedSymbol]) -> tuple[str, ...]:
    """The followed instruments: the defaults in their order, then those added, the last word on each counting.

    >>> def said(symbol, is_followed):
    ...     return FollowedSymbol(symbol=symbol, ts_init=1, followed=is_followed)
    >>> followed(["BTCUSDT", "ETHUSDT"], [said("SOLUSDT", True), said("ETHUSDT", False)])
    ('BTCUSDT', 'SOLUSDT')
    """
    last: dict[str, bool] = {}
    for change in changes:
        last.pop(change.symbol, None)  # in the order of the last words: what compaction leaves gives the same
        last[change.symbol] = change.followed
    wanted = dict.fromkeys(defaults, True) | last
    return tuple(symbol for symbol, is_followed in wanted.items() if is_followed)


def read_followed(bootstrap: str, defaults: Iterable[str]) -> tuple[str, ...]:
    """The instruments followed now. Raises `StoreUnavailable` when the broker is away."""
    from kafka.errors import KafkaError

    try:
        consumer = _consumer(bootstrap)
        try:
            return followed(defaults, _whole(consumer) if _begin(consumer) else ())
        finally:
            consumer.close()
    except KafkaError as error:
        raise StoreUnavailable(f"Kafka expected at {bootstrap}, found {error!r}; do `make up`") from error


def announce(bootstrap: str, change: FollowedSymbol) -> None:
    """Make a change known to everybody; returns when the broker has it. Raises `StoreUnavailable`."""
    from kafka.errors import KafkaError

    try:
        out = producer(bootstrap, CLIENT)
        try:
            send(out, SYMBOLS, change).get(timeout=ACKNOWLEDGED_S)
        finally:
            out.close(timeout=ACKNOWLEDGED_S)
    except KafkaError as error:
        raise StoreUnavailable(f"Kafka expected at {bootstrap}, found {error!r}; do `make up`") from error


class SymbolWatch:
    """Tells `on_change`, on a thread of its own, what is followed: when first read, and whenever it changes."""

    def __init__(
        self, bootstrap: str, defaults: Iterable[str], on_change: Callable[[tuple[str, ...]], object],
    ) -> None:
        self._bootstrap, self._defaults, self._on_change = bootstrap, tuple(defaults), on_change
        self._told: tuple[str, ...] | None = None
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="symbol-watch", daemon=True)

    def start(self) -> SymbolWatch:
        self._thread.start()
        return self

    def stop(self) -> None:
        """Ask the thread to end; it does within a second or so."""
        self._stopping.set()

    def _run(self) -> None:
        while not self._stopping.is_set():
            try:
                self._follow()
            except Exception as error:  # noqa: BLE001  whatever ends the reading, what is followed stays as it was told
                log.info("symbol watch away", error=f"{type(error).__name__}: {error}")
            self._stopping.wait(RETRY_S)

    def _follow(self) -> None:
        consumer = _consumer(self._bootstrap)
        try:
            if not _begin(consumer):
                return  # no such topic yet: as the settings say
            changes = _whole(consumer)
            while not self._stopping.is_set():
                self._tell(followed(self._defaults, changes))
                changes += _changes(consumer.poll(timeout_ms=POLL_MS))
        finally:
            consumer.close()

    def _tell(self, symbols: tuple[str, ...]) -> None:
        if symbols != self._told:
            self._told = symbols
            self._on_change(symbols)


def _consumer(bootstrap: str) -> Any:
    from kafka import KafkaConsumer

    # The broker answers a fetch when there is something to tell, or after this long: one question a second.
    return KafkaConsumer(
        bootstrap_servers=bootstrap.split(","), client_id=CLIENT, group_id=None, enable_auto_commit=False,
        fetch_max_wait_ms=POLL_MS, bootstrap_timeout_ms=BOOTSTRAP_MS,
    )


def _begin(consumer: Any) -> bool:
    """Stand at the topic's beginning; false when there is no such topic."""
    from kafka import TopicPartition

    numbers = consumer.partitions_for_topic(SYMBOLS)
    if not numbers:
        return False
    partitions = [TopicPartition(SYMBOLS, number) for number in sorted(numbers)]
    consumer.assign(partitions)
    consumer.seek_to_beginning(*partitions)
    return True


def _whole(consumer: Any) -> list[FollowedSymbol]:
    """Everything that the topic holds now."""
    from kafka.errors import KafkaTimeoutError

    ends = consumer.end_offsets(list(consumer.assignment()))
    changes: list[FollowedSymbol] = []
    empty = 0
    while any(consumer.position(partition) < end for partition, end in ends.items()):
        polled = consumer.poll(timeout_ms=POLL_MS)
        changes += _changes(polled)
        empty = 0 if polled else empty + 1
        if empty > MOST_EMPTY:
            raise KafkaTimeoutError(f"{SYMBOLS}: expected its end, found nothing for {empty * POLL_MS / 1000:.0f} s")
    return changes


def _changes(polled: dict[Any, list[Any]]) -> list[FollowedSymbol]:
    changes = []
    for record in (record for records in polled.values() for record in records):
        try:
            message = decode(record.value or b"", record_schema(record.headers))
        except (InvalidMessage, UnknownSchema) as error:
            log.warning("message not readable", topic=record.topic, offset=record.offset, reason=str(error))
            continue
        if isinstance(message, FollowedSymbol):
            changes.append(message)
    return changes
