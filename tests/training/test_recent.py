"""Direction by recency: what it learns from, what it is calibrated on, and whom a stack asks for it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from feature_repo.grid import Ints
from tests.training.conftest import CONFIG, Calibrated
from training.calibration import calibrate
from training.dataset import TrainingSet
from training.fitting import raw_outputs
from training.forecaster import CHANCES, HEADS, OF_DIRECTION
from training.metrics import auc
from training.models import OF_VOLATILITY, STACKED, fit_model
from training.tabular import Budget, fit_recent

pytestmark = pytest.mark.timeout(600)


def flipped(table: TrainingSet, at: Ints) -> TrainingSet:
    """The same rows, where up was down at these positions."""
    up = table.targets["up"].copy()
    up[at] = 1.0 - up[at]
    return replace(table, targets=table.targets | {"up": up})


def ln_odds_up(table: TrainingSet, **budget: float) -> np.ndarray:
    model = fit_recent(table, Budget(seed=1, stride=8, trees=30, **budget))  # type: ignore[arg-type]
    return np.asarray(raw_outputs(model, table, table.part("test", 5)).logits_BC[:, 0])


def test_it_learns_from_the_days_that_stop_others_and_not_from_those_that_calibrate_it(table: TrainingSet) -> None:
    first = ln_odds_up(table)
    assert np.array_equal(ln_odds_up(flipped(table, np.concatenate([table.weighing(), table.part("test")]))), first)
    assert not np.array_equal(ln_odds_up(flipped(table, table.stopping())), first)


def test_a_regime_that_has_ended_is_forgotten_at_its_half_life(table: TrainingSet) -> None:
    """Up follows the last minute's fall in the older three quarters of what is learnt, and its rise in the newest."""
    last = np.nan_to_num(table.values_MF[:, 0])
    at = table.part("train")
    up = np.where(last > 0, 1.0, 0.0)
    up[at[: 3 * len(at) // 4]] = 1.0 - up[at[: 3 * len(at) // 4]]
    changing = replace(table, targets=table.targets | {"up": up})
    judged = table.part("test", 5)
    assert auc(up[judged], ln_odds_up(changing, half_life_days=1.0)) > 0.9
    assert auc(up[judged], ln_odds_up(changing, half_life_days=1000.0)) < 0.5


def test_a_market_that_only_rises_teaches_a_constant(table: TrainingSet) -> None:
    known = np.isfinite(table.targets["flat"])
    risen = {"up": np.where(known, 1.0, np.nan), "flat": np.where(known, 0.0, np.nan)}
    odds = ln_odds_up(replace(table, targets=table.targets | risen))
    assert np.unique(odds).size == 1
    assert odds[0] > 5


def test_direction_is_calibrated_on_days_that_taught_no_member(table: TrainingSet) -> None:
    model = fit_model("gradient_boosting", table, CONFIG).model
    late = flipped(table, np.setdiff1d(table.stopping(), table.weighing()))
    assert calibrate(model, late).platt["up"] != calibrate(model, table).platt["up"], "it has learnt from none of them"
    model.learns_late = True
    plain = calibrate(model, table)
    assert calibrate(model, late) == plain
    assert calibrate(model, flipped(table, table.weighing())).platt["up"] != plain.platt["up"]
    assert plain.direction_rows == len(table.weighing())
    assert fit_model("recent_direction", table, CONFIG).model.learns_late
    assert fit_model("stack", table, CONFIG).model.learns_late


def test_a_stack_asks_trees_for_direction_and_networks_for_the_rest(calibrated: Calibrated, table: TrainingSet) -> None:
    stack = calibrated("stack")
    assert set(OF_VOLATILITY) | set(OF_DIRECTION) == set(HEADS)
    for head, shares in stack.shares().items():
        asked = {name for name, member in STACKED.items() if head in member.heads}
        assert {name for name, weight in shares.items() if weight > 0} == asked, head
    assert stack.shares()["flat"]["recent_direction"] == 1.0
    at = table.part("test", 7)
    boosted, recent = (raw_outputs(stack.members[name], table, at).logits_BC[:, 0] * stack.members[name].platt_62[0, 0]
                       + stack.members[name].platt_62[0, 1] for name in ("gradient_boosting", "recent_direction"))
    mixed = raw_outputs(stack, table, at).logits_BC[:, CHANCES.index("up")]
    between = (mixed <= torch.maximum(boosted, recent) + 1e-5) & (mixed >= torch.minimum(boosted, recent) - 1e-5)
    assert bool(between.all())
