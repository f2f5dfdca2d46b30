"""bench: what the running stack, or a part of it by itself, costs and withstands."""

from __future__ import annotations

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
    followed,
)
from cli.show import show, warnings_only

group = typer.Typer(no_args_is_help=True, help="Measure the running stack.")


@group.command("freshness")
def bench_freshness(
    symbol: Annotated[str | None, typer.Option(help="Default: all that are followed.")] = None,
    seconds: Annotated[float, typer.Option(min=5, help="How long to watch.")] = 60.0,
    as_json: Json = False,
) -> None:
    """Measure the time from a second's close to its row in Redis, by symbol; exit 1 above the bar."""
    from feature_repo.settings import load_settings
    from tests.bench.freshness import run

    found = run(followed(load_settings(), symbol), seconds)
    show(found, as_json, "\n".join(f"{name}: {each}" for name, each in found["symbols"].items()))
    raise typer.Exit(0 if found["ok"] else 1)


@group.command("strangers")
def bench_strangers(
    seconds: Annotated[float, typer.Option(min=2, help="How long they follow.")] = 300.0,
    simulate: Annotated[bool, typer.Option("--simulate", help="At the simulator instead of a recording.")] = False,
    usdm: Annotated[bool, typer.Option("--usdm", help="At the recorded USD-M session.")] = False,
    as_json: Json = False,
) -> None:
    """Published clients of the venue at the local exchange, their books beside ours; exit 1 when one differs."""
    from tests.bench.strangers import run

    found = run(seconds, simulate, usdm)
    show(found, as_json)
    raise typer.Exit(0 if found["passed"] else 1)


@group.command("throughput")
def bench_throughput(
    trades: Annotated[int, typer.Option(min=100_000, help="Trades in the backlog.")] = 800_000,
    per_second: Annotated[int, typer.Option(min=1, help="Trades in a second of the market.")] = 30,
    as_json: Json = False,
) -> None:
    """Trades a second through the whole hot path from Kafka, beside Spark's bare aggregate; own broker and Redis."""
    from tests.bench.throughput import run

    warnings_only()
    found = run(trades, per_second)
    show(found, as_json)
    raise typer.Exit(0 if found["passed"] else 1)


@group.command("kernel")
def bench_kernel(
    symbols: Annotated[int, typer.Option(min=2, help="Symbols that bring one second each.")] = 50,
    seconds: Annotated[int, typer.Option(min=1, help="Rounds; the median counts.")] = 5,
    as_json: Json = False,
) -> None:
    """What one row costs in the stream and on its way to Redis, step by step, and many at once; needs no stack."""
    from tests.bench.kernel import run

    warnings_only()
    show(run(symbols, seconds), as_json)


@group.command("load")
def bench_load(
    symbols: Annotated[int, typer.Option(min=1, max=500, help="Made instruments.")] = 50,
    rate: Annotated[int, typer.Option(min=1, help="Trades a second and symbol.")] = 20,
    seconds: Annotated[float, typer.Option(min=10, help="How long at that rate.")] = 600.0,
    burst: Annotated[int, typer.Option(min=0, help="Then so many trades a second over all; 0 leaves it out.")] = 20_000,
    burst_seconds: Annotated[float, typer.Option(min=1, help="How long the burst lasts.")] = 10.0,
    as_json: Json = False,
) -> None:
    """Many symbols and a burst through Kafka, Spark and Redis of their own; exit 1 when a bar is missed."""
    from feature_repo.progress import on_stderr
    from tests.bench.load import run

    warnings_only()
    found = run(symbols, rate, seconds, burst, burst_seconds, on_stderr())
    show(found, as_json)
    raise typer.Exit(0 if found["passed"] else 1)


@group.command("lake")
def bench_lake(
    records: Annotated[int, typer.Option(min=20_000, help="Raw records.")] = 1_000_000,
    hours: Annotated[int, typer.Option(min=1, max=744, help="Hours of feature rows.")] = 24,
    as_json: Json = False,
) -> None:
    """Megabytes a second that the lake's writer takes, beside a plain Parquet write; needs no stack."""
    from tests.bench.lake import run

    found = run(records, hours)
    show(found, as_json)
    raise typer.Exit(0 if found["passed"] else 1)


