"""Measures: what the running stream says of its own batches, for a drill's result.

    before = batches(drill)
    …
    spent(before, batches(drill))                # {"hot/compute": {"batches": 41, "mean_s": 0.81}, …}
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import httpx
from prometheus_client.parser import text_string_to_metric_families

from feature_repo.settings import LOOPBACK
from infra.drill.stack import Drill

FAMILY = "candlewick_batch_seconds"


class Spent(NamedTuple):
    """Batches since the start, and the seconds they took."""

    batches: float
    seconds: float


def batches(drill: Drill) -> dict[str, Spent]:
    """`query/part` → what it took so far; empty when the stream does not answer."""
    try:
        url = f"http://{LOOPBACK}:{drill.settings.ports.streaming}/metrics"
        return parse(httpx.get(url, timeout=5, trust_env=False).text)
    except httpx.HTTPError:
        return {}


def parse(text: str) -> dict[str, Spent]:
    """Prometheus' text → `query/part` → what it took.

    >>> head = "# TYPE candlewick_batch_seconds histogram"
    >>> line = 'candlewick_batch_seconds_{}{{query="hot",part="compute"}} {}'
    >>> parse(chr(10).join([head, line.format("count", 4), line.format("sum", 3.0), ""]))
    {'hot/compute': Spent(batches=4, seconds=3.0)}
    """
    samples = [
        sample for family in text_string_to_metric_families(text) if family.name == FAMILY for sample in family.samples
    ]
    counts, sums = (
        {f"{sample.labels['query']}/{sample.labels['part']}": sample.value
         for sample in samples if sample.name == f"{FAMILY}_{what}"}
        for what in ("count", "sum")
    )
    return {name: Spent(count, sums[name]) for name, count in counts.items()}


def spent(before: Mapping[str, Spent], after: Mapping[str, Spent]) -> dict[str, Any]:
    """How many batches there were between two looks, and how long one took on average."""
    none = Spent(0, 0)
    found = {
        name: Spent(now.batches - before.get(name, none).batches, now.seconds - before.get(name, none).seconds)
        for name, now in after.items()
    }
    return {
        name: {"batches": round(each.batches), "mean_s": round(each.seconds / each.batches, 2)}
        for name, each in found.items() if each.batches
    }
