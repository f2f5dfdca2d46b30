"""Binance aggregate trades kept as one JSON array of the stream's payloads: each aggregate as one trade.

    >>> payload = {"e": "aggTrade", "E": 1604221200091, "s": "BTCUSDT", "a": 7, "p": "13748.62000000",
    ...            "q": "0.00836900", "f": 40, "l": 42, "T": 1604221200090, "m": False, "M": True}
    >>> trade = to_trade(payload, "example")
    >>> trade.trade_id, trade.quantity, trade.ts_event
    (7, 0.008369, 1604221200090000000)

An aggregate joins the fills of one taker order at one price in one instant, so prices, volumes and VWAP of bars are
exact. Its id is the aggregate's (`a`): bars count aggregates, not fills, and give aggregate ids; `fills` tells how
many trades they join.
"""

from __future__ import annotations

import gzip
import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from feature_repo.contracts import InvalidMessage, Trade
from streaming.venues.archive import Archive
from streaming.venues.binance import MILLISECOND_NS


def read(path: Path) -> Archive:
    """One file. Raises `ValueError` when it is no such array."""
    try:
        payloads = json.loads(gzip.decompress(path.read_bytes()))
    except (OSError, EOFError, ValueError, RecursionError) as error:
        raise ValueError(f"{path.name}: expected gzipped JSON, found {error}") from error
    if not isinstance(payloads, list):
        raise ValueError(f"{path.name}: expected an array of aggTrade payloads, found a {type(payloads).__name__}")
    archive = Archive([], refused=Counter())
    by_id: dict[int, Trade] = {}
    fills = 0
    for payload in payloads:
        try:
            trade = to_trade(payload, path.name)
        except InvalidMessage:
            archive.refused["InvalidMessage"] += 1
            continue
        if trade.trade_id in by_id:
            archive.refused["repeated"] += 1
            continue
        by_id[trade.trade_id] = trade
        fills += payload["l"] - payload["f"] + 1
    if not by_id:
        raise ValueError(f"{path.name}: expected aggTrade payloads, found none that can be read")
    trades = [by_id[trade_id] for trade_id in sorted(by_id)]
    return replace(archive, trades=trades, facts={"fills": fills})


def to_trade(payload: Mapping[str, Any], session: str) -> Trade:
    """A payload as our message. Raises `InvalidMessage`."""
    try:
        if payload["e"] != "aggTrade" or payload["l"] < payload["f"]:
            raise ValueError(f"expected an aggTrade of fills f to l, found {payload!r:.200}")
        return Trade(
            symbol=payload["s"], ts_event=payload["T"] * MILLISECOND_NS, ts_init=payload["E"] * MILLISECOND_NS,
            source="recording", session=session[:200], trade_id=payload["a"], price=float(payload["p"]),
            quantity=float(payload["q"]), buyer_is_maker=payload["m"],
        )
    except (KeyError, TypeError, ValueError, ValidationError) as error:
        raise InvalidMessage(f"expected an aggTrade payload: {type(error).__name__}: {error}") from error
