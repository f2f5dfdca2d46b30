"""Online row: a feature row, its sequence and its slow context as the fields of one Redis hash, and back.

    fields = PLAN.fields                    # what one HMGET asks for
    row = parse("BTCUSDT", reply)           # null when no whole row is there

All row views carry one version. A hash whose row views differ (Feast materialises view by view) holds no
row: a mixture of two seconds is never shown.
"""

from __future__ import annotations

import json
import re
import struct
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache, partial
from hashlib import blake2b
from math import isfinite
from operator import itemgetter
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from feature_repo.contracts import AHEAD_S, NANOS, SYMBOL_PATTERN, FeatureRow, InvalidMessage
from feature_repo.features import FEATURE_NAMES, SEQUENCE_FEATURES, SEQUENCE_LENGTH
from feature_repo.newest_wins.script import WHOLE
from feature_repo.redis_layout import (
    decode,
    decode_doubles,
    decode_time,
    encode,
    event_time_field,
    feature_field,
    framed,
    version_field,
)
from feature_repo.slow_features import VIEW_OF, SlowRow
from feature_repo.unreadable import BROKEN, Part, UnreadableRow, blame, short
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
class OnlineContext:
    """The slow view `volatility_context` as it is held, ns; `created` in whole microseconds, 0 without a version."""

    ts_event: int
    created: int
    value: float | None


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


class Heads(NamedTuple):
    """Which views come: how many they are, how many words with those of this head, and the head as it is framed."""

    views: int
    words: int
    framed: bytes


class Words(NamedTuple):
    """A row as the newest-wins script is told of it."""

    heads: Heads
    kept: bytes
    """The words that say what of the sequence is left out."""
    parts: list[bytes]
    """The views' fields and values."""
    minutes: Minutes | None
    """What Redis holds of the sequence once this is written."""


@dataclass(frozen=True)
class Plan:
    """What one HMGET asks for: every column of every view, then the views' versions and event times."""

    fields: tuple[bytes, ...]
    features: Callable[[Sequence[bytes | None]], tuple[bytes | None, ...]]
    """Takes `FEATURE_NAMES` from a reply, in their order."""
    columns: Mapping[str, slice]
    """View → where its columns are in a reply."""
    versions: slice
    """Where the row views' versions are, then the sequence's."""


def _plan() -> Plan:
    columns = [(view.name, name) for view in VIEWS for name in view.names]
    values = [feature_field(*column) for column in columns]
    versions = [version_field(view.name) for view in (*ROW_VIEWS, SEQUENCE_VIEW)]
    times = [event_time_field(ROW_STATE.name), event_time_field(CONTEXT_VIEW.name)]
    stored = [feature_field(view.name, name) for view in STORED_VIEWS for name in view.names]
    assert len(set(stored)) == len(stored), "two features share a murmur3 field: rename one"
    at = {name: columns.index((view.name, name)) for view in FAMILY_VIEWS for name in view.names}
    first = {view.name: columns.index((view.name, view.names[0])) for view in VIEWS}
    return Plan(
        (*values, *versions, *times),
        itemgetter(*(at[name] for name in FEATURE_NAMES)),
        {view.name: slice(first[view.name], first[view.name] + len(view.names)) for view in VIEWS},
        slice(len(values), len(values) + len(versions)),
    )


PLAN = _plan()
SLOW_FIELDS = tuple(
    field for view in SLOW_VIEWS for field in (
        version_field(view.name), event_time_field(view.name), *(feature_field(view.name, n) for n in view.names))
)
"""What one HMGET of the slow views asks for: of each its version, its event time and its columns."""
VERSION_FIELDS = (event_time_field(ROW_STATE.name), feature_field(ROW_STATE.name, "created"))
CONTEXT_FIELDS = (
    version_field(CONTEXT_VIEW.name), event_time_field(CONTEXT_VIEW.name),
    *(feature_field(CONTEXT_VIEW.name, name) for name in CONTEXT_VIEW.names),
)
"""What one HMGET of the slow view `volatility_context` asks for."""
_FIELDS_OF = {view.name: tuple(feature_field(view.name, name) for name in view.names) for view in STORED_VIEWS}
_WORDS = {view.name: 2 * len(view.columns) for view in STORED_VIEWS}
_ROW_WORDS = [(view.name, _WORDS[view.name]) for view in ROW_VIEWS]


