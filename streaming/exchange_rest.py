"""REST of the local exchange: the venue's public market endpoints, shapes, error bodies, weights and limits.

Source of the rules: Binance spot REST API documentation (market data endpoints, error codes, limits).
"""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web

from feature_repo.contracts import SECOND_NS
from streaming.exchange_clock import Moment
from streaming.exchange_faults import ServerFaults
from streaming.exchange_klines import INTERVALS_MS, BarRows
from streaming.exchange_market import Market, SymbolMarket
from streaming.exchange_tickers import average_price, book_ticker, day_ticker, price_ticker
from streaming.exchange_trades import Aggregates, TradeRows
from streaming.tape import MS, Scale

WEIGHT_LIMIT = 6_000
WEIGHT_HEADER = "x-mbx-used-weight-1m"
SYMBOL_PATTERN = r"^[A-Z0-9-_.]{1,20}$"
NUMBER_PATTERN = r"^[0-9]{1,20}$"
DEPTH_WEIGHTS = ((100, 5), (500, 25), (1_000, 50), (5_000, 250))
TICKER_NAMES = ("symbol", "symbols")
Query = Mapping[str, str]


class Refused(Exception):
    """An error of the venue's own: HTTP status, code and message."""

    def __init__(self, code: int, message: str, status: int = 400, retry_after_s: int | None = None) -> None:
        super().__init__(message)
        self.status, self.retry_after_s = status, retry_after_s
        self.body = {"code": code, "msg": message}


@dataclass
class Weights:
    """Request weight used in the minute that runs, over all clients (one machine is one address)."""

    wall_ns: Callable[[], int]
    limit: int = WEIGHT_LIMIT
    used: int = 0
    minute: int = field(default=-1)

    def spend(self, weight: int) -> None:
        """Raises `Refused` (429) beyond the limit."""
        minute = self.wall_ns() // (60 * SECOND_NS)
        if minute != self.minute:
            self.minute, self.used = minute, 0
        self.used += weight
        if self.used > self.limit:
            raise Refused(-1003, f"Too much request weight used; current limit is {self.limit} request weight per 1 "
                          "MINUTE. Please use WebSocket Streams for live updates to avoid polling the API.", 429)

    def retry_after_s(self) -> int:
        return 60 - self.wall_ns() // SECOND_NS % 60


@dataclass(frozen=True)
class Endpoint:
    """How one path is answered, what parameters it reads, what it weighs."""

    answer: Callable[[Query], Any]
    parameters: tuple[str, ...] = ()
    weight: Callable[[Query], int] = lambda _: 1


