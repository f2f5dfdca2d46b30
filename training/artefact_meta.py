"""Artefact meta: what meta.json must say for an artefact to be evaluated and compared, asked once, at the door.

    meta = read_meta_bytes(contents["meta.json"])      # raises ModelRefused: expected, found, what to do

What it says of features, inputs and outputs is compared with the code and the graph by `training.export.verify`.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from typing import Any, get_args

from feature_repo.contracts import ModelRefused, Source
from training.bar_files import parse_time

NEEDED = ("name", "version", "feature_set", "features", "outputs", "symbol", "source", "dataset", "calibration", "ood")
LEARNT_FROM = ("train", "calibration")
"""The parts that a model has seen: when they were, and how many rows the first had."""
RULE = ("lower", "upper", "center", "scale")
"""Of `ood`, a number for every feature each."""
TO_DO = "train the model again, or restore the folder"


def read_meta_bytes(text: bytes) -> dict[str, Any]:
    """meta.json as an object that says all that is asked of it. Raises `ModelRefused`."""
    try:
        meta = json.loads(text)
    except ValueError as error:
        raise ModelRefused(f"meta.json: expected JSON; {error}") from error
    if not isinstance(meta, dict):
        raise ModelRefused(f"meta.json: expected an object, found {type(meta).__name__}; {TO_DO}")
    if missing := [name for name in NEEDED if name not in meta]:
        raise ModelRefused(f"meta.json: expected {', '.join(missing)}, found none; {TO_DO}")
    for check in (_texts, _lists, _dataset, _calibration, _ood):
        check(meta)
    return meta


def _expect(fine: bool, what: str, expected: str, found: object) -> None:
    if not fine:
        raise ModelRefused(f"meta.json: expected {what} to be {expected}, found {_short(found)}; {TO_DO}")


def _short(found: object) -> str:
    text = repr(found)
    return text if len(text) <= 80 else f"{text[:80]}…"


def _texts(meta: Mapping[str, Any]) -> None:
    for name in ("name", "version", "feature_set", "symbol"):
        _expect(isinstance(meta[name], str) and meta[name] != "", name, "text", meta[name])
    sources = get_args(Source)
    _expect(meta["source"] in sources, "source", f"one of {', '.join(sources)}", meta["source"])


def _lists(meta: Mapping[str, Any]) -> None:
    for name in ("features", "outputs"):
        held = meta[name]
        _expect(isinstance(held, list) and all(isinstance(each, str) for each in held), name, "a list of names", held)


def _dataset(meta: Mapping[str, Any]) -> None:
    """When the rows were that it has seen, how many, and of which set."""
    dataset = meta["dataset"]
    _expect(isinstance(dataset, dict), "dataset", "an object", dataset)
    _expect(isinstance(dataset.get("identity"), str), "dataset.identity", "the set's hash", dataset.get("identity"))
    windows, counts = (_object(dataset, name) for name in ("windows", "counts"))
    for part in LEARNT_FROM:
        _expect(_is_span(windows.get(part)), f"dataset.windows.{part}", "two times, ascending", windows.get(part))
    train = counts.get("train")
    _expect(isinstance(train, int) and train > 0, "dataset.counts.train", "a number of rows", train)


def _object(dataset: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    held = dataset.get(name)
    _expect(isinstance(held, dict), f"dataset.{name}", "an object", held)
    return held if isinstance(held, dict) else {}


def _is_span(found: object) -> bool:
    if not (isinstance(found, list) and len(found) == 2 and all(isinstance(end, str) for end in found)):
        return False
    try:
        return parse_time(found[0]) <= parse_time(found[1])
    except ValueError:
        return False


def _calibration(meta: Mapping[str, Any]) -> None:
    """Bounds of the return by horizon; artefacts from before they had every horizon's say the 15-minute one."""
    held = meta["calibration"]
    _expect(isinstance(held, dict), "calibration", "an object", held)
    bounds = held.get("return_intervals") or {"15": held.get("return_interval_15m")}
    fine = isinstance(bounds, dict) and len(bounds) > 0 and all(_is_number(each) for each in bounds.values())
    _expect(fine, "calibration.return_intervals", "numbers by horizon", bounds)


def _ood(meta: Mapping[str, Any]) -> None:
    """The rule of which rows are unlike the training set, for every feature the model reads."""
    held = meta["ood"]
    _expect(isinstance(held, dict), "ood", "an object", held)
    features = meta["features"]
    _expect(held.get("features") == features, "ood.features", "the model's features", held.get("features"))
    for name in RULE:
        _expect(_are_numbers(held.get(name), len(features)), f"ood.{name}", f"{len(features)} numbers", held.get(name))
    _expect(min(held["scale"]) > 0, "ood.scale", "above 0", held["scale"])
    for name in ("max_distance", "max_outside"):
        _expect(_is_number(held.get(name)), f"ood.{name}", "a number", held.get(name))


def _are_numbers(found: object, count: int) -> bool:
    return isinstance(found, Sequence) and len(found) == count and all(_is_number(each) for each in found)


def _is_number(found: object) -> bool:
    return isinstance(found, int | float) and not isinstance(found, bool) and math.isfinite(found)
