"""Every model behind one interface: fitted under a seed, calibrated, exported, equal in torch and ONNX."""

from __future__ import annotations

import copy
from collections import Counter
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch

from tests.training.conftest import CONFIG, Calibrated
from training.abreast import abreast
from training.dataset import TrainingSet
from training.export import forecast, onnx_bytes, session
from training.fitting import raw_outputs
from training.forecaster import OF_DIRECTION, OUTPUTS, bar_columns
from training.metrics import qlike
from training.model import Sizes
from training.models import MODELS, STACKED, fit_model
from training.stack import HEADS, Stack, fit_stack, mixable
from training.tabular import HarForecaster, tabular
from training.trees import TreeBank

pytestmark = pytest.mark.timeout(600)
MAY_BE_UNKNOWN = {"risk_score"}


def nulled(table: TrainingSet, n: int) -> tuple[np.ndarray, np.ndarray]:
    """The last n test rows, one with a masked beginning, nulls sprinkled over every third minute."""
    at = table.part("test")[-n:]
    sequence = table.sequences(at).copy()
    sequence[0, :40] = np.nan
    sequence[1::2, :, 2::5][:, ::3] = np.nan
    return sequence, table.context[at, None]


@pytest.mark.slow
@pytest.mark.parametrize("name", MODELS)
def test_onnx_equals_torch_for_any_batch_with_nulls(
    calibrated: Calibrated, table: TrainingSet, tmp_path: Path, name: str,
) -> None:
    model = calibrated(name)
    (tmp_path / "model.onnx").write_bytes(onnx_bytes(model))
    running = session(tmp_path)
    for batch in (1, 3, 64):
        sequence, context = nulled(table, batch)
        with torch.no_grad():
            expected = model(torch.from_numpy(sequence), torch.from_numpy(context))
        found = forecast(running, sequence, context)
        assert tuple(found) == OUTPUTS
        for output, values in zip(OUTPUTS, expected, strict=True):
            assert found[output].shape == (batch,)
            assert np.allclose(found[output], values.numpy(), rtol=1e-5, atol=1e-5), (batch, output)
            assert np.isfinite(found[output]).all(), (batch, output)


@pytest.mark.parametrize("name", MODELS)
def test_forecasts_are_unbiased_where_they_were_calibrated(calibrated, table: TrainingSet, name: str) -> None:  # type: ignore[no-untyped-def]
    model, at = calibrated(name), table.part("calibration", 3)
    with torch.no_grad():
        outputs = model(torch.from_numpy(table.sequences(at)), torch.from_numpy(table.context[at, None]))
    found = {output: values.numpy() for output, values in zip(OUTPUTS, outputs, strict=True)}
    for h in (5, 15, 60):
        assert np.mean((table.targets[f"rv_{h}"][at] / found[f"volatility_{h}m"]) ** 2) == pytest.approx(1, abs=0.02)
    for output, target in {"spike_prob_5m": "spike_5", "spike_prob": "spike", "spike_prob_60m": "spike_60"}.items():
        outcome = table.targets[target][at]
        known = np.isfinite(outcome)
        assert found[output][known].mean() == pytest.approx(outcome[known].mean(), abs=0.02)


@pytest.mark.parametrize(
    "name", ["gradient_boosting", "recent_direction", "random_forest", "isolation_forest", "logistic"],
)
def test_two_fits_with_one_seed_are_equal(table: TrainingSet, name: str) -> None:
    at = table.part("test", 20)
    first, second = (raw_outputs(fit_model(name, table, CONFIG).model, table, at) for _ in range(2))
    for one, two in zip(first.logits_BC.unbind(1), second.logits_BC.unbind(1), strict=True):
        assert torch.equal(one, two)
    assert torch.equal(first.ln_f_BK, second.ln_f_BK)


