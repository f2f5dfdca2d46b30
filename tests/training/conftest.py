"""A simulated market of 25 days and what is made of it, once for all tests of training."""

from __future__ import annotations

import pytest

from training.dataset import TrainingSet, assemble, kernel_rows
from training.klines import MinuteBars, simulated_klines


@pytest.fixture(scope="session")
def bars() -> MinuteBars:
    return simulated_klines(days=25, seed=3)


@pytest.fixture(scope="session")
def table(bars: MinuteBars) -> TrainingSet:
    return assemble(kernel_rows(bars))
