"""Golden: the recorded Binance market through the exchange equals the venue's own klines and the recorded bytes."""

from __future__ import annotations

import gzip
import json
import time
from datetime import UTC, datetime
from itertools import pairwise
from typing import Any

import pytest

from streaming.bars import minute_bars
from streaming.exchange import ExchangeConfig, make_market
from streaming.exchange_history import OfficialMinutes
from streaming.exchange_market import Market
from streaming.frame_bars import second_bars
from streaming.recording import read_lines
from streaming.tape import Tape, load_tape
from tests.conftest import Recorded
from tests.streaming.made_exchange import Wall, ask, frames_until_closed, served

MINUTE_MS = 60_000
FIRST_MS = int(datetime(2024, 8, 8, 23, 55, tzinfo=UTC).timestamp() * 1_000)
NOW = 1_795_000_037 * 1_000_000_000
QUERY = {"symbol": "BTCUSDT", "interval": "1m"}


@pytest.fixture(scope="module")
def tape(recorded: Recorded) -> Tape:
    return load_tape(recorded.frames())


def market_of(recorded: Recorded, tape: Tape, wall: Wall, **config: Any) -> Market:
    return make_market(
        tape, "recording", ExchangeConfig(**config), wall,
        lambda symbol, until_ms: OfficialMinutes(recorded.folder, symbol, until_ms).wait())


def official(recorded: Recorded, first_ms: int, minutes: int) -> list[list[str]]:
    import pyarrow.parquet as pq

    rows = pq.read_table(recorded.klines_1m).to_pandas().set_index("date").sort_index()
    first = datetime.fromtimestamp(first_ms / 1_000, UTC)
    part = rows[rows.index >= first].iloc[:minutes]
    return [[f"{row[name]:.8f}" for name in ("open", "high", "low", "close", "volume")] for _, row in part.iterrows()]


async def test_an_unshifted_replay_is_the_recording_byte_for_byte(recorded: Recorded, tape: Tape) -> None:
    market = make_market(
        tape, "recording", ExchangeConfig(once=True, original_time=True, speed=0), time.time_ns, lambda *_: None)
    async with served(market, time.time_ns) as host:
        frames, _ = await frames_until_closed(host)
    texts = []
    for path in recorded.frames():
        with gzip.open(path, "rt") as lines:
            texts += [line.rstrip("\n").partition(" ")[2] for line in lines]
    assert frames == [text for text in texts if not text.startswith('{"lastUpdateId"')]


def test_klines_of_an_unshifted_replay_are_the_official_ones(recorded: Recorded, tape: Tape) -> None:
    market = market_of(recorded, tape, Wall(NOW), once=True, original_time=True)
    market.clock.move_to((FIRST_MS + 10 * MINUTE_MS + 2_000) * 1_000_000)
    span = {"startTime": FIRST_MS - 5 * MINUTE_MS, "endTime": FIRST_MS + 10 * MINUTE_MS - 1}
    klines = ask(market, "klines", QUERY | span)
    assert [kline[1:6] for kline in klines] == official(recorded, FIRST_MS - 5 * MINUTE_MS, 15)
    assert all(kline[8] > 0 for kline in klines[5:])


def test_before_a_replay_begins_nothing_of_it_is_known(recorded: Recorded, tape: Tape) -> None:
    market = market_of(recorded, tape, Wall(NOW), once=True, original_time=True)
    klines = ask(market, "klines", QUERY | {"limit": 1000})
    assert klines[-1][6] < market.clock.now() // 1_000_000
    assert ask(market, "trades", {"symbol": "BTCUSDT"}) == []
    assert ask(market, "depth", {"symbol": "BTCUSDT"})["lastUpdateId"] == 50_093_239_218


def test_even_laps_and_the_history_before_them_have_the_official_prices(recorded: Recorded, tape: Tape) -> None:
    wall = Wall(NOW)
    market = market_of(recorded, tape, wall, anchor_ns=NOW)
    start_ms = market.timeline.lap(-2).start_ns // 1_000_000
    span = {"startTime": start_ms - 300 * MINUTE_MS, "endTime": start_ms + 10 * MINUTE_MS - 1}
    klines = ask(market, "klines", QUERY | span)
    assert [kline[1:6] for kline in klines] == official(recorded, FIRST_MS - 300 * MINUTE_MS, 310)


