"""Strategies are compared on the same decisions, at every cost, and what they show is what their trades say."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest

from tests.training.scored_rows import made_scored, minutes, walk
from training.backtest import Quotes, equity, trade
from training.costs import COST_TABLE_BPS, CostModel
from training.edge import should_trade
from training.pnl import break_even, brief, buy_and_hold, compare, daily_net, evidence, profit_factor, summary
from training.scored import Scored

DAYS = 6
COSTS = CostModel(fee_bps=0.9, half_spread_bps=0.05, slippage_bps=0.05)


@pytest.fixture(scope="module")
def knowing() -> Scored:
    """A model that knows half of each coming minute, and says so honestly."""
    n = DAYS * 1440
    opens, closes = walk(n, 4)
    plain = made_scored(minutes(n), opens, closes)
    rng = np.random.default_rng(4)
    known = np.where(rng.random(n) < 0.5, np.nan_to_num(plain.had[1]), 0.0)
    odd = np.arange(n) % 10 == 0
    return replace(plain, p_up_N=np.where(known > 0, 0.9, np.where(known < 0, 0.1, 0.5)),
                   edge_bps={1: 1e4 * known}, out_of_distribution_N=odd)


def test_a_model_that_knows_earns_and_those_that_do_not_pay_their_costs(knowing: Scored) -> None:
    blind = replace(knowing, edge_bps={1: np.zeros(len(knowing))}, p_up_N=np.full(len(knowing), 0.5))
    found = compare(knowing, {"logistic": blind}, COSTS)
    assert list(found) == ["1", "15"]
    at_one = found["1"]["strategies"]
    assert set(at_one) == {"model", "model_every_minute", "logistic_by_edge", "logistic_every_minute", "momentum",
                           "reversal", "always_long", "always_flat"}
    assert at_one["model"]["at_settings"]["net_bps"]["low"] > 0
    assert at_one["logistic_by_edge"]["at_settings"]["trades"] == 0
    for name in ("momentum", "reversal", "always_long"):
        assert at_one[name]["at_settings"]["net_bps"]["value"] < 0
        assert at_one[name]["model_minus_it_bps_per_day"]["low"] > 0
    assert "model" not in found["15"]["strategies"]  # it says nothing of 15 minutes
    json.dumps(found, allow_nan=False)


def test_at_15_minutes_a_strategy_is_shown_one_position_at_a_time_too(knowing: Scored) -> None:
    drifting = replace(knowing, edge_bps={**knowing.edge_bps, 15: 1e4 * np.nan_to_num(knowing.had[15])})
    found = compare(drifting, {}, COSTS)
    assert found["1"] == compare(knowing, {}, COSTS)["1"], "what 15 minutes bring changes nothing of one"
    assert all("one_at_a_time" not in each for each in found["1"]["strategies"].values())
    assert all("one_at_a_time" in each for each in found["15"]["strategies"].values())
    model = found["15"]["strategies"]["model"]
    alone = model["one_at_a_time"]["at_settings"]
    quotes = Quotes.of(drifting, 15).one_at_a_time()
    allowed = ~drifting.out_of_distribution_N
    trades = trade(quotes, should_trade(drifting.edge_bps[15], COSTS.per_side_bps, allowed), COSTS.per_side_bps)
    assert (alone["trades"], alone["passed_over"]) == (len(trades), trades.passed_over)
    assert alone["net_bps"]["value"] == pytest.approx(trades.net_bps.mean())
    assert alone["total_net_bps"] == pytest.approx(trades.net_bps.sum())
    assert model["at_settings"]["trades"] >= alone["trades"] + alone["passed_over"]
    assert set(model["one_at_a_time"]["per_cost"]) == set(model["per_cost"])
    json.dumps(found, allow_nan=False)


def test_dearer_trading_is_done_less_and_rows_unlike_training_not_at_all(knowing: Scored) -> None:
    rows = compare(knowing, {}, COSTS)["1"]["strategies"]["model"]["per_cost"]
    counts = [rows[f"{c:g}"]["trades"] for c in COST_TABLE_BPS]
    assert counts == sorted(counts, reverse=True)
    assert counts[0] > counts[-1] > 0
    asked = np.abs(knowing.edge_bps[1]) > 0
    assert counts[0] == np.count_nonzero(asked & ~knowing.out_of_distribution_N)


def test_always_long_for_a_minute_pays_each_minute_and_holding_pays_once(knowing: Scored) -> None:
    found = compare(knowing, {}, COSTS)["1"]
    trades = found["strategies"]["always_long"]["at_settings"]
    assert trades["total_net_bps"] == pytest.approx(-2 * len(knowing), rel=0.5)
    ratio = knowing.price_N[-1] / knowing.entry_N[0]
    assert found["buy_and_hold"]["net_bps"] == pytest.approx(1e4 * (ratio - 1) - COSTS.per_side_bps * (1 + ratio))


def test_others_on_other_decisions_are_refused(knowing: Scored) -> None:
    with pytest.raises(ValueError, match="expected late on the same decisions"):
        compare(knowing, {"late": knowing.only(np.arange(1, len(knowing)))}, COSTS)


@pytest.mark.parametrize("h", [1, 15])
def test_days_and_trades_add_up_to_the_same(h: int) -> None:
    n = 3 * 1440
    quotes = Quotes.of_bars("A", minutes(n), *walk(n, 5), h)
    sides = np.random.default_rng(5).integers(-1, 2, n).astype(np.int8)
    trades = trade(quotes, sides, 2.0)
    found = summary(quotes, trades)
    end = equity(quotes, trades).net_bps_E[-1]
    assert daily_net(quotes, trades).sum() == pytest.approx(end, abs=1e-6)
    assert found["total_net_bps"] == pytest.approx(trades.net_bps.mean() * len(trades) / h, abs=1e-6)
    assert found["exposure"] == pytest.approx(len(trades) / n)
    assert found["hit_rate"]["value"] == np.mean(trades.net_bps > 0)
    assert found["share_long"] == np.mean(trades.side_T > 0)


def test_at_its_break_even_cost_a_strategy_earns_nothing() -> None:
    n = 4 * 1440
    quotes = Quotes.of_bars("A", minutes(n), *walk(n, 6), 15)
    trades = trade(quotes, np.where(np.arange(n) % 7 == 0, 1, 0).astype(np.int8), 0.0)
    found = break_even(trades)
    assert found is not None
    assert trades.at_cost(found["value"]).net_bps.sum() == pytest.approx(0, abs=1e-8)
    assert found["low"] < found["value"] < found["high"]
    assert found["value"] == pytest.approx(trades.gross_bps.mean() / 2, rel=0.01)


def test_trades_that_overlap_count_once() -> None:
    quotes = Quotes.of_bars("A", minutes(3000), np.ones(3000), np.ones(3000), 15)
    every, apart = np.ones(3000, dtype=np.int8), np.where(np.arange(3000) % 15 == 0, 1, 0).astype(np.int8)
    assert evidence(trade(quotes, every, 0.0)) == {"n_eff": 199, "evidence": "too few"}
    assert evidence(trade(quotes, apart, 0.0))["n_eff"] == len(trade(quotes, apart, 0.0)) == 199
    assert evidence(trade(quotes, 0 * every, 0.0))["n_eff"] == 0


def test_nothing_traded_is_said_so_and_not_as_nought_per_trade() -> None:
    quotes = Quotes.of_bars("A", minutes(100), np.ones(100), np.ones(100), 1)
    found = summary(quotes, trade(quotes, np.zeros(100, dtype=np.int8), 2.0))
    assert (found["trades"], found["net_bps"], found["hit_rate"], found["profit_factor"]) == (0, None, None, None)
    assert (found["break_even_cost_bps"], found["exposure"], found["max_drawdown"]["bps"]) == (None, 0.0, 0.0)


def test_one_day_has_no_interval() -> None:
    quotes = Quotes.of_bars("A", minutes(100), *walk(100), 1)
    found = brief(quotes, trade(quotes, np.ones(100, dtype=np.int8), 2.0))
    assert found["net_bps"]["low"] is None
    assert found["net_bps"]["value"] < 0


def test_the_profit_factor_is_what_was_won_over_what_was_lost() -> None:
    assert profit_factor(np.array([3.0, -1.0, 1.0, -1.0])) == 2.0
    assert profit_factor(np.array([3.0])) is None


def test_buying_and_holding_needs_a_price() -> None:
    quotes = Quotes.of_bars("A", minutes(1), np.ones(1), np.ones(1), 1)
    assert buy_and_hold(quotes, 2.0) == {"net_bps": None, "symbols": 0}
