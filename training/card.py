"""Card: what a person should know before using a model, written from its meta.json."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from training.card_scores import chances, figure, intervals, money, paired, reliability, volatility

Scores = dict[str, Any]

DATA_STATEMENT = """\
Trained on one-minute klines (open, high, low, close, volume) of {symbols}, {first} to {last} UTC, the
exchange's own figures collected by third parties from public repositories, most of which state no licence; no market
data are included in this repository or in the artefact. The weights and this card are under Apache-2.0."""

FILES_STATEMENT = """\
Trained on one-minute bars that were given as files: {files}. They hold {symbols}, source
`{source}`, {first} to {last} UTC. Whose figures they are and under which licence, whoever gave them knows; no market
data are included in the artefact."""

LAKE_STATEMENT = """\
Trained on what the deployment's own lake holds of {symbols}, source `{source}`, {first} to {last} UTC: feature
rows as they were known at each minute's decision, and the bars that came after it. They are the venue's figures, under
its terms; no market data are included in the artefact."""

SIMULATED_STATEMENT = "Trained on a simulated market. Its scores say that the programme runs, and nothing else."

RECORDED_STATEMENT = "Recorded data, not a live history: such a model never enters the default registry."

CARD = """\
# {name} {version}

{kind}, with masking, scaling and calibration inside one
ONNX graph. It forecasts {symbols}'s realised volatility over 5, 15 and 60 minutes, the
chance of a volatility spike, the risk of an unusually violent quarter of an hour and, with next to no skill, the
direction of the next minute.

## Data
{statement}

{windows}

## Scores on the test part
{span}. 95 % day-block bootstrap intervals in brackets; lower QLIKE, log loss, ECE and interval scores are better; a
difference below 0 favours the model. Choices are made on the calibration part, but each run of the command scores this
same test part: whoever chose had seen the scores of the runs before (`docs/experiments.md` says how many), so read them
as slightly too kind. Meanings: `docs/model.md`.

{volatility}

{chances}

{intervals}

## Do the chances mean what they say?
{reliability}

## Does it pay?
{money}

## What it cannot do
{limits}

