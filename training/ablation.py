"""Ablation: what each feature family is worth: the same model fitted without it, on the same rows, block by block.

    found = run(Ablation(files, form, model="gradient_boosting"), folder, say)
    found["families"]["calendar"]["without_minus_with"]["qlike_15"]     # above 0: QLIKE rises without it, it helps

Families are those that `FEATURES` declares, of the columns that the model reads. A withheld column is null in every
row, learnt from, calibrated on and scored. Of the volatilities from which HAR's forecast, the spike's threshold and the
scale of returns are made, every row has the training rows' median instead: without them there is no forecast at all.
The trailing percentile that the risk is relative to is no feature of a row and stays. Blocks, their history and the
parts are those of `training.walkforward`; a result is a file of one (block, family), so a stopped run goes on.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from feature_repo.features import FEATURES, FORECAST_BAR
from feature_repo.progress import Say
from training.bar_files import BarForm, read_bars
from training.baselines import HAR_LAGS
from training.card_scores import figure
from training.dataset import KnownRows, TrainingSet, assemble, kernel_rows, pooled
from training.datasets import Keep
from training.evaluation import calibrated_facts, iso
from training.fitting import FitConfig
from training.models import MODELS, fit_model
from training.scored import Scored
from training.scored_file import joined
from training.scores import differences
from training.scoring import Answers, Facts, model_answers, scored_rows
from training.walkforward import blocks_of, identity_of, windows_before

Found = dict[str, Any]
WHOLE = "nothing"
"""What is withheld of the model that everything is compared with."""


@dataclass(frozen=True)
class Ablation:
    """Which model, on which blocks."""

    files: Sequence[str]
    form: BarForm = field(default_factory=BarForm)
    model: str = "gradient_boosting"
    seed: int = 0
    blocks: int = 2
    days: int = 20
    quick: bool = False
    """Small fits, for rehearsals and tests."""

    def __post_init__(self) -> None:
        if self.model not in MODELS:
            raise ValueError(f"expected a model of {', '.join(MODELS)}, found {self.model}")

    def config(self) -> FitConfig:
        """The budget of every fit."""
        plain = FitConfig(seed=self.seed)
        return replace(plain, epochs=1, stride=10, batch=256, trees=30) if self.quick else plain


def families() -> dict[str, tuple[str, ...]]:
    """Family → its columns among `FORECAST_BAR`.

    >>> families()["calendar"][0], [name for name, columns in families().items() if "return_1m" in columns]
    ('time_of_day_sin_1d', ['price'])
    """
    of = {feature.name: feature.family for feature in FEATURES}
    names = dict.fromkeys(of[column] for column in FORECAST_BAR)
    return {name: tuple(column for column in FORECAST_BAR if of[column] == name) for name in names}


def withheld(table: TrainingSet, columns: Sequence[str]) -> TrainingSet:
    """The set without what these columns say; rows, parts and labels stay."""
    values = table.values_MF.copy()
    newest = table.newest(table.part("train"))
    for name in columns:
        column = FORECAST_BAR.index(name)
        known = np.isfinite(values[:, column])
        values[:, column] = np.nan
        if name in HAR_LAGS:
            values[known, column] = np.nanmedian(newest[:, column])
    return replace(table, values_MF=values)


def run(plan: Ablation, folder: Path, say: Say, keep: Keep | None = None) -> Found:
    """Fit and score what is missing in `folder`; what every family is worth. Raises `ValueError` for bars and plans.

    `keep`: what to do with each block's set, of which nothing is withheld.
    """
    rows = pooled([kernel_rows(bars) for bars in read_bars(plan.files, plan.form)])
    close_ns = np.sort(rows.close_ns)
    blocks = blocks_of(close_ns, plan.blocks, plan.days)
    place = folder / identity(plan, rows)
    place.mkdir(parents=True, exist_ok=True)
    held: dict[str, list[Scored]] = {name: [] for name in (WHOLE, *families())}
    for b, block in enumerate(blocks):
        table = assemble(rows, windows_before(close_ns, block))
        if keep is not None:
            keep(table)
        for name, scored in _of_block(plan, table, place, b, say):
            held[name].append(scored)
    return {
        "folder": str(place), "model": plan.model, "seed": plan.seed,
        "blocks": [{"from": iso(first), "to": iso(last)} for first, last in blocks],
        **worth({name: joined(parts) for name, parts in held.items()}),
    }


def identity(plan: Ablation, rows: KnownRows) -> str:
    """Names everything that decides a result."""
    return identity_of(rows, {"blocks": plan.blocks, "days": plan.days, "model": plan.model,
                              "budget": asdict(plan.config()), "families": families()})


def _of_block(plan: Ablation, table: TrainingSet, place: Path, b: int, say: Say) -> Iterator[tuple[str, Scored]]:
    """The block's decisions by the whole model and by each that lacks a family."""
    at = table.part("test")
    for name, columns in {WHOLE: (), **families()}.items():
        path = place / f"block{b}-without-{name}.npz"
        if not path.exists():
            say(f"block {b} of {plan.blocks}: {plan.model} without {name}")
            _keep(path, *answers_without(plan.model, table, columns, plan.config()))
        answers, bounds = _kept(path)
        # Outcomes, and what the last hour was, are those of the whole rows.
        yield name, scored_rows(name, table, at, answers, Facts(bounds, None, MODELS[plan.model].speaks_of))


