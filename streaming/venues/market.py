"""Market: what ingest must know of one venue's market, by the instrument's canonical id.

    >>> market_of("BTCUSDT").name, market_of("BTCUSDT-PERP.BINANCE").word("BTCUSDT-PERP.BINANCE")
    ('spot', 'BTCUSDT')
    >>> one_market(["BTCUSDT", "BTCUSDT-PERP.BINANCE"])
    Traceback (most recent call last):
    ValueError: symbols: expected instruments of one market, found spot and usdm; run an ingest for each
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from feature_repo.settings import Settings
from streaming.order_book import SPOT as SPOT_RULE
from streaming.order_book import USDM as USDM_RULE
from streaming.order_book import BookRule
from streaming.venues import binance, binance_usdm


@dataclass(frozen=True)
class Market:
    """One venue's market: its words, its rules and where it answers."""

    name: str
    decoder: Callable[[], binance.Decoder]
    rule: BookRule
    """How its diffs continue a book."""
    word: Callable[[str], str]
    """Our instrument id → the venue's name of it. Raises `ValueError` for another market's."""
    canonical: Callable[[str], str]
    """The way back. Raises `ValueError` for what has no id here."""
    route: str
    """Path before `/stream` on which trade, depth and bookTicker come."""
    rest: str
    """Path before the REST endpoints' names."""
    depth_limit: int
    """Most levels a side that the REST book has."""
    depth_weight: int
    weight_budget: int
    """Of the weight that an address may use in a minute: the rest is for whoever else shares it."""
    tells_seconds: bool
    """Whether it has klines of one second."""
    tells_trades: bool
    """Whether it tells every trade by its id, however old."""
    lists_one: bool
    """Whether its list of instruments can be asked for one."""

    def hosts(self, settings: Settings) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """WebSocket and REST hosts, each tried in order."""
        if self.name == "usdm":
            return settings.venue_usdm_ws, settings.venue_usdm_rest
        return settings.venue_ws, settings.venue_rest


SPOT = Market(
    "spot", binance.Decoder, SPOT_RULE, binance.venue_word, binance.canonical, "", "/api/v3", 5_000, 250, 4_800,
    tells_seconds=True, tells_trades=True, lists_one=True)
USDM = Market(
    "usdm", binance_usdm.Decoder, USDM_RULE, binance_usdm.venue_word, binance_usdm.canonical, "/public", "/fapi/v1",
    1_000, 20, 1_900, tells_seconds=False, tells_trades=False, lists_one=False)


def market_of(symbol: str) -> Market:
    """The market of an instrument."""
    return USDM if symbol.endswith(binance_usdm.SUFFIX) else SPOT


def one_market(symbols: Iterable[str]) -> Market:
    """The market of all these instruments; spot for none. Raises `ValueError` when they are of several."""
    found = {market.name: market for market in map(market_of, symbols)}
    if len(found) > 1:
        names = " and ".join(sorted(found))
        raise ValueError(f"symbols: expected instruments of one market, found {names}; run an ingest for each")
    return next(iter(found.values()), SPOT)
