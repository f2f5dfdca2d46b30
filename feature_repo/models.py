"""Models: the versions of a deployment as far as the feature store is concerned: which features they read.

    for model in models(settings): ...
    retired_in_use(settings)                # the retired features that are still to be written
    model_services(models(settings))["candlewick-forecast-20261121-054931-790497"]["price_features"]

An artefact is a folder with meta.json. Each version has a feature service of its own, so that what a version reads
stays named when the sets of other versions change. A served version keeps what it reads alive: an edited feature goes
on under its old name among `RETIRED` until no served version reads it.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from feature_repo.catalogue import definitions
from feature_repo.contracts import FeaturesDiffer, ModelRefused
from feature_repo.features import FEATURE_SET, RETIRED, SEQUENCE_FEATURES, SEQUENCE_LENGTH
from feature_repo.settings import Settings
from feature_repo.views import CONTEXT_VIEW, FAMILY_VIEWS

META = "meta.json"
UNKNOWN_FORMULAS = "its formulas are not known"


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
    """A slot it is served from, `run` (trained here) or the registry's name and version."""
    dataset: str = ""
    """Identity of its training set."""
    run_id: str = ""
    """The MLflow run it comes from; empty where the artefact is older than that or was never logged."""

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
        str(meta.get("dataset", {}).get("identity", "")), str(meta.get("run_id", "")),
    )


def read_model(folder: Path, where: str) -> Model:
    """The model of an artefact's folder, or of a meta.json. Raises `ValueError` where there is none."""
    path = folder if folder.name == META else folder / META
    if not path.is_file():
        raise ValueError(f"expected {META} in {folder}, found none")
    return model_of(json.loads(path.read_text()), where)


def slots(settings: Settings) -> tuple[tuple[str, Path], ...]:
    """Where a served model lies, the one that is asked first first.

    What lies in `shadow` answers nobody: it is there so that what it reads is written before it is promoted.
    """
    folder = settings.run_dir / "models"
    return ("champion", folder / "champion"), ("shadow", folder / "shadow"), ("bootstrap", settings.model_dir)


def served(settings: Settings) -> list[Model]:
    """The model of each slot, its `where` the slot. Empty slots and damaged models are left out."""
    return list(_readable((folder, slot) for slot, folder in slots(settings)))


def models(settings: Settings) -> list[Model]:
    """The served versions, then those trained here, each once; damaged ones are left out."""
    trained = sorted((settings.run_dir / "models").glob(f"*/{META}"))
    found: dict[str, Model] = {}
    for model in (*served(settings), *_readable((path.parent, "run") for path in trained)):
        found.setdefault(model.version, model)
    return list(found.values())


def _readable(folders: Iterable[tuple[Path, str]]) -> Iterable[Model]:
    for folder, where in folders:
        try:
            yield read_model(folder, where)
        except (ValueError, OSError):
            continue


def objections(model: Model) -> list[str]:
    """Why a model cannot be given what it was trained on; empty when its features are declared as they were then."""
    now = definitions()
    then = {name: now.get(name) for name in model.features} if model.feature_set == FEATURE_SET else model.definitions
    found = [f"{name} is gone" for name in model.features if name not in now]
    declared = [name for name in model.features if name in now]
    if any(name not in then for name in declared):
        found.append(UNKNOWN_FORMULAS)
    found += [f"{name}: another definition" for name in declared if name in then and then[name] != now[name]]
    found += [f"{name} is not in sequences" for name in declared if name not in SEQUENCE_FEATURES]
    if model.sequence_length not in (0, SEQUENCE_LENGTH):
        found.append(f"sequences of {model.sequence_length} rows")
    return found


def readable(meta: Mapping[str, Any]) -> Model:
    """What an artefact reads, all of it declared as it was in training, of whichever feature set.

    The rule of every door: training, evaluation, gate and serving. Raises `ModelRefused` for a meta.json that does not
    say what it reads, `FeaturesDiffer` for a model that reads what is gone or altered.
    """
    try:
        model = model_of(meta, "")
    except (ValueError, TypeError, AttributeError) as error:
        raise ModelRefused(f"{META}: {type(error).__name__}: {error}") from error
    why = objections(model) + ([] if model.sequence_length else ["no sequence_length"])
    if why:
        raise FeaturesDiffer(
            f"{META}: expected features of set {model.feature_set} as they were in training, found otherwise: "
            f"{'; '.join(why)}; keep them in RETIRED or train on this feature set",
        )
    return model


def refuse_unread(settings: Settings) -> None:
    """Raises `ValueError` when a served model reads a feature that is declared no longer, or otherwise than it was."""
    broken = [(model, why) for model in served(settings) if (why := objections(model))]
    if broken:
        each = "; ".join(f"{model.service} ({model.where}): {', '.join(why)}" for model, why in broken)
        raise ValueError(
            f"expected every feature that a served model reads, found otherwise: {each}. Give the edited feature a "
            "name of its own and keep the old one in RETIRED, or serve a model of this feature set first",
        )


def needed(held: Iterable[Model]) -> tuple[str, ...]:
    """The retired features that some of these models read, in their order."""
    read = {name for model in held for name in model.features}
    return tuple(feature.name for feature in RETIRED if feature.name in read)


def retired_in_use(settings: Settings) -> tuple[str, ...]:
    """The retired features that a served model reads now; where none is declared no file is read."""
    return needed(served(settings)) if RETIRED else ()


def live_sets(settings: Settings) -> list[dict[str, Any]]:
    """The feature sets that are written and why: this tree's, and those of served models; then what nobody reads.

    Each: `feature_set`, `models` (service and slot of those that read it), `retired` (what is written for them alone).
    """
    held = served(settings)
    sets = dict.fromkeys((FEATURE_SET, *(model.feature_set for model in held)))
    found = []
    for feature_set in sets:
        readers = [model for model in held if model.feature_set == feature_set]
        found.append({
            "feature_set": feature_set, "declared": feature_set == FEATURE_SET, "retired": list(needed(readers)),
            "models": [{"service": model.service, "slot": model.where} for model in readers],
        })
    return found


def unread(settings: Settings) -> list[str]:
    """Retired features that no served model reads: written no longer, to be deleted from RETIRED."""
    kept = retired_in_use(settings)
    return [feature.name for feature in RETIRED if feature.name not in kept]


def live_text(sets: Iterable[Mapping[str, Any]], deletable: Iterable[str]) -> str:
    """`live_sets` and `unread` for people, a line a set."""
    lines = []
    for each in sets:
        readers = ", ".join(f"{model['service']} ({model['slot']})" for model in each["models"])
        why = [*(["declared"] if each["declared"] else []), *([f"read by {readers}"] if readers else [])]
        retired = f"; retired, written for it: {', '.join(each['retired'])}" if each["retired"] else ""
        lines.append(f"feature set {each['feature_set']} is live: {', '.join(why)}{retired}")
    return "\n".join([*lines, *(f"{name} is retired and read by no served model: delete it" for name in deletable)])


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
