"""A whole run on a simulated market: set, fit, evaluation, artefact, registry; and the same rows through Feast."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from feature_repo.contracts import ModelRefused
from feature_repo.settings import Settings
from training import evaluation, fitting, train, verbs
from training.agreement import TOLERANCE
from training.dataset import TrainingSet, kernel_rows
from training.datasets import find
from training.evaluation import GATE_BASELINES
from training.export import verify
from training.feature_changes import _registered, broken, here
from training.klines import MinuteBars, simulated_klines
from training.known import history_lake, known_rows, write_history
from training.reference import histogram, is_out, out_of_distribution
from training.train import TrainConfig, run

pytestmark = pytest.mark.filterwarnings("ignore")  # imports of Feast, MLflow and torch warn about their dependencies


@pytest.mark.slow
@pytest.mark.integration
@pytest.mark.timeout(600)
def test_a_quick_run_leaves_a_verified_artefact_under_the_simulated_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
) -> None:
    settings = Settings(run_dir=tmp_path, cost_fee_bps=3.0)
    report = run(settings, TrainConfig(quick=True, simulated=True, seeds=(0,)), "test", tmp_path / "installed")
    folder = Path(report["folder"])
    meta = json.loads((folder / "meta.json").read_text())
    assert report["registry"]["model"] == "candlewick-forecast-simulated"
    assert meta["dataset"]["identity"] == report["dataset"]
    assert {c["name"] for c in report["gate"]} >= {"qlike_15m_minus_har", "risk_calibrated", "band_covers"}
    assert verify(folder, probe_ms=False)["verified"]
    assert 0 <= meta["torch_minus_onnx"] <= TOLERANCE
    assert (tmp_path / "installed").exists() == report["promoted"]
    assert set(meta["metrics"]) >= {"direction", "flat", "volatility", "spike", "risk", "intervals", "pnl", "red_flags"}
    assert set(meta["metrics"]["baselines"]) == set(GATE_BASELINES)
    assert report["metrics"]["qlike_15m"] == meta["metrics"]["volatility"]["15"]["qlike"]
    assert meta["cost_model"]["fee_bps"] == meta["metrics"]["pnl"]["1"]["costs"]["fee_bps"] == 3.0
    again = evaluated(monkeypatch, settings, "candlewick-forecast-simulated/1", tmp_path / "page.html")
    assert (again["version"], again["same_dataset"], again["seen_in_training"]) == (report["version"], True, 0)
    assert again["volatility"]["15"] == meta["metrics"]["volatility"]["15"]
    assert again["direction"] == meta["metrics"]["direction"]
    assert "Do the chances mean what they say?" in (tmp_path / "page.html").read_text()
    kept = find(settings, report["dataset"])
    assert (kept["recipe"]["simulated"], kept["content"]) == (True, meta["dataset"]["content"])
    [registered] = _registered(settings)
    assert (registered.version, registered.where) == (report["version"], "candlewick-forecast-simulated 1")
    assert not broken(registered, here())["breaks"]
    assert "Trained on a simulated market" in (folder / "MODEL_CARD.md").read_text()
    (folder / "meta.json").write_text(json.dumps({**meta, "version": "forged"}))
    with pytest.raises(ModelRefused, match=r"checksum of meta\.json"):
        verify(folder)


def evaluated(monkeypatch: pytest.MonkeyPatch, settings: Settings, model: str, html: Path) -> dict[str, Any]:
    """What `candlewick evaluate --model` answers of the run's own set without bars, beside HAR alone."""
    quick = TrainConfig(quick=True, simulated=True)
    monkeypatch.setattr(verbs, "_ready", lambda _component: settings)
    monkeypatch.setattr(train, "TrainConfig", lambda **_: quick)
    monkeypatch.setattr(evaluation, "GATE_BASELINES", ("har",))
    monkeypatch.setattr(fitting, "FitConfig", quick.fitting)
    return verbs.evaluate_test_part(model, simulated=True, baselines=False, seed=0, html=html)


@pytest.mark.integration
def test_rows_through_feast_are_the_kernels_rows_as_known_at_each_decision(tmp_path: Path) -> None:
    bars = first(simulated_klines(days=9, seed=4), 11_800)
    settings = replace(Settings(run_dir=tmp_path), lake_url=history_lake(Settings(run_dir=tmp_path)))
    written = write_history(bars, settings)
    assert written["rows"] == 11_800
    assert write_history(bars, settings)["files_written"] == 0, "written once"
    revised = replace(bars, columns={**bars.columns, "volume": bars.columns["volume"] * 2})
    assert write_history(revised, settings)["files_removed"] > 0, "two rows of one identity would be known by chance"
    write_history(bars, settings)
    found, expected = known_rows(bars, settings), kernel_rows(bars)
    assert np.array_equal(found.values, expected.values, equal_nan=True)
    assert np.array_equal(found.context, expected.context, equal_nan=True)
    assert np.isfinite(found.context).sum() > 100, "the percentile is known after seven days"
    other = replace(bars, columns={**bars.columns, "close": bars.closes}, source="live")
    with pytest.raises(ValueError, match="expected rows of source live"):
        known_rows(other, settings)


def first(bars: MinuteBars, n: int) -> MinuteBars:
    return replace(bars, close_ns=bars.close_ns[:n], columns={k: v[:n] for k, v in bars.columns.items()})


def test_the_reference_histogram_holds_equal_shares_and_counts_nulls() -> None:
    found = histogram(np.append(np.arange(1000.0), np.full(250, np.nan)))
    assert found["null_share"] == pytest.approx(0.2)
    assert np.allclose(found["proportions"], 0.1, atol=0.002)


def test_training_rows_are_in_distribution_and_wild_ones_are_not(table: TrainingSet) -> None:
    facts = out_of_distribution(table)
    assert facts["share_out"]["train"] < 0.01
    wild = np.array(facts["upper"])[None] * 50 + 50
    assert is_out(wild, facts).all()
