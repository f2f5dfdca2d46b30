"""Walk-forward: models fitted on all before a block of days, scored on the block, block by block.

    run(Plan(files, form, models=("transformer", "gradient_boosting"), seeds=(0, 1, 2, 3, 4)), folder, say)

Blocks are calendar days that have bars, the newest last; history expands: each block is forecast from everything before
it, the last `CALIBRATION_SHARE` of which calibrates. Labels that cross a boundary are purged, and a day is left out
after each. A result is a file of one (block, model, seed), written whole or not at all: stopped, it goes on with what
is missing. The same plan and bars give the same folder; another plan or other bars have another. A stack is made of
the members that stand in the same table: nothing is fitted twice.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass, field, replace
from importlib.metadata import version
from multiprocessing import get_context
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from feature_repo.contracts import DAY_NS
from feature_repo.features import FEATURE_SET
from feature_repo.grid import Ints
from feature_repo.logs import configure
from feature_repo.progress import on_stderr
from feature_repo.settings import load_settings
from training import kept, scored_file
from training.bar_files import BarForm, read_bars
from training.costs import CostModel
from training.dataset import (
    CALIBRATION_SHARE,
    PARTS,
    PURGE_NS,
    KnownRows,
    TrainingSet,
    Windows,
    assemble,
    kernel_rows,
    pooled,
)
from training.datasets import Keep
from training.day_blocks import day_of
from training.evaluation import calibrated_facts, iso, judged
from training.fitting import FitConfig
from training.fitting import place as device
from training.forecaster import Forecaster
from training.metrics import Interval, day_block_ratio, qlike, qlike_loss
from training.models import MODELS, STACKED, fit_model, stacked
from training.reference import out_of_distribution
from training.scored import Scored
from training.scores import differences, scores
from training.scoring import Facts, model_answers, scored_rows
from training.stack import Stack
from training.targets import HORIZONS, LABELS

Say = Callable[[str], None]
Found = dict[str, Any]
ONE_SEED = ("har", "ewma", "reversal", "logistic", "gradient_boosting", "random_forest", "recent_direction")
"""One seed says all: of fits without chance, of boosting, which draws only the rows that say where its bins lie, and of
a forest, whose hundred trees average their draws."""
REFERENCES = ("har", "gradient_boosting")
Task = tuple[int, int, str]
"""Seed, block, model: in this order, so that what stands when it is stopped is whole for the first seeds."""


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
    jobs: int = 1
    """Processes, each with blocks of its own."""

    def config(self, seed: int) -> FitConfig:
        """Every model's budget: the same rows, the same days to stop by."""
        quick = {"epochs": 1, "stride": 10, "batch": 256, "trees": 30} if self.quick else {}
        return replace(FitConfig(seed=seed), **quick)

    def names(self) -> tuple[str, ...]:
        """The models, members before the stack. Raises `ValueError` for one that is not there."""
        if unknown := [name for name in self.models if name not in MODELS]:
            raise ValueError(f"expected models of {', '.join(MODELS)}, found {', '.join(unknown)}")
        return tuple(sorted(self.models or MODELS, key=lambda name: (name == "stack", list(MODELS).index(name))))

    def seeds_of(self, name: str) -> Sequence[int]:
        """Which seeds a model is fitted with."""
        return self.seeds[:1] if name in ONE_SEED else self.seeds

    def tasks(self, blocks: Sequence[int]) -> list[Task]:
        """All there is to do on these blocks."""
        return [(seed, b, name) for seed in self.seeds for b in blocks for name in self.names()
                if seed in self.seeds_of(name)]


