"""The freshness bench tells the pipeline's share from the seal's."""

from __future__ import annotations

from tests.bench.freshness import Seen, report

MS = 1_000_000


def test_shares_add_up_and_passed_over_seconds_are_counted() -> None:
    closes = [0, 1, 2, 4]
    seen = [Seen(c * 1000 * MS, c * 1000 * MS + 250 * MS, c * 1000 * MS + 600 * MS) for c in closes]
    found = report(seen)
    assert found["close_to_redis_ms"] == {"p50": 600.0, "p95": 600.0, "p99": 600.0, "max": 600.0}
    assert found["baseline_close_to_seal_ms"]["p50"] == 250.0
    assert found["pipeline_seal_to_redis_ms"]["p50"] == 350.0
    assert (found["rows"], found["seconds_passed_over"], found["ok"]) == (4, 1, True)


def test_a_stack_that_is_down_fails_the_bench() -> None:
    assert report([])["ok"] is False
