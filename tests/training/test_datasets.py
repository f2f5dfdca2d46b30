"""Any training set again, bit for bit, whatever has become of its bars; what cannot be given again is told why."""

from __future__ import annotations

import json
import pickle
import shutil
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from feature_repo.contracts import DAY_NS, MINUTE_NS
from feature_repo.features import FORECAST_BAR
from feature_repo.progress import silent
from feature_repo.settings import ROOT, Settings
from tests.training.made_files import bar_file
from training import ablation, crash, datasets, rows_file, train, verbs, walkforward
from training.bar_files import BarForm
from training.dataset import KnownRows, Split, TrainingSet, Windows, assemble, kernel_rows, pooled
from training.datasets import arrays, digest, find, keep, kept, manifest, rebuild, rows_folder
from training.fitting import FitConfig
from training.klines import MinuteBars
from training.recipe import Recipe, lacking, of_bars, split_of
from training.targets import AHEAD
from training.train import TrainConfig, run

RECIPE = Recipe(quick=True, simulated=True, through="kernel")
FORM = BarForm(source="simulated")


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(run_dir=tmp_path / "run", model_dir=tmp_path / "none", data_dir=tmp_path / "no data")


def again(table: TrainingSet) -> TrainingSet:
    """The same set assembled another time."""
    return assemble(table.rows)


def other(table: TrainingSet) -> KnownRows:
    """The same rows but for the last bit of one close."""
    closes = table.rows.closes.copy()
    closes[7_000] = np.nextafter(closes[7_000], np.inf)
    return replace(table.rows, closes=closes)


def never(_settings: Settings, recipe: Recipe) -> KnownRows:
    raise AssertionError(f"asked for the inputs of {recipe}")


def manifest_at(settings: Settings, table: TrainingSet) -> Path:
    return settings.run_dir / "datasets" / f"{table.identity}.json"


def test_a_set_is_made_again_bit_for_bit_of_the_rows_that_are_kept(
    settings: Settings, table: TrainingSet, tmp_path: Path,
) -> None:
    keep(settings, table, RECIPE)
    found = rebuild(settings, table.identity[:8], never, tmp_path / "arrays")
    assert (found["same"], found["rows"]) == (True, "as kept"), found["differing"]
    for name, column in arrays(table).items():
        assert np.load(tmp_path / "arrays" / f"{name}.npy").tobytes() == column.tobytes()


def test_without_the_kept_rows_it_is_made_of_the_recipes_inputs_and_compared(
    settings: Settings, table: TrainingSet,
) -> None:
    keep(settings, table, RECIPE)
    shutil.rmtree(rows_folder(settings))
    asked: list[Recipe] = []

    def make(_: Settings, recipe: Recipe) -> KnownRows:
        asked.append(recipe)
        return table.rows

    found = rebuild(settings, table.identity, make)
    assert (found["same"], found["rows"]) == (True, "made again"), found["differing"]
    assert asked == [RECIPE.of(table)]
    found = rebuild(settings, table.identity, lambda *_: other(table))
    assert not found["same"], "it differs in one bit"
    assert set(found["differing"]) == {"arrays"}


def test_a_set_of_windows_of_several_symbols_comes_back_with_its_own_windows(
    settings: Settings, bars: MinuteBars,
) -> None:
    short = slice(0, 20 * 1440)
    eth = replace(bars, symbol="ETHUSDT", close_ns=bars.close_ns[short],
                  columns={name: column[short] for name, column in bars.columns.items()})
    first = int(bars.close_ns[0])
    windows = Windows((first, first + 9 * DAY_NS), (first + 10 * DAY_NS, first + 14 * DAY_NS))
    table = assemble(pooled([kernel_rows(bars), kernel_rows(eth)]), windows)
    keep(settings, table, RECIPE)
    found = rebuild(settings, table.identity, never)
    assert found["same"], found["differing"]
    assert split_of(json.loads(json.dumps(RECIPE.of(table).split))) == windows
    assert split_of({}) == Split()


def test_rows_that_were_changed_on_the_disk_are_refused(settings: Settings, table: TrainingSet) -> None:
    keep(settings, table, RECIPE)
    [path] = rows_folder(settings).iterdir()
    rows_file.keep(settings.run_dir, other(table)).replace(path)
    with pytest.raises(ValueError, match=f"expected the rows that {path} is named by, found others"):
        rebuild(settings, table.identity, never)
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(ValueError, match=f"expected known rows in {path}"):
        rebuild(settings, table.identity, never)


