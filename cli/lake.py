"""backfill, reconcile and lake status, compact, retain, delta: the past in the lake, and the lake's files."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from cli.options import From, Json, To, followed
from cli.show import show

app = typer.Typer()
group = typer.Typer(no_args_is_help=True, help="The lake's files: how many there are, merged, kept for how long.")

Told = Annotated[str, typer.Option("--source", help="klines (the venue's), raw (the lake's) or files (with --frames).")]
ToldOrContext = Annotated[
    str, typer.Option("--source", help="As of reconcile, or context: the data folder's funding, macro and the like.")]
TradeFiles = Annotated[list[Path] | None, typer.Option("--frames", help="Trade archives or recorded frames.")]
Interval = Annotated[str, typer.Option("--interval", help="Of klines: 1m or 1s.")]
OneSymbol = Annotated[str | None, typer.Option("--symbol", help="Default: all that are followed.")]


@app.command()
def backfill(
    days: Annotated[
        int | None, typer.Option(min=1, help="Without times: whole days of minute bars, up to now; default: 30."),
    ] = None,
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
        if source != "klines" or frames or days is not None or interval != "1m":
            raise ValueError("--features: expected none of --source, --frames, --days and --interval; rows are made of "
                             "the bars held from --from to --to")
        show(mend_verbs.backfill_features(settings, followed(settings, symbol), start, end), as_json)
        return
    if source == "context":
        show(mend_verbs.backfill_context(settings, followed(settings, symbol), start, end), as_json)
        return
    asked = mend_verbs.asked(followed(settings, symbol), start, end, source, frames or (), interval)
    show(mend_verbs.backfill(settings, asked, 30 if days is None else days), as_json)


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


@group.command("status")
def lake_status(as_json: Json = False) -> None:
    """Show each zone's files, size and hours, and what waits to be merged; anyone may, at any time."""
    from feature_repo.settings import load_settings
    from streaming import lake_verbs

    found = lake_verbs.status(load_settings())
    show(found, as_json, lake_verbs.text(found))


@group.command("compact")
def lake_compact(as_json: Json = False) -> None:
    """Merge what is due, as the stream does while it runs; for a lake without one."""
    from feature_repo.settings import load_settings
    from streaming import lake_verbs

    show(lake_verbs.compact(load_settings()), as_json)


@group.command("retain")
def lake_retain(
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would go.")] = False, as_json: Json = False,
) -> None:
    """Remove what is older than `lake_retention` keeps it, as the stream does while it runs."""
    from feature_repo.settings import load_settings
    from streaming import lake_verbs

    show(lake_verbs.retain(load_settings(), dry_run=dry_run), as_json)


@group.command("delta")
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
