"""Kept: a fitted, calibrated forecaster as plain arrays in one file, to be asked again without fitting it anew.

    keep(path, "gradient_boosting", model, facts)
    model, facts = read(path)

It serves long runs that stop and go on (`training.walkforward`); what is served is an artefact (`training.export`).
Arrays and one line of JSON only: reading a file runs nothing that is in it.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

from training.forecaster import Forecaster, bar_columns
from training.model import Lstm, Transformer
from training.scoring import Facts
from training.tabular import (
    EwmaForecaster,
    ForestForecaster,
    HarForecaster,
    IsolationForecaster,
    LinearForecaster,
    RecentForecaster,
    ReversalForecaster,
    TreeForecaster,
)
from training.trees import TreeBank

Blank = Callable[[Mapping[str, Any]], Forecaster]
BLANK: Mapping[str, Blank] = {
    "transformer": lambda _: Transformer(bar_columns()),
    "lstm": lambda _: Lstm(bar_columns()),
    "gradient_boosting": lambda _: TreeForecaster(bar_columns()),
    "random_forest": lambda _: ForestForecaster(bar_columns()),
    "recent_direction": lambda _: RecentForecaster(bar_columns()),
    "logistic": lambda state: LinearForecaster(bar_columns(), len(state["center_X"])),
    "isolation_forest": lambda _: IsolationForecaster(bar_columns()),
    "har": lambda _: HarForecaster(bar_columns()),
    "ewma": lambda _: EwmaForecaster(bar_columns()),
    "reversal": lambda _: ReversalForecaster(bar_columns()),
}
"""Each model before it is filled, by its name; a stack is made of its members again instead."""


def keep(path: Path, name: str, model: Forecaster, facts: Facts) -> None:
    """Write the whole file or nothing."""
    arrays: dict[str, Any] = {f"state/{key}": value.numpy() for key, value in model.state_dict().items()}
    arrays |= {} if model.bank is None else {f"trees/{key}": value for key, value in model.bank.arrays().items()}
    about = json.dumps({
        "model": name, "return_bounds": facts.return_bounds, "ood": facts.ood, "speaks_of": facts.speaks_of,
    })
    made = path.with_suffix(".tmp.npz")
    np.savez_compressed(made, about=np.array(about), **arrays)
    made.rename(path)


def read(path: Path) -> tuple[Forecaster, Facts]:
    """The forecaster as it was, bit for bit."""
    with np.load(path, allow_pickle=False) as held:
        about = json.loads(str(held["about"]))
        state, trees = (
            {key.split("/", 1)[1]: held[key] for key in held.files if key.startswith(kind)}
            for kind in ("state/", "trees/")
        )
    model = BLANK[about["model"]](state)
    model.load_state_dict({key: torch.from_numpy(value) for key, value in state.items()})
    if trees:
        model.bank = TreeBank.of_arrays(trees)
    return model.eval(), Facts(tuple(about["return_bounds"]), about["ood"], tuple(about["speaks_of"]))
