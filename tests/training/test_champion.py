"""A model is held against the champion on the same rows, and where that cannot be it is said."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from bentos.predictor import OUTPUT_NAMES
from feature_repo.catalogue import definitions
from feature_repo.contracts import FeaturesDiffer, ModelRefused
from feature_repo.features import FORECAST_BAR
from feature_repo.settings import Settings
from tests.bentos.made import made_artefact, made_graph
from training import champion, train
from training.agreement import agreed_graph, sample
from training.calibration import calibrate
from training.card import read_meta, unscored
from training.champion import Champion, beside, champion_of
from training.costs import CostModel
from training.dataset import TrainingSet
from training.evaluation import iso, learnt_from
from training.export import describe, write_artefact
from training.gate import Verdict
from training.models import fit_model
from training.registry import RunRecord, open_mlflow, record
from training.scored import Scored
from training.scoring import Facts, artefact_answers, scored_rows, set_columns
from training.train import TrainConfig

pytestmark = pytest.mark.filterwarnings("ignore")  # imports of MLflow and torch warn about their dependencies
CONFIG = TrainConfig(quick=True, simulated=True, seeds=(0,), model="har")
READ = {name: x for name, x in definitions().items() if name in FORECAST_BAR}


@pytest.fixture(scope="module")
def fresh(table: TrainingSet, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """HAR of the made market, as training writes it."""
    fitted, costs = fit_model("har", table, CONFIG.fitting(0)), CostModel()
    calibration, at = calibrate(fitted.model, table), sample(table)
    facts = {**train._facts(table, CONFIG, fitted, calibration, costs), "command": "", "commit": "", "version": "v1"}
    graph, _ = agreed_graph(fitted.model, table.sequences(at), table.context[at, None])
    return write_artefact(graph, facts, unscored(facts), tmp_path_factory.mktemp("fresh") / "v1")


@pytest.fixture
def altered(fresh: Path, tmp_path: Path) -> Callable[..., Path]:
    """A copy of it whose meta.json says otherwise, whole and signed."""
    def of(**changes: Any) -> Path:
        folder = Path(shutil.copytree(fresh, tmp_path / "altered"))
        return describe(folder, {**read_meta(folder), **changes}, "# altered\n")

    return of


@pytest.fixture
def serving(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[[Path | None], Champion | None]:
    """The champion as the gate finds it, where the registry's is in this folder."""
    def of(folder: Path | None) -> Champion | None:
        monkeypatch.setattr(champion, "champion_folder", lambda *_: folder)
        return champion_of(Settings(run_dir=tmp_path), "simulated")

    return of


def decisions(folder: Path, table: TrainingSet) -> Scored:
    at, meta = table.part("test"), read_meta(folder)
    return scored_rows(meta["version"], table, at, artefact_answers(folder, table, at), Facts.of(meta))


def checks(verdict: Verdict) -> dict[str, bool]:
    return {check.name: check.passed for check in verdict.checks}