def test_the_tree_node_answers_what_scikit_learn_does_on_the_thresholds_too(table: TrainingSet, calibrated) -> None:  # type: ignore[no-untyped-def]
    from sklearn.ensemble import HistGradientBoostingRegressor, IsolationForest, RandomForestRegressor

    x = tabular(calibrated("har"), table, table.part("train", 8))
    y = np.nan_to_num(x[:, :2].astype(np.float64)) + 1e-3 * np.arange(len(x))[:, None] / len(x)
    boosting = HistGradientBoostingRegressor(max_iter=20, random_state=0).fit(x, y[:, 0])
    forest = RandomForestRegressor(20, max_depth=8, random_state=0).fit(x, y)
    isolation = IsolationForest(n_estimators=30, random_state=0).fit(x)
    assert np.allclose(TreeBank.of_boosting([boosting]).answer(x)[:, 0], boosting.predict(x), atol=1e-5)
    assert np.allclose(TreeBank.of_forests([(forest, (0, 1))]).answer(x), forest.predict(x), atol=1e-5)
    other = HistGradientBoostingRegressor(max_iter=20, random_state=0).fit(x, y[:, 1])
    both = TreeBank.joined([TreeBank.of_boosting([boosting]), TreeBank.of_boosting([other, boosting])])
    expected = np.column_stack([each.predict(x) for each in (boosting, other, boosting)])
    for wanted in ([True, True, True], [False, True, False], [True, False, True], [False, False, True]):
        assert np.allclose(both.only(wanted).answer(x)[:, wanted], expected[:, wanted], atol=1e-5)
    # scikit-learn's score is −2^(−length / c) with the c of its sample size: monotone in the mean length.
    length = TreeBank.of_isolation(isolation).answer(x)[:, 0]
    c = 2 * (np.log(255) + np.euler_gamma) - 2 * 255 / 256
    assert np.allclose(-(2.0 ** (-length / c)), isolation.score_samples(x), atol=1e-5)


def test_boosting_learns_what_har_cannot(table: TrainingSet, calibrated) -> None:  # type: ignore[no-untyped-def]
    at = table.part("test")
    y = table.targets["rv_60"][at]
    boosted, har = (np.exp(raw_outputs(calibrated(n), table, at).ln_f_BK.double().numpy()) for n in
                    ("gradient_boosting", "har"))
    losses = [qlike(y, f[:, 2] * np.sqrt(np.mean((y / f[:, 2]) ** 2))) for f in (boosted, har)]
    assert losses[0] < losses[1], "the simulated market has a daily cycle"


def test_a_model_that_is_not_there_is_refused(table: TrainingSet) -> None:
    with pytest.raises(ValueError, match=r"expected a model of stack, transformer, lstm, .*, found oracle"):
        fit_model("oracle", table, CONFIG)


def test_a_stack_lies_between_its_members_and_shows_what_each_weighs(calibrated, table: TrainingSet) -> None:  # type: ignore[no-untyped-def]
    stack = calibrated("stack")
    for head, shares in stack.shares().items():
        assert set(shares) == set(STACKED)
        assert sum(shares.values()) == pytest.approx(1, abs=1e-5), head
        assert min(shares.values()) >= 0, head
    at = table.part("test", 7)
    mixed = raw_outputs(stack, table, at).ln_f_BK
    members = torch.stack([raw_outputs(m, table, at).ln_f_BK + m.ln_scale_K for m in stack.members.values()])
    assert (mixed <= members.amax(dim=0) + 1e-5).all()
    assert (mixed >= members.amin(dim=0) - 1e-5).all()


def test_a_stack_says_the_weighted_sum_of_its_members_answers(calibrated, table: TrainingSet) -> None:  # type: ignore[no-untyped-def]
    stack, at = calibrated("stack"), table.part("test", 7)
    answers = torch.stack([mixable(m, raw_outputs(m, table, at)) for m in stack.members.values()])
    said = raw_outputs(stack, table, at)
    expected = (answers * stack.weights_MO.unsqueeze(1)).sum(dim=0)
    assert torch.allclose(torch.cat([said.ln_f_BK, said.logits_BC], dim=1), expected, atol=1e-5)
    bands = torch.stack([raw_outputs(m, table, at).ln_band_B2 for m in stack.members.values()])
    band_weights = stack.weights_MO[:, HEADS.index("volatility_15")]
    assert torch.allclose(said.ln_band_B2, (bands * band_weights[:, None, None]).sum(dim=0), atol=1e-5)


def test_a_member_may_be_asked_for_a_part_of_a_family(calibrated, table: TrainingSet) -> None:  # type: ignore[no-untyped-def]
    boosted, har = calibrated("gradient_boosting"), calibrated("har")
    stack, at = Stack({"boosted": boosted, "har": har}, {"har": ["volatility_5"]}), table.part("test", 7)
    said, own, plain = (raw_outputs(m, table, at).ln_f_BK + m.ln_scale_K for m in (stack, boosted, har))
    assert torch.allclose(said[:, 0], (own[:, 0] + plain[:, 0]) / 2, atol=1e-5)
    assert torch.allclose(said[:, 1:], own[:, 1:], atol=1e-5)


