"""Targets look only forward, features and context only back, and a hole makes a null instead of a bridge."""

import math

import numpy as np
import pytest

from feature_repo.context import hourly_percentiles, trailing_percentile
from feature_repo.contracts import DAY_NS, HOUR_NS, MINUTE_NS
from training.targets import HORIZONS, targets

RNG = np.random.default_rng(2)
CLOSES = 100 * np.exp(np.cumsum(1e-3 * RNG.standard_normal(400)))
OPENS = np.concatenate([[100.0], CLOSES[:-1]])
CONTEXT = np.full(400, 1e-3)


def naive_rv(closes: np.ndarray, i: int, h: int) -> float:
    return math.sqrt(sum(math.log(closes[j + 1] / closes[j]) ** 2 for j in range(i, i + h)) / h)


@pytest.mark.parametrize("h", HORIZONS)
def test_realised_volatility_is_that_of_the_minutes_after_the_decision(h: int) -> None:
    found = targets(CLOSES, OPENS, CONTEXT)[f"rv_{h}"]
    for i in (0, 57, 400 - h - 1):
        assert found[i] == pytest.approx(naive_rv(CLOSES, i, h), rel=1e-12)
    assert np.isnan(found[400 - h :]).all()


def test_changing_the_past_changes_no_target_but_the_spike_base() -> None:
    other = CLOSES.copy()
    other[:200] *= 1.5
    before, after = targets(CLOSES, OPENS, CONTEXT), targets(other, OPENS, CONTEXT)
    for name in set(before) - {"spike"}:
        assert np.array_equal(before[name][200:], after[name][200:], equal_nan=True), name


def test_a_missing_minute_makes_every_label_that_spans_it_null() -> None:
    holed = CLOSES.copy()
    holed[100] = np.nan
    found = targets(holed, OPENS, CONTEXT)
    assert np.isnan(found["rv_15"][85:101]).all()
    assert np.isfinite(found["rv_15"][[84, 101]]).all()
    assert np.isnan(found["up"][[99, 100]]).all()


def test_a_flat_minute_has_no_direction_and_counts_as_flat() -> None:
    closes = np.array([100.0, 100.0, 101.0, 100.0])
    found = targets(closes, closes, np.full(4, np.nan))
    assert found["flat"][:3].tolist() == [1.0, 0.0, 0.0]
    assert np.isnan(found["up"][0])
    assert found["up"][1:3].tolist() == [1.0, 0.0]
    assert np.isnan(found["risk"]).all(), "risk without its percentile is unknown"


def test_a_market_that_stands_still_has_no_volatility_and_is_known_to_be_neither_spike_nor_risk() -> None:
    still = CLOSES.copy()
    still[200:230] = still[200]
    found = targets(still, OPENS, CONTEXT)
    assert np.isnan(found["rv_5"][[200, 224]]).all()
    assert np.isfinite(found["rv_5"][[199 - 4, 225]]).all()
    assert np.isnan(found["rv_15"][200])
    for name in ("spike_5", "spike", "risk"):
        assert found[name][200] == 0.0, name
    assert found["flat"][200] == 1.0
    assert np.isfinite(found["rv_60"][200]), "the hour moved"
    dead = np.full(400, 100.0)
    dead[300:] = CLOSES[300:]
    assert np.isnan(targets(dead, OPENS, CONTEXT)["spike"][299]), "nothing is twice an hour that stood still"


def test_risk_compares_the_next_quarter_hour_with_the_percentile_known_then() -> None:
    found = targets(CLOSES, OPENS, CONTEXT)
    known = np.isfinite(found["risk"])
    assert np.array_equal(found["risk"][known] == 1.0, found["rv_15"][known] > 1e-3)


def test_money_is_counted_from_the_next_open() -> None:
    found = targets(CLOSES, OPENS + 0.5, CONTEXT)
    assert found["had_15"][10] == pytest.approx(math.log(CLOSES[25] / (OPENS[11] + 0.5)), rel=1e-12)


def test_the_percentile_sees_nothing_after_its_time_and_needs_seven_days() -> None:
    times = np.arange(1, 9 * 1440 + 1, dtype=np.int64) * MINUTE_NS
    closes = 100 * np.exp(np.cumsum(1e-3 * np.random.default_rng(0).standard_normal(len(times))))
    at = 8 * DAY_NS
    wild = np.where(times > at, closes * (1 + 0.1 * (np.arange(len(times)) % 2)), closes)
    assert trailing_percentile(times, closes, at) == trailing_percentile(times, wild, at)
    assert trailing_percentile(times, closes, 6 * DAY_NS) is None


def test_the_hourly_view_equals_one_hour_at_a_time() -> None:
    times = np.arange(1, 8 * 1440 + 1, dtype=np.int64) * MINUTE_NS
    closes = 100 * np.exp(np.cumsum(1e-3 * np.random.default_rng(1).standard_normal(len(times))))
    hours, values = hourly_percentiles(times, closes)
    assert hours[0] == HOUR_NS
    for i in (0, 169, len(hours) - 1):
        one = trailing_percentile(times, closes, int(hours[i]))
        assert (one is None and np.isnan(values[i])) or one == values[i]
