"""Chaos on the stack: a scenario at the running local exchange, and what the running ingest made of it.

    report = run_on_stack(scenario, load_settings())

What ingest published is read from Kafka, from now on; what it counts from its metrics, ten times a second; what is true
from the exchange's REST. Here a book is compared by its 20 best levels, at one update id of each symbol, and
expectations of figures that only the exchange's own process knows (`connects`) are named `unseen`.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import httpx
from prometheus_client.parser import text_string_to_metric_families

from feature_repo import topics
from feature_repo.contracts import InvalidMessage, OrderBook, PriceLevels, SecondClosed, UnknownSchema
from feature_repo.settings import LOOPBACK, Settings
from streaming.bars import STEP
from streaming.chaos import break_down, judged, watched
from streaming.chaos_truth import told
from streaming.chaos_watch import Watch
from streaming.exchange_control import PATH
from streaming.exchange_faults import Fault, plain
from streaming.scenario import ALWAYS, Scenario
from streaming.venues.binance import Level, snapshot
from streaming.venues.binance_rest import RestClient

LOOK_EVERY_S = 0.1
TRIES = 200
LEVELS = 20
SEALED_PAST_NS = 2_000_000_000


class Tail:
    """What ingest publishes from now on, read by a thread into a watch."""

    def __init__(self, settings: Settings, watch: Watch) -> None:
        self._settings, self._watch = settings, watch
        self._ready, self._stop = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._run, name="chaos-tail", daemon=True)

    def __enter__(self) -> None:
        self._thread.start()
        if not self._ready.wait(30):
            raise ValueError(f"expected a broker at {self._settings.kafka}, found none in 30 s; start the stack")

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join(timeout=10)

    def _run(self) -> None:
        from kafka import KafkaConsumer, TopicPartition

        names = {topics.DEAD_LETTERS}
        for symbol in self._settings.symbols:
            names |= {topics.trades_topic(symbol), topics.order_book_topic(symbol)}
        consumer = KafkaConsumer(
            bootstrap_servers=self._settings.kafka.split(","), client_id="candlewick-chaos", group_id=None,
            enable_auto_commit=False,
        )
        try:
            parts = [TopicPartition(name, p) for name in names for p in consumer.partitions_for_topic(name) or ()]
            consumer.assign(parts)
            for part, end in consumer.end_offsets(parts).items():
                consumer.seek(part, end)
            self._ready.set()
            while not self._stop.is_set():
                for records in consumer.poll(timeout_ms=200).values():
                    self._take(records)
        finally:
            consumer.close()

    def _take(self, records: Sequence[Any]) -> None:
        for record in records:
            try:
                message = topics.decode(record.value, topics.record_schema(record.headers))
            except (InvalidMessage, UnknownSchema):
                continue  # its readers dead-letter it; here only ingest's own messages matter
            self._watch.publish(record.topic, message)


class Counters:
    """Ingest's metrics at one moment."""

    def __init__(self, text: str) -> None:
        self._samples = [
            sample for family in text_string_to_metric_families(text) for sample in family.samples]

    def total(self, name: str) -> float:
        return sum(sample.value for sample in self._samples if sample.name == name)

    def by_symbol(self, name: str) -> dict[str, float]:
        return {sample.labels["symbol"]: sample.value for sample in self._samples if sample.name == name}


def run_on_stack(scenario: Scenario, settings: Settings) -> dict[str, Any]:
    """Run a scenario against the running stack. Raises `ValueError` when there is none with a local exchange."""
    return asyncio.run(_run(scenario, settings))


async def _run(scenario: Scenario, settings: Settings) -> dict[str, Any]:
    began = time.monotonic()
    exchange, ingest = (f"http://{LOOPBACK}:{port}" for port in (settings.ports.exchange, settings.ports.ingest))
    watch = Watch(time.monotonic)
    async with httpx.AsyncClient(timeout=10.0, trust_env=False) as http:
        await _check(http, exchange, ingest)

        async def declare(fault: Fault) -> None:
            (await http.post(f"{exchange}{PATH}", json=plain(fault))).raise_for_status()

        rest = RestClient((exchange,), http, time.time_ns)
        before = await _counters(http, ingest)
        with Tail(settings, watch):
            looking = asyncio.create_task(_look(http, ingest, watch))
            try:
                broken, until_s = await break_down(scenario, declare)
                await asyncio.sleep(max(0.0, until_s - time.monotonic()))
                settled = await _settled(rest, settings.symbols, watch, scenario.settle_s)
                equal = settled and all([await _book_is_equal(rest, symbol, watch) for symbol in settings.symbols])
            finally:
                looking.cancel()
        after = await _counters(http, ingest)
        trades = await _held_against(rest, settings.symbols, watch)
    grown = {name: round(after.total(metric) - before.total(metric)) for name, metric in (
        ("resyncs", "candlewick_book_resyncs_total"), ("reconnects", "candlewick_reconnects_total"),
        ("resubscribed", "candlewick_resubscribes_total"))}
    found = {"source": "stack", "symbols": list(settings.symbols), "settled": settled, **watched(watch, broken),
             **grown, **trades, "books_equal": equal}
    return _judged(scenario, found, began)


