"""The gate says yes only to a model that earns it, and MLflow's champion moves only then."""

import copy
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bentos.artefact import load_artefact
from bentos.predictor import LATER_OUTPUT_NAMES, OUTPUT_NAMES
from feature_repo.features import FORECAST_BAR, SEQUENCE_LENGTH
from feature_repo.settings import Settings
from tests.bentos.made import made_artefact
from training.export import forecast, session
from training.gate import Beside, Verdict, judge
from training.mlflow_model import description
from training.registry import RunRecord, begin, champion_folder, open_mlflow, record, resolve

BETTER, WORSE = ({"value": v, "low": v - 0.01, "high": v + 0.01, "days": 30} for v in (-0.03, 0.03))
UNSURE = {"value": -0.03, "low": -0.07, "high": 0.01, "days": 30}
ONE_DAY = {"value": -0.03, "low": None, "high": None, "days": 1}


def report() -> dict[str, Any]:
    """A report that passes, as far as the gate reads it."""
    return {
        "volatility": {h: {"n": 50_000, "n_eff": 50_000 // int(h), "unanswered": 0} for h in ("5", "15", "60")},
        "baselines": {"har": {"model_minus_it": {f"qlike_{h}": dict(BETTER) for h in (5, 15, 60)}}},
        "direction": {"n": 100, "brier_skill": 1e-4, "interval": {"brier_skill": {"low": -1e-4, "high": 2e-4}}},
        "risk": {"ece": 0.01}, "intervals": {"band_15": {"level": 0.8, "coverage": 0.79}},
    }


def failed(found: dict[str, Any], **kwargs: Any) -> list[str]:
    return [c.name for c in judge(found, "live", **kwargs).checks if not c.passed]


def test_a_model_that_beats_har_is_promoted() -> None:
    assert judge(report(), "live").promoted
    assert failed(report()) == []


MINUS_HAR = ("baselines", "har", "model_minus_it")


@pytest.mark.parametrize(("path", "value", "check"), [
    ((*MINUS_HAR, "qlike_15"), WORSE, "qlike_15m_minus_har"),
    ((*MINUS_HAR, "qlike_15"), UNSURE, "qlike_15m_minus_har"),
    ((*MINUS_HAR, "qlike_15"), ONE_DAY, "qlike_15m_minus_har"),
    ((*MINUS_HAR, "qlike_60"), WORSE, "qlike_60m_minus_har"),
    ((*MINUS_HAR, "qlike_60"), {"value": 0.0, "low": 0.0, "high": 0.0, "days": 30}, "qlike_60m_minus_har"),
    (("volatility", "60", "unanswered"), 3, "every_row_answered"),
    (("volatility", "15", "evidence"), "too few", "enough_rows"),
    (("direction", "interval", "brier_skill"), {"low": -3e-4, "high": -1e-5}, "direction_not_worse_than_constant"),
    (("direction", "interval", "brier_skill"), None, "direction_not_worse_than_constant"),
    (("direction", "brier_skill"), None, "direction_not_worse_than_constant"),
    (("risk", "ece"), 0.2, "risk_calibrated"),
    (("risk", "ece"), None, "risk_calibrated"),
    (("intervals", "band_15", "coverage"), 0.6, "band_covers"),
    (("intervals", "band_15", "coverage"), None, "band_covers"),
])
def test_each_failing_condition_keeps_it_out_and_is_named(path: tuple[str, ...], value: Any, check: str) -> None:
    found = copy.deepcopy(report())
    place = found
    for name in path[:-1]:
        place = place[name]
    place[path[-1]] = value
    assert failed(found) == [check]
    assert not judge(found, "live").promoted


def test_only_the_middle_horizon_must_be_better_for_certain() -> None:
    found = report()
    found["baselines"]["har"]["model_minus_it"]["qlike_60"] = UNSURE
    assert judge(found, "live").promoted


def test_a_model_without_volatility_is_kept_out_and_one_without_direction_is_not() -> None:
    silent = report()
    silent["baselines"]["har"]["model_minus_it"] = {}
    assert failed(silent) == ["qlike_5m_minus_har", "qlike_15m_minus_har", "qlike_60m_minus_har"]
    har = {**report(), "direction": {"n": 0, "brier_skill": None, "interval": {}}}
    assert judge(har, "live").promoted


def beside(differences: dict[str, Any] | None, *lacking: str) -> Beside:
    how = "v0 is not compared" if differences is None else "v0 on 100 rows, new to it"
    return Beside(differences, how, lacking)


def test_a_worse_model_than_the_champion_on_the_same_rows_is_kept_out() -> None:
    assert failed(report(), champion=beside({"qlike_15": WORSE})) == ["qlike_15m_against_champion"]
    assert failed(report(), champion=beside({})) == ["qlike_15m_against_champion"], "one of them has no volatility"
    assert judge(report(), "live", beside({"qlike_15": UNSURE})).promoted


def test_a_model_of_other_symbols_does_not_take_the_champions_place() -> None:
    assert failed(report(), champion=beside({"qlike_15": BETTER}, "BTCUSDT")) == ["knows_the_champions_symbols"]
    assert not judge(report(), "live", beside(None, "BTCUSDT")).promoted, "compared or not"


def test_a_champion_that_cannot_be_compared_is_told_and_blocks_nobody_for_ever() -> None:
    verdict = judge(report(), "live", beside(None))
    [told] = [check for check in verdict.checks if not check.passed]
    assert (told.name, told.found, told.blocks) == ("champion_comparable", "v0 is not compared", False)
    assert verdict.promoted
    assert "qlike_15m_against_champion" not in {check.name for check in verdict.checks}
    worse = {**report(), "risk": {"ece": 0.2}}
    assert not judge(worse, "live", beside(None)).promoted, "what the gate asks of the model itself stays"
    compared = judge(report(), "live", beside({"qlike_15": BETTER}))
    assert ("champion_comparable", True, "v0 on 100 rows, new to it") in [
        (check.name, check.passed, check.found) for check in compared.checks
    ]


def test_few_rows_are_enough_where_nothing_real_is_promoted() -> None:
    found = report()
    found["volatility"]["15"]["evidence"] = "too few"
    assert judge(found, "simulated").promoted


def test_a_simulated_market_never_enters_the_default_registry() -> None:
    assert judge(report(), "simulated").name == "candlewick-forecast-simulated"


def test_file_stores_are_refused() -> None:
    with pytest.raises(ValueError, match="expected a SQL or HTTP tracking URI"):
        open_mlflow("file:///tmp/mlruns")


def test_a_model_is_its_folder_or_the_version_trained_here_and_a_question_makes_no_registry(tmp_path: Path) -> None:
    settings = Settings(run_dir=tmp_path)
    (tmp_path / "models" / "20260101-000000-abcdef").mkdir(parents=True)
    assert resolve(settings, "20260101-000000-abcdef") == tmp_path / "models" / "20260101-000000-abcdef"
    assert resolve(settings, str(tmp_path)) == tmp_path
    for named in ("champion", "nobody/3", "models:/nobody@champion", str(tmp_path / "none"), ""):
        with pytest.raises(ValueError, match="found neither; registered: none"):
            resolve(settings, named)
    assert not (tmp_path / "mlflow").exists()


OUTPUTS = [*OUTPUT_NAMES, *LATER_OUTPUT_NAMES]
REFUSED = {**report(), "intervals": {"band_15": {"level": 0.8, "coverage": 0.5}}}
RUN = RunRecord(
    {"dataset": "abc"}, {"qlike_15m": 0.3}, {"version": "v1", "source": "live"},
    epochs=[{"epoch": 0, "train_loss": 2.7, "calibration_loss": 2.5}, {"epoch": 1, "train_loss": 2.6,
                                                                      "calibration_loss": 2.4}],
    dataset={"name": "BTCUSDT live", "identity": "79049770d4ff00b5", "content": "a0c3", "counts": {"train": 7},
             "rebuild": "candlewick dataset rebuild 79049770d4ff00b5"},
)


def made(tmp_path: Path, **changes: Any) -> Path:
    return made_artefact(tmp_path / "artefact", kind="har", outputs=OUTPUTS, **changes)


def version_of(folder: Path) -> str:
    return str(json.loads((folder / "meta.json").read_text())["version"])


@pytest.mark.integration
@pytest.mark.filterwarnings("ignore")  # MLflow's own imports warn about its dependencies
def test_the_alias_moves_only_when_the_gate_lets_it_and_every_name_of_a_model_finds_it(tmp_path: Path) -> None:
    settings = Settings(run_dir=tmp_path)
    uri = settings.mlflow
    assert champion_folder(uri, "candlewick-forecast", tmp_path / "none") is None
    first = record(uri, RUN, made(tmp_path, version="1"), judge(report(), "live"))
    begun = begin(uri, "v1")  # so that the artefact can name its run
    second = record(uri, RUN, made(tmp_path, version="2"), judge(REFUSED, "live"), begun)
    assert second["run_id"] == begun
    client = open_mlflow(uri)
    champion = client.get_model_version_by_alias("candlewick-forecast", "champion")
    assert (first["alias"], second["alias"]) == ("champion", "challenger")
    assert str(champion.version) == first["version"] != second["version"]
    assert client.get_run(champion.run_id).data.params["dataset"] == "abc"
    assert (tmp_path / "mlflow" / "artifacts").is_dir()
    found = champion_folder(uri, "candlewick-forecast", tmp_path / "fetched")
    assert found is not None
    assert version_of(found) == "1"
    for named in ("champion", "candlewick-forecast", "candlewick-forecast@champion", "models:/candlewick-forecast/1"):
        assert version_of(resolve(settings, named)) == "1", named
    for named in ("candlewick-forecast/2", "challenger"):
        assert version_of(resolve(settings, named)) == "2", named
    for named in ("candlewick-forecast/3", "candlewick-forecast/x", "candlewick-forecast@none", "shadow", "a/b/c"):
        with pytest.raises(ValueError, match=r"found neither; registered: candlewick-forecast; "):
            resolve(settings, named)


@pytest.mark.integration
@pytest.mark.filterwarnings("ignore")  # MLflow's own imports warn about its dependencies
def test_a_version_is_loaded_by_alias_with_mlflows_own_loaders_and_says_what_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
) -> None:
    settings = Settings(run_dir=tmp_path)
    folder = made(tmp_path, version="1")
    recorded = record(settings.mlflow, RUN, folder, judge(report(), "live"))
    monkeypatch.setenv("MLFLOW_TRACKING_URI", settings.mlflow)  # as whoever loads it does
    import mlflow

    loaded = mlflow.pyfunc.load_model("models:/candlewick-forecast@champion")
    rows = loaded.input_example
    asked = loaded.metadata.signature.inputs.input_dict()
    assert {name: (spec.shape, str(spec.type)) for name, spec in asked.items()} == {
        "sequence": ((-1, SEQUENCE_LENGTH, len(FORECAST_BAR)), "float32"), "context": ((-1, 1), "float32"),
    }
    three = {name: np.repeat(np.float32(column), 3, axis=0) for name, column in rows.items()}
    three["sequence"][1, :40] = np.nan
    answers, expected = loaded.predict(three), forecast(session(folder), three["sequence"], three["context"])
    assert list(answers) == loaded.metadata.signature.outputs.input_names() == OUTPUTS
    for name, values in answers.items():
        assert np.array_equal(values, np.float32(expected[name]), equal_nan=True), name
    graph = mlflow.onnx.load_model("models:/candlewick-forecast@champion")
    assert [each.name for each in graph.graph.output] == OUTPUTS
    assert loaded.metadata.metadata["features"] == list(FORECAST_BAR)

    client = open_mlflow(settings.mlflow)
    version = client.get_model_version("candlewick-forecast", recorded["version"])
    assert version.description == (folder / "MODEL_CARD.md").read_text()
    assert (version.tags["promoted"], version.tags["source"]) == ("true", "live")
    place = Path(version.source.removeprefix("file://"))
    assert (place / "model.onnx").read_bytes() == (folder / "model.onnx").read_bytes()
    written = [path for path in (tmp_path / "mlflow").rglob("*") if path.is_file()]
    assert {"MLmodel", "input_example.json", "requirements.txt"} <= {path.name for path in written}
    assert not [path for path in written if path.suffix in {".pkl", ".pickle", ".pt", ".pth", ".joblib"}]
    assert load_artefact(resolve(settings, "champion")).facts.version == "1", "nothing lies beside its four files"


@pytest.mark.integration
@pytest.mark.filterwarnings("ignore")  # MLflow's own imports warn about its dependencies
def test_a_run_has_its_epochs_as_steps_and_its_set_as_an_input(tmp_path: Path) -> None:
    settings = Settings(run_dir=tmp_path)
    recorded = record(settings.mlflow, RUN, made(tmp_path), judge(REFUSED, "live"))
    client = open_mlflow(settings.mlflow)
    run = client.get_run(recorded["run_id"])
    steps = client.get_metric_history(recorded["run_id"], "calibration_loss")
    assert sorted((each.step, each.value) for each in steps) == [(0, 2.5), (1, 2.4)]
    assert run.data.metrics["qlike_15m"] == 0.3
    [held] = run.inputs.dataset_inputs
    assert (held.dataset.name, held.dataset.digest) == ("BTCUSDT live", "79049770d4ff00b5")
    assert json.loads(held.dataset.profile) == {"train": 7}
    assert "candlewick dataset rebuild 79049770d4ff00b5" in held.dataset.source
    [output] = run.outputs.model_outputs
    [metric] = client.get_logged_model(output.model_id).metrics
    assert (metric.key, metric.value, metric.dataset_digest) == ("qlike_15m", 0.3, "79049770d4ff00b5")


@pytest.mark.integration
@pytest.mark.filterwarnings("ignore")  # MLflow's own imports warn about its dependencies
def test_a_version_from_before_there_was_an_mlflow_model_is_found_as_before(tmp_path: Path) -> None:
    settings = Settings(run_dir=tmp_path)
    folder, run_id, client = made(tmp_path, version="1"), begin(settings.mlflow, "v1"), open_mlflow(settings.mlflow)
    client.log_artifacts(run_id, str(folder), "model")
    client.create_registered_model("candlewick-forecast")
    place = f"{client.get_run(run_id).info.artifact_uri}/model"
    older = client.create_model_version("candlewick-forecast", place, run_id)
    client.set_registered_model_alias("candlewick-forecast", "champion", older.version)
    found = champion_folder(settings.mlflow, "candlewick-forecast", tmp_path / "fetched")
    assert found is not None
    assert load_artefact(found).facts.version == "1"
    record(settings.mlflow, RUN, made(tmp_path, version="2"), Verdict("candlewick-forecast", promoted=True, checks=()))
    assert version_of(resolve(settings, "champion")) == "2"
    assert version_of(resolve(settings, "candlewick-forecast/1")) == "1"


def test_a_long_card_is_described_by_its_first_whole_sections() -> None:
    card = "# model\n\n## Data\n" + "x" * 3000 + "\n\n## Scores\n" + "y" * 3000 + "\n"
    told = description(card)
    assert len(told) <= 5000
    assert told.startswith(card[: card.index("\n\n## Scores")])
    assert "y" not in told.split("\n\n")[2]
    assert "MODEL_CARD.md" in told
