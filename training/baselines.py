"""Baselines: what a forecaster must beat, each fitted on the same training rows as the model.

HAR (Corsi 2009) fitted on QLIKE and, for comparison, by least squares on logs; EWMA (RiskMetrics 1996) with its
half-life chosen on the training rows; gradient boosting; logistic regression; reversal; the constant base rate.
Volatilities are per square-root minute, probabilities of an outcome in {0, 1}.

Shapes: N rows · G HAR lags · K horizons · F features.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from feature_repo.features import FORECAST_BAR
from training.metrics import qlike_loss

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


def _design(lags_NG: Floats) -> Floats:
    return np.column_stack([np.ones(len(lags_NG)), lags_NG])


@dataclass(frozen=True)
class Har:
    """ln f_h = b₀ + Σ b_i ln RV_i for every horizon."""

    coefficients_GK: Floats

    @classmethod
    def fit(cls, lags_NG: Floats, y_NK: Floats, on: str = "qlike") -> Har:
        """Fit on QLIKE (convex in the coefficients: Newton from least squares) or by `squares` on logs."""
        x, ln_y = _design(lags_NG), np.log(y_NK)
        squares = np.asarray(np.linalg.lstsq(x, ln_y, rcond=None)[0], dtype=np.float64)
        if on == "squares":
            residual = ln_y - x @ squares
            squares[0] += 0.5 * np.log(np.exp(2 * residual).mean(axis=0))  # makes mean(y²/f²) = 1
            return cls(squares)
        return cls(np.column_stack([_qlike_newton(x, ln_y[:, k], squares[:, k]) for k in range(ln_y.shape[1])]))

    def forecast(self, lags_NG: Floats) -> Floats:
        """f_h, (N, K)."""
        return np.asarray(np.exp(_design(lags_NG) @ self.coefficients_GK))


def _qlike_newton(x: Floats, ln_y: Floats, start: Floats, steps: int = 50) -> Floats:
    """argmin_b mean(e^{2(ln y − xb)} + 2 xb) by damped Newton steps."""
    def loss(b: Floats) -> float:
        fitted = x @ b
        return float((np.exp(2 * (ln_y - fitted)) + 2 * fitted).mean())

    b, best = start, loss(start)
    for _ in range(steps):
        ratio = np.exp(2 * (ln_y - x @ b))
        gradient = (x * (2 - 2 * ratio)[:, None]).mean(axis=0)
        curvature = 4 * (x * ratio[:, None]).T @ x / len(x)
        step, size = np.linalg.solve(curvature + 1e-9 * np.eye(len(b)), gradient), 1.0
        while size > 1e-4 and loss(b - size * step) > best:
            size /= 2
        b = b - size * step
        if best - loss(b) < 1e-10:
            break
        best = loss(b)
    return b


def ewma_variance(closes: Floats, half_life: float) -> Floats:
    """Exponentially weighted mean of squared minute returns up to each row; a missing minute keeps the last value."""
    import pandas as pd

    squares = np.full(len(closes), np.nan)
    squares[1:] = np.diff(np.log(closes)) ** 2
    return pd.Series(squares).ewm(halflife=half_life, ignore_na=True).mean().to_numpy()


@dataclass(frozen=True)
class Ewma:
    """f_h = s_h · EWMA deviation, half-life and scale chosen by QLIKE on the training rows."""

    half_lives: tuple[float, ...]
    scales: tuple[float, ...]

    @classmethod
    def fit(cls, closes: Floats, at: NDArray[np.int64], y_NK: Floats) -> Ewma:
        deviations = [np.sqrt(np.maximum(ewma_variance(closes, h)[at], LAG_FLOOR**2)) for h in HALF_LIVES]
        chosen = [min(_scored(d, y_NK[:, k], h) for d, h in zip(deviations, HALF_LIVES, strict=True))
                  for k in range(y_NK.shape[1])]
        return cls(tuple(c[1] for c in chosen), tuple(c[2] for c in chosen))

    def forecast(self, closes: Floats, at: NDArray[np.int64]) -> Floats:
        """f_h at dense positions, (N, K)."""
        columns = [
            scale * np.sqrt(np.maximum(ewma_variance(closes, half_life)[at], LAG_FLOOR**2))
            for half_life, scale in zip(self.half_lives, self.scales, strict=True)
        ]
        return np.column_stack(columns)


def _scored(deviation: Floats, y: Floats, half_life: float) -> tuple[float, float, float]:
    scale = float(np.sqrt(np.mean((y / deviation) ** 2)))
    return float(qlike_loss(y, scale * deviation).mean()), half_life, scale


@dataclass(frozen=True)
class BoostedVolatility:
    """Gradient boosting of ln(y / HAR) on the newest row: the same start and rows as the model."""

    members: tuple[Any, ...]
    har: Har
    ln_scales: tuple[float, ...]

    @classmethod
    def fit(cls, newest_NF: NDArray[np.float32], y_NK: Floats, har: Har, seed: int = 0) -> BoostedVolatility:
        f = har.forecast(ln_lags(newest_NF))
        x = scale_free(newest_NF, f[:, 1])
        members = tuple(_regressor(seed).fit(x, np.log(y_NK[:, k] / f[:, k])) for k in range(y_NK.shape[1]))
        plain = [np.log(y_NK[:, k] / f[:, k]) - m.predict(x) for k, m in enumerate(members)]
        return cls(members, har, tuple(float(0.5 * np.log(np.exp(2 * r).mean())) for r in plain))

    def forecast(self, newest_NF: NDArray[np.float32]) -> Floats:
        """f_h, (N, K)."""
        f = self.har.forecast(ln_lags(newest_NF))
        x = scale_free(newest_NF, f[:, 1])
        factors = [np.exp(m.predict(x) + s) for m, s in zip(self.members, self.ln_scales, strict=True)]
        return np.asarray(f * np.column_stack(factors))


def scale_free(newest_NF: NDArray[np.float32], f15_N: Floats) -> Floats:
    """Newest rows as the model sees them: volatilities as ln(x / HAR), returns over the last hour's volatility."""
    x = newest_NF.astype(np.float64)
    hour = np.maximum(x[:, FORECAST_BAR.index("realized_vol_60m")], LAG_FLOOR)
    for i, kind in enumerate(column_kinds()):
        if kind == "volatility":
            x[:, i] = np.log(np.maximum(x[:, i], LAG_FLOOR) / f15_N)
        elif kind == "return":
            x[:, i] = x[:, i] / hour
    return x


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


