"""The simulated market at the exchange: endless, the same after a restart, one market in WebSocket and REST."""

from __future__ import annotations

import json
import time
from collections import defaultdict
from decimal import Decimal
from itertools import pairwise
from typing import Any

import aiohttp
import httpx
import pytest

from feature_repo.contracts import SECOND_NS, DeadLetter, MarketMessage, SecondClosed, Trade
from feature_repo.settings import load_settings
from streaming.backfill import closed_bars
from streaming.exchange import ExchangeConfig, endless_market, load_market, main, parse
from streaming.exchange_market import Market
from streaming.venues.binance_rest import Identity, RestClient, identity
from tests.streaming.made_exchange import Wall, ask, connected, served
from tests.streaming.made_ingest import Memory, ingesting, read_bars, until
from tests.streaming.test_exchange_market import naive_kline

MINUTE = 60 * SECOND_NS
HOUR_MS = 3_600_000
SPEED = 20.0
NOW = 1_795_000_020 * SECOND_NS + 17 * SECOND_NS + 123_456_789  # 17 s into a minute
BTC = {"symbol": "BTCUSDT"}


def market_at(wall: Any, **config: Any) -> Market:
    return endless_market(ExchangeConfig(simulate=True, seed=3, **config), ("BTCUSDT", "ETHUSDT"), wall)


@pytest.fixture(scope="module")
def wall() -> Wall:
    return Wall(NOW)


@pytest.fixture(scope="module")
def market(wall: Wall) -> Market:
    return market_at(wall)


RENDERED: dict[tuple[str, int], list[dict[str, Any]]] = {}


def frames(market: Market, minute: int, keep: bool = True) -> list[dict[str, Any]]:
    """A minute's frames as streamed; kept, since many tests read the same ones."""
    lap = market.timeline.lap(minute)
    key = (lap.session, minute)
    if key not in RENDERED or not keep:
        RENDERED[key] = [json.loads(market.frames.combined(lap, i)) for i in range(len(lap.section))]
    return RENDERED[key]


def sent(market: Market, stream: str, minutes: range) -> list[dict[str, Any]]:
    return [frame["data"] for number in minutes for frame in frames(market, number) if frame["stream"] == stream]


def test_laps_join_in_time_ids_and_book(market: Market) -> None:
    now = NOW // MINUTE
    minutes = range(now - 2, now + 2)
    for symbol in ("btcusdt", "ethusdt"):
        trades = sent(market, f"{symbol}@trade", minutes)
        diffs = sent(market, f"{symbol}@depth@100ms", minutes)
        assert len(trades) > 200
        assert len(diffs) > 1_500
        assert all(b["t"] == a["t"] + 1 and b["T"] >= a["T"] for a, b in pairwise(trades))
        assert all(b["U"] == a["u"] + 1 and b["E"] > a["E"] for a, b in pairwise(diffs))
    laps = [market.timeline.lap(number) for number in minutes]
    assert {lap.session for lap in laps} == {"simulated-3-4"}
    assert all(a.end_ns == b.start_ns for a, b in pairwise(laps))


