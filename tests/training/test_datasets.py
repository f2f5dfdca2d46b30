"""Any training set again, bit for bit; what has changed since is named."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from feature_repo.features import FORECAST_BAR
from feature_repo.settings import ROOT, Settings
from training.dataset import TrainingSet, assemble
from training.datasets import Recipe, arrays, digest, find, keep, kept, manifest, rebuild
from training.targets import AHEAD

RECIPE = Recipe(quick=True, simulated=True, through="kernel")


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(run_dir=tmp_path / "run", model_dir=tmp_path / "none")


def again(table: TrainingSet) -> TrainingSet:
    """The same set assembled another time."""
    return assemble(table.rows)


def other(table: TrainingSet) -> TrainingSet:
    """The same rows but for the last bit of one close."""
    closes = table.rows.closes.copy()
    closes[7_000] = np.nextafter(closes[7_000], np.inf)
    return assemble(replace(table.rows, closes=closes))


def test_a_set_is_made_again_bit_for_bit(settings: Settings, table: TrainingSet, tmp_path: Path) -> None:
    keep(settings, table, RECIPE)
    asked: list[Recipe] = []

    def make(_: Settings, recipe: Recipe) -> TrainingSet:
        asked.append(recipe)
        return again(table)

    found = rebuild(settings, table.identity[:8], make, tmp_path / "arrays")
    assert found["same"], found["differing"]
    assert asked == [RECIPE]
    for name, column in arrays(table).items():
        assert np.load(tmp_path / "arrays" / f"{name}.npy").tobytes() == column.tobytes()


def test_a_set_that_differs_in_one_bit_is_another_one(settings: Settings, table: TrainingSet) -> None:
    keep(settings, table, RECIPE)
    found = rebuild(settings, table.identity, lambda *_: other(table))
    assert not found["same"]
    assert set(found["differing"]) == {"arrays"}


def test_the_digest_sees_names_types_and_bytes(table: TrainingSet) -> None:
    assert digest(table) == digest(again(table))
    assert digest(table) != digest(other(table))
    assert digest(table) != digest(replace(table, parts=np.where(table.parts == 2, -1, table.parts).astype(np.int8)))


def test_the_same_set_writes_the_same_manifest(settings: Settings, table: TrainingSet) -> None:
    path = keep(settings, table, RECIPE)
    first = path.read_bytes()
    assert keep(settings, again(table), RECIPE).read_bytes() == first
    assert [each["identity"] for each in kept(settings)] == [table.identity]


def test_a_manifest_profiles_every_feature_and_label(table: TrainingSet) -> None:
    profile = manifest(table, RECIPE)["profile"]
    assert set(profile) == {*FORECAST_BAR, *(f"target_{name}" for name in AHEAD)}
    volatility = profile["realized_vol_60m"]
    assert 0 < volatility["min"] <= volatility["p01"] <= volatility["p50"] <= volatility["p99"] <= volatility["max"]
    assert 0 < volatility["null_share"] < 0.05
    json.dumps(profile, allow_nan=False)


def test_the_set_of_a_model_trained_elsewhere_is_known_by_its_meta(settings: Settings) -> None:
    meta = json.loads((ROOT / "models" / "bootstrap" / "meta.json").read_text())
    found = find(replace(settings, model_dir=ROOT / "models" / "bootstrap"), meta["dataset"]["identity"][:6])
    assert found["content"] == meta["dataset"]["content"]
    assert found["recipe"] == {"quick": False, "simulated": False, "through": "feast"}
    assert found["arrays"] is None


@pytest.mark.parametrize("named", ["", "abc", "ffff"])
def test_a_hash_of_no_set_is_told_which_there_are(named: str, settings: Settings, table: TrainingSet) -> None:
    keep(settings, table, RECIPE)
    with pytest.raises(ValueError, match=table.identity):
        find(settings, named)
