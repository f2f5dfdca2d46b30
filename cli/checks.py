"""parity, leakcheck, quality: whether the rows are the true ones."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from cli.options import Json, followed
from cli.show import show

app = typer.Typer()


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
