"""Day blocks: intervals of any score by resampling whole days, from sums by day: a thousand draws are one product.

    blocks = DayBlocks.of(days)
    blocks.mean(loss)                          # {"low": …, "high": …, "days": …}
    blocks.ends(r2_log_draws(blocks, y, f))

Neighbouring minutes are not independent, days nearly are. A score that is a function of sums over rows is, in each
draw, that function of the draw's sums. Nothing is said of fewer than two days or where no draw has a value: None.

Shapes: N rows · D days · R draws · B bins.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from feature_repo.contracts import DAY_NS
from training.metrics import BOOTSTRAP_DRAWS, Floats, Ints, day_draws, equal_bins

FEWEST_DAYS = 2
AUC_BINS = 512
ECE_BINS = 10
Ends = dict[str, Any]
"""{"low", "high", "days"}: 2.5 % and 97.5 % of the draws and the days behind them."""


def day_of(close_ns: Ints) -> Ints:
    """UTC day number of the minutes that close at these times: the one that closes at midnight ends its day.

    >>> day_of(np.array([DAY_NS, DAY_NS + 60_000_000_000, 2 * DAY_NS])).tolist()
    [0, 1, 1]
    """
    return np.asarray((close_ns - 1) // DAY_NS)


@dataclass(frozen=True)
class DayBlocks:
    """The days of N rows and how often each is drawn."""

    block_N: Ints
    """Which day each row is of, from 0."""
    days: int
    times_RD: Floats

    @classmethod
    def of(cls, days_N: Ints, draws: int = BOOTSTRAP_DRAWS, seed: int = 0) -> DayBlocks:
        """Of the day number of each row."""
        names, block = np.unique(days_N, return_inverse=True)
        return cls(np.asarray(block, dtype=np.int64), len(names), day_draws(len(names), draws, seed))

    def sums(self, rows_N: Floats) -> Floats:
        """Σ of the rows of each draw, (R,)."""
        return np.asarray(self.times_RD @ np.bincount(self.block_N, weights=rows_N, minlength=self.days))

    def bin_sums(self, rows_N: Floats, bin_N: Ints, bins: int) -> Floats:
        """Σ of the rows of each draw and bin, (R, B)."""
        cells = np.bincount(self.block_N * bins + bin_N, weights=rows_N, minlength=self.days * bins)
        return np.asarray(self.times_RD @ cells.reshape(self.days, bins))

    def ends(self, values_R: Floats, days: int | None = None) -> Ends | None:
        """The interval of a score from its values in each draw (NaN: none). `days`: behind it, where not all are."""
        behind = self.days if days is None else days
        if behind < FEWEST_DAYS or not np.isfinite(values_R).any():
            return None
        low, high = np.nanquantile(values_R, [0.025, 0.975])
        return {"low": float(low), "high": float(high), "days": behind}

    def mean(self, rows_N: Floats) -> Ends | None:
        """The interval of a mean of rows."""
        return self.ends(self.sums(rows_N) / self.sums(np.ones(len(rows_N))))

    def ratio(self, above_N: Floats, below_N: Floats) -> Ends | None:
        """The interval of Σ above / Σ below of the same days; the days behind it are those with anything below."""
        behind = int(np.count_nonzero(np.bincount(self.block_N, weights=np.abs(below_N), minlength=self.days)))
        return self.ends(_over(self.sums(above_N), self.sums(below_N)), behind)

    def bin_means(self, rows_N: Floats, bin_N: Ints, bins: int) -> list[Ends | None]:
        """The interval of the mean of each bin's rows."""
        filled = np.zeros((self.days, bins), dtype=bool)
        filled[self.block_N, bin_N] = True
        ones = np.ones(len(rows_N))
        means = _over(self.bin_sums(rows_N, bin_N, bins), self.bin_sums(ones, bin_N, bins))
        return [self.ends(means[:, i], int(filled[:, i].sum())) for i in range(bins)]


def _over(above: Floats, below: Floats) -> Floats:
    """above / below, NaN where below is 0: a draw without such a row has no such score."""
    return np.asarray(np.divide(above, below, out=np.full(above.shape, np.nan), where=below != 0))


def told(value: float, ends: Ends | None, days: int) -> dict[str, Any]:
    """A figure with its interval as one object; the ends are None where there is no interval."""
    return {"value": value, **(ends or {"low": None, "high": None, "days": days})}


