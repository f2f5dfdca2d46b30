"""features list, diff: what is declared, and what a change of it breaks."""

from __future__ import annotations

from typing import Annotated

import typer

from cli.options import Json
from cli.show import show

group = typer.Typer(no_args_is_help=True, help="What is declared in FEATURES.")


@group.command("list")
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


@group.command("diff")
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
