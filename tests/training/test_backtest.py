"""The engine keeps the books as a naive cash ledger does, at prices that could be had, and cannot see ahead."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from feature_repo.contracts import DAY_NS, MINUTE_NS
from feature_repo.grid import Floats, Ints
from tests.training.scored_rows import START_NS, made_scored, minutes, walk
from training.backtest import Quotes, equity, past_return, trade
from training.edge import Sides

TINY_BPS = 1e-6


def ledger(
    close_ns: Ints, opens: Floats, closes: Floats, sides: Sides, h: int, cost_bps: float, at_once: int | None = None,
) -> Floats:
    """A second implementation: cash and positions, minute by minute, in bps of a capital of 1."""
    stake = 1 / (at_once or h)
    free_at = 0
    price = dict(zip(close_ns.tolist(), closes.tolist(), strict=True))
    first_price = dict(zip(close_ns.tolist(), opens.tolist(), strict=True))
    side = dict(zip(close_ns.tolist(), sides.tolist(), strict=True))
    cash, positions, last, curve = 0.0, [], 0.0, []
    for now in range(int(close_ns[0]), int(close_ns[-1]) + h * MINUTE_NS + 1, MINUTE_NS):
        decided = now - MINUTE_NS
        if side.get(decided) and now in first_price and (at_once is None or decided >= free_at):
            free_at = decided + h * MINUTE_NS
            if free_at in price:
                units = side[decided] * stake / first_price[now]
                cash -= units * first_price[now] + cost_bps / 1e4 * stake
                positions.append((free_at, units))
        last = price.get(now, last)
        for leaves, units in positions:
            if leaves == now:
                cash += units * last - abs(units) * last * cost_bps / 1e4
        positions = [held for held in positions if held[0] != now]
        curve.append(1e4 * (cash + sum(units * last for _, units in positions)))
    return np.array(curve)


markets = st.tuples(
    st.integers(0, 2**16), st.sampled_from([1, 2, 5, 15]), st.sampled_from([0.0, 0.5, 2.0, 11.05]),
    st.floats(0.0, 0.3), st.floats(0.0, 1.0),
)


def drawn(seed: int, holes: float, busy: float, count: int = 120) -> tuple[Ints, Floats, Floats, Sides]:
    """A market with missing minutes and a strategy that trades in a share of them."""
    rng = np.random.default_rng(seed)
    opens, closes = walk(count, seed)
    kept = rng.random(count) >= holes
    kept[0] = True
    sides = np.where(rng.random(count) < busy, rng.choice([-1, 1], count), 0).astype(np.int8)
    return minutes(count)[kept], opens[kept], closes[kept], sides[kept]


@settings(deadline=None, max_examples=80)
@given(markets)
def test_every_minute_of_the_curve_is_that_of_the_cash_ledger(drawn_as: tuple[int, int, float, float, float]) -> None:
    seed, h, cost, holes, busy = drawn_as
    close_ns, opens, closes, sides = drawn(seed, holes, busy)
    quotes = Quotes.of_bars("BTCUSDT", close_ns, opens, closes, h)
    found = equity(quotes, trade(quotes, sides, cost))
    np.testing.assert_allclose(found.net_bps_E, ledger(close_ns, opens, closes, sides, h, cost), atol=TINY_BPS, rtol=0)


@settings(deadline=None, max_examples=80)
@given(markets)
def test_one_position_at_a_time_is_that_of_the_cash_ledger_too(
    drawn_as: tuple[int, int, float, float, float],
) -> None:
    seed, h, cost, holes, busy = drawn_as
    close_ns, opens, closes, sides = drawn(seed, holes, busy)
    quotes = Quotes.of_bars("BTCUSDT", close_ns, opens, closes, h).one_at_a_time()
    trades = trade(quotes, sides, cost)
    found = equity(quotes, trades)
    wanted = ledger(close_ns, opens, closes, sides, h, cost, at_once=1)
    np.testing.assert_allclose(found.net_bps_E, wanted, atol=TINY_BPS, rtol=0)
    assert found.exposure_E.max() <= 1 + 1e-12
    assert (np.diff(trades.decision_ns_T) >= h * MINUTE_NS).all()
    assert len(trades) + trades.left_out + trades.passed_over == np.count_nonzero(sides)


def test_one_position_at_a_time_of_each_symbol_and_the_next_is_decided_when_it_ends() -> None:
    n = 40
    prices = np.full(n, 100.0)
    parts = [Quotes.of_bars(symbol, minutes(n), prices, prices, 15) for symbol in ("A", "B")]
    both = replace(parts[0], **{name: np.concatenate([getattr(part, name) for part in parts]) for name in (
        "symbol_N", "decision_ns_N", "price_N", "entry_N", "exit_N")}).one_at_a_time()
    sides = np.tile(np.where(np.arange(n) >= 3, 1, 0), 2).astype(np.int8)
    trades = trade(both, sides, 0.0)
    assert trades.symbol_T.tolist() == ["A", "A", "B", "B"]
    assert ((trades.decision_ns_T - START_NS) // MINUTE_NS - 1).tolist() == [3, 18, 3, 18]
    # A's and B's trade of minute 33 would leave after the end: entered, so that it keeps others away, and not counted.
    assert (trades.left_out, trades.passed_over) == (2 + 2, 2 * (37 - 3) - 2)


def test_of_one_minute_one_position_at_a_time_is_every_trade() -> None:
    quotes = Quotes.of_bars("BTCUSDT", *(market := drawn(3, 0.1, 0.7))[:3], 1)
    every, alone = (trade(each, market[3], 2.0) for each in (quotes, quotes.one_at_a_time()))
    np.testing.assert_array_equal(every.net_bps, alone.net_bps)
    assert alone.passed_over == 0
    np.testing.assert_array_equal(equity(quotes, every).net_bps_E, equity(quotes.one_at_a_time(), alone).net_bps_E)


@pytest.mark.parametrize("at", [0, 57, 200])
def test_prices_after_its_exit_change_nothing_of_a_trade_of_15_minutes(at: int) -> None:
    n = 300
    opens, closes = walk(n, 7)
    sides = np.random.default_rng(7).choice([-1, 1], n).astype(np.int8)
    later = np.arange(n) > at + 15
    walks = zip((opens, closes), walk(n, 8), strict=True)
    other_opens, other_closes = (np.where(later, new, old) for old, new in walks)
    for alone in (False, True):
        found = []
        for o, c in ((opens, closes), (other_opens, other_closes)):
            quotes = replace(Quotes.of_bars("A", minutes(n), o, c, 15), is_one_at_a_time=alone)
            found.append(trade(quotes, sides, 2.0))
        ended = [trades.decision_ns_T <= minutes(n)[at] for trades in found]
        assert ended[0].any()
        np.testing.assert_array_equal(*(t.decision_ns_T[done] for t, done in zip(found, ended, strict=True)))
        np.testing.assert_array_equal(*(t.net_bps[done] for t, done in zip(found, ended, strict=True)))
        assert not np.array_equal(found[0].net_bps, found[1].net_bps)


def test_a_trade_whose_exit_is_never_priced_keeps_others_away_as_if_it_were() -> None:
    close_ns = minutes(60)
    prices = np.full(60, 100.0)
    held = np.arange(60) != 15  # the exit of the trade that minute 0 decides
    full, holed = (Quotes.of_bars("A", close_ns[own], prices[own], prices[own], 15).one_at_a_time()
                   for own in (np.ones(60, dtype=bool), held))
    sides = np.where(np.arange(60) < 15, 1, 0).astype(np.int8)
    assert len(trade(full, sides, 0.0)) == 1
    lacking = trade(holed, sides[held], 0.0)
    assert (len(lacking), lacking.left_out, lacking.passed_over) == (0, 2, 13)


@settings(deadline=None, max_examples=80)
@given(markets)
def test_the_curve_ends_where_the_trades_add_up_to(drawn_as: tuple[int, int, float, float, float]) -> None:
    seed, h, cost, holes, busy = drawn_as
    quotes = Quotes.of_bars("BTCUSDT", *(market := drawn(seed, holes, busy))[:3], h)
    trades = trade(quotes, market[3], cost)
    curve = equity(quotes, trades)
    assert curve.net_bps_E[0] == 0
    assert curve.net_bps_E[-1] == pytest.approx(trades.net_bps.sum() / h, abs=TINY_BPS)
    assert curve.exposure_E.sum() == pytest.approx(len(trades))  # h minutes of 1/h each
    assert curve.exposure_E.max() <= 1 + 1e-12
    assert len(trades) + trades.left_out == np.count_nonzero(market[3])


@settings(deadline=None, max_examples=40)
@given(markets, st.floats(0.01, 20.0))
def test_a_higher_cost_takes_more_from_every_trade(
    drawn_as: tuple[int, int, float, float, float], more: float,
) -> None:
    seed, h, cost, holes, busy = drawn_as
    quotes = Quotes.of_bars("BTCUSDT", *(market := drawn(seed, holes, busy))[:3], h)
    trades = trade(quotes, market[3], cost)
    dearer = trades.at_cost(cost + more)
    assert (dearer.net_bps < trades.net_bps).all()
    np.testing.assert_array_equal(dearer.gross_bps, trades.gross_bps)


def test_a_trade_enters_at_the_next_open_and_leaves_at_the_horizon_s_close() -> None:
    close_ns = minutes(4)
    opens, closes = np.array([100.0, 101.0, 102.0, 104.0]), np.array([100.5, 101.5, 103.0, 105.0])
    quotes = Quotes.of_bars("BTCUSDT", close_ns, opens, closes, 2)
    long = trade(quotes, np.array([1, 0, 0, 0], dtype=np.int8), 2.0)
    assert (long.entry_T.tolist(), long.exit_T.tolist()) == ([101.0], [103.0])
    assert long.exit_ns.tolist() == [close_ns[2]]
    assert long.gross_bps[0] == pytest.approx(1e4 * (103 / 101 - 1))
    assert long.net_bps[0] == pytest.approx(1e4 * (103 * (1 - 2e-4) - 101 * (1 + 2e-4)) / 101)
    short = trade(quotes, np.array([-1, 0, 0, 0], dtype=np.int8), 2.0)
    assert short.net_bps[0] == pytest.approx(1e4 * (101 * (1 - 2e-4) - 103 * (1 + 2e-4)) / 101)
    assert short.rows()[0]["side"] == -1


def test_a_trade_without_an_entry_or_an_exit_is_counted_and_not_made() -> None:
    close_ns = minutes(6)[[0, 1, 2, 4, 5]]  # the fourth minute is missing
    prices = np.full(5, 100.0)
    quotes = Quotes.of_bars("BTCUSDT", close_ns, prices, prices, 2)
    trades = trade(quotes, np.ones(5, dtype=np.int8), 0.0)
    assert trades.decision_ns_T.tolist() == [close_ns[0]]
    assert (trades.left_out, trades.decisions) == (4, 5)


def test_never_trading_is_flat() -> None:
    opens, closes = walk(200)
    quotes = Quotes.of_bars("BTCUSDT", minutes(200), opens, closes, 15)
    trades = trade(quotes, np.zeros(200, dtype=np.int8), 11.05)
    curve = equity(quotes, trades)
    assert len(trades) == 0
    assert not curve.net_bps_E.any()
    assert not curve.exposure_E.any()
    assert curve.deepest()["bps"] == 0


def test_what_happens_later_changes_no_trade_and_no_equity_before() -> None:
    close_ns, n, cut = minutes(600), 600, 400
    opens, closes = walk(n, 1)
    other_opens, other_closes = walk(n, 2)
    changed_opens = np.where(np.arange(n) < cut, opens, other_opens)
    changed_closes = np.where(np.arange(n) < cut, closes, other_closes)
    for h in (1, 15):
        found = []
        for o, c in ((opens, closes), (changed_opens, changed_closes)):
            quotes = Quotes.of_bars("BTCUSDT", close_ns, o, c, h)
            sides = np.sign(np.nan_to_num(past_return(quotes, 3))).astype(np.int8)
            trades = trade(quotes, sides, 2.0)
            found.append((sides, trades, equity(quotes, trades)))
        (sides, trades, curve), (other_sides, other_trades, other_curve) = found
        np.testing.assert_array_equal(sides[:cut], other_sides[:cut])
        done = trades.exit_ns <= close_ns[cut - 1]
        assert done.sum() > 300
        np.testing.assert_array_equal(trades.net_bps[done], other_trades.net_bps[: done.sum()])
        np.testing.assert_array_equal(curve.net_bps_E[:cut], other_curve.net_bps_E[:cut])
        assert not np.array_equal(curve.net_bps_E, other_curve.net_bps_E)


def test_the_past_return_of_a_decision_ends_at_its_own_close_and_knows_holes() -> None:
    close_ns = minutes(5)[[0, 1, 3, 4]]
    closes = np.array([100.0, 110.0, 120.0, 130.0])
    quotes = Quotes.of_bars("BTCUSDT", close_ns, closes, closes, 1)
    np.testing.assert_allclose(past_return(quotes, 1), [np.nan, np.log(1.1), np.nan, np.log(130 / 120)])


def test_two_symbols_share_the_capital() -> None:
    close_ns, sides = minutes(300), np.ones(300, dtype=np.int8)
    books = [walk(300, seed) for seed in (1, 2)]
    alone = [Quotes.of_bars(name, close_ns, *book, 15) for name, book in zip("AB", books, strict=True)]
    both = Quotes(15, *(np.concatenate([getattr(q, name) for q in alone])
                        for name in ("symbol_N", "decision_ns_N", "price_N", "entry_N", "exit_N")))
    apart = [equity(q, trade(q, sides, 2.0)) for q in alone]
    together = equity(both, trade(both, np.tile(sides, 2), 2.0))
    np.testing.assert_allclose(together.net_bps_E, (apart[0].net_bps_E + apart[1].net_bps_E) / 2, atol=TINY_BPS)
    assert together.exposure_E.max() == pytest.approx(1.0)


def test_scored_decisions_give_the_quotes_of_their_bars() -> None:
    close_ns, (opens, closes) = minutes(100), walk(100)
    for h in (1, 15):
        found = Quotes.of(made_scored(close_ns, opens, closes), h)
        expected = Quotes.of_bars("BTCUSDT", close_ns, opens, closes, h)
        np.testing.assert_allclose(found.exit_N, expected.exit_N, rtol=1e-12)
        np.testing.assert_array_equal(found.entry_N, expected.entry_N)


def test_the_deepest_fall_is_told_with_its_dates() -> None:
    quotes = Quotes.of_bars("A", minutes(8), np.full(8, 100.0), np.full(8, 100.0), 1)
    curve = replace(equity(quotes, trade(quotes, np.zeros(8, dtype=np.int8), 0.0)),
                    net_bps_E=np.array([0.0, 5.0, 9.0, 4.0, 2.0, 6.0, 9.0, 10.0, 9.0]))
    at = curve.minute_ns_E
    assert curve.deepest() == {"bps": 7.0, "from_ns": at[2], "to_ns": at[4], "recovered_ns": at[6]}
    assert replace(curve, net_bps_E=-np.arange(9.0)).deepest()["recovered_ns"] is None


def test_a_minute_that_closes_at_midnight_ends_its_day() -> None:
    close_ns = minutes(4, START_NS + DAY_NS - 3 * MINUTE_NS)
    quotes = Quotes.of_bars("A", close_ns, np.full(4, 100.0), np.array([100.0, 100.0, 101.0, 100.0]), 1)
    days, value = equity(quotes, trade(quotes, np.array([0, 1, 0, 0], dtype=np.int8), 0.0)).daily()
    assert (np.diff(days).tolist(), value.tolist()) == ([1], pytest.approx([100.0, 100.0]))


@pytest.mark.parametrize("sides", [np.array([2, 0], dtype=np.int8), np.array([1], dtype=np.int8)])
def test_sides_that_are_none_are_refused(sides: Sides) -> None:
    quotes = Quotes.of_bars("A", minutes(2), np.ones(2), np.ones(2), 1)
    with pytest.raises(ValueError, match="expected 2 sides"):
        trade(quotes, sides, 0.0)
