"""The exchange plays a USD-M recording as the futures venue would: its routes, its REST, its ids."""

from __future__ import annotations

import json
import time
from typing import Any

import aiohttp
import pytest

from streaming.exchange_market import Market
from streaming.exchange_rest import Refused
from streaming.exchange_usdm import UsdmRest
from streaming.order_book import USDM, LocalBook
from streaming.recording import Line
from streaming.tape import Tape, build_tape
from streaming.venues.binance import DepthFrame, TradeFrame, snapshot
from streaming.venues.binance_usdm import Decoder
from tests.streaming.made_exchange import Wall, connected, frames_until_closed, market_of, no_history, served, tape_of
from tests.streaming.made_usdm import usdm_lines

MINUTE = 60 * 1_000_000_000
ANCHOR = 1_795_000_020 * 1_000_000_000
LAP = 2 * MINUTE
STREAMS = "/stream?streams=btcusdt@trade/btcusdt@depth@0ms/btcusdt@bookTicker"
BTC = {"symbol": "BTCUSDT"}


@pytest.fixture(scope="module")
def lines(simulated_frames: list[Line]) -> list[Line]:
    return list(usdm_lines(simulated_frames))


@pytest.fixture(scope="module")
def tape(lines: list[Line]) -> Tape:
    return tape_of(lines)


def looping(tape: Tape, wall: Wall) -> Market:
    return market_of(tape, wall, history=no_history, anchor_ns=ANCHOR)


def ask(market: Market, endpoint: str, **query: object) -> Any:
    answers = UsdmRest(market, lambda: 0).endpoints()
    return answers[endpoint].answer({name: str(value) for name, value in query.items()})


async def test_the_public_route_gives_the_recording_byte_for_byte(tape: Tape, lines: list[Line]) -> None:
    market = market_of(tape, time.time_ns, once=True, original_time=True, speed=0, history=no_history)
    async with served(market, time.time_ns) as host:
        frames, code = await frames_until_closed(host, f"/public{STREAMS}")
    assert frames == [line.text for line in lines if not line.text.startswith('{"lastUpdateId"')]
    assert code == aiohttp.WSCloseCode.OK


async def test_whoever_asks_for_a_slower_depth_gets_the_recorded_one_under_that_name(tape: Tape) -> None:
    market = market_of(tape, time.time_ns, once=True, original_time=True, speed=0, history=no_history)
    async with served(market, time.time_ns) as host:
        frames, _ = await frames_until_closed(host, "/public/stream?streams=btcusdt@depth@100ms")
    assert {json.loads(frame)["stream"] for frame in frames} == {"btcusdt@depth@100ms"}
    assert len(frames) == len(tape.symbols["BTCUSDT"].diffs.frame)


@pytest.mark.parametrize("route", ["", "/market"])
async def test_a_wrong_route_is_acknowledged_and_silent(tape: Tape, route: str) -> None:
    market = market_of(tape, time.time_ns, once=True, original_time=True, speed=0, history=no_history)
    async with served(market, time.time_ns) as host, connected(host, f"{route}/ws") as socket:
        await socket.send_str('{"method":"SUBSCRIBE","params":["btcusdt@trade"],"id":1}')
        texts = [message.data async for message in socket]
    assert [json.loads(text) for text in texts] == [{"result": None, "id": 1}]


