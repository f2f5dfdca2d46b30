"""Several symbols over one connection: added and removed while it runs, each sealed exactly and by itself."""

from __future__ import annotations

import asyncio
import time
from itertools import pairwise

import httpx
import pytest

from feature_repo.contracts import SECOND_NS, Bar, DeadLetter, Message, OrderBook, SecondClosed, Trade
from streaming.exchange_market import Market
from streaming.frame_bars import second_bars
from streaming.ingest import Ingest
from streaming.recording import Line
from streaming.simulator import simulate
from streaming.tape import build_tape
from streaming.venue_link import MOST_SYMBOLS, open_link
from streaming.venues.binance_rest import RestClient
from tests.conftest import SIMULATED_BEGIN_NS, SIMULATED_SECONDS
from tests.streaming.made_exchange import market_of, served
from tests.streaming.made_ingest import Memory, ingesting, read_bars, until

BTC, ETH = "BTCUSDT", "ETHUSDT"
SPEED = 12.0


@pytest.fixture(scope="module")
def ether() -> list[Line]:
    return list(simulate(ETH, seed=8, begin_ns=SIMULATED_BEGIN_NS, seconds=SIMULATED_SECONDS))


@pytest.fixture
def market(simulated_frames: list[Line], ether: list[Line]) -> Market:
    """Both symbols, played once at 12×."""
    tape = build_tape([simulated_frames, ether])
    return market_of(tape, time.time_ns, once=True, original_time=True, speed=SPEED)


def of(memory: Memory, symbol: str) -> list[Message]:
    return [message for _, message in memory.sent if getattr(message, "symbol", None) == symbol]


def seals(memory: Memory, symbol: str) -> list[SecondClosed]:
    return [message for message in of(memory, symbol) if isinstance(message, SecondClosed)]


def figures(bars: list[Bar]) -> dict[int, tuple[object, ...]]:
    names = ("open", "high", "low", "close", "volume", "quote_volume", "trades", "taker_buy_volume", "last_trade_id")
    return {bar.close_time: tuple(getattr(bar, name) for name in names) for bar in bars}


def since(wanted: dict[int, tuple[object, ...]], bars: list[Bar]) -> dict[int, tuple[object, ...]]:
    """The bars from the first one that the frames alone can give: before their first trade they know no price."""
    return {close: each for close, each in figures(bars).items() if close >= min(wanted)}


async def until_sealed(memory: Memory, symbol: str, close: int) -> None:
    await until(lambda: max((seal.close for seal in seals(memory, symbol)), default=0) >= close, 40)


async def test_two_symbols_are_sealed_as_if_each_were_alone(
    market: Market, simulated_frames: list[Line], ether: list[Line],
) -> None:
    memory = Memory()
    expected = {BTC: figures(second_bars(simulated_frames).bars[BTC]), ETH: figures(second_bars(ether).bars[ETH])}
    async with served(market, time.time_ns) as host, ingesting(host, memory, symbols=(BTC, ETH)):
        for symbol, wanted in expected.items():
            await until_sealed(memory, symbol, max(wanted))
    for symbol, wanted in expected.items():
        bars = since(wanted, read_bars(of(memory, symbol)))
        assert bars.items() <= wanted.items()
        assert len(bars) > 60
        assert {topic for topic, message in memory.sent if getattr(message, "symbol", None) == symbol} == {
            f"crypto.{symbol[:3].lower()}.trades", f"crypto.{symbol[:3].lower()}.orderbook"}
    assert memory.of(DeadLetter) == []