@pytest.mark.parametrize(("rule", "told"), [("labels", "up/v0"), ("feature_set", "0123456789ab"), ("cuts", "at noon")])
def test_a_set_of_another_version_of_the_code_names_the_commit_to_check_out(
    settings: Settings, table: TrainingSet, rule: str, told: str,
) -> None:
    keep(settings, table, replace(RECIPE, commit="deadbeef1234"))
    path = manifest_at(settings, table)
    held = json.loads(path.read_text())
    path.write_text(json.dumps({**held, "rules": {**held["rules"], rule: told}}))
    with pytest.raises(ValueError, match=f"found other {rule} {told} .*check out commit deadbeef1234"):
        rebuild(settings, table.identity, never)


def test_a_model_of_other_labels_names_its_commit(settings: Settings) -> None:
    meta = json.loads((ROOT / "models" / "bootstrap" / "meta.json").read_text())
    path = settings.run_dir / "models" / "v1" / "meta.json"
    path.parent.mkdir(parents=True)
    path.write_text(json.dumps({**meta, "labels": "up/v0"}))
    with pytest.raises(ValueError, match=rf"found other labels up/v0 .*check out commit {meta['commit']}"):
        rebuild(settings, meta["dataset"]["identity"], never)


def test_a_model_of_files_from_before_recipes_is_refused_not_made_of_other_bars(
    settings: Settings, table: TrainingSet,
) -> None:
    """It was made of the data folder's klines before, whatever files it had been trained on."""
    meta = json.loads((ROOT / "models" / "bootstrap" / "meta.json").read_text())
    made = {**meta["dataset"], "identity": table.identity, "files": ["bars.parquet"]}
    del made["recipe"]
    held = manifest(table, RECIPE)
    path = settings.run_dir / "models" / "v1" / "meta.json"
    path.parent.mkdir(parents=True)
    path.write_text(json.dumps({**meta, "labels": held["labels"], "feature_set": held["feature_set"], "dataset": made}))
    with pytest.raises(ValueError, match="the recipe does not say what its files of bars held"):
        rebuild(settings, table.identity, never)


def test_inputs_that_are_not_what_they_were_are_no_inputs(settings: Settings, bars: MinuteBars, tmp_path: Path) -> None:
    path = bar_file(tmp_path, bars)
    recipe = of_bars("train", [f"ETHUSDT={path}"], FORM, "")
    assert recipe.bars == [f"ETHUSDT={path}"]
    assert recipe.nameless()["bars"] == ["ETHUSDT=bars.parquet"]
    assert lacking(recipe, settings) is None
    path.write_bytes(path.read_bytes() + b" ")
    assert f"and {path} is another" in str(lacking(recipe, settings))
    path.unlink()
    assert f"made of bars.parquet, which is not at {path}" in str(lacking(recipe, settings))
    assert "does not say what its files" in str(lacking(replace(recipe, files=[]), settings))
    assert "does not say where its parts" in str(lacking(replace(RECIPE, until_ns=7), settings))


