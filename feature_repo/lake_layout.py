"""Lake layout: where a row lives in the lake, under which columns, and what makes it the same row.

    >>> hour_folder("features", "BTCUSDT", 1_723_161_600_000_000_000)
    'features/btc/date=2024-08-09/hour=00'
    >>> identity("features")
    ('symbol', 'ts_event', 'created')

`<lake>/<zone>/<base>/date=YYYY-MM-DD/hour=HH/*.parquet`, the hour being that of the close. An hour has one file that
its one owner replaces (`owned_file`; in `raw` one a topic and partition, `raw_hour_file`), and beside it what is still
to be merged: `rev-<provenance>-<hash>.parquet` of anyone else, in `raw` a file a batch, named by its offsets.
A zone of slow series (`MONTHLY`) has a folder a month, that of its first hour: a file a day for a value a day would be
thousands of files.
A column is a field of the zone's message; what is not a scalar is JSON text, and a feature row has one
column per feature. Times stay int64 nanoseconds; `event_timestamp` and `created_timestamp` are the same
times as timestamp[us, UTC] for Feast and people, `created_timestamp` rounded up so that nothing is known early.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache
from typing import Any, Literal, get_args
from urllib.parse import urlparse

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from feature_repo.context import CONTEXT_FEATURE
from feature_repo.contracts import HOUR_NS, Alert, Bar, FeatureRow, Message, Observation, Prediction
from feature_repo.derive import spark_schema
from feature_repo.features import FEATURE_NAMES
from feature_repo.slow_features import VIEW_OF, SlowRow
from feature_repo.topics import base
from feature_repo.views import SLOW_STATE, SlowZone, as_text, slow_state

Zone = Literal["raw", "clean", "features", "predictions", "alerts", "context", "observations"] | SlowZone
ZONES: tuple[Zone, ...] = tuple(zone for group in get_args(Zone) for zone in get_args(group))
MESSAGES: Mapping[str, type[Message]] = {
    "clean": Bar, "features": FeatureRow, "predictions": Prediction, "alerts": Alert, "observations": Observation,
}
MONTHLY = frozenset({"observations", *VIEW_OF})
"""Zones with a folder a month instead of one an hour."""
TIMESTAMP = pa.timestamp("us", tz="UTC")
EVENT_TIMESTAMP, CREATED_TIMESTAMP = "event_timestamp", "created_timestamp"
RAW_SCHEMA = pa.schema([
    ("topic", pa.string()), ("partition", pa.int32()), ("offset", pa.int64()), ("kafka_timestamp", TIMESTAMP),
    ("key", pa.string()), ("schema", pa.string()), ("value", pa.binary()),
])
_RAW_PART = re.compile(r"(?P<hour>.+-\d+)-(?P<first>\d+)-(?P<last>\d+)\.parquet")
_IDENTITY: Mapping[str, tuple[str, ...]] = {
    "raw": ("topic", "partition", "offset"),
    "clean": ("symbol", "interval_s", "close_time", "created"),
    "features": ("symbol", "ts_event", "created"),
    "predictions": ("model_version", "symbol", "ts_event"),
    "alerts": ("rule", "symbol", "window_start"),
    "context": ("symbol", "ts_event", "created"),
    "observations": ("symbol", "series", "instrument", "ts_event", "created"),
    **dict.fromkeys(VIEW_OF, ("symbol", "ts_event", "created")),
}
_ARROW = {"long": pa.int64(), "double": pa.float64(), "string": pa.string(), "boolean": pa.bool_()}
_TIMES = [pa.field(EVENT_TIMESTAMP, TIMESTAMP, nullable=False), pa.field(CREATED_TIMESTAMP, TIMESTAMP, nullable=False)]


@dataclass(frozen=True)
class ContextRow:
    """One value of the slow view `volatility_context`. Identity: (symbol, ts_event, created); null is unknown."""

    symbol: str
    ts_event: int
    created: int
    value: float | None


Row = Message | ContextRow | SlowRow
"""What a zone's row is made of."""


def hour_folder(zone: Zone, symbol: str, close_ns: int) -> str:
    """The folder, relative to the lake's root, of a row that closes at `close_ns`."""
    return base_folder(zone, base(symbol), close_ns)


def base_folder(zone: Zone, base_asset: str, close_ns: int) -> str:
    """The hour's folder of a base asset: its symbols' rows lie in the same files, told apart by `symbol`."""
    at = folder_start(zone, close_ns)
    return f"{zone}/{base_asset}/{date_folder(at)}/hour={_utc(at):%H}"


