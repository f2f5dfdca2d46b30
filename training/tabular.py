"""Tabular models behind the forecaster's interface: HAR, EWMA, reversal, linear, trees of several kinds.

    model = fit_boosting(table, Budget(seed=0))       # every fit: (table, budget) → an uncalibrated Forecaster

What a model does not speak of is HAR's (volatility) or a constant (chances); `training.models` says what each is for.
All are fitted on every minute of the train part, as a network's epochs together are; boosting stops early on the
calibration part, which is purged of it. Direction by recency learns from the days that stop the others too; direction
is calibrated on the days between (`training.calibration`). Volatility is fitted as its ratio to HAR.

Shapes: as `training.forecaster`. Sources: Corsi 2009; RiskMetrics 1996; Breiman 2001; Friedman 2001; Liu et al. 2008.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from feature_repo.contracts import DAY_NS, MINUTE_NS
from feature_repo.grid import Floats, Ints
from feature_repo.progress import step
from training.baselines import HALF_LIVES, LAG_FLOOR, Reversal
from training.calibration import recency
from training.dataset import PURGE_NS, TrainingSet
from training.fitting import volatilities, with_har
from training.forecaster import (
    CHANCES,
    CLIP,
    FLOOR,
    HEADS,
    OF_DIRECTION,
    Columns,
    Forecaster,
    Raw,
    bar_columns,
    zero_unknown,
)
from training.metrics import qlike
from training.targets import HORIZONS
from training.trees import Singles, Tree, TreeBank

HALF_BAND = 0.5
"""The band's half-width in logs before calibration, which moves both ends."""
BATCH = 8192
RECENT_TREES = 120
"""Of direction by recency, per output."""


@dataclass(frozen=True)
class Budget:
    """What one fit may use."""

    seed: int = 0
    stride: int = 1
    """Minutes between training rows."""
    trees: int = 400
    """Of boosting per output, at most; it stops when the calibration part no longer gains."""
    patience: int = 20
    learning_rate: float = 0.05
    half_life_days: float = 720.0
    """Of a row's weight in direction by recency."""


class HarForecaster(Forecaster):
    """HAR's volatilities; spike and risk by the distance of the forecast from their thresholds; no direction."""

    def heads(self, sequence_BLF: Tensor, context_B1: Tensor, trees_BT: Tensor) -> Raw:
        return self.plain(sequence_BLF, context_B1, self.ln_f(sequence_BLF), trees_BT)

    def ln_f(self, sequence_BLF: Tensor) -> Tensor:
        """ln of the three volatilities, (B, K)."""
        return self.ln_har(sequence_BLF[:, -1])

    def plain(self, sequence_BLF: Tensor, context_B1: Tensor, ln_f_BK: Tensor, _trees_BT: Tensor) -> Raw:
        """Everything that follows from a volatility forecast alone."""
        newest_BF = sequence_BLF[:, -1]
        ln_har_BK = self.ln_har(newest_BF)
        ln_spike_B1, ln_risk_B = self.thresholds(newest_BF, ln_har_BK, context_B1)
        band_12 = torch.tensor([[-HALF_BAND, HALF_BAND]], device=ln_f_BK.device)
        over_risk_B1 = ln_f_BK[:, 1:2] - ln_risk_B.unsqueeze(1)
        odds_B1 = self.ln_odds_up(sequence_BLF).unsqueeze(1)
        return Raw(ln_har_BK, ln_f_BK, band_12, torch.cat([odds_B1, torch.zeros_like(odds_B1)], dim=1),
                   torch.cat([ln_f_BK - ln_spike_B1, over_risk_B1], dim=1))

    def ln_odds_up(self, sequence_BLF: Tensor) -> Tensor:
        """Direction before calibration, (B,)."""
        return torch.zeros_like(sequence_BLF[:, -1, 0])


