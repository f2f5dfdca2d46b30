"""Models: every forecaster by name, fitted the same way: (training set, seed) → an uncalibrated `Forecaster`.

    fitted = fit_model("gradient_boosting", table, seed=0)
    calibrate(fitted.model, table)

    >>> sorted(MODELS)[:3]
    ['ewma', 'gradient_boosting', 'har']
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Literal

from threadpoolctl import threadpool_limits

from feature_repo.progress import step
from training import tabular
from training.calibration import calibrate
from training.dataset import TrainingSet
from training.fitting import FitConfig, Fitted, fit
from training.forecaster import HEADS, OF_DIRECTION, Forecaster
from training.model import Lstm, Network, Transformer
from training.stack import Stack, fit_stack
from training.tabular import Budget

Family = Literal["direction", "volatility", "spike", "risk"]
ALL: tuple[Family, ...] = ("direction", "volatility", "spike", "risk")
NETWORKS: Mapping[str, type[Network]] = {"transformer": Transformer, "lstm": Lstm}


@dataclass(frozen=True)
class Learner:
    """A way to fit, and what its forecasts are about; the rest of its outputs is HAR's or a constant."""

    fit: Callable[[TrainingSet, Budget], object] | None
    """None: a network, fitted by `training.fitting`, or the stack of several."""
    speaks_of: tuple[Family, ...] = ALL


@dataclass(frozen=True)
class Member:
    """Of `stack`."""

    model: str
    after: int = 0
    """How far its seed is from the stack's."""
    heads: tuple[str, ...] = HEADS
    """For which it is asked."""


OF_VOLATILITY = tuple(head for head in HEADS if head not in OF_DIRECTION)
"""Volatilities, spikes and risk."""
STACKED: Mapping[str, Member] = {
    # How many minutes are flat has changed tenfold, which recency knows (docs/experiments.md, 3 and 13).
    "gradient_boosting": Member("gradient_boosting", heads=tuple(head for head in HEADS if head != "flat")),
    "recent_direction": Member("recent_direction", heads=OF_DIRECTION),
    "transformer": Member("transformer", heads=OF_VOLATILITY), "transformer_2": Member("transformer", 1, OF_VOLATILITY),
}
MODELS: Mapping[str, Learner] = {
    "stack": Learner(None),
    "transformer": Learner(None),
    "lstm": Learner(None),
    "gradient_boosting": Learner(tabular.fit_boosting),
    "random_forest": Learner(tabular.fit_forest),
    "recent_direction": Learner(tabular.fit_recent, ("direction",)),
    "logistic": Learner(tabular.fit_logistic),
    "isolation_forest": Learner(tabular.fit_isolation, ("spike", "risk")),
    "har": Learner(tabular.fit_har, ("volatility", "spike", "risk")),
    "ewma": Learner(tabular.fit_ewma, ("volatility", "spike", "risk")),
    "reversal": Learner(tabular.fit_reversal, ("direction",)),
}
BASELINES = tuple(name for name in MODELS if name not in {*NETWORKS, "stack"})


def refuse_unknown(name: str) -> None:
    """Raises `ValueError` for a name that is not in `MODELS`: to be asked before years of bars are read."""
    if name not in MODELS:
        raise ValueError(f"expected a model of {', '.join(MODELS)}, found {name}")


def fit_model(name: str, table: TrainingSet, config: FitConfig) -> Fitted:
    """Fit one model. Raises `ValueError` for a name that is not in `MODELS`."""
    refuse_unknown(name)
    if name == "stack":
        return _stack(table, config)
    if name in NETWORKS:
        return fit(table, config, NETWORKS[name])
    began = time.monotonic()
    step(f"fitting {name}, seed {config.seed}")
    budget = Budget(seed=config.seed, stride=config.tabular_stride, trees=config.trees)
    with threadpool_limits(config.threads):
        model = MODELS[name].fit(table, budget)  # type: ignore[misc]
    return Fitted(model, [], time.monotonic() - began)  # type: ignore[arg-type]


def stacked(members: Mapping[str, Forecaster], table: TrainingSet) -> Stack:
    """The members of `STACKED`, fitted and calibrated, weighed."""
    return fit_stack(members, table, {name: member.heads for name, member in STACKED.items()})


def _stack(table: TrainingSet, config: FitConfig) -> Fitted:
    """Every member fitted and calibrated, then weighed."""
    fits = {name: fit_model(member.model, table, replace(config, seed=config.seed + member.after))
            for name, member in STACKED.items()}
    for name, fitted in fits.items():
        step(f"calibrating {name} for the stack")
        calibrate(fitted.model, table)
    began = time.monotonic()
    step("weighing the stack's members")
    stack = stacked({name: fitted.model for name, fitted in fits.items()}, table)
    seconds = sum(fitted.seconds for fitted in fits.values()) + time.monotonic() - began
    return Fitted(stack, fits["transformer"].history, seconds)
