"""The door to an artefact: a folder of four files, each as its checksum says, with a graph of our inputs, outputs."""

from __future__ import annotations

import json
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper
from onnx.external_data_helper import set_external_data

from bentos.artefact import load_artefact
from bentos.predictor import LATER_OUTPUT_NAMES, OUTPUT_NAMES
from feature_repo.catalogue import definitions
from feature_repo.contracts import FeaturesDiffer, ModelRefused
from feature_repo.features import FORECAST_BAR, SEQUENCE_FEATURES, SEQUENCE_LENGTH
from feature_repo.settings import ROOT
from tests.bentos.made import made_artefact, made_graph, made_meta, sign
from tests.training.made_meta import LEARNT, WINDOWS, N
from training.export import SERVED, describe, verify
from training.forecaster import OUTPUTS

MADE_OUTPUTS = (*OUTPUT_NAMES, *LATER_OUTPUT_NAMES)
RULE = made_meta()["ood"]
"""Of `return_1m` alone."""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Small, whole and signed."""
    return made_artefact(tmp_path / "made", kind="har", outputs=list(MADE_OUTPUTS), **LEARNT)


def refused(folder: Path, message: str) -> None:
    """By the door of training, which says why, and by that of serving."""
    with pytest.raises(ModelRefused, match=message):
        verify(folder, probe_ms=False)
    with pytest.raises(ModelRefused):
        load_artefact(folder)


def with_graph(folder: Path, graph: bytes) -> Path:
    (folder / "model.onnx").write_bytes(graph)
    return sign(folder)


def with_meta(folder: Path, **changes: Any) -> Path:
    meta = json.loads((folder / "meta.json").read_text())
    (folder / "meta.json").write_text(json.dumps({**meta, **changes}))
    return sign(folder)


def changed(change: Callable[[onnx.GraphProto], object]) -> bytes:
    model = made_graph()
    change(model.graph)
    return bytes(model.SerializeToString())


def test_a_whole_folder_passes_both_doors(folder: Path) -> None:
    assert verify(folder, probe_ms=False)["verified"]
    assert load_artefact(folder).facts.name == "made"


def test_what_serving_asks_for_is_what_a_graph_must_answer() -> None:
    assert set(SERVED) == set(OUTPUT_NAMES) <= set(OUTPUTS)
    assert set(LATER_OUTPUT_NAMES) <= set(OUTPUTS) - set(SERVED)


def test_a_graph_from_before_an_output_was_added_passes_both_doors(folder: Path) -> None:
    with_graph(folder, made_graph(OUTPUT_NAMES).SerializeToString())
    with_meta(folder, outputs=list(OUTPUT_NAMES))
    assert verify(folder, probe_ms=False)["verified"]
    answered = load_artefact(folder).run(np.full((SEQUENCE_LENGTH, len(SEQUENCE_FEATURES)), 1e-3), 1e-3)
    assert answered.expected_edge_15m_bps is None
    assert np.isfinite(answered.expected_edge_bps)


@pytest.mark.parametrize("name", ["model.onnx", "meta.json", "MODEL_CARD.md"])
@pytest.mark.parametrize("share", [0.0, 0.5, 1.0])
def test_one_changed_byte_is_refused(folder: Path, name: str, share: float) -> None:
    content = bytearray((folder / name).read_bytes())
    content[int(share * (len(content) - 1))] ^= 1
    (folder / name).write_bytes(content)
    refused(folder, f"checksum of {name}: expected")


@pytest.mark.parametrize("name", ["model.onnx", "meta.json", "MODEL_CARD.md", "SHA256SUMS"])
def test_a_missing_file_is_refused(folder: Path, name: str) -> None:
    (folder / name).unlink()
    with pytest.raises(ModelRefused, match=f"expected {name} in .*, found none"):
        verify(folder)


@pytest.mark.parametrize("name", ["model.pkl", "model.onnx.data", ".hidden", "scaler.joblib"])
@pytest.mark.parametrize("signed", [False, True])
def test_a_file_beside_them_is_refused_whether_or_not_it_has_a_checksum(
    folder: Path, name: str, signed: bool,
) -> None:
    (folder / name).write_bytes(pickle.dumps({"weights": 1}))
    refused(sign(folder) if signed else folder, f"expected only .*, found {name} beside them")


def test_a_folder_beside_them_is_refused(folder: Path) -> None:
    (folder / "more").mkdir()
    refused(folder, "found more beside them")


def test_a_folder_that_is_not_there_is_refused(tmp_path: Path) -> None:
    refused(tmp_path / "none", "expected SHA256SUMS in .*, found none")


@pytest.mark.parametrize(("text", "message"), [
    ("", "files in SHA256SUMS"), ("abc", "expected lines `<sha256>  <file>`, found"),
    (f"{'0' * 64}  model.onnx\n", "files in SHA256SUMS"),
])
def test_checksums_that_do_not_speak_for_every_file_are_refused(folder: Path, text: str, message: str) -> None:
    (folder / "SHA256SUMS").write_text(text)
    refused(folder, message)


@pytest.mark.parametrize("share", [0.0, 0.1, 0.5, 0.99])
def test_a_truncated_graph_is_refused_even_when_signed(folder: Path, share: float) -> None:
    graph = (folder / "model.onnx").read_bytes()
    refused(with_graph(folder, graph[: int(share * len(graph))]), r"model\.onnx: expected")


def test_a_pickle_in_place_of_the_graph_is_refused(folder: Path) -> None:
    refused(with_graph(folder, pickle.dumps({"weights": 1})), r"model\.onnx: expected")


def test_another_s_graph_is_refused_for_its_inputs(folder: Path) -> None:
    rows = helper.make_tensor_value_info("input", TensorProto.FLOAT, ["B", 4])
    out = helper.make_tensor_value_info("p_up", TensorProto.FLOAT, ["B", 4])
    foreign = helper.make_model(
        helper.make_graph([helper.make_node("Sigmoid", ["input"], ["p_up"])], "foreign", [rows], [out]),
        opset_imports=[helper.make_opsetid("", 17)], ir_version=8,
    )
    refused(with_graph(folder, foreign.SerializeToString()), "inputs: expected .*'sequence'.*, found .*'input'")


def test_a_graph_of_other_shapes_is_refused(folder: Path) -> None:
    def narrower(graph: onnx.GraphProto) -> None:
        graph.input[0].type.tensor_type.shape.dim[1].dim_value = SEQUENCE_LENGTH // 2
        for name in ("at_last",):
            held = next(each for each in graph.initializer if each.name == name)
            held.CopyFrom(helper.make_tensor(name, TensorProto.INT64, [], [SEQUENCE_LENGTH // 2 - 1]))

    refused(with_graph(folder, changed(narrower)), rf"inputs: expected .*\({SEQUENCE_LENGTH}, {len(FORECAST_BAR)}\)")


def test_a_graph_for_one_batch_alone_is_refused(folder: Path) -> None:
    def fixed(graph: onnx.GraphProto) -> None:
        for each in graph.input:
            each.type.tensor_type.shape.dim[0].dim_value = 1

    with pytest.raises(ModelRefused, match="expected answers for a batch of 2"):
        verify(with_graph(folder, changed(fixed)))


def weights_outside(graph: onnx.GraphProto) -> None:
    held = next(each for each in graph.initializer if each.name == "hundred")
    held.CopyFrom(helper.make_tensor("hundred", TensorProto.FLOAT, [1], np.float32([100]).tobytes(), raw=True))
    set_external_data(held, "model.onnx.data")
    held.ClearField("raw_data")


def weights_outside_in_a_subgraph(graph: onnx.GraphProto) -> None:
    outside = helper.make_tensor("far", TensorProto.FLOAT, [1], np.float32([0.5]).tobytes(), raw=True)
    set_external_data(outside, "/etc/hostname")
    outside.ClearField("raw_data")
    branch = helper.make_graph(
        [helper.make_node("Constant", [], ["out"], value=outside)], "branch", [],
        [helper.make_tensor_value_info("out", TensorProto.FLOAT, [1])],
    )
    graph.initializer.append(helper.make_tensor("yes", TensorProto.BOOL, [], [True]))
    graph.node.append(helper.make_node("If", ["yes"], ["unused"], then_branch=branch, else_branch=branch))


@pytest.mark.parametrize("change", [weights_outside, weights_outside_in_a_subgraph])
def test_a_graph_whose_weights_lie_outside_it_is_refused(
    folder: Path, change: Callable[[onnx.GraphProto], None],
) -> None:
    refused(with_graph(folder, changed(change)), "expected all weights inside the graph")


@pytest.mark.parametrize(("changes", "message"), [
    ({"feature_set": "0" * 12}, "of set 000000000000 .* its formulas are not known"),
    ({"feature_set": "0" * 12, "feature_definitions": {**definitions(), "return_1m": "0"}},
     "return_1m: another definition"),
    ({"features": ["gone_1m"], "ood": {**RULE, "features": ["gone_1m"]}}, "gone_1m is gone"),
    ({"sequence_length": 32}, "sequences of 32 rows"),
    ({"features": ["return_1m"], "ood": RULE}, "inputs: expected"),
    ({"outputs": ["p_up"]}, "outputs: expected"),
    ({"outputs": [*MADE_OUTPUTS, "spike_prob_5m"]}, "outputs: expected"),
    ({"outputs": list(reversed(MADE_OUTPUTS))}, "outputs: expected"),
])
def test_a_meta_of_another_model_is_refused(folder: Path, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ModelRefused, match=message):
        verify(with_meta(folder, **changes))


@pytest.mark.parametrize("name", LEARNT)
def test_a_meta_that_lacks_what_evaluation_asks_is_refused_at_the_door(folder: Path, name: str) -> None:
    meta = json.loads((folder / "meta.json").read_text())
    del meta[name]
    (folder / "meta.json").write_text(json.dumps(meta))
    with pytest.raises(ModelRefused, match=rf"meta\.json: expected {name}, found none; train the model again"):
        verify(sign(folder), probe_ms=False)


@pytest.mark.parametrize(("changes", "message"), [
    ({"name": 7}, "name to be text, found 7"), ({"symbol": ""}, "symbol to be text"),
    ({"source": "dream"}, "source to be one of live, .*, found 'dream'"),
    ({"outputs": "p_up"}, "outputs to be a list of names"), ({"dataset": []}, "dataset to be an object"),
    ({"dataset": LEARNT["dataset"] | {"identity": None}}, r"dataset\.identity to be the set's hash, found None"),
    ({"dataset": LEARNT["dataset"] | {"windows": {"train": WINDOWS["train"]}}},
     r"dataset\.windows\.calibration to be two times"),
    ({"dataset": LEARNT["dataset"] | {"windows": WINDOWS | {"train": ["soon", "later"]}}}, r"windows\.train to be two"),
    ({"dataset": LEARNT["dataset"] | {"windows": WINDOWS | {"train": WINDOWS["train"][::-1]}}}, "two times, ascending"),
    ({"dataset": LEARNT["dataset"] | {"counts": {}}}, r"dataset\.counts\.train to be a number of rows, found None"),
    ({"calibration": {}}, r"calibration\.return_intervals to be numbers by horizon"),
    ({"calibration": {"return_intervals": {"15": None}}}, "numbers by horizon"),
    ({"ood": LEARNT["ood"] | {"features": ["return_1m"]}}, r"ood\.features to be the model's features"),
    ({"ood": LEARNT["ood"] | {"scale": [1.0]}}, rf"ood\.scale to be {N} numbers"),
    ({"ood": LEARNT["ood"] | {"scale": [0.0] * N}}, r"ood\.scale to be above 0"),
    ({"ood": LEARNT["ood"] | {"max_distance": None}}, r"ood\.max_distance to be a number, found None"),
])
def test_a_meta_whose_facts_cannot_be_is_refused_with_what_was_expected(
    folder: Path, changes: dict[str, Any], message: str,
) -> None:
    with pytest.raises(ModelRefused, match=f"meta.json: expected .*{message}"):
        verify(with_meta(folder, **changes), probe_ms=False)


def test_a_model_of_an_older_set_passes_both_doors_while_what_it_reads_is_declared_as_it_was(folder: Path) -> None:
    read = {name: x for name, x in definitions().items() if name in FORECAST_BAR}
    assert verify(with_meta(folder, feature_set="older", feature_definitions=read), probe_ms=False)["verified"]
    assert load_artefact(folder).facts.feature_set == "older"
    with_meta(folder, feature_definitions={**read, "return_1m": "0" * 12})
    for door in (load_artefact, verify):
        with pytest.raises(FeaturesDiffer, match="return_1m: another definition"):
            door(folder)
    (folder / "model.onnx").write_bytes(b"another")
    with pytest.raises(ModelRefused, match=r"checksum of model\.onnx"):
        verify(folder)  # damaged, whatever it reads


def test_a_graph_without_an_output_that_serving_needs_is_refused_though_its_meta_agrees(folder: Path) -> None:
    def poorer(graph: onnx.GraphProto) -> None:
        del graph.output[list(OUTPUT_NAMES).index("risk_score")]

    with_graph(folder, changed(poorer))
    left = [name for name in MADE_OUTPUTS if name != "risk_score"]
    refused(with_meta(folder, outputs=left), "found none of risk_score")


@pytest.mark.parametrize(("text", "message"), [
    ("not json", r"meta\.json: expected JSON"), ("[]", r"meta\.json: expected an object"),
    ("{}", r"meta\.json: expected name, version, feature_set, features, outputs"),
])
def test_a_meta_that_says_nothing_is_refused(folder: Path, text: str, message: str) -> None:
    (folder / "meta.json").write_text(text)
    refused(sign(folder), message)


@pytest.mark.parametrize(("name", "value", "message"), [
    ("flat", 1.5, r"p_flat: expected values within \[0, 1\]"), ("spike", -0.1, r"spike_prob: expected values within"),
    ("low", -1.0, "volatility_15m_low: expected values above 0"),
    ("bps", np.nan, "expected_edge_bps: expected 1 finite"),
])
def test_answers_that_cannot_be_are_refused(folder: Path, name: str, value: float, message: str) -> None:
    def wrong(graph: onnx.GraphProto) -> None:
        held = next(each for each in graph.initializer if each.name == name)
        held.CopyFrom(helper.make_tensor(name, TensorProto.FLOAT, [], [value]))

    with pytest.raises(ModelRefused, match=message):
        verify(with_graph(folder, changed(wrong)))


def test_a_folder_that_is_described_anew_keeps_its_graph_and_has_json_that_anyone_reads(folder: Path) -> None:
    graph = (folder / "model.onnx").read_bytes()
    meta = json.loads((folder / "meta.json").read_text())
    describe(folder, {**meta, "slope_error": float("inf"), "list": (1.0, float("nan"))}, "# made\n")
    assert verify(folder, probe_ms=False)["verified"]
    assert (folder / "model.onnx").read_bytes() == graph

    def none(word: str) -> None:
        raise AssertionError(f"{word} is not JSON")

    again = json.loads((folder / "meta.json").read_text(), parse_constant=none)
    assert (again["slope_error"], again["list"]) == (None, [1.0, None])


def test_the_shipped_artefact_is_loaded_and_its_card_is_there() -> None:
    shipped = ROOT / "models" / "bootstrap"
    assert load_artefact(shipped).facts.version in (shipped / "MODEL_CARD.md").read_text()
