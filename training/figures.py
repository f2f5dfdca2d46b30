"""Figures: what a report's pictures show, computed from scored decisions.

    days, model, har = qlike_by_day(scored, 15)
    coverage_by_quintile(scored, 15)       # five shares inside the 80 % interval, each with its interval

Pure functions of `Scored`; unknown rows are left out of each figure. Intervals are day-block bootstraps.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from feature_repo.grid import Floats, Ints
from training import metrics
from training.scored import Scored
from training.targets import HORIZONS

BINS = 10
QUINTILES = 5
DRAWS = 300


@dataclass(frozen=True)
class Points:
    """Points of a picture with their intervals (NaN where fewer than two days stand behind one)."""

    x: Floats
    value: Floats
    low: Floats
    high: Floats
    rows: Ints


@dataclass(frozen=True)
class Head:
    """One chance: what was said and what came."""

    name: str
    outcome_N: Floats
    p_N: Floats

    @property
    def known(self) -> NDArray[np.bool_]:
        return np.isfinite(self.outcome_N) & np.isfinite(self.p_N)


def heads(scored: Scored) -> list[Head]:
    """Every chance that the model speaks of."""
    spikes = [Head(f"Spike, {h} min", scored.spiked_NK[:, k], scored.spike_prob_NK[:, k])
              for k, h in enumerate(HORIZONS)]
    found = [Head("Up, if it moves", scored.up, scored.p_up_N), Head("Flat minute", scored.flat, scored.p_flat_N),
             *spikes, Head("Risk", scored.risky_N, scored.risk_score_N)]
    return [head for head in found if head.known.any()]


def reliability(head: Head, days: Ints, bins: int = BINS) -> Points:
    """Mean chance and frequency of equally filled bins, ascending."""
    known = head.known
    y, p, d = head.outcome_N[known], head.p_N[known], days[known]
    parts = _bins(p, bins)
    return _points(np.array([p[part].mean() for part in parts]), [(y[part], d[part]) for part in parts])


def _bins(values: Floats, bins: int) -> list[Ints]:
    """Positions of the rows of each bin that has any, ascending by value; equal values lie in one."""
    place = metrics.equal_bins(values, bins)
    return [np.flatnonzero(place == i) for i in np.unique(place)]


def _points(x: Floats, groups: list[tuple[Floats, Ints]]) -> Points:
    found = [metrics.day_block_interval(values, days, draws=DRAWS) for values, days in groups]
    thin = np.array([each.days < 2 for each in found])
    low, high = (np.array([getattr(each, end) for each in found]) for end in ("low", "high"))
    return Points(
        x, np.array([each.value for each in found]), np.where(thin, np.nan, low), np.where(thin, np.nan, high),
        np.array([len(values) for values, _ in groups]),
    )


def qlike_by_day(scored: Scored, horizon_min: int) -> tuple[Ints, Floats, Floats]:
    """UTC day numbers and the mean QLIKE of the model and of HAR on each."""
    k = HORIZONS.index(horizon_min)
    columns = (scored.rv_NK[:, k], scored.rv_hat_NK[:, k], scored.rv_har_NK[:, k])
    known = np.logical_and.reduce([np.isfinite(column) & (column > 0) for column in columns])
    y, f, har = (column[known] for column in columns)
    names, day = np.unique(scored.days[known], return_inverse=True)
    count = np.bincount(day)
    model, other = (np.bincount(day, weights=metrics.qlike_loss(y, g)) / count for g in (f, har))
    return names, np.asarray(model), np.asarray(other)


def coverage_by_quintile(scored: Scored, horizon_min: int) -> Points:
    """Share of returns inside the 80 % interval by quintile of the volatility forecast, 1 the calmest."""
    k = HORIZONS.index(horizon_min)
    inside = np.abs(scored.returns[horizon_min]) <= scored.return_bound_NK[:, k]
    known = np.isfinite(scored.returns[horizon_min]) & np.isfinite(scored.return_bound_NK[:, k])
    return _by_quintile(scored, inside, known, k)


def band_by_quintile(scored: Scored) -> Points:
    """Share of 15-minute volatilities inside their 10–90 % band by quintile of the forecast."""
    k = HORIZONS.index(15)
    y = scored.rv_NK[:, k]
    known = np.logical_and.reduce([np.isfinite(column) for column in (y, scored.rv_low_N, scored.rv_high_N)])
    return _by_quintile(scored, (y >= scored.rv_low_N) & (y <= scored.rv_high_N), known, k)


def _by_quintile(scored: Scored, inside: NDArray[np.bool_], known: NDArray[np.bool_], k: int) -> Points:
    at = np.flatnonzero(known & np.isfinite(scored.rv_hat_NK[:, k]))
    if not len(at):
        return _points(np.array([]), [])
    fifth = metrics.equal_bins(scored.rv_hat_NK[at, k], QUINTILES)
    named = np.unique(fifth)
    groups = [(inside[at[fifth == i]].astype(np.float64), scored.days[at[fifth == i]]) for i in named]
    return _points(1.0 + named.astype(np.float64), groups)


@dataclass(frozen=True)
class Day:
    """One day's forecasts beside what happened."""

    day: int
    rows: int
    qlike: float
    qlike_har: float
    volatility: float
    """Root mean square of RV_15, per √minute."""
    worst_minute: float
    """The largest absolute one-minute log return."""
    risk: float
    """Mean risk score; NaN where unknown."""
    alarmed: float
    """Share of minutes with a risk score above 0.7."""


def worst_days(scored: Scored, count: int = 8) -> list[Day]:
    """The days on which the 15-minute volatility forecast did worst by mean QLIKE, worst first."""
    names, model, har = qlike_by_day(scored, 15)
    order = np.argsort(-model, kind="stable")[:count]
    return [_day(scored, int(names[i]), float(model[i]), float(har[i])) for i in order]


def _day(scored: Scored, day: int, qlike: float, qlike_har: float) -> Day:
    own = scored.only(scored.days == day)
    risk = own.risk_score_N[np.isfinite(own.risk_score_N)]
    y = own.rv_NK[:, HORIZONS.index(15)]
    moves = np.abs(own.returns[1][np.isfinite(own.returns[1])])
    return Day(
        day, len(own), qlike, qlike_har, float(np.sqrt(np.nanmean(y**2))), float(moves.max()) if len(moves) else np.nan,
        float(risk.mean()) if len(risk) else np.nan, float((risk > 0.7).mean()) if len(risk) else np.nan,
    )


def risk_by_hour(scored: Scored) -> tuple[Ints, Floats, Floats]:
    """Hour starts (ns UTC), the mean risk score of each hour and the share of its minutes that turned out risky."""
    known = np.isfinite(scored.risk_score_N) & np.isfinite(scored.risky_N)
    hour_ns = 3_600_000_000_000
    names, hour = np.unique(scored.close_ns_N[known] // hour_ns, return_inverse=True)
    count = np.bincount(hour)
    means = (np.bincount(hour, weights=column[known]) / count for column in (scored.risk_score_N, scored.risky_N))
    score, came = means
    return names * hour_ns, np.asarray(score), np.asarray(came)
