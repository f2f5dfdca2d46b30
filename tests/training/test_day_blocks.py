"""What a draw is said to score is what the very rows of its days, put together, do score."""

from __future__ import annotations

import numpy as np
import pytest

from training import metrics
from training.calibration import platt_fit
from training.day_blocks import (
    DayBlocks,
    auc_draws,
    ece_draws,
    paired,
    r2_log_draws,
    reliability,
    slope_draws,
)

RNG = np.random.default_rng(4)
DAYS = np.repeat(np.arange(20), RNG.integers(150, 400, 20))
N = len(DAYS)
LOGIT = RNG.standard_normal(N) + 0.5 * RNG.standard_normal(20)[DAYS] - 1
P = 1 / (1 + np.exp(-LOGIT))
OUTCOME = (RNG.random(N) < 1 / (1 + np.exp(-0.8 * LOGIT))).astype(float)
Y = np.exp(RNG.standard_normal(N) + 0.3 * RNG.standard_normal(20)[DAYS])
F = Y * np.exp(0.4 * RNG.standard_normal(N))
BLOCKS = DayBlocks.of(DAYS)
DRAWS = range(0, 1000, 100)


def rows_of(draw: int) -> np.ndarray:
    """The rows of a draw, each day as often as it was drawn."""
    return np.concatenate([np.flatnonzero(day == DAYS) for day in range(20)
                           for _ in range(int(BLOCKS.times_RD[draw, day]))])


def test_as_many_days_are_drawn_as_there_are() -> None:
    assert (BLOCKS.times_RD.sum(axis=1) == 20).all()
    assert BLOCKS.times_RD.mean() == pytest.approx(1, abs=1e-9)


@pytest.mark.parametrize("draw", DRAWS)
def test_each_draw_scores_what_its_rows_do(draw: int) -> None:
    at = rows_of(draw)
    assert (BLOCKS.sums(Y) / BLOCKS.sums(np.ones(N)))[draw] == pytest.approx(Y[at].mean(), rel=1e-12)
    assert r2_log_draws(BLOCKS, Y, F)[draw] == pytest.approx(metrics.r2_log(Y[at], F[at]), rel=1e-9)
    assert auc_draws(BLOCKS, OUTCOME, P)[draw] == pytest.approx(metrics.auc(OUTCOME[at], P[at]), abs=1e-3)
    place = metrics.equal_bins(P, 10)[at]
    gaps = [abs((P[at] - OUTCOME[at])[place == i].sum()) for i in range(10)]
    assert drawn_ece()[draw] == pytest.approx(sum(gaps) / len(at), rel=1e-9)


def drawn_ece() -> np.ndarray:
    """Before what resampling adds is taken out."""
    bins = metrics.equal_bins(P, 10)
    return np.abs(BLOCKS.bin_sums(P - OUTCOME, bins, 10)).sum(axis=1) / BLOCKS.sums(np.ones(N))


def test_one_newton_step_is_as_good_as_a_fit_of_the_draw() -> None:
    fitted = platt_fit(LOGIT, OUTCOME)
    steps = slope_draws(BLOCKS, OUTCOME, LOGIT, fitted)
    whole = [platt_fit(LOGIT[at], OUTCOME[at])[0] for at in map(rows_of, DRAWS)]
    spread = steps.std()
    assert np.abs(steps[list(DRAWS)] - whole).max() < 0.1 * spread
    assert fitted[0] == pytest.approx(0.8, abs=4 * spread)


def test_odds_without_end_overflow_nothing() -> None:
    far = np.where(OUTCOME > 0, 13.8, -13.8)
    steps = slope_draws(BLOCKS, OUTCOME, far, (500.0, 0.0))
    assert np.isfinite(steps).all()
    same = slope_draws(BLOCKS, OUTCOME, np.full(N, -1.0), (1.0, 0.0))
    assert np.isnan(same).all(), "one chance for all has no slope"


def test_the_interval_of_a_calibration_error_is_around_it() -> None:
    error = metrics.calibration_error(OUTCOME, P)
    ends = BLOCKS.ends(ece_draws(BLOCKS, OUTCOME, P))
    assert ends is not None
    assert 0 <= ends["low"] < error < ends["high"]
    assert drawn_ece().mean() > error, "resampling pushes a mean of absolute gaps up"


def test_reliability_points_are_bins_with_their_own_intervals() -> None:
    points = reliability(BLOCKS, OUTCOME, P)
    assert sum(point["count"] for point in points) == N
    assert [point["forecast"] for point in points] == sorted(point["forecast"] for point in points)
    assert all(point["interval"]["frequency"]["days"] > 10 for point in points)
    few = reliability(BLOCKS, OUTCOME, np.round(P))
    assert len(few) == 2, "two chances are two bins"


def test_a_ratio_is_of_the_days_that_have_something_below() -> None:
    fired = (DAYS == 3).astype(float)
    assert BLOCKS.ratio(fired * OUTCOME, fired) is None, "one day"
    fired = np.isin(DAYS, (3, 7)).astype(float)
    found = BLOCKS.ratio(fired * OUTCOME, fired)
    assert found is not None
    assert (found["days"], found["low"] <= OUTCOME[fired > 0].mean() <= found["high"]) == (2, True)


def test_one_day_has_no_interval() -> None:
    one = DayBlocks.of(np.zeros(50, dtype=np.int64))
    assert one.mean(Y[:50]) is None
    assert paired(one, Y[:50], F[:50])["low"] is None
