"""Delta: a zone of the lake as a Delta table, for whoever reads those; an option, by `deltalake` (`make delta`).

    export(settings, "features", "s3://bucket/features", *days("2026-11-01", "2026-11-02"))

The lake stays the truth: its owner replaces files, which no Delta log could follow, so the table is a copy. A day of a
base asset is replaced by one commit, each identity once, every version of a row beside the others: a reader of the
table sees the day before or after, and writing it again changes nothing but the log.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any

import pyarrow as pa

from feature_repo.contracts import DAY_NS
from feature_repo.lake_layout import ZONES, Zone, date_folder, folder_end
from feature_repo.lake_reader import Lake
from feature_repo.settings import Settings
from streaming.stretch import moment

PARTITIONS = ["base", "date"]
EVER = (0, 2**62)


def days(start: str | None, end: str | None) -> tuple[int, int]:
    """The command line's times, ns; everything without them."""
    return moment(start) if start else EVER[0], moment(end) if end else EVER[1]


def export(settings: Settings, zone: str, table_url: str, start_ns: int, end_ns: int) -> dict[str, Any]:
    """Write the days that touch [start, end). Raises `ValueError` for what is no zone, or without `deltalake`."""
    if zone not in ZONES:
        raise ValueError(f"expected a zone, one of {', '.join(ZONES)}; found {zone!r}")
    lake = Lake.open(settings.lake, settings.s3_endpoint)
    options = storage_options(settings.s3_endpoint) if table_url.startswith("s3://") else None
    written = {"rows": 0, "days": 0}
    for base in lake.bases(zone):
        for day, rows in _days(lake, zone, base, start_ns, end_ns):
            _replace(table_url, rows, f"base = '{base}' AND date = '{day}'", options)
            written["rows"] += rows.num_rows
            written["days"] += 1
    return {"zone": zone, "table": table_url, **written}


def storage_options(endpoint: str) -> dict[str, str]:
    """What `deltalake` must know of an S3 that is not AWS's own; credentials come from the environment."""
    known = {"AWS_REGION": os.environ.get("AWS_DEFAULT_REGION", "us-east-1"), "aws_conditional_put": "etag"}
    if not endpoint:
        return known
    return known | {"AWS_ENDPOINT_URL": endpoint, "AWS_ALLOW_HTTP": str(endpoint.startswith("http:")).lower()}


def _days(lake: Lake, zone: Zone, base: str, start_ns: int, end_ns: int) -> Iterator[tuple[str, pa.Table]]:
    """Date and rows of each day that the zone holds, ascending."""
    hours = sorted(lake.hours(zone, base))
    inside = [at for at in hours if at // DAY_NS * DAY_NS < end_ns and start_ns < _end(zone, at)]
    for day in sorted({at // DAY_NS for at in inside}):
        date = date_folder(day * DAY_NS).removeprefix("date=")
        rows = pa.concat_tables([lake.hour(zone, base, at) for at in inside if at // DAY_NS == day])
        for name, value in (("base", base), ("date", date)):
            rows = rows.append_column(name, pa.array([value] * rows.num_rows, pa.string()))
        if rows.num_rows:
            yield date, rows


def _end(zone: Zone, at: int) -> int:
    """End of the day, or of the month of a slow zone, that is written as one."""
    return max(at // DAY_NS * DAY_NS + DAY_NS, folder_end(zone, at) + 1)


def _replace(table_url: str, rows: pa.Table, predicate: str, options: dict[str, str] | None) -> None:
    try:
        from deltalake import DeltaTable, write_deltalake
    except ImportError as error:
        raise ValueError("expected the package deltalake, found none; `make delta` installs it") from error
    known = {"storage_options": options, "partition_by": PARTITIONS, "mode": "overwrite"}
    if DeltaTable.is_deltatable(table_url, storage_options=options):
        # A feature that is new becomes a column; days written before it have null there.
        known |= {"predicate": predicate, "schema_mode": "merge"}
    write_deltalake(table_url, rows, **known)
