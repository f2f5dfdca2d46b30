"""Baselines: the fits beneath the simplest forecasters: HAR (Corsi 2009) by least squares, reversal by counting.

    har = Har.fit(ln_lags(newest_NF), y_NK)

Volatilities are per square-root minute, probabilities of an outcome in {0, 1}. The forecasters themselves, behind the
common interface, are in `training.tabular`.

Shapes: N rows · G HAR lags · K horizons · F features.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from feature_repo.features import FORECAST_BAR

Floats = NDArray[np.float64]

HAR_LAGS = ("realized_vol_5m", "realized_vol_15m", "realized_vol_60m", "realized_vol_4h", "realized_vol_1d")
LAG_FLOOR = 1e-5
"""A lag below 0.1 bp per √minute (a market that stood still) counts as that: its logarithm has no bottom."""
HALF_LIVES = (5.0, 10.0, 20.0, 40.0, 80.0, 160.0, 320.0)


def ln_lags(newest_NF: NDArray[np.floating[Any]]) -> Floats:
    """ln of HAR's volatilities from newest rows; a missing window takes its neighbour's. (N, G)."""
    lags = newest_NF[:, [FORECAST_BAR.index(name) for name in HAR_LAGS]].astype(np.float64)
    values = np.log(np.maximum(lags, LAG_FLOOR))
    for i in range(1, values.shape[1]):
        values[:, i] = np.where(np.isnan(values[:, i]), values[:, i - 1], values[:, i])
    for i in range(values.shape[1] - 2, -1, -1):
        values[:, i] = np.where(np.isnan(values[:, i]), values[:, i + 1], values[:, i])
    return values


@dataclass(frozen=True)
class Har:
    """ln f_h = b₀ + Σ b_i ln RV_i for every horizon; `training.forecaster` forecasts by it, inside the graph."""

    coefficients_GK: Floats

    @classmethod
    def fit(cls, lags_NG: Floats, y_NK: Floats) -> Har:
        """By least squares on logs, then a constant that makes mean(y² / f²) = 1.

        Not on QLIKE: a few violent minutes steer that fit (docs/experiments.md).
        """
        x, ln_y = np.column_stack([np.ones(len(lags_NG)), lags_NG]), np.log(y_NK)
        squares = np.asarray(np.linalg.lstsq(x, ln_y, rcond=None)[0], dtype=np.float64)
        squares[0] += 0.5 * np.log(np.exp(2 * (ln_y - x @ squares)).mean(axis=0))
        return cls(squares)


def column_kinds() -> tuple[str, ...]:
    """How each FORECAST_BAR column is made scale-free, by its declared unit and name."""
    from feature_repo.features import FEATURES

    units = {f.name: f for f in FEATURES}
    return tuple(_kind(units[name].unit, units[name].family, name) for name in FORECAST_BAR)


def _kind(unit: str, family: str, name: str) -> str:
    if family == "volatility" or name.startswith("range_"):
        return "volatility"
    if family == "price":
        return "return"
    return "positive" if unit == "ratio" else "plain"


@dataclass(frozen=True)
class Reversal:
    """P(up) by the sign of the last minute's return, as counted on the training rows."""

    after_up: float
    after_down: float
    after_flat: float

    @classmethod
    def fit(cls, last_return: NDArray[np.floating[Any]], up: Floats) -> Reversal:
        return cls(*(float(up[chosen].mean()) if chosen.any() else 0.5
                     for chosen in (last_return > 0, last_return < 0, last_return == 0)))
