"""An artefact is used only when every byte of it is what its checksums, its features and its graph promise."""

from __future__ import annotations

import json
import pickle
from pathlib import Path

import numpy as np
import pytest

from bentos.artefact import load_artefact
from feature_repo.catalogue import definitions
from feature_repo.contracts import ModelRefused
from tests.bentos.made import made_artefact, made_row, made_sequence, sign


def test_a_signed_folder_is_loaded_and_answers(tmp_path: Path) -> None:
    artefact = load_artefact(made_artefact(tmp_path))
    outputs = artefact.run(made_sequence(made_row(return_1m=0.002, realized_vol_15m=0.0005)), 0.001)
    assert outputs.p_up == pytest.approx(1 / (1 + np.exp(-0.2)), rel=1e-6)
    assert outputs.volatility_15m == pytest.approx(0.0005)
    assert outputs.faults() == []


def test_an_unknown_context_makes_the_risk_unknown_and_nothing_else(tmp_path: Path) -> None:
    outputs = load_artefact(made_artefact(tmp_path)).run(made_sequence(made_row()), None)
    assert np.isnan(outputs.risk_score)
    assert outputs.faults() == []


@pytest.mark.parametrize("name", ["model.onnx", "meta.json", "MODEL_CARD.md"])
def test_one_changed_byte_is_refused(tmp_path: Path, name: str) -> None:
    folder = made_artefact(tmp_path)
    content = bytearray((folder / name).read_bytes())
    content[len(content) // 2] ^= 1
    (folder / name).write_bytes(content)
    with pytest.raises(ModelRefused, match=f"{name}: expected sha256"):
        load_artefact(folder)


@pytest.mark.parametrize("name", ["model.onnx", "meta.json", "SHA256SUMS"])
def test_a_missing_file_is_refused(tmp_path: Path, name: str) -> None:
    folder = made_artefact(tmp_path)
    (folder / name).unlink()
    with pytest.raises(ModelRefused, match=f"expected {name}"):
        load_artefact(folder)


def test_a_folder_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelRefused, match="expected"):
        load_artefact(tmp_path / "none")


def test_a_file_without_a_checksum_is_refused(tmp_path: Path) -> None:
    folder = made_artefact(tmp_path)
    sums = (folder / "SHA256SUMS").read_text().splitlines(keepends=True)
    (folder / "SHA256SUMS").write_text("".join(line for line in sums if "model.onnx" not in line))
    with pytest.raises(ModelRefused, match=r"model.onnx: expected sha256 None"):
        load_artefact(folder)


@pytest.mark.parametrize("name", ["model.pkl", "scaler.joblib", "model.pt", "model.onnx.data"])
def test_a_pickle_beside_the_model_is_refused_unread_even_when_signed(tmp_path: Path, name: str) -> None:
    folder = made_artefact(tmp_path)
    (folder / name).write_bytes(pickle.dumps({"weights": 1}))
    with pytest.raises(ModelRefused, match=name):
        load_artefact(sign(folder))


def test_a_pickle_in_place_of_the_graph_is_refused(tmp_path: Path) -> None:
    folder = made_artefact(tmp_path)
    (folder / "model.onnx").write_bytes(pickle.dumps({"weights": 1}))
    with pytest.raises(ModelRefused, match=r"model.onnx"):
        load_artefact(sign(folder))


@pytest.mark.parametrize(("change", "message"), [
    ({"feature_set": "0" * 12}, "of set 000000000000 .* its formulas are not known"),
    ({"feature_set": "0" * 12, "feature_definitions": {**definitions(), "return_1m": "0"}},
     "return_1m: another definition"),
    ({"features": ["gone_1m"]}, "gone_1m is gone"),
    ({"features": ["spread_1s"]}, "spread_1s is not in sequences"),
    ({"features": ["return_1m"]}, "expected inputs {'sequence': .64, 1."),
    ({"sequence_length": 32}, "sequences of 32 rows"),
    ({"cost_model": {"fee_bps": 1.0}}, "KeyError: 'half_spread_bps'"),
    ({"tier_lambda": {"age_s": [0], "lambda": [1.0]}}, "at least two ascending ages"),
    ({"tier_lambda": {"age_s": [0, 60], "lambda": [1.0, 1.2]}}, "with values in"),
    ({"ood": {"features": ["return_1m"], "center": [], "scale": [], "lower": [], "upper": []}}, "expected center"),
])
def test_a_model_of_other_features_is_refused(tmp_path: Path, change: dict[str, object], message: str) -> None:
    with pytest.raises(ModelRefused, match=message):
        load_artefact(made_artefact(tmp_path, **change))


@pytest.mark.parametrize("text", ["not json", "[]"])
def test_meta_that_is_no_object_is_refused(tmp_path: Path, text: str) -> None:
    folder = made_artefact(tmp_path)
    (folder / "meta.json").write_text(text)
    with pytest.raises(ModelRefused, match=r"meta.json"):
        load_artefact(sign(folder))


def test_the_reason_says_what_was_expected_and_found(tmp_path: Path) -> None:
    folder = made_artefact(tmp_path)
    meta = json.loads((folder / "meta.json").read_text()) | {"feature_set": "elsewhere"}
    (folder / "meta.json").write_text(json.dumps(meta))
    with pytest.raises(ModelRefused, match="expected features of set elsewhere as they were in training, found"):
        load_artefact(sign(folder))
