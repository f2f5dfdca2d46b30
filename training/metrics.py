"""Metrics: how good a forecast is, with its baseline, its interval and how much evidence stands behind it.

    >>> import numpy as np
    >>> y = np.array([1.0, 2.0, 4.0])
    >>> qlike(y, y), round(qlike(y, 2 * y), 4)
    (0.0, 0.6363)

Every score is the mean of a per-row loss where it can be, so that a comparison is a paired difference on
the same rows and its interval a bootstrap over whole days (neighbouring minutes are not independent).
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

RV_FLOOR = 1e-7
"""Realised volatilities below this are left out of QLIKE and R² and counted (`definitions`)."""
TINY = 1e-7
BOOTSTRAP_DRAWS = 1000


def qlike_loss(y: Floats, f: Floats) -> Floats:
    """Per-row QLIKE of volatilities (Patton 2011, on variances): y²/f² − ln(y²/f²) − 1."""
    ratio = (y / f) ** 2
    return np.asarray(ratio - np.log(ratio) - 1, dtype=np.float64)


def qlike(y: Floats, f: Floats) -> float:
    return float(qlike_loss(y, f).mean())


def r2_log(y: Floats, f: Floats) -> float:
    """1 − var(ln y − ln f) / var(ln y): blind to a constant factor, so read it with `log_bias` beside it."""
    return float(1 - np.var(np.log(y) - np.log(f)) / np.var(np.log(y)))


def log_bias(y: Floats, f: Floats) -> float:
    """mean(ln f − ln y): above 0 is high on the log scale. QLIKE asks for a little above 0: E[y²] > e^{2 E ln y}."""
    return float(np.mean(np.log(f) - np.log(y)))


def log_loss_rows(outcome: Floats, p: Floats) -> Floats:
    """Per-row log loss (nats) of a probability against an outcome in {0, 1}."""
    q = np.clip(p, TINY, 1 - TINY)
    return np.asarray(-(outcome * np.log(q) + (1 - outcome) * np.log(1 - q)), dtype=np.float64)


def brier_rows(outcome: Floats, p: Floats) -> Floats:
    """Per-row squared error of a probability (Brier 1950)."""
    return np.asarray((p - outcome) ** 2, dtype=np.float64)


def auc(outcome: Floats, score: Floats) -> float:
    """Area under the ROC curve by ranks, ties shared; NaN when only one class is present."""
    positives = outcome > 0.5
    n, m = int(positives.sum()), int((~positives).sum())
    if n == 0 or m == 0:
        return float("nan")
    _, inverse, counts = np.unique(score, return_inverse=True, return_counts=True)
    ranks = (np.cumsum(counts) - (counts - 1) / 2)[inverse]
    return float((ranks[positives].sum() - n * (n + 1) / 2) / (n * m))


def equal_bins(values: Floats, bins: int) -> Ints:
    """Bin of each row, 0 to `bins` − 1, ascending and equally filled as far as ties allow; (N,).

    Equal values share the bin of their middle rank, so that the order of the rows says nothing. A bin may stay empty.

    >>> equal_bins(np.array([3.0, 1.0, 2.0, 4.0]), 2).tolist(), equal_bins(np.array([1.0, 1.0, 1.0, 4.0]), 2).tolist()
    ([1, 0, 0, 1], [0, 0, 0, 1])
    """
    _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    middle = np.cumsum(counts) - (counts + 1) / 2
    sizes = len(values) // bins + (np.arange(bins) < len(values) % bins)
    return np.asarray(np.searchsorted(np.cumsum(sizes), middle, side="right")[inverse], dtype=np.int64)


def calibration_error(outcome: Floats, p: Floats, bins: int = 10) -> float:
    """Expected calibration error over equally filled bins: Σ share · |mean p − mean outcome|."""
    gaps = np.bincount(equal_bins(p, bins), weights=p - outcome)
    return float(np.abs(gaps).sum() / len(p))


def n_eff(n_rows: int, stride_minutes: int, horizon_minutes: int) -> int:
    """Independent outcomes in n rows taken every `stride` minutes: n / (h / stride), at most n."""
    return int(n_rows / max(1.0, horizon_minutes / stride_minutes))


@dataclass(frozen=True)
class Interval:
    """A figure with its day-block bootstrap interval (2.5 % and 97.5 %) and the days behind it."""

    value: float
    low: float
    high: float
    days: int

    def as_dict(self) -> dict[str, float]:
        return asdict(self)


@lru_cache(maxsize=8)
def day_draws(days: int, draws: int = BOOTSTRAP_DRAWS, seed: int = 0) -> Floats:
    """How often each day is in each resampling of as many days, (draws, days): times sums by day, each draw's sums."""
    picks = np.random.default_rng(seed).integers(0, days, size=(draws, days))
    cells = picks + days * np.arange(draws)[:, None]
    times = np.bincount(cells.ravel(), minlength=draws * days).reshape(draws, days).astype(np.float64)
    times.flags.writeable = False  # it is shared by whoever asks again
    return times


def day_block_interval(rows: Floats, days: Ints, seed: int = 0, draws: int = BOOTSTRAP_DRAWS) -> Interval:
    """Interval of the mean of `rows` by resampling whole days; `days` names the day of each row."""
    found = day_block_ratio(rows, np.ones(len(rows)), days, seed, draws)
    return Interval(float(rows.mean()), found.low, found.high, found.days)


def day_block_ratio(
    numerator: Floats, denominator: Floats, days: Ints, seed: int = 0, draws: int = BOOTSTRAP_DRAWS,
) -> Interval:
    """Interval of Σ numerator / Σ denominator by resampling whole days, both sums of a day together."""
    names, inverse = np.unique(days, return_inverse=True)
    above, below = (np.bincount(inverse, weights=rows) for rows in (numerator, denominator))
    times = day_draws(len(names), draws, seed)
    low, high = np.quantile((times @ above) / (times @ below), [0.025, 0.975])
    return Interval(float(above.sum() / below.sum()), float(low), float(high), len(names))


def paired_difference(candidate: Floats, baseline: Floats, days: Ints, seed: int = 0) -> Interval:
    """Interval of mean(candidate loss − baseline loss) on the same rows: below 0 the candidate is better."""
    return day_block_interval(candidate - baseline, days, seed)
