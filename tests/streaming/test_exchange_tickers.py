"""Tickers say what trades, book and klines of the same moment say."""

from __future__ import annotations

from decimal import Decimal

import pytest

from streaming.exchange_market import Market
from streaming.exchange_rest import Refused
from streaming.recording import Line
from tests.streaming.made_exchange import Wall, ask, market_of, tape_of

MINUTE = 60 * 1_000_000_000
ANCHOR = 1_795_000_020 * 1_000_000_000
BTC = {"symbol": "BTCUSDT"}


@pytest.fixture(scope="module")
def market(simulated_frames: list[Line]) -> Market:
    return market_of(tape_of(simulated_frames), Wall(ANCHOR // MINUTE * MINUTE + 100 * 1_000_000_000), anchor_ns=ANCHOR)


def test_price_and_quotes_are_those_of_the_newest_trade_and_the_book(market: Market) -> None:
    trade = ask(market, "trades", BTC | {"limit": 1})[0]
    assert ask(market, "ticker/price", BTC) == {"symbol": "BTCUSDT", "price": trade["price"]}
    depth = ask(market, "depth", BTC | {"limit": 5})
    quotes = ask(market, "ticker/bookTicker", BTC)
    assert [quotes["bidPrice"], quotes["bidQty"]] == depth["bids"][0]
    assert [quotes["askPrice"], quotes["askQty"]] == depth["asks"][0]


def test_the_day_adds_up_its_klines(market: Market) -> None:
    day = ask(market, "ticker/24hr", BTC)
    klines = [*ask(market, "klines", BTC | {"interval": "1m", "limit": 1_000}),
              *ask(market, "klines", BTC | {"interval": "1m", "limit": 440, "endTime": day["openTime"] + 439 * 60_000})]
    assert (len(klines), min(row[0] for row in klines)) == (1_440, day["openTime"])
    assert Decimal(day["volume"]) == sum(Decimal(row[5]) for row in klines)
    assert Decimal(day["quoteVolume"]) == sum(Decimal(row[7]) for row in klines)
    assert Decimal(day["highPrice"]) == max(Decimal(row[2]) for row in klines)
    assert Decimal(day["lowPrice"]) == min(Decimal(row[3]) for row in klines)
    assert Decimal(day["lastPrice"]) - Decimal(day["openPrice"]) == Decimal(day["priceChange"])
    assert day["openPrice"] == min(klines)[1]
    weighted = Decimal(day["quoteVolume"]) / Decimal(day["volume"])
    assert abs(Decimal(day["weightedAvgPrice"]) - weighted) < Decimal("0.01")


def test_without_a_symbol_every_symbol_is_told(market: Market) -> None:
    assert ask(market, "ticker/price", {}) == [ask(market, "ticker/price", BTC)]
    assert ask(market, "ticker/price", {"symbols": '["BTCUSDT"]'}) == [ask(market, "ticker/price", BTC)]
    assert ask(market, "avgPrice", BTC)["mins"] == 5
    with pytest.raises(Refused):
        ask(market, "ticker/24hr", {"symbol": "NOPE"})
