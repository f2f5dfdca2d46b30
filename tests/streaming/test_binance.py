"""The venue's frames mean what it documents; what is not as documented is refused, what is new is counted."""

from __future__ import annotations

import contextlib
import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from feature_repo.contracts import InvalidMessage
from streaming.recording import read_lines
from streaming.venues.binance import (
    Decoder,
    DepthFrame,
    TickerFrame,
    TradeFrame,
    canonical,
    rest_aggregate,
    rest_trade,
    snapshot,
    steps,
    subscription,
    venue_word,
)
from tests.conftest import Recorded

TRADE = {"e": "trade", "E": 1700000000001, "s": "BTCUSDT", "t": 7, "p": "61837.63", "q": "0.02",
         "T": 1700000000000, "m": True, "M": True}
DEPTH = {"e": "depthUpdate", "E": 1700000000100, "s": "BTCUSDT", "U": 5, "u": 9, "b": [["61837.63", "0.00000000"]],
         "a": [["61837.64", "1.5"]]}


def text(stream: str, data: dict) -> str:
    return json.dumps({"stream": f"btcusdt@{stream}", "data": data})


def test_trade_keeps_the_venues_trade_time_in_nanoseconds() -> None:
    frame = Decoder().frame(text("trade", TRADE))
    assert isinstance(frame, TradeFrame)
    trade = frame.to_trade(ts_init=9, source="live", session="s")
    assert (trade.ts_event, trade.ts_init, trade.trade_id) == (1_700_000_000_000_000_000, 9, 7)
    assert (trade.price, trade.quantity, trade.buyer_is_maker, trade.late) == (61837.63, 0.02, True, False)


def test_depth_diff_is_in_integer_steps() -> None:
    frame = Decoder().frame(text("depth@100ms", DEPTH))
    assert frame == DepthFrame(
        "BTCUSDT", 1700000000100, 5, 9, ((6_183_763_000_000, 0),), ((6_183_764_000_000, 150_000_000),),
    )


def test_best_quotes_have_no_event_time() -> None:
    data = {"u": 9, "s": "BTCUSDT", "b": "61837.63", "B": "3.7", "a": "61837.64", "A": "1.5"}
    frame = Decoder().frame(text("bookTicker", data))
    assert isinstance(frame, TickerFrame)
    assert (frame.update_id, frame.bid) == (9, (6_183_763_000_000, 370_000_000))


def test_unknown_fields_are_ignored_and_counted() -> None:
    decoder = Decoder()
    assert decoder.frame(text("trade", {**TRADE, "zz": 1})) == decoder.frame(text("trade", TRADE))
    assert decoder.unknown == {"trade.zz": 1}


def test_answer_to_a_command_is_no_frame_and_a_refused_command_is_said() -> None:
    assert Decoder().frame('{"result":null,"id":1}') is None
    with pytest.raises(InvalidMessage, match="refused a command"):
        Decoder().frame('{"error":{"code":2,"msg":"Invalid request"},"id":1}')


@pytest.mark.parametrize(
    "bad",
    [
        "", "[]", "7", "null", '"x"', "{", '{"stream":"btcusdt@trade"}', '{"stream":7,"data":{}}',
        text("kline_1m", {}), text("trade", {}), text("trade", {**TRADE, "t": "7"}),
        text("trade", {**TRADE, "t": -1}), text("trade", {**TRADE, "T": 1.5}), text("trade", {**TRADE, "m": 1}),
        text("trade", {**TRADE, "s": None}), text("depth@100ms", {**DEPTH, "b": [["-1", "1"]]}),
        text("depth@100ms", {**DEPTH, "b": [["1"]]}), text("depth@100ms", {**DEPTH, "b": [["1", "nan"]]}),
        text("depth@100ms", {**DEPTH, "b": None}), text("depth@100ms", {**DEPTH, "pu": 4}),
        text("bookTicker", {"u": 1, "s": "BTCUSDT"}), "[" * 100_000,
    ],
)
def test_malformed_frame_is_refused_never_a_crash(bad: str) -> None:
    with pytest.raises(InvalidMessage):
        Decoder().frame(bad)


