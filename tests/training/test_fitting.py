"""What a fit learns before the first step it learns from the train part alone."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch

from training.dataset import TrainingSet
from training.fitting import FitConfig, _prepared


def test_scaler_and_har_do_not_change_with_calibration_and_test(table: TrainingSet) -> None:
    outside = table.parts != 0
    values = table.values_MF.copy()
    values[outside] *= 3.0
    targets = {name: np.where(outside, 7.0 * column, column) for name, column in table.targets.items()}
    one, two = (_prepared(each, FitConfig()) for each in (table, replace(table, values_MF=values, targets=targets)))
    for name in ("har_GK", "center_F", "scale_F"):
        assert torch.equal(getattr(one, name), getattr(two, name)), name
