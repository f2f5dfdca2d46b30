"""candlewick: the command line. Every verb is a few lines that import one module and call it.

    candlewick up            start the whole stack on this machine
    candlewick status --json what runs, where, and how much memory it takes

Rules for a verb: import inside the function (so `--help` stays quick), take `--json`, hand the work to a
module, print through `show`. Exit codes: 0 ok, 1 a check failed (`raise typer.Exit(1)`), 2 bad usage or
input (raise `ValueError("expected …, found …; do …")` anywhere below and it is printed without a traceback).
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from feature_repo.settings import Settings

app = typer.Typer(
    name="candlewick", no_args_is_help=True, pretty_exceptions_enable=False, add_completion=False,
    help="Features you can prove, forecasts you can trust, alerts you can explain.",
)
bench = typer.Typer(no_args_is_help=True, help="Measure the running stack.")
app.add_typer(bench, name="bench")
chaos = typer.Typer(no_args_is_help=True, help="Break things on purpose and say what happened.")
app.add_typer(chaos, name="chaos")

Json = Annotated[bool, typer.Option("--json", help="Print one JSON object instead of text.")]
Frames = Annotated[list[Path], typer.Option("--frames", help="Recorded frame files, in order.")]


def show(result: Mapping[str, Any], as_json: bool, text: str | None = None) -> None:
    """Print a result once: as one JSON object, or as `text` (default: one `name: value` line each)."""
    if as_json:
        typer.echo(json.dumps(result, default=str))
    else:
        typer.echo(text if text is not None else "\n".join(f"{name}: {value}" for name, value in result.items()))


def warnings_only() -> None:
    """Logs of a measuring or drilling process: its own stack's comings and goings are in its result."""
    from feature_repo.logs import configure

    configure("drill", "warning")


def followed(settings: Settings, symbol: str | None = None) -> tuple[str, ...]:
    """The one symbol asked for, else all that the running stack follows; without a broker the settings' own."""
    from feature_repo.contracts import StoreUnavailable
    from feature_repo.symbols import read_followed

    try:
        return (symbol,) if symbol else read_followed(settings.kafka, settings.symbols)
    except StoreUnavailable:
        return settings.symbols


# --- the stack ------------------------------------------------------------------------------------------------------


@app.command()
def up(
    source: Annotated[str, typer.Option(help="Where the market comes from: auto|live|recording|simulated.")] = "auto",
    as_json: Json = False,
) -> None:
    """Start what is not running yet, in order of readiness, and print one table."""
    from infra.stack import control

    raise typer.Exit(control.up(as_json, source))


@app.command()
def down(as_json: Json = False) -> None:
    """Stop every process of the stack; state stays in the run folder."""
    from infra.stack import control

    raise typer.Exit(control.down(as_json))


@app.command()
def status(as_json: Json = False) -> None:
    """Show each component: state, address, memory, log."""
    from infra.stack import control

    raise typer.Exit(control.status(as_json))


@app.command()
def logs(
    service: Annotated[str | None, typer.Argument(help="One component; without it, all of them.")] = None,
    follow: Annotated[bool, typer.Option("-f", "--follow", help="Go on as lines arrive.")] = False,
    lines: Annotated[int, typer.Option("-n", "--lines", min=0, help="Lines from the end of each log.")] = 40,
    as_json: Json = False,
) -> None:
    """Print the logs of the stack."""
    from infra.stack import control

    raise typer.Exit(control.logs(service, follow, lines, as_json))


@app.command()
def doctor(
    fix: Annotated[bool, typer.Option("--fix", help="Mend what is safe to mend, and say what was done.")] = False,
    as_json: Json = False,
) -> None:
    """Say what this machine lacks, what is occupied and what has drifted, and how to mend it."""
    from infra.stack import doctor as checks

    raise typer.Exit(checks.main(as_json, fix))


# --- the contract ---------------------------------------------------------------------------------------------------


@app.command()
def topics(as_json: Json = False) -> None:
    """Create the Kafka topics that are missing, with their settings."""
    from feature_repo.settings import load_settings
    from feature_repo.topics import create_topics
    from feature_repo.topics import topics as wanted

    settings = load_settings()
    show(create_topics(settings.kafka, wanted(settings.symbols)), as_json)