@group.command("mutate")
def bench_mutate(
    frames: Annotated[int, typer.Option(min=1, help="Broken frames.")] = 1_000_000,
    seed: Annotated[int, typer.Option(help="The same frames each time.")] = 1,
    as_json: Json = False,
) -> None:
    """Broken frames through ingest's own path: all refused with a reason, no trace left, no memory kept."""
    from tests.bench.mutate import run

    result = run(frames, seed)
    show(result, as_json)
    raise typer.Exit(0 if result["passed"] else 1)


@group.command("store")
def bench_store(
    offline: Annotated[bool, typer.Option("--offline", help="Only the as-of store: needs no stack.")] = False,
    as_json: Json = False,
) -> None:
    """Online write and read, history through Feast; the as-of store beside Feast's stock stores and a bare join."""
    from feature_repo.settings import load_settings
    from tests.bench.store import run

    result = run(load_settings(), offline_only=offline)
    show(result, as_json)
    raise typer.Exit(1 if result["over"] else 0)


@group.command("day")
def bench_day(as_json: Json = False) -> None:
    """Two million trades of a day through `backfill`: bars and rows; beside a DuckDB scan of the same file."""
    from feature_repo.settings import load_settings
    from tests.bench.day import run

    result = run(load_settings())
    show(result, as_json)
    raise typer.Exit(0 if result["passed"] else 1)


@group.command("online")
def bench_online(
    races: Annotated[int, typer.Option(min=0, help="Through each of Feast's ways; 0 leaves them out.")] = 10_000,
    as_json: Json = False,
) -> None:
    """Model inputs read and rows written beside Feast's SDK and server; races beside its stock store."""
    from feature_repo.progress import Bar, shown
    from feature_repo.settings import load_settings
    from tests.bench.online_store import run

    with shown(Bar()):
        result = run(load_settings(), races=races)
    show(result, as_json)
    raise typer.Exit(0 if result["passed"] else 1)


@group.command("crash")
def bench_crash(
    bars: BarFiles = None,
    model_name: OneModel = "gradient_boosting",
    seed: Annotated[int, typer.Option(min=0, help="Of every fit.")] = 0,
    start: Annotated[str, typer.Option("--from", help="When the crash began (ISO 8601).")] = "2024-08-05",
    end: Annotated[str, typer.Option("--to", help="When it was over.")] = "2024-08-06",
    time_column: TimeColumn = None, time_means: TimeMeans = None, time_unit: TimeUnit = None, column: Column = None,
    symbol: BarSymbol = None, source: BarSource = None,
    as_json: Json = False,
) -> None:
    """The risk score in a crash, by a model that has learnt nothing of it; exit 1 below the bars."""
    from training import verbs
    from training.crash import text

    given = verbs.bars(bars or (), column or (), time_column, time_means, time_unit, symbol=symbol, source=source)
    found = verbs.crash(given, model_name, seed, (start, end))
    show(found, as_json, text(found))
    raise typer.Exit(0 if found["passed"] else 1)


@group.command("train")
def bench_train(
    rows: Annotated[int, typer.Option(min=20_000, help="Minutes of bars to train on.")] = 500_000,
    model_name: OneModel = "stack",
    simulated: Simulated = False,
    as_json: Json = False,
) -> None:
    """Seconds and memory of a training, stage by stage, and what a row costs in ONNX; exit 1 above the bars."""
    from feature_repo.progress import Bar, shown
    from feature_repo.settings import load_settings
    from tests.bench.train import run, text

    warnings_only()
    with shown(Bar()):
        found = run(load_settings(), rows, model_name, simulated)
    show(found, as_json, text(found))
    raise typer.Exit(0 if found["passed"] else 1)


@group.command("predict")
def bench_predict(
    self_contained: Annotated[bool, typer.Option("--self-contained", help="Start Redis and the service.")] = False,
    as_json: Json = False,
) -> None:
    """A prediction over HTTP beside a route that does nothing, at 1 and 8 connections, in the same run."""
    from tests.bench.predict import run

    try:
        result = run(self_contained)
    except ConnectionError as error:
        typer.echo(f"candlewick: {error}", err=True)
        raise typer.Exit(1) from error
    show(result, as_json)
    raise typer.Exit(0 if result["passed"] else 1)
