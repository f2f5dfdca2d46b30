"""Calibration: makes forecasts mean what they say, fitted on rows the weights never saw, then kept inside the graph.

Volatility: one factor per horizon so that mean(y² / f²) = 1. Band: conformal shift so that 10 % fall below and 10 %
above. Chances: Platt's logistic map (Platt 1999). Edges: slope 1 through the origin. λ(age): what is left of the
direction's skill when the row behind it is `age` old, measured by forecasting from older rows. Where direction has
learnt from every other day of the part (`learns_late`), it, flat minutes, edges and λ are fitted on the other days.
They taught no member but weigh a stack's; where that leaves one day, no edge is certain and none is used.

Rows count by their recency, half at every `HALF_LIFE_DAYS` before the newest: markets change their level, and the model
is used after the end of the data, but a crash a year ago still says how the risk score behaves in one.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from feature_repo.contracts import DAY_NS
from feature_repo.features import SEQUENCE_LENGTH
from feature_repo.grid import Floats, Ints
from training.dataset import TrainingSet
from training.edge import STEEPEST, STEEPEST_15, EdgeSlope, edge_slope
from training.fitting import BAND, raw_outputs
from training.forecaster import CHANCES, Forecaster, Raw, edge_bps
from training.targets import HORIZONS

AGES_MIN = (0, 1, 2, 3, 4, 5)
RETURN_COVERAGE = 0.80
HALF_LIFE_DAYS = 180.0


@dataclass(frozen=True)
class Calibration:
    """What was fitted, for meta.json."""

    volatility_factors: list[float]
    band_shift: list[float]
    platt: dict[str, list[float]]
    """Slope and intercept by chance."""
    edge_slope: float
    edge_slope_free: float
    """Before chance was held against it: 0 is used where it is within three standard errors of 0, 2 at most."""
    edge_slope_error: float
    """Its standard error, days being what is independent."""
    tier_lambda: dict[str, Any]
    return_interval_15m: float
    """80 % of |r_15| lie within this times f_15·√15."""
    return_intervals: dict[str, float]
    """The same by horizon in minutes."""
    rows: int
    half_life_days: float
    edge_slope_15m: float
    """Of the return over 15 minutes; at most 2√15 is used."""
    edge_slope_15m_free: float
    edge_slope_15m_error: float
    direction_rows: int
    """Of `rows`, those that direction, edges and λ were fitted on."""


def calibrate(model: Forecaster, table: TrainingSet) -> Calibration:
    """Fit the calibration on the calibration part and set the model's buffers."""
    at = table.part("calibration")
    raw, weight = raw_outputs(model, table, at), recency(table.close_ns[at])
    factors = volatility_factors(raw, table, at, weight)
    shift = _band_shift(raw, table, at, weight)
    # What is NaN is left out by every fit below.
    untaught = np.isin(at, table.weighing()) if model.learns_late else np.ones(len(at), dtype=np.bool_)
    raw.direction_B2[torch.from_numpy(~untaught)] = torch.nan
    platt = {name: platt_fit(_logits(raw, name), table.targets[name][at], weight) for name in CHANCES}
    platt["up"] = (max(platt["up"][0], 0.0), platt["up"][1])
    model.ln_scale_K.copy_(torch.from_numpy(np.log(factors)))
    model.ln_band_2.copy_(torch.from_numpy(shift))
    model.platt_62.copy_(torch.tensor([platt[name] for name in CHANCES]))
    edge, edge_15 = _edge_slopes(model, raw, table, at, weight)
    model.edge_slope.fill_(edge.used)
    model.edge_slope_15.fill_(edge_15.used)
    bounds = [_return_interval(raw, factors, table, k, at, weight) for k in range(len(HORIZONS))]
    return Calibration(
        factors.tolist(), shift.tolist(), {name: list(pair) for name, pair in platt.items()},
        float(model.edge_slope), edge.slope, edge.standard_error, staleness(_logits(raw, "up"), table, at), bounds[1],
        {str(h): b for h, b in zip(HORIZONS, bounds, strict=True)}, len(at), HALF_LIFE_DAYS,
        float(model.edge_slope_15), edge_15.slope, edge_15.standard_error, int(untaught.sum()),
    )


def recency(close_ns: Ints, half_life_days: float = HALF_LIFE_DAYS) -> Floats:
    """Weight of each row: 1 at the newest, half of it a half-life before."""
    return np.asarray(0.5 ** ((close_ns.max() - close_ns) / DAY_NS / half_life_days))


def weighted_quantile(values: Floats, level: float, weight: Floats) -> float:
    """The value below which `level` of the weight lies; unknown values are left out.

    >>> weighted_quantile(np.array([3.0, 1.0, 2.0]), 0.5, np.array([10.0, 1.0, 1.0]))
    3.0
    """
    known = np.isfinite(values)
    order = np.argsort(values[known])
    cumulated = np.cumsum(weight[known][order])
    place = int(np.searchsorted(cumulated, level * cumulated[-1]))
    return float(values[known][order][min(place, len(order) - 1)])