@app.command()
def tail(
    topic: Annotated[str, typer.Argument(help="For instance crypto.btc.trades.")],
    count: Annotated[int, typer.Option("-n", "--lines", min=1, help="How many of the newest records.")] = 10,
    as_json: Json = False,
) -> None:
    """Print the newest records of a topic, decoded."""
    import dataclasses

    from feature_repo.settings import load_settings
    from feature_repo.topic_reader import newest

    records = [dataclasses.asdict(record) for record in newest(load_settings().kafka, topic, count)]
    lines = [f"{r['partition']}/{r['offset']} {r['key']} {r['schema']} {json.dumps(r['body'])}" for r in records]
    show({"topic": topic, "records": records}, as_json, "\n".join(lines))


symbols = typer.Typer(no_args_is_help=True, help="Instruments followed by the running stack.")
app.add_typer(symbols, name="symbols")
Instrument = Annotated[str, typer.Argument(metavar="SYMBOL", help="Canonical id, e.g. SOLUSDT.")]


@symbols.command("list")
def symbols_list(
    venue: Annotated[bool, typer.Option("--venue", help="And those that the venue trades.")] = False,
    as_json: Json = False,
) -> None:
    """Show what is followed."""
    import asyncio

    from feature_repo.settings import load_settings
    from infra.stack import control
    from streaming.follow import listed

    found = asyncio.run(listed(control.with_venue(load_settings()), venue))
    show(found, as_json, "\n".join(f"{name}: {' '.join(which)}" for name, which in found.items()))


@symbols.command("add")
def symbols_add(symbol: Instrument, as_json: Json = False) -> None:
    """Follow an instrument that the venue trades; the running stack takes it on within seconds."""
    import asyncio

    from feature_repo.settings import load_settings
    from infra.stack import control
    from streaming.follow import add

    show(asyncio.run(add(control.with_venue(load_settings()), symbol)), as_json)


@symbols.command("remove")
def symbols_remove(symbol: Instrument, as_json: Json = False) -> None:
    """Follow an instrument no longer; what was written of it stays."""
    from feature_repo.settings import load_settings
    from streaming.follow import remove

    show(remove(load_settings(), symbol), as_json)


# --- ingest and streaming: bars, replay, record, exchange, backfill (add here) --------------------------------------


@app.command()
def bars(
    frames: Frames,
    output: Annotated[Path, typer.Option("--output", help="Parquet file to write.")],
    interval: Annotated[str, typer.Option("--interval", help="1s or 1m.")] = "1m",
    as_json: Json = False,
) -> None:
    """Bars of recorded frames, by the same functions as the stream; partial ones are left out."""
    from streaming.frame_bars import write_bars

    show(write_bars(frames, interval, output), as_json)


@app.command()
def exchange(
    frames: Annotated[list[Path] | None, typer.Option("--frames", help="Default: the data folder's recording.")] = None,
    speed: Annotated[float, typer.Option(min=0, help="Times real time; 0 = as fast as the clients take it.")] = 1.0,
    original_time: Annotated[bool, typer.Option("--original-time", help="Keep the recording's own times.")] = False,
    once: Annotated[bool, typer.Option("--once", help="Play the whole recording a single time, then exit.")] = False,
    simulate: Annotated[bool, typer.Option("--simulate", help="Play the simulator instead of a recording.")] = False,
    seed: Annotated[int, typer.Option(help="The simulator's seed.")] = 1,
    as_json: Json = False,
) -> None:
    """Serve the venue's WebSocket and REST protocol on loopback, from a recording or a simulator."""
    from streaming.exchange import ExchangeConfig, serve_here

    config = ExchangeConfig(tuple(frames or ()), speed, original_time, once, simulate=simulate, seed=seed)
    show(serve_here(config), as_json)


