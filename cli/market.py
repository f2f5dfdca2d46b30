"""bars, exchange, replay, record, recordings: the market as recorded frames."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from cli.options import Json
from cli.show import show

app = typer.Typer()
Frames = Annotated[list[Path], typer.Option("--frames", help="Recorded frame files, in order.")]


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