def volatility_factors(raw: Raw, table: TrainingSet, at: Ints, weight: Floats) -> Floats:
    """The factor of each horizon that makes the weighted mean of y² / f² one."""
    y = np.column_stack([table.targets[f"rv_{h}"][at] for h in HORIZONS])
    squares = np.exp(2 * (np.log(y) - raw.ln_f_BK.double().numpy()))
    return np.asarray(np.sqrt(np.average(squares, axis=0, weights=weight)))


def _band_shift(raw: Raw, table: TrainingSet, at: Ints, weight: Floats) -> Floats:
    surprise = np.log(table.targets["rv_15"][at]) - raw.ln_f_BK[:, 1].double().numpy()
    miss = surprise[:, None] - raw.ln_band_B2.double().numpy()
    return np.array([weighted_quantile(miss[:, i], level, weight) for i, level in enumerate(BAND)])


def platt_fit(logit: Floats, outcome: Floats, weight: Floats | None = None, steps: int = 30) -> tuple[float, float]:
    """Slope and intercept of P = σ(slope · logit + intercept) by Newton's method; rows without outcome are left out."""
    known = np.isfinite(logit) & np.isfinite(outcome)
    x = np.column_stack([logit[known], np.ones(known.sum())])
    w = np.ones(len(x)) if weight is None else weight[known]
    y, b = outcome[known], np.array([1.0, 0.0])
    for _ in range(steps):
        p = 1 / (1 + np.exp(-np.clip(x @ b, -30, 30)))
        curvature = (x * (w * p * (1 - p))[:, None]).T @ x + 1e-6 * np.eye(2)
        step = np.linalg.solve(curvature, x.T @ (w * (p - y)))
        b = b - step
        if float(np.abs(step).max()) < 1e-9:
            break
    return float(b[0]), float(b[1])


def staleness(up_logit: Floats, table: TrainingSet, at: Ints) -> dict[str, Any]:
    """λ by age of the row: slope of the outcome on a forecast made `age` minutes earlier, over the slope at age 0.

    `up_logit`: the direction's at rows `at`; rows where it is NaN are left out. λ is held within [0, 1] and never
    rises. Ages between whole minutes are a straight line between their neighbours.
    """
    logit = np.full(len(table.close_ns), np.nan)
    logit[at] = up_logit
    at = at[(at >= SEQUENCE_LENGTH + max(AGES_MIN)) & np.isfinite(up_logit)]
    up, weight = table.targets["up"][at], recency(table.close_ns[at])
    slopes = [platt_fit(logit[at - age], up, weight)[0] for age in AGES_MIN]
    relative = [min(max(slope / slopes[0], 0.0), 1.0) if slopes[0] > 0 else 0.0 for slope in slopes[1:]]
    return {
        "age_s": [60 * age for age in AGES_MIN], "lambda": np.minimum.accumulate([1.0, *relative]).tolist(),
        "slopes": slopes,
        "rule": "p' = 1/2 + lambda(age) (p - 1/2), linear between ages, 0 beyond the last age",
        "measured_on": "calibration part, days that taught no member: the outcome of a minute regressed on the "
                       "forecast of a row that much older",
    }


def _logits(raw: Raw, name: str) -> Floats:
    return np.asarray(raw.logits_BC[:, CHANCES.index(name)].double().numpy())


def _edge_slopes(
    model: Forecaster, raw: Raw, table: TrainingSet, at: Ints, weight: Floats,
) -> tuple[EdgeSlope, EdgeSlope]:
    """Of one minute and of 15; a row whose 15 minutes have a hole counts for the first alone."""
    with torch.no_grad():
        up_B = torch.sigmoid(model.platt_62[0, 0] * raw.direction_B2[:, 0] + model.platt_62[0, 1])
        flat_B = torch.sigmoid(model.platt_62[1, 0] * raw.direction_B2[:, 1] + model.platt_62[1, 1])
        f_BK = torch.exp(raw.ln_f_BK + model.ln_scale_K)
        edges = [edge_bps(up_B, flat_B, f_BK[:, k], h).double().numpy() for k, h in ((0, 1), (1, 15))]
    days = table.days(at)
    realised = [1e4 * table.targets[name][at] for name in ("return_1", "return_15")]
    return (edge_slope(edges[0], realised[0], days, weight, STEEPEST),
            edge_slope(edges[1], realised[1], days, weight, STEEPEST_15))


def _return_interval(raw: Raw, factors: Floats, table: TrainingSet, k: int, at: Ints, weight: Floats) -> float:
    h = HORIZONS[k]
    f_h = factors[k] * np.exp(raw.ln_f_BK[:, k].double().numpy())
    ln_close = np.log(table.closes)
    moved = np.abs(ln_close[np.minimum(at + h, len(ln_close) - 1)] - ln_close[at]) / (f_h * np.sqrt(h))
    return weighted_quantile(moved, RETURN_COVERAGE, weight)