def _heads(*views: tuple[str, int]) -> Heads:
    return Heads(len(views), sum(2 + words for _, words in views), framed(*(word for view in views for word in view)))


_NULL, _DOUBLE = framed(b""), framed(encode(0.0, "double"))
_DOUBLE_START, _DOUBLE_END = _DOUBLE[:-10], struct.Struct("<d2s").pack
_FEATURES = tuple(
    (name, framed(field) + _DOUBLE_START, framed(field) + _NULL)
    for view in FAMILY_VIEWS for name, field in zip(view.names, _FIELDS_OF[view.name], strict=True)
)
"""Each feature's name, the words that go before its value, and those that say it is null."""
_STATE = tuple(
    (column.name, column.kind, framed(field))
    for column, field in zip(ROW_STATE.columns, _FIELDS_OF[ROW_STATE.name], strict=True)
)
_NEWEST, _MINUTES, _OF_COLUMNS = _FIELDS_OF[SEQUENCE_VIEW.name]
_NEWEST_BYTES = 8 * SEQUENCE_SHAPE[1]
_MINUTES_BYTES = _NEWEST_BYTES * (SEQUENCE_SHAPE[0] - 1)


def _start(field: bytes, size: int) -> bytes:
    """The words before so many bytes of a value."""
    return framed(field) + framed(encode(bytes(size), "bytes"))[: -size - 2]


_NEWEST_START = _start(_NEWEST, _NEWEST_BYTES)
_MINUTES_START = framed(_OF_COLUMNS, encode(_COLUMNS, "string")) + _start(_MINUTES, _MINUTES_BYTES)
_OF_ROW, _OF_ROW_AND_NEWEST, _OF_ALL = (
    _heads(*_ROW_WORDS), _heads(*_ROW_WORDS, (SEQUENCE_VIEW.name, 2)), _heads(*_ROW_WORDS, (SEQUENCE_VIEW.name, 6)),
)
_WHOLE = framed(*WHOLE)
_ALL, _FLOAT = frozenset(FEATURE_NAMES), frozenset({float})
_SLOW_VIEWS = {view.zone: view for view in SLOW_VIEWS}


def check_write(write: OnlineWrite, now_ns: int) -> None:
    """Raises `InvalidMessage` for what no row may be, however it was made: see `check_times` and `check_finite`."""
    row = write.row
    if not isinstance(row.symbol, str) or not _is_symbol(row.symbol):
        raise InvalidMessage(f"expected an instrument's id, found {row.symbol!r}")
    check_times(row.symbol, row.ts_event, row.created, now_ns)
    if not row.values.keys() >= _ALL:
        raise InvalidMessage(_lacking(_ALL - row.values.keys()))
    check_finite(row.symbol, row.values)
    check_finite(row.symbol, {"price": row.price})
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
    known = [value for value in values.values() if value is not None]
    if {*map(type, known)} <= _FLOAT and isfinite(sum(known)):
        return  # a third of the time that it takes to name one
    for name, value in values.items():
        if value is not None and (type(value) is not float or not isfinite(value)):
            raise InvalidMessage(f"{symbol}: {name} expected a finite float or null, found {value!r}")


@dataclass(frozen=True)
class Minutes:
    """The part of a sequence that changes once a minute, as it is stored, and its digest."""

    stored: bytes
    digest: bytes

    @classmethod
    def of(cls, stored: bytes) -> Minutes:
        return cls(stored, blake2b(_COLUMNS.encode() + stored, digest_size=16).hexdigest().encode())


