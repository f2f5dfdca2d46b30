"""Evaluation: the exported graph against every baseline on the same untouched rows, with intervals.

    report = evaluate(table, answers, baselines)

Scores are on the test part only, whole minutes only. Every comparison is a paired difference of per-row losses with a
day-block bootstrap interval. Overlapping horizons carry n_eff = n / h; below 1,000 it says "too few".
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from feature_repo.features import FORECAST_BAR
from feature_repo.grid import Floats, Ints
from training import metrics
from training.baselines import (
    BoostedVolatility,
    Ewma,
    Har,
    Reversal,
    boosted_chance,
    ln_lags,
    logistic_chance,
    scale_free,
)
from training.calibration import platt_fit, recency
from training.costs import CostModel
from training.dataset import TrainingSet
from training.targets import HORIZONS, SPIKE_FACTOR

MINIMUM_N_EFF = 1000
CHANCES = {"up": "p_up", "flat": "p_flat", "spike": "spike_prob", "risk": "risk_score"}
Forecast = Callable[[Ints], Floats]
Answers = dict[str, NDArray[np.float64]]


@dataclass(frozen=True)
class Baselines:
    """Every baseline's forecast on the scored rows: volatilities (N, 3) and chances (N,)."""

    volatility: dict[str, Floats]
    chances: dict[str, dict[str, Floats]]


@dataclass(frozen=True)
class Rows:
    """The rows a baseline is fitted on, calibrated on and scored on: the model's own parts and calibration rule."""

    fit: Ints
    tune: Ints
    score: Ints


def fit_baselines(table: TrainingSet, at: Ints, stride: int, seed: int = 0) -> Baselines:
    """Fit on the train part (every `stride`-th minute), calibrate as the model is, forecast rows `at`."""
    rows = Rows(table.part("train", stride), table.part("calibration", stride), at)
    return Baselines(_volatilities(table, rows, seed), _chances(table, rows, seed))


def _y(table: TrainingSet, at: Ints) -> Floats:
    return np.column_stack([table.targets[f"rv_{h}"][at] for h in HORIZONS])


def _volatilities(table: TrainingSet, rows: Rows, seed: int) -> dict[str, Floats]:
    newest, y = table.newest(rows.fit), _y(table, rows.fit)
    har, har_qlike = Har.fit(ln_lags(newest), y, "squares"), Har.fit(ln_lags(newest), y)
    ewma = Ewma.fit(table.closes, rows.fit, y)
    boosted = BoostedVolatility.fit(newest, y, har, seed)
    forecasts: dict[str, Forecast] = {
        "har": lambda at: har.forecast(ln_lags(table.newest(at))),
        "har_qlike": lambda at: har_qlike.forecast(ln_lags(table.newest(at))),
        "ewma": lambda at: ewma.forecast(table.closes, at),
        "gradient_boosting": lambda at: boosted.forecast(table.newest(at)),
    }
    weight, tuned = recency(table.close_ns[rows.tune]), _y(table, rows.tune)
    factors = {
        name: np.sqrt(np.average((tuned / forecast(rows.tune)) ** 2, axis=0, weights=weight))
        for name, forecast in forecasts.items()
    }
    return {name: forecast(rows.score) * factors[name] for name, forecast in forecasts.items()}


def _chances(table: TrainingSet, rows: Rows, seed: int) -> dict[str, dict[str, Floats]]:
    har = Har.fit(ln_lags(table.newest(rows.fit)), _y(table, rows.fit), "squares")
    inputs = {at.tobytes(): _inputs(table, at, har) for at in (rows.fit, rows.tune, rows.score)}
    return {name: _chance(table, rows, name, inputs, seed) for name in CHANCES}