@app.command()
def replay(
    frames: Annotated[list[Path] | None, typer.Option("--frames", help="Recorded frame files, in order.")] = None,
    speed: Annotated[float | None, typer.Option(min=0, help="Times real time; 0 = as fast as it goes.")] = None,
    once: Annotated[bool, typer.Option("--once", help="Play the files a single time, whole, then exit.")] = False,
    original_time: Annotated[bool, typer.Option("--original-time", help="Keep the recording's own times.")] = False,
    start: Annotated[str | None, typer.Option("--from", help="Replay the seconds after this time (ISO 8601)")] = None,
    end: Annotated[str | None, typer.Option("--to", help="… up to this one, through the stream, isolated.")] = None,
    symbols: Annotated[list[str] | None, typer.Option("--symbol", help="Default: the settings' symbols.")] = None,
    source: Annotated[str, typer.Option(help="raw (the lake's) or frames (recorded ones).")] = "raw",
    recordings_in: Annotated[Path | None, typer.Option("--recordings", help="Folder of recorded frames.")] = None,
    name: Annotated[str, typer.Option(help="Of the replay; default: made of the times.")] = "",
    discard: Annotated[bool, typer.Option("--discard", help="Leave nothing but the summary.")] = False,
    kept: Annotated[bool, typer.Option("--list", help="Show the replays that were kept.")] = False,
    doomed: Annotated[str | None, typer.Option("--remove", help="Delete all that a replay left.")] = None,
    as_json: Json = False,
) -> None:
    """Serve recorded frames as the venue would; with --from and --to, run the past through the stream again."""
    from feature_repo.settings import load_settings

    if start is None and end is None and not kept and doomed is None:
        from streaming.exchange import ExchangeConfig, serve_here

        if not frames:
            raise ValueError("expected --frames FILE…, or --from and --to; found neither")
        played = ExchangeConfig(tuple(frames), 1.0 if speed is None else speed, original_time, once)
        show(serve_here(played), as_json)
        return
    from streaming import replay_places, time_machine

    settings = load_settings()
    if kept:
        show({"replays": replay_places.kept(settings)}, as_json)
    elif doomed is not None:
        show(replay_places.remove(settings, doomed), as_json)
    else:
        config = time_machine.config_of(
            settings, start, end, symbols=tuple(symbols or ()), source=source, frames=tuple(frames or ()),
            recordings=recordings_in, speed=speed or 0.0, name=name, discard=discard,
        )
        show(time_machine.run(settings, config), as_json)


@app.command()
def record(
    output: Annotated[Path | None, typer.Option("--output", help="Default: recordings in the run folder.")] = None,
    url: Annotated[str | None, typer.Option(help="ws://host:port; default: the venue's hosts.")] = None,
    symbols: Annotated[list[str] | None, typer.Option("--symbol", help="Default: the settings' symbols.")] = None,
    seconds: Annotated[float | None, typer.Option(help="How long; default: until stopped.")] = None,
    rotate_s: Annotated[float, typer.Option("--rotate", min=1, help="A new file at each multiple in UTC, s.")] = 3600,
    rotate_size: Annotated[str, typer.Option("--rotate-size", help="A new file at this size.")] = "256MB",
    budget: Annotated[str | None, typer.Option(help="Most space, e.g. 20GB: the oldest files go first.")] = None,
    as_json: Json = False,
) -> None:
    """Record a venue's frames and depth snapshots, exactly as received, to indexed zstd files."""
    from streaming.recorder import record as run
    from streaming.recorder import size

    limits = {"rotate_bytes": size(rotate_size), "budget_bytes": size(budget) if budget else None}
    show(run(output, url, symbols or (), seconds=seconds, rotate_s=rotate_s, **limits), as_json)


@app.command()
def recordings(
    folder: Annotated[Path | None, typer.Argument(help="Default: recordings in the run folder.")] = None,
    as_json: Json = False,
) -> None:
    """Show the index of recorded files: what each holds, and how it joins the one before."""
    from feature_repo.settings import load_settings
    from streaming.recorder import recordings_folder
    from streaming.recordings import table, text

    found = table(folder or recordings_folder(load_settings()))
    show(found, as_json, text(found))


From = Annotated[str | None, typer.Option("--from", help="The seconds that close after this time (ISO 8601)")]
To = Annotated[str | None, typer.Option("--to", help="… up to this one.")]
Told = Annotated[str, typer.Option("--source", help="klines (the venue's), raw (the lake's) or files (with --frames).")]
ToldOrContext = Annotated[
    str, typer.Option("--source", help="As of reconcile, or context: the data folder's funding, macro and the like.")]
