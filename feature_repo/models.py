"""Models: the artefacts this deployment has, as far as the feature store is concerned: which features they read.

    for model in models(settings): ...
    model_services(models(settings))["candlewick-forecast-20261121-054931-790497"]["price_features"]

An artefact is a folder with meta.json. Each version has a feature service of its own, so that what a version reads
stays named when the sets of other versions change.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from feature_repo.settings import Settings
from feature_repo.views import CONTEXT_VIEW, FAMILY_VIEWS

META = "meta.json"


@dataclass(frozen=True)
class Model:
    """What meta.json says of a version's inputs."""

    name: str
    version: str
    feature_set: str
    features: tuple[str, ...]
    sequence_length: int
    definitions: Mapping[str, str]
    """Feature → hash of its definition in training; empty where the artefact is older than these hashes."""
    commit: str
    where: str
    """`served`, `run` (trained here) or the registry's name and version."""

    @property
    def service(self) -> str:
        """Name of its feature service."""
        return f"{self.name}-{self.version}"


def model_of(meta: Mapping[str, Any], where: str) -> Model:
    """Raises `ValueError` for a meta.json that does not say what it reads."""
    missing = [field for field in ("name", "version", "feature_set", "features") if field not in meta]
    if missing:
        raise ValueError(f"{META}: expected {', '.join(missing)}, found {', '.join(sorted(meta))}")
    return Model(
        str(meta["name"]), str(meta["version"]), str(meta["feature_set"]), tuple(meta["features"]),
        int(meta.get("sequence_length", 0)), dict(meta.get("feature_definitions", {})),
        str(meta.get("commit", "")).removesuffix("+changes"), where,
    )


def read_model(folder: Path, where: str) -> Model:
    """The model of an artefact's folder, or of a meta.json. Raises `ValueError` where there is none."""
    path = folder if folder.name == META else folder / META
    if not path.is_file():
        raise ValueError(f"expected {META} in {folder}, found none")
    return model_of(json.loads(path.read_text()), where)


def models(settings: Settings) -> list[Model]:
    """The served artefact, then those trained here, each version once; damaged ones are left out."""
    folders = [(settings.model_dir, "served")]
    folders += [(path.parent, "run") for path in sorted((settings.run_dir / "models").glob(f"*/{META}"))]
    found: dict[str, Model] = {}
    for folder, where in folders:
        try:
            model = read_model(folder, where)
        except (ValueError, OSError):
            continue
        found.setdefault(model.version, model)
    return list(found.values())


def model_services(held: Iterable[Model]) -> dict[str, dict[str, tuple[str, ...]]]:
    """Service → view → features, of each version whose features are all still declared."""
    declared = {name: view.name for view in FAMILY_VIEWS for name in view.names}
    made = {}
    for model in held:
        if set(model.features) <= set(declared):
            taken: dict[str, tuple[str, ...]] = {}
            for name in model.features:
                taken[declared[name]] = (*taken.get(declared[name], ()), name)
            made[model.service] = {**taken, CONTEXT_VIEW.name: CONTEXT_VIEW.names}
    return made
