"""Scores of decisions whose truth is known: planted skill is found, none is found where there is none."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest

from feature_repo.contracts import DAY_NS, MINUTE_NS
from training.scored import RETURN_HORIZONS, Scored
from training.scores import differences, reliability_fit, scores

DAYS, START = 12, 19_800 * DAY_NS


def made(seed: int = 0, skill: float = 1.0) -> Scored:
    """A market whose volatility is known to the model up to noise, and whose direction obeys its chances."""
    rng = np.random.default_rng(seed)
    n = DAYS * 1440
    close_ns = START + MINUTE_NS * np.arange(1, n + 1)
    ln_truth = np.log(5e-4) + 0.5 * rng.standard_normal(n)
    truth = np.exp(ln_truth)
    p_up = 1 / (1 + np.exp(-0.3 * skill * rng.standard_normal(n)))
    up = rng.random(n) < p_up
    returns = {h: np.where(up, 1, -1) * np.abs(truth * np.sqrt(h) * rng.standard_normal(n)) for h in RETURN_HORIZONS}
    rv = np.column_stack([truth * np.exp(0.3 * rng.standard_normal(n)) for _ in range(3)])
    f = np.column_stack([truth] * 3) * np.sqrt(np.exp(2 * 0.09))
    chance = rng.random((n, 3)) * 0.5
    flat = np.full(n, 0.01)
    har = f * np.exp(0.4 * rng.standard_normal((n, 3)))
    bound = 1.2816 * np.column_stack([truth] * 3) * np.sqrt([5, 15, 60])
    low, high = (f[:, 1] * np.exp(side * 1.2816 * 0.3 - 0.09) for side in (-1, 1))
    return Scored(
        "made", np.full(n, "BTCUSDT"), close_ns, close_ns + 10**9, np.full(n, 100.0), np.full(n, 100.0), returns,
        returns, p_up, flat, {1: flat}, rv, f, har, low, high, np.full(n, 5e-4), bound,
        (rng.random((n, 3)) < chance).astype(float), chance, (rng.random(n) < chance[:, 0]).astype(float), chance[:, 0],
        np.zeros(n, dtype=bool),
    )


def test_calibrated_forecasts_score_as_calibrated_and_every_figure_has_its_interval() -> None:
    found = scores(made())
    assert found["direction"]["ece"] < 0.01
    assert found["direction"]["auc"] == pytest.approx(0.58, abs=0.02)
    assert found["direction"]["interval"]["auc"]["low"] > 0.55
    assert found["spike"]["60"]["reliability_slope"] == pytest.approx(1, abs=0.1)
    assert found["spike"]["5"]["brier_skill"] > 0
    assert found["volatility"]["15"]["interval"]["qlike"]["low"] < found["volatility"]["15"]["qlike"]
    assert found["volatility"]["15"]["mean_squared_ratio"] == pytest.approx(1, abs=0.02)
    assert found["volatility"]["15"]["interval"]["qlike_over_har"]["high"] < 1, "HAR here is the truth with noise"
    for h in ("5", "15", "60"):
        assert found["intervals"][h]["coverage"] == pytest.approx(0.8, abs=0.01)
        assert found["intervals"][h]["interval_score_bps"] < found["intervals"][h]["interval_score_rv60_bps"]
        assert all(0.77 < share < 0.83 for share in found["intervals"][h]["coverage_by_volatility"])
    assert found["intervals"]["band_15"]["coverage"] == pytest.approx(0.8, abs=0.01)
    assert found["volatility"]["60"]["evidence"] == "too few", f"n_eff {DAYS * 1440 // 60}"


def test_shuffled_outcomes_score_as_chance() -> None:
    scored = made()
    mixed = np.random.default_rng(1).permutation(len(scored))
    shuffled = replace(scored, returns={h: r[mixed] for h, r in scored.returns.items()}, risky_N=scored.risky_N[mixed])
    found = scores(shuffled)
    for part in (found["direction"], found["risk"]):
        assert part["interval"]["auc"]["low"] < 0.5 < part["interval"]["auc"]["high"]
        assert part["brier_skill"] < 0


def test_what_a_model_does_not_forecast_is_null_and_the_rest_is_scored() -> None:
    unknown = np.full(DAYS * 1440, np.nan)
    found = scores(replace(made(), p_up_N=unknown, rv_har_NK=np.full((DAYS * 1440, 3), np.nan)))
    assert found["direction"]["auc"] is None
    assert found["risk"]["auc"] is not None
    assert found["volatility"]["5"]["qlike_over_har"] is found["volatility"]["5"]["interval"]["qlike_over_har"] is None
    assert found["direction"]["reason"] == "the model does not forecast it"
    silent = scores(replace(made(), return_bound_NK=np.full((DAYS * 1440, 3), np.nan), rv_low_N=unknown))
    assert silent["intervals"]["5"]["coverage_by_volatility"] is silent["intervals"]["band_15"]["coverage"] is None


def test_differences_are_paired_and_a_model_does_not_differ_from_itself() -> None:
    scored = made()
    same = differences(scored, scored)
    assert {figure["value"] for name, figure in same.items() if figure and "ratio" not in name} == {0.0}
    assert same["auc_flat"] is None, "every minute of this market moves"
    assert same["qlike_ratio_15"]["high"] == 1
    noise = np.random.default_rng(2).standard_normal((len(scored), 3))
    worse = replace(scored, rv_hat_NK=scored.rv_hat_NK * np.exp(0.2 * noise), p_up_N=1 - scored.p_up_N)
    found = differences(scored, worse)
    assert found["qlike_60"]["high"] < 0
    assert found["auc_up"]["low"] > 0.1
    with pytest.raises(ValueError, match="expected the same decisions, found 17280 of made, 17279"):
        differences(scored, scored.only(np.arange(1, len(scored))))


ENDED = {
    "direction": ("accuracy", "brier", "log_loss", "base_rate", "ece", "auc", "brier_skill", "reliability_slope"),
    "volatility": ("qlike", "r2_log", "log_bias", "mean_squared_ratio", "qlike_over_har"),
    "intervals": ("coverage", "interval_score_bps", "interval_score_rv60_bps"),
}


def test_every_score_lies_within_its_interval() -> None:
    found = scores(made())
    blocks = [(found[name], ENDED["direction"]) for name in ("direction", "risk")]
    blocks += [(each, ENDED["direction"]) for each in found["spike"].values()]
    blocks += [(each, ENDED["volatility"]) for each in found["volatility"].values()]
    blocks += [(found["intervals"][h], ENDED["intervals"]) for h in ("5", "15", "60")]
    blocks += [(found["intervals"]["band_15"], ("coverage", "below", "above"))]
    seen = 0
    for block, names in blocks:
        for name in names:
            if block[name] is None:
                continue
            ends = block["interval"][name]
            assert ends["low"] < block[name] < ends["high"], (name, block[name], ends)
            assert ends["days"] == DAYS, "a minute that closes at midnight ends its day"
            seen += 1
    assert seen > 50
    for h in ("5", "15", "60"):
        block = found["intervals"][h]
        fifths = zip(block["coverage_by_volatility"], block["interval"]["coverage_by_volatility"], strict=True)
        for share, ends in fifths:
            assert ends["low"] < share < ends["high"]
    for point in found["risk"]["reliability"]:
        ends = point["interval"]["frequency"]
        assert ends["low"] <= point["frequency"] <= ends["high"]


def test_an_alert_that_fires_has_intervals_and_one_that_does_not_has_none() -> None:
    bold = replace(made(), risk_score_N=np.where(np.arange(DAYS * 1440) % 5 == 0, 0.8, 0.1))
    found = scores(bold)["risk"]
    assert found["share_fired"] == pytest.approx(0.2)
    for name in ("precision", "recall", "share_fired"):
        assert found["interval"][name]["low"] <= found[name] <= found["interval"][name]["high"]
    shy = scores(made())["risk"]
    assert (shy["precision"], shy["interval"]["precision"], shy["recall"]) == (None, None, 0.0)


def test_less_than_two_days_have_figures_and_no_intervals() -> None:
    day = made().only(np.arange(1000))
    found = scores(day)
    assert found["direction"]["auc"] is not None
    assert set(found["direction"]["interval"].values()) == {None}
    assert set(found["volatility"]["15"]["interval"].values()) == {None}
    assert found["intervals"]["5"]["interval"]["coverage_by_volatility"] == [None] * 5
    same = differences(day, day)
    assert (same["qlike_15"]["value"], same["qlike_15"]["low"], same["auc_up"]["high"]) == (0.0, None, None)


def test_what_did_not_move_is_left_out_of_the_volatility_score_of_that_horizon_alone() -> None:
    scored, still = made(), np.zeros(DAYS * 1440, dtype=bool)
    still[::7] = True
    rv = scored.rv_NK.copy()
    rv[still, 0] = np.nan
    returns = {h: np.where(still, 0.0, r) if h <= 5 else r for h, r in scored.returns.items()}
    found = scores(replace(scored, rv_NK=rv, returns=returns))
    n = DAYS * 1440
    assert (found["volatility"]["5"]["n"], found["volatility"]["5"]["left_out"]) == (n - still.sum(), still.sum())
    assert [found["volatility"][h]["n"] for h in ("15", "60")] == [n, n]
    assert [found["spike"]["5"]["n"], found["risk"]["n"], found["flat"]["n"], found["intervals"]["5"]["n"]] == [n] * 4
    assert found["flat"]["base_rate"] == pytest.approx(still.mean())
    assert found["direction"]["n"] == n - still.sum(), "direction is that of a move"


def test_a_market_of_one_volatility_and_one_class_has_no_score_that_needs_two() -> None:
    scored = made()
    level = np.full_like(scored.rv_NK, 5e-4)
    found = scores(replace(scored, rv_NK=level, risky_N=np.zeros(len(scored))))
    assert (found["volatility"]["15"]["r2_log"], found["volatility"]["15"]["interval"]["r2_log"]) == (None, None)
    for name in ("auc", "brier_skill", "reliability_slope"):
        assert (found["risk"][name], found["risk"]["interval"][name]) == (None, None)
    json.dumps(found, allow_nan=False)


def test_a_slope_is_null_where_the_forecast_parts_the_outcomes_and_no_line_fits() -> None:
    logit = np.array([-13.8] * 2000 + [-13.0] * 9 + [2.0])
    outcome = (logit > -13.5).astype(np.float64)
    assert reliability_fit(logit, outcome) is None
    assert reliability_fit(np.full(10, -1.0), np.array([0.0, 1.0] * 5)) is None, "a constant has no slope"
    mixed = np.tile([0.0, 1.0, 1.0], 700)[:2010]
    found = reliability_fit(np.tile([-1.0, -1.0, 1.0], 700)[:2010], mixed)
    assert found is None, "every one above came: the line is a step"
    rng = np.random.default_rng(0)
    honest = rng.normal(-1, 1, 20_000)
    came = (rng.random(20_000) < 1 / (1 + np.exp(-honest))).astype(np.float64)
    slope, intercept = reliability_fit(honest, came) or (np.nan, np.nan)
    assert slope == pytest.approx(1, abs=0.06)
    assert intercept == pytest.approx(0, abs=0.06)
