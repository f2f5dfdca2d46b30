"""train, evaluate, walkforward, ablation: models fitted to bars and scored on them."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from cli.options import (
    BarFiles,
    BarSource,
    BarSymbol,
    Column,
    Json,
    OneModel,
    Simulated,
    TimeColumn,
    TimeMeans,
    TimeUnit,
)
from cli.show import show

app = typer.Typer()

Quick = Annotated[bool, typer.Option("--quick", help="A minute instead of ten: few days, one seed.")]
Results = Annotated[Path | None, typer.Option("--output", help="Folder of results; what is there is kept.")]


@app.command()
def train(
    bars: BarFiles = None,
    until: Annotated[str | None, typer.Option(help="Learn from nothing that closes later (ISO 8601).")] = None,
    from_lake: Annotated[bool, typer.Option(
        "--from-lake", help="Learn from this deployment's lake, as known at each minute: --symbol, --source.")] = False,
    start: Annotated[str | None, typer.Option("--from", help="Of the lake: the first minute's close.")] = None,
    test_share: Annotated[float | None, typer.Option(
        "--test-share", help="Of the newest rows, for instance 0.2: 80 / 20; default: 70 / 19 / 11.")] = None,
    model_name: Annotated[str, typer.Option("--model", help="transformer, lstm, gradient_boosting, …")] = "transformer",
    seed: Annotated[int | None, typer.Option(min=0, help="Fit this one seed.")] = None,
    quick: Quick = False,
    simulated: Simulated = False,
    seeds: Annotated[int, typer.Option(min=1, max=9, help="Models to fit; the best in calibration is kept.")] = 2,
    install: Annotated[Path | None, typer.Option("--install", help="Copy the artefact here if it is promoted.")] = None,
    time_column: TimeColumn = None, time_means: TimeMeans = None, time_unit: TimeUnit = None, column: Column = None,
    symbol: BarSymbol = None, source: BarSource = None,
    as_json: Json = False,
) -> None:
    """Fit, evaluate, export and register a model; promote it if it beats the baselines."""
    from dataclasses import replace

    from training import verbs

    if not bars:
        of_lake = {} if from_lake else {"--until": until, "--symbol": symbol, "--source": source}
        verbs.refuse_without_bars({
            **of_lake, "--time-column": time_column, "--time-means": time_means, "--time-unit": time_unit,
            "--column": column,
        })
    given = verbs.bars(bars or (), column or (), time_column, time_means, time_unit, symbol=symbol, source=source)
    given = replace(given, from_lake=from_lake, start=start, test_share=test_share)
    fitted = (seed,) if seed is not None else tuple(range(1 if quick else seeds))
    show(verbs.train(quick, simulated, fitted, install, model_name, given, until), as_json)


@app.command()
def evaluate(
    model_name: Annotated[str | None, typer.Option(
        "--model", help="Folder, name, name@alias, name/version, alias, or a kind trained here.")] = None,
    bars: BarFiles = None,
    start: Annotated[str | None, typer.Option("--from", help="The first minute scored begins then (ISO 8601).")] = None,
    end: Annotated[str | None, typer.Option("--to", help="The last minute scored ends then.")] = None,
    baselines: Annotated[bool, typer.Option("--baselines", help="Fit all baselines on the model's rows.")] = False,
    train_bars: Annotated[list[str] | None, typer.Option(
        "--train-bars", help="Bars that the model learnt from, where --bars do not reach back.")] = None,
    seed: Annotated[int, typer.Option(min=0, help="Of the baselines.")] = 0,
    html: Annotated[Path | None, typer.Option("--html", help="Also write the scores as one page.")] = None,
    measured: Annotated[list[str] | None, typer.Option(
        "--measured", help="An answer of walkforward or ablation, kept as JSON, to show on the page.")] = None,
    simulated: Simulated = False,
    time_column: TimeColumn = None, time_means: TimeMeans = None, time_unit: TimeUnit = None, column: Column = None,
    symbol: BarSymbol = None, source: BarSource = None,
    as_json: Json = False,
) -> None:
    """Score a model on bars of any venue and period, with intervals; without --bars, as its gate did."""
    from training import verbs

    if not bars:
        verbs.refuse_without_bars({
            "--from": start, "--to": end, "--train-bars": train_bars, "--time-column": time_column,
            "--time-means": time_means, "--time-unit": time_unit, "--column": column, "--symbol": symbol,
            "--source": source, "--measured": measured,
        })
        show(verbs.evaluate_test_part(model_name, simulated, baselines, seed, html), as_json)
        return
    if simulated:
        raise ValueError("expected --bars or --simulated, found both")
    given = verbs.bars(bars, column or (), time_column, time_means, time_unit, symbol=symbol, source=source)
    page = (html, tuple(measured or ()))
    show(verbs.evaluate(model_name, given, (start, end), baselines, train_bars or (), seed, page), as_json)


@app.command()
def walkforward(
    bars: BarFiles = None,
    models: Annotated[list[str] | None, typer.Option("--model", help="Again for each; default: all.")] = None,
    seeds: Annotated[int, typer.Option(min=1, max=9, help="Of each model that has any.")] = 5,
    blocks: Annotated[int, typer.Option(min=1, max=100, help="Test blocks, the newest last.")] = 6,
    days: Annotated[int, typer.Option(min=2, max=366, help="Days in a block that have bars.")] = 20,
    output: Results = None,
    jobs: Annotated[int, typer.Option(min=1, max=64, help="Processes, each with blocks of its own.")] = 1,
    quick: Quick = False,
    html: Annotated[Path | None, typer.Option("--html", help="Also write the table as one page.")] = None,
    time_column: TimeColumn = None, time_means: TimeMeans = None, time_unit: TimeUnit = None, column: Column = None,
    symbol: BarSymbol = None, source: BarSource = None,
    as_json: Json = False,
) -> None:
    """Fit on all before a block, score the block, block by block; stop it and start it again as you like."""
    from training import verbs
    from training.walkforward import Plan

    given = verbs.bars(bars or (), column or (), time_column, time_means, time_unit, symbol=symbol, source=source)
    plan = Plan(given.files, given.form, tuple(models or ()), tuple(range(seeds)), blocks, days, quick, jobs)
    show(verbs.walk_forward(plan, output, html), as_json)


@app.command()
def ablation(
    bars: BarFiles = None,
    model_name: OneModel = "gradient_boosting",
    seed: Annotated[int, typer.Option(min=0, help="Of every fit.")] = 0,
    blocks: Annotated[int, typer.Option(min=1, max=100, help="Test blocks, the newest last.")] = 2,
    days: Annotated[int, typer.Option(min=2, max=366, help="Days in a block that have bars.")] = 20,
    output: Results = None,
    quick: Quick = False,
    time_column: TimeColumn = None, time_means: TimeMeans = None, time_unit: TimeUnit = None, column: Column = None,
    symbol: BarSymbol = None, source: BarSource = None,
    as_json: Json = False,
) -> None:
    """Fit a model without each feature family in turn: what QLIKE and AUC lose by it; stop and go on as you like."""
    from training import verbs
    from training.ablation import text

    given = verbs.bars(bars or (), column or (), time_column, time_means, time_unit, symbol=symbol, source=source)
    found = verbs.ablation(given, model_name, seed, (blocks, days), output, quick)
    show(found, as_json, text(found))