def row_words(write: OnlineWrite, minutes: Minutes | None = None) -> Words:
    """What the newest-wins script is told of the views. `minutes` is what Redis is taken to hold of the sequence.

    Raises `InvalidMessage` for a row without every feature or a sequence of another shape.
    """
    row, values = write.row, write.row.values
    try:
        parts = [
            null if (value := values[name]) is None else known + _DOUBLE_END(value, b"\r\n")
            for name, known, null in _FEATURES
        ]
    except KeyError:
        raise InvalidMessage(_lacking(_ALL - values.keys())) from None
    parts += _state_words(vars(row))
    if write.sequence is None:
        return Words(_OF_ROW, _WHOLE, parts, None)
    stored = sequence_bytes(write.sequence)
    before, newest = stored[:_MINUTES_BYTES], stored[_MINUTES_BYTES:]
    parts += (_NEWEST_START, newest, b"\r\n")
    if minutes is not None and minutes.stored == before:
        return Words(_OF_ROW_AND_NEWEST, framed(minutes.digest, 0), parts, minutes)
    minutes = Minutes.of(before)
    parts += (_MINUTES_START, before, b"\r\n")
    return Words(_OF_ALL, framed(minutes.digest, 1), parts, minutes)


def _state_words(row: Mapping[str, Any]) -> Iterator[bytes]:
    for name, kind, field in _STATE:
        value = row[name]
        if kind == "string":
            yield field + _framed_text(value if name != "reasons" else _as_text(*value.items()))
        elif kind == "double":
            yield field + _DOUBLE_START + _DOUBLE_END(value, b"\r\n")
        else:
            yield field + framed(encode(value, kind))


# A symbol's source, session, feature set and, mostly, reasons are those of the row before.
@lru_cache(256)
def _framed_text(text: str) -> bytes:
    return framed(encode(text, "string"))


