"""The bench of a training measures what it says: stages of the real functions, graphs that answer, bars that fail."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from feature_repo.settings import Settings
from tests.bench import train as bench
from training.fitting import FitConfig


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_every_stage_and_every_graph_is_measured_beside_its_baseline(tmp_path: Path) -> None:
    config = FitConfig(epochs=1, stride=20, batch=256, trees=20)
    found = bench.run(Settings(data_dir=tmp_path / "none"), 22_000, "gradient_boosting", config=config)
    assert (found["rows"], found["source"]) == (22_000, "simulated")
    assert list(found["stages"]) == ["read", "features", "sets", "fit", "calibrate", "export"]
    assert list(found["latency_ms"]) == ["gradient_boosting", "identity"]
    assert found["latency_ms"]["identity"]["p50"] < found["latency_ms"]["gradient_boosting"]["p50"]
    assert all(each["peak_bytes"] > 50e6 for each in found["stages"].values()), "an interpreter with torch is larger"
    assert found["seconds"] == pytest.approx(sum(s["seconds"] for s in found["stages"].values()), abs=0.1)
    assert "scikit-learn boosts one output" in found["baselines"]
    assert len(bench.text(found).splitlines()) == 1 + 6 + 2 + 2


@pytest.mark.skipif(not os.access(bench.FORGET, os.W_OK), reason="this kernel does not forget a peak")
def test_the_peak_of_a_stage_is_its_own() -> None:
    stages = bench.Stages()
    with stages("much"):
        held = np.ones(30_000_000)
    much = held.nbytes
    del held
    with stages("little"):
        pass
    found = stages.found
    assert found["much"]["peak_bytes"] - found["little"]["peak_bytes"] > 0.8 * much


@pytest.mark.parametrize(("change", "passed"), [
    ({}, True), ({"seconds": bench.BAR_S + 1}, False), ({"peak_bytes": bench.BAR_BYTES + 1}, False),
])
def test_a_bar_that_is_missed_fails(change: dict[str, float], passed: bool) -> None:
    stage = {"seconds": 10.0, "cpu_s": 9.0, "peak_bytes": 1_000_000} | change
    latency = {"stack": {"p50": 0.2, "p99": 0.9}, "identity": {"p50": 0.01, "p99": 0.02}}
    found = {"rows": 1_000, "stages": {"fit": stage}, "latency_ms": latency}
    assert bench.verdict(found)["passed"] is passed
    slow = {**found, "latency_ms": {**latency, "stack": {"p50": 0.31, "p99": 0.9}}}
    assert bench.verdict(slow)["passed"] is False
