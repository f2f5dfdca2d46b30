"""Scores: what `candlewick evaluate` says of scored decisions, as plain data: the four families and the intervals.

    scores(scored)["volatility"]["15"]["qlike"]            # a number; its interval is under ["interval"]["qlike"]
    differences(scored, other)["qlike_15"]                 # paired, by day: below 0 the first is better

A figure stands under its name, its day-block 95 % interval under `interval`. Scores by day: neighbouring minutes are
not independent. What a model does not forecast is null. `n_eff` = n / h for overlapping horizons; below 1,000 the
evidence is "too few" (`definitions`).
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from training import metrics
from training.calibration import platt_fit
from training.metrics import Floats, Ints
from training.scored import Scored
from training.targets import HORIZONS

MINIMUM_N_EFF = 1000
RISK_ALERT = 0.7
LEVEL = 0.8
"""Of the return intervals and of the volatility band."""
QUINTILES = 5
Found = dict[str, Any]


def scores(scored: Scored) -> Found:
    """Every score of one model's decisions."""
    days = scored.days
    return {
        "direction": _chance(scored.up, scored.p_up_N, days, 1),
        "volatility": {str(h): _volatility(scored, k, h) for k, h in enumerate(HORIZONS)},
        "spike": {
            str(h): _chance(scored.spiked_NK[:, k], scored.spike_prob_NK[:, k], days, h) for k, h in enumerate(HORIZONS)
        },
        "risk": _risk(scored),
        "intervals": {**{str(h): _interval(scored, k, h) for k, h in enumerate(HORIZONS)}, "band_15": _band(scored)},
    }


def differences(scored: Scored, other: Scored) -> Found:
    """Model minus other on the decisions that both forecast: losses (below 0 is better), AUCs (above 0 is better)."""
    if not np.array_equal(scored.close_ns_N, other.close_ns_N):
        raise ValueError(f"expected the same decisions, found {len(scored)} of {scored.model}, {len(other)} of "
                         f"{other.model}")
    days = scored.days
    found: Found = {}
    for k, h in enumerate(HORIZONS):
        y, f, g = scored.rv_NK[:, k], scored.rv_hat_NK[:, k], other.rv_hat_NK[:, k]
        known = np.isfinite(y) & np.isfinite(f) & np.isfinite(g)
        if known.any():
            ours, theirs = (metrics.qlike_loss(y[known], x[known]) for x in (f, g))
            found[f"qlike_{h}"] = metrics.paired_difference(ours, theirs, days[known]).as_dict()
            found[f"qlike_ratio_{h}"] = _ratio(ours, theirs, days[known])
    pairs = {"up": (scored.up, scored.p_up_N, other.p_up_N),
             "risk": (scored.risky_N, scored.risk_score_N, other.risk_score_N)}
    pairs |= {f"spike_{h}": (scored.spiked_NK[:, k], scored.spike_prob_NK[:, k], other.spike_prob_NK[:, k])
              for k, h in enumerate(HORIZONS)}
    for name, (y, p, q) in pairs.items():
        known = np.isfinite(y) & np.isfinite(p) & np.isfinite(q)
        if known.any():
            losses = [metrics.brier_rows(y[known], x[known]) for x in (p, q)]
            found[f"brier_{name}"] = metrics.paired_difference(losses[0], losses[1], days[known]).as_dict()
            found[f"auc_{name}"] = _auc_difference(y[known], p[known], q[known], days[known])
    return found


def _evidence(n: int, h: int) -> Found:
    found = metrics.n_eff(n, 1, h)
    return {"n": n, "n_eff": found, **({"evidence": "too few"} if found < MINIMUM_N_EFF else {})}


def _bounds(found: metrics.Interval) -> Found:
    return {"low": found.low, "high": found.high, "days": found.days}


