"""Verbs: what `candlewick train`, `evaluate` and `model verify` do."""

from __future__ import annotations

import os
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from feature_repo.contracts import ModelRefused
from feature_repo.logs import configure
from feature_repo.settings import Settings, load_settings
from feature_repo.whole_folder import recover
from training.bar_files import BarForm, parse_time

if TYPE_CHECKING:
    from training.dataset import KnownRows
    from training.datasets import Keep
    from training.lake_rows import Asked
    from training.recipe import Recipe
    from training.train import TrainConfig
    from training.walkforward import Plan


@dataclass(frozen=True)
class Bars:
    """Files of bars and how to read them, or the deployment's lake, as options say it."""

    files: tuple[str, ...] = ()
    form: BarForm = field(default_factory=BarForm)
    from_lake: bool = False
    """Rows of the form's symbol and source, of minutes that close at or after `start` (ISO 8601)."""
    start: str | None = None
    test_share: float | None = None

    def asked(self) -> Asked | None:
        """Of the lake. Raises `ValueError`."""
        from training.lake_rows import Asked

        start_ns = None if self.start is None else parse_time(self.start)
        return Asked(self.form.symbol, self.form.source, start_ns) if self.from_lake else None


def bars(
    files: Sequence[str], columns: Sequence[str], time_column: str | None, time_means: str | None,
    time_unit: str | None, **form: str | None,
) -> Bars:
    """Options as a form. Raises `ValueError` for a word that is none of an option's."""
    pairs = [text.partition("=") for text in columns]
    if unpaired := [name for name, separator, _ in pairs if not separator]:
        raise ValueError(f"expected --column FIELD=NAME, found {', '.join(unpaired)}")
    given: dict[str, Any] = {"time": time_column, "label": time_means, "unit": time_unit, **form}
    known = {name: value for name, value in given.items() if value is not None}
    return Bars(tuple(files), BarForm(columns={name: own for name, _, own in pairs}, **known))


def refuse_without_bars(options: Mapping[str, object]) -> None:
    """Raises `ValueError` naming the options that were given and say something of files of bars alone."""
    if given := [name for name, value in options.items() if value not in (None, False, [], ())]:
        raise ValueError(f"expected --bars FILE… with {', '.join(given)}, found none")


def train(
    quick: bool, simulated: bool, seeds: tuple[int, ...], install: Path | None, model: str = "transformer",
    given: Bars | None = None, until: str | None = None,
) -> dict[str, Any]:
    """One training run; its report. Without the data folder it learns from a simulated market and says so."""
    from feature_repo.progress import Bar, shown
    from training.klines import KLINES
    from training.train import TrainConfig, run

    given = given or Bars()
    _refuse_both(given, simulated, until)
    settings = _ready("train")
    named = bool(given.files) or given.from_lake
    simulated = simulated or (quick and not named and not (settings.data_dir / KLINES).exists())
    config = TrainConfig(
        quick=quick, simulated=simulated, seeds=seeds, model=model, bars=given.files, form=given.form,
        until_ns=None if until is None else parse_time(until), test_share=given.test_share, lake=given.asked(),
    )
    with shown(Bar()):
        return run(settings, config, _command(config, install, until), install)


def _refuse_both(given: Bars, simulated: bool, until: str | None) -> None:
    """Raises `ValueError` for options that exclude each other, or that are said of what was not asked for."""
    if until is not None and not given.files and not given.from_lake:
        raise ValueError("expected --bars FILE… with --until, found none")
    if simulated and given.files:
        raise ValueError("expected --bars or --simulated, found both")
    if given.from_lake and (given.files or simulated):
        raise ValueError(f"expected --from-lake or {'--bars' if given.files else '--simulated'}, found both")
    if given.start is not None and not given.from_lake:
        raise ValueError("expected --from-lake with --from, found none")
    if until is not None and given.test_share is not None:
        raise ValueError("expected --until or --test-share, found both")


