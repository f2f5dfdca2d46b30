"""Walk-forward: models fitted on all before a block of days, scored on the block, block by block.

    run(Plan(files, form, models=("transformer", "gradient_boosting"), seeds=(0, 1, 2, 3, 4)), folder, say)

Blocks are calendar days that have bars, the newest last; history expands: each block is forecast from everything before
it, the last `CALIBRATION_SHARE` of which calibrates. Labels that cross a boundary are purged, and a day is left out
after each. A result is a file of one (block, model, seed), written whole or not at all: stopped, it goes on with what
is missing. The same plan and bars give the same folder; another plan or other bars have another.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from feature_repo.contracts import DAY_NS
from feature_repo.features import FEATURE_SET
from feature_repo.grid import Floats, Ints
from training.bar_files import BarForm, read_bars
from training.dataset import PARTS, PURGE_NS, KnownRows, TrainingSet, Windows, assemble, kernel_rows, pooled
from training.evaluation import calibrated_facts, iso
from training.fitting import FitConfig
from training.metrics import Interval, brier_rows, qlike_loss
from training.models import MODELS, fit_model
from training.scored import Scored
from training.scores import scores
from training.scoring import model_answers, scored_rows
from training.targets import HORIZONS, LABELS
from training.train import CALIBRATION_SHARE

Say = Callable[[str], None]
Found = dict[str, Any]
SEEDLESS = ("har", "ewma", "reversal", "logistic")
"""Fits without chance: one seed says all."""
REFERENCES = ("har", "gradient_boosting")
DRAWS = 1000


@dataclass(frozen=True)
class Plan:
    """What is fitted and scored."""

    files: Sequence[str]
    form: BarForm
    models: Sequence[str] = ()
    """() is all of `MODELS`."""
    seeds: Sequence[int] = (0, 1, 2, 3, 4)
    blocks: int = 6
    days: int = 20
    quick: bool = False
    """Small fits, for rehearsals and tests."""

    def config(self, seed: int) -> FitConfig:
        """Every model's budget: the same rows, the same calibration part to stop by."""
        return FitConfig(seed=seed, epochs=1, stride=10, batch=256, trees=30) if self.quick else FitConfig(seed=seed)

    def names(self) -> tuple[str, ...]:
        """The models. Raises `ValueError` for one that is not there."""
        if unknown := [name for name in self.models if name not in MODELS]:
            raise ValueError(f"expected models of {', '.join(MODELS)}, found {', '.join(unknown)}")
        return tuple(self.models) or tuple(MODELS)


