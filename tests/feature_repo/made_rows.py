"""Made feature rows, and lakes of them, for tests of the stores."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq

from feature_repo.contracts import MINUTE_NS, SECOND_NS, FeatureRow, Provenance
from feature_repo.features import FEATURE_NAMES, FEATURE_SET, FORECAST_BAR, SEQUENCE_LENGTH
from feature_repo.lake_layout import ContextRow, Zone, filesystem, hour_folder, owned_file, rev_file, to_table
from feature_repo.online_row import Floats, OnlineWrite

START_NS = 1_723_161_540_000_000_000  # a minute before a UTC midnight
LAG_NS = 250_000_001  # not a whole microsecond, as real clocks
CONTEXT = "realized_vol_15m_p90_30d"


def made_row(
    second: int, symbol: str = "BTCUSDT", lag_ns: int = LAG_NS, provenance: Provenance = "live", seed: int = 0,
) -> FeatureRow:
    """The row `second` seconds after the start, known `lag_ns` after its close; every tenth value is null."""
    close = START_NS + second * SECOND_NS
    random = np.random.default_rng([second, seed, sum(symbol.encode())])
    numbers = random.normal(size=len(FEATURE_NAMES)).tolist()
    known = [None if i % 10 == second % 10 else number for i, number in enumerate(numbers)]
    values = dict(zip(FEATURE_NAMES, known, strict=True))
    return FeatureRow(
        symbol=symbol, ts_event=close, ts_init=close + lag_ns, source="recording", session="made-loop0",
        created=close + lag_ns, provenance=provenance, feature_set=FEATURE_SET, price=60_000.0 + second / 10,
        values=values, reasons={name: "warmup" for name, value in values.items() if value is None},
    )


def made_sequence(seed: int = 0) -> Floats:
    sequence = np.random.default_rng(seed).normal(size=(SEQUENCE_LENGTH, len(FORECAST_BAR)))
    sequence[seed % SEQUENCE_LENGTH] = np.nan
    return sequence


def made_write(second: int, symbol: str = "BTCUSDT", lag_ns: int = LAG_NS) -> OnlineWrite:
    mirrors = {w: {"vwap": 60_000.0 + second, "volatility": None, "imbalance": 0.5} for w in ("1m", "5m", "15m")}
    return OnlineWrite(made_row(second, symbol, lag_ns), made_sequence(second), mirrors)


def made_context(minute: int, symbol: str = "BTCUSDT") -> ContextRow:
    """A value of the slow view `minute` minutes after the start, known a minute later."""
    at = START_NS + minute * MINUTE_NS
    return ContextRow(symbol, at, at + MINUTE_NS, 0.0004 + minute / 1e6)


def write_lake(lake_url: str, zone: Zone, rows: Iterable[FeatureRow | ContextRow], s3_endpoint: str = "") -> list[str]:
    """Write rows as the zone's owner would, revisions as `rev-` files; returns the paths."""
    filesystem_, root = filesystem(lake_url, s3_endpoint)
    by_file: dict[str, list[FeatureRow | ContextRow]] = defaultdict(list)
    for row in rows:
        by_file[f"{root}/{hour_folder(zone, row.symbol, row.ts_event)}/{_file(zone, row)}"].append(row)
    for path, held in by_file.items():
        filesystem_.create_dir(str(Path(path).parent), recursive=True)
        pq.write_table(to_table(zone, held), path, filesystem=filesystem_)
    return sorted(by_file)


def _file(zone: Zone, row: FeatureRow | ContextRow) -> str:
    if isinstance(row, ContextRow):
        return "context.parquet"
    return owned_file(zone) if row.provenance == "live" else rev_file(row.provenance, _hash(row))


def _hash(row: FeatureRow) -> str:
    return hashlib.sha256(repr(row).encode()).hexdigest()[:8]
