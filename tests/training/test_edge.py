"""should_trade takes a planted edge and leaves shuffled labels alone; its slope is what unseen rows say."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest
from sklearn.ensemble import HistGradientBoostingRegressor
from sklearn.linear_model import Ridge

from bentos import predictor
from feature_repo.contracts import DAY_NS
from feature_repo.grid import Floats
from tests.training.scored_rows import minutes
from training import edge
from training.backtest import Quotes, Trades, trade
from training.costs import COST_TABLE_BPS
from training.edge import edge_slope, should_trade

PLANTED_BPS = 6.0
MINUTES = 30 * 1440
FIT, TUNE, TEST = slice(0, 20 * 1440), slice(20 * 1440, 25 * 1440), slice(25 * 1440, None)


@dataclass(frozen=True)
class Planted:
    """A market in which the sign that one of ten inputs is moves the next minute by 6 bps; returns deviate by 8."""

    inputs: Floats
    direction: Floats
    quotes: Quotes

    @property
    def realised_bps(self) -> Floats:
        return np.asarray(1e4 * np.log(self.quotes.exit_N / self.quotes.entry_N))


def planted(seed: int = 0) -> Planted:
    rng = np.random.default_rng(seed)
    inputs = rng.standard_normal((MINUTES, 10))
    direction = inputs[:, 3] = np.sign(inputs[:, 3])
    returns = 1e-4 * (PLANTED_BPS * direction + 8.0 * rng.standard_normal(MINUTES))
    closes = 60_000 * np.exp(np.concatenate([[0.0], np.cumsum(returns)]))
    quotes = Quotes.of_bars("A", minutes(MINUTES + 1), np.concatenate([[60_000.0], closes[:-1]]), closes, 1)
    return Planted(inputs, direction, quotes)


def learnt_edge(market: Planted, realised: Floats, regressor: object) -> Floats:
    """Fitted on the first twenty days, made honest on the next five; the edge of every decision."""
    regressor.fit(market.inputs[FIT], realised[FIT])  # type: ignore[attr-defined]
    own = regressor.predict(market.inputs)  # type: ignore[attr-defined]
    days = market.quotes.days[:MINUTES]
    return np.asarray(edge_slope(own[TUNE], realised[TUNE], days[TUNE]).used * own)


def test_trades(market: Planted, edge_bps: Floats, cost: float) -> Trades:
    sides = np.zeros(MINUTES + 1, dtype=np.int8)
    sides[TEST.start:-1] = should_trade(edge_bps, cost)[TEST]
    return trade(market.quotes, sides, cost)


test_trades.__test__ = False  # type: ignore[attr-defined]
REGRESSORS = [
    pytest.param(Ridge, id="linear"),
    pytest.param(
        lambda: HistGradientBoostingRegressor(max_iter=60, min_samples_leaf=200, random_state=0), id="boosted",
    ),
]


@pytest.mark.parametrize("make", REGRESSORS)
@pytest.mark.parametrize("cost", [c for c in COST_TABLE_BPS if 2 * c < PLANTED_BPS])
def test_with_a_planted_edge_it_trades_and_earns_most_of_what_the_oracle_does(make: object, cost: float) -> None:
    market = planted()
    found = test_trades(market, learnt_edge(market, market.realised_bps[:-1], make()), cost)  # type: ignore[operator]
    oracle = test_trades(market, PLANTED_BPS * market.direction, cost)
    assert len(oracle) == len(range(*TEST.indices(MINUTES)))
    assert oracle.net_bps.mean() == pytest.approx(PLANTED_BPS - 2 * cost, abs=0.3)
    assert found.net_bps.sum() >= 0.7 * oracle.net_bps.sum()


@pytest.mark.parametrize("make", REGRESSORS)
@pytest.mark.parametrize("cost", [c for c in COST_TABLE_BPS if 2 * c > PLANTED_BPS])
def test_an_edge_that_does_not_pay_its_cost_is_left_alone(make: object, cost: float) -> None:
    market = planted()
    found = test_trades(market, learnt_edge(market, market.realised_bps[:-1], make()), cost)  # type: ignore[operator]
    assert len(found) < 0.001 * MINUTES


@pytest.mark.parametrize("make", REGRESSORS)
@pytest.mark.parametrize("seed", range(3))
def test_on_shuffled_labels_it_does_not_trade_even_where_trading_is_free(make: object, seed: int) -> None:
    market = planted(seed)
    shuffled = np.random.default_rng(seed).permutation(market.realised_bps[:-1])
    edge_bps = learnt_edge(market, shuffled, make())  # type: ignore[operator]
    for cost in COST_TABLE_BPS:
        assert len(test_trades(market, edge_bps, cost)) < 0.001 * (MINUTES - TEST.start)


def test_the_slope_of_an_edge_twice_too_bold_is_a_half() -> None:
    rng = np.random.default_rng(1)
    true, days = rng.standard_normal(20_000), np.arange(20_000) // 500
    found = edge_slope(2 * true, true + 3 * rng.standard_normal(20_000), days)
    assert found.slope == pytest.approx(0.5, abs=4 * found.standard_error)
    assert found.used == found.slope
    again = edge_slope(2 * true * found.used, true + 3 * rng.standard_normal(20_000), days)
    assert again.slope == pytest.approx(1.0, abs=0.1)


def test_the_error_of_the_slope_knows_that_a_day_hangs_together() -> None:
    rng = np.random.default_rng(2)
    days = np.repeat(np.arange(40), 500)
    shared = rng.standard_normal(40)[days]
    fields = edge_slope(shared, rng.standard_normal(40)[days] + rng.standard_normal(20_000), days)
    apart = edge_slope(shared, rng.standard_normal(20_000), np.arange(20_000))
    assert fields.standard_error > 5 * apart.standard_error


def test_the_error_of_the_slope_is_that_of_repeated_draws() -> None:
    rng = np.random.default_rng(3)
    days = np.repeat(np.arange(60), 20)
    found = [edge_slope(rng.standard_normal(1200), rng.standard_normal(60)[days] + rng.standard_normal(1200), days)
             for _ in range(400)]
    spread = float(np.std([f.slope for f in found]))
    assert np.mean([f.standard_error for f in found]) == pytest.approx(spread, rel=0.12)
    assert np.mean([f.used > 0 for f in found]) <= 0.01


def test_of_few_days_as_much_is_asked_as_is_as_rare() -> None:
    rng = np.random.default_rng(4)
    days = np.repeat(np.arange(6), 20)
    found = [edge_slope(rng.standard_normal(120), rng.standard_normal(6)[days] + rng.standard_normal(120), days)
             for _ in range(4_000)]
    bare = np.mean([f.slope > edge.CERTAIN_T * f.standard_error for f in found])
    asked = np.mean([f.used > 0 for f in found])
    assert bare > 0.01, "three standard errors that six days gave are no rarity"
    assert asked < 0.005, "0.0013 for many days"


def overlapping(steps: Floats, h: int = 15) -> Floats:
    """What the next h minutes bring from each, of minutes' own returns."""
    return np.convolve(steps, np.ones(h), mode="full")[h - 1:][: len(steps)]