def test_a_model_is_held_against_the_champion_on_the_same_rows(
    table: TrainingSet, fresh: Path, monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(train, "GATE_BASELINES", ("har",))
    report, verdict = train._judged(table, fresh, CONFIG, CostModel(), Champion(fresh))
    told = report["champion"]
    assert (told["version"], told["decisions"], told["learnt_from"]) == ("v1", table.counts["test"], 0)
    assert told["model_minus_it"]["qlike_15"]["value"] == 0.0
    assert checks(verdict)["qlike_15m_against_champion"]
    assert checks(verdict)["champion_comparable"]
    [said] = [check.found for check in verdict.checks if check.name == "champion_comparable"]
    assert said == f"v1 on {table.counts['test']:,} rows, new to it"
    report, verdict = train._judged(table, fresh, CONFIG, CostModel(), None)
    assert "champion" not in report
    assert "champion_comparable" not in checks(verdict)


def test_a_champion_of_another_set_is_compared_while_what_it_reads_is_unchanged(
    table: TrainingSet, fresh: Path, altered: Callable[..., Path], serving: Callable[[Path | None], Champion | None],
) -> None:
    held = serving(altered(feature_set="older", feature_definitions=READ, version="v0"))
    assert held is not None
    assert held.why_not == ""
    found, told = beside(held, table, decisions(fresh, table))
    assert found.differences is not None
    assert (told["version"], told["model_minus_it"]["qlike_15"]["value"]) == ("v0", 0.0)


@pytest.mark.parametrize(("changed", "why"), [
    ({"feature_definitions": {**READ, "return_1m": "0" * 12}}, "return_1m: another definition"),
    ({"feature_definitions": {}}, "its formulas are not known"),
    ({"features": [*FORECAST_BAR[:-1], "gone_1m"], "feature_definitions": READ}, "gone_1m is gone"),
])
def test_a_champion_that_cannot_be_asked_is_told_and_the_model_is_judged_by_the_rest(
    changed: dict[str, Any], why: str, table: TrainingSet, fresh: Path, altered: Callable[..., Path],
    serving: Callable[[Path | None], Champion | None], monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(train, "GATE_BASELINES", ("har",))
    ood = {**read_meta(fresh)["ood"], "features": changed.get("features", list(FORECAST_BAR))}
    held = serving(altered(feature_set="older", version="v0", ood=ood, **changed))
    assert held is not None
    assert why in held.why_not
    report, verdict = train._judged(table, fresh, CONFIG, CostModel(), held)
    assert why in report["champion"]["not_compared"]
    [told] = [check for check in verdict.checks if check.name == "champion_comparable"]
    assert (told.passed, told.blocks) == (False, False)
    assert told.found.startswith("v0 is not compared: ")
    assert "qlike_15m_against_champion" not in checks(verdict)
    assert checks(verdict)["knows_the_champions_symbols"]


def test_a_champion_that_reads_a_retired_feature_is_served_on_and_not_compared() -> None:
    assert set_columns(FORECAST_BAR[::-1]) == list(range(len(FORECAST_BAR)))[::-1]
    with pytest.raises(FeaturesDiffer, match="found one that reads range_15m_v0;"):
        set_columns([*FORECAST_BAR, "range_15m_v0"])


def test_a_damaged_champion_is_told_whatever_it_reads(
    altered: Callable[..., Path], serving: Callable[[Path | None], Champion | None],
) -> None:
    assert serving(None) is None
    folder = altered(feature_set="older", feature_definitions={})
    (folder / "model.onnx").write_bytes(b"another")
    with pytest.raises(ModelRefused, match=r"checksum of model\.onnx"):
        serving(folder)


def seen(table: TrainingSet, until_share: float) -> dict[str, Any]:
    """A `dataset` whose calibration part reaches into the table's test part."""
    at = table.part("test")
    ends = {part: [iso(ns) for ns in table.window(part)] for part in ("train", "calibration")}  # type: ignore[arg-type]
    ends["calibration"][1] = iso(int(table.close_ns[at[int(until_share * (len(at) - 1))]]))
    return {"windows": ends, "counts": table.counts, "identity": table.identity}


def test_a_champion_is_asked_for_rows_that_it_has_not_learnt_from(
    table: TrainingSet, fresh: Path, altered: Callable[..., Path], monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(champion, "COMPARED_DAYS", 1)
    folder = altered(dataset=seen(table, 0.25), version="v0")
    known = int(learnt_from(read_meta(folder), table, table.part("test")).sum())
    assert 0.2 * table.counts["test"] < known < 0.3 * table.counts["test"]
    found, told = beside(Champion(folder), table, decisions(fresh, table))
    left = table.counts["test"] - known
    assert (told["decisions"], told["learnt_from"]) == (left, 0)
    assert found.how == f"v0 on {left:,} rows, new to it"


def test_where_hardly_a_row_is_new_to_the_champion_that_is_said(
    table: TrainingSet, fresh: Path, altered: Callable[..., Path],
) -> None:
    folder = altered(dataset=seen(table, 1.0), version="v0")
    found, told = beside(Champion(folder), table, decisions(fresh, table))
    every = table.counts["test"]
    assert (told["decisions"], told["learnt_from"]) == (every, every)
    assert found.how == f"v0 on {every:,} rows, {every:,} of which it has learnt from"
    assert found.differences is not None


def test_what_another_market_learnt_from_is_not_seen(table: TrainingSet, altered: Callable[..., Path]) -> None:
    folder = altered(dataset=seen(table, 1.0))
    at, meta = table.part("test"), read_meta(folder)
    assert learnt_from(meta, table, at).all()
    assert not learnt_from({**meta, "symbol": "ETHUSDT"}, table, at).any()
    assert not learnt_from({**meta, "source": "live"}, table, at).any()


def turned(graph: onnx.GraphProto) -> None:
    """The made graph for columns in the opposite order."""
    for name, column in (("at_r", "return_1m"), ("at_v", "realized_vol_15m")):
        held = next(each for each in graph.initializer if each.name == name)
        held.CopyFrom(helper.make_tensor(name, TensorProto.INT64, [], [FORECAST_BAR[::-1].index(column)]))


def test_a_model_is_given_its_own_columns_in_its_own_order(table: TrainingSet, tmp_path: Path) -> None:
    straight = made_artefact(tmp_path / "straight", outputs=list(OUTPUT_NAMES))
    other = made_graph()
    turned(other.graph)
    (tmp_path / "turned").mkdir()
    (tmp_path / "turned" / "model.onnx").write_bytes(other.SerializeToString())
    at = table.part("test")[:500]
    expected = artefact_answers(straight, table, at)
    found = artefact_answers(tmp_path / "turned", table, at, FORECAST_BAR[::-1])
    for name in OUTPUT_NAMES:
        assert np.array_equal(found[name], expected[name], equal_nan=True), name


@pytest.mark.integration
def test_the_champion_is_the_registrys_and_a_damaged_one_is_told(tmp_path: Path, fresh: Path) -> None:
    settings = Settings(run_dir=tmp_path)
    assert champion_of(settings, "simulated") is None
    verdict = Verdict("candlewick-forecast-simulated", promoted=True, checks=())
    recorded = record(settings.mlflow, RunRecord({}, {}, {"version": "v1"}), fresh, verdict)
    found = champion_of(settings, "simulated")
    assert found is not None
    assert read_meta(found.folder)["version"] == "v1"
    store = open_mlflow(settings.mlflow).get_run(recorded["run_id"]).info.artifact_uri
    (Path(store.removeprefix("file://")) / "model" / "model.onnx").write_bytes(b"another")
    with pytest.raises(ModelRefused, match=r"checksum of model\.onnx"):
        champion_of(settings, "simulated")
