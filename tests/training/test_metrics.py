"""Metrics agree with their definitions and with an independent implementation."""

import numpy as np
import pytest
from sklearn.metrics import brier_score_loss, log_loss, roc_auc_score

from training import metrics

RNG = np.random.default_rng(5)
OUTCOME = (RNG.random(500) < 0.3).astype(float)
CHANCE = np.clip(0.3 * OUTCOME + 0.5 * RNG.random(500), 0.01, 0.99).round(2)


def test_qlike_is_nought_for_a_perfect_forecast_and_punishes_low_forecasts_more() -> None:
    y = np.array([1e-4, 5e-4, 2e-3])
    assert metrics.qlike(y, y) == 0
    assert metrics.qlike(y, y / 2) > metrics.qlike(y, y * 2) > 0


def test_r2_on_logs_does_not_see_a_factor_but_the_bias_does() -> None:
    y = np.exp(RNG.standard_normal(200))
    assert metrics.r2_log(y, 3 * y) == pytest.approx(1.0)
    assert metrics.log_bias(y, 3 * y) == pytest.approx(np.log(3))


def test_chance_scores_equal_an_independent_implementation() -> None:
    assert metrics.auc(OUTCOME, CHANCE) == pytest.approx(roc_auc_score(OUTCOME, CHANCE), abs=1e-12)
    assert metrics.log_loss_rows(OUTCOME, CHANCE).mean() == pytest.approx(log_loss(OUTCOME, CHANCE), abs=1e-12)
    assert metrics.brier_rows(OUTCOME, CHANCE).mean() == pytest.approx(brier_score_loss(OUTCOME, CHANCE), abs=1e-12)


def test_auc_of_one_class_is_unknown_not_a_half() -> None:
    assert np.isnan(metrics.auc(np.ones(4), np.array([0.1, 0.2, 0.3, 0.4])))


def test_calibration_error_is_small_for_honest_chances_and_large_for_bold_ones() -> None:
    p = RNG.random(20_000)
    y = (RNG.random(20_000) < p).astype(float)
    assert metrics.calibration_error(y, p) < 0.01
    assert metrics.calibration_error(y, np.where(p > 0.5, 0.99, 0.01)) > 0.2


def test_equal_chances_share_a_bin_whatever_the_order_of_the_rows() -> None:
    p = np.repeat([0.1, 0.2, 0.6], [700, 50, 250])
    y = (np.arange(1000) % 4 == 0).astype(float)
    y[:350] = 1.0  # the first half of the equal chances comes, the second does not: a cut among them would show it
    expected = np.abs([(p[p == v] - y[p == v]).sum() for v in (0.1, 0.2, 0.6)]).sum() / 1000
    for seed in range(5):
        mixed = np.random.default_rng(seed).permutation(1000)
        assert metrics.calibration_error(y[mixed], p[mixed]) == pytest.approx(expected, abs=1e-12)
        assert np.array_equal(metrics.equal_bins(p[mixed], 10), metrics.equal_bins(p, 10)[mixed])


@pytest.mark.parametrize("rows", [7, 10, 1003])
def test_bins_of_chances_that_all_differ_are_equally_filled(rows: int) -> None:
    p = RNG.permutation(rows).astype(float)
    place = metrics.equal_bins(p, 10)
    for i, part in enumerate(part for part in np.array_split(np.argsort(p), 10) if len(part)):
        assert np.array_equal(np.sort(part), np.flatnonzero(place == i))


def test_day_blocks_widen_the_interval_when_days_hang_together() -> None:
    day = np.repeat(np.arange(30), 100)
    shared = RNG.standard_normal(30)[day]
    blocks = metrics.day_block_interval(shared, day)
    apart = metrics.day_block_interval(shared, np.arange(3000))
    assert blocks.days == 30
    assert blocks.high - blocks.low > 4 * (apart.high - apart.low)
    assert blocks.low < blocks.value < blocks.high


def test_paired_difference_of_equal_forecasts_is_exactly_nought() -> None:
    loss = RNG.random(100)
    found = metrics.paired_difference(loss, loss, np.arange(100) // 10)
    assert (found.value, found.low, found.high) == (0.0, 0.0, 0.0)


@pytest.mark.parametrize(
    ("rows", "stride", "horizon", "expected"), [(1000, 1, 15, 66), (1000, 15, 15, 1000), (60, 1, 1, 60)],
)
def test_overlapping_horizons_count_once(rows: int, stride: int, horizon: int, expected: int) -> None:
    assert metrics.n_eff(rows, stride, horizon) == expected