def evaluate(
    model: str | None, given: Bars, span: tuple[str | None, str | None], baselines: bool, train_files: Sequence[str],
    seed: int, html: tuple[Path | None, Sequence[str]],
) -> dict[str, Any]:
    """Scores of a model on bars, and the page where it is asked for, with kept answers of other verbs to show on it."""
    from feature_repo.progress import on_stderr
    from training.evaluation import Request, evaluate_bars
    from training.walk_page import answers, page_parts

    to, measured = html
    _refuse_unwritable(to)
    if measured and to is None:
        raise ValueError("expected --html with --measured, found none")
    held, settings = answers(measured), _ready("evaluate")
    start, end = (None if text is None else parse_time(text) for text in span)
    named = str(settings.model_dir) if model is None else model
    request = Request(named, given.files, given.form, start, end, baselines, tuple(train_files), seed)
    report, scored, others = evaluate_bars(settings, request, on_stderr())
    return _with_page(report, scored, others, to, page_parts(held, report["kind"]))


def evaluate_test_part(
    model: str | None, simulated: bool, baselines: bool, seed: int, html: Path | None,
) -> dict[str, Any]:
    """Scores of a model on the test part of the data folder's history, as the gate judges it; `baselines`: all."""
    from feature_repo.progress import on_stderr
    from training.card import read_meta
    from training.costs import CostModel
    from training.evaluation import GATE_BASELINES, judge_test_part
    from training.export import verify as check
    from training.fitting import FitConfig
    from training.models import BASELINES
    from training.registry import resolve
    from training.train import training_set

    _refuse_unwritable(html)
    settings = _ready("evaluate")
    folder = resolve(settings, str(settings.model_dir) if model is None else model)
    check(folder, probe_ms=False)
    table = training_set(settings, replace(_as_trained(folder, settings), simulated=simulated))
    names = BASELINES if baselines else GATE_BASELINES
    report, scored, others = judge_test_part(
        folder, table, CostModel.of(settings), FitConfig(seed=seed), names, on_stderr(),
    )
    about = {"folder": str(folder), "dataset": table.identity, "seed": seed,
             "same_dataset": read_meta(folder)["dataset"]["identity"] == table.identity}
    return _with_page({**about, **report}, scored, others, html)


def _as_trained(folder: Path, settings: Settings) -> TrainConfig:
    """How the set of a model is made, where its files are here; else the data folder's history, cut as it was."""
    from training.card import read_meta
    from training.recipe import Recipe
    from training.train import TrainConfig

    told = read_meta(folder)["dataset"].get("recipe")
    if told is None:  # of before models told theirs
        return TrainConfig()
    recipe = Recipe(**told)
    found = TrainConfig(test_share=recipe.test_share, until_ns=recipe.until_ns)
    is_here = bool(recipe.bars) and all(path.is_file() for path in recipe.inputs(settings))
    return replace(found, bars=recipe.at(settings), form=BarForm(**recipe.form)) if is_here else found


