"""The bench of many symbols names every bar that was missed, and takes silence for no success."""

from __future__ import annotations

from typing import Any

import pytest

from infra.drill.watch import Watch
from tests.bench.load import freshness, over

FRESH = {"p50": 900.0, "p95": 1_500.0, "p99": 1_900.0, "max": 2_000.0}
MET: dict[str, Any] = {
    "close_to_redis_ms": FRESH, "written_behind_s": 0.1, "drained_s": 1.0, "bars_missing": 0, "trades_missing": 0,
    "burst": {"close_to_redis_ms": FRESH, "written_behind_s": 0.2, "lag_back_s": 4.0},
}


def test_nothing_is_over_when_every_bar_is_met() -> None:
    assert over(MET) == over({**MET, "burst": None}) == []


@pytest.mark.parametrize(("changed", "part"), [
    ({"close_to_redis_ms": {**FRESH, "p99": 3_000.1}}, "steady: close to Redis p99 3000.1 ms"),
    ({"close_to_redis_ms": None}, "steady: close to Redis p99 None"),
    ({"written_behind_s": 1.1}, "steady: written up to 1.1 s late"),
    ({"burst": {**MET["burst"], "written_behind_s": 2.0}}, "burst: written up to 2.0 s late"),
    ({"burst": {**MET["burst"], "lag_back_s": 30.1}}, "burst: rows young again after 30.1 s"),
    ({"burst": {**MET["burst"], "lag_back_s": None}}, "burst: rows young again after more than 90 s"),
    ({"drained_s": None}, "end: not every second had its row"),
    ({"trades_missing": 1}, "dropped: 0 bars, 1 trades"),
])
def test_a_bar_that_is_missed_is_named(changed: dict[str, Any], part: str) -> None:
    assert [line.startswith(part) for line in over(MET | changed)] == [True]


def test_a_stretch_without_rows_is_not_fresh() -> None:
    watch = Watch(lambda _symbols: {}, ("A",))
    watch.seen = {"A": {}}
    assert freshness(watch, (0, 10**10)) is None
