"""Train: history → point-in-time set → Transformer and baselines → evaluation → artefact → registry.

    candlewick train                        # the data folder's years, about ten minutes on two cores
    candlewick train --from-lake            # what this deployment's lake was known to hold at each minute
    candlewick train --quick --simulated    # a minute, without any data; registers as …-simulated

The test part is scored once, at the end, with the exported graph, by the judge of every evaluation
(`training.evaluation`). The seed is chosen by the calibration part.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

import numpy as np
import structlog

from feature_repo.catalogue import definitions
from feature_repo.contracts import DAY_NS, Source
from feature_repo.features import FEATURE_SET, FORECAST_BAR, SEQUENCE_LENGTH
from feature_repo.grid import Ints
from feature_repo.progress import step
from feature_repo.settings import Settings
from feature_repo.whole_folder import replace_folder
from training import card, datasets, registry
from training.agreement import agreed_graph, sample
from training.bar_files import BarForm, read_bars
from training.calibration import Calibration, calibrate, recency, volatility_factors
from training.champion import Champion, beside, champion_of
from training.code_version import commit as code_commit
from training.costs import CostModel
from training.dataset import (
    CALIBRATION_SHARE,
    PARTS,
    PURGE_NS,
    KnownRows,
    Split,
    TrainingSet,
    Windows,
    assemble,
    kernel_rows,
    pooled,
)
from training.evaluation import GATE_BASELINES, judge_test_part
from training.export import describe, verify, write_artefact
from training.fitting import FitConfig, Fitted, mean_loss, raw_outputs
from training.forecaster import OUTPUTS
from training.gate import MODEL_NAME, Beside, Verdict, judge, unjudged
from training.headline import headline
from training.klines import KLINES, MinuteBars, read_klines, simulated_klines
from training.known import history_lake, known_rows, write_history
from training.lake_rows import Asked, lake_rows
from training.metrics import auc, qlike
from training.models import fit_model, refuse_unknown
from training.recipe import Recipe, of_bars, told
from training.reference import features_without_reference, histograms, out_of_distribution
from training.stack import Stack
from training.targets import HORIZONS, LABELS, SPIKE_FACTOR, SPIKE_HORIZON

LOG = structlog.get_logger()
Through = Literal["feast", "kernel"]
QUICK_DAYS = 25
MINIMUM_DAYS = 10
"""Of history: less leaves no day to calibrate on behind the embargo."""


@dataclass(frozen=True)
class TrainConfig:
    """One training run."""

    quick: bool = False
    """A minute instead of ten: one seed, two epochs of every fifth minute, few days."""
    simulated: bool = False
    """Learn from a market that is not real; never the default registry's champion."""
    seeds: tuple[int, ...] = (0, 1, 2)
    through: Through = "feast"
    """`feast`: rows as known, read through Feast from the lake. `kernel`: the same rows without the lake."""
    model: str = "transformer"
    """Of `training.models.MODELS`."""
    bars: tuple[str, ...] = ()
    """Files of bars to learn from instead of the data folder's klines."""
    form: BarForm = field(default_factory=BarForm)
    until_ns: int | None = None
    """Nothing that closes later is learnt from; what the bars hold after it is the test part."""
    test_share: float | None = None
    """Of the rows, the newest; None: `Split`'s."""
    lake: Asked | None = None
    """Rows of the deployment's own lake to learn from, instead of bars."""

    def fitting(self, seed: int) -> FitConfig:
        budget = {"epochs": 2, "stride": 5, "batch": 256, "trees": 60} if self.quick else {}
        return replace(FitConfig(seed=seed), **budget)

    def recipe(self, settings: Settings, commit: str) -> Recipe:
        """How to make the set again."""
        if self.bars:
            found = of_bars("train", self.bars, self.form, commit)
        else:
            found = Recipe(self.quick, self.simulated, self.through, verb="train", commit=commit,
                           lake={} if self.lake is None else asdict(self.lake))
            found = replace(found, files=[told(path) for path in found.inputs(settings)])
        return replace(found, quick=self.quick, until_ns=self.until_ns, test_share=self.test_share)

    def through_of(self, source: Source) -> Through:
        """How rows of a source are read."""
        if self.lake is not None:
            return "feast"
        return "kernel" if self.quick or self.bars or source != "live" else self.through