@pytest.mark.slow
@pytest.mark.integration
@pytest.mark.timeout(600)
@pytest.mark.filterwarnings("ignore")  # imports of MLflow and torch warn about their dependencies
def test_a_trained_set_comes_back_after_its_file_was_corrected_and_went_on(
    settings: Settings, bars: MinuteBars, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(train, "GATE_BASELINES", ("har",))
    monkeypatch.setattr(verbs, "_ready", lambda _component: settings)
    path = bar_file(tmp_path, bars)
    before = path.read_bytes()
    made = run(settings, TrainConfig(quick=True, model="har", bars=(str(path),), form=FORM, seeds=(0,)), "test")
    meta = json.loads((Path(made["folder"]) / "meta.json").read_text())
    assert str(tmp_path) not in json.dumps(meta["dataset"]), "an artefact names no machine's folders"
    first = verbs.rebuild(made["dataset"], tmp_path / "first")
    assert first["same"], first["differing"]

    lengthened_and_corrected(path)
    table = train.training_set(settings, TrainConfig(bars=(str(path),), form=FORM))
    assert table.identity != made["dataset"], "what the file holds now is another set"
    found = verbs.rebuild(made["dataset"], tmp_path / "again")
    assert (found["same"], found["identity"], found["arrays"]) == (True, made["dataset"], first["arrays"])
    for column in (tmp_path / "first").iterdir():
        assert (tmp_path / "again" / column.name).read_bytes() == column.read_bytes(), column.name

    shutil.rmtree(rows_folder(settings))
    with pytest.raises(ValueError, match=r"made of bars\.parquet with SHA-256 .*, and .* is another"):
        verbs.rebuild(made["dataset"], None)
    path.write_bytes(before)
    found = verbs.rebuild(made["dataset"], None)
    assert (found["same"], found["rows"], found["arrays"]) == (True, "made again", first["arrays"])
    manifest_at(settings, replace(table, identity=made["dataset"])).unlink()
    monkeypatch.chdir(tmp_path)  # where its meta.json alone looks for the file it names
    found = verbs.rebuild(made["dataset"], None)
    assert (found["same"], found["arrays"]) == (True, first["arrays"])


def lengthened_and_corrected(path: Path) -> None:
    """Two more days, and another close in the minute before them."""
    held = pd.read_parquet(path)
    held.loc[held.index[-1], "close"] = held["high"].iloc[-1]
    later = held.tail(2 * 1440).copy()
    later["date"] += pd.Timedelta(days=2)
    pd.concat([held, later], ignore_index=True).to_parquet(path)


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_every_verb_that_fits_keeps_its_sets(settings: Settings, bars: MinuteBars, tmp_path: Path) -> None:
    path = str(bar_file(tmp_path, bars))

    def keeper(verb: str) -> Any:
        made = partial(datasets.keep, settings, recipe=of_bars(verb, [path], FORM, "c0ffee"))
        return pickle.loads(pickle.dumps(made))  # noqa: S301 - as the processes of a walk are given it

    plan = walkforward.Plan([path], FORM, ("har",), (0,), 2, 3, quick=True)
    found = walkforward.run(plan, tmp_path / "walk", silent, keep=keeper("walkforward"))
    of_walk = {json.loads(each.read_text())["set"] for each in Path(found["folder"]).glob("*.json")}
    at = int(bars.close_ns[0]) - MINUTE_NS + 20 * DAY_NS
    asked = crash.Crash([path], FORM, at, at + DAY_NS // 2)
    gap = replace(bars, close_ns=bars.close_ns + np.where(np.arange(len(bars.close_ns)) < 14 * 1440, 0, 2 * DAY_NS))
    bar_file(tmp_path, gap)
    of_crash = crash.run(asked, "har", FitConfig(), silent, keeper("crash"))["set"]
    bar_file(tmp_path, bars)
    plain = ablation.Ablation([path], FORM, "gradient_boosting", blocks=1, days=3, quick=True)
    ablation.run(plain, tmp_path / "ablation", silent, keeper("ablation"))

    verbs_of = {each["identity"]: each["recipe"]["verb"] for each in kept(settings)}
    assert len(of_walk) == 2
    assert set(verbs_of) == {*of_walk, of_crash}, "the ablation's block is the walk's newest"
    assert sorted(verbs_of.values()) == ["ablation", "crash", "walkforward"]
    assert len(list(rows_folder(settings).iterdir())) == 2, "blocks of the same bars share their rows"
    Path(path).unlink()
    for identity in verbs_of:
        assert rebuild(settings, identity, never)["same"]


def test_the_digest_sees_names_types_and_bytes(table: TrainingSet) -> None:
    assert digest(table) == digest(again(table))
    assert digest(table) != digest(assemble(other(table)))
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
    assert found["recipe"]["bars"] == meta["dataset"]["files"]
    assert found["recipe"]["commit"] == meta["commit"]
    assert found["arrays"] is None


@pytest.mark.parametrize("named", ["", "abc", "ffff"])
def test_a_hash_of_no_set_is_told_which_there_are(named: str, settings: Settings, table: TrainingSet) -> None:
    keep(settings, table, RECIPE)
    with pytest.raises(ValueError, match=table.identity):
        find(settings, named)
