"""Bench: megabytes a second that the lake's writer takes, beside a plain Parquet write of the same tables.

    candlewick bench lake --json            # needs no stack

Raw records go in as Kafka's batches do, one file a partition and batch; feature rows as backfill writes them, an hour a
file. Megabytes are those of the Arrow tables that come in (10⁶ bytes); what they take as Parquet is told beside. The
baseline writes each of the same tables by `pyarrow.parquet` with the same compression, to the same disk.
"""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from feature_repo.contracts import HOUR_NS, SECOND_NS
from feature_repo.lake_layout import RAW_SCHEMA, zone_schema
from infra.drill.made_market import MadeMarket
from streaming.lake import LakeWriter

BAR_MB_S = 50.0
SYMBOL = "BTCUSDT"
BEGIN_NS = 1_723_161_600_000_000_000
PER_SECOND = 200
BATCH = 20_000
Found = dict[str, Any]


def run(records: int = 1_000_000, hours: int = 24) -> Found:
    """Measure both zones. Figures are of this run on this machine; `load_before` tells how busy it was."""
    load = os.getloadavg()[0]
    raw, features = raw_batches(records), feature_hours(hours)
    zones = {
        "raw": measured(raw, lambda writer, batch: writer.write_batch(batch)),
        "features": measured(features, lambda writer, rows: writer.add_rows("features", rows, "backfill")),
    }
    return {"zones": zones, "bar_mb_s": BAR_MB_S, "cores": os.cpu_count(), "load_before": round(load, 2),
            "passed": all(zone["mb_s"] >= BAR_MB_S for zone in zones.values())}


def measured(tables: Sequence[pa.Table], write: Callable[[LakeWriter, pa.Table], Any]) -> Found:
    """Every table through the writer, then through a plain write, each into a folder of its own."""
    with tempfile.TemporaryDirectory(prefix="candlewick-bench-") as place:
        lake, bare = Path(place) / "lake", Path(place) / "bare"
        bare.mkdir()
        writer = LakeWriter.open(lake.as_uri())
        ours = timed(tables, lambda _, table: write(writer, table))
        plain = timed(tables, lambda i, table: pq.write_table(table, bare / f"{i}.parquet", compression="zstd"))
        files = [path for path in lake.rglob("*") if path.is_file()]
        stored = sum(path.stat().st_size for path in files)
        rows = sum(pq.read_metadata(path).num_rows for path in files)
    wanted, size = sum(table.num_rows for table in tables), sum(table.nbytes for table in tables) / 1e6
    if rows != wanted:
        raise RuntimeError(f"expected {wanted} rows in the lake, found {rows}")
    return {
        "rows": rows, "mb": round(size, 1), "parquet_mb": round(stored / 1e6, 1), "files": len(files),
        "mb_s": round(size / ours, 1), "parquet_mb_s": round(stored / 1e6 / ours, 1),
        "plain_mb_s": round(size / plain, 1), "of_plain": round(plain / ours, 2),
    }


def timed(tables: Sequence[pa.Table], write: Callable[[int, pa.Table], Any]) -> float:
    """Seconds for all of them."""
    began = time.perf_counter()
    for i, table in enumerate(tables):
        write(i, table)
    return time.perf_counter() - began


def raw_batches(records: int) -> list[pa.Table]:
    """A made market's trades and seals as Kafka records, `BATCH` to a table."""
    market = MadeMarket(SYMBOL, 1, BEGIN_NS)
    made = [record for _ in range(records // (PER_SECOND + 1)) for record in market.second(PER_SECOND)]
    return [_raw(made[first : first + BATCH], first) for first in range(0, len(made), BATCH)]


def _raw(records: Sequence[Any], first: int) -> pa.Table:
    n = len(records)
    at_us = BEGIN_NS // 1000 + (first + np.arange(n)) * (1_000_000 // PER_SECOND)
    return pa.table([
        [record.topic for record in records], pa.array([0] * n, pa.int32()), first + np.arange(n),
        pa.array(at_us, RAW_SCHEMA.field("kafka_timestamp").type), [record.key.decode() for record in records],
        [record.schema.decode() for record in records], [record.value for record in records],
    ], schema=RAW_SCHEMA)


def feature_hours(hours: int) -> list[pa.Table]:
    """A made row a second, an hour to a table."""
    return [_features(BEGIN_NS + hour * HOUR_NS, hour) for hour in range(hours)]


def _features(begin_ns: int, seed: int) -> pa.Table:
    rng, n = np.random.default_rng(seed), HOUR_NS // SECOND_NS
    closes = begin_ns + SECOND_NS * np.arange(n)
    columns = []
    for field in zone_schema("features"):
        if field.name in {"ts_event", "created"} or field.name.endswith("_time"):
            late_ns = 0 if field.name == "ts_event" else SECOND_NS
            columns.append(pa.array(closes + late_ns, pa.int64()).cast(field.type))
        elif pa.types.is_floating(field.type):
            columns.append(pa.array(rng.standard_normal(n), field.type))
        elif pa.types.is_timestamp(field.type):
            columns.append(pa.array(closes // 1000, pa.int64()).cast(field.type))
        elif pa.types.is_string(field.type):
            columns.append(pa.array([{"symbol": SYMBOL, "reasons": "{}"}.get(field.name, "made")] * n))
        elif pa.types.is_integer(field.type):
            columns.append(pa.array(rng.integers(0, 2, n), pa.int64()).cast(field.type))
        elif pa.types.is_boolean(field.type):
            columns.append(pa.array(rng.random(n) < 0.5))
        else:
            raise TypeError(f"expected columns of known kinds, found {field.name} of {field.type}")
    return pa.table(columns, schema=zone_schema("features"))
