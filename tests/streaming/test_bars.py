"""Bars are exact, and the same for every order, repetition and lateness of their trades."""

from __future__ import annotations

import random
from decimal import Decimal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from feature_repo.contracts import MINUTE_NS, SECOND_NS, InvalidMessage, SecondClosed, Trade
from streaming.bars import bars_from_trades, close_bar, distinct, minute_bars, to_steps

START = 1_723_161_300 * SECOND_NS


def trade(trade_id: int, price: float, quantity: float, at: int = 0, maker: bool = False, late: bool = False) -> Trade:
    return Trade(
        symbol="BTCUSDT", ts_event=START + at, ts_init=START + at, source="recording", session="s",
        trade_id=trade_id, price=price, quantity=quantity, buyer_is_maker=maker, late=late,
    )


def seal(n: int, close: int = START + SECOND_NS) -> SecondClosed:
    return SecondClosed(
        symbol="BTCUSDT", ts_event=close, ts_init=close + 250_000_000, source="recording", session="s",
        close=close, prev_close=close - SECOND_NS, n_trades=n, first_trade_id=None, last_trade_id=None,
        book_valid=True, bid_price=10.0, ask_price=10.5,
    )


cents = st.integers(1, 10_000_000).map(lambda n: n / 100)
lots = st.integers(1, 10_000_000).map(lambda n: n / 100_000)
trade_lists = st.lists(st.tuples(cents, lots, st.integers(0, SECOND_NS - 1), st.booleans()), min_size=1, max_size=30)


@given(trade_lists, st.randoms(use_true_random=False))
def test_bar_is_the_same_for_every_order_and_repetition(rows: list[tuple], rng: random.Random) -> None:
    trades = [trade(i, p, q, at, maker) for i, (p, q, at, maker) in enumerate(rows)]
    shuffled = trades + rng.sample(trades, k=len(trades) // 2)
    rng.shuffle(shuffled)
    assert close_bar(seal(len(trades)), shuffled, None) == close_bar(seal(len(trades)), trades, 1.0)


@given(trade_lists)
def test_sums_are_the_floats_nearest_to_the_exact_decimals(rows: list[tuple]) -> None:
    trades = [trade(i, p, q, at, maker) for i, (p, q, at, maker) in enumerate(rows)]
    bar = close_bar(seal(len(trades)), trades, None)
    decimals = [(Decimal(repr(t.price)), Decimal(repr(t.quantity)), t.buyer_is_maker) for t in trades]
    assert bar.volume == float(sum(q for _, q, _ in decimals))
    assert bar.quote_volume == float(sum(p * q for p, q, _ in decimals))
    assert bar.taker_buy_volume == float(sum((q for _, q, maker in decimals if not maker), Decimal(0)))


def test_open_and_close_follow_trade_ids_not_arrival() -> None:
    bar = close_bar(seal(3), [trade(9, 12.0, 1.0), trade(7, 10.0, 1.0), trade(8, 15.0, 2.0)], None)
    assert (bar.open, bar.high, bar.low, bar.close) == (10.0, 15.0, 10.0, 12.0)
    assert (bar.first_trade_id, bar.last_trade_id, bar.trades) == (7, 9, 3)
    assert (bar.volume, bar.quote_volume, bar.vwap) == (4.0, 52.0, 13.0)
    assert (bar.open_time, bar.close_time, bar.created) == (START, START + SECOND_NS, START + 1_250_000_000)
    assert bar.book_valid
    assert bar.bid_price == 10.0


def test_late_trades_and_those_of_other_seconds_are_left_out() -> None:
    others = [trade(2, 99.0, 1.0, late=True), trade(3, 99.0, 1.0, at=SECOND_NS), trade(0, 99.0, 1.0, at=-1)]
    assert close_bar(seal(1), [trade(1, 10.0, 1.0), *others], None).high == 10.0


def test_silent_second_carries_the_close_with_volume_zero() -> None:
    bar = close_bar(seal(0), [], 10.25)
    assert (bar.open, bar.high, bar.low, bar.close, bar.vwap) == (10.25,) * 5
    assert (bar.volume, bar.quote_volume, bar.taker_buy_volume, bar.trades, bar.first_trade_id) == (0, 0, 0, 0, None)


def test_missing_trade_is_refused_with_what_was_found() -> None:
    with pytest.raises(InvalidMessage, match="expected 2 trades, found 1"):
        close_bar(seal(2), [trade(1, 10.0, 1.0), trade(1, 10.0, 1.0)], None)


def test_silence_without_a_price_to_carry_is_refused() -> None:
    with pytest.raises(InvalidMessage, match="neither"):
        close_bar(seal(0), [], None)


def test_first_of_two_trades_with_one_id_wins() -> None:
    assert [t.price for t in distinct([trade(1, 10.0, 1.0), trade(1, 11.0, 1.0)])] == [10.0]


@pytest.mark.parametrize("text", ["0.00000001", "0.1", "61837.63", "92141.50000001", "123456789.5", "3000000000000"])
def test_steps_of_a_venue_decimal_are_exact(text: str) -> None:
    assert to_steps(float(text)) == int(Decimal(text) * 10**8)


@settings(max_examples=40)
@given(st.lists(st.tuples(cents, lots, st.integers(0, MINUTE_NS - 1), st.booleans()), min_size=1, max_size=80))
def test_minute_of_seconds_equals_minute_of_trades(rows: list[tuple]) -> None:
    at_sorted = sorted(at for _, _, at, _ in rows)
    trades = [trade(i, p, q, at, maker) for i, (at, (p, q, _, maker)) in enumerate(zip(at_sorted, rows, strict=True))]
    [minute] = minute_bars(bars_from_trades(trades, START, START + MINUTE_NS, previous_close=1.0))
    prices = [t.price for t in trades]
    assert (minute.open, minute.high, minute.low, minute.close) == (prices[0], max(prices), min(prices), prices[-1])
    assert minute.volume == float(sum(Decimal(repr(t.quantity)) for t in trades))
    assert minute.quote_volume == float(sum(Decimal(repr(t.price)) * Decimal(repr(t.quantity)) for t in trades))
    assert (minute.trades, minute.interval_s, minute.open_time) == (len(trades), 60, START)


def test_minute_with_a_missing_second_is_left_out() -> None:
    bars = bars_from_trades([trade(1, 10.0, 1.0)], START, START + 2 * MINUTE_NS)
    assert [bar.close_time for bar in minute_bars(bars[:7] + bars[8:])] == [START + 2 * MINUTE_NS]


def test_silent_minute_carries_the_price() -> None:
    bars = bars_from_trades([trade(1, 10.0, 1.0)], START, START + 2 * MINUTE_NS)
    assert [(m.close, m.volume) for m in minute_bars(bars)] == [(10.0, 1.0), (10.0, 0.0)]


def test_revised_second_replaces_the_older_one() -> None:
    bars = bars_from_trades([trade(1, 10.0, 1.0)], START, START + MINUTE_NS)
    revised = bars[5].model_copy(update={"created": bars[5].created + 1, "volume": 2.0, "trades": 1})
    [minute] = minute_bars([revised, *bars])
    assert minute.volume == 3.0
