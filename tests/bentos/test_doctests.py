"""The examples in serving's docstrings are true."""

from __future__ import annotations

import doctest
from importlib import import_module

import pytest

PURE = ("distribution", "fallback", "live_socket", "predictor", "readiness", "sequence", "venue_clock")


@pytest.mark.parametrize("name", PURE)
def test_the_examples_are_true(name: str) -> None:
    failed, attempted = doctest.testmod(import_module(f"bentos.{name}"))
    assert attempted > 0
    assert failed == 0
