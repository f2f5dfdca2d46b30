"""The gate says yes only to a model that earns it, and MLflow's champion moves only then."""

import copy
from pathlib import Path
from typing import Any

import pytest

from training.registry import RunRecord, begin, champion_folder, judge, open_mlflow, record

BETTER, WORSE = ({"value": v, "low": v - 0.01, "high": v + 0.01, "days": 30} for v in (-0.03, 0.03))


def report(qlike_15m: float = 0.30) -> dict[str, Any]:
    """A report that passes."""
    volatility = {
        h: {"qlike": {"value": qlike_15m}, "baselines": {"har": {"model_minus_baseline": dict(BETTER)}}}
        for h in ("5m", "15m", "60m")
    }
    gain = {"value": -1e-4, "low": -2e-4, "high": 0.0}
    up = {"baselines": {"constant": {"model_minus_baseline_log_loss": gain}}}
    return {
        "volatility": volatility, "chances": {"up": up, "risk": {"calibration_error": 0.01}},
        "band_15m": {"wanted": 0.8, "coverage": {"value": 0.79}},
    }


def failed(found: dict[str, Any], **kwargs: Any) -> list[str]:
    return [c.name for c in judge(found, "live", **kwargs).checks if not c.passed]


def test_a_model_that_beats_har_is_promoted() -> None:
    assert judge(report(), "live").promoted
    assert failed(report()) == []


@pytest.mark.parametrize(("path", "value", "check"), [
    (("volatility", "15m", "baselines", "har", "model_minus_baseline"), WORSE, "qlike_15m_minus_har"),
    (("volatility", "60m", "baselines", "har", "model_minus_baseline"), WORSE, "qlike_60m_minus_har"),
    (
        ("chances", "up", "baselines", "constant", "model_minus_baseline_log_loss"), WORSE,
        "direction_not_worse_than_constant",
    ),
    (("chances", "risk", "calibration_error"), 0.2, "risk_calibrated"),
    (("band_15m", "coverage", "value"), 0.6, "band_covers"),
])
def test_each_failing_condition_keeps_it_out_and_is_named(path: tuple[str, ...], value: Any, check: str) -> None:
    found = copy.deepcopy(report())
    place = found
    for name in path[:-1]:
        place = place[name]
    place[path[-1]] = value
    assert failed(found) == [check]
    assert not judge(found, "live").promoted


def test_a_worse_model_than_the_champion_is_kept_out() -> None:
    assert failed(report(0.31), champion=report(0.30)) == ["qlike_15m_against_champion"]
    assert judge(report(0.29), "live", champion=report(0.30)).promoted


def test_a_simulated_market_never_enters_the_default_registry() -> None:
    assert judge(report(), "simulated").name == "candlewick-forecast-simulated"


def test_file_stores_are_refused() -> None:
    with pytest.raises(ValueError, match="expected a SQL or HTTP tracking URI"):
        open_mlflow("file:///tmp/mlruns")


@pytest.mark.integration
@pytest.mark.filterwarnings("ignore")  # MLflow's own imports warn about its dependencies
def test_the_alias_moves_only_when_the_gate_lets_it(tmp_path: Path) -> None:
    uri = f"sqlite:///{tmp_path / 'mlflow' / 'mlflow.db'}"
    folder = tmp_path / "artefact"
    folder.mkdir()
    (folder / "meta.json").write_text("{}")
    run = RunRecord({"dataset": "abc"}, {"qlike_15m": 0.3}, {"version": "v1", "source": "live"})
    refused = copy.deepcopy(report())
    refused["band_15m"]["coverage"]["value"] = 0.5
    assert champion_folder(uri, "candlewick-forecast", tmp_path / "none") is None
    first = record(uri, run, folder, judge(report(), "live"))
    begun = begin(uri, "v1")  # so that the artefact can name its run
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
