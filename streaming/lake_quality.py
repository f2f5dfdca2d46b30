"""Lake quality: rows on their way into the lake, counted where they miss what is expected of them.

    count("features", rows)          # rows: a table of the zone, about to be written
    since(told())                    # {"features return_1m range": 2}, of this process

Rows of the zone `features` and of the slow views. They are counted where they enter a file: by the owner of an hour's
file, and by whoever adds a file beside it; the owner counts such a file's rows again when it merges them, so that the
stream's counters hold what other processes wrote. Counters of the process that writes; a batch that is written again
is counted again.
"""

from __future__ import annotations

from collections.abc import Mapping

import pyarrow as pa
from prometheus_client import Counter

from feature_repo.features import DECLARED
from feature_repo.quality import misses, misses_slow, out_of_order
from feature_repo.slow_features import SLOW_VIEWS, VIEW_OF

ROWS = "features"
CHECKED = Counter("candlewick_feature_rows_checked", "Feature rows checked on their way into the lake.", ["view"])
MISSED = Counter(
    "candlewick_feature_expectations_missed", "Values beyond their declared bounds, and nulls nothing excuses.",
    ["view", "feature", "rule"],
)
DISORDERED = Counter("candlewick_feature_rows_out_of_order", "Feature rows that break the order of time.")
for _view, _names in ((ROWS, [f.name for f in DECLARED]), *((view.name, view.names) for view in SLOW_VIEWS)):
    CHECKED.labels(_view)
    for _name in _names:
        for _rule in ("range", "null"):
            # Told as 0 before the first: an increase that a series begins with is seen by no rule.
            MISSED.labels(_view, _name, _rule)


def count(zone: str, rows: pa.Table) -> None:
    """Check rows of the zone `features` or of a slow view and count what is missed; no other zone expects anything."""
    if zone not in (ROWS, *VIEW_OF):
        return
    CHECKED.labels(zone).inc(rows.num_rows)
    found = misses(rows) if zone == ROWS else misses_slow(rows, VIEW_OF[zone])
    for (feature, rule), number in found.items():
        MISSED.labels(zone, feature, rule).inc(number)
    if zone == ROWS and (disordered := out_of_order(rows)):
        DISORDERED.inc(disordered)


def told() -> dict[str, int]:
    """View, feature and rule → how many values of this process missed it."""
    samples = (sample for metric in MISSED.collect() for sample in metric.samples if sample.name.endswith("_total"))
    return {" ".join(sample.labels[name] for name in ("view", "feature", "rule")): int(sample.value)
            for sample in samples}


def since(before: Mapping[str, int]) -> dict[str, int]:
    """What was missed since `before` was told, of those that some values missed."""
    return {key: count - before[key] for key, count in told().items() if count > before[key]}