def test_trees_of_heads_that_nobody_asks_for_are_no_part_of_a_stack(calibrated, table: TrainingSet) -> None:  # type: ignore[no-untyped-def]
    boosted, har = calibrated("gradient_boosting"), calibrated("har")
    stack = Stack({"boosted": boosted, "har": har}, {"boosted": [head for head in HEADS if head != "risk"]})
    risk, at = HEADS.index("risk"), table.part("test", 7)
    assert risk in {output for tree in boosted.bank.trees for output in tree.outputs}
    kept = [tree for tree in boosted.bank.trees if tree.outputs != (risk,)]
    assert all(a.value is b.value for a, b in zip(stack.bank.trees, kept, strict=True))
    said, plain = (mixable(m, raw_outputs(m, table, at))[:, risk] for m in (stack, har))
    assert torch.allclose(said, plain, atol=1e-5)


@pytest.mark.slow
def test_a_stacks_graph_says_nothing_twice_and_nothing_that_nobody_asks_for(calibrated: Calibrated) -> None:
    graph = onnx.load_from_string(onnx_bytes(calibrated("stack"))).graph
    said = Counter((node.op_type, *node.input, *(a.SerializeToString() for a in node.attribute)) for node in graph.node)
    assert [what for what, times in said.items() if times > 1] == []
    assert sum(node.op_type == "Attention" for node in graph.node) == Sizes().layers, "two Transformers abreast"


@pytest.mark.slow
def test_a_head_that_nobody_asks_a_lone_network_for_is_no_part_of_a_stack(calibrated: Calibrated) -> None:
    members = {"network": calibrated("transformer"), "har": calibrated("har")}
    stack = Stack(members, {"network": [head for head in HEADS if head not in OF_DIRECTION]})
    weights = {tensor.name for tensor in onnx.load_from_string(onnx_bytes(stack)).graph.initializer}
    assert any("volatility_head" in name for name in weights)
    assert not any("direction_head" in name for name in weights)


CHANCES_ASKED = [head for head in HEADS if head not in OF_DIRECTION]


@pytest.mark.parametrize("asked", [CHANCES_ASKED, ["volatility_5", "risk"]])
@pytest.mark.parametrize("useless", [False, True])
def test_transformers_abreast_say_what_they_say_apart(
    calibrated: Calibrated, table: TrainingSet, asked: list[str], useless: bool,
) -> None:
    members = {"one": calibrated("transformer"), "two": calibrated("stack").members["transformer_2"],
               "har": calibrated("har")}
    stack = Stack(members, {"one": asked, "two": asked})
    unequal = stack.weights_MO * torch.tensor([[1.0], [3.0], [2.0]])
    unequal[:2, 0] *= not useless
    stack.weights_MO.copy_(unequal / unequal.sum(dim=0))
    together = abreast(stack)
    assert list(together.members) == ["har", "one+two"]
    sequence, context = (torch.from_numpy(x) for x in nulled(table, 9))
    sequence[2, -1], context[3] = torch.nan, torch.nan
    with torch.no_grad():
        for said, same in zip(stack(sequence, context), together(sequence, context), strict=True):
            assert torch.allclose(said, same, rtol=1e-5, atol=1e-6, equal_nan=True)


def test_transformers_that_differ_in_task_or_rows_stay_apart(calibrated: Calibrated) -> None:
    members = {"one": calibrated("transformer"), "two": calibrated("stack").members["transformer_2"],
               "har": calibrated("har")}
    for asked in ({"one": CHANCES_ASKED, "two": ["volatility_5", "risk"]}, {"two": CHANCES_ASKED}, {}):
        stack = Stack(members, asked)
        assert abreast(stack) is stack
    other = copy.deepcopy(members["two"])
    other.har_GK += 1e-3
    stack = Stack({**members, "two": other}, {"one": CHANCES_ASKED, "two": CHANCES_ASKED})
    assert abreast(stack) is stack
    third = Stack({"other": other, **members}, dict.fromkeys(("other", "one", "two"), CHANCES_ASKED))
    assert list(abreast(third).members) == ["other", "har", "one+two"]


def test_a_useless_member_gets_next_to_no_weight(calibrated, table: TrainingSet) -> None:  # type: ignore[no-untyped-def]
    noise = HarForecaster(bar_columns())  # coefficients of 0: e^0 whatever the market
    stack = fit_stack({"har": calibrated("har"), "noise": noise}, table)
    assert all(shares["noise"] < 0.05 for head, shares in stack.shares().items() if head.startswith("volatility"))