def run(
    settings: Settings, config: TrainConfig, command: str, output: Path | None = None,
    now: Callable[[], datetime] = lambda: datetime.now(UTC),
) -> dict[str, Any]:
    """Train, evaluate, export, register. `output`: where to copy the artefact too, if the gate lets it through.

    Returns the report: identity, gate, registry record, metrics, folder. Raises `ValueError` without usable data,
    `ModelRefused` for a damaged champion, and for an exported graph that does not say what torch says.
    """
    refuse_unknown(config.model)
    started, commit = time.monotonic(), code_commit()  # now: the tree may move on while this code runs
    step("bars, features, labels")
    table, costs = training_set(settings, config), CostModel.of(settings)
    recipe = config.recipe(settings, commit).of(table)
    datasets.keep(settings, table, recipe)
    champion = champion_of(settings, _kind(table, config))  # now: one that is damaged is told before hours of fitting
    fits = [fit_model(config.model, table, config.fitting(seed)) for seed in config.seeds]
    step("choosing the seed, calibrating")
    fitted = _best_of(fits, table)
    calibration = calibrate(fitted.model, table)
    step("exporting, scoring the test part beside baselines")
    version = f"{now():%Y%m%d-%H%M%S}-{table.identity[:6]}"
    folder = settings.run_dir / "models" / version
    how = {"command": command, "commit": commit}
    rows = sample(table)
    graph, gap = agreed_graph(fitted.model, table.sequences(rows), table.context[rows, None])
    facts = {**_facts(table, config, fitted, calibration, costs), **how, "version": version, "torch_minus_onnx": gap}
    facts["dataset"]["recipe"] = recipe.nameless()
    write_artefact(graph, facts, card.unscored(facts), folder)
    report, verdict = None, unjudged(_kind(table, config))
    if table.counts["test"]:
        report, verdict = _judged(table, folder, config, costs, champion)
    step("scoring each seed")
    spread = [{"seed": seed, **seed_scores(f, table)} for seed, f in zip(config.seeds, fits, strict=True)]
    meta = {**facts, "metrics": report, "seed_scores": spread, "gate": verdict.as_dict(),
            "seconds": round(time.monotonic() - started, 1), "run_id": registry.begin(settings.mlflow, version)}
    describe(folder, meta, card.unscored(meta) if report is None else card.model_card(meta))
    step("registering")
    checked = verify(folder)
    recorded = registry.record(settings.mlflow, _run_record(meta), folder, verdict, meta["run_id"])
    if output is not None and verdict.promoted:
        install(folder, output)
    return {
        "version": version, "dataset": table.identity, "source": table.rows.source, "folder": str(folder),
        "promoted": verdict.promoted, "gate": verdict.as_dict()["checks"], "registry": recorded,
        "p50_ms": checked["p50_ms"], "bytes": checked["bytes"], "seconds": meta["seconds"],
        "installed": str(output) if output is not None and verdict.promoted else None,
        "metrics": {} if report is None else headline(report), "model": config.model,
    }


def training_set(settings: Settings, config: TrainConfig) -> TrainingSet:
    """The set a run learns from."""
    rows = rows_of(settings, config)
    if config.until_ns is not None:
        return assemble(rows, until_windows(np.sort(rows.close_ns), config.until_ns))
    return assemble(rows, Split() if config.test_share is None else Split.testing(config.test_share))


