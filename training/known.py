"""Known rows: history written to the lake once, and read back through Feast as it was known at each decision.

    history = replace(settings, lake_url=history_lake(settings))
    write_history(bars, history)
    rows = known_rows(bars, history)          # FeatureStore.history → Feast get_historical_features

The klines' history has a lake of its own (`<run_dir>/history/lake`), so that real rows of past years and rows of a
replayed recording never lie in one hour's folder; what an older kernel or older bars left in it is removed. Rows whose
source is not the bars' are refused.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import structlog
from pyarrow import fs

from feature_repo.context import CONTEXT_FEATURE, CONTEXT_LAG_NS, hourly_percentiles
from feature_repo.contracts import HOUR_NS
from feature_repo.features import FEATURE_NAMES, FEATURE_SET, FORECAST_BAR
from feature_repo.grid import Floats, Ints
from feature_repo.lake_layout import Zone, filesystem, hour_folder, rev_file, zone_schema
from feature_repo.settings import Settings
from feature_repo.store import FeatureStore
from feature_repo.views import services
from training.dataset import KnownRows
from training.klines import MinuteBars, feature_rows

LOG = structlog.get_logger()
SERVICE = "forecast_bar_v1"
SESSION = "history"
REASONS = "{}"
"""Backfilled rows do not spell reasons: there are two million nulls of one kind (`requires …`)."""
CHUNK = 100_000
ZONES = ("features", "context")


def history_lake(settings: Settings) -> str:
    """The lake of the klines' history: training's own, below the deployment's lake where one is set."""
    if settings.lake_url:
        return f"{settings.lake_url.rstrip('/')}/history"
    return (settings.run_dir / "history" / "lake").as_uri()


def write_history(bars: MinuteBars, settings: Settings) -> dict[str, int]:
    """Feature rows and hourly context of `bars` as `rev-backfill-…` files, and nothing else, in the history lake.

    An hour already there is left alone. `settings.lake` is `history_lake`'s.
    """
    rows = _hour_files("features", bars.symbol, bars.close_ns, _feature_table(bars))
    hours, values = hourly_percentiles(bars.close_ns, bars.closes)
    known = np.isfinite(values)
    context = _hour_files("context", bars.symbol, hours[known], _context_table(bars, hours[known], values[known]))
    written, removed = replace_files([*rows, *context], *filesystem(settings.lake, settings.s3_endpoint))
    return {"rows": len(bars.close_ns), "context_rows": int(known.sum()), "files_written": written,
            "files_removed": removed}


def _feature_table(bars: MinuteBars) -> pa.Table:
    values, n = feature_rows(bars), len(bars.close_ns)
    columns: dict[str, Any] = {
        "symbol": [bars.symbol] * n, "ts_event": bars.close_ns, "ts_init": bars.created_ns, "source": [bars.source] * n,
        "session": [SESSION] * n, "created": bars.created_ns, "provenance": ["backfill"] * n,
        "feature_set": [FEATURE_SET] * n, "price": bars.closes, "reasons": [REASONS] * n,
        **{name: _nullable(values[:, i]) for i, name in enumerate(FEATURE_NAMES)},
        **_timestamps(bars.close_ns, bars.created_ns),
    }
    return _table("features", columns)


def _context_table(bars: MinuteBars, hours: Ints, values: Floats) -> pa.Table:
    created = hours + CONTEXT_LAG_NS
    return _table("context", {
        "symbol": [bars.symbol] * len(hours), "ts_event": hours, "created": created, CONTEXT_FEATURE: _nullable(values),
        **_timestamps(hours, created),
    })


