"""up, down, status, logs, doctor: the whole stack on this machine."""

from __future__ import annotations

from typing import Annotated

import typer

from cli.options import Json

app = typer.Typer()


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