def rows_of(settings: Settings, config: TrainConfig) -> KnownRows:
    """What was known at each decision: of files all symbols in one. Raises `ValueError` for what is wrong with them."""
    if config.lake is not None:
        return lake_rows(settings, config.lake)
    if config.bars:
        return pooled([kernel_rows(bars) for bars in read_bars(config.bars, config.form)])
    bars = _bars(settings, config)
    if config.through_of(bars.source) == "kernel":
        return kernel_rows(bars)
    lake = replace(settings, lake_url=history_lake(settings))
    LOG.info("history written", **write_history(bars, lake))
    return known_rows(bars, lake)


def until_windows(close_ns: Ints, until_ns: int) -> Windows:
    """Train and calibration (the last `CALIBRATION_SHARE` of those rows) up to a time, the rest test."""
    before, after = close_ns[close_ns <= until_ns], close_ns[close_ns > until_ns]
    if not len(before):
        raise ValueError(f"expected bars up to --until {_iso(until_ns)}, found none before {_iso(int(close_ns[0]))}")
    # With nothing after it the bars may end long before: what is learnt from ends with them.
    until_ns = until_ns if len(after) else int(before[-1])
    first, cut = int(before[0]), int(before[int((1 - CALIBRATION_SHARE) * len(before))] // DAY_NS * DAY_NS)
    # A test of less than a day behind a day's embargo is no test.
    last = int(after[-1]) + PURGE_NS if len(after) and after[-1] > until_ns + 2 * DAY_NS else until_ns
    if until_ns - first < MINIMUM_DAYS * DAY_NS or not first < cut < until_ns - DAY_NS:
        raise ValueError(f"expected bars of at least {MINIMUM_DAYS} days up to --until, found {_iso(first)} to "
                         f"{_iso(until_ns)}")
    return Windows.between((first, cut, until_ns, last))


def _bars(settings: Settings, config: TrainConfig) -> MinuteBars:
    if config.simulated:
        return simulated_klines(QUICK_DAYS if config.quick else 60)
    bars = read_klines(settings.data_dir / KLINES)
    if not config.quick:
        return bars
    last = slice(-2 * QUICK_DAYS * 1440, None)
    return replace(bars, close_ns=bars.close_ns[last], columns={k: v[last] for k, v in bars.columns.items()})


def _best_of(candidates: list[Fitted], table: TrainingSet) -> Fitted:
    return min(candidates, key=lambda c: mean_loss(c.model, table, table.weighing(5)))


def seed_scores(fitted: Fitted, table: TrainingSet) -> dict[str, float]:
    """How much the seed matters: scores of one fit on the test part, taken after the choice was made."""
    # Every test minute: the AUC of direction on every 5th was 0.493 to 0.517, by which minute of five one took.
    tune, at = table.weighing(5), table.part("test")
    found = {"calibration_loss": mean_loss(fitted.model, table, tune), "seconds": fitted.seconds}
    if not len(at):
        return found
    factors = volatility_factors(raw_outputs(fitted.model, table, tune), table, tune, recency(table.close_ns[tune]))
    raw = raw_outputs(fitted.model, table, at)
    f, up = np.exp(raw.ln_f_BK.double().numpy()) * factors, table.targets["up"][at]
    for k, h in enumerate(HORIZONS):
        y = table.targets[f"rv_{h}"][at]
        if (moved := np.isfinite(y)).any():
            found[f"test_qlike_{h}m"] = qlike(y[moved], f[moved, k])
    known = np.isfinite(up)
    return {**found, "test_auc_up": auc(up[known], raw.logits_BC[:, 0].double().numpy()[known])}


def _judged(
    table: TrainingSet, folder: Path, config: TrainConfig, costs: CostModel, champion: Champion | None,
) -> tuple[dict[str, Any], Verdict]:
    """The test part's scores and what the gate says of them; baselines have the model's budget."""
    budget = config.fitting(config.seeds[0])
    report, scored, _ = judge_test_part(folder, table, costs, budget, GATE_BASELINES, LOG.info)
    held: Beside | None = None
    if champion is not None:
        held, report["champion"] = beside(champion, table, scored)
    return report, judge(report, _kind(table, config), held)


def _kind(table: TrainingSet, config: TrainConfig) -> str:
    """Under whose name it registers: a quick fit of real data is a rehearsal, not a candidate."""
    return "quick" if config.quick and table.rows.source == "live" else table.rows.source


def _facts(
    table: TrainingSet, config: TrainConfig, fitted: Fitted, calibration: Calibration, costs: CostModel,
) -> dict[str, Any]:
    """What meta.json says besides the scores and how it was made."""
    return {
        "name": MODEL_NAME, "kind": config.model, **_shares(fitted),
        "source": table.rows.source, "symbol": table.rows.symbol,
        "feature_set": FEATURE_SET, "feature_service": "forecast_bar_v1", "features": list(FORECAST_BAR),
        "feature_definitions": {name: x for name, x in definitions().items() if name in FORECAST_BAR},
        "sequence_length": SEQUENCE_LENGTH, "inputs": ["sequence", "context"], "outputs": list(OUTPUTS),
        "nullable_outputs": {"risk_score": "NaN while realized_vol_15m_p90_30d is unknown"},
        "horizon_s": 60, "horizons_min": list(HORIZONS),
        "spike": {"horizon_min": SPIKE_HORIZON, "factor": SPIKE_FACTOR}, "labels": LABELS,
        "cost_model": costs.as_dict(), "calibration": asdict(calibration),
        "tier_lambda": calibration.tier_lambda, "ood": out_of_distribution(table),
        "reference_histograms": histograms(table), "without_reference": features_without_reference(),
        "dataset": {
            "identity": table.identity, "content": table.rows.content, "counts": table.counts,
            "through": config.through_of(table.rows.source),
            "windows": {part: [_iso(ns) for ns in table.window(part)] for part in PARTS if table.counts[part]},
            "files": [Path(name.partition("=")[2] or name).name for name in config.bars],
            "span": [_iso(int(table.rows.close_ns.min())), _iso(int(table.rows.close_ns.max()))],
        },
        "training_window": [_iso(ns) for ns in table.window("train")],
        "fit": {**asdict(config.fitting(config.seeds[0])), "tabular_stride": config.fitting(0).tabular_stride,
                "seeds": list(config.seeds), "history": fitted.history,
                "parameters": sum(p.numel() for p in fitted.model.parameters())},
    }


def _shares(fitted: Fitted) -> dict[str, Any]:
    """A stack's weights by head and member."""
    return {"stack_weights": fitted.model.shares()} if isinstance(fitted.model, Stack) else {}


def _iso(at_ns: int) -> str:
    return datetime.fromtimestamp(at_ns / 1e9, UTC).isoformat()


def _run_record(meta: dict[str, Any]) -> registry.RunRecord:
    fit_facts = {name: value for name, value in meta["fit"].items() if name != "history"}
    params = {**fit_facts, "dataset": meta["dataset"]["identity"], "dataset_content": meta["dataset"]["content"],
              "feature_set": meta["feature_set"], "labels": meta["labels"]}
    tags = {"version": meta["version"], "source": meta["source"], "commit": meta["commit"], "command": meta["command"],
            "dataset": meta["dataset"]["identity"]}
    dataset = {"name": f"{meta['symbol']} {meta['source']}", "identity": meta["dataset"]["identity"],
               "content": meta["dataset"]["content"], "counts": meta["dataset"]["counts"],
               "rebuild": f"candlewick dataset rebuild {meta['dataset']['identity']}"}
    figures = headline(meta["metrics"]) if meta["metrics"] else {}
    return registry.RunRecord(params, {**figures, "torch_minus_onnx": meta["torch_minus_onnx"]}, tags,
                              meta["fit"]["history"], dataset)


def install(folder: Path, output: Path) -> None:
    """Replace the artefact that serving starts with, whole or not at all, whenever it is stopped."""
    verify(folder, probe_ms=False)
    replace_folder(folder, output)
