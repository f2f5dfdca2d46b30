"""console: a topic as it goes by."""

from __future__ import annotations

from typing import Annotated

import typer

app = typer.Typer()


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
