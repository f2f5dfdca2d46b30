"""Unreadable: what of a stored row cannot be read, by name: which field, what was expected there and what was found.

    >>> parts = [Part("price_features:return_1m", "a float", b"x", float)]
    >>> str(blame("online row of BTCUSDT", parts, ValueError("no row")))
    "online row of BTCUSDT: price_features:return_1m expected a float, found b'x'"

Only asked once reading has failed, so that rows that can be read pay nothing for it.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

from pydantic import ValidationError

from feature_repo.contracts import InvalidMessage

BROKEN = (ValidationError, ValueError, TypeError, IndexError, struct.error)
"""What bytes that are no row are told by, wherever they are read."""
MOST_SHOWN = 20
"""Bytes of a field that are written out; a sequence has thousands."""
MOST_SAID = 240
"""Characters of what was said of a row whose fields can each be read."""


class UnreadableRow(InvalidMessage):
    """What a store holds and nobody can read."""

    def __init__(self, row: str, name: str, expected: str, found: str) -> None:
        self.name, self.expected, self.found = name, expected, found
        super().__init__(f"{row}: {name} expected {expected}, found {found}")


class Part(NamedTuple):
    """A field of a row, and what reads it."""

    name: str
    expected: str
    data: Any
    read: Callable[[Any], object]


def blame(row: str, parts: Iterable[Part], error: Exception) -> UnreadableRow:
    """The first part that cannot be read; where each can, what was said of the whole."""
    for part in parts:
        try:
            part.read(part.data)
        except BROKEN:
            return UnreadableRow(row, part.name, part.expected, short(part.data))
    said = " ".join(f"{type(error).__name__}: {error}".split())
    return UnreadableRow(row, "the row", "fields that make a row", said[:MOST_SAID])


def short(data: Any) -> str:
    """Bytes as a person may compare them with what Redis shows.

    >>> short(b"ab"), short(b"ab" * 20)
    ("b'ab'", "b'abababababababababab'… (40 bytes)")
    """
    if isinstance(data, bytes) and len(data) > MOST_SHOWN:
        return f"{data[:MOST_SHOWN]!r}… ({len(data)} bytes)"
    return repr(data)
