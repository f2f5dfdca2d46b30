"""The simulated market has the stylised facts of real ones (Cont 2001): fat tails, clusters, no linear predictability.

Bounds are statistical, seeds fixed: what is asserted holds with the stated certainty over seeds, and for ever for
these.
"""

from __future__ import annotations

import numpy as np
import pytest

from streaming.exchange_history import Minutes
from streaming.simulator_days import REFERENCE_DAY, Floats
from streaming.simulator_hours import Hour, Hours
from streaming.simulator_market import simulated_minutes

DAYS = 8
LAGS = np.arange(1, 21)


@pytest.fixture(scope="module")
def minutes() -> dict[str, Minutes]:
    """Eight days of minute klines that end at midnight of 2026-08-31."""
    until_ms = (REFERENCE_DAY + 973) * 86_400_000
    return {
        symbol: simulated_minutes(Hours(symbol, 1, 1.0), until_ms, DAYS * 1_440) for symbol in ("BTCUSDT", "ETHUSDT")}


@pytest.fixture(scope="module")
def streamed() -> Hour:
    """One streamed hour at four trades a second."""
    return Hours("BTCUSDT", 1, 4.0).hour(REFERENCE_DAY * 24 + 14)


def returns(klines: Minutes) -> Floats:
    return np.diff(np.log(klines.close))


def autocorrelation(x: Floats, lag: int) -> float:
    x = x - x.mean()
    return float((x[lag:] * x[:-lag]).mean() / (x * x).mean())


def robust_t(x: Floats, lag: int) -> float:
    """Autocovariance over its standard error under changing volatility (White 1980): normal where there is none."""
    product = (x - x.mean())[lag:] * (x - x.mean())[:-lag]
    return float(product.sum() / np.sqrt((product**2).sum()))


@pytest.mark.parametrize("symbol", ["BTCUSDT", "ETHUSDT"])
def test_minute_returns_have_fat_tails(minutes: dict[str, Minutes], symbol: str) -> None:
    r = returns(minutes[symbol])
    excess = float((((r - r.mean()) / r.std()) ** 4).mean() - 3)
    # Of Gaussian returns the excess kurtosis would have a standard error of sqrt(24 / n) = 0.05: 1 is 20 of them.
    assert excess > 1.0
    beyond = float((np.abs(r) > 4 * r.std()).mean())
    assert beyond > 10 * 6.3e-5  # ten times the Gaussian share


@pytest.mark.parametrize("symbol", ["BTCUSDT", "ETHUSDT"])
def test_volatility_comes_in_clusters_that_fade(minutes: dict[str, Minutes], symbol: str) -> None:
    size = np.abs(returns(minutes[symbol]))
    found = np.array([autocorrelation(size, int(lag)) for lag in range(1, 61)])
    # Of independent sizes each would be within 4 / sqrt(n) = 0.04 but for one in 16,000.
    assert (found[:30] > 4 / np.sqrt(len(size))).all()
    assert found[:10].mean() > found[20:30].mean() > found[50:60].mean()


@pytest.mark.parametrize("symbol", ["BTCUSDT", "ETHUSDT"])
def test_returns_do_not_predict_returns(minutes: dict[str, Minutes], symbol: str) -> None:
    r = returns(minutes[symbol])
    t = np.array([robust_t(r, int(lag)) for lag in LAGS])
    # Twenty standard normals: one beyond 3.5 has a chance of 1 %, a sum of squares beyond 45.3 of 0.1 % (χ², 20).
    assert np.abs(t).max() < 3.5
    assert (t**2).sum() < 45.3


def test_streamed_seconds_do_not_predict_seconds(streamed: Hour) -> None:
    """The fair price between two quotes, so that the bounce between bid and ask is not in it."""
    middle = np.log((streamed.bid + streamed.ask) / 2)[::5]
    t = np.array([robust_t(np.diff(middle), int(lag)) for lag in LAGS])
    assert np.abs(t).max() < 3.5
    assert (t**2).sum() < 45.3


def test_order_flow_does_not_predict_the_price(streamed: Hour) -> None:
    """Signed volume of a second against the next second's return: the book and the tape know nothing of the future."""
    second = streamed.time_ms // 1_000
    signed = np.where(streamed.buyer_is_maker, -streamed.steps, streamed.steps).astype(float)
    flow = np.bincount(second, signed, 3_600)[:-1]
    middle = np.log((streamed.bid + streamed.ask) / 2)[::5]
    ahead = np.append(np.diff(middle), 0.0)[1:]
    product = (flow - flow.mean()) * (ahead - ahead.mean())
    assert abs(product.sum() / np.sqrt((product**2).sum())) < 3.5


def test_trades_come_in_bursts(streamed: Hour) -> None:
    orders = streamed.time_ms[streamed.depth == 0]
    gaps = np.diff(orders)
    # Of a Poisson process gaps have a coefficient of variation of 1, with standard error 1 / sqrt(n) = 0.01, and
    # counts a dispersion of 1, with sqrt(2 / seconds) = 0.02.
    assert gaps.std() / gaps.mean() > 1.1
    counts = np.bincount(orders // 1_000, minlength=3_600)
    assert counts.var() / counts.mean() > 1.5


def test_symbols_move_together_but_are_not_one(minutes: dict[str, Minutes]) -> None:
    found = np.corrcoef(returns(minutes["BTCUSDT"]), returns(minutes["ETHUSDT"]))[0, 1]
    # The noise has a correlation of ½; times and sizes of each one's volatility and jumps are partly its own.
    assert 0.2 < found < 0.7


def test_spreads_are_positive_and_quotes_near_the_price(streamed: Hour) -> None:
    spread_bps = 1e4 * (streamed.ask - streamed.bid) / streamed.bid
    assert (spread_bps > 0).all()
    assert np.median(spread_bps) < 0.1