async def test_a_symbol_is_added_removed_and_added_again_on_the_same_connection(
    market: Market, simulated_frames: list[Line], ether: list[Line],
) -> None:
    wanted, memory = figures(second_bars(ether).bars[ETH]), Memory()
    last_close = max(figures(second_bars(simulated_frames).bars[BTC]))
    new: list[str] = []
    async with served(market, time.time_ns) as host, ingesting(host, memory) as ingest:
        ingest.on_new = new.append
        await until(lambda: len(seals(memory, BTC)) >= 5)
        link = ingest.link
        assert link is not None
        link.quiet_s = 600.0  # a starved machine would suspect its connection, which is no fault of the symbols
        assert of(memory, ETH) == []
        ingest.follow((BTC, ETH))
        await until(lambda: len(seals(memory, ETH)) >= 15)
        ingest.follow((BTC,))
        await until(lambda: ETH not in ingest.feeds)
        left, at = len(of(memory, ETH)), len(seals(memory, BTC))
        await until(lambda: len(seals(memory, BTC)) >= at + 10)
        assert len(of(memory, ETH)) == left, "a removed symbol's streams end"
        ingest.follow((BTC, ETH))
        await until(lambda: len(of(memory, ETH)) > left)
        assert ingest.link is link
        assert ingest.metrics.registry.get_sample_value("candlewick_reconnects_total") == 0
        await until_sealed(memory, ETH, max(wanted))
        await until_sealed(memory, BTC, last_close)
    assert new == [ETH], "its history is had once"
    assert memory.of(DeadLetter) == []
    btc = [seal.close for seal in seals(memory, BTC)]
    assert btc == list(range(btc[0], last_close + SECOND_NS, SECOND_NS)), "the other symbol was not touched"
    # Absent for less than a minute: the ids of the gap are fetched, and no second is missing.
    assert since(wanted, read_bars(of(memory, ETH))).items() <= wanted.items()
    assert [b.prev_close for a, b in pairwise(seals(memory, ETH))] == [a.close for a, b in pairwise(seals(memory, ETH))]
    assert not any(trade.late for trade in memory.of(Trade))
    assert seals(memory, ETH)[-1].book_valid


async def test_a_symbol_that_the_venue_is_silent_about_does_not_make_the_others_unhealthy(market: Market) -> None:
    memory = Memory()
    async with served(market, time.time_ns) as host, ingesting(host, memory, symbols=(BTC, "SOLUSDT")) as ingest:
        await until(lambda: len(seals(memory, BTC)) >= 5 and memory.of(OrderBook))
        assert ingest.reasons() == {}
        assert ingest.link is not None
        assert ingest.silent(ingest.link) == {"SOLUSDT": "no event yet"}


async def test_commands_keep_to_the_venues_pace_and_are_answered(market: Market) -> None:
    async with served(market, time.time_ns) as host, httpx.AsyncClient(trust_env=False) as http:
        rest = RestClient((f"http://{host}",), http, time.time_ns)
        link = await open_link(f"ws://{host}", (BTC,), rest, time.time_ns, "test")
        commanding = asyncio.create_task(link.keep_commanding())

        async def read() -> None:
            async for text in link.socket:
                if '"result"' in str(text)[:12]:
                    link.answered(text)

        reading = asyncio.create_task(read())
        for stream in ("trade", "depth", "bookTicker"):
            await link.resubscribe(BTC, stream)  # six commands at once: more than the venue takes in a second
        await link.subscribe((ETH,))
        assert not reading.done(), "the venue would have ended the connection"
        assert (link.symbols, link.carries("SOLUSDT")) == ((BTC, ETH), False)
        await link.unsubscribe((ETH,))
        assert (link.symbols, link.carries(ETH)) == ((BTC,), True)
        await link.close()
        for task in (commanding, reading):
            task.cancel()
        await asyncio.gather(commanding, reading, return_exceptions=True)


async def test_no_more_symbols_are_followed_than_a_connection_carries(market: Market) -> None:
    async with served(market, time.time_ns) as host, ingesting(host, Memory()) as ingest:
        assert isinstance(ingest, Ingest)
        ingest.follow(tuple(f"A{number}USDT" for number in range(MOST_SYMBOLS + 5)))
        assert len(ingest.symbols) == MOST_SYMBOLS == 341