TradeFiles = Annotated[list[Path] | None, typer.Option("--frames", help="Trade archives or recorded frames.")]
Interval = Annotated[str, typer.Option("--interval", help="Of klines: 1m or 1s.")]
OneSymbol = Annotated[str | None, typer.Option("--symbol", help="Default: all that are followed.")]


@app.command()
def backfill(
    days: Annotated[int, typer.Option(min=1, help="Without times: whole days of minute bars, up to now.")] = 30,
    start: From = None,
    end: To = None,
    source: ToldOrContext = "klines",
    frames: TradeFiles = None,
    interval: Interval = "1m",
    symbol: OneSymbol = None,
    features: Annotated[
        bool, typer.Option("--features", help="What older rows lack of the declared features, from the bars held."),
    ] = False,
    as_json: Json = False,
) -> None:
    """Bring past bars, or slow series, and their rows into the lake; what is there already stays as it is."""
    from feature_repo.settings import load_settings
    from infra.stack import control
    from streaming import mend_verbs

    settings = control.with_venue(load_settings())
    if features:
        if source != "klines" or frames:
            raise ValueError("--features: expected neither --source nor --frames; rows are made of the bars held")
        show(mend_verbs.backfill_features(settings, followed(settings, symbol), start, end), as_json)
        return
    if source == "context":
        show(mend_verbs.backfill_context(settings, followed(settings, symbol), start, end), as_json)
        return
    asked = mend_verbs.asked(followed(settings, symbol), start, end, source, frames or (), interval)
    show(mend_verbs.backfill(settings, asked, days), as_json)


@app.command()
def reconcile(
    start: From = None,
    end: To = None,
    source: Told = "klines",
    frames: TradeFiles = None,
    interval: Interval = "1m",
    symbol: OneSymbol = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what differs.")] = False,
    most: Annotated[int, typer.Option("--lines", min=0, help="Most lines of a symbol.")] = 1_000,
    as_json: Json = False,
) -> None:
    """Compare the lake's bars with klines, files or raw; where they differ, write revisions and explain each."""
    from feature_repo.settings import load_settings
    from infra.stack import control
    from streaming import mend_verbs

    settings = control.with_venue(load_settings())
    asked = mend_verbs.asked(followed(settings, symbol), start, end, source, frames or (), interval)
    found = mend_verbs.reconcile(settings, asked, dry_run=dry_run, most_lines=most)
    show(found, as_json, mend_verbs.text(found))


lake = typer.Typer(no_args_is_help=True, help="The lake's files: how many there are, merged, kept for how long.")
app.add_typer(lake, name="lake")


@lake.command("status")
def lake_status(as_json: Json = False) -> None:
    """Show each zone's files, size and hours, and what waits to be merged; anyone may, at any time."""
    from feature_repo.settings import load_settings
    from streaming import lake_verbs

    found = lake_verbs.status(load_settings())
    show(found, as_json, lake_verbs.text(found))


@lake.command("compact")
def lake_compact(as_json: Json = False) -> None:
    """Merge what is due, as the stream does while it runs; for a lake without one."""
    from feature_repo.settings import load_settings
    from streaming import lake_verbs

    show(lake_verbs.compact(load_settings()), as_json)


@lake.command("retain")
def lake_retain(
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would go.")] = False, as_json: Json = False,
) -> None:
    """Remove what is older than `lake_retention` keeps it, as the stream does while it runs."""
    from feature_repo.settings import load_settings
    from streaming import lake_verbs

    show(lake_verbs.retain(load_settings(), dry_run=dry_run), as_json)


@lake.command("delta")
def lake_delta(
    zone: Annotated[str, typer.Argument(help="raw, clean, features, predictions, alerts or context.")],
    table: Annotated[str, typer.Option("--table", help="Its address: file://… or s3://….")],
    start: From = None,
    end: To = None,
    as_json: Json = False,
) -> None:
    """Write a zone, or its days between two times, as a Delta table; again replaces the same days."""
    from feature_repo.settings import load_settings
    from streaming import delta

    show(delta.export(load_settings(), zone, table, *delta.days(start, end)), as_json)


