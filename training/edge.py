"""Edge: the return a trade may expect, made honest on unseen rows, and the rule that trades on it.

    >>> import numpy as np
    >>> should_trade(np.array([5.0, -5.0, 3.9, np.nan]), cost_per_side_bps=2.0).tolist()
    [1, -1, 0, 0]

An edge is E[r] in basis points of the price, signed: short is as good as long. A model's own edge is only a score
until rows that it has not seen say what became of it: `edge_slope` regresses the realised return on it through the
origin, and `EdgeSlope.used` × edge has slope 1 on those rows. A slope that chance could have made is none: 0 is used.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Sides = NDArray[np.int8]
"""+1 long, −1 short, 0 no trade."""

EDGE_OVER_COST = 2.0
"""An edge must exceed this many times the cost of one side: what a trade costs to enter and to leave."""
CERTAIN_T = 3.0
"""Standard errors from 0 below which a slope counts as none (Harvey, Liu & Zhu 2016 ask this much of a new factor).

Of many days: of few, whose spread is itself a guess, as many more as are as rare (`certainty`)."""
STEEPEST = 2.0
"""A slope above this is not believed: no model is that shy, a thin calibration slice is that noisy."""
STEEPEST_15 = STEEPEST * math.sqrt(15)
"""The same at 15 minutes. There an edge is the next minute's odds over √15 times a minute's reach, while a drift that
goes on for all 15 minutes goes 15 times as far as in one."""


@dataclass(frozen=True)
class EdgeSlope:
    """What one basis point of a model's edge was worth on rows that it has not seen."""

    slope: float
    """Of the realised return on the edge, through the origin."""
    standard_error: float
    """Clustered by day: minutes of a day are not independent."""
    days: int
    used: float
    """The factor that edges are multiplied by: 0 where the slope may be chance, at most the steepest believed."""

    def as_dict(self) -> dict[str, float]:
        return asdict(self)


def edge_slope(
    edge_bps: Floats, realised_bps: Floats, days: Ints, weight: Floats | None = None, steepest: float = STEEPEST,
) -> EdgeSlope:
    """Slope through the origin with a standard error clustered by day (Liang & Zeger 1986). All (N,); NaN is left out.

    `weight` counts rows, e.g. by their recency. Fewer than two days, or edges that are all 0, prove nothing: used = 0.
    Returns over several minutes overlap: within a day the clusters allow for it, between days only midnight's do.
    """
    known = np.isfinite(edge_bps) & np.isfinite(realised_bps)
    x, y = edge_bps[known], realised_bps[known]
    w = np.ones(len(x)) if weight is None else weight[known]
    names, day = np.unique(days[known], return_inverse=True)
    power = float(np.sum(w * x * x))
    if power <= 0.0 or len(names) < 2:
        return EdgeSlope(0.0, float("inf"), len(names), 0.0)
    slope = float(np.sum(w * x * y)) / power
    scores = np.bincount(day, weights=w * x * (y - slope * x))
    error = float(np.sqrt(len(names) / (len(names) - 1) * np.sum(scores**2)) / power)
    sure = slope > 0 and certainty(slope, error, len(names)) > CERTAIN_T
    return EdgeSlope(slope, error, len(names), min(slope, steepest) if sure else 0.0)


def certainty(slope: float, standard_error: float, days: int) -> float:
    """How many standard errors from 0, as many as are as rare for a known error: Student's t of days − 1 as a normal.

    By Wallace (1959), whose formula is a few per cent too strict where there are fewer than five days.

    >>> [round(certainty(3.0, 1.0, days), 2) for days in (2, 8, 40, 10_000)]
    [1.24, 2.32, 2.83, 3.0]
    """
    if standard_error == 0.0:
        return math.copysign(math.inf, slope)
    free, t = days - 1, slope / standard_error
    return math.copysign((8 * free + 1) / (8 * free + 3) * math.sqrt(free * math.log1p(t * t / free)), slope)


def should_trade(edge_bps: Floats, cost_per_side_bps: float, allowed: NDArray[np.bool_] | None = None) -> Sides:
    """Side of each decision, (N,): the edge's sign where it exceeds twice the cost of a side and the row is `allowed`.

    `allowed` is what else the rule asks for: tier 1 or 2, and not out of distribution. An unknown edge never trades.
    """
    wanted = np.abs(edge_bps) > EDGE_OVER_COST * cost_per_side_bps  # NaN compares false
    sides = np.where(wanted, np.sign(edge_bps), 0.0)
    return np.asarray(sides if allowed is None else np.where(allowed, sides, 0.0), dtype=np.float64).astype(np.int8)
