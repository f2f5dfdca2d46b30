"""Walk-forward: blocks of days that have bars, nothing learnt from a block or after it, resumable to the byte."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from feature_repo.contracts import DAY_NS, MINUTE_NS
from feature_repo.progress import silent
from tests.training.made_files import bar_file
from training.bar_files import BarForm
from training.klines import MinuteBars
from training.walkforward import Plan, blocks_of, run, windows_before


def minutes_of(days: list[int]) -> np.ndarray:
    return np.concatenate([day * DAY_NS + MINUTE_NS * np.arange(1, 1441) for day in days])


def test_blocks_are_the_last_days_that_have_bars_whatever_lies_between_them() -> None:
    close_ns = minutes_of([100, 101, 102, 103, 110, 111, 120, 121])
    assert blocks_of(close_ns, 2, 2) == [(110 * DAY_NS, 112 * DAY_NS), (120 * DAY_NS, 122 * DAY_NS)]
    with pytest.raises(ValueError, match="at least 12 days for 3 blocks of 2, found 8; ask for fewer"):
        blocks_of(close_ns, 3, 2)


def test_a_block_is_forecast_from_what_came_a_day_and_a_label_before_it() -> None:
    close_ns = minutes_of(list(range(100, 140)))
    block = blocks_of(close_ns, 2, 5)[1]
    windows = windows_before(close_ns, block)
    assert windows.train is not None
    assert windows.calibration is not None
    assert windows.train[1] + 60 * MINUTE_NS + DAY_NS <= windows.calibration[0]
    assert windows.calibration[1] + 60 * MINUTE_NS <= block[0]
    assert windows.test == (block[0] + DAY_NS, block[1])


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_stopped_run_goes_on_with_what_is_missing_and_says_the_same(tmp_path: Path, bars: MinuteBars) -> None:
    plan = Plan([bar_file(tmp_path, bars)], BarForm(source="simulated"), ("har", "logistic"), (0,), 2, 3, quick=True)
    whole = run(plan, tmp_path / "out", silent)
    place = Path(whole["folder"])
    held = sorted(place.iterdir())
    assert [path.name for path in held if path.suffix == ".json"] == [
        f"block{b}-{name}-0.json" for b in (0, 1) for name in ("har", "logistic")
    ]
    kept, lost = place / "block0-har-0.json", place / "block1-logistic-0.json"
    before, written = json.loads(lost.read_text()), kept.stat().st_mtime_ns
    lost.unlink()
    said: list[str] = []
    assert run(plan, tmp_path / "out", said.append) == whole
    assert len(said) == 1
    assert "logistic" in said[0]
    assert kept.stat().st_mtime_ns == written
    after = json.loads(lost.read_text())
    assert {k: v for k, v in after.items() if k != "seconds"} == {k: v for k, v in before.items() if k != "seconds"}
    ratio = whole["ratios"]["logistic/har"]["60"]
    assert ratio["low"] <= ratio["value"] <= ratio["high"]
    assert ratio["better_in"] == sum(block["value"] < 1 for block in ratio["by_block"])
