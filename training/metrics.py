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


def calibration_error(outcome: Floats, p: Floats, bins: int = 10) -> float:
    """Expected calibration error over equally filled bins: Σ share · |mean p − mean outcome|."""
    order = np.argsort(p, kind="stable")
    return float(sum(
        len(part) / len(p) * abs(p[part].mean() - outcome[part].mean())
        for part in np.array_split(order, min(bins, len(p))) if len(part)
    ))


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


def day_block_interval(rows: Floats, days: Ints, seed: int = 0, draws: int = BOOTSTRAP_DRAWS) -> Interval:
    """Interval of the mean of `rows` by resampling whole days; `days` names the day of each row."""
    _, inverse = np.unique(days, return_inverse=True)
    sums = np.bincount(inverse, weights=rows)
    counts = np.bincount(inverse).astype(np.float64)
    picks = np.random.default_rng(seed).integers(0, len(sums), size=(draws, len(sums)))
    means = sums[picks].sum(axis=1) / counts[picks].sum(axis=1)
    low, high = np.quantile(means, [0.025, 0.975])
    return Interval(float(rows.mean()), float(low), float(high), len(sums))


def day_block_ratio(numerator: Floats, denominator: Floats, days: Ints, seed: int = 0) -> Interval:
    """Interval of Σ numerator / Σ denominator by resampling whole days, both sums of a day together."""
    names, inverse = np.unique(days, return_inverse=True)
    above, below = (np.bincount(inverse, weights=rows) for rows in (numerator, denominator))
    picks = np.random.default_rng(seed).integers(0, len(names), size=(BOOTSTRAP_DRAWS, len(names)))
    low, high = np.quantile(above[picks].sum(axis=1) / below[picks].sum(axis=1), [0.025, 0.975])
    return Interval(float(above.sum() / below.sum()), float(low), float(high), len(names))


def paired_difference(candidate: Floats, baseline: Floats, days: Ints, seed: int = 0) -> Interval:
    """Interval of mean(candidate loss − baseline loss) on the same rows: below 0 the candidate is better."""
    return day_block_interval(candidate - baseline, days, seed)


def auc_interval(outcome: Floats, score: Floats, days: Ints, seed: int = 0, draws: int = 200) -> Interval:
    """Interval of the AUC by resampling whole days (AUC is no mean of rows, so it is computed per draw)."""
    names, inverse = np.unique(days, return_inverse=True)
    members = np.split(np.argsort(inverse, kind="stable"), np.cumsum(np.bincount(inverse))[:-1])
    rng = np.random.default_rng(seed)
    values = []
    for _ in range(draws):
        rows = np.concatenate([members[i] for i in rng.integers(0, len(names), len(names))])
        values.append(auc(outcome[rows], score[rows]))
    low, high = np.nanquantile(values, [0.025, 0.975])
    return Interval(auc(outcome, score), float(low), float(high), len(names))


def reliability(outcome: Floats, p: Floats, bins: int = 10) -> list[dict[str, float]]:
    """Points of a reliability diagram over equally filled bins: forecast, frequency, count."""
    order = np.argsort(p, kind="stable")
    return [
        {"forecast": float(p[part].mean()), "frequency": float(outcome[part].mean()), "count": float(len(part))}
        for part in np.array_split(order, min(bins, len(p))) if len(part)
    ]