def _chance(
    table: TrainingSet, rows: Rows, name: str, inputs: dict[bytes, Floats], seed: int,
) -> dict[str, Floats]:
    """Each baseline's chance of one outcome on the scored rows."""
    columns = slice(None) if name == "risk" else slice(0, -1)
    known = rows.fit[np.isfinite(table.targets[name][rows.fit])]
    x = inputs[rows.fit.tobytes()][np.isin(rows.fit, known)][:, columns]
    y, last = table.targets[name][known], FORECAST_BAR.index("return_1m")
    logistic, boosted = logistic_chance(x, y), boosted_chance(x, y, seed)
    reversal = Reversal.fit(table.newest(known)[:, last], y)
    forecasts: dict[str, Forecast] = {
        "constant": lambda at: np.full(len(at), y.mean()),
        "logistic": lambda at: np.asarray(logistic.predict_proba(inputs[at.tobytes()][:, columns])[:, 1]),
        "gradient_boosting": lambda at: np.asarray(boosted.predict_proba(inputs[at.tobytes()][:, columns])[:, 1]),
    }
    if name == "up":
        forecasts["reversal"] = lambda at: reversal.chance(table.newest(at)[:, last])
    return {label: _calibrated(table, rows, name, forecast) for label, forecast in forecasts.items()}


def _calibrated(table: TrainingSet, rows: Rows, name: str, forecast: Forecast) -> Floats:
    """A chance after Platt's map fitted on the calibration part, as the model's is."""
    tuned, scored = (_logit(forecast(at)) for at in (rows.tune, rows.score))
    weight = recency(table.close_ns[rows.tune])
    slope, intercept = platt_fit(tuned, table.targets[name][rows.tune], weight)
    return np.asarray(1 / (1 + np.exp(-(slope * scored + intercept))))


def _logit(p: Floats) -> Floats:
    q = np.clip(p, 1e-6, 1 - 1e-6)
    return np.asarray(np.log(q / (1 - q)))


def _inputs(table: TrainingSet, at: Ints, har: Har) -> Floats:
    """Scale-free newest rows, ln HAR over the spike threshold, and last ln HAR over the risk percentile."""
    newest = table.newest(at)
    f15 = har.forecast(ln_lags(newest))[:, 1]
    hour = np.maximum(newest[:, FORECAST_BAR.index("realized_vol_60m")].astype(np.float64), 1e-5)
    spike = np.log(f15 / (SPIKE_FACTOR * hour))
    return np.column_stack([scale_free(newest, f15), spike, np.log(f15 / table.context[at])])


def evaluate(table: TrainingSet, at: Ints, answers: Answers, baselines: Baselines, costs: CostModel) -> dict[str, Any]:
    """Every score of the model and the baselines on rows `at`, as plain data."""
    days = table.days(at)
    volatility = {
        f"{h}m": _score_volatility(table.targets[f"rv_{h}"][at], answers[f"volatility_{h}m"],
                                   {n: f[:, k] for n, f in baselines.volatility.items()}, days, h)
        for k, h in enumerate(HORIZONS)
    }
    horizons = {"up": 1, "flat": 1, "spike": 15, "risk": 15}
    chances = {
        name: _score_chance(table.targets[name][at], answers[output], baselines.chances[name], days, horizons[name])
        for name, output in CHANCES.items()
    }
    return {
        "rows": len(at), "days": len(np.unique(days)), "volatility": volatility, "chances": chances,
        "band_15m": _score_band(table.targets["rv_15"][at], answers, days),
        "risk_alert": _score_alert(table.targets["risk"][at], answers["risk_score"]),
        "trading": _score_trading(table, at, answers, costs, days),
    }


def _score_volatility(y: Floats, f: Floats, others: dict[str, Floats], days: Ints, h: int) -> dict[str, Any]:
    loss = metrics.qlike_loss(y, f)
    return {
        "qlike": metrics.day_block_interval(loss, days).as_dict(), "r2_log": metrics.r2_log(y, f),
        "log_bias": metrics.log_bias(y, f), "mean_squared_ratio": float(np.mean((y / f) ** 2)),
        **_evidence(len(y), h),
        "baselines": {
            name: {
                "qlike": metrics.day_block_interval(metrics.qlike_loss(y, g), days).as_dict(),
                "r2_log": metrics.r2_log(y, g), "log_bias": metrics.log_bias(y, g),
                "model_minus_baseline": metrics.paired_difference(loss, metrics.qlike_loss(y, g), days).as_dict(),
            } for name, g in others.items()
        },
    }