@pytest.mark.parametrize(
    ("price", "quantity"), [("0", "1"), ("1", "0"), ("-1", "1"), ("nan", "1"), ("inf", "1"), ("x", "1")],
)
def test_trade_without_a_positive_price_and_quantity_is_refused(price: str, quantity: str) -> None:
    frame = TradeFrame("BTCUSDT", 1, price, quantity, 1, buyer_is_maker=False)
    with pytest.raises(InvalidMessage):
        frame.to_trade(ts_init=1, source="live", session="s")


@given(st.text(max_size=60))
def test_any_text_is_read_or_refused(noise: str) -> None:
    with contextlib.suppress(InvalidMessage):
        Decoder().frame(noise)


@given(st.integers(0, 10**17))
def test_steps_of_a_decimal_are_exact(value: int) -> None:
    assert steps(f"{value // 10**8}.{value % 10**8:08d}") == value


@pytest.mark.parametrize("bad", ["", ".", "1e3", "-1", "+1", "1_0", "0.123456789", "٣"])
def test_steps_of_anything_else_are_refused(bad: str) -> None:
    with pytest.raises(ValueError, match="expected a decimal"):
        steps(bad)


def test_short_snapshot_is_the_whole_book_only_where_the_limit_says_so() -> None:
    body = {"lastUpdateId": 1, "bids": [["1", "1"]], "asks": [["2", "1"]]}
    assert (snapshot(body).full, snapshot(body, 5_000).full, snapshot(body, 1).full) == (False, True, False)


def test_aggregate_of_several_trades_cannot_be_told_apart() -> None:
    row = {"a": 1, "p": "10", "q": "2", "f": 5, "l": 5, "T": 9, "m": False, "M": True}
    assert rest_aggregate("BTCUSDT", row) == TradeFrame("BTCUSDT", 5, "10", "2", 9, buyer_is_maker=False)
    assert rest_aggregate("BTCUSDT", {**row, "l": 6}) is None


def test_rest_trade_is_the_streams_trade() -> None:
    row = {"id": 7, "price": "61837.63", "qty": "0.02", "quoteQty": "1", "time": 1700000000000, "isBuyerMaker": True}
    assert rest_trade("BTCUSDT", row) == Decoder().frame(text("trade", TRADE))
    with pytest.raises(InvalidMessage):
        rest_trade("BTCUSDT", {"id": 7})


def test_three_streams_of_each_symbol_are_followed() -> None:
    assert subscription(["BTCUSDT", "ETHUSDT"])[2:5] == ["btcusdt@bookTicker", "ethusdt@trade", "ethusdt@depth@100ms"]


def test_every_recorded_frame_is_read_and_none_has_an_unknown_field(recorded: Recorded) -> None:
    decoder, count = Decoder(), 0
    first: Path = recorded.frames()[0]
    for line in read_lines([first]):
        if not line.text.startswith('{"lastUpdateId"'):
            assert decoder.frame(line.text) is not None
            count += 1
    assert (count, dict(decoder.unknown)) == (41_248, {})


@pytest.mark.parametrize("word", ["BTCUSDT", "ETHUSDT", "ETHBTC", "1000SATSUSDT", "USDCUSDT"])
def test_an_instrument_comes_back_from_the_venue_as_it_went(word: str) -> None:
    assert venue_word(canonical(word)) == word
    assert subscription([canonical(word)], ["trade"]) == [f"{word.lower()}@trade"]
    text = json.dumps({"stream": f"{word.lower()}@trade", "data": {
        "e": "trade", "E": 1, "s": word, "t": 7, "p": "1.5", "q": "2", "T": 1, "m": True, "M": True}})
    frame = Decoder().frame(text)
    assert frame is not None
    assert venue_word(frame.symbol) == word


@pytest.mark.parametrize("symbol", ["BTCUSDT-PERP.BINANCE", "BTC-USD-PERP.STANDX", "btcusdt", "", "BTC/USDT", "币USDT"])
def test_an_id_of_another_venue_never_reaches_this_one(symbol: str) -> None:
    with pytest.raises(ValueError, match="expected a spot symbol such as BTCUSDT"):
        venue_word(symbol)
