"""drift, model verify and dataset list, show, rebuild: what training left, and how far the market has left it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from cli.options import Json
from cli.show import show

app = typer.Typer()
artefacts = typer.Typer(no_args_is_help=True, help="Model artefacts.")
datasets = typer.Typer(no_args_is_help=True, help="Training sets.")

ModelFolder = Annotated[Path | None, typer.Option("--model", help="Artefact folder; default: the one served at start.")]
SetHash = Annotated[str, typer.Argument(metavar="HASH", help="A set's hash, or how it begins.")]


@artefacts.command("verify")
def model_verify(model_folder: ModelFolder = None, as_json: Json = False) -> None:
    """Check an artefact: checksums, feature set, answers, size, speed."""
    from training import verbs

    result, passed = verbs.verify(model_folder)
    show(result, as_json)
    raise typer.Exit(0 if passed else 1)


@datasets.command("list")
def dataset_list(as_json: Json = False) -> None:
    """Show the training sets made here and those of the models here."""
    from feature_repo.settings import load_settings
    from training.datasets import kept

    found = kept(load_settings())
    lines = [f"{e['identity']} {e['symbol']} {e['source']} {e['feature_set']} {e['counts']}" for e in found]
    show({"datasets": [{k: v for k, v in e.items() if k != "profile"} for e in found]}, as_json, "\n".join(lines))


@datasets.command("show")
def dataset_show(named: SetHash, as_json: Json = False) -> None:
    """Show what a training set was made of, and the profile of each feature and label."""
    from feature_repo.settings import load_settings
    from training.datasets import find

    found = find(load_settings(), named)
    show(found, as_json)


@datasets.command("rebuild")
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