def blocks_of(close_ns: Ints, blocks: int, days: int) -> list[tuple[int, int]]:
    """The last `blocks` of `days` UTC days that have bars, as [first midnight, last midnight after it), oldest first.

    Raises `ValueError` where less than as much again is left to learn from.
    """
    present = np.unique(day_of(close_ns))
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
    if not len(before):
        raise ValueError(f"expected bars before {iso(block[0])} to learn from, found none")
    cut = int(before[int((1 - CALIBRATION_SHARE) * len(before))] // DAY_NS * DAY_NS)
    # Whole days, all of them: the embargo is the day before the block.
    return Windows.between((int(close_ns[0]), cut, block[0] - DAY_NS, block[1] + PURGE_NS))


def run(
    plan: Plan, folder: Path, say: Say, costs: CostModel | None = None, keep: Keep | None = None,
) -> Found:
    """Fit and score what is missing in `folder`; the table of all. Raises `ValueError` for bars and plans.

    `keep`: what to do with each block's set before it is fitted on.
    """
    plan.names()
    rows = pooled([kernel_rows(bars) for bars in read_bars(plan.files, plan.form)])
    blocks = blocks_of(np.sort(rows.close_ns), plan.blocks, plan.days)
    place = folder / identity(plan, rows)
    place.mkdir(parents=True, exist_ok=True)
    shares = [share for j in range(plan.jobs) if (share := range(len(blocks))[j::plan.jobs])]
    if len(shares) == 1:
        Walk(plan, rows, blocks, place, keep).do(shares[0], say)
    else:
        # Spawned, because a fork of a process whose libraries have threads may wait forever.
        with ProcessPoolExecutor(len(shares), mp_context=get_context("spawn")) as pool:
            list(pool.map(_share, *zip(*((plan, rows, blocks, place, keep, share) for share in shares), strict=True)))
    return {"folder": str(place), **summary(place, blocks, plan, costs or CostModel())}


def _share(
    plan: Plan, rows: KnownRows, blocks: list[tuple[int, int]], place: Path, keep: Keep | None, share: Sequence[int],
) -> None:
    """One process's blocks, on one core."""
    import torch
    from threadpoolctl import threadpool_limits

    configure("walkforward", load_settings().log_level)  # of this process: standard output is the answer's
    torch.set_num_threads(1)
    with threadpool_limits(1):
        Walk(plan, rows, blocks, place, keep).do(share, on_stderr())


def identity(plan: Plan, rows: KnownRows) -> str:
    """Names everything that decides a result but for which models and seeds are asked for."""
    return identity_of(rows, {"blocks": plan.blocks, "days": plan.days, "budget": asdict(plan.config(0)),
                              "calibration": CALIBRATION_SHARE,
                              "stack": {name: asdict(member) for name, member in STACKED.items()}})


def identity_of(rows: KnownRows, plan: Found) -> str:
    """Hash of the rows, the plan, and the code and libraries that fit: a change of any of them begins a new folder."""
    code = hashlib.sha256(b"".join(path.read_bytes() for path in sorted(Path(__file__).parent.glob("*.py"))))
    facts = {
        "content": rows.content, "values": hashlib.sha256(rows.values.tobytes()).hexdigest(), "symbol": rows.symbol,
        "feature_set": FEATURE_SET, "labels": LABELS, "code": code.hexdigest(), "device": device().type, "plan": plan,
        "versions": {name: version(name) for name in ("numpy", "scikit-learn", "torch")},
    }
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:16]


@dataclass
class Walk:
    """The rows, and what of them has been made into sets."""

    plan: Plan
    rows: KnownRows
    blocks: Sequence[tuple[int, int]]
    place: Path
    keep: Keep | None = None
    _table: tuple[int, TrainingSet] | None = field(default=None)

    def do(self, share: Sequence[int], say: Say) -> None:
        """Whatever is missing of these blocks."""
        tasks = self.plan.tasks(share)
        for done, (seed, b, name) in enumerate(tasks):
            path = result(self.place, b, name, seed)
            if not path.with_suffix(".json").exists():
                say(f"{done}/{len(tasks)}: block {b} ({iso(self.blocks[b][0])[:10]}), {name}, seed {seed}")
                self._result(path, b, name, seed)

    def _result(self, path: Path, b: int, name: str, seed: int) -> None:
        """Decisions of every row for later pairs, then the scores: whoever sees these has both."""
        table = self.table(b)
        model, facts = self.model(b, name, seed)
        at = table.part("test")
        har = model_answers(self.model(b, "har", seed)[0], table, at)
        scored = scored_rows(name, table, at, model_answers(model, table, at), facts, har)
        scored_file.keep(path, scored)
        found = {"model": name, "seed": seed, "set": table.identity, **_shares(model),
                 "windows": {part: [iso(ns) for ns in table.window(part)] for part in PARTS}, **scores(scored)}
        text = path.with_suffix(".tmp.json")
        text.write_text(json.dumps(found))
        text.rename(path.with_suffix(".json"))

    def table(self, b: int) -> TrainingSet:
        """The set whose test part is block `b`."""
        if self._table is None or self._table[0] != b:
            self._table = b, assemble(self.rows, windows_before(np.sort(self.rows.close_ns), self.blocks[b]))
            if self.keep is not None:
                self.keep(self._table[1])
        return self._table[1]

    def model(self, b: int, name: str, seed: int) -> tuple[Forecaster, Facts]:
        """Fitted and calibrated on what came before the block; a stack of members that are kept."""
        table, seed = self.table(b), self.plan.seeds[0] if name in ONE_SEED else seed
        if name == "stack":
            stack: Forecaster = stacked(
                {each: self.model(b, of.model, seed + of.after)[0] for each, of in STACKED.items()}, table,
            )
            return stack, calibrated_facts(name, stack, table, out_of_distribution(table))
        path = self.place / "members" / f"block{b}-{name}-{seed}.npz"
        if not path.exists():
            path.parent.mkdir(exist_ok=True)
            model = fit_model(name, table, self.plan.config(seed)).model
            kept.keep(path, name, model, calibrated_facts(name, model, table, out_of_distribution(table)))
        return kept.read(path)