def test_history_reaches_back_ten_days_without_a_hole(recorded: Recorded, tape: Tape) -> None:
    market = market_of(recorded, tape, Wall(NOW), anchor_ns=NOW)
    begin = NOW // 1_000_000 - 10 * 1_440 * MINUTE_MS
    opens: list[int] = []
    while page := ask(market, "klines", QUERY | {"startTime": begin, "limit": 1000}):
        opens += [kline[0] for kline in page]
        begin = page[-1][0] + 1
    assert all(b - a == MINUTE_MS for a, b in pairwise(opens))
    assert len(opens) == 10 * 1_440


def test_the_quoted_best_is_the_best_of_the_book_in_both_kinds_of_lap(recorded: Recorded, tape: Tape) -> None:
    market = market_of(recorded, tape, Wall(NOW), anchor_ns=NOW)
    for number in (0, 1):
        lap = market.timeline.lap(number)
        tops = {}
        agreed = 0
        for position in range(40_000):
            frame = json.loads(market.frames.combined(lap, position))
            data = frame["data"]
            if frame["stream"].endswith("@bookTicker"):
                tops[data["u"]] = (data["b"], data["B"], data["a"], data["A"])
            elif data.get("e") == "depthUpdate" and data["u"] in tops:
                book, scale = market.symbols["BTCUSDT"].book.at(lap, position + 1), market.symbols["BTCUSDT"].scale
                bid, ask_price = max(book.bids), min(book.asks)
                assert tops[data["u"]] == (
                    scale.price_text(bid), scale.quantity_text(book.bids[bid]),
                    scale.price_text(ask_price), scale.quantity_text(book.asks[ask_price]))
                agreed += 1
        assert agreed > 100


def test_loading_takes_seconds(recorded: Recorded) -> None:
    begun = time.process_time()
    tape = load_tape(recorded.frames())
    assert time.process_time() - begun < 10  # 1.5 s measured
    assert len(tape) == 99_573


def test_several_symbols_share_one_exchange(recorded: Recorded) -> None:
    both = load_tape([*recorded.frames("BTCUSDT"), *recorded.frames("ETHUSDT")])
    market = market_of(recorded, both, Wall(NOW), anchor_ns=NOW)
    assert sorted(market.symbols) == ["BTCUSDT", "ETHUSDT"]
    for symbol, price in (("BTCUSDT", 61_800), ("ETHUSDT", 2_680)):
        depth = ask(market, "depth", {"symbol": symbol})
        assert float(depth["bids"][0][0]) == pytest.approx(price, rel=0.01)
    assert {json.loads(market.frames.combined(market.timeline.lap(0), i))["data"]["s"] for i in range(100)} == {
        "BTCUSDT", "ETHUSDT"}


def test_minutes_of_ether_from_its_bars_equal_the_exchanges_own(recorded: Recorded) -> None:
    """No official klines of it are in the data: two ways from the same frames must give the same minutes."""
    files = recorded.frames("ETHUSDT")
    ours = minute_bars(second_bars(read_lines(files)).bars["ETHUSDT"])
    market = market_of(recorded, load_tape(files), Wall(NOW), once=True, original_time=True)
    market.clock.move_to((FIRST_MS + 10 * MINUTE_MS + 2_000) * 1_000_000)
    span = {"startTime": FIRST_MS, "endTime": FIRST_MS + 10 * MINUTE_MS - 1}
    klines = ask(market, "klines", {"symbol": "ETHUSDT", "interval": "1m"} | span)
    assert [bar.open_time // 1_000_000 for bar in ours] == [kline[0] for kline in klines]
    for bar, kline in zip(ours, klines, strict=True):
        prices = (bar.open, bar.high, bar.low, bar.close, bar.volume, bar.quote_volume, bar.taker_buy_volume)
        assert [f"{x:.8f}" for x in prices] == [*kline[1:6], kline[7], kline[9]]
        assert bar.trades == kline[8]
    assert len(klines) == 10
