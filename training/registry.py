"""Registry: runs, versions, and the aliases that name them, in MLflow on SQL.

    record(uri, run, folder, verdict)         # alias `champion` moves to what the gate let through, else `challenger`
    resolve(settings, "champion")             # the folder of a version

A version's source is an MLflow model (`training.mlflow_model`); the artefact that our loaders verify lies beside it,
among the artefacts of its run under `model`, as it does for versions from before there was an MLflow model. File stores
are refused.
"""

from __future__ import annotations

import json
import os
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from feature_repo.settings import Settings
from training.gate import MODEL_NAME, Verdict
from training.mlflow_model import dataset_input, description, log_model

EXPERIMENT = "candlewick-forecast"
CHAMPION = "champion"
CHALLENGER = "challenger"
"""Alias of the newest version that the gate kept out."""


def open_mlflow(uri: str) -> Any:
    """An MLflow client on a SQL store. Raises `ValueError` for a file store: its runs cannot carry a registry."""
    if uri.startswith(("file:", "/", ".")):
        raise ValueError(f"expected a SQL or HTTP tracking URI such as sqlite:///…/mlflow.db, found {uri}")
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    os.environ.setdefault("DO_NOT_TRACK", "true")
    from mlflow import MlflowClient

    if uri.startswith("sqlite:///"):
        Path(uri.removeprefix("sqlite:///")).parent.mkdir(parents=True, exist_ok=True)
    return MlflowClient(tracking_uri=uri, registry_uri=uri)


def _experiment(client: Any, uri: str) -> str:
    """The experiment, its artefacts beside the database."""
    found = client.get_experiment_by_name(EXPERIMENT)
    if found is not None:
        return str(found.experiment_id)
    place = None
    if uri.startswith("sqlite:///"):
        place = (Path(uri.removeprefix("sqlite:///")).parent / "artifacts").resolve().as_uri()
    return str(client.create_experiment(EXPERIMENT, artifact_location=place))


@dataclass(frozen=True)
class RunRecord:
    """What a run leaves in MLflow."""

    params: Mapping[str, Any]
    metrics: Mapping[str, float]
    """Of the test part, once."""
    tags: Mapping[str, str]
    epochs: Sequence[Mapping[str, float]] = ()
    """Of the fit: each names its `epoch`, the rest are metrics at that step."""
    dataset: Mapping[str, Any] = field(default_factory=dict)
    """Of `training.mlflow_model.dataset_input`; empty: not told."""


def begin(uri: str, version: str) -> str:
    """Open a run and return its id, so that the artefact can carry it."""
    client = open_mlflow(uri)
    return str(client.create_run(_experiment(client, uri), tags={"mlflow.runName": version}).info.run_id)


def record(uri: str, run: RunRecord, folder: Path, verdict: Verdict, run_id: str = "") -> dict[str, str]:
    """Log the run, its artefact and its MLflow model, register a version, and move an alias to it.

    `champion` moves to what the gate let through, `challenger` to what it kept out. `run_id`: of a run that was begun;
    without it a new one is opened.
    """
    client = open_mlflow(uri)
    run_id = run_id or begin(uri, run.tags["version"])
    for name, tag in run.tags.items():
        client.set_tag(run_id, name, tag)
    for name, value in run.params.items():
        client.log_param(run_id, name, value)
    client.log_artifacts(run_id, str(folder), "model")
    client.log_dict(run_id, verdict.as_dict(), "gate.json")
    logged = log_model(client, run_id, folder, run.tags)
    _log_figures(client, run_id, run, logged.model_id)
    client.set_terminated(run_id)
    if not any(m.name == verdict.name for m in client.search_registered_models()):
        client.create_registered_model(verdict.name)
    # By place, not by `models:/<id>`: MLflow asks its own global store for the latter, not this one.
    version = client.create_model_version(
        verdict.name, logged.artifact_location, run_id, model_id=logged.model_id,
        tags={**run.tags, "promoted": str(verdict.promoted).lower()},
        description=description((folder / "MODEL_CARD.md").read_text()),
    )
    alias = CHAMPION if verdict.promoted else CHALLENGER
    client.set_registered_model_alias(verdict.name, alias, version.version)
    return {"run_id": run_id, "model": verdict.name, "version": str(version.version), "alias": alias}