class EwmaForecaster(HarForecaster):
    """Weighted squares of the sequence's minutes; what the weights leave for older ones is on the last four hours."""

    def __init__(self, columns: Columns) -> None:
        super().__init__(columns)
        self.register_buffer("memory_K", torch.full((3,), 0.95))
        self.register_buffer("ln_level_K", torch.zeros(3))

    def ln_f(self, sequence_BLF: Tensor) -> Tensor:
        length = sequence_BLF.shape[1]
        returns_BL = sequence_BLF[:, :, self.columns.index("return_1m")]
        older_B = sequence_BLF[:, -1, self.columns.index("realized_vol_4h")] ** 2
        older_B = torch.where(torch.isnan(older_B), torch.exp(2 * self.ln_har(sequence_BLF[:, -1])[:, 2]), older_B)
        squares_BL = torch.where(torch.isnan(returns_BL), older_B[:, None], returns_BL**2)
        age_L = torch.arange(length - 1, -1, -1, device=sequence_BLF.device, dtype=sequence_BLF.dtype)
        weights_LK = (1 - self.memory_K) * self.memory_K ** age_L[:, None]
        variance_BK = squares_BL @ weights_LK + older_B[:, None] * self.memory_K**length
        return 0.5 * torch.log(variance_BK.clamp_min(FLOOR**2)) + self.ln_level_K


class ReversalForecaster(HarForecaster):
    """P(up) by the sign of the last minute, as counted in training; volatility as HAR."""

    def __init__(self, columns: Columns) -> None:
        super().__init__(columns)
        self.register_buffer("ln_odds_3", torch.zeros(3))

    def ln_odds_up(self, sequence_BLF: Tensor) -> Tensor:
        last_B = sequence_BLF[:, -1, self.columns.index("return_1m")]
        after_fall, after_flat, after_rise = self.ln_odds_3.unbind()
        return torch.where(last_B > 0, after_rise, torch.where(last_B < 0, after_fall, after_flat))


class LinearForecaster(HarForecaster):
    """Linear in the scaled tabular inputs: least squares for volatility, logistic regression for each chance."""

    def __init__(self, columns: Columns, inputs: int) -> None:
        super().__init__(columns)
        for name, value in (("center_X", torch.zeros(inputs)), ("scale_X", torch.ones(inputs))):
            self.register_buffer(name, value)
        self.register_buffer("weights_XT", torch.zeros(inputs + 1, 3 + len(CHANCES)))

    def scaled_tabular(self, x_BX: Tensor) -> Tensor:
        """Standardised, cut and 0 where null."""
        z_BX = zero_unknown((x_BX - self.center_X) / self.scale_X)
        return z_BX.clamp(-CLIP, CLIP)

    def heads(self, sequence_BLF: Tensor, context_B1: Tensor, trees_BT: Tensor) -> Raw:
        z_BX = self.scaled_tabular(self.tabular(sequence_BLF, context_B1))
        out_BT = z_BX @ self.weights_XT[1:] + self.weights_XT[0]
        return _corrected(self, sequence_BLF, context_B1, out_BT, trees_BT)


class TreeForecaster(HarForecaster):
    """Three corrections of ln HAR and six logits, each a sum over trees."""

    answers = HEADS

    def heads(self, sequence_BLF: Tensor, context_B1: Tensor, trees_BT: Tensor) -> Raw:
        return _corrected(self, sequence_BLF, context_B1, trees_BT, trees_BT)


class RecentForecaster(HarForecaster):
    """Odds of a rise and of a flat minute, each a sum over trees; the rest as HAR."""

    learns_late = True
    answers = OF_DIRECTION

    def heads(self, sequence_BLF: Tensor, context_B1: Tensor, trees_BT: Tensor) -> Raw:
        raw = self.plain(sequence_BLF, context_B1, self.ln_f(sequence_BLF), trees_BT)
        return replace(raw, direction_B2=trees_BT)


class IsolationForecaster(HarForecaster):
    """Risk and spikes from how quickly random cuts isolate a row: anomaly, not a forecast; volatility as HAR."""

    def __init__(self, columns: Columns) -> None:
        super().__init__(columns)
        self.register_buffer("usual", torch.zeros(()))
        self.register_buffer("spread", torch.ones(()))

    def heads(self, sequence_BLF: Tensor, context_B1: Tensor, trees_BT: Tensor) -> Raw:
        raw = self.plain(sequence_BLF, context_B1, self.ln_f(sequence_BLF), trees_BT)
        return replace(raw, chances_B4=((self.usual - trees_BT[:, :1]) / self.spread).expand(-1, 4))