def answers_without(
    model: str, table: TrainingSet, columns: Sequence[str], config: FitConfig,
) -> tuple[Answers, tuple[float, ...]]:
    """What a model fitted and calibrated without these columns says of the test part, and its return bounds."""
    rows = withheld(table, columns)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "All-NaN slice")  # a withheld column has no quantiles: that is what is meant
        fitted = fit_model(model, rows, config)
        facts = calibrated_facts(model, fitted.model, rows)
    return model_answers(fitted.model, rows, rows.part("test")), facts.return_bounds


def _keep(path: Path, answers: Answers, bounds: tuple[float, ...]) -> None:
    made = path.with_suffix(".tmp.npz")
    held: dict[str, Any] = {**answers, "return_bounds": np.array(bounds)}
    np.savez_compressed(made, **held)
    made.rename(path)


def _kept(path: Path) -> tuple[Answers, tuple[float, ...]]:
    with np.load(path, allow_pickle=False) as held:
        answers = dict(held)
    return answers, tuple(answers.pop("return_bounds").tolist())


def worth(scored: dict[str, Scored]) -> Found:
    """Every family by paired differences to the whole model, and the page's `ablation`: QLIKE at 15 minutes."""
    whole = scored[WHOLE]
    found: dict[str, Found] = {
        name: {"columns": list(columns), "without_minus_with": differences(scored[name], whole)}
        for name, columns in families().items()
    }
    return {
        "decisions": len(whole), "days": len(np.unique(whole.days)), "families": found,
        "ablation": {name: each["without_minus_with"]["qlike_15"] for name, each in found.items()
                     if "qlike_15" in each["without_minus_with"]},
    }


def text(found: Found) -> str:
    """For people: a line a family, in what it is worth to QLIKE at 15 minutes."""
    lines = [f"{found['model']}, {found['decisions']:,} minutes of {found['days']} days; without minus with"]
    order = sorted(found["families"], key=lambda name: -found["ablation"].get(name, {"value": 0.0})["value"])
    for name in order:
        held = found["families"][name]["without_minus_with"]
        told = [f"{key} {figure({key: held[key]['value'], 'interval': {key: held[key]}}, key, sign='+')}"
                for key in ("qlike_5", "qlike_15", "qlike_60", "auc_risk", "auc_spike_15", "auc_up") if held.get(key)]
        lines.append(f"{name}: {'; '.join(told)}")
    return "\n".join(lines)