## How it was made
`{command}` at commit `{commit}`; data set `{identity}`, feature set `{feature_set}`, seeds {seeds}, {seconds:.0f} s.
Every figure is in `meta.json`; what was tried is in `docs/experiments.md`.
"""

KINDS = {
    "transformer": "A Transformer of {parameters:,} parameters over 64 minutes that corrects a HAR volatility forecast",
    "lstm": "An LSTM of {parameters:,} parameters over 64 minutes that corrects a HAR volatility forecast",
    "stack": "A stack of {members} ({parameters:,} parameters), weighted per head; direction also learns from every "
             "other day of the calibration part",
    "gradient_boosting": "Gradient boosting of what HAR misses", "random_forest": "Random forests of what HAR misses",
    "recent_direction": "Gradient boosting of direction that forgets and also learns from every other day of the "
                        "calibration part; HAR for volatility",
    "logistic": "Logistic regressions, and a ridge regression of what HAR misses",
    "isolation_forest": "An isolation forest for risk and spikes, HAR for volatility", "har": "HAR (Corsi 2009)",
    "ewma": "An exponentially weighted average of squared returns", "reversal": "Reversal of the last minute, and HAR",
}
DEMONSTRATION = ("BTCUSDT", "2024-08-08", "2024-08-09")
"""Symbol, first and last day of the recording that the demonstration replays."""


def read_meta(folder: Path) -> Scores:
    """The meta.json of an artefact folder."""
    return dict(json.loads((folder / "meta.json").read_text()))


def unscored(meta: Scores) -> str:
    """The card while there are no scores on unseen rows; such a folder is never installed."""
    return (f"# {meta['name']} {meta['version']}\n\n{statement(meta)}\n\nNot scored yet: `candlewick evaluate` does it "
            f"on unseen rows.\n\nMade by `{meta['command']}` of set `{meta['dataset']['identity']}`.\n")


def model_card(meta: Scores) -> str:
    """The card as Markdown. `meta["metrics"]` is a report of `training.evaluation`."""
    report = meta["metrics"]
    return CARD.format(
        name=meta["name"], version=meta["version"], symbols=_symbols(meta),
        kind=_kind(meta),
        statement=statement(meta), windows=_windows(meta["dataset"]), span=_span(report),
        volatility=volatility(report), chances=chances(report), intervals=intervals(report),
        reliability=reliability(report), money=money(report),
        limits="\n".join(f"- {limit}" for limit in _limits(meta, report)),
        command=meta["command"], commit=meta["commit"], identity=meta["dataset"]["identity"],
        feature_set=meta["feature_set"], seeds=meta["fit"]["seeds"], seconds=meta["seconds"],
    )


def statement(meta: Scores) -> str:
    """Where the training data come from: data folder, files by name, the lake, or a market that is not real."""
    dataset, source = meta["dataset"], meta["source"]
    first, last = (text[:16].replace("T", " ") for text in dataset["span"])
    known = {"symbols": _symbols(meta), "source": source, "first": first, "last": last}
    not_live = {"simulated": SIMULATED_STATEMENT, "recording": RECORDED_STATEMENT}.get(source, "")
    if dataset["files"]:
        return " ".join(filter(None, (FILES_STATEMENT.format(files=", ".join(dataset["files"]), **known), not_live)))
    if dataset.get("recipe", {}).get("lake"):
        return " ".join(filter(None, (LAKE_STATEMENT.format(**known), not_live)))
    return not_live or DATA_STATEMENT.format(**known)


def _kind(meta: Scores) -> str:
    """What it is; a stack names its members, and which of them direction is asked of."""
    weights = [meta.get("stack_weights", {}).get(head, {}) for head in ("volatility_15", "up")]
    of_volatility, of_direction = (
        ", ".join(name.replace("_", " ") for name, weight in of_head.items() if weight) for of_head in weights
    )
    members = of_volatility or "several models"
    if of_direction != of_volatility:
        members += f", for direction of {of_direction}"
    return KINDS.get(meta["kind"], str(meta["kind"])).format(parameters=meta["fit"]["parameters"], members=members)


def _symbols(meta: Scores) -> str:
    return str(meta["symbol"]).replace("+", ", ")


def _span(report: Scores) -> str:
    days = f"{report['days']:,} day{'s' if report['days'] != 1 else ''}"
    return f"{report['decisions']:,} decisions on {days}, {report['from'][:16]} to {report['to'][:16]} UTC"


def _windows(dataset: Scores) -> str:
    counts = dataset["counts"]
    rows = [f"| {name} | {a[:16]} | {b[:16]} | {counts[name]:,} |" for name, (a, b) in dataset["windows"].items()]
    left = f"{counts['left_out']:,} minutes are left out: embargo, labels across a gap or a cut, unknown sequences."
    return "\n".join(["| part | first row (UTC) | last row | rows |", "|---|---|---|---|", *rows, "", left])


def _limits(meta: Scores, report: Scores) -> Iterator[str]:
    """What a reader must not expect, as far as the model speaks of it."""
    if report["direction"]["accuracy"] is not None:
        yield f"Direction: {figure(report['direction'], 'accuracy', percent=True)} right. Do not trade on it."
    if report["intervals"]["band_15"]["coverage"] is not None:
        held = figure(report["intervals"]["band_15"], "coverage", percent=True)
        yield f"Band of the 15-minute volatility: {held} inside; 80 % is wanted."
    if report["risk"]["auc"] is not None:
        yield (f"Risk above {report['risk']['alert_above']}: {_alerts(report['risk'])}; base rate "
               f"{report['risk']['base_rate']:.3f}. It is null until seven days of history are known.")
    yield ("Where bars have no quote volume of their own it is volume × typical price; live it is exact, so "
           "`vwap_distance_15m` differs a little.")
    if boosting := _beside(report, "gradient_boosting"):
        yield f"Beside gradient boosting of the same rows and budget, its QLIKE differs by {boosting}."
    decay = meta["tier_lambda"]
    kept = [round(x, 2) for x in decay["lambda"]]
    yield f"Direction from older rows keeps λ = {kept} of its distance from ½ at ages {decay['age_s']} s."
    if (part := _part_of_the_demonstration(meta)) is not None:
        yield f"The minutes of the recording used for demonstration (2024-08-08/09) lie in the {part} part."


def _alerts(risk: Scores) -> str:
    if risk["precision"] is None:
        return "never fired"
    return f"precision {figure(risk, 'precision', 2)}, recall {figure(risk, 'recall', 2)}"


def _beside(report: Scores, name: str) -> str:
    """The paired differences of QLIKE to one baseline."""
    other = report["baselines"].get(name, {"model_minus_it": {}})
    return ", ".join(f"{paired(other, f'qlike_{h}')} at {h} min" for h in report["volatility"]
                     if f"qlike_{h}" in other["model_minus_it"])


def _part_of_the_demonstration(meta: Scores) -> str | None:
    """The part that holds the demonstration's minutes, where this very market was learnt from."""
    symbol, first, last = DEMONSTRATION
    if meta["source"] != "live" or symbol not in str(meta["symbol"]).split("+"):
        return None
    windows = meta["dataset"]["windows"].items()
    return next((name for name, (a, b) in windows if a[:10] <= first and last <= b[:10]), None)
