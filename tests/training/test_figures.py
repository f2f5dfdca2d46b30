"""What the pictures show is what a plain count over the rows gives."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from feature_repo.contracts import HOUR_NS
from tests.training.scored_rows import forecast_scored
from training import figures, metrics

SCORED = forecast_scored(days=4, seed=1)


def test_each_day_s_qlike_is_the_mean_of_its_rows() -> None:
    days, model, har = figures.qlike_by_day(SCORED, 15)
    for i, day in enumerate(days):
        own = SCORED.only(SCORED.days == day)
        assert model[i] == pytest.approx(metrics.qlike(own.rv_NK[:, 1], own.rv_hat_NK[:, 1]))
        assert har[i] == pytest.approx(metrics.qlike(own.rv_NK[:, 1], own.rv_har_NK[:, 1]))


def test_rows_without_an_outcome_are_left_out() -> None:
    holed = SCORED.rv_NK.copy()
    holed[::3] = np.nan
    _, model, _ = figures.qlike_by_day(replace(SCORED, rv_NK=holed), 60)
    assert np.isfinite(model).all()


def test_reliability_is_said_against_came_in_equal_parts() -> None:
    risk = figures.heads(SCORED)[-1]
    found = figures.reliability(risk, SCORED.days)
    order = np.argsort(SCORED.risk_score_N, kind="stable")
    for i, part in enumerate(np.array_split(order, 10)):
        assert found.x[i] == pytest.approx(SCORED.risk_score_N[part].mean())
        assert found.value[i] == pytest.approx(SCORED.risky_N[part].mean())
    assert (found.low <= found.value).all()
    assert (found.value <= found.high).all()
    assert (np.diff(found.x) >= 0).all()


def test_a_head_that_says_nothing_is_no_head() -> None:
    silent = replace(SCORED, p_up_N=np.full(len(SCORED), np.nan))
    assert "Up, if it moves" not in [head.name for head in figures.heads(silent)]
    assert len(figures.heads(silent)) == len(figures.heads(SCORED)) - 1


def test_coverage_is_counted_from_the_calmest_fifth_to_the_wildest() -> None:
    only_calm = np.where(SCORED.rv_hat_NK <= np.quantile(SCORED.rv_hat_NK, 0.2, axis=0), 1.0, 0.0)
    found = figures.coverage_by_quintile(replace(SCORED, return_bound_NK=only_calm), 15)
    assert found.value == pytest.approx([1.0, 0, 0, 0, 0], abs=0.02)
    assert found.rows.sum() == np.count_nonzero(np.isfinite(SCORED.returns[15]))


def test_the_band_s_coverage_is_that_of_its_rows() -> None:
    found = figures.band_by_quintile(SCORED)
    inside = (SCORED.rv_NK[:, 1] >= SCORED.rv_low_N) & (SCORED.rv_NK[:, 1] <= SCORED.rv_high_N)
    assert np.average(found.value, weights=found.rows) == pytest.approx(inside.mean())


def test_the_worst_day_comes_first_and_tells_its_wildest_minute() -> None:
    wrong = SCORED.rv_hat_NK.copy()
    bad = SCORED.days[0] + 1
    wrong[SCORED.days == bad] /= 5
    found = figures.worst_days(replace(SCORED, rv_hat_NK=wrong), count=2)
    assert found[0].day == bad
    assert found[0].qlike > found[1].qlike
    moved = np.abs(SCORED.returns[1][SCORED.days == bad])
    assert found[0].worst_minute == pytest.approx(np.nanmax(moved))


def test_risk_by_hour_is_the_mean_of_its_minutes() -> None:
    hours, score, came = figures.risk_by_hour(SCORED)
    first = SCORED.close_ns_N // HOUR_NS * HOUR_NS == hours[0]
    assert score[0] == pytest.approx(SCORED.risk_score_N[first].mean())
    assert came[0] == pytest.approx(SCORED.risky_N[first].mean())