def _corrected(
    model: HarForecaster, sequence_BLF: Tensor, context_B1: Tensor, out_BT: Tensor, trees_BT: Tensor,
) -> Raw:
    """HAR times e^out for volatilities, the rest of `out` as logits in the order of `CHANCES`."""
    ln_f_BK = model.ln_har(sequence_BLF[:, -1]) + out_BT[:, :3]
    plain = model.plain(sequence_BLF, context_B1, ln_f_BK, trees_BT)
    return replace(plain, direction_B2=out_BT[:, 3:5], chances_B4=out_BT[:, 5:])


# --- fits -----------------------------------------------------------------------------------------------------------


def fit_har(table: TrainingSet, budget: Budget) -> Forecaster:
    """HAR alone."""
    return with_har(HarForecaster(bar_columns()), table, budget.stride)


def fit_ewma(table: TrainingSet, budget: Budget) -> Forecaster:
    """Half-life and level of each horizon by QLIKE on the training rows."""
    model = EwmaForecaster(bar_columns())
    with_har(model, table, budget.stride)
    at = table.part("train", budget.stride)
    y_NK = volatilities(table, at)
    scored: list[list[tuple[float, float, float]]] = [[], [], []]
    for half_life in HALF_LIVES:
        memory = 0.5 ** (1 / half_life)
        model.memory_K.fill_(memory)
        f_NK = np.exp(over(table, at, lambda s, _c: model.ln_f(s)).astype(np.float64))
        for k in range(3):
            level = float(np.sqrt(np.mean((y_NK[:, k] / f_NK[:, k]) ** 2)))
            scored[k].append((qlike(y_NK[:, k], level * f_NK[:, k]), memory, np.log(level)))
    best = [min(each) for each in scored]
    model.memory_K.copy_(torch.tensor([b[1] for b in best]))
    model.ln_level_K.copy_(torch.tensor([b[2] for b in best]))
    return model


def fit_reversal(table: TrainingSet, budget: Budget) -> Forecaster:
    """The odds of a rise after a fall, a flat minute and a rise."""
    model = ReversalForecaster(bar_columns())
    with_har(model, table, budget.stride)
    at = table.part("train", budget.stride)
    at = at[np.isfinite(table.targets["up"][at])]
    counted = Reversal.fit(table.newest(at)[:, model.columns.index("return_1m")], table.targets["up"][at])
    p = np.array([counted.after_down, counted.after_flat, counted.after_up])
    model.ln_odds_3.copy_(torch.from_numpy(np.log(p / (1 - p))))
    return model


def fit_logistic(table: TrainingSet, budget: Budget) -> Forecaster:
    """Logistic regressions with scaling, and ridge regression of ln(RV / HAR)."""
    from sklearn.linear_model import LogisticRegression, Ridge

    at = table.part("train", budget.stride)
    front = with_har(HarForecaster(bar_columns()), table, budget.stride)
    x_NX = tabular(front, table, at)
    model = LinearForecaster(bar_columns(), x_NX.shape[1])
    with_har(model, table, budget.stride)
    low, center, high = np.nanquantile(x_NX, [0.16, 0.5, 0.84], axis=0)
    model.center_X.copy_(torch.from_numpy(np.nan_to_num(center)))
    model.scale_X.copy_(torch.from_numpy(np.where(high > low, (high - low) / 2, 1.0)))
    z_NX = model.scaled_tabular(torch.from_numpy(x_NX)).double().numpy()
    columns = []
    for target in (_ln_ratios(table, at, front)).T:
        line = Ridge(alpha=10.0).fit(z_NX, target)
        columns.append(np.append(line.intercept_, line.coef_))
    for name in CHANCES:
        known, y = _known(table, at, name)
        if len(np.unique(y)) < 2:
            columns.append(np.zeros(z_NX.shape[1] + 1))
            continue
        curve = LogisticRegression(C=0.1, max_iter=500).fit(z_NX[known], y)
        columns.append(np.append(curve.intercept_, curve.coef_[0]))
    model.weights_XT.copy_(torch.from_numpy(np.column_stack(columns)))
    return model


