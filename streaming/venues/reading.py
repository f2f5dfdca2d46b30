"""Reading: one value of a slow series as a provider's answer tells it, and how strictly an answer is read.

    >>> decimal("0.00010000", "fundingRate")
    0.0001
    >>> decimal("n/a", "fundingRate")
    Traceback (most recent call last):
    feature_repo.contracts.InvalidMessage: fundingRate: expected a decimal number, found 'n/a'
"""

from __future__ import annotations

import json
import math
import re
from typing import Any, NamedTuple

from feature_repo.contracts import InvalidMessage

_is_decimal = re.compile(r"[+-]?\d+(\.\d+)?([eE][+-]?\d+)?").fullmatch


class Reading(NamedTuple):
    """A value and the moment, ns UTC, that it describes."""

    ts_event: int
    value: float


def parsed(body: bytes, what: str) -> Any:
    """The JSON of an answer. Raises `InvalidMessage` for a truncated one, or a page that answers in its place."""
    try:
        return json.loads(body, parse_constant=_refuse)
    except ValueError as error:
        raise InvalidMessage(f"{what}: expected JSON, found {body[:80]!r}: {error}") from error


def entry(value: Any, name: str, kind: type | tuple[type, ...]) -> Any:
    """A field of an object, of that kind exactly. Raises `InvalidMessage`; other fields are ignored."""
    found = value.get(name) if isinstance(value, dict) else None
    kinds = kind if isinstance(kind, tuple) else (kind,)
    if type(found) not in kinds:
        raise InvalidMessage(f"{name}: expected {' or '.join(k.__name__ for k in kinds)}, found {found!s:.60}")
    return found


def decimal(text: Any, name: str) -> float:
    """A number that is told as text. Raises `InvalidMessage` for anything else, infinities too."""
    if not isinstance(text, str) or not _is_decimal(text) or not math.isfinite(float(text)):
        raise InvalidMessage(f"{name}: expected a decimal number, found {text!r:.60}")
    return float(text)


def whole(text: Any, name: str) -> int:
    """A whole number of 0 or more, told as text. Raises `InvalidMessage`."""
    if not isinstance(text, str) or not text.isdecimal():
        raise InvalidMessage(f"{name}: expected a whole number, found {text!r:.60}")
    return int(text)


def _refuse(name: str) -> float:
    raise ValueError(f"{name} is no number")
