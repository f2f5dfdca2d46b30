"""Redis layout: Feast's own bytes for keys, fields and values, made without importing Feast.

    >>> entity_key("bitcoin_trading", "symbol", "BTCUSDT")[-22:]
    b'BTCUSDTbitcoin_trading'
    >>> decode(encode(1.5, "double"), "double")
    1.5

One hash per entity: the key is the serialised entity (version 3) and the project, a feature's field is the
murmur3 hash of `view:feature`, its value a `feast.types.Value`; `_ts:<view>` is the event time. What compares and
writes is `newest_wins.script`, the same for us and for Feast's own ways in.
Source: Feast's docs/specs/online_store_format.md; a test holds each function against Feast's own.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable
from functools import cache
from typing import Any

import mmh3

from feature_repo.newest_wins.script import event_time_field, version, version_field
from feature_repo.views import Kind

__all__ = [
    "decode", "decode_doubles", "decode_time", "encode", "encode_time", "entity_key", "event_time_field",
    "feature_field", "framed", "mirror_key", "packed", "shown", "version", "version_field",
]

_STRING = 2
"""`feast.types.ValueType.STRING`."""
_TAGS: dict[Kind, bytes] = {"bytes": b"\x0a", "string": b"\x12", "int64": b"\x20", "double": b"\x29"}
_DOUBLE = struct.Struct("<cd")
_WORDS_64 = 1 << 64
_PRINTED = range(32, 127)


def entity_key(project: str, join_key: str, value: str) -> bytes:
    """Key of the hash of an entity with one string join key."""
    name, text = join_key.encode(), value.encode()
    return b"".join((
        struct.pack("<III", 1, _STRING, len(name)), name, struct.pack("<II", _STRING, len(text)), text,
        project.encode(),
    ))


@cache
def feature_field(view: str, feature: str) -> bytes:
    """Field of a feature in the entity's hash: 4 bytes, little-endian murmur3_32."""
    return struct.pack("<I", mmh3.hash(f"{view}:{feature}", signed=False))


def mirror_key(symbol: str, window: str, namespace: str = "") -> str:
    """
    >>> mirror_key("BTCUSDT", "5m"), mirror_key("BTCUSDT", "5m", "tuesday")
    ('features:BTCUSDT:5m', 'replay:tuesday:features:BTCUSDT:5m')
    """
    return f"{f'replay:{namespace}:' if namespace else ''}features:{symbol}:{window}"


def shown(key: bytes) -> str:
    r"""A key as `redis-cli` takes it.

    >>> print(shown(b'\x03\x00"BTCUSDT'))
    "\x03\x00\"BTCUSDT"
    """
    plain = {ord('"'): '\\"', ord("\\"): "\\\\"}
    told = [plain.get(byte) or (chr(byte) if byte in _PRINTED else f"\\x{byte:02x}") for byte in key]
    return '"' + "".join(told) + '"'


def framed(*words: bytes | str | int) -> bytes:
    """Words of a command as they go over the wire.

    >>> framed(b"key", 7)
    b'$3\\r\\nkey\\r\\n$1\\r\\n7\\r\\n'
    """
    plain = [word if isinstance(word, bytes) else str(word).encode() for word in words]
    return b"".join([b"$%d\r\n%b\r\n" % (len(word), word) for word in plain])


def packed(*words: bytes | str | int) -> bytes:
    """A command as it goes over the wire.

    >>> packed("GET", "key")
    b'*2\\r\\n$3\\r\\nGET\\r\\n$3\\r\\nkey\\r\\n'
    """
    return b"*%d\r\n" % len(words) + framed(*words)


def encode(value: Any, kind: Kind) -> bytes:
    """A `feast.types.Value`; null is the empty message."""
    if value is None:
        return b""
    if kind == "double":
        return _DOUBLE.pack(_TAGS["double"], value)
    if kind == "int64":
        return _TAGS["int64"] + _varint(value % _WORDS_64)
    body = value.encode() if kind == "string" else bytes(value)
    return _TAGS[kind] + _varint(len(body)) + body


def decode(data: bytes | None, kind: Kind) -> Any:
    """The value of `encode`; null for a field that is absent or empty. Raises `ValueError` for another type."""
    if not data:
        return None
    if data[:1] != _TAGS[kind]:
        raise ValueError(_another(kind, data))
    if kind == "double":
        return _DOUBLE.unpack(data)[1]
    number, start = _read_varint(data, 1)
    if kind == "int64":
        return number - _WORDS_64 if number >= _WORDS_64 // 2 else number
    return data[start : start + number].decode() if kind == "string" else data[start : start + number]


def decode_doubles(data: Iterable[bytes | None]) -> list[float | None]:
    """`decode` of many doubles, in a third of the time. Raises `ValueError` for another type."""
    tag, unpack = _TAGS["double"], _DOUBLE.unpack
    values: list[float | None] = []
    for item in data:
        if not item:
            values.append(None)
        elif item[:1] == tag:
            values.append(unpack(item)[1])
        else:
            raise ValueError(_another("double", item))
    return values


def encode_time(at_us: int) -> bytes:
    """A `google.protobuf.Timestamp` from microseconds since the epoch; Feast keeps no finer time."""
    seconds, micros = divmod(at_us, 1_000_000)
    out = (b"\x08" + _varint(seconds)) if seconds else b""
    return out + (b"\x10" + _varint(micros * 1000) if micros else b"")


def decode_time(data: bytes) -> int:
    """Nanoseconds since the epoch of an `encode_time`."""
    parts, at = {1: 0, 2: 0}, 0
    while at < len(data):
        field = data[at] >> 3
        parts[field], at = _read_varint(data, at + 1)
    return parts[1] * 1_000_000_000 + parts[2]


def _another(kind: Kind, data: bytes) -> str:
    return f"expected a {kind} value (tag {_TAGS[kind].hex()}), found tag {data[:1].hex()}"


def _varint(number: int) -> bytes:
    out = bytearray()
    while number > 0x7F:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    out.append(number)
    return bytes(out)


def _read_varint(data: bytes, at: int) -> tuple[int, int]:
    number, shift = 0, 0
    while data[at] & 0x80:
        number |= (data[at] & 0x7F) << shift
        at, shift = at + 1, shift + 7
    return number | data[at] << shift, at + 1