def fit_boosting(table: TrainingSet, budget: Budget) -> Forecaster:
    """Histogram boosting of each output: gamma deviance (which is QLIKE) for volatilities, log loss for chances."""
    at, tune = table.part("train", budget.stride), table.stopping(5)
    model = with_har(TreeForecaster(bar_columns()), table, budget.stride)
    x, x_tune = tabular(model, table, at), tabular(model, table, tune)
    members: list[Any] = []
    told, outputs = f"gradient boosting, seed {budget.seed}", len(HORIZONS) + len(CHANCES)
    for y, y_tune in zip(_ln_ratios(table, at, model).T, _ln_ratios(table, tune, model).T, strict=True):
        step(told, len(members), outputs)
        members.append(_stopped(_regressor(budget), (x, np.exp(2 * y)), (x_tune, np.exp(2 * y_tune))))
    for name in CHANCES:
        step(told, len(members), outputs)
        (known, y), (known_tune, y_tune) = _known(table, at, name), _known(table, tune, name)
        members.append(_stopped(_classifier(budget), (x[known], y), (x_tune[known_tune], y_tune)))
    step(told, outputs, outputs)
    bank = TreeBank.of_boosting(members)
    # The gamma model's log is that of a variance, twice that of a volatility.
    trees = tuple(_scaled(tree, 0.5) if tree.outputs[0] < 3 else tree for tree in bank.trees)
    model.bank = TreeBank(trees, bank.base * np.where(np.arange(len(bank.base)) < 3, 0.5, 1.0), bank.inputs)
    return model


def fit_recent(table: TrainingSet, budget: Budget) -> Forecaster:
    """Boosting of direction alone, where a day counts half as much as one `half_life_days` later: bounces become
    momentum within years (docs/experiments.md, 11). It learns from the days that stop the other fits, too, for they are
    the newest; a fixed number of trees, so that no days stop its own.
    """
    late = np.setdiff1d(table.stopping(budget.stride), table.weighing(budget.stride))
    # Returns of a day that calibrates reach into the first minutes of the next.
    late = late[(table.close_ns[late] - MINUTE_NS) % DAY_NS >= PURGE_NS]
    at = np.concatenate([table.part("train", budget.stride), late])
    model = with_har(RecentForecaster(bar_columns()), table, budget.stride)
    x, weight = tabular(model, table, at), recency(table.close_ns[at], budget.half_life_days)
    members: list[Any] = []
    for name in OF_DIRECTION:
        step(f"direction by recency, seed {budget.seed}", len(members), len(OF_DIRECTION))
        known, y = _known(table, at, name)
        plain = _classifier(budget, max_iter=min(RECENT_TREES, budget.trees), early_stopping=False)
        members.append(_fitted(plain, x[known], y, sample_weight=weight[known]))
    step(f"direction by recency, seed {budget.seed}", len(OF_DIRECTION), len(OF_DIRECTION))
    model.bank = TreeBank.of_boosting(members)
    return model


def fit_forest(table: TrainingSet, budget: Budget) -> Forecaster:
    """100 trees of depth 10: one forest of volatilities, spikes and risk, one of direction."""
    from sklearn.ensemble import RandomForestRegressor

    at = table.part("train", budget.stride)
    model = with_har(ForestForecaster(bar_columns()), table, budget.stride)
    x = tabular(model, table, at)
    up = table.targets["up"][at]
    chances = [table.targets[name][at] for name in CHANCES[2:]]
    y = np.column_stack([_ln_ratios(table, at, model), *chances])

    def grown(outcome: Floats) -> Any:
        known = np.isfinite(outcome.reshape(len(outcome), -1)).all(axis=1)
        forest = RandomForestRegressor(
            100, max_depth=10, min_samples_leaf=50, max_features=0.33, max_samples=0.1, random_state=budget.seed,
        )
        return forest.fit(x[known], outcome[known])

    model.bank = TreeBank.of_forests([(grown(y), (0, 1, 2, 5, 6, 7, 8)), (grown(up), (3,))])
    return model


class ForestForecaster(TreeForecaster):
    """A forest answers chances, not logits."""

    def heads(self, sequence_BLF: Tensor, context_B1: Tensor, trees_BT: Tensor) -> Raw:
        p_BT = trees_BT[:, 3:].clamp(1e-3, 1 - 1e-3)
        flat_BT = torch.log(p_BT / (1 - p_BT))
        zero_B1 = torch.zeros_like(flat_BT[:, :1])
        out_BT = torch.cat([trees_BT[:, :3], flat_BT[:, :1], zero_B1, flat_BT[:, 2:]], dim=1)
        return _corrected(self, sequence_BLF, context_B1, out_BT, trees_BT)


