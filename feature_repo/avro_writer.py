"""Avro writer: a message's body, written by functions that are put together once from its schema.

    >>> write = writer({"type": "record", "name": "Level", "fields": [
    ...     {"name": "price", "type": "double"}, {"name": "orders", "type": ["null", "long"]}]})
    >>> from types import SimpleNamespace as Level
    >>> write(Level(price=0.5, orders=7)).hex(), write(Level(price=0.5, orders=None)).hex()
    ('000000000000e03f020e', '000000000000e03f00')

A general library looks for the branch of every union by validating its value, which takes most of its time; here a
union is null or one other type, and the values are a valid message's. Types that no message has are refused when the
writer is made. https://avro.apache.org/docs/1.12.0/specification/#data-serialization-and-deserialization
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Mapping
from functools import lru_cache
from operator import attrgetter
from typing import Any

Write = Callable[[Any], bytes]
Named = dict[str, Write]
"""The writers of plain types, and of the records already met: Avro spells a record out once."""
_NULLABLE_DOUBLE = struct.Struct("<bd").pack
_KEPT = 1_024
"""Numbers and texts whose bytes are kept: a second's times and names are written again in each of its messages."""


def writer(schema: Any) -> Write:
    """The writer of values of a schema. Raises `ValueError` for a type that is none of the messages'."""
    return _writer(schema, dict(_PLAIN))


def _writer(schema: Any, named: Named) -> Write:
    if isinstance(schema, Mapping) and schema["type"] in _COMPLEX:
        return _COMPLEX[schema["type"]](schema, named)
    if isinstance(schema, list):
        return _nullable(schema, named)
    if not isinstance(schema, str) or schema not in named:
        raise ValueError(f"expected one of {', '.join((*named, *_COMPLEX))}, found {schema!r}")
    return named[schema]


@lru_cache(_KEPT)
def _long(number: int) -> bytes:
    left, digits = (number << 1) ^ (number >> 63), bytearray()
    while left > 0x7F:
        digits.append(left & 0x7F | 0x80)
        left >>= 7
    digits.append(left)
    return bytes(digits)


@lru_cache(_KEPT)
def _text(text: str) -> bytes:
    return _bytes(text.encode())


def _bytes(body: bytes) -> bytes:
    return _long(len(body)) + body


def _flag(flag: bool) -> bytes:
    return b"\1" if flag else b"\0"


def _nullable(schema: list[Any], named: Named) -> Write:
    if len(schema) != 2 or schema[0] != "null":
        raise ValueError(f"expected a union of null and one type, found {schema!r}")
    if schema[1] == "double":
        return lambda number: b"\0" if number is None else _NULLABLE_DOUBLE(2, number)
    write = _writer(schema[1], named)
    return lambda value: b"\0" if value is None else b"\2" + write(value)


def _record(schema: Mapping[str, Any], named: Named) -> Write:
    names = [field["name"] for field in schema["fields"]]
    writers = [_writer(field["type"], named) for field in schema["fields"]]
    values = attrgetter(*names) if len(names) > 1 else lambda record: (getattr(record, names[0]),)

    def write(record: Any) -> bytes:
        return b"".join([each(value) for each, value in zip(writers, values(record), strict=True)])

    named[f"{schema.get('namespace')}.{schema['name']}"] = write
    return write


def _array(schema: Mapping[str, Any], named: Named) -> Write:
    write = _writer(schema["items"], named)
    return lambda items: _block(len(items), b"".join(map(write, items)))


def _map(schema: Mapping[str, Any], named: Named) -> Write:
    write = _writer(schema["values"], named)
    return lambda items: _block(len(items), b"".join([_text(key) + write(value) for key, value in items.items()]))


def _block(count: int, items: bytes) -> bytes:
    return b"%b%b\0" % (_long(count), items) if count else b"\0"


_PLAIN: Mapping[str, Write] = {
    "long": _long, "double": struct.Struct("<d").pack, "boolean": _flag, "string": _text, "bytes": _bytes,
}
_COMPLEX: Mapping[str, Callable[[Mapping[str, Any], Named], Write]] = {"record": _record, "array": _array, "map": _map}
