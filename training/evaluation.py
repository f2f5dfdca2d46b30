"""Evaluation: any artefact on bars of any venue and period, beside baselines fitted on the rows it was fitted on.

    report, scored, others = evaluate_bars(settings, Request(model="champion", files=["bars.parquet"], baselines=True))

Rows before `--from` only fill windows. Baselines learn from the model's own train and calibration rows, and from
nothing later: from the evaluated files where these reach that far back, else from `--train-bars`, else from the data
folder's klines. A period that the model has seen is reported as such. The gate of `candlewick train` asks the same
judge, of the test part of its own set (`judge_test_part`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from feature_repo.contracts import DAY_NS
from feature_repo.features import FORECAST_BAR
from feature_repo.grid import Ints
from feature_repo.settings import Settings
from training import registry
from training.bar_files import BarForm, parse_time, read_bars, without_volume
from training.calibration import calibrate
from training.card import read_meta
from training.costs import CostModel
from training.dataset import Singles, Span, TrainingSet, Windows, assemble, kernel_rows, pooled
from training.export import verify
from training.fitting import FitConfig
from training.forecaster import Forecaster
from training.klines import KLINES, MinuteBars
from training.models import BASELINES, MODELS, fit_model
from training.pnl import compare
from training.red_flags import red_flags
from training.scored import Scored
from training.scores import differences, scores
from training.scoring import EDGES, Facts, artefact_answers, model_answers, scored_rows, set_columns
from training.targets import HORIZONS

WARM_UP_NS = 32 * DAY_NS
"""Read before the period: the risk percentile looks back 30 days."""
SAME_ROWS = 0.95
"""So many of the model's training rows must be in a history that its baselines are to learn from."""
GATE_BASELINES = ("har", "ewma", "gradient_boosting", "logistic", "reversal")
"""Beside what the gate and every card show a model; forests take longer to fit than the model itself."""
Say = Callable[[str], None]
Found = dict[str, Any]


@dataclass(frozen=True)
class Rival:
    """A baseline, fitted and calibrated."""

    model: Forecaster
    facts: Facts


Judged = tuple[Found, Scored, dict[str, Scored]]
"""The report, the model's decisions and the baselines'."""


@dataclass(frozen=True)
class Request:
    """What is asked for."""

    model: str
    """A folder, a registered name, `name@alias`, `name/version`, or an alias of the default name."""
    files: Sequence[str | Path]
    form: BarForm = field(default_factory=BarForm)
    start_ns: int | None = None
    end_ns: int | None = None
    """Decisions on minutes that lie between them: each begins at the start or later and closes at the end or before."""
    baselines: bool = False
    train_files: Sequence[str | Path] = ()
    seed: int = 0
    trees: int | None = None
    """Of boosting, per output, at most; None: as the model was allowed."""


def budget_of(meta: Mapping[str, Any]) -> FitConfig:
    """What the model's own fit was allowed: baselines beside it get the same."""
    own = {each.name for each in fields(FitConfig)}
    return FitConfig(**{name: value for name, value in meta.get("fit", {}).items() if name in own})


def evaluate_bars(settings: Settings, request: Request, say: Say) -> Judged:
    """A model on the bars asked for. Raises `ValueError` for bars and names, `ModelRefused` for artefacts."""
    folder = registry.resolve(settings, request.model)
    verify(folder, probe_ms=False)
    meta = read_meta(folder)
    set_columns(meta["features"])  # now: one that cannot be asked is told before its bars are read
    say(f"reading {len(request.files)} files of bars")
    bars = read_bars(request.files, request.form, volume_needed=False)
    table, at = _asked(bars, request)
    say(f"{len(at):,} minutes to score")
    history, where = _history(settings, request, bars, meta, say)
    config = replace(budget_of(meta), seed=request.seed, **({} if request.trees is None else {"trees": request.trees}))
    # HAR alone, the reference, where baselines were not asked for.
    names = BASELINES if request.baselines else ("har",)
    rivals = fit_rivals(names, history, config, meta["ood"], say) if history is not None else {}
    report, scored, others = _judge(folder, table, at, rivals, CostModel.of(settings), shown=request.baselines)
    return {"folder": str(folder), "seed": request.seed, "references_learnt_from": where, **report}, scored, others


def judge_test_part(
    folder: Path, table: TrainingSet, costs: CostModel, config: FitConfig, names: Sequence[str], say: Say,
) -> Judged:
    """An artefact on a set's test part, beside baselines fitted on the set's other parts. `names` must hold HAR."""
    at = table.part("test")
    say(f"{len(at):,} minutes of the test part to score")
    rivals = fit_rivals(names, table, config, read_meta(folder)["ood"], say)
    return _judge(folder, table, at, rivals, costs, shown=True)