@app.command()
def console(
    topic: Annotated[str, typer.Option(help="crypto_clean, crypto_features, crypto.btc.trades, …")] = "crypto_clean",
    symbol: Annotated[str | None, typer.Option(help="Only this symbol.")] = None,
    limit: Annotated[int, typer.Option(min=0, help="End after so many rows; 0: go on until stopped.")] = 20,
    from_start: Annotated[bool, typer.Option("--from-start", help="Begin with the oldest record held.")] = False,
    patience: Annotated[float, typer.Option(min=1, help="Exit 1 after so many seconds without a row.")] = 60.0,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object a row.")] = False,
) -> None:
    """Watch a topic through Spark's console sink, decoded to readable columns."""
    from feature_repo.settings import load_settings
    from streaming.console import ConsoleConfig, run

    run(load_settings(), ConsoleConfig(topic, symbol, limit, from_start, patience), as_json)


@bench.command("freshness")
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


@bench.command("strangers")
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


@bench.command("throughput")
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


@bench.command("kernel")
def bench_kernel(
    symbols: Annotated[int, typer.Option(min=2, help="Symbols that bring one second each.")] = 50,
    seconds: Annotated[int, typer.Option(min=1, help="Rounds; the median counts.")] = 5,
    as_json: Json = False,
) -> None:
    """What one row costs in the stream and on its way to Redis, step by step, and many at once; needs no stack."""
    from tests.bench.kernel import run

    warnings_only()
    show(run(symbols, seconds), as_json)


@bench.command("load")
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


@bench.command("lake")
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


@bench.command("mutate")
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


# --- chaos: what breaks on purpose (add here) ------------------------------------------------------------------------


@chaos.command("feed")
def chaos_feed(
    scenario: Annotated[str, typer.Argument(help="A scenario's name or file, or all.")],
    quick: Annotated[bool, typer.Option("--quick", help="Repeat each fault twice at most.")] = False,
    recorded: Annotated[bool, typer.Option("--recorded", help="Play the data folder's recording.")] = False,
    stack: Annotated[bool, typer.Option("--stack", help="Against the running stack and its local exchange.")] = False,
    as_json: Json = False,
) -> None:
    """Faults at the venue, against an exchange and an ingest of its own; exit 1 when an expectation is not met."""
    from streaming.chaos import run, text

    result = run(scenario, quick, recorded, stack)
    show(result, as_json, text(result))
    raise typer.Exit(0 if result["passed"] else 1)


@chaos.command("kill")
def chaos_kill(
    kills: Annotated[int, typer.Option(min=0, max=1_000, help="How many processes to kill.")] = 20,
    minutes: Annotated[float, typer.Option(min=1, help="How long the market plays.")] = 30.0,
    seed: Annotated[int, typer.Option(help="What is killed when.")] = 1,
    undisturbed: Annotated[bool, typer.Option(help="Also play it without kills, and compare.")] = True,
    as_json: Json = False,
) -> None:
    """Kill processes of a whole stack of its own at random; judge lake and Redis; exit 1 when anything differs."""
    from feature_repo.settings import load_settings
    from infra.drill.kill import run
    from infra.stack.trial import offline_source

    warnings_only()
    found = run(kills, minutes, seed, offline_source(load_settings()), undisturbed)
    show(found, as_json)
    raise typer.Exit(0 if found["passed"] else 1)


@chaos.command("broker")
def chaos_broker(
    pause: Annotated[float, typer.Option(min=1, max=55, help="Seconds for which the broker is frozen.")] = 30.0,
    disk: Annotated[bool, typer.Option(help="Also fill its disk; needs root.")] = True,
    as_json: Json = False,
) -> None:
    """Kill, freeze and fill up a broker of its own under ingest's sink; exit 1 when an acknowledged message is lost."""
    from infra.drill.broker import run

    warnings_only()
    found = run(pause, disk)
    show(found, as_json)
    raise typer.Exit(0 if found["passed"] else 1)


@chaos.command("sink")
def chaos_sink(
    sink: Annotated[str, typer.Option(help="What is slow: redis, the online store, or s3, the lake.")] = "redis",
    delay_ms: Annotated[float, typer.Option(min=0, max=5_000, help="How long it takes for every request.")] = 500.0,
    minutes: Annotated[float, typer.Option(min=0.1, help="For how long.")] = 5.0,
    as_json: Json = False,
) -> None:
    """Let a store of its own answer slowly under load; exit 1 when memory grows or the lag stays."""
    from feature_repo.progress import on_stderr
    from infra.drill.sink import run

    warnings_only()
    found = run(delay_ms, minutes, sink, say=on_stderr())
    show(found, as_json)
    raise typer.Exit(0 if found["passed"] else 1)


