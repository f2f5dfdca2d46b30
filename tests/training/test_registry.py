"""The gate says yes only to a model that earns it, and MLflow's champion moves only then."""

import copy
from pathlib import Path
from typing import Any

import pytest

from feature_repo.settings import Settings
from training.registry import RunRecord, begin, champion_folder, judge, open_mlflow, record, resolve

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


def test_a_worse_model_than_the_champion_on_the_same_rows_is_kept_out() -> None:
    assert failed(report(), champion={"qlike_15": WORSE}) == ["qlike_15m_against_champion"]
    assert failed(report(), champion={}) == ["qlike_15m_against_champion"], "one of them forecasts no volatility"
    assert judge(report(), "live", champion={"qlike_15": UNSURE}).promoted


def test_a_model_of_other_symbols_does_not_take_the_champions_place() -> None:
    assert failed(report(), champion={"qlike_15": BETTER}, lacking=["BTCUSDT"]) == ["knows_the_champions_symbols"]


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


@pytest.mark.integration
@pytest.mark.filterwarnings("ignore")  # MLflow's own imports warn about its dependencies
def test_the_alias_moves_only_when_the_gate_lets_it_and_every_name_of_a_model_finds_it(tmp_path: Path) -> None:
    settings = Settings(run_dir=tmp_path)
    uri = settings.mlflow
    folder = tmp_path / "artefact"
    folder.mkdir()
    (folder / "meta.json").write_text("{}")
    run = RunRecord({"dataset": "abc"}, {"qlike_15m": 0.3}, {"version": "v1", "source": "live"})
    refused = copy.deepcopy(report())
    refused["intervals"]["band_15"]["coverage"] = 0.5
    assert champion_folder(uri, "candlewick-forecast", tmp_path / "none") is None
    first = record(uri, run, folder, judge(report(), "live"))
    begun = begin(uri, "v1")  # so that the artefact can name its run
    (folder / "meta.json").write_text('{"second": true}')
    second = record(uri, run, folder, judge(refused, "live"), begun)
    assert second["run_id"] == begun
    client = open_mlflow(uri)
    champion = client.get_model_version_by_alias("candlewick-forecast", "champion")
    assert (first["alias"], second["alias"]) == ("champion", "")
    assert str(champion.version) == first["version"] != second["version"]
    assert client.get_run(champion.run_id).data.params["dataset"] == "abc"
    assert (tmp_path / "mlflow" / "artifacts").is_dir()
    found = champion_folder(uri, "candlewick-forecast", tmp_path / "fetched")
    assert found is not None
    assert (found / "meta.json").read_text() == "{}"
    for named in ("champion", "candlewick-forecast", "candlewick-forecast@champion", "models:/candlewick-forecast/1"):
        assert (resolve(settings, named) / "meta.json").read_text() == "{}", named
    assert (resolve(settings, "candlewick-forecast/2") / "meta.json").read_text() == '{"second": true}'
    for named in ("candlewick-forecast/3", "candlewick-forecast/x", "candlewick-forecast@none", "shadow", "a/b/c"):
        with pytest.raises(ValueError, match=r"found neither; registered: candlewick-forecast$"):
            resolve(settings, named)