def _judge(
    folder: Path, table: TrainingSet, at: Ints, rivals: Mapping[str, Rival], costs: CostModel, *, shown: bool,
) -> Judged:
    """The exported graph on rows of a set. `shown`: the rivals are baselines, else HAR alone is there, to compare."""
    meta = read_meta(folder)
    answers = {name: model_answers(rival.model, table, at) for name, rival in rivals.items()}
    har = answers.get("har")
    given = artefact_answers(folder, table, at, meta["features"])
    scored = scored_rows(meta["version"], table, at, given, Facts.of(meta), har)
    others = {name: scored_rows(name, table, at, answers[name], rival.facts, har)
              for name, rival in rivals.items() if shown}
    return {**_about(meta, table, at), **judged(scored, others, costs)}, scored, others


def judged(scored: Scored, others: Mapping[str, Scored], costs: CostModel) -> Found:
    """Scores, money and red flags of a model, and its baselines' scores with paired differences."""
    return {
        **scores(scored), "pnl": compare(scored, others, costs), "red_flags": red_flags(scored),
        "baselines": {
            name: {**scores(other), "model_minus_it": differences(scored, other)} for name, other in others.items()
        },
    }


def _asked(bars: Sequence[MinuteBars], request: Request) -> tuple[TrainingSet, Ints]:
    """The set whose test part is the period asked for."""
    start_ns, end_ns = request.start_ns, request.end_ns
    if start_ns is not None and end_ns is not None and not start_ns < end_ns:
        raise ValueError(f"expected --from before --to, found {iso(start_ns)} and {iso(end_ns)}")
    # The minute that closes at --from lies before it: a day from midnight to midnight has 1,440.
    first = min(int(each.close_ns[0]) for each in bars) if start_ns is None else start_ns + 1
    last = max(int(each.close_ns[-1]) for each in bars) if end_ns is None else end_ns
    if not any(((each.close_ns >= first) & (each.close_ns <= last)).any() for each in bars):
        ends = [words for words, at_ns in ((f"from {start_ns and iso(start_ns)}", start_ns),
                                           (f"to {end_ns and iso(end_ns)}", end_ns)) if at_ns is not None]
        raise ValueError(f"expected bars between --from and --to ({' '.join(ends)}), found {_held(bars)}")
    inside = [bars_within(each, first - WARM_UP_NS, last + DAY_NS) for each in bars]
    kept = [each for each in inside if len(each.close_ns)]
    rows = pooled([kernel_rows(each) for each in kept])
    # Bars without volumes are scored by what they do have, and what they lack is told: else there would be no answer.
    absent = _never_known(rows.values) if any(without_volume(each) for each in kept) else ()
    table = assemble(rows, Windows(test=(first, last)), absent)
    return table, table.part("test")


def _held(bars: Sequence[MinuteBars]) -> str:
    """What of which market there is."""
    return ", ".join(f"{b.symbol} {iso(int(b.close_ns[0]))} to {iso(int(b.close_ns[-1]))}" for b in bars)


def bars_within(bars: MinuteBars, first_ns: int, last_ns: int) -> MinuteBars:
    """The bars that close within [first, last]."""
    kept = (bars.close_ns >= first_ns) & (bars.close_ns <= last_ns)
    return replace(bars, close_ns=bars.close_ns[kept], columns={k: v[kept] for k, v in bars.columns.items()})


def iso(at_ns: int) -> str:
    """ISO 8601, UTC."""
    from datetime import UTC, datetime

    return datetime.fromtimestamp(at_ns / 1e9, UTC).isoformat()


def model_windows(meta: Mapping[str, Any]) -> Windows:
    """When a model's train and calibration rows were decided."""
    windows = meta["dataset"]["windows"]
    spans = [tuple(map(parse_time, windows[part])) for part in ("train", "calibration")]
    return Windows(train=(spans[0][0], spans[0][1]), calibration=(spans[1][0], spans[1][1]))


def _history(
    settings: Settings, request: Request, bars: Sequence[MinuteBars], meta: Mapping[str, Any], say: Say,
) -> tuple[TrainingSet | None, str | None]:
    """The model's own training rows and where they were; None where they are not at hand and were not asked for.

    Bars that name no market are taken for the model's: where they are another venue's, the place says so.
    """
    windows, wanted = model_windows(meta), meta["dataset"]["counts"]["train"]
    market, source = str(meta["symbol"]), meta["source"]
    places: list[tuple[str, Callable[[], Sequence[MinuteBars]]]] = [("--bars", lambda: bars)]
    if request.train_files:
        # Files that do not say of what they are, are of what the model learnt from, not of what is evaluated.
        form = replace(request.form, source=source, symbol=request.form.symbol if "+" in market else market)
        places.insert(0, ("--train-bars", lambda: read_bars(request.train_files, form)))
    if (settings.data_dir / KLINES).exists():
        places.append((f"data folder: {KLINES}", lambda: read_bars([settings.data_dir / KLINES])))
    found = 0
    for where, place in places:
        own = [each for each in place() if each.symbol in market.split("+") and each.source == source]
        if {each.symbol for each in own} != set(market.split("+")) or any(without_volume(each) for each in own):
            continue  # another market's minutes, or not all that the model saw of them
        table = _within(own, windows)
        found = max(found, table.counts["train"] if table else 0)
        if table is not None and table.counts["train"] >= SAME_ROWS * wanted:
            say(f"baselines learn from {table.counts['train']:,} of the model's {wanted:,} training rows ({where})")
            return table, where
    if request.baselines:
        spans = " and ".join(f"{iso(a)} to {iso(b)}" for a, b in _spans(windows))
        raise ValueError(
            f"expected the model's {wanted:,} training rows ({market}, {source}, {spans}) for its baselines, found "
            f"{found:,}; give those bars too by --train-bars FILE…",
        )
    return None, None


