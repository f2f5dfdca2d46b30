"""Scores: what `candlewick evaluate` says of scored decisions, as plain data: the four families and the intervals.

    scores(scored)["volatility"]["15"]["qlike"]            # a number; its interval is under ["interval"]["qlike"]
    differences(scored, other)["qlike_15"]                 # paired, by day: below 0 the first is better

A figure stands under its name, its day-block 95 % interval under `interval`: null where it is not defined, as from
less than two days. What a model does not forecast, or these minutes cannot tell, is null, and `reason` says which.
A volatility below 1e-7 is no label: only the volatility score of that horizon leaves such a decision out, and counts
it. `n_eff` = n / h for overlapping horizons; below 1,000 the evidence is "too few" (`definitions`).
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from training import metrics
from training.calibration import platt_fit
from training.day_blocks import (
    DayBlocks,
    Ends,
    auc_draws,
    ece_draws,
    filled,
    paired,
    r2_log_draws,
    reliability,
    slope_draws,
    told,
)
from training.metrics import Floats, Ints
from training.scored import Scored
from training.targets import HORIZONS

MINIMUM_N_EFF = 1000
RISK_ALERT = 0.7
LEVEL = 0.8
"""Of the return intervals and of the volatility band."""
QUINTILES = 5
PERCENTILE_UNKNOWN = "the percentile of the last 30 days, which risk is relative to, takes 7 days of bars before them"
NO_RISE = 1e-6
"""Of the mean log likelihood by slope and intercept: below it, that is its top."""
Found = dict[str, Any]


def scores(scored: Scored) -> Found:
    """Every score of one model's decisions."""
    days = scored.days
    return {
        "direction": _chance(scored.up, scored.p_up_N, days, 1),
        "flat": _chance(scored.flat, scored.p_flat_N, days, 1),
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
            blocks = DayBlocks.of(days[known])
            ours, theirs = (metrics.qlike_loss(y[known], x[known]) for x in (f, g))
            found[f"qlike_{h}"] = paired(blocks, ours, theirs)
            found[f"qlike_ratio_{h}"] = _ratio(blocks, ours, theirs)
    for name, (y, p, q) in _pairs(scored, other).items():
        known = np.isfinite(y) & np.isfinite(p) & np.isfinite(q)
        if known.any():
            found |= _chance_differences(name, y[known], p[known], q[known], DayBlocks.of(days[known]))
    return found


def _pairs(scored: Scored, other: Scored) -> dict[str, tuple[Floats, Floats, Floats]]:
    """Outcome and both chances by name."""
    spikes = {f"spike_{h}": (scored.spiked_NK[:, k], scored.spike_prob_NK[:, k], other.spike_prob_NK[:, k])
              for k, h in enumerate(HORIZONS)}
    return {"up": (scored.up, scored.p_up_N, other.p_up_N), "flat": (scored.flat, scored.p_flat_N, other.p_flat_N),
            "risk": (scored.risky_N, scored.risk_score_N, other.risk_score_N), **spikes}


def _chance_differences(name: str, y: Floats, p: Floats, q: Floats, blocks: DayBlocks) -> Found:
    """Paired: both scores of a draw are of the same days."""
    areas = [metrics.auc(y, x) for x in (p, q)]
    area = blocks.ends(auc_draws(blocks, y, p) - auc_draws(blocks, y, q))
    return {
        f"brier_{name}": paired(blocks, metrics.brier_rows(y, p), metrics.brier_rows(y, q)),
        f"log_loss_{name}": paired(blocks, metrics.log_loss_rows(y, p), metrics.log_loss_rows(y, q)),
        f"auc_{name}": told(areas[0] - areas[1], area, blocks.days) if np.isfinite(areas).all() else None,
    }


def _evidence(n: int, h: int) -> Found:
    found = metrics.n_eff(n, 1, h)
    return {"n": n, "n_eff": found, **({"evidence": "too few"} if found < MINIMUM_N_EFF else {})}


def _unknown(outcome: Floats, *names: str, why: str = "") -> Found:
    """The scores of what did not happen where it could be seen (`why`), or was not forecast."""
    seen = bool(np.isfinite(outcome).any())
    reason = "the model does not forecast it" if seen else f"no outcome is known on these minutes{why and ': '}{why}"
    return {**dict.fromkeys(names), "reason": reason, "interval": {}, "n": 0}


def _volatility(scored: Scored, k: int, h: int) -> Found:
    y, f, har = scored.rv_NK[:, k], scored.rv_hat_NK[:, k], scored.rv_har_NK[:, k]
    known = np.isfinite(y) & np.isfinite(f)
    if not known.any():
        names = ("qlike", "r2_log", "log_bias", "mean_squared_ratio", "qlike_over_har")
        return _unknown(y, *names, why="nothing moved")
    left_out, blocks = int((~np.isfinite(y)).sum()), DayBlocks.of(scored.days[known])
    unanswered = int((np.isfinite(y) & ~np.isfinite(f)).sum())
    y, f, har = y[known], f[known], har[known]
    loss, bias, squares = metrics.qlike_loss(y, f), np.log(f) - np.log(y), (y / f) ** 2
    varies = np.ptp(y) > 0  # a market whose volatility never changed leaves nothing to explain
    found = {
        "qlike": float(loss.mean()), "r2_log": metrics.r2_log(y, f) if varies else None,
        "log_bias": float(bias.mean()), "mean_squared_ratio": float(squares.mean()), "qlike_over_har": None,
        "interval": {
            "qlike": blocks.mean(loss), "r2_log": blocks.ends(r2_log_draws(blocks, y, f)) if varies else None,
            "log_bias": blocks.mean(bias), "mean_squared_ratio": blocks.mean(squares), "qlike_over_har": None,
        },
        "left_out": left_out, "unanswered": unanswered, **_evidence(len(y), h),
    }
    if np.isfinite(har).all():
        ratio = _ratio(blocks, loss, metrics.qlike_loss(y, har))
        found |= {"qlike_over_har": ratio.pop("value")}
        found["interval"]["qlike_over_har"] = ratio if ratio["low"] is not None else None
    return found


def _ratio(blocks: DayBlocks, ours: Floats, theirs: Floats) -> Found:
    """Σ ours / Σ theirs with its interval; both are losses that are above 0 somewhere."""
    return told(float(ours.sum() / theirs.sum()), blocks.ratio(ours, theirs), blocks.days)


def _chance(outcome: Floats, p: Floats, days: Ints, h: int, why: str = "nothing moved") -> Found:
    known = np.isfinite(outcome) & np.isfinite(p)
    if not known.any():
        names = ("accuracy", "auc", "brier", "ece", "log_loss", "brier_skill", "reliability_slope")
        return _unknown(outcome, *names, why=why)
    y, q, blocks = outcome[known], p[known], DayBlocks.of(days[known])
    brier, log_loss = metrics.brier_rows(y, q), metrics.log_loss_rows(y, q)
    right = ((q > 0.5) == (y > 0.5)).astype(np.float64)
    whole = _of_both_classes(y, q, blocks)
    return {
        "accuracy": float(right.mean()), "brier": float(brier.mean()), "log_loss": float(log_loss.mean()),
        "base_rate": float(y.mean()), "ece": metrics.calibration_error(y, q),
        **{name: value for name, (value, _) in whole.items()}, "reliability": reliability(blocks, y, q),
        "interval": {
            "accuracy": blocks.mean(right), "brier": blocks.mean(brier), "log_loss": blocks.mean(log_loss),
            "base_rate": blocks.mean(y), "ece": blocks.ends(ece_draws(blocks, y, q)),
            **{name: ends for name, (_, ends) in whole.items()},
        },
        **_evidence(len(y), h),
    }


def _of_both_classes(y: Floats, q: Floats, blocks: DayBlocks) -> dict[str, tuple[float | None, Ends | None]]:
    """The scores that need rows with the event and rows without: ranking, gain over the base rate, boldness."""
    if not 0 < y.mean() < 1:
        return dict.fromkeys(("auc", "brier_skill", "reliability_slope"), (None, None))
    ours, climate = metrics.brier_rows(y, q), metrics.brier_rows(y, np.full(len(y), y.mean()))
    skill = blocks.ratio(ours, climate)
    found: dict[str, tuple[float | None, Ends | None]] = {
        "auc": (metrics.auc(y, q), blocks.ends(auc_draws(blocks, y, q))),
        "brier_skill": (1 - float(ours.sum() / climate.sum()),
                        skill and {**skill, "low": 1 - skill["high"], "high": 1 - skill["low"]}),
        "reliability_slope": (None, None),
    }
    clipped = np.clip(q, 1e-6, 1 - 1e-6)
    logit = np.log(clipped / (1 - clipped))
    if (fitted := reliability_fit(logit, y)) is not None:
        found["reliability_slope"] = (fitted[0], blocks.ends(slope_draws(blocks, y, logit, fitted)))
    return found


def reliability_fit(logit: Floats, outcome: Floats) -> tuple[float, float] | None:
    """Slope and intercept of the outcome on the logit; None where the logit parts the outcomes or there is no top."""
    came, not_came = logit[outcome > 0.5], logit[outcome <= 0.5]
    if came.min() >= not_came.max() or not_came.min() >= came.max():
        return None
    slope, intercept = platt_fit(logit, outcome)
    p = 1 / (1 + np.exp(-np.clip(slope * logit + intercept, -30, 30)))
    rise = np.abs([np.mean(logit * (outcome - p)), np.mean(outcome - p)])
    return (slope, intercept) if np.isfinite(rise).all() and (rise < NO_RISE).all() else None


def _risk(scored: Scored) -> Found:
    """The chance's scores, and what an alert above 0.7 would have been worth."""
    found = _chance(scored.risky_N, scored.risk_score_N, scored.days, 15, PERCENTILE_UNKNOWN)
    known = np.isfinite(scored.risky_N) & np.isfinite(scored.risk_score_N)
    if not known.any():
        return {**found, "precision": None, "recall": None}
    fired = (scored.risk_score_N[known] > RISK_ALERT).astype(np.float64)
    happened = (scored.risky_N[known] > 0.5).astype(np.float64)
    blocks, both = DayBlocks.of(scored.days[known]), fired * happened
    found["interval"] |= {"share_fired": blocks.mean(fired), "precision": blocks.ratio(both, fired),
                          "recall": blocks.ratio(both, happened)}
    return {
        **found, "alert_above": RISK_ALERT, "share_fired": float(fired.mean()),
        "precision": float(both.sum() / fired.sum()) if fired.any() else None,
        "recall": float(both.sum() / happened.sum()) if happened.any() else None,
    }


def _interval(scored: Scored, k: int, h: int) -> Found:
    """80 % intervals of the return over h minutes: coverage, also by fifths of the forecast volatility, and width.

    The interval score is Winkler's (1972), in bps. Its rival is c · RV of the last hour · √h, with the c that covers
    80 % of these very rows: more than a rival could know. An hour that stood still makes it an interval of no width.
    """
    moved, bound = np.abs(scored.returns[h]), scored.return_bound_NK[:, k]
    known = np.isfinite(moved) & np.isfinite(bound)
    if not known.any():
        names = ("coverage", "coverage_by_volatility", "interval_score_bps", "interval_score_rv60_bps")
        return {"level": LEVEL, **_unknown(moved, *names)}
    blocks, volatility = DayBlocks.of(scored.days[known]), scored.rv_hat_NK[known, k]
    hour = scored.rv_hour_N[known] * np.sqrt(h)
    moved, bound = moved[known], bound[known]
    inside, ours = (moved <= bound).astype(np.float64), _winkler(moved, bound)
    found = {
        "level": LEVEL, "coverage": float(inside.mean()), **_by_fifths(blocks, inside, volatility),
        "interval_score_bps": float(ours.mean()), "interval_score_rv60_bps": None, **_evidence(len(moved), h),
    }
    found["interval"] |= {"coverage": blocks.mean(inside), "interval_score_bps": blocks.mean(ours)}
    if np.isfinite(hour).all() and (alive := hour > 0).any():
        theirs = _winkler(moved, hour * np.quantile(moved[alive] / hour[alive], LEVEL))
        found |= {"interval_score_rv60_bps": float(theirs.mean()), "score_minus_rv60_bps": paired(blocks, ours, theirs)}
        found["interval"]["interval_score_rv60_bps"] = blocks.mean(theirs)
    return found


def _winkler(moved: Floats, bound: Floats) -> Floats:
    """Width plus 2/α times what lies outside, in bps."""
    return np.asarray(1e4 * (2 * bound + 2 / (1 - LEVEL) * np.maximum(moved - bound, 0)))


def _by_fifths(blocks: DayBlocks, inside: Floats, volatility: Floats) -> Found:
    """Coverage from the calmest fifth of forecasts to the wildest, with intervals; None for an empty fifth."""
    fifth = metrics.equal_bins(volatility, QUINTILES)
    count, held = (np.bincount(fifth, weights=rows, minlength=QUINTILES) for rows in (np.ones(len(inside)), inside))
    shares = np.divide(held, count, out=np.full(QUINTILES, np.nan), where=count > 0)
    return {"coverage_by_volatility": filled(shares),
            "interval": {"coverage_by_volatility": blocks.bin_means(inside, fifth, QUINTILES)}}


def _band(scored: Scored) -> Found:
    """The band of the 15-minute volatility."""
    y: Floats = scored.rv_NK[:, HORIZONS.index(15)]
    known: NDArray[np.bool_] = np.isfinite(y) & np.isfinite(scored.rv_low_N) & np.isfinite(scored.rv_high_N)
    if not known.any():
        return {"level": LEVEL, **_unknown(y, "coverage", "coverage_by_volatility", why="nothing moved")}
    blocks = DayBlocks.of(scored.days[known])
    below, above = ((y[known] < scored.rv_low_N[known]).astype(np.float64),
                    (y[known] > scored.rv_high_N[known]).astype(np.float64))
    inside = 1 - np.maximum(below, above)
    found = {
        "level": LEVEL, "coverage": float(inside.mean()), "below": float(below.mean()), "above": float(above.mean()),
        **_by_fifths(blocks, inside, scored.rv_hat_NK[known, HORIZONS.index(15)]), **_evidence(int(known.sum()), 15),
    }
    found["interval"] |= {"coverage": blocks.mean(inside), "below": blocks.mean(below), "above": blocks.mean(above)}
    return found