# --- feature store: parity, history (add here) ----------------------------------------------------------------------


@app.command()
def parity(
    minutes: Annotated[int, typer.Option(min=1, max=1440, help="How much of the newest history.")] = 10,
    symbol: Annotated[str | None, typer.Option(help="Default: all that are followed.")] = None,
    watch: Annotated[float, typer.Option(min=0, help="Sample the online row each second, for so many seconds.")] = 0,
    html: Annotated[Path | None, typer.Option("--html", help="Also write the certificate as one HTML file.")] = None,
    as_json: Json = False,
) -> None:
    """Compare online, lake, Feast and logged inputs with a recomputation from raw; exit 1 when a bit differs."""
    import time

    from feature_repo.settings import load_settings
    from monitoring.parity import check
    from monitoring.parity.page import page
    from monitoring.parity.summary import text

    settings = load_settings()
    names = followed(settings, symbol)
    found = {name: check(settings, name, minutes=minutes, watch_s=watch).as_dict() for name in names}
    if html:
        html.parent.mkdir(parents=True, exist_ok=True)
        html.write_text(page(list(found.values()), time.time_ns()))
    show(found, as_json, "\n\n".join(map(text, found.values())))
    raise typer.Exit(0 if all(each["passed"] for each in found.values()) else 1)


@app.command()
def leakcheck(
    bars: Annotated[list[Path] | None, typer.Option("--bars", help="Bar files, or klines. Default: the lake.")] = None,
    simulated: Annotated[bool, typer.Option("--simulated", help="A made market, whatever the lake holds.")] = False,
    symbol: Annotated[str, typer.Option(help="Which instrument.")] = "BTCUSDT",
    instants: Annotated[int, typer.Option(min=1, max=10_000, help="Random instants.")] = 20,
    seed: Annotated[int, typer.Option(min=0, help="The same instants each time.")] = 1,
    plant: Annotated[bool, typer.Option("--plant", help="Also put in leaks on purpose; each must be found.")] = False,
    as_json: Json = False,
) -> None:
    """Cut off, overwrite and delay what was not known yet: no feature or label may change; exit 1 when one does."""
    from feature_repo.settings import load_settings
    from monitoring import leakcheck as leaks
    from monitoring.leakcheck.check import CheckConfig

    found = leaks.run(load_settings(), CheckConfig(seed, instants, plant), symbol, bars or (), simulated)
    show(found, as_json, leaks.text(found))
    raise typer.Exit(0 if found["passed"] else 1)


@app.command()
def quality(
    hours: Annotated[int, typer.Option(min=1, max=744, help="How much of the newest history.")] = 24,
    symbol: Annotated[str | None, typer.Option(help="Default: all that are followed.")] = None,
    as_json: Json = False,
) -> None:
    """Compare the lake's feature rows with what is expected of each feature; exit 1 when one misses it."""
    from feature_repo.lake_reader import Lake
    from feature_repo.settings import load_settings
    from monitoring.quality import report, text

    settings = load_settings()
    lake = Lake.open(settings.lake, settings.s3_endpoint)
    found = {name: report(lake, name, hours) for name in followed(settings, symbol)}
    show(found, as_json, text(found.values()))
    raise typer.Exit(0 if all(each["passed"] for each in found.values()) else 1)


features = typer.Typer(no_args_is_help=True, help="What is declared in FEATURES.")
app.add_typer(features, name="features")


@features.command("list")
def features_list(as_json: Json = False) -> None:
    """Show every feature with the hashes of its definition and of its values, and the models that read it."""
    from feature_repo.catalogue import catalogue
    from feature_repo.features import FEATURE_SET
    from feature_repo.models import models
    from feature_repo.settings import load_settings

    held = models(load_settings())
    entries = [{**e, "models": [m.service for m in held if e["name"] in m.features]} for e in catalogue()]
    lines = [f"{e['name']:<28} {e['definition']} {e['values']} {e['requires']:<9} {e['formula']}" for e in entries]
    show({"feature_set": FEATURE_SET, "features": entries}, as_json, "\n".join([f"feature set {FEATURE_SET}", *lines]))


