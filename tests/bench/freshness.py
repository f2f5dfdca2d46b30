"""Bench: how long after a second's close its feature row can be read from Redis, on the running stack.

    candlewick bench freshness --json --seconds 120                 # every followed symbol, at the same time

Watches the version of the online row and notes the moment at which each new second appears. The baseline is the
seal, before which nobody can know that the second is complete; the rest is the pipeline's own share. Wall clock
against the venue's: meaningful at 1× and with a wall clock that is right.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from feature_repo.contracts import NANOS, SECOND_NS
from feature_repo.settings import load_settings
from feature_repo.store import FeatureStore

P50_BAR_MS, P99_BAR_MS = 800.0, 2_000.0
LOOK_EVERY_S = 0.005
Version = tuple[int, int]


@dataclass(frozen=True)
class Seen:
    """One row as it appeared: its close, its seal's time and when it could be read, ns."""

    close: int
    sealed: int
    visible: int


def watch(version: Callable[[], Version | None], seconds: float, now: Callable[[], int] = time.time_ns) -> list[Seen]:
    """The rows that appear within some seconds; the one that is there already is not counted."""
    seen: list[Seen] = []
    last, deadline = version(), now() + int(seconds * NANOS)
    while (at := now()) < deadline:
        current = version()
        if current is not None and current != last:
            seen.append(Seen(*current, visible=now()))
            last = current
        time.sleep(max(0.0, LOOK_EVERY_S - (now() - at) / NANOS))
    return seen


def report(seen: Sequence[Seen]) -> dict[str, Any]:
    """Quantiles in milliseconds, and how many seconds were passed over because a newer one came first."""
    if len(seen) < 2:
        return {"rows": len(seen), "ok": False, "reason": "expected a new row a second, found none; is the stack up?"}
    closes = (seen[-1].close - seen[0].close) // SECOND_NS + 1
    close_to_redis = _quantiles([row.visible - row.close for row in seen])
    return {
        "rows": len(seen), "seconds_passed_over": closes - len(seen), "close_to_redis_ms": close_to_redis,
        "baseline_close_to_seal_ms": _quantiles([row.sealed - row.close for row in seen]),
        "pipeline_seal_to_redis_ms": _quantiles([row.visible - row.sealed for row in seen]),
        "bar_ms": {"p50": P50_BAR_MS, "p99": P99_BAR_MS},
        "ok": close_to_redis["p50"] <= P50_BAR_MS and close_to_redis["p99"] <= P99_BAR_MS,
    }


def _quantiles(spans_ns: Sequence[int]) -> dict[str, float]:
    cuts = statistics.quantiles([span / 1e6 for span in spans_ns], n=100, method="inclusive")
    found = {"p50": cuts[49], "p95": cuts[94], "p99": cuts[98], "max": max(spans_ns) / 1e6}
    return {name: round(value, 1) for name, value in found.items()}


def run(symbols: Sequence[str], seconds: float) -> dict[str, Any]:
    """Watch symbols of the running stack, each in a thread of its own. `ok`: every one of them is."""
    store = FeatureStore.open(load_settings())
    with ThreadPoolExecutor(len(symbols)) as pool:
        seen = pool.map(lambda symbol: watch(lambda: store.version(symbol), seconds), symbols)
        found = {symbol: report(rows) for symbol, rows in zip(symbols, seen, strict=True)}
    return {"seconds": seconds, "symbols": found, "ok": all(each["ok"] for each in found.values())}
