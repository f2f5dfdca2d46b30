"""Datasets: what each training set was made of, so that any of them can be given again, bit for bit.

    keep(settings, table, recipe)                  # every verb that fits does; <run_dir>/datasets/<hash>.json
    found = rebuild(settings, "a1b2…", make)       # of the rows that were kept: whatever has become of the bars
    found["same"]                                  # identity and every array's bytes

A set is named by its identity: data, features, labels and split. Its known rows lie beside its manifest, once for all
sets of the same rows (`training.rows_file`); grid, labels and parts are made of them again. Where they are not there,
`make` makes them of the recipe's inputs, and only if these are what they were.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from feature_repo.catalogue import definitions
from feature_repo.features import FEATURE_SET, FORECAST_BAR
from feature_repo.settings import Settings
from training import rows_file
from training.dataset import PARTS, RULES, KnownRows, TrainingSet, assemble
from training.recipe import Recipe, lacking, split_of
from training.targets import LABELS

FOLDER = "datasets"
SHORTEST = 4
FACTS = ("content", "feature_set", "labels", "symbol", "source", "arrays")
"""What a set is compared by when it is made again."""
Make = Callable[[Settings, Recipe], KnownRows]
"""Makes a set's rows of its recipe's inputs."""
Keep = Callable[[TrainingSet], Path]
"""`keep` of one deployment and recipe, as those take it who fit on several sets."""


def arrays(table: TrainingSet) -> dict[str, Any]:
    """Everything a fit reads of a set, by name."""
    held = {"close_ns": table.close_ns, "values": table.values_MF, "context": table.context, "closes": table.closes,
            "parts": table.parts}
    return held | {f"target_{name}": column for name, column in sorted(table.targets.items())}


def digest(table: TrainingSet) -> str:
    """SHA-256 over names, types, shapes and bytes of all arrays."""
    whole = hashlib.sha256()
    for name, column in arrays(table).items():
        whole.update(f"{name} {column.dtype.str} {column.shape} ".encode())
        whole.update(np.ascontiguousarray(column).tobytes())
    return whole.hexdigest()


def manifest(table: TrainingSet, recipe: Recipe) -> dict[str, Any]:
    """What must be known to make a set again, and what is in it."""
    return {
        "identity": table.identity, "recipe": recipe.of(table).as_dict(), "rules": _plain(RULES),
        "content": table.rows.content, "arrays": digest(table),
        "symbol": table.rows.symbol, "source": table.rows.source, "feature_set": FEATURE_SET, "labels": LABELS,
        "features": list(FORECAST_BAR),
        "feature_definitions": {name: x for name, x in definitions().items() if name in FORECAST_BAR},
        "counts": table.counts, "windows_ns": {part: list(table.window(part)) for part in PARTS if table.counts[part]},
        "profile": profile(table),
    }


def profile(table: TrainingSet) -> dict[str, dict[str, float | None]]:
    """Feature or label → share of nulls, moments and quantiles over all rows."""
    rows = table.close_ns >= 0
    columns = {name: table.values_MF[rows, i].astype(np.float64) for i, name in enumerate(FORECAST_BAR)}
    columns |= {f"target_{name}": column[rows] for name, column in table.targets.items()}
    return {name: _statistics(column) for name, column in columns.items()}


def _statistics(column: Any) -> dict[str, float | None]:
    known = column[np.isfinite(column)]
    share = round(1 - len(known) / max(len(column), 1), 6)
    if not len(known):
        return {"null_share": share} | dict.fromkeys(("mean", "deviation", "min", "p01", "p50", "p99", "max"))
    low, p01, p50, p99, high = np.quantile(known, [0, 0.01, 0.5, 0.99, 1]).tolist()
    return {"null_share": share, "mean": float(known.mean()), "deviation": float(known.std()), "min": low, "p01": p01,
            "p50": p50, "p99": p99, "max": high}


def keep(settings: Settings, table: TrainingSet, recipe: Recipe) -> Path:
    """Write a set's rows, then its manifest; the same set writes the same bytes."""
    rows_file.keep(rows_folder(settings), table.rows)
    path = settings.run_dir / FOLDER / f"{table.identity}.json"
    fresh = path.with_suffix(f".{os.getpid()}.tmp")  # a walk keeps sets in several processes
    fresh.write_text(json.dumps(manifest(table, recipe), indent=1, sort_keys=True) + "\n")
    fresh.replace(path)
    return path


def rows_folder(settings: Settings) -> Path:
    """Where the known rows of this deployment's sets lie."""
    return settings.run_dir / FOLDER / "rows"


def kept(settings: Settings) -> list[dict[str, Any]]:
    """The manifests of this deployment; of a model trained elsewhere, what its meta.json says of its set."""
    found = [json.loads(path.read_text()) for path in sorted((settings.run_dir / FOLDER).glob("*.json"))]
    own = {each["identity"] for each in found}
    metas = [settings.model_dir / "meta.json", *sorted((settings.run_dir / "models").glob("*/meta.json"))]
    others = {made["identity"]: made for path in metas if path.exists() for made in [_of_meta(path)]}
    return found + [made for identity, made in others.items() if identity not in own]