def result(place: Path, b: int, name: str, seed: int) -> Path:
    """Where a model's decisions on a block are."""
    return place / f"block{b}-{name}-{seed}.npz"


def _shares(model: Forecaster) -> Found:
    return {"stack_weights": model.shares()} if isinstance(model, Stack) else {}


def summary(place: Path, blocks: Sequence[tuple[int, int]], plan: Plan, costs: CostModel) -> Found:
    """Every model that is whole, by its median seed; ratios and differences are paired by row, and by seed.

    Beside the references one model's one seed is in memory at a time: decisions of a full table are gigabytes.
    """
    whole = {name: seeds for name in plan.names() if (seeds := _whole_seeds(place, name, len(blocks), plan))}
    references = {name: [_read(place, name, seed, len(blocks)) for seed in whole[name]]
                  for name in REFERENCES if name in whole}
    reduced = {name: [_reduced(_read(place, name, seed, len(blocks)), i, references) for i, seed in enumerate(seeds)]
               for name, seeds in whole.items()}
    typical = {name: scored_file.joined(_median(seeds, _loss)) for name, seeds in references.items()}
    found = {name: _judged(place, name, whole[name][_median_place(seeds)], len(blocks), typical, costs)
             for name, seeds in reduced.items()}
    pairs = [(ours, theirs) for theirs in references for ours in whole if ours != theirs]
    return {
        "blocks": [{"block": b, "from": iso(first), "to": iso(last), "qlike": {
            name: {str(h): float(np.median([seed.qlike[b][k] for seed in seeds])) for k, h in enumerate(HORIZONS)}
            for name, seeds in reduced.items() if "volatility" in MODELS[name].speaks_of
        }} for b, (first, last) in enumerate(blocks)],
        "seeds": {name: len(seeds) for name, seeds in whole.items()},
        "ratios": {f"{ours}/{theirs}": {str(h): _over_blocks([seed.ratios[theirs][k] for seed in reduced[ours]
                                                              if theirs in seed.ratios])
                                        for k, h in enumerate(HORIZONS)}
                   for ours, theirs in pairs if "volatility" in MODELS[ours].speaks_of},
        "differences": {f"{ours}/{theirs}": found[ours][1][theirs] for ours, theirs in pairs},
        "stack_weights": _weights(place, len(blocks), plan),
        "models": {name: judgement for name, (judgement, _) in found.items()},
    }


Blocks = list[Scored]
"""One seed's decisions, block by block."""
Ratios = tuple[Interval, list[Interval]]
"""Of summed losses of one horizon: over all blocks, and block by block."""


@dataclass(frozen=True)
class Reduced:
    """What is left of a model's one seed when its decisions are let go of."""

    qlike: list[list[float]]
    """By block and horizon."""
    ratios: dict[str, list[Ratios]]
    """Reference → by horizon; of the seeds that have a partner."""


def _whole_seeds(place: Path, name: str, blocks: int, plan: Plan) -> list[int]:
    """The seeds of which every block stands."""
    return [seed for seed in plan.seeds_of(name)
            if all(result(place, b, name, seed).with_suffix(".json").exists() for b in range(blocks))]


def _read(place: Path, name: str, seed: int, blocks: int) -> Blocks:
    return [scored_file.read(result(place, b, name, seed)) for b in range(blocks)]