def folder_start(zone: Zone, close_ns: int) -> int:
    """Start, ns, of the hour, or in a monthly zone of the month, in whose folder a close lies.

    >>> folder_start("macro", 45 * 24 * HOUR_NS) // HOUR_NS // 24
    31
    """
    if zone not in MONTHLY:
        return close_ns // HOUR_NS * HOUR_NS
    first = _utc(close_ns).replace(day=1, hour=0, minute=0, second=0)
    return int(first.timestamp()) * HOUR_NS // 3600


def folder_end(zone: Zone, start_ns: int) -> int:
    """The last nanosecond of the folder that starts then."""
    if zone not in MONTHLY:
        return start_ns + HOUR_NS - 1
    return folder_start(zone, start_ns + 32 * 24 * HOUR_NS) - 1


def hour_of(path: str) -> int:
    """Start of the hour, ns, of a path below an hour folder. Raises `ValueError` when it is below none.

    >>> hour_of("lake/features/btc/date=1970-01-01/hour=02/features.parquet") // HOUR_NS
    2
    """
    parts = dict(part.split("=", 1) for part in path.split("/") if "=" in part)
    if not {"date", "hour"} <= set(parts):
        raise ValueError(f"expected a path below date=…/hour=…, found {path}")
    at = datetime.strptime(f"{parts['date']} {parts['hour']} +0000", "%Y-%m-%d %H %z")
    return int(at.timestamp()) * HOUR_NS // 3600


def date_folder(at_ns: int) -> str:
    """Name of the date folder of a close; names sort as their dates do.

    >>> date_folder(0)
    'date=1970-01-01'
    """
    return f"date={_utc(at_ns):%Y-%m-%d}"


def owned_file(zone: Zone) -> str:
    """Name of the file that the hour's one writer upserts.

    >>> owned_file("clean")
    'bars.parquet'
    """
    return "bars.parquet" if zone == "clean" else f"{zone}.parquet"


def raw_file(topic: str, partition: int, first_offset: int, last_offset: int) -> str:
    """Name of a raw file: the same offsets, the same name, so that a repeated batch overwrites itself."""
    return f"{topic}-{partition}-{first_offset}-{last_offset}.parquet"


def raw_hour_file(topic: str, partition: int) -> str:
    """Name of the file that holds an hour of a topic's partition once it is compacted; until then it may be empty."""
    return f"{topic}-{partition}.parquet"


def owner_of(zone: Zone, name: str) -> str:
    """Name of the owned file into which a file of an hour is merged; its own name when it is that file.

    >>> owner_of("raw", "crypto.btc.trades-0-40-99.parquet"), owner_of("clean", "rev-backfill-0123456789ab.parquet")
    ('crypto.btc.trades-0.parquet', 'bars.parquet')
    """
    if zone != "raw":
        return owned_file(zone)
    found = _RAW_PART.fullmatch(name)
    return f"{found['hour']}.parquet" if found else name


def raw_offsets(name: str) -> tuple[int, int] | None:
    """First and last offset of a batch's file, from its name; null for any other.

    >>> raw_offsets("crypto.btc.trades-0-40-99.parquet"), raw_offsets("crypto.btc.trades-0.parquet")
    ((40, 99), None)
    """
    found = _RAW_PART.fullmatch(name)
    return (int(found["first"]), int(found["last"])) if found else None


def rev_file(provenance: str, content_hash: str) -> str:
    """Name of a file that someone other than the hour's owner adds."""
    return f"rev-{provenance}-{content_hash}.parquet"


def identity(zone: Zone) -> tuple[str, ...]:
    """Columns that make two rows the same row."""
    return _IDENTITY[zone]


@cache
def zone_schema(zone: Zone) -> pa.Schema:
    """Columns and types of a zone's files."""
    if zone == "raw":
        return RAW_SCHEMA
    if zone == "context":
        keys = [pa.field("symbol", pa.string(), False), pa.field("ts_event", pa.int64(), False),
                pa.field("created", pa.int64(), False)]
        return pa.schema([*keys, pa.field(CONTEXT_FEATURE, pa.float64()), *_TIMES])
    if zone in VIEW_OF:
        whole = [pa.field(name, pa.int64(), False) for name in ("ts_event", "created")]
        texts = [pa.field(VIEW_OF[zone].state(name), pa.string(), False) for name in SLOW_STATE]
        values = [pa.field(name, pa.float64()) for name in VIEW_OF[zone].names]
        return pa.schema([pa.field("symbol", pa.string(), False), *whole, *texts, *values, *_TIMES])
    columns = [field for record in spark_schema(MESSAGES[zone])["fields"] for field in _fields(zone, record)]
    return pa.schema([*columns, *_TIMES])