def _of_meta(path: Path) -> dict[str, Any]:
    """What a model says of its set; the arrays' digest is not known. Raises `ValueError` for a file that says none."""
    try:
        meta = json.loads(path.read_text())
        made = meta["dataset"]
        return {"identity": made["identity"], "recipe": _recipe_of(meta).as_dict(), "content": made["content"],
                "arrays": None, "symbol": meta["symbol"], "source": meta["source"],
                "feature_set": meta["feature_set"], "labels": meta["labels"], "features": meta["features"],
                "counts": made["counts"], "commit": meta.get("commit", "")}
    except (KeyError, TypeError, json.JSONDecodeError) as error:
        raise ValueError(
            f"{path}: expected the meta.json of a model trained by candlewick, which says what set it learnt from; "
            f"found {error!r}; move the folder elsewhere",
        ) from error


def _recipe_of(meta: dict[str, Any]) -> Recipe:
    """Of a meta.json from before they carried recipes what it tells besides: enough only for the data folder's bars."""
    made = meta["dataset"]
    if "recipe" in made:
        return Recipe(**made["recipe"])
    return Recipe("--quick" in meta["command"].split(), meta["source"] == "simulated", made["through"],
                  bars=list(made.get("files", [])))


def find(settings: Settings, named: str) -> dict[str, Any]:
    """The one set whose identity begins so. Raises `ValueError` for none, for several, and for too few letters."""
    matching = [each for each in kept(settings) if each["identity"].startswith(named)]
    if len(named) < SHORTEST or len(matching) != 1:
        held = ", ".join(each["identity"] for each in kept(settings)) or "none"
        raise ValueError(f"expected the beginning of one set's hash, found {named!r}; there are: {held}")
    return matching[0]


def rebuild(settings: Settings, named: str, make: Make, output: Path | None = None) -> dict[str, Any]:
    """Make a set again, compare it, and write its arrays as `.npy` files where asked.

    Raises `ValueError`, saying why, for a set of another version of the code, and for one whose rows are neither kept
    nor to be had of what its recipe names.
    """
    wanted = find(settings, named)
    recipe = Recipe(**wanted["recipe"])
    _refuse_other_code(wanted, recipe)
    path = rows_folder(settings) / f"{recipe.rows}.parquet"
    is_kept = bool(recipe.rows) and path.exists()
    rows = rows_file.read(path) if is_kept else _made(settings, wanted, recipe, make)
    table = assemble(rows, split_of(recipe.split))
    found = manifest(table, recipe)
    differing = {
        name: {"expected": wanted[name], "found": found[name]} for name in FACTS
        if wanted[name] is not None and wanted[name] != found[name]
    }
    if output is not None:
        output.mkdir(parents=True, exist_ok=True)
        for name, column in arrays(table).items():
            np.save(output / f"{name}.npy", column, allow_pickle=False)
    return {"identity": wanted["identity"], "found": table.identity, "same": table.identity == wanted["identity"]
            and not differing, "differing": differing, "rows": "as kept" if is_kept else "made again",
            "arrays": found["arrays"], "counts": found["counts"], "output": str(output) if output else None}


def _refuse_other_code(wanted: dict[str, Any], recipe: Recipe) -> None:
    """What one code calls a feature or a label another may make otherwise."""
    told = wanted.get("rules") or {"feature_set": wanted["feature_set"], "labels": wanted["labels"]}
    here = _plain(RULES)
    if others := [name for name in told if told[name] != here.get(name)]:
        which = "; ".join(f"{name} {_short(told[name])} (this code: {_short(here.get(name))})" for name in others)
        commit = recipe.commit or wanted.get("commit") or "that its model's card names"
        raise ValueError(f"set {wanted['identity']}: expected the code that made it, found other {which}; check out "
                         f"commit {commit}")


def _made(settings: Settings, wanted: dict[str, Any], recipe: Recipe, make: Make) -> KnownRows:
    if (why := lacking(recipe, settings)) is None:
        return make(settings, recipe)
    kept_as = f" ({recipe.rows}.parquet)" if recipe.rows else ""
    raise ValueError(
        f"set {wanted['identity']}: expected its known rows{kept_as} in {rows_folder(settings)}, found none, and "
        f"{why}; copy the rows from where the set was made, or train again",
    )


def _short(told: Any) -> str:
    return told if isinstance(told, str) else f"of {len(told)}" if isinstance(told, list) else str(told)


def _plain(rules: Mapping[str, Any]) -> dict[str, Any]:
    """As JSON gives it back."""
    return dict(json.loads(json.dumps(dict(rules))))