def test_an_exchange_started_later_elsewhere_plays_the_same_frames_at_the_same_instants(market: Market) -> None:
    later = market_at(Wall(NOW + 90 * 86_400 * SECOND_NS), anchor_ns=NOW + 90 * 86_400 * SECOND_NS)
    for number in (NOW // MINUTE, NOW // MINUTE + 1):
        a, b = market.timeline.lap(number), later.timeline.lap(number)
        assert frames(market, number) == frames(later, number, keep=False)
        assert a.section.offset_ns.tolist() == b.section.offset_ns.tolist()


def test_another_seed_is_another_market(market: Market) -> None:
    other = endless_market(ExchangeConfig(simulate=True, seed=4), ("BTCUSDT",), Wall(NOW))
    assert frames(other, NOW // MINUTE) != frames(market, NOW // MINUTE)
    assert other.moment().lap.session != market.moment().lap.session


@pytest.mark.parametrize("after_s", [0.0, 0.05, 31.3, 42.875, 42.9, 163.7])
@pytest.mark.parametrize(("interval", "interval_ms"), [("1s", 1_000), ("1m", 60_000)])
def test_klines_are_the_bars_of_the_streamed_trades(
    market: Market, wall: Wall, after_s: float, interval: str, interval_ms: int,
) -> None:
    wall.now_ns = NOW + int(after_s * SECOND_NS)
    moment = market.moment()
    start = moment.lap.number - 2
    trades: dict[int, list[dict[str, Any]]] = defaultdict(list)
    for number in range(start, moment.lap.number + 1):
        some = frames(market, number)[: moment.position if number == moment.lap.number else None]
        for trade in (frame["data"] for frame in some if frame["stream"] == "btcusdt@trade"):
            trades[trade["T"] // interval_ms * interval_ms].append(trade)
    klines = ask(market, "klines", BTC | {"interval": interval, "startTime": start * 60_000, "limit": 1000})
    assert [kline[0] for kline in klines] == list(range(start * 60_000, wall.now_ns // 1_000_000 + 1, interval_ms))
    for before, kline in pairwise([None, *klines]):
        if kline[0] in trades:
            assert kline == naive_kline(trades[kline[0]], kline[0], interval_ms)
        elif before is not None:
            assert kline[1:5] == [before[4]] * 4
            assert (kline[5], kline[8]) == ("0.00000000", 0)


@pytest.mark.parametrize("year", [2010, 2013, 2026])
def test_history_of_any_age_is_one_market_in_trades_seconds_minutes_and_hours(market: Market, year: int) -> None:
    start = {2010: 1_262_304_000_000, 2013: 1_370_000_000_000 // HOUR_MS * HOUR_MS, 2026: 1_770_001_200_000}[year]
    query = BTC | {"startTime": start, "limit": 1000}
    hours = ask(market, "klines", query | {"interval": "1h", "limit": 2})
    minutes = ask(market, "klines", query | {"interval": "1m", "limit": 120})
    seconds = ask(market, "klines", query | {"interval": "1s"})
    assert hours[0][0] == minutes[0][0] == seconds[0][0] == start
    assert_sums(hours, minutes)
    assert_sums(minutes[:16], seconds[:960])
    found = ask(market, "aggTrades", query)
    within = [trade for trade in found if trade["T"] < start + 60_000]
    assert [minutes[0][1], minutes[0][4], minutes[0][8]] == [within[0]["p"], within[-1]["p"], len(within)]
    by_id = ask(market, "historicalTrades", BTC | {"fromId": found[0]["f"], "limit": 1000})
    assert [(t["id"], t["price"], t["qty"], t["time"]) for t in by_id] == [
        (a["f"], a["p"], a["q"], a["T"]) for a in found]
    assert found[0]["T"] >= start


def assert_sums(longer: list[list[Any]], shorter: list[list[Any]]) -> None:
    for kline in longer:
        parts = [part for part in shorter if kline[0] <= part[0] <= kline[6]]
        traded = [part for part in parts if part[8]]  # one without trades only carries the close before it
        assert kline[1] == traded[0][1]
        assert [kline[2], kline[3], kline[4]] == [
            max((p[2] for p in traded), key=float), min((p[3] for p in traded), key=float), traded[-1][4]]
        for column in (5, 7, 9, 10):
            assert Decimal(kline[column]) == sum(Decimal(p[column]) for p in parts)
        assert kline[8] == sum(p[8] for p in parts)


def test_history_joins_what_is_streamed_without_a_jump_or_a_hole(market: Market, wall: Wall) -> None:
    wall.now_ns = NOW
    klines = ask(market, "klines", BTC | {"interval": "1m", "limit": 1000})
    assert [b[0] - a[0] for a, b in pairwise(klines)] == [60_000] * 999
    assert klines[-1][0] == NOW // MINUTE * 60_000
    assert all(kline[8] > 0 for kline in klines[:-1])
    # Two consecutive trades over a minute's edge: 40 times the mean minute's deviation is no market but a seam.
    assert all(abs(float(b[1]) / float(a[4]) - 1) < 0.02 for a, b in pairwise(klines))


def test_klines_page_from_2010_to_the_open_one_and_never_show_the_future(market: Market, wall: Wall) -> None:
    wall.now_ns = NOW
    first = ask(market, "klines", BTC | {"interval": "1m", "startTime": 0, "limit": 2})
    assert first[0][0] == 1_262_304_000_000
    now_ms = NOW // 1_000_000
    assert ask(market, "klines", BTC | {"interval": "1s", "startTime": now_ms + 1_000}) == []
    assert ask(market, "klines", BTC | {"interval": "1m", "endTime": 1_000_000}) == []
    newest = ask(market, "klines", BTC | {"interval": "1s", "limit": 3})
    assert [kline[0] for kline in newest] == [now_ms // 1_000 * 1_000 - back for back in (2_000, 1_000, 0)]
    assert ask(market, "klines", BTC | {"interval": "1s", "endTime": now_ms + 10**9, "limit": 3}) == newest


def test_trades_by_id_end_with_the_newest_sent_whatever_id_is_asked(market: Market, wall: Wall) -> None:
    wall.now_ns = NOW
    moment = market.moment()
    some = [f["data"] for f in frames(market, moment.lap.number)[: moment.position] if f["stream"] == "btcusdt@trade"]
    newest = ask(market, "trades", BTC | {"limit": len(some)})
    assert [(t["id"], t["price"], t["qty"], t["time"], t["isBuyerMaker"]) for t in newest] == [
        (t["t"], t["p"], t["q"], t["T"], t["m"]) for t in some]
    last = some[-1]["t"]
    assert [t["id"] for t in ask(market, "historicalTrades", BTC | {"fromId": last - 2})] == [last - 2, last - 1, last]
    assert ask(market, "historicalTrades", BTC | {"fromId": 10**20 - 1}) == []
    assert ask(market, "historicalTrades", BTC | {"fromId": 0, "limit": 1})[0]["id"] == 1
    assert ask(market, "aggTrades", BTC | {"limit": 5})[-1]["l"] == last
    ended = ask(market, "aggTrades", BTC | {"endTime": some[4]["T"], "limit": 5})
    assert [a["f"] for a in ended] == [t["t"] for t in some[:5]]


def test_a_book_kept_over_laps_by_the_venues_rules_equals_the_exchanges(market: Market, wall: Wall) -> None:
    wall.now_ns = NOW + 20 * SECOND_NS
    snapshot = ask(market, "depth", BTC | {"limit": 5000})
    book = {side: dict(snapshot[name]) for side, name in (("b", "bids"), ("a", "asks"))}
    last = snapshot["lastUpdateId"]
    wall.now_ns += 130 * SECOND_NS
    later = ask(market, "depth", BTC | {"limit": 5000})
    minutes = range(NOW // MINUTE, wall.now_ns // MINUTE + 1)
    for diff in sent(market, "btcusdt@depth@100ms", minutes):
        if last < diff["u"] <= later["lastUpdateId"]:
            assert diff["U"] <= last + 1 <= diff["u"]
            last = diff["u"]
            for side in "ba":
                book[side] |= dict(diff[side])
    assert last == later["lastUpdateId"]
    for side, name in (("b", "bids"), ("a", "asks")):
        assert {price: steps for price, steps in book[side].items() if float(steps)} == dict(later[name])
        assert len(later[name]) > 300
    assert float(later["bids"][0][0]) < float(later["asks"][0][0])


def test_tens_of_symbols_are_there_beside_the_configured_ones() -> None:
    settings = load_settings()
    info = ask(load_market(ExchangeConfig(simulate=True), settings, Wall(NOW)), "exchangeInfo", {})
    names = {symbol["symbol"] for symbol in info["symbols"]}
    assert names >= {*settings.symbols, "BTCUSDT", "ETHUSDT", "SOLUSDT", "XRPUSDT", "DOGEUSDT"}
    assert len(names) >= 12


async def test_a_client_is_served_over_laps_without_a_disconnect_and_told_who_speaks() -> None:
    anchor = NOW // MINUTE * MINUTE + 50 * SECOND_NS
    market = market_at(time.time_ns, anchor_ns=anchor, speed=0)
    async with served(market, time.time_ns) as host:
        async with connected(host, "/ws/btcusdt@trade") as socket:
            ids: list[int] = []
            while not ids or market.moment().lap.number < anchor // MINUTE + 3:
                ids.append(json.loads((await socket.receive(timeout=20)).data)["t"])
        assert ids == list(range(ids[0], ids[0] + len(ids)))


async def test_every_answer_and_handshake_says_simulated() -> None:
    market = market_at(time.time_ns)
    async with served(market, time.time_ns) as host, aiohttp.ClientSession() as session:
        async with session.ws_connect(f"ws://{host}/stream?streams=btcusdt@trade") as socket:
            shaken = socket._response.headers
        said = [shaken]
        for path in ("time", "klines?symbol=ETHUSDT&interval=1m", "depth?symbol=BTCUSDT", "klines?symbol=NOPE"):
            async with session.get(f"http://{host}/api/v3/{path}") as answer:
                said.append(answer.headers)
    for headers in said:
        found = identity(f"http://{host}", dict(headers), "")
        assert (found.source, found.session, found.speed) == ("simulated", "simulated-3-4", 1.0)


async def test_ingest_keeps_a_synced_book_seals_every_second_and_refuses_nothing() -> None:
    """Over two laps' seam at forty times real time; the bars ingest makes are the klines REST tells."""
    memory, anchor = Memory(), NOW // MINUTE * MINUTE + 20 * SECOND_NS
    market = market_at(time.time_ns, speed=SPEED)
    market.clock.move_to(anchor)
    async with served(market, time.time_ns) as host, ingesting(host, memory) as ingest:
        await until(lambda: len(memory.of(SecondClosed)) >= 130, 60)
        resyncs = ingest.metrics.resyncs("BTCUSDT")
        async with httpx.AsyncClient(trust_env=False) as http:
            rest = RestClient((f"http://{host}",), http, time.time_ns)
            seals = memory.of(SecondClosed)
            rows = await rest.klines("BTCUSDT", "1s", seals[0].close - SECOND_NS, seals[120].close)
    assert not memory.of(DeadLetter)
    assert not any(trade.late for trade in memory.of(Trade))
    assert [b.prev_close for a, b in pairwise(seals)] == [a.close for a, b in pairwise(seals)]
    assert [b.close - a.close for a, b in pairwise(seals)] == [SECOND_NS] * (len(seals) - 1)
    assert all(seal.book_valid for seal in seals[20:])
    assert resyncs <= 1
    messages = [message for _, message in memory.sent if isinstance(message, MarketMessage)]
    assert len(messages) == len(memory.sent)
    assert {(message.source, message.session) for message in messages} == {("simulated", "simulated-3-4")}
    streamed = {bar.close_time: bar for bar in read_bars([message for _, message in memory.sent])}
    told = closed_bars("BTCUSDT", rows, seals[120].close, Identity("simulated", "simulated-3-4"))
    names = ("open", "high", "low", "close", "volume", "quote_volume", "vwap", "trades", "taker_buy_volume")
    assert len(told) == 121
    for bar in told:
        assert [getattr(bar, name) for name in names] == [getattr(streamed[bar.close_time], name) for name in names]


@pytest.mark.parametrize("arguments", [["--seed", "-1"], ["--trade-rate", "0"]])
def test_the_command_line_refuses_a_market_that_cannot_be(
    arguments: list[str], capsys: pytest.CaptureFixture[str],
) -> None:
    assert main(["--simulate", *arguments]) == 2
    assert "expected" in capsys.readouterr().err


def test_the_command_line_sets_seed_and_rate() -> None:
    config, _ = parse(["--simulate", "--seed", "9", "--trade-rate", "2.5"])
    assert (config.simulate, config.seed, config.trade_rate) == (True, 9, 2.5)


def test_played_once_it_is_a_stretch_of_ten_minutes_with_history() -> None:
    market = market_at(Wall(NOW), once=True)
    assert not market.timeline.endless
    assert market.timeline.lap(0).section.length_ns > 600 * SECOND_NS
    klines = ask(market, "klines", BTC | {"interval": "1m", "limit": 1000})
    assert len(klines) == 1000
    assert [b[0] - a[0] for a, b in pairwise(klines)] == [60_000] * 999