def _log_figures(client: Any, run_id: str, run: RunRecord, model_id: str) -> None:
    """The set, the fit's epochs as steps, and the scores, which are of the model on that set."""
    of_set: dict[str, Any] = {}
    if run.dataset:
        client.log_inputs(run_id, [dataset_input(run.dataset)])
        of_set = {"dataset_name": run.dataset["name"], "dataset_digest": run.dataset["identity"]}
    for each in run.epochs:
        for name, value in each.items():
            if name != "epoch":
                client.log_metric(run_id, name, value, step=int(each["epoch"]))
    for name, value in run.metrics.items():
        client.log_metric(run_id, name, value, model_id=model_id, **of_set)


def champion_folder(uri: str, name: str, into: Path) -> Path | None:
    """The champion's artefact folder, fetched below `into`; None where there is no champion."""
    client = open_mlflow(uri)
    from mlflow.exceptions import MlflowException

    try:
        version = client.get_model_version_by_alias(name, CHAMPION)
    except MlflowException:  # MLflow's word for "no such model or alias"
        return None
    return Path(client.download_artifacts(version.run_id, "model", str(into)))


def resolve(settings: Settings, model: str) -> Path:
    """The folder of a model: itself, a version trained here, as the registry names it, or the newest here of a kind.

    The registry is asked for `name` (its champion), `name@alias`, `name/version` or an alias of the default name, with
    or without MLflow's `models:/` before it; then `har`, say, is the newest HAR trained here. Raises `ValueError` when
    there is none.
    """
    named = model.removeprefix("models:/")
    for folder in (Path(model), settings.run_dir / "models" / named) if named else ():
        if folder.is_dir():
            return folder
    names = _registered_names(settings.mlflow)
    name, alias, version = _named(named, names)
    if name in names and (found := _version(settings.mlflow, name, alias, version)) is not None:
        into = settings.run_dir / "models" / "registered" / found.run_id
        into.mkdir(parents=True, exist_ok=True)
        return Path(open_mlflow(settings.mlflow).download_artifacts(found.run_id, "model", str(into)))
    trained = _trained(settings)
    if named in trained:
        return trained[named]
    raise ValueError(
        f"expected a folder, or a model registered as {model}, found neither; registered: "
        f"{', '.join(sorted(names)) or 'none'}; trained here: {', '.join(sorted(trained)) or 'none'}; `candlewick "
        "train --model KIND` trains one",
    )


def _trained(settings: Settings) -> dict[str, Path]:
    """Kind → the newest version of it that was trained here; a version's name begins with when it was made."""
    found = {}
    for path in sorted((settings.run_dir / "models").glob("*/meta.json")):
        try:
            meta = json.loads(path.read_text())
        except ValueError:
            continue  # a damaged folder has no kind to be asked for by; asked for by its name it is refused
        # Fetched copies lie elsewhere, under the run's name; `champion` and `shadow` are slots, not versions.
        if isinstance(meta, dict) and meta.get("version") == path.parent.name:
            found[str(meta.get("kind", "transformer"))] = path.parent
    return found


def _registered_names(uri: str) -> set[str]:
    """Names in the registry. One that was never written is not made by a question."""
    if uri.startswith("sqlite:///") and not Path(uri.removeprefix("sqlite:///")).exists():
        return set()
    return {str(each.name) for each in open_mlflow(uri).search_registered_models()}


def _version(uri: str, name: str, alias: str, version: str) -> Any | None:
    client = open_mlflow(uri)
    from mlflow.exceptions import MlflowException

    try:
        return client.get_model_version(name, version) if version else client.get_model_version_by_alias(name, alias)
    except MlflowException:  # MLflow's word for "no such alias or version"
        return None


def _named(model: str, names: Collection[str] = ()) -> tuple[str, str, str]:
    """Name, alias and version of what was asked for; `names` are registered.

    >>> _named("champion"), _named("mine@shadow"), _named("mine/3"), _named("mine", {"mine"})
    (('candlewick-forecast', 'champion', ''), ('mine', 'shadow', ''), ('mine', '', '3'), ('mine', 'champion', ''))
    """
    if "@" in model:
        name, _, alias = model.partition("@")
        return name, alias, ""
    name, _, version = model.partition("/")
    if version:
        return name, "", version
    return (name, CHAMPION, "") if name in names or name == MODEL_NAME else (MODEL_NAME, model, "")