@pytest.mark.parametrize("lap", [0, 1], ids=["as recorded", "mirrored"])
def test_a_book_from_rest_follows_pu_through_a_lap(tape: Tape, lap: int) -> None:
    begin = ANCHOR // MINUTE * MINUTE + lap * LAP
    wall = Wall(begin + 20 * 1_000_000_000)
    market = looping(tape, wall)
    moment = market.moment()
    assert moment.lap.number == lap
    book, decoder, trades = LocalBook("BTCUSDT-PERP.BINANCE", USDM), Decoder(), []
    # The stream was joined some diffs before the snapshot came, as a client must.
    for position in range(moment.position - 40, len(moment.lap.section)):
        if position == moment.position:
            book.on_snapshot(snapshot(ask(market, "depth", limit=1_000, **BTC)))
        frame = decoder.frame(market.frames.combined(moment.lap, position))
        if isinstance(frame, DepthFrame):
            book.on_diff(frame)
        elif isinstance(frame, TradeFrame):
            trades.append(frame.trade_id)
    wall.now_ns = moment.lap.end_ns - 1
    at_the_end = snapshot(ask(market, "depth", limit=1_000, **BTC))
    assert (book.synced, book.last_update_id) == (True, at_the_end.last_update_id)
    assert (tuple(book.levels("bids", 1_000)), tuple(book.levels("asks", 1_000))) == (at_the_end.bids, at_the_end.asks)
    assert trades == list(range(trades[0], trades[-1] + 1))
    assert not decoder.unknown


@pytest.mark.parametrize("lap", [0, 1], ids=["as recorded", "mirrored"])
def test_rest_and_stream_write_a_price_with_the_same_decimals(tape: Tape, lap: int) -> None:
    market = looping(tape, Wall(ANCHOR // MINUTE * MINUTE + lap * LAP + MINUTE))
    moment = market.moment()
    data = [json.loads(market.frames.combined(moment.lap, position))["data"] for position in range(500)]
    prices = {trade["price"] for trade in ask(market, "trades", **BTC)}
    prices |= {level[0] for side in ("bids", "asks") for level in ask(market, "depth", **BTC)[side]}
    prices |= {level[0] for frame in data for side in ("b", "a") for level in frame.get(side, ()) if "pu" in frame}
    prices |= {frame["p"] for frame in data if frame["e"] == "trade"}
    assert {len(price.partition(".")[2]) for price in prices} == {2}


def test_rest_speaks_as_the_futures_do(tape: Tape) -> None:
    market = looping(tape, Wall(ANCHOR // MINUTE * MINUTE + 90 * 1_000_000_000))
    depth = ask(market, "depth", limit=5, **BTC)
    assert list(depth) == ["lastUpdateId", "E", "T", "bids", "asks"]
    assert (len(depth["bids"]), depth["E"]) == (5, market.clock.now() // 1_000_000)
    symbol, = ask(market, "exchangeInfo")["symbols"]
    assert (symbol["symbol"], symbol["contractType"], symbol["pricePrecision"]) == ("BTCUSDT", "PERPETUAL", 2)
    trades = ask(market, "trades", limit=1_000, **BTC)
    assert "isBestMatch" not in trades[0]
    kline = ask(market, "klines", interval="1m", limit=2, **BTC)[0]
    within = [trade for trade in ask(market, "trades", limit=1_000, **BTC) if kline[0] <= trade["time"] <= kline[6]]
    assert kline[4] == within[-1]["price"]


@pytest.mark.parametrize(("endpoint", "query", "code", "status"), [
    ("depth", {"limit": 7}, -4021, 400), ("klines", {"interval": "1s"}, -1120, 400),
    ("historicalTrades", {"fromId": 1}, -2014, 401), ("klines", {"interval": "1m", "symbol": "NOPE"}, -1121, 400),
])
def test_what_the_futures_refuse_is_refused(
    tape: Tape, endpoint: str, query: dict[str, object], code: int, status: int,
) -> None:
    with pytest.raises(Refused) as refused:
        ask(looping(tape, Wall(ANCHOR + MINUTE)), endpoint, **{**BTC, **query})
    assert (refused.value.body["code"], refused.value.status) == (code, status)


def test_frames_of_two_markets_make_no_tape(simulated_frames: list[Line], lines: list[Line]) -> None:
    with pytest.raises(ValueError, match="expected frames of one market, found spot and usdm"):
        build_tape([simulated_frames, lines])