def test_the_error_of_the_slope_knows_that_returns_of_15_minutes_overlap() -> None:
    """An edge that lasts and says nothing of the returns: as if apart, three errors would be no rarity."""
    rng, n = np.random.default_rng(5), 40 * 360
    days = np.repeat(np.arange(40), 360)
    found, bare = [], []
    for _ in range(300):
        lasting = np.repeat(rng.standard_normal(n // 30), 30)
        realised = overlapping(rng.standard_normal(n))
        found.append(edge_slope(lasting, realised, days))
        bare.append(edge_slope(lasting, realised, np.arange(n)))
    spread = float(np.std([f.slope for f in found]))
    assert np.mean([f.standard_error for f in found]) == pytest.approx(spread, rel=0.15)
    assert np.mean([f.standard_error for f in bare]) < 0.5 * spread
    assert np.mean([f.used > 0 for f in found]) <= 0.01


def test_a_slope_is_believed_up_to_what_its_horizon_can_bring() -> None:
    x, days = np.ones(400), np.arange(400) // 10
    realised = 5.0 + 0.1 * np.random.default_rng(6).standard_normal(400)
    assert edge_slope(x, realised, days).used == edge.STEEPEST
    quarter = edge_slope(x, realised, days, steepest=edge.STEEPEST_15)
    assert quarter.used == quarter.slope == pytest.approx(5.0, abs=0.05)
    assert edge_slope(x, 2 * realised, days, steepest=edge.STEEPEST_15).used == edge.STEEPEST_15


@pytest.mark.parametrize(("edge_bps", "realised", "days"), [
    ([0.0, 0.0, 0.0], [1.0, 2.0, 3.0], [1, 2, 3]), ([1.0, 1.0, 1.0], [1.0, 1.1, 0.9], [1, 1, 1]),
    ([np.nan, np.nan, 1.0], [1.0, 1.0, np.nan], [1, 2, 3]), ([1.0, 2.0, 3.0], [-1.0, -2.0, -3.1], [1, 2, 3]),
])
def test_no_evidence_is_no_edge(edge_bps: list[float], realised: list[float], days: list[int]) -> None:
    assert edge_slope(np.array(edge_bps), np.array(realised), np.array(days)).used == 0


def test_weights_count_rows_as_repeating_them_does() -> None:
    x, y, days = np.array([1.0, 2.0, 3.0]), np.array([2.0, 3.0, 7.0]), np.array([1, 2, 3])
    weighted = edge_slope(x, y, days, np.array([1.0, 3.0, 1.0]))
    repeated = edge_slope(x[[0, 1, 1, 1, 2]], y[[0, 1, 1, 1, 2]], days[[0, 1, 1, 1, 2]])
    assert weighted.slope == pytest.approx(repeated.slope)
    assert weighted.standard_error == pytest.approx(repeated.standard_error)


def test_the_rule_is_that_of_serving() -> None:
    assert edge.EDGE_OVER_COST == predictor.EDGE_OVER_COST


def test_what_is_not_allowed_does_not_trade() -> None:
    sides = should_trade(np.array([9.0, -9.0, 9.0]), 2.0, np.array([True, True, False]))
    assert sides.tolist() == [1, -1, 0]
    assert should_trade(np.array([4.0, 4.0 + 1e-9]), 2.0).tolist() == [0, 1]  # it must exceed the cost


def test_changing_the_future_changes_no_decision_before() -> None:
    market = planted()
    edge_bps = learnt_edge(market, market.realised_bps[:-1], Ridge())
    cut = 27 * 1440
    assert cut * 60 * 10**9 % DAY_NS == 0
    future = market.inputs.copy()
    future[cut:] = np.random.default_rng(9).standard_normal(future[cut:].shape)
    realised = market.realised_bps[:-1].copy()
    realised[cut:] = np.random.default_rng(10).standard_normal(MINUTES - cut)
    changed = learnt_edge(Planted(future, market.direction, market.quotes), realised, Ridge())
    np.testing.assert_array_equal(should_trade(edge_bps, 2.0)[:cut], should_trade(changed, 2.0)[:cut])
    assert not np.array_equal(should_trade(edge_bps, 2.0)[cut:], should_trade(changed, 2.0)[cut:])