@lru_cache(256)
def _as_text(*items: tuple[str, str]) -> str:
    return as_text(dict(items))


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

    Raises `UnreadableRow` when the stored fields do not make a feature row of this feature set.
    """
    *versions, of_sequence = reply[PLAN.versions]
    at, context_at = reply[-2:]
    if at is None or len(set(versions)) != 1:
        return None
    try:
        row = FeatureRow(
            symbol=symbol, ts_event=decode_time(at),
            values=dict(zip(FEATURE_NAMES, decode_doubles(PLAN.features(reply)), strict=True)), **_state(reply),
        )
        sequence = _sequence(**_held(SEQUENCE_VIEW, reply)) if _is_of(versions[-1], of_sequence) else None
        context = _held(CONTEXT_VIEW, reply)
        context_at_ns = None if context_at is None else decode_time(context_at)
    except BROKEN as error:
        stored = [(view, reply[PLAN.columns[view.name]]) for view in VIEWS]
        raise _unreadable(symbol, stored, {ROW_STATE.name: at, CONTEXT_VIEW.name: context_at}, error) from error
    return OnlineRow(row, sequence, context, context_at_ns)


def parse_slow(symbol: str, reply: Sequence[bytes | None]) -> dict[str, SlowRow | UnreadableRow | None]:
    """Zone → its row in an HMGET reply for `SLOW_FIELDS`; null where there is none, or what cannot be read of it.

    `created` is what the version keeps of it: whole microseconds, rounded up; 0 of a row without a version. Views are
    written one by one, so one that is torn says nothing against the others: it is given, not raised.
    """
    found: dict[str, SlowRow | UnreadableRow | None] = {}
    rest = iter(reply)
    for view in SLOW_VIEWS:
        told, at = next(rest), next(rest)
        stored = [next(rest) for _ in view.columns]
        try:
            found[str(view.zone)] = None if at is None else _slow_row(symbol, view, (told, at), stored)
        except UnreadableRow as error:
            found[str(view.zone)] = error
    return found


def parse_context(symbol: str, reply: Sequence[bytes | None]) -> OnlineContext | None:
    """`volatility_context` in an HMGET reply for `CONTEXT_FIELDS`; null where there is none. Raises `UnreadableRow`."""
    told, at, *stored = reply
    if at is None:
        return None
    try:
        [value] = decode_doubles(stored)
        return OnlineContext(decode_time(at), _created_of(told), value)
    except BROKEN as error:
        raise _unreadable(symbol, [(CONTEXT_VIEW, stored)], {CONTEXT_VIEW.name: at}, error, told) from error


def _slow_row(
    symbol: str, view: View, times: tuple[bytes | None, bytes], stored: Sequence[bytes | None],
) -> SlowRow:
    told, at = times
    declared = VIEW_OF[str(view.zone)]
    try:
        held = {column.name: decode(data, column.kind) for column, data in zip(view.columns, stored, strict=True)}
        return SlowRow(
            declared.name, symbol, decode_time(at), _created_of(told),
            held[declared.state("source")], held[declared.state("provenance")],
            {name: held[name] for name in declared.names}, _reasons(held[declared.state("reasons")]),
        )
    except BROKEN as error:
        raise _unreadable(symbol, [(view, stored)], {view.name: at}, error, told) from error


def _created_of(told: bytes | None) -> int:
    return int(told.split(b".")[1]) * 1000 if told else 0


def _unreadable(
    symbol: str, stored: Iterable[tuple[View, Sequence[bytes | None]]], times: Mapping[str, bytes | None],
    error: Exception, told: bytes | None = None,
) -> UnreadableRow:
    """Which field of these views is at fault. `told` is the version of the one view, where there is but one."""
    parts = [Part(event_time_field(view).decode(), "a protobuf Timestamp", data, decode_time)
             for view, data in times.items() if data is not None]
    parts += [Part(version_field(view).decode(), "digits of two times", told, _created_of) for view in times if told]
    for view, values in stored:
        for column, data in zip(view.columns, values, strict=True):
            name = f"{view.name}:{column.name}"
            parts.append(Part(name, f"a {column.kind} value", data, partial(decode, kind=column.kind)))
            if column.name.endswith("reasons"):
                parts.append(Part(name, "a JSON object of texts", data, lambda text: _reasons(decode(text, "string"))))
    return blame(f"online row of {symbol}", parts, error)


def parse_version(reply: Sequence[bytes | None]) -> tuple[int, int] | None:
    """(ts_event, created) in ns of an HMGET reply for `VERSION_FIELDS`; null where there is no row.

    Raises `UnreadableRow`.
    """
    at, created = reply
    if at is None or created is None:
        return None
    try:
        return decode_time(at), decode(created, "int64")
    except BROKEN as error:
        raise UnreadableRow("online row", "its times", "a Timestamp and an int64", f"{short(at)} and {short(created)}"
                            ) from error


def _state(reply: Sequence[bytes | None]) -> dict[str, Any]:
    held = _held(ROW_STATE, reply)
    held["reasons"] = _reasons(held["reasons"])
    return held


def _reasons(text: str) -> dict[str, str]:
    found = json.loads(text)
    if not isinstance(found, dict) or not all(isinstance(why, str) for why in found.values()):
        raise ValueError(f"expected a JSON object of texts, found {text[:80]!r}")
    return found


def _held(view: View, reply: Sequence[bytes | None]) -> dict[str, Any]:
    stored = reply[PLAN.columns[view.name]]
    return {column.name: decode(data, column.kind) for column, data in zip(view.columns, stored, strict=True)}


def _is_of(row: bytes | None, sequence: bytes | None) -> bool:
    """Whether a sequence is of the row. One without a digest was written as other columns than are read here."""
    return row is not None and sequence is not None and sequence.startswith(row + b".")


def _sequence(newest: bytes | None, minutes: bytes | None, columns: str | None) -> Floats | None:
    """By the names it was stored under: what wrote it may know other features. A column that it lacks is masked."""
    if newest is None or minutes is None or columns is None:
        return None
    values = minutes + newest
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
    for field, column in zip(_FIELDS_OF[view.name], view.columns, strict=True):
        flat += [field, encode(values[column.name], column.kind)]
    return view.name, flat


def _lacking(names: Iterable[str]) -> str:
    return f"expected every feature of FEATURES, found none of {', '.join(sorted(names))}"