def _timestamps(event_ns: Ints, created_ns: Ints) -> dict[str, Ints]:
    return {"event_timestamp": event_ns // 1000, "created_timestamp": -(-created_ns // 1000)}


def _nullable(values: Floats) -> pa.Array:
    return pa.array(values, mask=np.isnan(values))


def _table(zone: Zone, columns: dict[str, Any]) -> pa.Table:
    schema = zone_schema(zone)
    return pa.Table.from_arrays([_column(columns[field.name], field.type) for field in schema], schema=schema)


def _column(values: Any, kind: pa.DataType) -> pa.Array:
    column = values if isinstance(values, pa.Array) else pa.array(values)
    return column.cast(kind)


def _hour_files(zone: Zone, symbol: str, event_ns: Ints, table: pa.Table) -> list[tuple[str, pa.Table]]:
    """The table cut into hours, each with its path below the lake's root, named by what is in it."""
    starts = np.flatnonzero(np.diff(event_ns // HOUR_NS, prepend=-1))
    ends = np.append(starts[1:], len(event_ns))
    return [
        (f"{hour_folder(zone, symbol, int(event_ns[a]))}/{rev_file('backfill', _content(part))}", part)
        for a, b in zip(starts, ends, strict=True)
        for part in [table.slice(a, b - a)]
    ]


def _content(part: pa.Table) -> str:
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, part.schema) as writer:
        writer.write_table(part.combine_chunks())
    return hashlib.sha256(sink.getvalue()).hexdigest()[:12]


def replace_files(
    files: Sequence[tuple[str, pa.Table]], target: Any, root: str, sync: Callable[[], None] = os.sync,
) -> tuple[int, int]:
    """Have these files, and no others, in the zones written here. Returns how many were written, and removed.

    Two files of one hour would give two rows of one identity and knowledge time: which is known would be chance. What
    goes, goes when all that takes its place is on the disk. After a kill the same call again ends what was begun.
    """
    lying = {info.path: info.size for info in _lying(target, root)}
    # A file of no bytes is what a power cut can leave of one that was not on the disk yet.
    missing = [(f"{root}/{path}", table) for path, table in files if not lying.get(f"{root}/{path}")]
    with ThreadPoolExecutor(2) as pool:
        list(pool.map(lambda file: _write(target, *file), missing))
    if missing and target.type_name == "local":
        sync()  # once, for thousands of small files
    kept = {f"{root}/{path}" for path, _ in files}
    strangers = [path for path in lying if path not in kept]
    for path in strangers:
        target.delete_file(path)
    return len(missing), sum(path.endswith(".parquet") for path in strangers)


def _write(target: Any, path: str, table: pa.Table) -> None:
    """A file that appears whole: by a rename, or as one object."""
    body = pa.BufferOutputStream()
    pq.write_table(table, body)
    is_local = target.type_name == "local"
    partial = f"{path}.tmp" if is_local else path
    if is_local:
        target.create_dir(path.rsplit("/", 1)[0], recursive=True)
    with target.open_output_stream(partial) as out:
        out.write(body.getvalue())
    if is_local:
        target.move(partial, path)


def _lying(target: Any, root: str) -> list[Any]:
    """The files of the zones written here, unfinished ones of a killed process among them."""
    chosen = [fs.FileSelector(f"{root}/{zone}", allow_not_found=True, recursive=True) for zone in ZONES]
    return [info for one in chosen for info in target.get_file_info(one) if info.is_file]


def _parquet_files(settings: Settings) -> list[str]:
    found = _lying(*filesystem(settings.lake, settings.s3_endpoint))
    return sorted(info.path for info in found if info.path.endswith(".parquet"))


def apply_definitions(settings: Settings) -> None:
    """`feast apply` for these settings, when nobody has done it yet."""
    if settings.registry.exists():
        return
    from feature_repo.feast_config import apply

    settings.registry.parent.mkdir(parents=True, exist_ok=True)
    apply(settings)


def known_rows(bars: MinuteBars, settings: Settings) -> KnownRows:
    """Every minute's row as known at its decision time, through Feast; opens and closes (for labels) from the bars.

    Raises `ValueError` when the lake answers with another row than the minute's own, or another source.
    """
    apply_definitions(settings)
    store = FeatureStore.open(settings)
    refs = references()
    parts = [_as_known(store, bars, slice(i, i + CHUNK), refs) for i in range(0, len(bars.close_ns), CHUNK)]
    found = pd.concat(parts, ignore_index=True)
    _refuse_strangers(found, bars)
    values = found[list(FORECAST_BAR)].to_numpy(np.float32)
    context = found[CONTEXT_FEATURE].to_numpy(np.float64)
    return KnownRows(
        bars.symbol, bars.source, bars.close_ns, bars.columns["open"], bars.closes, values, context,
        lake_content(settings),
    )


def references() -> list[str]:
    """What is asked of Feast: the service's features, and whose row answered."""
    refs = [f"{view}:{name}" for view, names in services()[SERVICE].items() for name in names]
    return [*refs, "row_state:source", "row_state:price", "row_state:created"]


def _as_known(store: FeatureStore, bars: MinuteBars, part: slice, refs: list[str]) -> pd.DataFrame:
    decided = pd.to_datetime(bars.created_ns[part], utc=True)
    entities = pd.DataFrame({"symbol": bars.symbol, "event_timestamp": decided})
    found = store.history(entities, refs)
    LOG.info("history", rows=len(found), until=str(decided[-1]))
    return found


def _refuse_strangers(found: pd.DataFrame, bars: MinuteBars) -> None:
    own = found["created"].to_numpy() == bars.created_ns
    if not own.all():
        raise ValueError(
            f"expected every minute's own row in the lake, found {int((~own).sum())} others or none; delete the "
            f"history lake and train again",
        )
    sources = set(found["source"].unique())
    if sources != {bars.source}:
        raise ValueError(f"expected rows of source {bars.source}, found {sorted(map(str, sources))}; use another lake")


def lake_content(settings: Settings) -> str:
    """SHA-256 over the paths and bytes of the feature and context files: the data half of a set's identity."""
    target, root = filesystem(settings.lake, settings.s3_endpoint)
    digest = hashlib.sha256()
    for path in _parquet_files(settings):
        digest.update(path.removeprefix(root).encode())
        with target.open_input_stream(path) as stream:
            digest.update(hashlib.sha256(stream.read()).digest())
    return digest.hexdigest()
