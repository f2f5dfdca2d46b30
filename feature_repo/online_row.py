"""Online row: a feature row, its sequence and its slow context as the fields of one Redis hash, and back.

    fields = PLAN.fields                    # what one HMGET asks for
    row = parse("BTCUSDT", reply)           # null when no whole row is there

All row views carry one version. A hash whose row views differ (Feast materialises view by view) holds no
row: a mixture of two seconds is never shown.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import isfinite
from typing import Any

import numpy as np
import numpy.typing as npt
from pydantic import ValidationError

from feature_repo.contracts import AHEAD_S, NANOS, SYMBOL_PATTERN, FeatureRow, InvalidMessage
from feature_repo.features import FEATURE_NAMES, SEQUENCE_FEATURES, SEQUENCE_LENGTH
from feature_repo.redis_layout import (
    decode,
    decode_time,
    encode,
    encode_double,
    event_time_field,
    feature_field,
    version_field,
)
from feature_repo.slow_features import SlowRow
from feature_repo.views import (
    CONTEXT_VIEW,
    FAMILY_VIEWS,
    ROW_STATE,
    ROW_VIEWS,
    SEQUENCE_VIEW,
    SLOW_VIEWS,
    STORED_VIEWS,
    VIEWS,
    View,
    as_text,
    slow_state,
)

Floats = npt.NDArray[np.float64]
SEQUENCE_SHAPE = (SEQUENCE_LENGTH, len(SEQUENCE_FEATURES))
_COLUMNS = ",".join(SEQUENCE_FEATURES)
EARLIEST_NS = 946_684_800 * NANOS
"""2000-01-01: a time before it is in another unit."""
_is_symbol = re.compile(SYMBOL_PATTERN).fullmatch


@dataclass(frozen=True)
class OnlineWrite:
    """One row to write. `sequence` is [64, len(SEQUENCE_FEATURES)], NaN = masked; `mirrors` is window → its values."""

    row: FeatureRow
    sequence: Floats | None
    mirrors: Mapping[str, Mapping[str, float | None]]


@dataclass(frozen=True, eq=False)
class OnlineRow:
    """The newest row of a symbol. `sequence`, [64, len(SEQUENCE_FEATURES)], is null unless it belongs to the same row;
    `context` is the slow view."""

    row: FeatureRow
    sequence: Floats | None
    context: Mapping[str, float | None]
    context_ts_event: int | None
    """The hour the context describes, ns; null when there is none."""


@dataclass(frozen=True)
class Plan:
    """What one HMGET asks for: every column of every view, then the views' versions and event times."""

    columns: tuple[tuple[View, str, str], ...]
    fields: tuple[bytes, ...]


def _plan() -> Plan:
    columns = tuple((view, column.name, column.kind) for view in VIEWS for column in view.columns)
    values = [feature_field(view.name, name) for view, name, _ in columns]
    versions = [version_field(view.name) for view in (*ROW_VIEWS, SEQUENCE_VIEW)]
    times = [event_time_field(ROW_STATE.name), event_time_field(CONTEXT_VIEW.name)]
    fields = (*values, *versions, *times)
    stored = [feature_field(view.name, name) for view in STORED_VIEWS for name in view.names]
    assert len(set(stored)) == len(stored), "two features share a murmur3 field: rename one"
    return Plan(columns, fields)


PLAN = _plan()
VERSION_FIELDS = (event_time_field(ROW_STATE.name), feature_field(ROW_STATE.name, "created"))
_FIELDS_OF = {
    view.name: tuple((feature_field(view.name, each.name), each.name, each.kind) for each in view.columns)
    for view in STORED_VIEWS
}
"""View → its fields in Redis, each with its name and kind."""
_EVERY = frozenset(FEATURE_NAMES)
_SLOW_VIEWS = {view.zone: view for view in SLOW_VIEWS}


def check_write(write: OnlineWrite, now_ns: int) -> None:
    """Raises `InvalidMessage` for what no row may be, however it was made: see `check_times` and `check_finite`."""
    row = write.row
    if not isinstance(row.symbol, str) or not _is_symbol(row.symbol):
        raise InvalidMessage(f"expected an instrument's id, found {row.symbol!r}")
    check_times(row.symbol, row.ts_event, row.created, now_ns)
    if missing := _EVERY - row.values.keys():
        raise InvalidMessage(f"expected every feature of FEATURES, found none of {', '.join(sorted(missing))}")
    check_finite(row.symbol, {**row.values, "price": row.price})
    if write.sequence is not None and (write.sequence.dtype != np.float64 or np.isinf(write.sequence).any()):
        raise InvalidMessage(f"{row.symbol}: expected a sequence of finite float64 or NaN, found another")


def check_times(symbol: str, ts_event_ns: int, created_ns: int, now_ns: int) -> None:
    """Raises `InvalidMessage` for times that are no nanoseconds since 1970, or ahead of the clock."""
    for name, at_ns in (("ts_event", ts_event_ns), ("created", created_ns)):
        if type(at_ns) is not int or not EARLIEST_NS <= at_ns < 2**63:
            raise InvalidMessage(f"{symbol}: {name} expected in nanoseconds UTC since 2000, found {at_ns!r}")
        if at_ns > now_ns + AHEAD_S * NANOS:
            ahead_s = (at_ns - now_ns) / NANOS
            raise InvalidMessage(f"{symbol}: {name} expected at most {AHEAD_S:g} s ahead, found {ahead_s:.0f} s")