def _reduced(ours: Blocks, i: int, references: Mapping[str, Sequence[Blocks]]) -> Reduced:
    """Of the model's `i`-th seed: a reference of several seeds is paired seed by seed."""
    qlikes, model = [[qlike_of(block, h) for h in HORIZONS] for block in ours], ours[0].model
    if "volatility" not in MODELS[model].speaks_of:
        return Reduced(qlikes, {})
    partners = {name: seeds[i if len(seeds) > 1 else 0] for name, seeds in references.items()
                if name != model and (i < len(seeds) or len(seeds) == 1)}
    return Reduced(qlikes, {name: _ratios(ours, theirs) for name, theirs in partners.items()})


def _ratios(ours: Blocks, theirs: Blocks) -> list[Ratios]:
    whole, other = scored_file.joined(ours), scored_file.joined(theirs)
    return [(_ratio(whole, other, h), [_ratio(a, b, h) for a, b in zip(ours, theirs, strict=True)]) for h in HORIZONS]


def _judged(
    place: Path, name: str, seed: int, blocks: int, references: Mapping[str, Scored], costs: CostModel,
) -> tuple[Found, dict[str, Found]]:
    """A model's judgement and its differences to each reference but itself, all by one seed's decisions."""
    scored = scored_file.joined(_read(place, name, seed, blocks))
    found = judged(scored, {}, costs)
    return ({key: value for key, value in found.items() if key != "baselines"},
            {other: differences(scored, theirs) for other, theirs in references.items() if other != name})


def qlike_of(scored: Scored, h: int) -> float:
    """Mean QLIKE of a horizon; NaN where the model does not forecast it."""
    k = HORIZONS.index(h)
    known = np.isfinite(scored.rv_NK[:, k]) & np.isfinite(scored.rv_hat_NK[:, k])
    return qlike(scored.rv_NK[known, k], scored.rv_hat_NK[known, k]) if known.any() else float("nan")


def _loss(seed: Sequence[Scored]) -> float:
    """What the median seed is the median of: QLIKE of 15 minutes."""
    return float(np.mean([qlike_of(block, 15) for block in seed]))


T = TypeVar("T")


def _median(items: Sequence[T], of: Callable[[T], float]) -> T:
    """The item in the middle (of two the worse): one as it would be shipped, not an average of several."""
    return sorted(items, key=of)[len(items) // 2]


def _median_place(seeds: Sequence[Reduced]) -> int:
    """Which of the seeds `_loss` has in the middle."""
    k = HORIZONS.index(15)
    return _median(range(len(seeds)), lambda i: float(np.mean([block[k] for block in seeds[i].qlike])))


def _over_blocks(seeds: Sequence[Ratios]) -> Found:
    """Ratio of summed losses, the median seed's: over all blocks, by block, and in how many it is below 1."""
    each = [_median([blocks[b] for _, blocks in seeds], _value) for b in range(len(seeds[0][1]))]
    return {**_median([over for over, _ in seeds], _value).as_dict(), "by_seed": [over.value for over, _ in seeds],
            "by_block": [one.as_dict() for one in each], "better_in": sum(one.value < 1 for one in each),
            "blocks": len(each)}


def _value(found: Interval) -> float:
    return found.value


def _ratio(ours: Scored, theirs: Scored, h: int) -> Interval:
    k = HORIZONS.index(h)
    y, f, g = ours.rv_NK[:, k], ours.rv_hat_NK[:, k], theirs.rv_hat_NK[:, k]
    known = np.isfinite(y) & np.isfinite(f) & np.isfinite(g)
    losses = [qlike_loss(y[known], x[known]) for x in (f, g)]
    return day_block_ratio(losses[0], losses[1], ours.days[known])


def _weights(place: Path, blocks: int, plan: Plan) -> Found:
    """The stack's weights by head and member: the median over blocks and seeds, the least and the most."""
    paths = [result(place, b, "stack", seed).with_suffix(".json") for b in range(blocks) for seed in plan.seeds]
    found = [json.loads(path.read_text())["stack_weights"] for path in paths if path.exists()]
    if not found:
        return {}
    return {head: {member: [float(q) for q in np.quantile([each[head][member] for each in found], [0.5, 0.0, 1.0])]
                   for member in found[0][head]} for head in found[0]}