@features.command("diff")
def features_diff(
    against: Annotated[str | None, typer.Argument(help="Git revision, or a model. Default: the served one.")] = None,
    as_json: Json = False,
) -> None:
    """Say what was added, removed and changed, and which models break by it; exit 1 when one does."""
    from feature_repo.settings import load_settings
    from training.feature_changes import report, text

    found = report(load_settings(), against)
    show(found, as_json, text(found))
    raise typer.Exit(1 if found["breaking"] else 0)


@bench.command("store")
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


@bench.command("day")
def bench_day(as_json: Json = False) -> None:
    """Two million trades of a day through `backfill`: bars and rows; beside a DuckDB scan of the same file."""
    from feature_repo.settings import load_settings
    from tests.bench.day import run

    result = run(load_settings())
    show(result, as_json)
    raise typer.Exit(0 if result["passed"] else 1)


@bench.command("online")
def bench_online(
    races: Annotated[int, typer.Option(min=0, help="Through each of Feast's ways; 0 leaves them out.")] = 10_000,
    as_json: Json = False,
) -> None:
    """Model inputs read and rows written beside Feast's SDK and server; races beside its stock store."""
    from feature_repo.settings import load_settings
    from tests.bench.online_store import run

    result = run(load_settings(), races=races)
    show(result, as_json)
    raise typer.Exit(0 if result["passed"] else 1)


# --- training -------------------------------------------------------------------------------------------------------

model = typer.Typer(no_args_is_help=True, help="Model artefacts.")
app.add_typer(model, name="model")
ModelFolder = Annotated[Path | None, typer.Option("--model", help="Artefact folder; default: the one served at start.")]
Simulated = Annotated[bool, typer.Option("--simulated", help="Use a market that is not real.")]
Quick = Annotated[bool, typer.Option("--quick", help="A minute instead of ten: few days, one seed.")]


BarFiles = Annotated[list[str] | None, typer.Option(
    "--bars", help="One-minute bars, Parquet or CSV, several files or SYMBOL=FILE; see docs/bar-files.md.")]
TimeColumn = Annotated[str | None, typer.Option("--time-column", help="Of the bars; default: known by name.")]
TimeMeans = Annotated[str | None, typer.Option("--time-means", help="open (default) or close: what a bar's time is.")]
TimeUnit = Annotated[str | None, typer.Option("--time-unit", help="s, ms, us or ns, of integers; default: by size.")]
Column = Annotated[list[str] | None, typer.Option("--column", help="FIELD=NAME where a column has another name.")]
BarSymbol = Annotated[str | None, typer.Option("--symbol", help="Of files without a symbol column. Default: BTCUSDT.")]
OneModel = Annotated[str, typer.Option("--model", help="stack, transformer, gradient_boosting, logistic, har, …")]
Results = Annotated[Path | None, typer.Option("--output", help="Folder of results; what is there is kept.")]
BarSource = Annotated[str | None, typer.Option("--source", help="live (default), recording or simulated.")]