def _with_page(
    report: dict[str, Any], scored: Any, others: Mapping[str, Any], html: Path | None,
    beside: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    import time

    from training.export import plain
    from training.report_page import page, write

    if html is not None:
        write(html, page(report, scored, time.time_ns(), others=others, **beside or {}))
        report["page"] = str(html)
    return dict(plain(report))


def walk_forward(plan: Plan, output: Path | None, html: Path | None = None) -> dict[str, Any]:
    """Table of models over calendar blocks, and its page; goes on where it was stopped. No files: the data folder's."""
    import time

    from feature_repo.progress import Bar, on_stderr, shown
    from training.costs import CostModel
    from training.klines import KLINES
    from training.report_page import write
    from training.walk_page import page
    from training.walkforward import run

    _refuse_unwritable(html)
    settings = _ready("walkforward")
    plan = plan if plan.files else replace(plan, files=(str(settings.data_dir / KLINES),))
    with shown(Bar()):
        found = run(plan, output or settings.run_dir / "walkforward", on_stderr(), CostModel.of(settings),
                    _keeper(settings, "walkforward", plan.files, plan.form))
    if html is not None:
        write(html, page(found, time.time_ns()))
        found["page"] = str(html)
    return found


def ablation(
    given: Bars, model: str, seed: int, span: tuple[int, int], output: Path | None, quick: bool,
) -> dict[str, Any]:
    """What each feature family is worth to a model over `span` = (blocks, days); goes on where it was stopped."""
    from feature_repo.progress import Bar, on_stderr, shown
    from training.ablation import Ablation, run
    from training.klines import KLINES

    settings = _ready("ablation")
    files = given.files or (str(settings.data_dir / KLINES),)
    plan = Ablation(files, given.form, model, seed, *span, quick=quick)
    with shown(Bar()):
        return run(plan, output or settings.run_dir / "ablation", on_stderr(),
                   _keeper(settings, "ablation", plan.files, plan.form))


def crash(given: Bars, model: str, seed: int, span: tuple[str, str]) -> dict[str, Any]:
    """The risk score in a crash, of a model fitted on what came before it."""
    from feature_repo.progress import Bar, on_stderr, shown
    from training.crash import Crash, run
    from training.fitting import FitConfig
    from training.klines import KLINES

    settings = _ready("crash")
    files = given.files or (str(settings.data_dir / KLINES),)
    asked = Crash(files, given.form, *(parse_time(end) for end in span))
    with shown(Bar()):
        return run(asked, model, FitConfig(seed=seed), on_stderr(), _keeper(settings, "crash", files, given.form))


def verify(folder: Path | None) -> tuple[dict[str, Any], bool]:
    """The check's report and whether it passed."""
    from training.export import verify as check

    folder = folder or load_settings().model_dir
    recover(folder)
    try:
        return check(folder), True
    except ModelRefused as error:
        return {"folder": str(folder), "verified": False, "reason": str(error)}, False


def rebuild(named: str, output: Path | None) -> dict[str, Any]:
    """A training set again, as `training.datasets.rebuild` compares it."""
    from training import datasets
    from training.lake_rows import Asked
    from training.train import TrainConfig, rows_of

    def make(settings: Settings, recipe: Recipe) -> KnownRows:
        config = TrainConfig(
            quick=recipe.quick, simulated=recipe.simulated, through=recipe.through, bars=recipe.at(settings),
            form=BarForm(**recipe.form), lake=Asked(**recipe.lake) if recipe.lake else None,
        )
        return rows_of(settings, config)

    return datasets.rebuild(_ready("dataset"), named, make, output)


def _refuse_unwritable(page: Path | None) -> None:
    """Before the hours of which the page would tell. Raises `ValueError`."""
    if page is None:
        return
    try:
        page.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ValueError(f"expected --html FILE in a folder that can be made, found {error}") from error
    if page.is_dir() or not os.access(page.parent, os.W_OK):
        raise ValueError(f"expected --html FILE that can be written, found {page}")


def _keeper(settings: Settings, verb: str, files: Sequence[str], form: BarForm) -> Keep:
    """Keeps every set that a verb fits on, to be given again by its hash."""
    from training import datasets
    from training.code_version import commit
    from training.recipe import of_bars

    return partial(datasets.keep, settings, recipe=of_bars(verb, files, form, commit()))


def _ready(component: str) -> Settings:
    settings = load_settings()
    configure(component, settings.log_level)
    recover(settings.model_dir)  # an installation may have been killed between two names
    return settings


def _form(form: BarForm) -> list[str]:
    """The options that say how files are to be read, where they were given."""
    usual = BarForm()
    said = {"--time-column": (form.time, usual.time), "--time-means": (form.label, usual.label),
            "--time-unit": (form.unit, usual.unit), "--symbol": (form.symbol, usual.symbol),
            "--source": (form.source, usual.source)}
    found = [word for option, (value, default) in said.items() if value != default for word in (option, str(value))]
    return found + [word for name, own in form.columns.items() for word in ("--column", f"{name}={own}")]


def _command(config: Any, install: Path | None, until: str | None) -> str:
    """The command again, with the files' names alone: an artefact names no machine's folders."""
    words = ["candlewick", "train", *(["--quick"] if config.quick else [])]
    words += ["--simulated"] if config.simulated else []
    if config.bars:
        words += ["--bars", *(Path(name.partition("=")[2] or name).name for name in config.bars), *_form(config.form)]
    if config.lake is not None:
        words += ["--from-lake", "--symbol", config.lake.symbol, "--source", config.lake.source]
        words += [] if config.lake.start_ns is None else ["--from", _iso(config.lake.start_ns)]
    words += ["--until", until] if until else []
    words += [] if config.test_share is None else ["--test-share", f"{config.test_share:g}"]
    words += ["--model", config.model] if config.model != "transformer" else []
    seeds = config.seeds
    if not config.quick:
        words += ["--seeds", str(len(seeds))] if seeds == tuple(range(len(seeds))) else ["--seed", str(seeds[0])]
    return shlex.join([*words, *(["--install", str(install)] if install else [])])


def _iso(at_ns: int) -> str:
    return datetime.fromtimestamp(at_ns / 1e9, UTC).isoformat()
