"""Tickers: the newest price, best quotes and the last 24 hours of a symbol, as the venue's REST tells them.

    price_ticker(market.symbols["BTCUSDT"], market.moment())       # {"symbol": "BTCUSDT", "price": "61837.63000000"}

The 24 hours are those of the minute klines that the exchange serves, so a client that adds them up finds the same. Ids
of trades before the first lap are not known: `firstId` is −1, as the venue says of a day without trades.
"""

from __future__ import annotations

from typing import Any

from streaming.exchange_clock import Moment
from streaming.exchange_klines import MINUTE_MS, BarRows
from streaming.exchange_market import SymbolMarket
from streaming.tape import MS, Scale

MINUTES_A_DAY = 1_440
AVERAGE_MINUTES = 5


def price_ticker(symbol: SymbolMarket, moment: Moment) -> dict[str, Any]:
    """`ticker/price`."""
    return {"symbol": symbol.symbol, "price": symbol.scale.price_text(_last(symbol, moment)[0])}


def book_ticker(symbol: SymbolMarket, moment: Moment) -> dict[str, Any]:
    """`ticker/bookTicker`."""
    book, scale = symbol.book.at(moment.lap, moment.position), symbol.scale
    bid, ask = max(book.bids), min(book.asks)
    return {
        "symbol": symbol.symbol, "bidPrice": scale.price_text(bid), "bidQty": scale.quantity_text(book.bids[bid]),
        "askPrice": scale.price_text(ask), "askQty": scale.quantity_text(book.asks[ask]),
    }


def average_price(symbol: SymbolMarket, moment: Moment) -> dict[str, Any]:
    """`avgPrice`: weighted by volume, over the minutes that begin in the last five."""
    bars = _minutes(symbol, moment, AVERAGE_MINUTES)
    return {"mins": AVERAGE_MINUTES, "price": _weighted(bars, symbol.scale), "closeTime": moment.venue_ns // MS}


def day_ticker(symbol: SymbolMarket, moment: Moment) -> dict[str, Any]:
    """`ticker/24hr`."""
    bars, scale = _minutes(symbol, moment, MINUTES_A_DAY), symbol.scale
    price, quantity, last_id = _last(symbol, moment)
    opened = int(bars.open[0])
    quotes = book_ticker(symbol, moment)
    return {
        "symbol": symbol.symbol, "priceChange": _signed(price - opened, scale),
        "priceChangePercent": f"{100 * (price - opened) / opened:.3f}", "weightedAvgPrice": _weighted(bars, scale),
        "prevClosePrice": scale.price_text(opened), "lastPrice": scale.price_text(price),
        "lastQty": scale.quantity_text(quantity), **{name: quotes[name] for name in quotes if name != "symbol"},
        "openPrice": scale.price_text(opened), "highPrice": scale.price_text(int(bars.high.max())),
        "lowPrice": scale.price_text(int(bars.low.min())), "volume": scale.quantity_text(int(bars.volume.sum())),
        "quoteVolume": scale.quote_text(int(bars.quote.sum())), "openTime": int(bars.open_ms[0]),
        "closeTime": moment.venue_ns // MS, "firstId": -1, "lastId": last_id, "count": int(bars.trades.sum()),
    }


def _minutes(symbol: SymbolMarket, moment: Moment, count: int) -> BarRows:
    """The newest minutes, the open one among them."""
    return symbol.klines.rows(MINUTE_MS, None, None, count, moment)


def _last(symbol: SymbolMarket, moment: Moment) -> tuple[int, int, int]:
    """Price, quantity and id of the newest trade."""
    rows = symbol.trades.newest(1, moment)
    return int(rows.ticks[-1]), int(rows.steps[-1]), int(rows.ids[-1])


def _weighted(bars: BarRows, scale: Scale) -> str:
    volume = int(bars.volume.sum())
    return scale.price_text(round(int(bars.quote.sum()) / volume) if volume else int(bars.close[-1]))


def _signed(ticks: int, scale: Scale) -> str:
    return f"-{scale.price_text(-ticks)}" if ticks < 0 else scale.price_text(ticks)
