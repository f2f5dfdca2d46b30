"""Red flags: scores that are too good to be true, and forecasts that do not mean what they say.

    red_flags(scored)      # [{"rule": "direction", "level": "suspicious", "found": 0.93, "limit": 0.56, "why": …}]

The limits stand beyond what anyone has shown on minute bars of a liquid market: a score beyond one is a leak until
somebody has proven otherwise. `suspicious` is judged by the end of the day-block interval that lies nearer to the
limit, so a lucky day raises no flag. `warning` says that a forecast is not calibrated. Nothing is hidden by a flag.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np

from feature_repo.grid import Floats, Ints
from training import metrics
from training.day_blocks import DayBlocks, auc_draws
from training.scored import Scored
from training.targets import HORIZONS

MOST_RIGHT = 0.56
"""Direction one minute ahead: 51–56 % right in the literature."""
MOST_DIRECTION_AUC = 0.60
LEAST_QLIKE_RATIO = 0.60
"""QLIKE over HAR's: the best published gains over HAR are 10–20 %."""
MOST_SPIKE_AUC = 0.95
MOST_RISK_AUC = 0.98
MOST_GROSS_BPS = 3.0
"""Per trade of the model's sign every minute, before costs: a minute's mean absolute move is some 4–6 bps."""
COVERAGE = (0.75, 0.85)
"""What an 80 % interval should cover, here over all rows."""
MOST_ECE = 0.05
FEWEST_DAYS = 3
"""Fewer days have no interval worth the name, and so no flag."""


@dataclass(frozen=True)
class Flag:
    """One rule that a score breaks."""

    rule: str
    level: Literal["suspicious", "warning"]
    found: float
    limit: float
    why: str

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


def red_flags(scored: Scored) -> list[dict[str, Any]]:
    """Every rule broken by scored decisions, as plain data; none from fewer than three days."""
    if len(np.unique(scored.days)) < FEWEST_DAYS:
        return []
    return [flag.as_dict() for rule in RULES for flag in rule(scored)]


def _direction(scored: Scored) -> Iterator[Flag]:
    known = np.isfinite(scored.up) & np.isfinite(scored.p_up_N)
    if not known.any():
        return
    up, p, days = scored.up[known], scored.p_up_N[known], scored.days[known]
    right = metrics.day_block_interval(((p > 0.5) == (up > 0.5)).astype(np.float64), days)
    if right.low > MOST_RIGHT:
        yield Flag("direction accuracy", "suspicious", right.value, MOST_RIGHT,
                   "the sign of the next minute is right more often than anyone has shown")
    if (area := _certain_auc(up, p, days, MOST_DIRECTION_AUC)) is not None:
        yield Flag("direction AUC", "suspicious", area, MOST_DIRECTION_AUC,
                   "the next minute's direction is ranked better than anyone has shown")


def _certain_auc(outcome: Floats, p: Floats, days: Ints, limit: float) -> float | None:
    """The AUC where its whole interval is above the limit."""
    area, blocks = metrics.auc(outcome, p), DayBlocks.of(days)
    ends = blocks.ends(auc_draws(blocks, outcome, p))
    return area if ends is not None and ends["low"] > limit else None


def _volatility(scored: Scored) -> Iterator[Flag]:
    for k, h in enumerate(HORIZONS):
        columns = (scored.rv_NK[:, k], scored.rv_hat_NK[:, k], scored.rv_har_NK[:, k])
        known = np.logical_and.reduce([np.isfinite(column) & (column > 0) for column in columns])
        if not known.any():
            continue
        y, f, har = (column[known] for column in columns)
        own, other = metrics.qlike_loss(y, f), metrics.qlike_loss(y, har)
        # The ratio is below the limit where own − limit × other is: a mean of rows, so it has an interval.
        if metrics.day_block_interval(own - LEAST_QLIKE_RATIO * other, scored.days[known]).high < 0:
            yield Flag(f"volatility {h} min, QLIKE over HAR's", "suspicious", float(own.mean() / other.mean()),
                       LEAST_QLIKE_RATIO, "a gain over HAR far beyond any published one")


def _chance(name: str, limit: float, outcome: Floats, p: Floats, scored: Scored) -> Iterator[Flag]:
    known = np.isfinite(outcome) & np.isfinite(p)
    if not known.any() or len(np.unique(outcome[known])) < 2:
        return
    y, q, days = outcome[known], p[known], scored.days[known]
    if (area := _certain_auc(y, q, days, limit)) is not None:
        yield Flag(f"{name} AUC", "suspicious", area, limit, "the event is all but known in advance")
    error = metrics.calibration_error(y, q)
    if error > MOST_ECE:
        yield Flag(f"{name} calibration", "warning", error, MOST_ECE, "the chance is not the frequency")


def _chances(scored: Scored) -> Iterator[Flag]:
    for k, h in enumerate(HORIZONS):
        yield from _chance(f"spike {h} min", MOST_SPIKE_AUC, scored.spiked_NK[:, k], scored.spike_prob_NK[:, k], scored)
    yield from _chance("risk", MOST_RISK_AUC, scored.risky_N, scored.risk_score_N, scored)


def _money(scored: Scored) -> Iterator[Flag]:
    gross = 1e4 * np.sign(scored.p_up_N - 0.5) * scored.had[1]
    known = np.isfinite(gross)
    if not known.any():
        return
    found = metrics.day_block_interval(gross[known], scored.days[known])
    if found.low > MOST_GROSS_BPS:
        yield Flag("gross bps a minute", "suspicious", found.value, MOST_GROSS_BPS,
                   "the sign alone earns a large part of all that prices move")


def _intervals(scored: Scored) -> Iterator[Flag]:
    for k, h in enumerate(HORIZONS):
        moved, bound = np.abs(scored.returns[h]), scored.return_bound_NK[:, k]
        known = np.isfinite(moved) & np.isfinite(bound)
        inside = float((moved[known] <= bound[known]).mean()) if known.any() else 0.8
        low, high = COVERAGE
        if not low <= inside <= high:
            limit = low if inside < low else high
            yield Flag(f"80 % interval, {h} min", "warning", inside, limit, "it does not cover what it says")


RULES: tuple[Callable[[Scored], Iterator[Flag]], ...] = (_direction, _volatility, _chances, _money, _intervals)
