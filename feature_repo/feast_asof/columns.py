"""Columns of two worlds made comparable: times as nanoseconds UTC, join keys in one type.

A time without a zone is UTC, as Feast takes it. Integers are no times: whether they are seconds, milliseconds or
nanoseconds is not in the file.
"""

from __future__ import annotations

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from .join import Ints

_UNITS_NS = {"s": 10**9, "ms": 10**6, "us": 1000, "ns": 1}

def instants(column: pa.ChunkedArray, name: str, null: int) -> Ints:
    """A column of times as nanoseconds UTC, `null` where it has none. Raises `ValueError` for what is no time.

    >>> instants(pa.chunked_array([pa.array([1, None], pa.timestamp("us"))]), "t", -1).tolist()
    [1000, -1]
    """
    try:
        nanoseconds = _timestamps(column, name).cast(pa.timestamp("ns", _zone(column.type))).cast(pa.int64())
    except pa.ArrowInvalid as error:
        raise ValueError(f"expected times between 1677 and 2262 in {name!r}, found {error}") from error
    found: Ints = nanoseconds.fill_null(null).to_numpy()
    return found


def comparable(held: pa.ChunkedArray, asked: pa.ChunkedArray, name: str) -> tuple[pa.Array, pa.Array]:
    """A join key of a source and of entity rows, in one type. Raises `ValueError` when they cannot be equal.

    >>> [key.type for key in comparable(pa.chunked_array([[1]]), pa.chunked_array([[1.0, None]]), "id")]
    [DataType(int64), DataType(int64)]
    """
    left, right = plain(held), plain(asked)
    if right.type == left.type:
        return left, right
    if pa.types.is_null(right.type) or pa.types.is_null(left.type):
        kind = left.type if pa.types.is_null(right.type) else right.type
        return left.cast(kind), right.cast(kind)
    if pa.types.is_int64(left.type) and pa.types.is_float64(right.type):
        return left, _whole_numbers(right)
    if pa.types.is_float64(left.type) and pa.types.is_int64(right.type):
        return _whole_numbers(left), right
    if _family(left.type) and _family(left.type) == _family(right.type):
        return _finest(left, right)
    raise ValueError(
        f"expected the join key {name!r} as {held.type}, as its source has it, found {asked.type} in the entity rows; "
        "convert the entity rows' column",
    )


def plain(column: pa.ChunkedArray) -> pa.Array:
    """One array of the widest type of its family, so that equal values are equal."""
    array = column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column
    if pa.types.is_dictionary(array.type):
        array = array.dictionary_decode()
    kind = array.type
    if pa.types.is_integer(kind) and not pa.types.is_uint64(kind):
        return array.cast(pa.int64())
    if pa.types.is_floating(kind):
        return array.cast(pa.float64())
    if pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind):
        return array.cast(pa.large_string())
    return array


def _timestamps(column: pa.ChunkedArray, name: str) -> pa.ChunkedArray:
    if pa.types.is_timestamp(column.type):
        return column
    if pa.types.is_date(column.type) or pa.types.is_null(column.type):
        return column.cast(pa.timestamp("ms"))
    if pa.types.is_string(column.type) or pa.types.is_large_string(column.type):
        times = pd.to_datetime(column.to_pandas(), utc=True, format="ISO8601")
        return pa.chunked_array([pa.Array.from_pandas(times)])
    raise ValueError(f"expected times in {name!r}, found {column.type}; write the column as a timestamp")


def _zone(kind: pa.DataType) -> str | None:
    if pa.types.is_timestamp(kind):
        return kind.tz  # type: ignore[no-any-return]
    return "UTC" if pa.types.is_string(kind) or pa.types.is_large_string(kind) else None


def _family(kind: pa.DataType) -> str:
    """What times a type holds; empty for what is none. Those of one family can be equal."""
    if pa.types.is_timestamp(kind) or pa.types.is_date(kind):
        return "instant"
    if pa.types.is_time(kind):
        return "time of day"
    return "duration" if pa.types.is_duration(kind) else ""


def _finest(left: pa.Array, right: pa.Array) -> tuple[pa.Array, pa.Array]:
    """Times of one family as counts of the finer of their units, null where that unit does not reach."""
    (counts, unit), (others, other) = _counted(left), _counted(right)
    return _times(counts, unit // min(unit, other)), _times(others, other // min(unit, other))


def _counted(column: pa.Array) -> tuple[pa.Array, int]:
    """Times as integers, and nanoseconds of one."""
    if pa.types.is_date(column.type):
        column = column.cast(pa.timestamp("s" if pa.types.is_date32(column.type) else "ms"))
    elif pa.types.is_time(column.type):
        column = column.cast(pa.time64("ns"))
    return column.cast(pa.int64()), _UNITS_NS[column.type.unit]


def _times(counts: pa.Array, factor: int) -> pa.Array:
    most = (2**63 - 1) // factor
    reached = pc.and_(pc.greater_equal(counts, -most), pc.less_equal(counts, most))
    return pc.multiply(pc.if_else(reached, counts, None), factor)


def _whole_numbers(column: pa.Array) -> pa.Array:
    """Floats as integers, null where they are none: pandas makes integers with a hole into floats."""
    numbers = column.to_numpy(zero_copy_only=False)
    whole = (numbers >= -(2**63)) & (numbers < 2**63) & (numbers == np.floor(numbers))
    return pa.array(np.where(whole, numbers, 0).astype(np.int64), mask=~whole)


def lossless(table: pa.Table) -> pd.DataFrame:
    """A table as pandas; integers beside nulls stay Python integers where a float could not hold them.

    >>> lossless(pa.table({"big": [2**53 + 1, None], "small": [1, None]})).dtypes.astype(str).tolist()
    ['object', 'float64']
    """
    frame: pd.DataFrame = table.to_pandas().reset_index(drop=True)
    for field in table.schema:
        column = table[field.name]
        if pa.types.is_integer(field.type) and column.null_count and _is_large(column):
            frame[field.name] = column.to_pandas(integer_object_nulls=True).to_numpy()
    return frame


def _is_large(column: pa.ChunkedArray) -> bool:
    ends = pc.min_max(column).as_py()
    return ends["max"] is not None and max(-ends["min"], ends["max"]) > 2**53