def blocks_of(close_ns: Ints, blocks: int, days: int) -> list[tuple[int, int]]:
    """The last `blocks` of `days` UTC days that have bars, as [first midnight, last midnight after it), oldest first.

    Raises `ValueError` where less than as much again is left to learn from.
    """
    present = np.unique((close_ns - 1) // DAY_NS)
    if len(present) < 2 * blocks * days:
        raise ValueError(
            f"expected bars on at least {2 * blocks * days} days for {blocks} blocks of {days}, found {len(present)}; "
            "ask for fewer or shorter blocks",
        )
    tested = present[-blocks * days:].reshape(blocks, days)
    return [(int(block[0]) * DAY_NS, (int(block[-1]) + 1) * DAY_NS) for block in tested]


def windows_before(close_ns: Ints, block: tuple[int, int]) -> Windows:
    """Everything before a block to learn from, and the block."""
    before = close_ns[close_ns <= block[0]]
    cut = int(before[int((1 - CALIBRATION_SHARE) * len(before))] // DAY_NS * DAY_NS)
    return Windows.between((int(close_ns[0]), cut, block[0], block[1] + PURGE_NS))


def run(plan: Plan, folder: Path, say: Say) -> Found:
    """Fit and score what is missing in `folder`; the table of all. Raises `ValueError` for bars and plans."""
    names = plan.names()
    rows = pooled([kernel_rows(bars) for bars in read_bars(plan.files, plan.form)])
    close_ns = np.sort(rows.close_ns)
    blocks = blocks_of(close_ns, plan.blocks, plan.days)
    place = folder / identity(plan, rows)
    place.mkdir(parents=True, exist_ok=True)
    tasks = [(b, name, seed) for b in range(len(blocks)) for name in names
             for seed in (plan.seeds[:1] if name in SEEDLESS else plan.seeds)]
    for done, (b, name, seed) in enumerate(tasks):
        path = place / f"block{b}-{name}-{seed}"
        if path.with_suffix(".json").exists():
            continue
        say(f"{done}/{len(tasks)}: block {b} ({iso(blocks[b][0])[:10]}), {name}, seed {seed}")
        table = assemble(rows, windows_before(close_ns, blocks[b]))
        _keep(path, *_scored(table, name, plan.config(seed)))
    return {"folder": str(place), **summary(place, blocks, names, plan.seeds)}


def identity(plan: Plan, rows: KnownRows) -> str:
    """Names everything that decides a result but for which models and seeds are asked for."""
    facts = {"content": rows.content, "blocks": plan.blocks, "days": plan.days, "feature_set": FEATURE_SET,
             "labels": LABELS, "budget": asdict(plan.config(0)), "calibration": CALIBRATION_SHARE}
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:16]


def _scored(table: TrainingSet, name: str, config: FitConfig) -> tuple[Scored, Found]:
    fitted = fit_model(name, table, config)
    facts = calibrated_facts(name, fitted.model, table)
    at = table.part("test")
    scored = scored_rows(name, table, at, model_answers(fitted.model, table, at), facts)
    return scored, {"model": name, "seed": config.seed, "seconds": round(fitted.seconds, 1), "set": table.identity,
                    "windows": {part: [iso(ns) for ns in table.window(part)] for part in PARTS},
                    **scores(scored)}


def _keep(path: Path, scored: Scored, found: Found) -> None:
    """Losses of every row for later pairs, then the scores: whoever sees these has both."""
    made = path.with_suffix(".tmp.npz")
    np.savez_compressed(made, **_losses(scored))
    made.rename(path.with_suffix(".npz"))
    text = path.with_suffix(".tmp.json")
    text.write_text(json.dumps(found))
    text.rename(path.with_suffix(".json"))


def _losses(scored: Scored) -> dict[str, Any]:
    """Per decision; NaN where the model does not speak of it."""
    with np.errstate(invalid="ignore"):
        qlikes = {f"qlike_{h}": qlike_loss(scored.rv_NK[:, k], scored.rv_hat_NK[:, k]) for k, h in enumerate(HORIZONS)}
    return {
        "close_ns": scored.close_ns_N, "up": scored.up, "p_up": scored.p_up_N,
        "brier_risk": brier_rows(scored.risky_N, scored.risk_score_N), **qlikes,
    }


def summary(place: Path, blocks: Sequence[tuple[int, int]], names: Sequence[str], seeds: Sequence[int]) -> Found:
    """Median over seeds by block and model, and each model's QLIKE over the references', paired by day."""
    held = {(b, name): [_read(path) for seed in seeds if (path := place / f"block{b}-{name}-{seed}.npz").exists()]
            for b in range(len(blocks)) for name in names}
    pairs = [(name, reference) for reference in REFERENCES if reference in names for name in names
             if name != reference and all(_speaks(held[b, n]) for b in range(len(blocks)) for n in (name, reference))]
    return {
        "blocks": [{"block": b, "from": iso(first), "to": iso(last)} | _block(held, b, names)
                   for b, (first, last) in enumerate(blocks)],
        "ratios": {f"{ours}/{theirs}": {str(h): _over_blocks(held, ours, theirs, len(blocks), h) for h in HORIZONS}
                   for ours, theirs in pairs},
    }


def _read(path: Path) -> dict[str, Any]:
    with np.load(path, allow_pickle=False) as held:
        return dict(held)


def _speaks(seeds: Sequence[dict[str, Any]]) -> bool:
    """Whether a model forecasts volatility."""
    return bool(seeds) and bool(np.isfinite(seeds[0]["qlike_15"]).any())


def _typical(seeds: Sequence[dict[str, Any]], h: int) -> Floats:
    """Losses of the seed whose mean is the median: one model as it would be shipped, not an average of several."""
    order = sorted(range(len(seeds)), key=lambda i: float(np.nanmean(seeds[i][f"qlike_{h}"])))
    return np.asarray(seeds[order[(len(order) - 1) // 2]][f"qlike_{h}"])


def _block(held: dict[tuple[int, str], list[dict[str, Any]]], b: int, names: Sequence[str]) -> Found:
    return {"qlike": {name: {str(h): float(np.nanmean(_typical(held[b, name], h))) for h in HORIZONS}
                      for name in names if _speaks(held[b, name])}}


def _over_blocks(held: dict[tuple[int, str], list[dict[str, Any]]], name: str, reference: str, n: int, h: int) -> Found:
    """Ratio of summed losses over all blocks with a day-block interval, by block, and in how many it is below 1."""
    ours = [_typical(held[b, name], h) for b in range(n)]
    theirs = [_typical(held[b, reference], h) for b in range(n)]
    days = [held[b, name][0]["close_ns"] // DAY_NS for b in range(n)]
    each = [_ratio(*block) for block in zip(ours, theirs, days, strict=True)]
    whole = _ratio(np.concatenate(ours), np.concatenate(theirs), np.concatenate(days))
    return {**whole.as_dict(), "by_block": [one.as_dict() for one in each],
            "better_in": sum(one.value < 1 for one in each), "blocks": n}


def _ratio(ours: Floats, theirs: Floats, days: Ints) -> Interval:
    from training.metrics import day_block_ratio

    known = np.isfinite(ours) & np.isfinite(theirs)
    return day_block_ratio(ours[known], theirs[known], days[known])
