"""Verbs: what `candlewick train`, `evaluate` and `model verify` do."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Any

from feature_repo.contracts import ModelRefused
from feature_repo.logs import configure
from feature_repo.settings import Settings, load_settings


def train(quick: bool, simulated: bool, seeds: int, install: Path | None) -> dict[str, Any]:
    """One training run; its report. Without the data folder it learns from a simulated market and says so."""
    from training.klines import KLINES
    from training.train import TrainConfig, run

    settings = _ready("train")
    simulated = simulated or (quick and not (settings.data_dir / KLINES).exists())
    config = TrainConfig(quick=quick, simulated=simulated, seeds=(0,) if quick else tuple(range(seeds)))
    return run(settings, config, _command(quick, simulated, seeds, install), install)


def evaluate(folder: Path | None, simulated: bool) -> dict[str, Any]:
    """Scores of an artefact on the test part of the same history."""
    from training.card import read_meta
    from training.export import verify as check
    from training.train import TrainConfig, score, training_set

    settings = _ready("evaluate")
    folder = folder or settings.model_dir
    check(folder, probe_ms=False)
    config = TrainConfig(simulated=simulated)
    table = training_set(settings, config)
    trained_on = read_meta(folder)["dataset"]["identity"]
    return {"folder": str(folder), "dataset": table.identity, "same_dataset": trained_on == table.identity,
            **score(table, folder, config)}


def verify(folder: Path | None) -> tuple[dict[str, Any], bool]:
    """The check's report and whether it passed."""
    from training.export import verify as check

    folder = folder or load_settings().model_dir
    try:
        return check(folder), True
    except ModelRefused as error:
        return {"folder": str(folder), "verified": False, "reason": str(error)}, False


def rebuild(named: str, output: Path | None) -> dict[str, Any]:
    """A training set again, as `training.datasets.rebuild` compares it."""
    from training import datasets
    from training.train import TrainConfig, training_set

    def make(settings: Settings, recipe: datasets.Recipe) -> Any:
        config = TrainConfig(quick=recipe.quick, simulated=recipe.simulated, through=recipe.through)
        return training_set(settings, config)

    return datasets.rebuild(_ready("dataset"), named, make, output)


def _ready(component: str) -> Settings:
    settings = load_settings()
    configure(component, settings.log_level)
    return settings


def _command(quick: bool, simulated: bool, seeds: int, install: Path | None) -> str:
    words = ["candlewick", "train", *(["--quick"] if quick else ["--seeds", str(seeds)])]
    words += ["--simulated"] if simulated else []
    return shlex.join([*words, *(["--install", str(install)] if install else [])])
