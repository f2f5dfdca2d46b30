"""A graph that does not say what torch says is neither described nor registered."""

from __future__ import annotations

import copy
from pathlib import Path

import numpy as np
import pytest
import torch

from feature_repo.contracts import ModelRefused
from feature_repo.settings import Settings
from tests.training.conftest import Calibrated
from training import agreement, train
from training.agreement import BATCHES, TOLERANCE, agreed_graph, sample
from training.dataset import TrainingSet
from training.export import onnx_bytes
from training.forecaster import Forecaster
from training.train import TrainConfig, run

pytestmark = pytest.mark.filterwarnings("ignore")  # imports of torch warn about their dependencies


def drifted(model: Forecaster) -> bytes:
    """The graph of a model whose calibration is another: volatilities are 0.1 % higher, which is 5e-7 in all."""
    other = copy.deepcopy(model)
    with torch.no_grad():
        other.ln_scale_K += 1e-3
    return onnx_bytes(other)


@pytest.mark.parametrize("name", ["har", "gradient_boosting", "transformer"])
def test_what_was_exported_says_what_torch_says_on_real_rows(
    name: str, calibrated: Calibrated, table: TrainingSet,
) -> None:
    at = sample(table)
    assert len(at) == max(BATCHES)
    assert np.isin(at, table.part("calibration")).all()
    model = calibrated(name)
    graph, gap = agreed_graph(model, table.sequences(at), table.context[at, None])
    assert graph == onnx_bytes(model)
    assert 0 <= gap <= TOLERANCE


def test_a_graph_that_says_otherwise_is_refused_and_nothing_of_it_is_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(agreement, "onnx_bytes", drifted)
    monkeypatch.setattr(train, "champion_of", lambda *_: None)
    config = TrainConfig(quick=True, simulated=True, seeds=(0,), model="har")
    with pytest.raises(ModelRefused, match=r"torch's answers to within 1e-05, found 0\.001 \("):
        run(Settings(run_dir=tmp_path), config, "test")
    assert not list(tmp_path.rglob("meta.json"))
    assert not list(tmp_path.rglob("model.onnx"))


def test_what_one_side_alone_does_not_know_is_no_agreement() -> None:
    nan = np.nan
    assert agreement._gap(np.array([nan, 1.0]), np.array([nan, 1.0]), 1.0) == 0.0
    assert agreement._gap(np.array([nan, 1.0]), np.array([0.5, 1.0]), 1.0) == np.inf
    assert agreement._gap(np.array([0.5]), np.array([nan]), 1.0) == np.inf


def test_a_chance_is_compared_as_it_is_a_volatility_and_a_large_edge_by_their_size() -> None:
    assert agreement._gap(np.array([0.5]), np.array([0.5001]), 1.0) == pytest.approx(1e-4)
    assert agreement._gap(np.array([20.0]), np.array([20.0001]), 1.0) == pytest.approx(5e-6)
    assert agreement._gap(np.array([5e-4]), np.array([5.05e-4]), 0.0) == pytest.approx(1e-2)