def _regressor(seed: int) -> Any:
    from sklearn.ensemble import HistGradientBoostingRegressor

    return HistGradientBoostingRegressor(
        max_iter=200, learning_rate=0.05, max_leaf_nodes=15, min_samples_leaf=200, random_state=seed,
    )


def boosted_chance(x: Floats, outcome: Floats, seed: int = 0) -> Any:
    """Gradient boosting of a 0/1 outcome; `.predict_proba(x)[:, 1]` is the chance."""
    from sklearn.ensemble import HistGradientBoostingClassifier

    return HistGradientBoostingClassifier(
        max_iter=200, learning_rate=0.05, max_leaf_nodes=15, min_samples_leaf=200, random_state=seed,
    ).fit(x, outcome)


def logistic_chance(x: Floats, outcome: Floats) -> Any:
    """Logistic regression on standardised, clipped inputs with unknowns at their mean."""
    from sklearn.impute import SimpleImputer
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import FunctionTransformer, StandardScaler

    return make_pipeline(
        SimpleImputer(), StandardScaler(), FunctionTransformer(np.clip, kw_args={"a_min": -5, "a_max": 5}),
        LogisticRegression(C=0.1, max_iter=500),
    ).fit(x, outcome)


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

    def chance(self, last_return: NDArray[np.floating[Any]]) -> Floats:
        return np.where(last_return > 0, self.after_up, np.where(last_return < 0, self.after_down, self.after_flat))
