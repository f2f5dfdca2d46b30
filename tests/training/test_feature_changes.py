"""One edit in FEATURES: what it changes is named, and the models that break by it."""

from __future__ import annotations

import json
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

from feature_repo.catalogue import catalogue, definitions
from feature_repo.features import FEATURE_NAMES, FEATURE_SET, FORECAST_BAR, SEQUENCE_LENGTH
from feature_repo.models import (
    Model,
    live_sets,
    live_text,
    model_of,
    model_services,
    models,
    read_model,
    refuse_unread,
)
from feature_repo.settings import ROOT, Settings
from feature_repo.views import CONTEXT_VIEW, services
from training.feature_changes import FeatureList, broken, diff, here, of_model, of_revision, report, text


@pytest.fixture(scope="module")
def now() -> FeatureList:
    return here()


@pytest.fixture(scope="module")
def edited(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A repository whose one commit declares other features."""
    root = tmp_path_factory.mktemp("edited")
    shutil.copytree(ROOT / "feature_repo", root / "feature_repo", ignore=shutil.ignore_patterns("__pycache__"))
    path = root / "feature_repo" / "features.py"
    source = path.read_text()
    for before, after in (
        ('Feature("momentum_60m"', 'Feature("momentum_1h"'),                       # another name
        ('"ln(C_t / C_{t-5m})"', '"ln(C_t / C_{t-5m}), closes"'),                  # other words
        ("    span: Floats = w.sixty(", "    span: Floats = 2.0 * w.sixty("),          # other code under the same words
    ):
        assert before in source, before
        source = source.replace(before, after, 1)
    path.write_text(source)
    who = ["-c", "user.name=t", "-c", "user.email=t@localhost"]
    for words in (["init", "-q"], ["add", "feature_repo"], [*who, "commit", "-qm", "edited"]):
        subprocess.run(["git", *words], cwd=root, check=True)
    return root


def model(**changed: object) -> Model:
    made = Model(
        "forecast", "v1", FEATURE_SET, FORECAST_BAR, SEQUENCE_LENGTH,
        {name: x for name, x in definitions().items() if name in FORECAST_BAR}, "", "given",
    )
    return replace(made, **changed)  # type: ignore[arg-type]


def test_the_catalogue_has_every_feature_once_and_tells_all_apart() -> None:
    entries = catalogue()
    assert tuple(e["name"] for e in entries) == FEATURE_NAMES
    assert len({e["definition"] for e in entries}) == len(entries)
    null = [e["name"] for e in entries if [f["values"] for f in entries].count(e["values"]) > 1]
    assert null == [], "on the fixed market every feature has a value of its own"


def test_the_catalogue_is_the_same_each_time() -> None:
    assert catalogue() == catalogue()


def test_a_revision_is_compared_by_its_own_code(now: FeatureList, edited: Path) -> None:
    found = diff(now, of_revision("HEAD", edited))
    assert found["added"] == ["momentum_60m"]
    assert found["removed"] == ["momentum_1h"]
    assert found["changed"] == {
        "return_5m": ["another definition"], "range_15m": ["other values of the same market"],
    }
    assert found["feature_set"]["here"] != found["feature_set"]["there"]
    assert not found["reordered"]


def test_nothing_differs_from_itself(now: FeatureList) -> None:
    found = diff(now, now)
    assert not any(found[name] for name in ("added", "removed", "changed", "reordered", "not_comparable"))


def test_another_order_is_a_difference(now: FeatureList) -> None:
    turned = replace(now, features=dict(reversed(now.features.items())))
    assert diff(now, turned)["reordered"]


def test_what_is_no_revision_is_said_so(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="expected a git revision"):
        of_revision("HEAD", tmp_path)


def test_a_model_of_this_feature_set_reads_on(now: FeatureList) -> None:
    assert broken(model(), now) == {
        "model": "forecast-v1", "where": "given", "feature_set": FEATURE_SET, "breaks": False, "why": [],
    }


@pytest.mark.parametrize(("changed", "why"), [
    ({"features": (*FORECAST_BAR, "gone_1m")}, "gone_1m is gone"),
    ({"sequence_length": 32}, "sequences of 32 rows"),
    ({"definitions": {**definitions(), "return_1m": "0" * 12}}, "return_1m: another definition"),
    ({"definitions": {}}, "its formulas are not known"),
])
def test_a_model_that_breaks_says_why(changed: dict, why: str, now: FeatureList, tmp_path: Path) -> None:
    found = broken(model(feature_set="another", **changed), now, tmp_path)
    assert found["breaks"]
    assert why in found["why"]


@pytest.mark.parametrize("changed", [{}, {"features": FORECAST_BAR[1:]}, {"features": FORECAST_BAR[::-1]}])
def test_a_model_of_another_set_reads_on_while_its_features_are_declared_as_they_were(
    changed: dict, now: FeatureList,
) -> None:
    assert not broken(model(feature_set="another", **changed), now)["breaks"]


def test_the_formulas_of_an_older_model_are_found_at_its_commit(now: FeatureList, edited: Path) -> None:
    there = of_revision("HEAD", edited)
    older = model(definitions={}, feature_set=there.feature_set, commit="HEAD")
    found = broken(older, now, edited)
    assert "return_5m: another definition" in found["why"]
    assert of_model(replace(older, feature_set="neither"), edited).features["return_1m"] == {}


def test_the_models_of_a_deployment_are_the_served_one_and_those_trained_there(tmp_path: Path) -> None:
    meta = json.loads((ROOT / "models" / "bootstrap" / "meta.json").read_text())
    for version in ("a", "b"):
        folder = tmp_path / "models" / version
        folder.mkdir(parents=True)
        (folder / "meta.json").write_text(json.dumps({**meta, "version": version}))
    (tmp_path / "models" / "damaged").mkdir()
    (tmp_path / "models" / "damaged" / "meta.json").write_text("{")
    held = models(Settings(run_dir=tmp_path))
    assert [(m.version, m.where) for m in held] == [(meta["version"], "bootstrap"), ("a", "run"), ("b", "run")]
    assert read_model(tmp_path / "models" / "a" / "meta.json", "given").version == "a"
    with pytest.raises(ValueError, match="expected name"):
        model_of({"version": "a"}, "given")


def test_each_version_has_a_feature_service_of_what_it_reads() -> None:
    gone = model(version="v2", features=("gone_1m",))
    made = model_services([model(), model(version="v3", features=("spread_1s", "return_1m")), gone])
    assert set(made) == {"forecast-v1", "forecast-v3"}
    assert made["forecast-v1"] == services()["forecast_bar_v1"]
    assert made["forecast-v3"] == {
        "book_features": ("spread_1s",), "price_features": ("return_1m",), CONTEXT_VIEW.name: CONTEXT_VIEW.names,
    }


def test_a_report_names_the_models_that_break(tmp_path: Path) -> None:
    meta = json.loads((ROOT / "models" / "bootstrap" / "meta.json").read_text())
    (tmp_path / "models" / "old").mkdir(parents=True)
    (tmp_path / "models" / "old" / "meta.json").write_text(json.dumps(
        {**meta, "version": "old", "feature_set": "x", "feature_definitions": {}}))
    found = report(Settings(run_dir=tmp_path), None)
    assert found["breaking"] == ["candlewick-forecast-old"]
    assert "BREAKS" in text(found)
    assert "reads on" in text(found)


def test_a_served_model_that_reads_what_is_gone_is_refused_by_name(tmp_path: Path) -> None:
    meta = json.loads((ROOT / "models" / "bootstrap" / "meta.json").read_text())
    (tmp_path / "models" / "champion").mkdir(parents=True)
    gone = {**meta, "version": "old", "feature_set": "x", "features": [*meta["features"], "gone_1m"]}
    (tmp_path / "models" / "champion" / "meta.json").write_text(json.dumps(gone))
    with pytest.raises(ValueError, match=r"candlewick-forecast-old \(champion\): gone_1m is gone.*RETIRED"):
        refuse_unread(Settings(run_dir=tmp_path))
    refuse_unread(Settings(run_dir=tmp_path / "elsewhere"))


def test_the_live_sets_are_this_one_and_those_of_served_models_and_say_why(tmp_path: Path) -> None:
    meta = json.loads((ROOT / "models" / "bootstrap" / "meta.json").read_text())
    for slot, version in (("champion", "old"), ("shadow", "new"), ("20260101", "neither")):
        (tmp_path / "models" / slot).mkdir(parents=True)
        changed = {"version": version, "feature_set": "before" if slot == "champion" else meta["feature_set"]}
        (tmp_path / "models" / slot / "meta.json").write_text(json.dumps({**meta, **changed}))
    found = live_sets(Settings(run_dir=tmp_path))
    readers = [(each["feature_set"], each["declared"], [m["slot"] for m in each["models"]]) for each in found]
    assert readers == [(meta["feature_set"], True, ["shadow", "bootstrap"]), ("before", False, ["champion"])]
    told = live_text(found, ["range_15m"])
    assert "feature set before is live: read by candlewick-forecast-old (champion)" in told
    assert "range_15m is retired and read by no served model: delete it" in told


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_feast_holds_the_service_of_each_version(tmp_path: Path) -> None:
    from feature_repo.feast_config import apply, open_feast

    settings = Settings(run_dir=tmp_path)
    settings.registry.parent.mkdir(parents=True)
    apply(settings)
    [served] = models(settings)
    service = open_feast(settings).get_feature_service(served.service)
    taken = [feature.name for view in service.feature_view_projections for feature in view.features]
    assert sorted(taken) == sorted([*served.features, *CONTEXT_VIEW.names])
    assert service.tags["feature_set"] == served.feature_set