class Rest:
    """The endpoints of one market."""

    prefix = "/api/v3"
    weight_limit = WEIGHT_LIMIT

    def __init__(self, market: Market, wall_ns: Callable[[], int], faults: ServerFaults | None = None) -> None:
        self._market = market
        self._weights = Weights(wall_ns, self.weight_limit)
        self._faults = faults or ServerFaults()

    def endpoints(self) -> dict[str, Endpoint]:
        """By name under `prefix`."""
        info = ("symbol", "symbols", "permissions", "showPermissionSets")
        return {
            "ping": Endpoint(lambda _: {}),
            "time": Endpoint(self._time),
            "exchangeInfo": Endpoint(self._exchange_info, info, lambda _: 20),
            "depth": Endpoint(self._depth, ("symbol", "limit"), _depth_weight),
            "trades": Endpoint(self._trades, ("symbol", "limit"), lambda _: 25),
            "historicalTrades": Endpoint(self._historical_trades, ("symbol", "limit", "fromId"), lambda _: 25),
            "aggTrades": Endpoint(
                self._agg_trades, ("symbol", "fromId", "startTime", "endTime", "limit"), lambda _: 4),
            "klines": Endpoint(self._klines, ("symbol", "interval", "startTime", "endTime", "limit"), lambda _: 2),
            "avgPrice": Endpoint(self._told(average_price), ("symbol",), lambda _: 2),
            "ticker/price": Endpoint(self._told(price_ticker), TICKER_NAMES, lambda _: 4),
            "ticker/bookTicker": Endpoint(self._told(book_ticker), TICKER_NAMES, lambda _: 4),
            "ticker/24hr": Endpoint(self._told(day_ticker), TICKER_NAMES, lambda _: 80),
        }

    def _told(self, ticker: Callable[[SymbolMarket, Moment], Any]) -> Callable[[Query], Any]:
        """A ticker of the symbol asked for; of several, or of all, as a list."""
        def answer(query: Query) -> Any:
            moment = self._market.moment()
            if "symbol" in query:
                return ticker(self._symbol(query), moment)
            names = _name_list(query["symbols"]) if "symbols" in query else list(self._market.symbols)
            return [ticker(self._symbol({"symbol": str(name)}), moment) for name in names]

        return answer

    def routes(self) -> list[web.RouteDef]:
        answers = self.endpoints().items()
        return [web.get(f"{self.prefix}/{name}", self._handler(name, endpoint)) for name, endpoint in answers]

    def _handler(self, name: str, endpoint: Endpoint) -> Callable[[web.Request], Awaitable[web.Response]]:
        async def handle(request: web.Request) -> web.Response:
            fault = self._faults.on_request(name)
            headers = self._market.headers(self._market.moment().lap)
            try:
                if fault.status is not None:
                    raise Refused(-1000, "fault on request", fault.status, fault.retry_after_s)
                _check_names(request.query, endpoint.parameters)
                self._weights.spend(endpoint.weight(request.query))
                stale = fault.stale_s > 0
                body = self._depth(request.query, fault.stale_s) if stale else endpoint.answer(request.query)
                status = 200
            except Refused as refused:
                body, status = refused.body, refused.status
                if status in (418, 429):
                    headers["Retry-After"] = str(refused.retry_after_s or self._weights.retry_after_s())
            headers |= {WEIGHT_HEADER: str(self._weights.used), "x-mbx-used-weight": str(self._weights.used)}
            text = json.dumps(body, separators=(",", ":"))
            await asyncio.sleep(fault.wait_s)
            return web.Response(text=text, status=status, content_type="application/json", headers=headers)

        return handle

    def _time(self, _query: Query) -> dict[str, int]:
        return {"serverTime": self._market.clock.now() // MS}

    def _symbol(self, query: Query) -> SymbolMarket:
        name = query.get("symbol", "")
        if not name:
            raise Refused(-1102, "Mandatory parameter 'symbol' was not sent, was empty/null, or malformed.")
        if not re.fullmatch(SYMBOL_PATTERN, name):
            raise Refused(-1100, f"Illegal characters found in parameter 'symbol'; legal range is '{SYMBOL_PATTERN}'.")
        if name not in self._market.symbols:
            raise Refused(-1121, "Invalid symbol.")
        return self._market.symbols[name]

    def _exchange_info(self, query: Query) -> dict[str, Any]:
        names = list(self._market.symbols)
        if "symbol" in query:
            names = [self._symbol(query).symbol]
        elif "symbols" in query:
            names = [self._symbol({"symbol": str(name)}).symbol for name in _name_list(query["symbols"])]
        limits = [
            {"rateLimitType": "REQUEST_WEIGHT", "interval": "MINUTE", "intervalNum": 1, "limit": self.weight_limit}]
        return {
            "timezone": "UTC", **self._time(query), "rateLimits": limits, "exchangeFilters": [],
            "symbols": [self.symbol_info(name, self._market.symbols[name].scale) for name in names],
        }

    def symbol_info(self, name: str, scale: Scale) -> dict[str, Any]:
        """What `exchangeInfo` says of a symbol."""
        return _symbol_info(name, scale)

    def _depth(self, query: Query, stale_s: float = 0.0) -> dict[str, Any]:
        symbol, limit = self._symbol(query), limit_of(query, 100, 5_000)
        moment, scale = self._market.moment(), symbol.scale
        told = moment.lap.position(moment.venue_ns - round(stale_s * SECOND_NS)) if stale_s else moment.position
        book = symbol.book.at(moment.lap, told)
        bids, asks = sorted(book.bids, reverse=True)[:limit], sorted(book.asks)[:limit]
        return {
            "lastUpdateId": book.last_id,
            "bids": [[scale.price_text(price), scale.quantity_text(book.bids[price])] for price in bids],
            "asks": [[scale.price_text(price), scale.quantity_text(book.asks[price])] for price in asks],
        }

    def _trades(self, query: Query) -> list[dict[str, Any]]:
        symbol = self._symbol(query)
        return _trade_bodies(symbol.trades.newest(limit_of(query, 500, 1_000), self._market.moment()), symbol.scale)

    def _historical_trades(self, query: Query) -> list[dict[str, Any]]:
        symbol, limit, first_id = self._symbol(query), limit_of(query, 500, 1_000), _number(query, "fromId")
        if first_id is None:
            return self._trades({"symbol": symbol.symbol, "limit": str(limit)})
        return _trade_bodies(symbol.trades.from_id(first_id, limit, self._market.moment()), symbol.scale)

    def _agg_trades(self, query: Query) -> list[dict[str, Any]]:
        symbol, limit = self._symbol(query), limit_of(query, 500, 1_000)
        first_id, start, end = (_number(query, name) for name in ("fromId", "startTime", "endTime"))
        moment, trades = self._market.moment(), symbol.trades
        if first_id is not None:
            if start is not None or end is not None:
                raise Refused(-1128, "Combination of optional parameters invalid.")
            found = trades.aggregates_from_id(first_id, limit, moment)
        elif start is not None:
            found = trades.aggregates_between(start, moment.venue_ns // MS if end is None else end, limit, moment)
        else:
            found = trades.newest_aggregates(limit, moment, end)
        return _aggregate_bodies(found, symbol.scale)

    def _klines(self, query: Query) -> list[list[Any]]:
        symbol, limit = self._symbol(query), limit_of(query, 500, 1_000)
        interval = query.get("interval", "")
        if not interval:
            raise Refused(-1102, "Mandatory parameter 'interval' was not sent, was empty/null, or malformed.")
        if interval not in INTERVALS_MS:
            raise Refused(-1120, "Invalid interval.")
        step = INTERVALS_MS[interval]
        start, end = _number(query, "startTime"), _number(query, "endTime")
        return kline_bodies(symbol.klines.rows(step, start, end, limit, self._market.moment()), step, symbol.scale)


def _check_names(query: Query, known: tuple[str, ...]) -> None:
    read = sum(name in known for name in query)
    if read < len(query):
        raise Refused(
            -1104, f"Not all sent parameters were read; read '{read}' parameter(s) but was sent '{len(query)}'.")


def _number(query: Query, name: str) -> int | None:
    text = query.get(name)
    if text is None:
        return None
    if not re.fullmatch(NUMBER_PATTERN, text):
        raise Refused(-1100, f"Illegal characters found in parameter '{name}'; legal range is '{NUMBER_PATTERN}'.")
    return int(text)


def limit_of(query: Query, default: int, most: int) -> int:
    """The `limit` parameter; the venue answers a larger one with the most it gives."""
    limit = _number(query, "limit")
    if limit == 0:
        raise Refused(-1130, "Data sent for parameter 'limit' is not valid.")
    return min(default if limit is None else limit, most)


def _depth_weight(query: Query) -> int:
    return limit_weight(limit_of(query, 100, 5_000), DEPTH_WEIGHTS)


def limit_weight(limit: int, weights: Iterable[tuple[int, int]]) -> int:
    """The weight of asking for so many rows, from pairs of (most rows, weight)."""
    return next(weight for most, weight in weights if limit <= most)


def _name_list(text: str) -> list[object]:
    try:
        names = json.loads(text)
    except ValueError:
        names = None
    if not isinstance(names, list) or not names:
        raise Refused(-1100, "Illegal characters found in parameter 'symbols'; legal range is "
                      "'^\\[(\"[A-Z0-9-_.]{1,20}\"(,\"[A-Z0-9-_.]{1,20}\"){0,}){0,1}\\]$'.")
    return names


def _symbol_info(name: str, scale: Scale) -> dict[str, Any]:
    base = next((name.removesuffix(quote) for quote in ("USDT", "USDC", "BTC", "EUR") if name.endswith(quote)), name)
    tick, step = scale.price_text(1), scale.quantity_text(1)
    return {
        "symbol": name, "status": "TRADING", "baseAsset": base, "baseAssetPrecision": 8,
        "quoteAsset": name.removeprefix(base), "quotePrecision": 8, "quoteAssetPrecision": 8,
        "orderTypes": ["LIMIT", "LIMIT_MAKER", "MARKET"], "isSpotTradingAllowed": True, "isMarginTradingAllowed": False,
        "filters": [
            {"filterType": "PRICE_FILTER", "minPrice": tick, "maxPrice": "1000000.00000000", "tickSize": tick},
            {"filterType": "LOT_SIZE", "minQty": step, "maxQty": "9000.00000000", "stepSize": step},
        ],
        "permissions": [], "permissionSets": [["SPOT"]],
    }


def _trade_bodies(rows: TradeRows, scale: Scale) -> list[dict[str, Any]]:
    return [
        {
            "id": i, "price": scale.price_text(price), "qty": scale.quantity_text(quantity),
            "quoteQty": scale.quote_text(price * quantity), "time": time, "isBuyerMaker": maker, "isBestMatch": True,
        }
        for i, time, price, quantity, maker in zip(*(column.tolist() for column in rows), strict=True)
    ]


def _aggregate_bodies(found: Aggregates, scale: Scale) -> list[dict[str, Any]]:
    rows = found.rows
    return [
        {
            "a": i, "p": scale.price_text(int(rows.ticks[first])),
            "q": scale.quantity_text(int(rows.steps[first : last + 1].sum())), "f": int(rows.ids[first]),
            "l": int(rows.ids[last]), "T": int(rows.time_ms[first]), "m": bool(rows.buyer_is_maker[first]), "M": True,
        }
        for i, first, last in zip(found.ids.tolist(), found.first.tolist(), found.last.tolist(), strict=True)
    ]


def kline_bodies(bars: BarRows, interval_ms: int, scale: Scale) -> list[list[Any]]:
    """Klines as the venue writes them: twelve elements, decimals as text, times in ms, close time inclusive."""
    return [
        [
            start, *(scale.price_text(price) for price in prices), scale.quantity_text(volume), start + interval_ms - 1,
            scale.quote_text(quote), trades, scale.quantity_text(taker), scale.quote_text(taker_quote), "0",
        ]
        for start, *prices, volume, quote, trades, taker, taker_quote in zip(
            *(column.tolist() for column in bars), strict=True)
    ]