def _evidence(n: int, h: int) -> dict[str, Any]:
    found = metrics.n_eff(n, 1, h)
    return {"n": n, "n_eff": found, **({"evidence": "too few"} if found < MINIMUM_N_EFF else {})}


def _score_chance(outcome: Floats, p: Floats, others: dict[str, Floats], days: Ints, h: int) -> dict[str, Any]:
    known = np.isfinite(outcome) & np.isfinite(p)
    y, p, days = outcome[known], p[known], days[known]
    loss = metrics.log_loss_rows(y, p)
    return {
        "base_rate": float(y.mean()), "auc": metrics.auc_interval(y, p, days).as_dict(),
        "log_loss": metrics.day_block_interval(loss, days).as_dict(), "brier": float(metrics.brier_rows(y, p).mean()),
        "accuracy": metrics.day_block_interval(((p > 0.5) == (y > 0.5)).astype(np.float64), days).as_dict(),
        "calibration_error": metrics.calibration_error(y, p), "reliability": metrics.reliability(y, p),
        **_evidence(len(y), h),
        "baselines": {
            name: {
                "auc": metrics.auc(y, q[known]), "brier": float(metrics.brier_rows(y, q[known]).mean()),
                "log_loss": float(metrics.log_loss_rows(y, q[known]).mean()),
                "calibration_error": metrics.calibration_error(y, q[known]),
                "model_minus_baseline_log_loss":
                    metrics.paired_difference(loss, metrics.log_loss_rows(y, q[known]), days).as_dict(),
            } for name, q in others.items()
        },
    }


def _score_band(y: Floats, answers: Answers, days: Ints) -> dict[str, Any]:
    low, high = y < answers["volatility_15m_low"], y > answers["volatility_15m_high"]
    inside = metrics.day_block_interval((~low & ~high).astype(np.float64), days)
    return {"wanted": 0.8, "coverage": inside.as_dict(), "below": float(low.mean()), "above": float(high.mean())}


def _score_alert(outcome: Floats, risk: Floats, threshold: float = 0.7) -> dict[str, Any]:
    known = np.isfinite(outcome) & np.isfinite(risk)
    fired, happened = risk[known] > threshold, outcome[known] > 0.5
    return {
        "threshold": threshold, "share_fired": float(fired.mean()), "base_rate": float(happened.mean()),
        "precision": float(happened[fired].mean()) if fired.any() else None,
        "recall": float(fired[happened].mean()) if happened.any() else None,
    }


def _score_trading(table: TrainingSet, at: Ints, answers: Answers, costs: CostModel, days: Ints) -> dict[str, Any]:
    """What following the sign every minute would have earned from prices that could be had, per trade in bps."""
    side = np.sign(answers["p_up"] - 0.5)
    round_trip = 2 * costs.per_side_bps
    edge = answers["expected_edge_bps"]
    known = np.isfinite(table.targets["return_1"][at])
    realised = 1e4 * table.targets["return_1"][at][known]
    slope = float(np.sum(edge[known] * realised) / max(float(np.sum(edge[known] ** 2)), 1e-12))
    report: dict[str, Any] = {
        "cost_per_side_bps": costs.per_side_bps, "round_trip_bps": round_trip, "edge_slope": slope,
        "largest_expected_edge_bps": float(np.abs(edge).max()),
        "share_should_trade": float((np.abs(edge) > round_trip).mean()),
    }
    for h in (1, 15):
        had = 1e4 * table.targets[f"had_{h}"][at] * side
        ok = np.isfinite(had)
        gross = metrics.day_block_interval(had[ok], days[ok]).as_dict()
        report[f"always_trade_{h}m"] = {"gross_bps": gross, "net_bps": gross["value"] - round_trip}
    return report
