"""chaos feed, kill, broker, sink: what is broken on purpose."""

from __future__ import annotations

from typing import Annotated

import typer

from cli.options import Json
from cli.show import show, warnings_only

group = typer.Typer(no_args_is_help=True, help="Break things on purpose and say what happened.")


@group.command("feed")
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


@group.command("kill")
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


@group.command("broker")
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


@group.command("sink")
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
