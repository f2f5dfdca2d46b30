"""Scores of decisions whose truth is known: planted skill is found, none is found where there is none."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from feature_repo.contracts import DAY_NS, MINUTE_NS
from training import metrics
from training.scored import RETURN_HORIZONS, Scored
from training.scores import _auc_draws, differences, scores

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
    assert "qlike_over_har" not in found["volatility"]["5"]


def test_differences_are_paired_and_a_model_does_not_differ_from_itself() -> None:
    scored = made()
    same = differences(scored, scored)
    assert {figure["value"] for name, figure in same.items() if "ratio" not in name} == {0.0}
    assert same["qlike_ratio_15"]["high"] == 1
    noise = np.random.default_rng(2).standard_normal((len(scored), 3))
    worse = replace(scored, rv_hat_NK=scored.rv_hat_NK * np.exp(0.2 * noise), p_up_N=1 - scored.p_up_N)
    found = differences(scored, worse)
    assert found["qlike_60"]["high"] < 0
    assert found["auc_up"]["low"] > 0.1
    with pytest.raises(ValueError, match="expected the same decisions, found 17280 of made, 17279"):
        differences(scored, scored.only(np.arange(1, len(scored))))


def test_the_binned_auc_of_a_draw_is_the_auc() -> None:
    scored = made()
    y, p = scored.risky_N, scored.risk_score_N
    one_block = np.zeros(len(p), dtype=np.int64)
    assert _auc_draws(y, p, one_block, draws=2)[0] == pytest.approx(metrics.auc(y, p), abs=1e-3)