def check_finite(symbol: str, values: Mapping[str, Any]) -> None:
    """Raises `InvalidMessage` for a value that is neither a finite float nor null."""
    for name, value in values.items():
        if value is not None and (type(value) is not float or not isfinite(value)):
            raise InvalidMessage(f"{symbol}: {name} expected a finite float or null, found {value!r}")


def view_values(write: OnlineWrite) -> list[tuple[str, list[bytes]]]:
    """Each view's fields and values in turn, as the newest-wins script takes them.

    Raises `InvalidMessage` for a row without every feature or a sequence of another shape.
    """
    row = write.row
    if missing := _EVERY - row.values.keys():
        raise InvalidMessage(f"expected every feature of FEATURES, found none of {', '.join(sorted(missing))}")
    state = {name: getattr(row, name) for name in ROW_STATE.names if name != "reasons"}
    views = [_pairs(view, row.values) for view in FAMILY_VIEWS]
    views.append(_pairs(ROW_STATE, {**state, "reasons": as_text(row.reasons)}))
    if write.sequence is not None:
        views.append(_pairs(SEQUENCE_VIEW, {"values": sequence_bytes(write.sequence), "columns": _COLUMNS}))
    return views


def context_values(values: Mapping[str, float | None]) -> list[tuple[str, list[bytes]]]:
    """The slow view's fields and values in turn."""
    return [_pairs(CONTEXT_VIEW, values)]


def slow_values(row: SlowRow) -> list[tuple[str, list[bytes]]]:
    """A slow row's fields and values in turn."""
    return [_pairs(_SLOW_VIEWS[row.view], {**row.values, **slow_state(row)})]  # type: ignore[index]


def sequence_bytes(sequence: Floats) -> bytes:
    """A sequence as it is stored: little-endian float64, rows oldest first."""
    if sequence.shape != SEQUENCE_SHAPE:
        raise InvalidMessage(f"expected a sequence of shape {SEQUENCE_SHAPE}, found {sequence.shape}")
    return np.ascontiguousarray(sequence, dtype="<f8").tobytes()


def parse(symbol: str, reply: Sequence[bytes | None]) -> OnlineRow | None:
    """The row in an HMGET reply for `PLAN.fields`; null where there is none or its views are of different rows.

    Raises `InvalidMessage` when the stored fields do not make a feature row of this feature set.
    """
    versions = dict(zip((*ROW_VIEWS, SEQUENCE_VIEW), reply[len(PLAN.columns) :], strict=False))
    at, context_at = reply[-2:]
    if at is None or len({versions[view] for view in ROW_VIEWS}) != 1:
        return None
    held: dict[str, dict[str, Any]] = {view.name: {} for view in VIEWS}
    try:
        for (view, name, kind), data in zip(PLAN.columns, reply, strict=False):
            held[view.name][name] = decode(data, kind)  # type: ignore[arg-type]
        row = _row(symbol, decode_time(at), held)
    except (ValidationError, ValueError, TypeError) as error:
        raise InvalidMessage(f"online row of {symbol} does not fit this feature set: {error}") from error
    with_sequence = versions[SEQUENCE_VIEW] == versions[ROW_STATE]
    return OnlineRow(
        row, _sequence(**held[SEQUENCE_VIEW.name]) if with_sequence else None, held[CONTEXT_VIEW.name],
        None if context_at is None else decode_time(context_at),
    )


def parse_version(reply: Sequence[bytes | None]) -> tuple[int, int] | None:
    """(ts_event, created) in ns of an HMGET reply for `VERSION_FIELDS`; null where there is no row."""
    at, created = reply
    return None if at is None or created is None else (decode_time(at), decode(created, "int64"))


def _row(symbol: str, ts_event: int, held: Mapping[str, Mapping[str, Any]]) -> FeatureRow:
    state = dict(held[ROW_STATE.name])
    values = {name: held[view.name][name] for view in FAMILY_VIEWS for name in view.names}
    return FeatureRow(
        symbol=symbol, ts_event=ts_event, values={name: values[name] for name in FEATURE_NAMES},
        reasons=json.loads(state.pop("reasons")), **state,
    )


def _sequence(values: bytes | None, columns: str | None) -> Floats | None:
    """By the names it was stored under: what wrote it may know other features. A column that it lacks is masked."""
    if values is None or columns is None:
        return None
    if columns == _COLUMNS:
        return np.frombuffer(values, dtype="<f8").reshape(SEQUENCE_SHAPE)
    names = columns.split(",")
    stored = np.frombuffer(values, dtype="<f8").reshape(SEQUENCE_LENGTH, len(names))
    found = np.full(SEQUENCE_SHAPE, np.nan)
    for place, name in enumerate(SEQUENCE_FEATURES):
        if name in names:
            found[:, place] = stored[:, names.index(name)]
    return found


def _pairs(view: View, values: Mapping[str, Any]) -> tuple[str, list[bytes]]:
    flat: list[bytes] = []
    for field, name, kind in _FIELDS_OF[view.name]:
        flat += (field, encode_double(values[name]) if kind == "double" else encode(values[name], kind))
    return view.name, flat
