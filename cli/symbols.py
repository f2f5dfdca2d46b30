"""symbols list, add, remove: the instruments that the running stack follows."""

from __future__ import annotations

from typing import Annotated

import typer

from cli.options import Json
from cli.show import show

group = typer.Typer(no_args_is_help=True, help="Instruments followed by the running stack.")
Instrument = Annotated[str, typer.Argument(metavar="SYMBOL", help="Canonical id, e.g. SOLUSDT.")]


@group.command("list")
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


@group.command("add")
def symbols_add(symbol: Instrument, as_json: Json = False) -> None:
    """Follow an instrument that the venue trades; the running stack takes it on within seconds."""
    import asyncio

    from feature_repo.settings import load_settings
    from infra.stack import control
    from streaming.follow import add

    show(asyncio.run(add(control.with_venue(load_settings()), symbol)), as_json)


@group.command("remove")
def symbols_remove(symbol: Instrument, as_json: Json = False) -> None:
    """Follow an instrument no longer; what was written of it stays."""
    from feature_repo.settings import load_settings
    from streaming.follow import remove

    show(remove(load_settings(), symbol), as_json)
