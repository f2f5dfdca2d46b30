"""A source's rows that may answer: columns and conditions pushed into the Parquet scan, times beside the rows.

A row is known from the later of its event time and its `created` on (the event alone where a source has no created
column, or `as_of: event` is set); a row with a null in either is never known. Folders of dates are pruned where a
source says which partition column they are:

    FileSource(path="prices/", timestamp_field="event_timestamp", tags={"asof.date_partition": "date"})
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import astuple, dataclass, field
from datetime import UTC, datetime
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds
from feast.data_source import DataSource

from .columns import instants
from .join import BEFORE_ALL, NEVER, Ints, Times
from .parquet import Place

DATE_PARTITION = "asof.date_partition"
"""Tag of a source: its partition column whose folders are the UTC dates (2024-01-31) of the event times."""
MANY_KEYS = 1_000
"""More values of a join key than this are not worth a condition in the scan."""


@dataclass(frozen=True)
class Wanted:
    """Which rows of a source may answer; the scan may bring more than these, never fewer."""

    columns: Sequence[str]
    """Columns, in the source's words."""
    event: str
    """The column of event times, and that of created times where there is one."""
    created: str | None = None
    first: int | None = None
    """Least event time, ns UTC; null for no bound."""
    last: int | None = None
    """Greatest event time, ns UTC."""
    known_by: int | None = None
    """Latest knowledge time, ns UTC."""
    by_created: bool = True
    """Whether `created` says when a row became known; else its event time does, and `created` only breaks ties."""
    keys: Mapping[str, pa.Array] = field(default_factory=dict)
    """The values of the join keys that are asked for, distinct and not null."""


@dataclass(frozen=True)
class History:
    """Rows of a source and their times."""

    rows: pa.Table
    times: Times

    def within(self, first: int | None, last: int | None) -> History:
        """Exactly the rows with an event time in [first, last]; those without one are in no range."""
        event = self.times.event
        inside = event != NEVER
        if first is not None:
            inside &= event >= first
        if last is not None:
            inside &= event <= last
        if inside.all():
            return self
        return History(self.rows.filter(pa.array(inside)), Times(*(times[inside] for times in astuple(self.times))))


def read(source: DataSource, place: Place, wanted: Wanted) -> History:
    """The rows of a file source that may answer. Raises `ValueError` for missing files, columns and times."""
    columns = [*dict.fromkeys([*wanted.columns, wanted.event, *([wanted.created] if wanted.created else [])])]

    def scan(dataset: ds.Dataset) -> pa.Table:
        return dataset.to_table(columns=columns, filter=condition(dataset.schema, source, wanted))

    rows = place.read(columns, scan)
    return History(rows, times_of(rows, wanted.event, wanted.created, wanted.by_created))


def time_columns(source: DataSource) -> tuple[str, str | None]:
    """The event time and created columns as the files name them: Feast may name them after its field mapping."""
    names = {mapped: name for name, mapped in (source.field_mapping or {}).items()}
    if not source.timestamp_field:
        raise ValueError(f"expected a timestamp_field on source {source.name!r}, found none; set it")
    created = source.created_timestamp_column
    return names.get(source.timestamp_field, source.timestamp_field), names.get(created, created) or None


def times_of(rows: pa.Table, event: str, created: str | None, by_created: bool) -> Times:
    """Event, created and knowledge time of rows."""
    happened = instants(rows[event], event, NEVER)
    if created is None:
        return Times(happened, happened, happened)
    written = instants(rows[created], created, BEFORE_ALL)
    known = np.where(written == BEFORE_ALL, NEVER, np.maximum(happened, written)) if by_created else happened
    return Times(happened, written, known)


def condition(schema: pa.Schema, source: DataSource, wanted: Wanted) -> ds.Expression | None:
    """What Arrow prunes folders, files and row groups by."""
    parts = [*_between(schema.field(wanted.event), wanted.first, wanted.last), *_dates(schema, source, wanted)]
    if wanted.created and wanted.by_created:
        parts += _between(schema.field(wanted.created), None, wanted.known_by)
    for name, values in wanted.keys.items():
        parts += _among(schema.field(name), values)
    whole = None
    for part in parts:
        whole = part if whole is None else whole & part
    return whole


def _between(column: pa.Field, first: int | None, last: int | None) -> list[ds.Expression]:
    if not pa.types.is_timestamp(column.type):
        return []
    unit = {"s": 10**9, "ms": 10**6, "us": 1000, "ns": 1}[column.type.unit]
    lower = [] if first is None else [ds.field(column.name) >= pa.scalar(-(-first // unit), column.type)]
    return lower + ([] if last is None else [ds.field(column.name) <= pa.scalar(last // unit, column.type)])


def _dates(schema: pa.Schema, source: DataSource, wanted: Wanted) -> list[ds.Expression]:
    name = (source.tags or {}).get(DATE_PARTITION)
    if not name:
        return []
    if name not in schema.names or not pa.types.is_string(schema.field(name).type):
        found = schema.field(name).type if name in schema.names else f"the columns {schema.names}"
        raise ValueError(f"expected folders {name}=2024-01-31 below source {source.name!r}, found {found}")
    first = [] if wanted.first is None else [ds.field(name) >= _date(wanted.first)]
    return first + ([] if wanted.last is None else [ds.field(name) <= _date(wanted.last)])


def _date(at_ns: int) -> str:
    return f"{datetime.fromtimestamp(at_ns // 10**9, UTC):%Y-%m-%d}"


def _among(column: pa.Field, values: pa.Array) -> list[ds.Expression]:
    if len(values) > MANY_KEYS or pa.types.is_dictionary(column.type):
        return []
    try:
        return [pc.field(column.name).isin(values.cast(column.type))]
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError):  # a value that the column's type cannot hold
        return []


def nanoseconds(at: datetime | None) -> int | None:
    """A time as nanoseconds UTC; without a zone it is UTC.

    >>> nanoseconds(datetime(1970, 1, 1, 0, 0, 1))  # noqa: DTZ001
    1000000000
    """
    if at is None:
        return None
    stamp: Any = pd.Timestamp(at)
    stamp = stamp.tz_localize("UTC") if stamp.tz is None else stamp
    return int(stamp.as_unit("ns").value)


def bounds(at: Ints) -> tuple[int, int] | None:
    """Least and greatest of the times that are there; null without any."""
    there = at[at != BEFORE_ALL]
    return (int(there.min()), int(there.max())) if len(there) else None