def paired(blocks: DayBlocks, ours_N: Floats, theirs_N: Floats) -> dict[str, Any]:
    """Mean of ours less theirs on the same rows: of losses, below 0 ours is better."""
    difference = ours_N - theirs_N
    return told(float(difference.mean()), blocks.mean(difference), blocks.days)


def r2_log_draws(blocks: DayBlocks, y_N: Floats, f_N: Floats) -> Floats:
    """`metrics.r2_log` of each draw, (R,)."""
    ln_y = np.log(y_N)
    missed, level = ln_y - np.log(f_N), ln_y - ln_y.mean()  # around their means: no large numbers cancel
    count = blocks.sums(np.ones(len(y_N)))
    return np.asarray(1 - _over(_variance(blocks, missed - missed.mean(), count), _variance(blocks, level, count)))


def _variance(blocks: DayBlocks, rows_N: Floats, count_R: Floats) -> Floats:
    return np.asarray(blocks.sums(rows_N**2) / count_R - (blocks.sums(rows_N) / count_R) ** 2)


def ece_draws(blocks: DayBlocks, outcome_N: Floats, p_N: Floats, bins: int = ECE_BINS) -> Floats:
    """`metrics.calibration_error` of each draw over the bins of all rows, (R,).

    A mean of absolute gaps is pushed up by whatever noise resampling adds; that push, the draws' mean above the figure
    of all rows, is taken out again, for the interval is to say how sure the figure is.
    """
    bin_N = equal_bins(p_N, bins)
    gaps = np.abs(np.bincount(bin_N, weights=p_N - outcome_N)).sum() / len(p_N)
    drawn = np.abs(blocks.bin_sums(p_N - outcome_N, bin_N, bins)).sum(axis=1) / blocks.sums(np.ones(len(p_N)))
    return np.asarray(np.maximum(drawn - (drawn.mean() - gaps), 0.0))


def slope_draws(blocks: DayBlocks, outcome_N: Floats, logit_N: Floats, fitted: tuple[float, float]) -> Floats:
    """The logistic slope of the outcome on the logit in each draw, (R,): one Newton step from the fit of all rows.

    `fitted` is that slope and intercept. A whole fit of each draw differs from the step by the square of what the step
    moves, and would take a thousand times as long.
    """
    p_N = 1 / (1 + np.exp(-np.clip(fitted[0] * logit_N + fitted[1], -30, 30)))  # as `platt_fit` does
    missed_N, weight_N = outcome_N - p_N, p_N * (1 - p_N)
    missed, missed_x, w, wx, wxx = (blocks.sums(column) for column in (
        missed_N, missed_N * logit_N, weight_N, weight_N * logit_N, weight_N * logit_N**2))
    curved = w * wxx - wx**2
    # Chances of one value, or all but 0 and 1, have no slope that a draw could move.
    return np.asarray(fitted[0] + _over(w * missed_x - wx * missed, np.where(curved > 1e-9 * w * wxx, curved, 0.0)))


def auc_draws(blocks: DayBlocks, outcome_N: Floats, p_N: Floats, bins: int = AUC_BINS) -> Floats:
    """AUC of each draw, (R,). Chances are binned by their ranks, so that a draw is a sum of histograms, not a sort."""
    _, rank = np.unique(p_N, return_inverse=True)
    place = np.asarray(rank * bins // (rank.max() + 1), dtype=np.int64)
    rose = outcome_N > 0.5
    up, down = (blocks.bin_sums(chosen.astype(np.float64), place, bins) for chosen in (rose, ~rose))
    below = np.cumsum(down, axis=1) - down / 2
    return _over((up * below).sum(axis=1), up.sum(axis=1) * down.sum(axis=1))


def reliability(blocks: DayBlocks, outcome_N: Floats, p_N: Floats, bins: int = ECE_BINS) -> list[dict[str, Any]]:
    """Points of a reliability diagram over equally filled bins: said, how often it came with its interval, rows."""
    bin_N = equal_bins(p_N, bins)
    columns = (np.ones(len(p_N)), p_N, outcome_N)
    count, said, came = (np.bincount(bin_N, weights=column, minlength=bins) for column in columns)
    return [
        {"forecast": float(said[i] / count[i]), "count": float(count[i]),
         "frequency": float(came[i] / count[i]), "interval": {"frequency": ends}}
        for i, ends in enumerate(blocks.bin_means(outcome_N, bin_N, bins)) if count[i]
    ]


def filled(values: NDArray[np.float64]) -> list[float | None]:
    """Plain numbers, None for NaN."""
    return [float(value) if np.isfinite(value) else None for value in values]
