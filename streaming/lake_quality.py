"""Lake quality: feature rows on their way into the lake, counted where they miss what is expected of them.

    count(rows)          # rows: a table of the features zone, about to be written

Counters of the process that writes; a batch that is written again is counted again.
"""

from __future__ import annotations

import pyarrow as pa
from prometheus_client import Counter

from feature_repo.quality import misses, out_of_order

CHECKED = Counter("candlewick_feature_rows_checked", "Feature rows checked on their way into the lake.")
MISSED = Counter(
    "candlewick_feature_expectations_missed", "Values beyond their declared bounds, and nulls nothing excuses.",
    ["feature", "rule"],
)
DISORDERED = Counter("candlewick_feature_rows_out_of_order", "Feature rows that break the order of time.")


def count(rows: pa.Table) -> None:
    """Check rows of the features zone and count what is missed."""
    CHECKED.inc(rows.num_rows)
    for (feature, rule), number in misses(rows).items():
        MISSED.labels(feature, rule).inc(number)
    if disordered := out_of_order(rows):
        DISORDERED.inc(disordered)
