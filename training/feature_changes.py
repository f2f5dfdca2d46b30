"""Feature changes: what differs between the features here and another revision's or a model's, and which models break.

    diff(here(), of_revision("main~3"))               # added, removed, changed
    [broken(model, here()) for model in all_models(settings)]

A model breaks when serving refuses it: when what it reads is gone, or another thing than in training. Why is told by
feature; what is known of the formulas of an older model from its commit is told too.
"""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from feature_repo import catalogue
from feature_repo.features import FEATURE_SET
from feature_repo.models import (
    META,
    Model,
    live_sets,
    live_text,
    model_of,
    models,
    objections,
    read_model,
    unread,
)
from feature_repo.settings import ROOT, Settings

WORDS, CODE = "definition", "values"
SAYS = {WORDS: "another definition", CODE: "other values of the same market"}


@dataclass(frozen=True)
class FeatureList:
    """Features with their hashes, from somewhere. A hash that is not known is missing."""

    feature_set: str
    features: Mapping[str, Mapping[str, str]]
    """Name → `definition` and `values`, in order."""
    complete: bool = True
    """Whether it is all of a set, or what one model reads."""


def here() -> FeatureList:
    """The features of this tree."""
    return _list(FEATURE_SET, catalogue.catalogue())


def _list(feature_set: str, entries: list[dict[str, Any]]) -> FeatureList:
    return FeatureList(feature_set, {e["name"]: {WORDS: e[WORDS], CODE: e[CODE]} for e in entries})


def of_revision(revision: str, root: Path = ROOT) -> FeatureList:
    """The features of a git revision, by its own code. Raises `ValueError` for one that git or the program refuses."""
    packed = subprocess.run(
        ["git", "archive", "--format=tar", revision, "feature_repo"], cwd=root, capture_output=True, check=False,
    )
    if packed.returncode:
        reason = packed.stderr.decode(errors="replace").strip().splitlines()[-1:]
        raise ValueError(f"expected a git revision or a model's {META}, found {revision!r}: {' '.join(reason)}")
    with tempfile.TemporaryDirectory(prefix="candlewick-features-") as folder:
        with tarfile.open(fileobj=io.BytesIO(packed.stdout)) as tar:
            tar.extractall(folder, filter="data")
        # Our program, that revision's package: -P keeps the program's own folder, where ours lies, off the path.
        done = subprocess.run(
            [sys.executable, "-P", str(Path(catalogue.__file__))], cwd=folder, env={**os.environ, "PYTHONPATH": folder},
            capture_output=True, text=True, check=False,
        )
    if done.returncode:
        last = done.stderr.strip().splitlines()[-1:]
        raise ValueError(f"{revision}: expected features that can be computed, found {' '.join(last)}")
    found = json.loads(done.stdout)
    return _list(found["feature_set"], found["features"])


def of_model(model: Model, root: Path = ROOT) -> FeatureList:
    """What a model reads: hashes from its meta.json, else from the commit it was trained at when that has its set."""
    if model.feature_set == FEATURE_SET:
        hashes: Mapping[str, Mapping[str, str]] = {name: {WORDS: x} for name, x in catalogue.definitions().items()}
    elif model.definitions:
        hashes = {name: {WORDS: x} for name, x in model.definitions.items()}
    else:
        hashes = _at_commit(model, root)
    return FeatureList(model.feature_set, {name: hashes.get(name, {}) for name in model.features}, complete=False)


def _at_commit(model: Model, root: Path) -> Mapping[str, Mapping[str, str]]:
    try:
        found = of_revision(model.commit, root) if model.commit else None
    except ValueError:
        return {}
    return found.features if found and found.feature_set == model.feature_set else {}


def diff(now: FeatureList, before: FeatureList) -> dict[str, Any]:
    """What `now` has and `before` had not, the other way round, and what is another thing under the same name."""
    both = [name for name in before.features if name in now.features]
    changed = {name: what for name in both if (what := _changed(now.features[name], before.features[name]))}
    kept = [name for name in now.features if name in before.features]
    return {
        "feature_set": {"here": now.feature_set, "there": before.feature_set},
        "added": [name for name in now.features if name not in before.features] if before.complete else [],
        "removed": [name for name in before.features if name not in now.features],
        "changed": changed, "reordered": kept != both,
        "not_comparable": [name for name in both if not before.features[name]],
    }


def _changed(now: Mapping[str, str], before: Mapping[str, str]) -> list[str]:
    return [SAYS[kind] for kind in (WORDS, CODE) if kind in now and kind in before and now[kind] != before[kind]]


def broken(model: Model, now: FeatureList, root: Path = ROOT) -> dict[str, Any]:
    """Whether serving refuses a model, and what of its inputs is why."""
    why = objections(model)
    if why:
        changed = diff(now, of_model(model, root))["changed"]
        why += [told for name, what in changed.items() if (told := f"{name}: {' and '.join(what)}") not in why]
    return {"model": model.service, "where": model.where, "feature_set": model.feature_set, "breaks": bool(why),
            "why": why}


def against(what: str, root: Path = ROOT) -> FeatureList:
    """What a person named: a model's folder or meta.json, else a git revision."""
    path = Path(what)
    return of_model(read_model(path, "given"), root) if path.exists() else of_revision(what, root)


def all_models(settings: Settings) -> list[Model]:
    """The deployment's artefacts, and the registry's versions where there is a registry; each version once."""
    held = {model.version: model for model in models(settings)}
    for model in _registered(settings):
        held.setdefault(model.version, model)
    return list(held.values())


def _registered(settings: Settings) -> list[Model]:
    """Versions in MLflow, by the meta.json among their artefacts. A registry that was never written is not made."""
    uri = settings.mlflow
    if uri.startswith("sqlite:///") and not Path(uri.removeprefix("sqlite:///")).exists():
        return []
    from training.registry import open_mlflow

    client, found = open_mlflow(uri), []
    for version in client.search_model_versions():
        with tempfile.TemporaryDirectory(prefix="candlewick-meta-") as folder:
            try:
                meta = json.loads(Path(client.download_artifacts(version.run_id, f"model/{META}", folder)).read_text())
                found.append(model_of(meta, f"{version.name} {version.version}"))
            except (OSError, ValueError):
                continue  # artefacts of a removed run: nothing that could be served
    return found


def report(settings: Settings, what: str | None) -> dict[str, Any]:
    """What differs from a revision or a model (default: the served one), and each model's fate."""
    now, named = here(), what or str(settings.model_dir)
    fates = [broken(model, now) for model in all_models(settings)]
    return {"against": named, **diff(now, against(named)), "models": fates,
            "breaking": [fate["model"] for fate in fates if fate["breaks"]], "live": live_sets(settings),
            "unread": unread(settings)}


def text(found: Mapping[str, Any]) -> str:
    """A report for people."""
    sets = found["feature_set"]
    lines = [f"feature set {sets['here']}, {sets['there']} in {found['against']}"]
    lines += [f"+ {name}" for name in found["added"]] + [f"- {name}" for name in found["removed"]]
    lines += [f"~ {name}: {' and '.join(what)}" for name, what in found["changed"].items()]
    lines += ["~ another order"] if found["reordered"] else []
    lines += [f"? {name}: its formula there is not known" for name in found["not_comparable"]]
    lines += [
        f"{fate['model']} ({fate['where']}): " + ("BREAKS: " + "; ".join(fate["why"]) if fate["breaks"] else "reads on")
        for fate in found["models"]
    ]
    return "\n".join([*lines, live_text(found["live"], found["unread"])])