def _volatility(scored: Scored, k: int, h: int) -> Found:
    y, f, har = scored.rv_NK[:, k], scored.rv_hat_NK[:, k], scored.rv_har_NK[:, k]
    known = np.isfinite(y) & np.isfinite(f)
    if not known.any():
        return {"qlike": None, "r2_log": None, "n": 0}
    loss, days = metrics.qlike_loss(y[known], f[known]), scored.days[known]
    qlike = metrics.day_block_interval(loss, days)
    found = {
        "qlike": qlike.value, "r2_log": metrics.r2_log(y[known], f[known]),
        "log_bias": metrics.log_bias(y[known], f[known]),
        "mean_squared_ratio": float(np.mean((y[known] / f[known]) ** 2)), "interval": {"qlike": _bounds(qlike)},
        "left_out": int((~np.isfinite(y)).sum()), **_evidence(int(known.sum()), h),
    }
    if np.isfinite(har[known]).all():
        ratio = _ratio(loss, metrics.qlike_loss(y[known], har[known]), days)
        found |= {"qlike_over_har": ratio["value"]}
        found["interval"]["qlike_over_har"] = {key: ratio[key] for key in ("low", "high", "days")}
    return found


def _ratio(ours: Floats, theirs: Floats, days: Ints) -> Found:
    """Σ ours / Σ theirs with a day-block interval."""
    return metrics.day_block_ratio(ours, theirs, days).as_dict()


def _chance(outcome: Floats, p: Floats, days: Ints, h: int) -> Found:
    known = np.isfinite(outcome) & np.isfinite(p)
    if not known.any():
        return {"accuracy": None, "auc": None, "brier": None, "ece": None, "n": 0}
    y, q, day = outcome[known], p[known], days[known]
    right = metrics.day_block_interval(((q > 0.5) == (y > 0.5)).astype(np.float64), day)
    brier = metrics.day_block_interval(metrics.brier_rows(y, q), day)
    has_both = 0 < y.mean() < 1  # without either there is no climatology to be better than
    skill = metrics.day_block_ratio(metrics.brier_rows(y, q), metrics.brier_rows(y, np.full(len(y), y.mean())), day)
    draws = _auc_draws(y, q, day)
    logit = np.log(np.clip(q, 1e-6, 1 - 1e-6) / (1 - np.clip(q, 1e-6, 1 - 1e-6)))
    return {
        "accuracy": right.value, "auc": _or_none(metrics.auc(y, q)), "brier": brier.value,
        "ece": metrics.calibration_error(y, q), "log_loss": float(metrics.log_loss_rows(y, q).mean()),
        "base_rate": float(y.mean()), "brier_skill": 1 - skill.value if has_both else None,
        "reliability_slope": platt_fit(logit, y)[0] if has_both and np.ptp(q) > 0 else None,
        "reliability": metrics.reliability(y, q),
        "interval": {
            "accuracy": _bounds(right), "brier": _bounds(brier), "auc": _quantiles(draws, right.days),
            "brier_skill": {"low": 1 - skill.high, "high": 1 - skill.low, "days": skill.days} if has_both else None,
        },
        **_evidence(len(y), h),
    }


def _or_none(value: float) -> float | None:
    return value if np.isfinite(value) else None


def _quantiles(draws: Floats, days: int) -> Found | None:
    if not np.isfinite(draws).any():
        return None
    low, high = np.nanquantile(draws, [0.025, 0.975])
    return {"low": float(low), "high": float(high), "days": days}


