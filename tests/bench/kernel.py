"""Bench: what one row costs, step by step, when each symbol brings one live second, and many rows at once beside it.

    candlewick bench kernel --json           # some ten seconds; needs no stack

50 symbols of the made market bring 20 trades and a seal each: once with the history of a day behind them (`full`),
once just begun (`young`, most values null). The worker's steps are the pure stream's, the driver's those of delivery
and store as far as the commands to Redis, packed for the wire. `digest` names everything that came out, bit for bit:
two versions of the kernel that agree tell the same one.
"""

from __future__ import annotations

import hashlib
import pickle
import time
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from statistics import median
from typing import Any

from prometheus_client import CollectorRegistry
from redis.backoff import NoBackoff
from redis.retry import Retry

from feature_repo.contracts import HOUR_NS, MINUTE_NS
from feature_repo.settings import Settings
from feature_repo.store import FeatureStore
from infra.drill.made_market import MadeMarket, Record
from streaming.delivery import Delivery, StreamMetrics
from streaming.symbol_stream import Event, Output, SymbolStream, chunk_bytes, dump
from streaming.ticks import read_ticks

BEGIN_NS = 1_723_161_300_000_000_000 // MINUTE_NS * MINUTE_NS
TRADES = 20
"""Trades of one symbol in one second."""
HISTORY_MINUTES = 1_570
WARM_SECONDS = {"full": 1_000, "young": 20}
BLOCK = 900
"""Rows of the block, which are computed at once."""


def run(symbols: int = 50, seconds: int = 5) -> dict[str, Any]:
    """Microseconds of the processor a row: the median of `seconds` rounds, each one second of all symbols."""
    found: dict[str, Any] = {name: rows(name, symbols, seconds) for name in WARM_SECONDS}
    return {**found, "block": block(), "symbols": symbols, "trades": TRADES}


def rows(name: str, symbols: int, seconds: int) -> dict[str, Any]:
    """One row at a time, after `WARM_SECONDS` with or without history."""
    markets = [Market(f"A{n:02}USDT", n, HISTORY_MINUTES if name == "full" else 0) for n in range(symbols)]
    for market in markets:
        market.stream.apply(market.events(WARM_SECONDS[name], trades=1))
        market.stream.changed.clear()
    clock, client = Clock(), Packed()
    deliver = delivery(client)
    for _ in range(seconds):
        outputs = [output for market in markets for output in market.second(clock)]
        with clock.step("deliver"):
            deliver(outputs)
        clock.turn(symbols)
    spent = {step: round(median(took), 1) for step, took in clock.rounds.items()}
    digest = hashlib.sha256(b"".join(market.told.digest() for market in markets))
    digest.update(client.packed.digest())
    whole = sum(spent[step] for step in ("apply", "dump", "chunks", "pickle", "deliver"))
    return {"row_us": round(whole, 1), "steps_us": spent, "digest": digest.hexdigest()[:16]}


def block() -> dict[str, Any]:
    """`BLOCK` seconds of one symbol in one batch."""
    market, took = Market("A00USDT", 0, HISTORY_MINUTES), []
    market.stream.apply(market.events(1_000, trades=1))
    told = hashlib.sha256()
    for _ in range(3):
        events = market.events(BLOCK)
        began = time.process_time()
        outputs = market.stream.apply(events)
        took.append((time.process_time() - began) / BLOCK * 1e6)
        told.update(repr(outputs).encode())
    return {"row_us": round(median(took), 1), "digest": told.hexdigest()[:16]}


class Clock:
    """The time that steps took, by round."""

    def __init__(self) -> None:
        self.rounds: defaultdict[str, list[float]] = defaultdict(list)
        self._round: defaultdict[str, float] = defaultdict(float)

    @contextmanager
    def step(self, name: str) -> Iterator[None]:
        began = time.process_time()
        yield
        self._round[name] += time.process_time() - began

    def turn(self, rows: int) -> None:
        """The end of a round of so many rows."""
        for name, took in self._round.items():
            self.rounds[name].append(took / rows * 1e6)
        self._round.clear()


class Market:
    """One symbol's made market and its stream."""

    def __init__(self, symbol: str, seed: int, minutes: int) -> None:
        self.market, self.stream = MadeMarket(symbol, seed, BEGIN_NS), SymbolStream.new(symbol)
        self.told = hashlib.sha256()
        """Everything that the worker's steps gave."""
        self._offset = 0
        if minutes:
            self.stream.apply(self._read(self.market.history(minutes)))

    def events(self, seconds: int, trades: int = TRADES) -> list[Event]:
        """The next seconds of so many trades each."""
        return self._read(record for _ in range(seconds) for record in self.market.second(trades))

    def second(self, clock: Clock) -> list[Output]:
        """The next second through the worker's steps; what arrives on the driver."""
        events, stream = self.events(1), self.stream
        with clock.step("apply"):
            outputs = stream.apply(events)
        with clock.step("dump"):
            state = dump(stream)
        with clock.step("chunks"):
            chunks = [chunk_bytes(stream, chunk) for chunk in sorted(stream.changed)]
        stream.changed.clear()
        with clock.step("pickle"):
            arrived: list[Output] = pickle.loads(pickle.dumps(outputs, protocol=5))  # noqa: S301 written just now
        self.told.update(repr((arrived, state, chunks)).encode())
        with clock.step("of it ticks"):
            read_ticks([event.body for event in events[:-1]], stream.symbol)
        return arrived

    def _read(self, records: Iterable[Record]) -> list[Event]:
        events = [
            Event(0, offset, BEGIN_NS, record.topic, record.schema.decode(), record.value)
            for offset, record in enumerate(records, self._offset)
        ]
        self._offset += len(events)
        return events


def delivery(client: Packed) -> Delivery:
    """The driver's side without a broker and a Redis."""
    store = FeatureStore(Settings(), client, client, clock_ns=lambda: BEGIN_NS + HOUR_NS)
    unsent: Any = Unsent()
    return Delivery(unsent, store.write, StreamMetrics(CollectorRegistry()), lambda: BEGIN_NS)


class Unsent:
    """A producer that confirms what it never sent."""

    def add(self, topic: str, key: str, schema: str, value: bytes) -> None:
        """Taken, and forgotten."""

    def confirm(self) -> None:
        """At once."""


class Packed:
    """A client of Redis whose one connection counts what it is sent, and answers that each command wrote."""

    def __init__(self) -> None:
        self.packed = hashlib.sha256()
        self.connection_pool = self
        self.retry: Any = Retry(NoBackoff(), 0)

    def make_connection(self) -> Packed:
        return self

    def send_packed_command(self, parts: Sequence[bytes], **_: bool) -> None:
        for part in parts:
            self.packed.update(part)

    def connect_check_health(self, **_: bool) -> None:
        """It is always there."""

    def read_response(self) -> int:
        return 1

    def disconnect(self) -> None:
        """Nothing is held open."""
