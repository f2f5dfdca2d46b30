"""The store's speed: online write and read, Feast's read beside ours, history of 50,000 decisions over 100,000 rows.

    candlewick bench store --json            # needs the stack's Redis; lake and files are made in a temporary folder
    candlewick bench store --offline --json  # only the as-of store beside its baselines (`asof`): needs no stack
"""

from __future__ import annotations

import dataclasses
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from feature_repo.contracts import HOUR_NS, SECOND_NS
from feature_repo.features import FEATURE_NAMES
from feature_repo.lake_layout import CREATED_TIMESTAMP, EVENT_TIMESTAMP, hour_folder, owned_file, to_table
from feature_repo.redis_layout import entity_key, mirror_key
from feature_repo.settings import Settings
from feature_repo.store import FeatureStore
from feature_repo.views import ENTITY, PROJECT, ROW_VIEWS
from tests.bench import asof
from tests.feature_repo.made_rows import LAG_NS, START_NS, made_row, made_write

SYMBOL = "BENCHUSDT"
KEYS = (entity_key(PROJECT, ENTITY, SYMBOL), *(mirror_key(SYMBOL, window) for window in ("1m", "5m", "15m")))
REFS = [f"{view.name}:{name}" for view in ROW_VIEWS for name in view.names]
BARS_MS = {"write": 0.5, "read": 0.3}
"""What p50 must not exceed; see the feature store's part of the architecture."""


def run(
    settings: Settings, calls: int = 2_000, rows: int = 100_000, entities: int = 50_000, offline_only: bool = False,
) -> dict[str, Any]:
    """Every measurement, milliseconds p50 / p95 / p99 and seconds."""
    if offline_only:
        return {"as_of": asof.run(), "over": []}
    with tempfile.TemporaryDirectory() as folder:
        own = dataclasses.replace(settings, run_dir=Path(folder), lake_url="")
        from feature_repo.feast_config import apply

        apply(own)
        store = FeatureStore.open(own)
        store.version(SYMBOL)  # says what is wrong when Redis is not there
        try:
            found = online(store, calls)
        finally:
            store.writer.delete(*KEYS)
        found |= history(store, rows, entities)
    slow = [name for name, bar in BARS_MS.items() if found[f"{name}_ms"][0] > bar]
    return {**found, "as_of": asof.run(), "bars_ms": BARS_MS, "over": slow}


def online(store: FeatureStore, calls: int) -> dict[str, Any]:
    """One symbol's row written and read, one call at a time; the raw round trip beside them."""
    writes = [made_write(second, SYMBOL) for second in range(calls)]
    written = iter(writes)
    return {
        "ping_ms": quantiles(store.client.ping, calls),
        "write_ms": quantiles(lambda: store.write([next(written)]), calls),
        "read_ms": quantiles(lambda: store.read(SYMBOL), calls),
        "version_ms": quantiles(lambda: store.version(SYMBOL), calls),
        "feast_online_ms": quantiles(lambda: store.online([SYMBOL], REFS), calls // 10),
    }


def history(store: FeatureStore, rows: int, entities: int) -> dict[str, Any]:
    """Decision times spread over a made lake, every row view, through Feast."""
    write_history(store.settings, rows)
    times = np.sort(np.random.default_rng(0).integers(START_NS, START_NS + rows * SECOND_NS, entities))
    asked = pd.DataFrame({"symbol": SYMBOL, "event_timestamp": pd.to_datetime(times, utc=True)})
    started = time.perf_counter()
    found = store.history(asked, REFS)
    return {
        "history_s": round(time.perf_counter() - started, 2), "history_rows": rows, "history_entities": len(found),
        "history_columns": len(REFS), "history_matched": int(found["created"].notna().sum()),
    }


def write_history(settings: Settings, rows: int) -> None:
    """`rows` seconds of made feature rows, one file an hour."""
    one = to_table("features", [made_row(0, SYMBOL)])
    random = np.random.default_rng(0)
    for first in range(0, rows, 3_600):
        close = START_NS // HOUR_NS * HOUR_NS + HOUR_NS + (first + np.arange(min(3_600, rows - first))) * SECOND_NS
        table = one.take(pa.array(np.zeros(len(close), dtype=np.int64)))
        columns = {
            "ts_event": close, "ts_init": close + LAG_NS, "created": close + LAG_NS,
            EVENT_TIMESTAMP: close // 1000, CREATED_TIMESTAMP: -(-(close + LAG_NS) // 1000),
            **{name: random.normal(size=len(close)) for name in FEATURE_NAMES},
        }
        for name, values in columns.items():
            at = table.schema.get_field_index(name)
            table = table.set_column(at, table.schema.field(at), pa.array(values).cast(table.schema.field(at).type))
        folder = settings.run_dir / "lake" / hour_folder("features", SYMBOL, int(close[0]))
        folder.mkdir(parents=True)
        pq.write_table(table, folder / owned_file("features"))


def quantiles(call: Callable[[], Any], calls: int) -> list[float]:
    """p50, p95, p99 of the calls, milliseconds."""
    took = np.empty(calls)
    for i in range(calls):
        started = time.perf_counter()
        call()
        took[i] = time.perf_counter() - started
    return [round(float(x) * 1000, 3) for x in np.quantile(took, [0.5, 0.95, 0.99])]
