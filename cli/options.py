"""Options that several verbs share, and what a left out `--symbol` means."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from feature_repo.settings import Settings

Json = Annotated[bool, typer.Option("--json", help="Print one JSON object instead of text.")]
From = Annotated[str | None, typer.Option("--from", help="The seconds that close after this time (ISO 8601)")]
To = Annotated[str | None, typer.Option("--to", help="… up to this one.")]

# Bar files that a model is fitted to or scored on, and how to read them.
BarFiles = Annotated[list[str] | None, typer.Option(
    "--bars", help="One-minute bars, Parquet or CSV, several files or SYMBOL=FILE; see docs/bar-files.md.")]
TimeColumn = Annotated[str | None, typer.Option("--time-column", help="Of the bars; default: known by name.")]
TimeMeans = Annotated[str | None, typer.Option("--time-means", help="open (default) or close: what a bar's time is.")]
TimeUnit = Annotated[str | None, typer.Option("--time-unit", help="s, ms, us or ns, of integers; default: by size.")]
Column = Annotated[list[str] | None, typer.Option("--column", help="FIELD=NAME where a column has another name.")]
BarSymbol = Annotated[str | None, typer.Option("--symbol", help="Of files without a symbol column. Default: BTCUSDT.")]
BarSource = Annotated[str | None, typer.Option("--source", help="live (default), recording or simulated.")]
OneModel = Annotated[str, typer.Option("--model", help="stack, transformer, gradient_boosting, logistic, har, …")]
Simulated = Annotated[bool, typer.Option("--simulated", help="Use a market that is not real.")]


def followed(settings: Settings, symbol: str | None = None) -> tuple[str, ...]:
    """The one symbol asked for, else all that the running stack follows; without a broker the settings' own."""
    from feature_repo.contracts import StoreUnavailable
    from feature_repo.symbols import read_followed

    try:
        return (symbol,) if symbol else read_followed(settings.kafka, settings.symbols)
    except StoreUnavailable:
        return settings.symbols
