"""Binance USD-M futures on the wire: the spot frames' cousins, under canonical ids like `BTCUSDT-PERP.BINANCE`.

    >>> frame = Decoder().frame('{"stream":"btcusdt@depth@0ms","data":{"e":"depthUpdate","E":1700000000002,'
    ...                         '"T":1700000000001,"s":"BTCUSDT","U":20,"u":29,"pu":11,"b":[["61800.20","0"]],"a":[]}}')
    >>> frame.symbol, frame.first_id, frame.last_id, frame.previous_id
    ('BTCUSDT-PERP.BINANCE', 20, 29, 11)

What differs from spot: update ids are one count for all symbols, so a diff names the one before it (`pu`);
`bookTicker` has event times; a trade says what it was (`X`), and only those of the market make bars, as in the
venue's own klines. Routes: `/public` for trade, depth and bookTicker; the unrouted paths stay silent.
https://developers.binance.com/docs/derivatives/usds-margined-futures/websocket-market-streams
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar

from feature_repo.contracts import InvalidMessage
from streaming.venues import binance
from streaming.venues.binance import DepthFrame, MarketFrame, Stream, TradeFrame

SUFFIX = "-PERP.BINANCE"
MARKET = "MARKET"
KNOWN: Mapping[Stream, frozenset[str]] = {
    "trade": frozenset("eETstpqmX") | {"st"},
    "depth": frozenset("eETsUuba") | {"pu", "st"},
    "bookTicker": frozenset("eETsubBaA") | {"st"},
}


@dataclass
class Decoder(binance.Decoder):
    """Text of the socket → frames of perpetual contracts."""

    known: ClassVar[Mapping[Stream, frozenset[str]]] = KNOWN

    def read(self, stream: str, data: dict[str, Any]) -> MarketFrame:
        if stream == "trade" and "X" in data and data["X"] != MARKET:
            # A fill that is no trade of the market may be of nothing at no price; only its id and time matter.
            return TradeFrame(
                binance.canonical(data["s"]), _whole(data, "t"), "0", "0", _whole(data, "T"), data.get("m") is True)
        return super().read(stream, data)

    def own(self, frame: MarketFrame, data: dict[str, Any]) -> MarketFrame:
        """The frame under its canonical id. Raises `InvalidMessage` for a spot one, which lacks what is a future's."""
        symbol = canonical(frame.symbol)
        if isinstance(frame, TradeFrame):
            return replace(frame, symbol=symbol, counts=_kind(data) == MARKET)
        if isinstance(frame, DepthFrame):
            return replace(frame, symbol=symbol, previous_id=_whole(data, "pu"))
        return replace(frame, symbol=symbol, time_ms=_whole(data, "E"))


def is_futures(text: str) -> bool:
    """Whether a combined-stream frame is a future's: spot has none of these fields.

    >>> is_futures('{"stream":"btcusdt@trade","data":{"e":"trade","X":"MARKET"}}')
    True
    """
    return '"pu":' in text or '"X":' in text or '"e":"bookTicker"' in text


def canonical(word: str) -> str:
    """Our id of a perpetual contract, from the venue's word for it. Raises `ValueError` for a dated one.

    >>> canonical("BTCUSDT"), venue_word("BTCUSDT-PERP.BINANCE")
    ('BTCUSDT-PERP.BINANCE', 'BTCUSDT')
    """
    return binance.canonical(word) + SUFFIX


def venue_word(symbol: str) -> str:
    """The venue's word for one of our ids. Raises `ValueError` for an id of another venue or market."""
    if not symbol.endswith(SUFFIX):
        raise ValueError(f"expected a perpetual contract (…{SUFFIX}), found {symbol!r:.60}")
    return binance.canonical(symbol.removesuffix(SUFFIX))


def _kind(data: Mapping[str, Any]) -> str:
    kind = data.get("X")
    if not isinstance(kind, str):
        raise InvalidMessage(f"expected a USD-M trade, whose `X` says what it was; found {kind!r}")
    return kind


def _whole(data: Mapping[str, Any], name: str) -> int:
    value = data.get(name)
    if type(value) is not int or value < 0:
        raise InvalidMessage(f"expected a USD-M frame with a whole `{name}`, found {value!r}")
    return value
