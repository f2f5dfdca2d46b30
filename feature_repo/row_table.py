"""Row table: the feature rows of many bars as the lake's columns, without a message for each.

    row_table(bars, history)           # the same as to_table("features", feature_rows(bars, history))

A day of seconds is 86,400 rows: as messages they cost ten times what their values cost to compute.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache

import numpy as np
import pyarrow as pa

from feature_repo.contracts import Bar
from feature_repo.features import FEATURE_NAMES, FEATURE_SET
from feature_repo.history import BarHistory
from feature_repo.lake_layout import CREATED_TIMESTAMP, EVENT_TIMESTAMP, zone_schema
from feature_repo.views import as_text

AS_IN_BARS = ("symbol", "ts_init", "source", "session", "provenance")


def row_table(bars: Sequence[Bar], history: BarHistory) -> pa.Table:
    """The rows at the closes of bars, ascending, all pushed, under the columns of the zone `features`.

    A second bar's row reads the 16 minutes before it: bars pushed since must not have taken their place (`ROWS_NS`).
    """
    closes = np.array([bar.close_time for bar in bars], dtype=np.int64)
    blocks = [(table, list(map(_text, reasons))) for _, table, reasons in history.blocks(closes)] if bars else []
    values = np.concatenate([table for table, _ in blocks]) if blocks else np.empty((0, len(FEATURE_NAMES)))
    created = np.array([bar.created for bar in bars], dtype=np.int64)
    columns = {
        "ts_event": closes, "created": created, "feature_set": [FEATURE_SET] * len(bars),
        "price": [bar.close for bar in bars], "reasons": [text for _, texts in blocks for text in texts],
        EVENT_TIMESTAMP: closes // 1000, CREATED_TIMESTAMP: -(-created // 1000),
        **{name: [getattr(bar, name) for bar in bars] for name in AS_IN_BARS},
        **{name: pa.array(values[:, i], from_pandas=True) for i, name in enumerate(FEATURE_NAMES)},
    }
    return pa.Table.from_arrays([_column(columns[field.name], field) for field in zone_schema("features")],
                                schema=zone_schema("features"))


def _column(values: object, field: pa.Field) -> pa.Array:
    made = values if isinstance(values, pa.Array) else pa.array(values)
    return made.cast(field.type)


def _text(reasons: dict[str, str]) -> str:
    return _text_of(tuple(reasons.items()))


@cache
def _text_of(items: tuple[tuple[str, str], ...]) -> str:
    return as_text(dict(items))
