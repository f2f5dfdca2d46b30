"""Mutations: a frame as a broken or hostile venue might send it; pure functions of its text.

    >>> MUTATIONS["zero_price"]('{"stream":"btcusdt@trade","data":{"e":"trade","p":"5.0"}}')
    '{"stream":"btcusdt@trade","data":{"e":"trade","p":"0.00000000"}}'

Each takes a frame of a raw or a combined stream. A bookTicker has no event time: what changes times leaves it alone.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any

Payload = str | bytes
"""What is sent as a text frame; bytes need not be UTF-8."""
TIMES = ("E", "T")
MEGABYTE = 2**20
NESTED = 100_000
DIGITS = "1234567890" * 4


def shifted(text: str, shift_ms: int) -> str:
    """Event times moved."""
    return _changed(text, lambda data: data.update({name: data[name] + shift_ms for name in TIMES if name in data}))


def _changed(text: str, change: Callable[[dict[str, Any]], object]) -> str:
    body = json.loads(text)
    change(body.get("data", body))
    return json.dumps(body, separators=(",", ":"), ensure_ascii=False)


def _microseconds(text: str) -> str:
    return _changed(text, lambda data: data.update({name: data[name] * 1_000 for name in TIMES if name in data}))


def _priced(price: Callable[[str], str]) -> Callable[[str], str]:
    """Another price: of the trade, of the best quote, or of a level of the diff (its first, or a new one)."""

    def change(data: dict[str, Any]) -> None:
        if "p" in data:
            data["p"] = price(data["p"])
        elif not isinstance(data["b"], list):
            data["b"] = price(data["b"])
        else:
            first, *others = data["b"] or [["1.00000000", "1.00000000"]]
            data["b"] = [[price(first[0]), first[1]], *others]

    return lambda text: _changed(text, change)


def _crossed(text: str) -> str:
    """A bid above every ask: a level of the diff, or the best bid of a bookTicker. A trade stays as it is."""

    def change(data: dict[str, Any]) -> None:
        if isinstance(data.get("b"), list):
            data["b"] = [["1000000000.00000000", "1.00000000"], *data["b"]]
        elif "b" in data:
            data["b"], data["a"] = data["a"], data["b"]

    return _changed(text, change)


def _not_utf8(text: str) -> bytes:
    middle = len(text) // 2
    return text[:middle].encode() + b"\xff\xfe\x80" + text[middle:].encode()


def _nested(text: str) -> str:
    head, _, _ = text.partition('"data":')
    return f'{head}"data":{"[" * NESTED}{"]" * NESTED}}}'


MUTATIONS: Mapping[str, Callable[[str], Payload]] = {
    "unit_flip": _microseconds,
    "clock_jump": lambda text: shifted(text, 3_600_000),
    "crossed_book": _crossed,
    "zero_price": _priced(lambda _: "0.00000000"),
    "nan_text": _priced(lambda _: "NaN"),
    "long_decimals": _priced(lambda price: f"{price.partition('.')[0]}.{DIGITS}"),
    "truncated": lambda text: text[: len(text) // 2],
    "not_utf8": _not_utf8,
    "huge_frame": lambda text: _changed(text, lambda data: data.update(padding="x" * MEGABYTE)),
    "deep_nesting": _nested,
    "unknown_fields": lambda text: _changed(text, lambda data: data.update(zz=1, zy={"new": [1, {}]})),
    "wrong_symbol": lambda text: _changed(text, lambda data: data.update(s="WRONGUSDT")),
}
"""Name of the fault → the frame that is sent."""