def _spans(windows: Windows) -> list[Span]:
    return [span for span in windows.spans() if span is not None]


def _within(bars: Sequence[MinuteBars], windows: Windows) -> TrainingSet | None:
    """The set of these windows; None where the bars do not reach into each."""
    spans = _spans(windows)
    first, last = spans[0][0] - WARM_UP_NS, spans[-1][1] + DAY_NS
    kept = [each for each in (bars_within(each, first, last) for each in bars) if len(each.close_ns)]
    reach = all(any(((b.close_ns >= lo) & (b.close_ns <= hi)).any() for b in kept) for lo, hi in spans)
    if not kept or not reach:
        return None
    return assemble(pooled([kernel_rows(each) for each in kept]), windows)


def fit_rivals(
    names: Sequence[str], table: TrainingSet, config: FitConfig, ood: Mapping[str, Any], say: Say,
) -> dict[str, Rival]:
    """Baselines fitted and calibrated as a model of this set is.

    They trade by the model's own rule of which rows are too unlike its training rows.
    """
    found = {}
    for name in names:
        say(f"fitting {name}")
        fitted = fit_model(name, table, config)
        found[name] = Rival(fitted.model, calibrated_facts(name, fitted.model, table, ood))
    return found


def calibrated_facts(name: str, model: Forecaster, table: TrainingSet, ood: Mapping[str, Any] | None = None) -> Facts:
    """Calibrate a fitted model on the set's calibration part; what scoring needs to know of it."""
    calibration = calibrate(model, table)
    bounds = tuple(calibration.return_intervals[str(h)] for h in HORIZONS)
    return Facts(bounds, ood, MODELS[name].speaks_of)


def _inside(table: TrainingSet) -> int:
    """Minutes with a bar in the period asked for: those not scored lack a label or too much of their sequence."""
    assert table.windows.test is not None
    first, last = table.windows.test
    return int(((table.rows.close_ns >= first) & (table.rows.close_ns <= last)).sum())


def _null_features(table: TrainingSet, at: Ints) -> dict[str, str]:
    """The model's inputs that no scored row has, each with the reason: of bars without volumes, say."""
    return dict.fromkeys(_never_known(table.newest(at)), "no row has what it is made of")


def _never_known(values: Singles) -> tuple[str, ...]:
    """The inputs of which (N, F) rows hold no number."""
    return tuple(FORECAST_BAR[i] for i in np.flatnonzero(~np.isfinite(values).any(axis=0)))


def learnt_from(meta: Mapping[str, Any], table: TrainingSet, at: Ints) -> NDArray[np.bool_]:
    """Which of these rows a model has learnt from: of its market, within its train or its calibration part."""
    close_ns, seen = table.close_ns[at], np.zeros(len(at), dtype=bool)
    if table.rows.source != meta["source"]:
        return seen
    for first, last in _spans(model_windows(meta)):
        seen |= (close_ns >= first) & (close_ns <= last)
    return np.asarray(seen & np.isin(table.symbol_M[at], str(meta["symbol"]).split("+")))


def _about(meta: Mapping[str, Any], table: TrainingSet, at: Ints) -> Found:
    """What was scored, and whether the model had seen any of it."""
    close_ns = table.close_ns[at]
    return {
        "model": meta["name"], "version": meta["version"], "kind": meta.get("kind", "transformer"),
        "trained_on": meta["dataset"]["identity"], "source": table.rows.source,
        "symbols": table.rows.symbol.split("+"), "from": iso(int(close_ns.min())), "to": iso(int(close_ns.max())),
        "decisions": len(at), "days": len(np.unique(table.days(at))), "left_out": _inside(table) - len(at),
        "seen_in_training": int(learnt_from(meta, table, at).sum()),
        **({"null_features": nulls} if (nulls := _null_features(table, at)) else {}),
        **_missing(meta["outputs"]),
    }


def _missing(outputs: Sequence[str]) -> Found:
    """What an artefact does not forecast because it was made before that was forecast."""
    added = {"spike_prob_5m": "spike at 5 and 60 minutes", EDGES[15]: "edge at 15 minutes"}
    lacking = [said for name, said in added.items() if name not in outputs]
    return {"missing_outputs": f"{', '.join(lacking)}: an artefact of before they were forecast"} if lacking else {}
