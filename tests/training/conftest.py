"""A simulated market of 25 days and what is made of it, once for all tests of training."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

import pytest

from training.calibration import calibrate
from training.dataset import TrainingSet, assemble, kernel_rows
from training.fitting import FitConfig
from training.forecaster import Forecaster
from training.klines import MinuteBars, simulated_klines
from training.models import fit_model

CONFIG = FitConfig(epochs=1, stride=8, batch=256, seed=1, trees=30)
Calibrated = Callable[[str], Forecaster]


@pytest.fixture(scope="session")
def bars() -> MinuteBars:
    return simulated_klines(days=25, seed=3)


@pytest.fixture(scope="session")
def table(bars: MinuteBars) -> TrainingSet:
    return assemble(kernel_rows(bars))


@pytest.fixture(scope="session")
def calibrated(table: TrainingSet) -> Calibrated:
    """Models by name, fitted a little and calibrated, each once."""
    @cache
    def fitted(name: str) -> Forecaster:
        model = fit_model(name, table, CONFIG).model
        calibrate(model, table)
        return model

    return fitted