@app.command()
def train(
    bars: BarFiles = None,
    until: Annotated[str | None, typer.Option(help="Learn from nothing that closes later (ISO 8601).")] = None,
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
    from training import verbs

    if not bars:
        verbs.refuse_without_bars({
            "--until": until, "--time-column": time_column, "--time-means": time_means, "--time-unit": time_unit,
            "--column": column, "--symbol": symbol, "--source": source,
        })
    given = verbs.bars(bars or (), column or (), time_column, time_means, time_unit, symbol=symbol, source=source)
    fitted = (seed,) if seed is not None else tuple(range(1 if quick else seeds))
    show(verbs.train(quick, simulated, fitted, install, model_name, given, until), as_json)


@app.command()
def evaluate(
    model_name: Annotated[str | None, typer.Option(
        "--model", help="Folder, name, name@alias, name/version or alias.")] = None,
    bars: BarFiles = None,
    start: Annotated[str | None, typer.Option("--from", help="First minute scored, by its close (ISO 8601).")] = None,
    end: Annotated[str | None, typer.Option("--to", help="Last minute scored.")] = None,
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


@bench.command("crash")
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


@bench.command("train")
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


dataset = typer.Typer(no_args_is_help=True, help="Training sets.")
app.add_typer(dataset, name="dataset")
SetHash = Annotated[str, typer.Argument(metavar="HASH", help="A set's hash, or how it begins.")]


@dataset.command("list")
def dataset_list(as_json: Json = False) -> None:
    """Show the training sets made here and those of the models here."""
    from feature_repo.settings import load_settings
    from training.datasets import kept

    found = kept(load_settings())
    lines = [f"{e['identity']} {e['symbol']} {e['source']} {e['feature_set']} {e['counts']}" for e in found]
    show({"datasets": [{k: v for k, v in e.items() if k != "profile"} for e in found]}, as_json, "\n".join(lines))


@dataset.command("show")
def dataset_show(named: SetHash, as_json: Json = False) -> None:
    """Show what a training set was made of, and the profile of each feature and label."""
    from feature_repo.settings import load_settings
    from training.datasets import find

    found = find(load_settings(), named)
    show(found, as_json)


@dataset.command("rebuild")
def dataset_rebuild(
    named: SetHash,
    output: Annotated[Path | None, typer.Option("--output", help="Also write its arrays here, as .npy files.")] = None,
    as_json: Json = False,
) -> None:
    """Make a training set again and compare it bit for bit; exit 1 when it is another one."""
    from training.verbs import rebuild

    found = rebuild(named, output)
    show(found, as_json)
    raise typer.Exit(0 if found["same"] else 1)


@model.command("verify")
def model_verify(model_folder: ModelFolder = None, as_json: Json = False) -> None:
    """Check an artefact: checksums, feature set, answers, size, speed."""
    from training import verbs

    result, passed = verbs.verify(model_folder)
    show(result, as_json)
    raise typer.Exit(0 if passed else 1)




# --- serving --------------------------------------------------------------------------------------------------------


@bench.command("predict")
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


# --- monitoring (add here) ------------------------------------------------------------------------------------------


@app.command("drift")
def drift_report(
    report: Annotated[Path | None, typer.Option(help="Write Evidently's report here, as HTML and JSON.")] = None,
    symbol: Annotated[str, typer.Option(help="Which instrument.")] = "BTCUSDT",
    hours: Annotated[int, typer.Option(min=1, max=720, help="How far back.")] = 24,
    as_json: Json = False,
) -> None:
    """Compare the last hours' features with the served model's training data (PSI, KS)."""
    import time

    from feature_repo.settings import load_settings
    from monitoring.report import histograms, measure, write_report

    settings = load_settings()
    found, rows = measure(settings, symbol, time.time_ns(), hours)
    written = write_report(histograms(settings), rows, report) if report else []
    lines = [
        f"{name:<26} PSI {values['psi']:.3f}  KS {values['ks']:.3f}  {found['states'][name]}"
        for name, values in found["features"].items()
    ]
    show(found | {"report": [str(path) for path in written]}, as_json, "\n".join([*lines, *map(str, written)]))


def spread(arguments: list[str], name: str = "--frames") -> list[str]:
    """Repeat an option before each of its values: shells expand `--frames *.gz` to one option and many files.

    >>> spread(["bars", "--frames", "a.gz", "b.gz", "--interval", "1m"])
    ['bars', '--frames', 'a.gz', '--frames', 'b.gz', '--interval', '1m']
    """
    spread_out: list[str] = []
    inside = False
    for argument in arguments:
        inside = argument == name or (inside and not argument.startswith("-"))
        spread_out += [name, argument] if inside and argument != name else [] if inside else [argument]
    return spread_out


def main() -> None:
    """Run the command line; what we raise on purpose is one line: exit 2 for bad input, 1 for what failed."""
    from feature_repo.contracts import CandlewickError

    os.environ.setdefault("DO_NOT_TRACK", "1")
    try:
        app(spread(spread(spread(sys.argv[1:]), "--bars"), "--train-bars"))
    except (ValueError, CandlewickError) as error:
        if os.environ.get("CANDLEWICK_LOG_LEVEL") == "debug":
            raise
        typer.echo(f"candlewick: {error}", err=True)
        sys.exit(2 if isinstance(error, ValueError) else 1)


if __name__ == "__main__":
    main()
