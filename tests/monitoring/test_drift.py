"""Drift: the index is zero on the reference itself, grows with the shift, and a model without reference is refused."""

from __future__ import annotations

import numpy as np
import pytest

from feature_repo.contracts import ModelRefused
from monitoring.drift import MINIMUM_ROWS, MONITORED, Histogram, drift, ks, psi, references

NORMAL = np.random.default_rng(3).normal(size=50_000)
EDGES = tuple(np.quantile(NORMAL, np.linspace(0.05, 0.95, 19)).tolist())
TRAINED = Histogram(EDGES, tuple(np.full(20, 0.05).tolist()))


def test_the_same_distribution_scores_near_zero_and_a_shift_scores_more_the_farther_it_is() -> None:
    again = np.random.default_rng(4).normal(size=5_000)
    scores = [psi(TRAINED, again + shift) for shift in (0.0, 0.25, 0.5, 1.0)]
    assert scores[0] < 0.02
    assert scores == sorted(scores)
    assert scores[3] > 0.5


def test_psi_equals_the_sum_by_hand() -> None:
    halves = Histogram((0.0,), (0.5, 0.5))
    values = np.array([-1.0] * 80 + [1.0] * 20)
    expected = (0.8 - 0.5) * np.log(0.8 / 0.5) + (0.2 - 0.5) * np.log(0.2 / 0.5)
    assert psi(halves, values) == pytest.approx(expected)
    assert ks(halves, values) == pytest.approx(0.3)


def test_values_beyond_the_reference_are_counted_in_the_open_bins() -> None:
    assert TRAINED.shares(np.array([-1e9, 1e9]))[[0, -1]].tolist() == [0.5, 0.5]


def test_a_value_on_an_edge_belongs_to_the_bin_above() -> None:
    assert Histogram((0.0, 1.0), (0.2, 0.6, 0.2)).shares(np.array([0.0, 1.0])).tolist() == [0.0, 0.5, 0.5]


def test_a_sample_of_the_reference_has_the_reference_s_shares() -> None:
    assert psi(TRAINED, TRAINED.sample(2000)) < 1e-3


def test_unknown_values_are_left_out_and_too_few_give_no_score() -> None:
    column = np.where(np.arange(300) % 2 == 0, NORMAL[:300], np.nan)
    found = drift({"return_1m": TRAINED}, {"return_1m": column, "other": NORMAL[:300]})
    assert list(found) == ["return_1m"]
    assert found["return_1m"]["rows"] == 150
    assert drift({"return_1m": TRAINED}, {"return_1m": NORMAL[: MINIMUM_ROWS - 1]}) == {}


def test_a_model_without_histograms_is_refused_by_name() -> None:
    with pytest.raises(ModelRefused, match="return_1m"):
        references({"reference_histograms": {}})


def test_calendar_features_are_not_monitored() -> None:
    assert "time_of_day_sin_1d" not in MONITORED
    assert {"return_1m", "realized_vol_60m", "volume_zscore_60m"} <= set(MONITORED)