def flatten(zone: Zone, message: Row) -> dict[str, Any]:
    """A message as the values of its row; a feature row from before a feature was declared lacks it, which is null."""
    record = message.model_dump() if isinstance(message, Message) else _record(message)
    values = record.pop("values") if zone == "features" else {}
    names = _texts(MESSAGES[zone]) if zone in MESSAGES else ()
    texts = {name: as_text(record[name]) for name in names if name in record}
    created = record["created"] if "created" in record else record["ts_init"]
    return {
        **record, **texts, **{name: values.get(name) for name in (FEATURE_NAMES if zone == "features" else ())},
        EVENT_TIMESTAMP: record["ts_event"] // 1000, CREATED_TIMESTAMP: -(-created // 1000),
    }


def unflatten(zone: Zone, record: Mapping[str, Any]) -> Message:
    """The message of a row: the inverse of `flatten`. Raises `ValidationError` for a row its contract refuses."""
    kind = MESSAGES[zone]
    fields = {name: record[name] for name in kind.model_fields if name != "values" or zone != "features"}
    fields |= {name: json.loads(fields[name]) for name in _texts(kind) if name in fields}
    if zone == "features":
        fields["values"] = {name: record[name] for name in FEATURE_NAMES}
    return kind.model_validate(fields)


def to_table(zone: Zone, messages: Iterable[Row]) -> pa.Table:
    """Messages as a table with the zone's columns, in the order given."""
    rows = [flatten(zone, message) for message in messages]
    schema = zone_schema(zone)
    columns = [pa.array([row[field.name] for row in rows], _storage(field.type)).cast(field.type) for field in schema]
    return pa.Table.from_arrays(columns, schema=schema)


def merge(zone: Zone, tables: Iterable[pa.Table]) -> pa.Table:
    """Rows of several files as one: each identity once, the newest created wins, in identity order.

    Rows of one second with different `created` are different rows: what was known before stays known. A feature row
    that is told twice is the one that says more, where it says all that the first does: what that lacked was filled in
    (`streaming.fill`).
    """
    return once(zone, pa.concat_tables([conform(zone, table) for table in tables], promote_options="none"))


def once(zone: Zone, rows: pa.Table) -> pa.Table:
    """Each identity once, as `merge`; `rows` may lack other columns of the zone than those of its identity.

    Which of two feature rows says more is known of whole ones alone; of others the first in order counts.
    """
    if not rows.num_rows:
        return rows
    keys = identity(zone)
    known = "created" if "created" in rows.column_names else "ts_init" if "ts_init" in rows.column_names else "offset"
    order = [*((name, "ascending") for name in keys if name != known), (known, "descending")]
    rows = rows.sort_by(order)
    first = _first_of_each(rows.select(list(keys)))
    if zone == "features" and rows.num_columns == len(zone_schema(zone)) and pc.any(pc.invert(first)).as_py():
        rows = _fullest_first(rows, first)
    once = rows.filter(first)
    return once.sort_by([(name, "ascending") for name in dict.fromkeys((*keys, known))])


def conform(zone: Zone, table: pa.Table) -> pa.Table:
    """A file's rows under the zone's columns of today: one that is gone is left out, one that it lacks has the
    contract's default, as an earlier message has where it is decoded; without a default it is null."""
    schema = zone_schema(zone)
    return pa.Table.from_arrays([_conformed(zone, table, field) for field in schema], schema=schema)


def _conformed(zone: Zone, table: pa.Table, field: pa.Field) -> pa.Array | pa.ChunkedArray:
    is_there = field.name in table.column_names
    column = table[field.name].cast(field.type) if is_there else pa.nulls(len(table), field.type)
    default = _defaults(zone).get(field.name)
    # A scan under the zone's schema has made nulls of the column already.
    return column if default is None or not column.null_count else pc.fill_null(column, default)


@cache
def _defaults(zone: Zone) -> Mapping[str, Any]:
    """By column, what a message from before a field was declared has there, where that is not null."""
    declared = MESSAGES[zone].model_fields if zone in MESSAGES else {}
    return {name: info.default for name, info in declared.items()
            if not info.is_required() and isinstance(info.default, str | bool | int | float)}


