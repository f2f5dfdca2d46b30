"""Ingest of USD-M over the local exchange: the same seals and books, under the canonical id."""

from __future__ import annotations

import asyncio
import time
from itertools import islice, pairwise
from pathlib import Path

import httpx
import pytest

from feature_repo.contracts import Bar, DeadLetter, FeatureRow, OrderBook, SecondClosed, Trade
from feature_repo.topics import FEATURES, decode, encode, header, trades_topic
from streaming.frame_bars import second_bars
from streaming.ingest import Ingest, IngestConfig
from streaming.ingest_metrics import IngestMetrics
from streaming.recording import Line, read_lines
from streaming.symbol_stream import Event, SymbolStream
from streaming.venues.binance_rest import RestClient
from streaming.venues.market import one_market
from tests.streaming.made_exchange import market_of, no_history, served, tape_of
from tests.streaming.made_ingest import Memory, read_bars, until
from tests.streaming.made_usdm import usdm_lines

SYMBOL = "BTCUSDT-PERP.BINANCE"
RECORDED_LINES = 30_000
"""The quiet third of the session: all of it takes a busy machine minutes."""
RECORDED_SEALS = 60
FIGURES = ("open", "high", "low", "close", "volume", "quote_volume", "trades", "taker_buy_volume", "last_trade_id")


async def ingested(lines: list[Line], speed: float, seals: int | None = None) -> tuple[dict[int, Bar], Memory]:
    """What ingest makes of a session played once, until it has sealed so many seconds, or all that the frames hold."""
    wanted = {bar.close_time: bar for bar in second_bars(lines).bars[SYMBOL]}
    market = market_of(
        tape_of(lines), time.time_ns, history=no_history, once=True, original_time=True, speed=speed)
    memory = Memory()
    async with served(market, time.time_ns) as host, httpx.AsyncClient(trust_env=False) as http:
        rest = RestClient((f"http://{host}",), http, time.time_ns, market=one_market([SYMBOL]))
        config = IngestConfig((SYMBOL,), (f"ws://{host}",), "test")
        ingest = Ingest(config, memory, rest, time.time_ns, IngestMetrics(), {SYMBOL: None})
        running = asyncio.create_task(ingest.run())
        last = sorted(wanted)[-1 if seals is None else seals]
        await until(lambda: max((seal.close for seal in memory.of(SecondClosed)), default=0) >= last, 200)
        ingest.stop()
        await asyncio.wait_for(running, 10)
    return wanted, memory


def check(wanted: dict[int, Bar], memory: Memory) -> None:
    """Every second but the first few is sealed as the frames have it, with a book."""
    bars = {bar.close_time: bar for bar in read_bars([message for _, message in memory.sent])}
    for close, bar in bars.items():
        assert [getattr(bar, name) for name in FIGURES] == [getattr(wanted[close], name) for name in FIGURES]
    missing = {close for close in wanted if close <= max(bars)} - set(bars)
    assert missing <= set(sorted(wanted)[:12])  # the first seconds before ingest was connected
    seals = memory.of(SecondClosed)
    assert {seal.symbol for seal in seals} == {trade.symbol for trade in memory.of(Trade)} == {SYMBOL}
    assert [b.prev_close for a, b in pairwise(seals)] == [a.close for a, b in pairwise(seals)]
    assert all(seal.book_valid for seal in seals[20:])
    assert not memory.of(DeadLetter)


async def test_a_futures_replay_is_sealed_exactly_with_its_book(simulated_frames: list[Line]) -> None:
    wanted, memory = await ingested(list(usdm_lines(simulated_frames)), 15.0)
    check(wanted, memory)
    assert len(memory.of(OrderBook)) > 200
    events = [
        Event(0, offset, message.ts_init, topic, header(message), encode(message))
        for offset, (topic, message) in enumerate(sent for sent in memory.sent if sent[0] == trades_topic(SYMBOL))
    ]
    outputs = [decode(out.body, out.schema) for out in SymbolStream.new(SYMBOL).apply(events) if out.topic == FEATURES]
    rows = [row for row in outputs if isinstance(row, FeatureRow)]
    assert {row.symbol for row in rows} == {SYMBOL}
    live = [row.ts_event for row in rows if row.provenance == "live"]
    assert live == sorted({seal.close for seal in memory.of(SecondClosed)})
    assert rows[-1].values["spread_1s"] is not None


@pytest.mark.timeout(300)
async def test_the_recorded_futures_session_is_sealed_exactly_with_its_book(data_dir: Path) -> None:
    path = data_dir / "ws_raw_binance" / "usdm_btcusdt_20240808.gz"
    if not path.is_file():
        pytest.skip(f"left out: no recorded USD-M session at {path}")
    wanted, memory = await ingested(list(islice(read_lines([path]), RECORDED_LINES)), 20.0, RECORDED_SEALS)
    check(wanted, memory)
