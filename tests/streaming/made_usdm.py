"""Made USD-M frames: a simulated spot market, told in the words of the futures."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from decimal import Decimal
from typing import Any

from streaming.recording import Line

STRIDE = 7
"""Update ids of one symbol lie so far apart: those between are other symbols'."""


def usdm_lines(spot: Iterable[Line]) -> Iterator[Line]:
    """Spot frames and snapshots as USD-M ones; nothing but the words and ids changes."""
    previous = None
    for line in spot:
        body = json.loads(line.text)
        if "lastUpdateId" in body:
            at = line.receive_ns // 1_000_000
            body = {"lastUpdateId": body["lastUpdateId"] * STRIDE, "E": at, "T": at, **_sides(body, "bids", "asks")}
        elif body["stream"].endswith("@depth@100ms"):
            body, previous = _depth(body, previous)
        else:
            body["data"] = _other(body["data"], line.receive_ns // 1_000_000)
        yield Line(line.receive_ns, json.dumps(body, separators=(",", ":")))


def _depth(body: dict[str, Any], previous: int | None) -> tuple[dict[str, Any], int]:
    data = body["data"]
    first, last = data["U"] * STRIDE, data["u"] * STRIDE
    changed = {"e": "depthUpdate", "E": data["E"], "T": data["E"] - 1, "s": data["s"], "U": first, "u": last,
               "pu": (data["U"] - 1) * STRIDE if previous is None else previous, **_sides(data, "b", "a")}
    return {"stream": body["stream"].replace("100ms", "0ms"), "data": changed}, last


def _other(data: dict[str, Any], now_ms: int) -> dict[str, Any]:
    if data.get("e") == "trade":
        kept = {name: data[name] for name in ("e", "E", "T", "s", "t")}
        return kept | {"p": price(data["p"]), "q": quantity(data["q"]), "X": "MARKET", "m": data["m"]}
    quotes = {name: price(data[name]) if name in "ba" else quantity(data[name]) for name in ("b", "B", "a", "A")}
    return {"e": "bookTicker", "u": data["u"] * STRIDE, "s": data["s"], **quotes, "T": now_ms, "E": now_ms}


def _sides(body: dict[str, Any], *names: str) -> dict[str, Any]:
    return {name: [[price(level[0]), quantity(level[1])] for level in body[name]] for name in names}


def price(text: str) -> str:
    """A spot price as USD-M writes it: with the contract's own decimals."""
    return f"{Decimal(text):.2f}"


def quantity(text: str) -> str:
    return f"{Decimal(text):.5f}"