def _auc_draws(outcome: Floats, p: Floats, days: Ints, seed: int = 0, draws: int = 1000, bins: int = 512) -> Floats:
    """AUC of resampled days. Scores are binned by their ranks, so that a draw is a sum of histograms, not a sort."""
    _, rank = np.unique(p, return_inverse=True)
    place = (rank * bins // (rank.max() + 1)).astype(np.int64)
    names, block = np.unique(days, return_inverse=True)
    shape = (len(names), bins)
    cell = block * bins + place
    rises, falls = (
        np.bincount(cell[chosen], minlength=shape[0] * bins).reshape(shape).astype(np.float64)
        for chosen in (outcome > 0.5, outcome <= 0.5)
    )
    picks = np.random.default_rng(seed).integers(0, len(names), size=(draws, len(names)))
    times = np.stack([np.bincount(row, minlength=len(names)) for row in picks]).astype(np.float64)
    up, down = times @ rises, times @ falls
    below = np.cumsum(down, axis=1) - down / 2
    pairs = up.sum(axis=1) * down.sum(axis=1)
    return np.where(pairs > 0, (up * below).sum(axis=1) / np.maximum(pairs, 1), np.nan)


def _auc_difference(outcome: Floats, p: Floats, q: Floats, days: Ints) -> Found | None:
    """Paired: both AUCs of a draw are of the same days."""
    found = _quantiles(_auc_draws(outcome, p, days) - _auc_draws(outcome, q, days), len(np.unique(days)))
    return found and {"value": metrics.auc(outcome, p) - metrics.auc(outcome, q), **found}


def _risk(scored: Scored) -> Found:
    """The chance's scores, and what an alert above 0.7 would have been worth."""
    found = _chance(scored.risky_N, scored.risk_score_N, scored.days, 15)
    known = np.isfinite(scored.risky_N) & np.isfinite(scored.risk_score_N)
    if not known.any():
        return {**found, "precision": None, "recall": None}
    fired, happened = scored.risk_score_N[known] > RISK_ALERT, scored.risky_N[known] > 0.5
    return {
        **found, "alert_above": RISK_ALERT, "share_fired": float(fired.mean()),
        "precision": float(happened[fired].mean()) if fired.any() else None,
        "recall": float(fired[happened].mean()) if happened.any() else None,
    }


def _interval(scored: Scored, k: int, h: int) -> Found:
    """80 % intervals of the return over h minutes: coverage, also by fifths of the forecast volatility, and width.

    The interval score is Winkler's (1972), in bps. Its rival is c · RV of the last hour · √h, with the c that covers
    80 % of these very rows: more than a rival could know.
    """
    moved, bound = np.abs(scored.returns[h]), scored.return_bound_NK[:, k]
    hour = scored.rv_hour_N * np.sqrt(h)
    known = np.isfinite(moved) & np.isfinite(bound) & np.isfinite(hour) & (hour > 0)
    if not known.any():
        return {"level": LEVEL, "coverage": None, "n": 0}
    moved, bound, hour, days = moved[known], bound[known], hour[known], scored.days[known]
    rival = hour * np.quantile(moved / hour, LEVEL)
    inside = metrics.day_block_interval((moved <= bound).astype(np.float64), days)
    ours, theirs = _winkler(moved, bound), _winkler(moved, rival)
    return {
        "level": LEVEL, "coverage": inside.value,
        "coverage_by_volatility": _by_fifths((moved <= bound).astype(np.float64), scored.rv_hat_NK[known, k]),
        "interval_score_bps": float(ours.mean()), "interval_score_rv60_bps": float(theirs.mean()),
        "score_minus_rv60_bps": metrics.paired_difference(ours, theirs, days).as_dict(),
        "interval": {"coverage": _bounds(inside)}, **_evidence(len(moved), h),
    }


def _winkler(moved: Floats, bound: Floats) -> Floats:
    """Width plus 2/α times what lies outside, in bps."""
    return np.asarray(1e4 * (2 * bound + 2 / (1 - LEVEL) * np.maximum(moved - bound, 0)))


def _by_fifths(inside: Floats, volatility: Floats) -> list[float]:
    return [float(inside[part].mean()) for part in np.array_split(np.argsort(volatility, kind="stable"), QUINTILES)
            if len(part)]


def _band(scored: Scored) -> Found:
    """The band of the 15-minute volatility."""
    y: Floats = scored.rv_NK[:, HORIZONS.index(15)]
    known: NDArray[np.bool_] = np.isfinite(y) & np.isfinite(scored.rv_low_N) & np.isfinite(scored.rv_high_N)
    if not known.any():
        return {"level": LEVEL, "coverage": None, "n": 0}
    low, high = y[known] < scored.rv_low_N[known], y[known] > scored.rv_high_N[known]
    inside = metrics.day_block_interval((~low & ~high).astype(np.float64), scored.days[known])
    return {
        "level": LEVEL, "coverage": inside.value, "below": float(low.mean()), "above": float(high.mean()),
        "coverage_by_volatility": _by_fifths((~low & ~high).astype(np.float64), scored.rv_hat_NK[known, 1]),
        "interval": {"coverage": _bounds(inside)}, **_evidence(int(known.sum()), 15),
    }