def fit_isolation(table: TrainingSet, budget: Budget) -> Forecaster:
    """100 trees on the tabular inputs, no label."""
    from sklearn.ensemble import IsolationForest

    at = table.part("train", budget.stride)
    model: IsolationForecaster = with_har(IsolationForecaster(bar_columns()), table, budget.stride)
    x = tabular(model, table, at)
    bank = TreeBank.of_isolation(IsolationForest(n_estimators=100, random_state=budget.seed).fit(x))
    length = bank.answer(x)[:, 0].astype(np.float64)
    # In standard deviations: a length of eleven as log odds would start the calibration where it has no slope.
    model.usual.fill_(float(length.mean()))
    model.spread.fill_(float(max(length.std(), 1e-6)))
    model.bank = bank
    return model


# --- what the fits share --------------------------------------------------------------------------------------------


def over(table: TrainingSet, at: Ints, ask: Any) -> Singles:
    """`ask(sequence, context)` over many rows."""
    with torch.no_grad():
        parts = [
            ask(torch.from_numpy(table.sequences(rows)), torch.from_numpy(table.context[rows, None])).numpy()
            for rows in np.split(at, range(BATCH, len(at), BATCH))
        ]
    return np.concatenate(parts)


def tabular(model: Forecaster, table: TrainingSet, at: Ints) -> Singles:
    """The tabular inputs of rows, (N, X)."""
    return over(table, at, model.tabular)


def _ln_ratios(table: TrainingSet, at: Ints, model: Forecaster) -> Floats:
    """ln(RV / HAR), (N, K)."""
    ln_har = np.asarray(over(table, at, lambda s, _c: model.ln_har(s[:, -1])), dtype=np.float64)
    return np.asarray(np.log(np.maximum(volatilities(table, at), LAG_FLOOR)) - ln_har)


def _known(table: TrainingSet, at: Ints, name: str) -> tuple[Ints, Floats]:
    """Positions within `at` whose outcome is known, and the outcomes."""
    known = np.flatnonzero(np.isfinite(table.targets[name][at]))
    return known, table.targets[name][at][known]


@dataclass(frozen=True)
class _Constant:
    """A chance that the training rows say nothing about: all of them had the same outcome."""

    n_features_in_: int
    _baseline_prediction: float
    _predictors: tuple[()] = ()


def _stopped(member: Any, train: tuple[Singles, Floats], tune: tuple[Singles, Floats]) -> Any:
    """Fitted until the other rows no longer gain."""
    return _fitted(member, *train, X_val=tune[0], y_val=tune[1])


def _fitted(member: Any, x: Singles, y: Floats, **how: Any) -> Any:
    if (y == y[0]).all():
        p = (y.sum() + 0.5) / (len(y) + 1)
        return _Constant(x.shape[1], float(np.log(p / (1 - p))))
    # scikit-learn has no bins for what is null throughout; no tree will read it.
    return member.fit(np.where(np.isnan(x).all(axis=0), np.float32(0.0), x), y, **how)


def _settings(budget: Budget, **others: Any) -> dict[str, Any]:
    return {
        "max_iter": budget.trees, "learning_rate": budget.learning_rate, "max_leaf_nodes": 31, "min_samples_leaf": 200,
        "l2_regularization": 1.0, "early_stopping": True, "n_iter_no_change": budget.patience, "tol": 0.0,
        "random_state": budget.seed, **others,
    }


def _regressor(budget: Budget) -> Any:
    from sklearn.ensemble import HistGradientBoostingRegressor

    return HistGradientBoostingRegressor(loss="gamma", **_settings(budget))


def _classifier(budget: Budget, **others: Any) -> Any:
    from sklearn.ensemble import HistGradientBoostingClassifier

    return HistGradientBoostingClassifier(**_settings(budget, **others))


def _scaled(tree: Tree, factor: float) -> Tree:
    return replace(tree, value=tree.value * factor)