def filesystem(lake_url: str, s3_endpoint: str = "") -> tuple[Any, str]:
    """The pyarrow filesystem of a lake URL and the root path on it.

    Raises `ValueError` for a URL without a scheme. S3 credentials come from the environment, as AWS's tools read them.
    """
    from pyarrow import fs

    parsed = urlparse(lake_url)
    if not parsed.scheme:
        raise ValueError(f"expected a lake URL such as file:///… or s3://bucket/prefix, found {lake_url!r}")
    if parsed.scheme != "s3":
        found, root = fs.FileSystem.from_uri(lake_url.rstrip("/"))
        return found, root
    options: dict[str, Any] = {"connect_timeout": 5, "request_timeout": 30}
    if s3_endpoint:
        endpoint = urlparse(s3_endpoint)
        # A named region spares the look-up at AWS that only AWS's own endpoint answers.
        options |= {"endpoint_override": endpoint.netloc, "scheme": endpoint.scheme, "region": "us-east-1"}
    return fs.S3FileSystem(**options), f"{parsed.netloc}{parsed.path}".rstrip("/")


@cache
def _texts(kind: type[Message]) -> frozenset[str]:
    """Fields that are no scalars and so lie in the lake as JSON text."""
    return frozenset(f["name"] for f in spark_schema(kind)["fields"] if not isinstance(f["type"], str))


def _record(row: ContextRow | SlowRow) -> dict[str, Any]:
    keys = {"symbol": row.symbol, "ts_event": row.ts_event, "created": row.created}
    if isinstance(row, ContextRow):
        return {**keys, CONTEXT_FEATURE: row.value}
    return {**keys, **slow_state(row), **row.values}


def _fields(zone: Zone, record: Mapping[str, Any]) -> list[pa.Field]:
    if zone == "features" and record["name"] == "values":
        return [pa.field(name, pa.float64()) for name in FEATURE_NAMES]
    kind = _ARROW[record["type"]] if isinstance(record["type"], str) else pa.string()
    return [pa.field(record["name"], kind, record["nullable"])]


def _storage(kind: pa.DataType) -> pa.DataType:
    # Timestamps are given as integers of their unit: building them from Python datetimes costs ten times as much.
    return pa.int64() if kind == TIMESTAMP else kind


def _first_of_each(keys: pa.Table) -> pa.Array:
    """True where a sorted row differs from the row before it in one of the keys."""
    differs = np.zeros(len(keys), dtype=bool)
    differs[0] = True
    for column in keys.combine_chunks().columns:
        differs[1:] |= pc.not_equal(column[1:], column[:-1]).to_numpy()
    return pa.array(differs)


def _fullest_first(rows: pa.Table, first: pa.Array) -> pa.Table:
    """Feature rows, each identity's together, so that of those of one identity the one that says most leads.

    A value says more than a reason, and a reason more than nothing; of equals the order stays. Only what the first
    lacks may be added: one that says otherwise of anything that the first says is another's word, and does not lead.
    """
    values = sum(pc.is_valid(rows[name]).to_numpy().astype(np.int64) for name in FEATURE_NAMES)
    reasons = pc.count_substring(rows["reasons"], '": "').to_numpy()
    starts = first.to_numpy(zero_copy_only=False)
    lead = np.flatnonzero(starts)
    fullest = np.lexsort((-(2 * values + reasons), np.cumsum(starts)))[lead]
    agree = _says_all_of(rows, fullest, lead)
    order = np.arange(rows.num_rows)
    order[lead[agree]], order[fullest[agree]] = fullest[agree], lead[agree]
    return rows.take(pa.array(order))


def _says_all_of(rows: pa.Table, ours: np.ndarray, theirs: np.ndarray) -> np.ndarray:
    """Whether feature rows at `ours` say, to the last bit, all that those at `theirs` say of features, (N,)."""
    agree = np.ones(len(ours), dtype=bool)
    for name in FEATURE_NAMES:
        column = rows[name].combine_chunks()
        known, bits = column.is_valid().to_numpy(zero_copy_only=False), column.fill_null(0.0).to_numpy().view(np.int64)
        agree &= ~known[theirs] | (known[ours] & (bits[ours] == bits[theirs]))
    coded = rows["reasons"].combine_chunks().dictionary_encode()
    codes, texts = coded.indices.to_numpy(zero_copy_only=False), coded.dictionary.to_pylist()
    told = [json.loads(text).items() for text in texts]
    pairs, place = np.unique(np.column_stack([codes[ours], codes[theirs]]), axis=0, return_inverse=True)
    kept = np.array([told[theirs] <= told[ours] for ours, theirs in pairs], dtype=bool)
    return np.asarray(agree & kept[place.ravel()])


def _utc(at_ns: int) -> datetime:
    return datetime.fromtimestamp(at_ns // 1_000_000_000, UTC)