def _judged(scenario: Scenario, found: dict[str, Any], began_s: float) -> dict[str, Any]:
    """A connection's own times cannot be seen from outside of its process: they are left out, not guessed."""
    for name in ("reconnects_timed", "reconnect_p95_s", "without_frames_p95_s", "without_frames_s"):
        del found[name]
    unseen = sorted((scenario.expect.keys() | ALWAYS.keys()) - found.keys())
    expect = {name: wanted for name, wanted in scenario.expect.items() if name in found}
    return judged(replace(scenario, expect=expect), {**found, "unseen": unseen}, began_s)


async def _check(http: httpx.AsyncClient, exchange: str, ingest: str) -> None:
    for url in (f"{exchange}{PATH}", f"{ingest}/metrics"):
        try:
            (await http.get(url)).raise_for_status()
        except httpx.HTTPError as error:
            raise ValueError(
                f"{url}: expected the running stack over its local exchange, found {type(error).__name__}; "
                "start it (`candlewick up --source simulated`), or leave --stack out") from error


async def _counters(http: httpx.AsyncClient, ingest: str) -> Counters:
    return Counters((await http.get(f"{ingest}/metrics")).text)


async def _look(http: httpx.AsyncClient, ingest: str, watch: Watch) -> None:
    while True:
        valid = (await _counters(http, ingest)).by_symbol("candlewick_book_valid")
        watch.look(None, {symbol: value == 1 for symbol, value in valid.items()}, served=0)
        await asyncio.sleep(LOOK_EVERY_S)


async def _settled(rest: RestClient, symbols: Sequence[str], watch: Watch, seconds: float) -> bool:
    """Wait until every symbol is sealed, with a book, past what the exchange's clock says now."""
    past, deadline = (await rest.time())[0].venue_ns + SEALED_PAST_NS, time.monotonic() + seconds

    def whole(symbol: str) -> bool:
        return any(seal.close > past and seal.book_valid for seal in watch.seals[symbol][-3:])

    while not all(map(whole, symbols)):
        if time.monotonic() > deadline:
            return False
        await asyncio.sleep(LOOK_EVERY_S)
    return True


async def _book_is_equal(rest: RestClient, symbol: str, watch: Watch) -> bool:
    """Whether a published book is the exchange's at the same update id, in its 20 best levels a side."""
    for _ in range(TRIES):
        there = snapshot((await rest.get("depth", 5, symbol=symbol, limit=LEVELS)).body)
        await asyncio.sleep(LOOK_EVERY_S)
        same = [book for book in watch.books[symbol][-50:] if book.last_update_id == there.last_update_id]
        if same:
            return _levels(same[-1]) == (there.bids, there.asks)
    return False


def _levels(book: OrderBook) -> tuple[tuple[Level, ...], tuple[Level, ...]]:
    return _steps(book.bids), _steps(book.asks)


def _steps(side: PriceLevels) -> tuple[Level, ...]:
    levels = zip(side.prices, side.quantities, strict=True)
    return tuple((round(price * STEP), round(quantity * STEP)) for price, quantity in levels)


async def _held_against(rest: RestClient, symbols: Sequence[str], watch: Watch) -> dict[str, int]:
    """Trades held against the exchange's, over the whole seconds that were watched."""
    found = {"trades": 0, "missing_ids": 0, "wrong_trades": 0}
    for symbol in symbols:
        published, seals = watch.trades[symbol], _with_trades(watch.seals[symbol])
        if not seals or not published:
            continue
        first, last = min(published), seals[-1].last_trade_id or 0
        there = {frame.trade_id: frame for frame in await rest.trades(symbol, first, last, seals[0].close)}
        found["trades"] += len(there)
        found["missing_ids"] += len(there.keys() - published.keys())
        found["wrong_trades"] += sum(
            told(published[i]) != (f.time_ms, float(f.price), float(f.quantity), f.buyer_is_maker)
            for i, f in there.items() if i in published)
        found["wrong_trades"] += sum(first <= i <= last and i not in there for i in published)
    return found


def _with_trades(seals: Sequence[SecondClosed]) -> list[SecondClosed]:
    return [seal for seal in seals if seal.n_trades]
