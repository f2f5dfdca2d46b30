"""REST of the local exchange for USD-M futures: what differs from spot under `/fapi/v1`.

Source of the rules: Binance USD-M futures REST API documentation (market data endpoints, error codes, limits). There
are no second klines, a book has at most 1,000 levels a side, and trades by id need an API key, which nobody has here.
"""

from __future__ import annotations

from typing import Any, NoReturn

from streaming.exchange_rest import Endpoint, Query, Refused, Rest, limit_of, limit_weight
from streaming.tape import MS, Scale

DEPTH_LIMITS = (5, 10, 20, 50, 100, 500, 1_000)
DEPTH_WEIGHTS = ((50, 2), (100, 5), (500, 10), (1_000, 20))
KLINE_WEIGHTS = ((99, 1), (499, 2), (1_000, 5), (1_500, 10))


class UsdmRest(Rest):
    """The endpoints of one USD-M market; symbols as the venue names them."""

    prefix = "/fapi/v1"
    weight_limit = 2_400

    def endpoints(self) -> dict[str, Endpoint]:
        spot = super().endpoints()
        return spot | {
            "exchangeInfo": Endpoint(spot["exchangeInfo"].answer, (), lambda _: 1),
            "depth": Endpoint(self._book, ("symbol", "limit"), _depth_weight),
            "trades": Endpoint(_without(spot["trades"], "isBestMatch"), ("symbol", "limit"), lambda _: 5),
            "historicalTrades": Endpoint(_needs_key, ("symbol", "limit", "fromId"), lambda _: 20),
            "aggTrades": Endpoint(_without(spot["aggTrades"], "M"), spot["aggTrades"].parameters, lambda _: 20),
            "klines": Endpoint(self._minutes, spot["klines"].parameters, _kline_weight),
        }

    def symbol_info(self, name: str, scale: Scale) -> dict[str, Any]:
        info = super().symbol_info(name, scale)
        ours = {"pair": name, "contractType": "PERPETUAL", "deliveryDate": 4_133_404_800_000,
                "pricePrecision": scale.price, "quantityPrecision": scale.quantity, "marginAsset": info["quoteAsset"],
                "underlyingType": "COIN", "orderTypes": ["LIMIT", "MARKET"]}
        theirs = {"isSpotTradingAllowed", "isMarginTradingAllowed", "permissions", "permissionSets"}
        return {field: value for field, value in info.items() if field not in theirs} | ours

    def _book(self, query: Query) -> dict[str, Any]:
        limit = limit_of(query, 500, 1_000)
        if limit not in DEPTH_LIMITS:
            raise Refused(-4021, f"{limit} is not valid depth limit.")
        body = super().endpoints()["depth"].answer({**query, "limit": str(limit)})
        now_ms = self._market.clock.now() // MS
        return {"lastUpdateId": body["lastUpdateId"], "E": now_ms, "T": now_ms, "bids": body["bids"],
                "asks": body["asks"]}

    def _minutes(self, query: Query) -> Any:
        if query.get("interval") == "1s":
            raise Refused(-1120, "Invalid interval.")
        return super().endpoints()["klines"].answer(query)


def _without(spot: Endpoint, field: str) -> Any:
    return lambda query: [{name: row[name] for name in row if name != field} for row in spot.answer(query)]


def _needs_key(_query: Query) -> NoReturn:
    raise Refused(-2014, "API-key format invalid.", 401)


def _depth_weight(query: Query) -> int:
    return limit_weight(limit_of(query, 500, 1_000), DEPTH_WEIGHTS)


def _kline_weight(query: Query) -> int:
    return limit_weight(limit_of(query, 500, 1_500), KLINE_WEIGHTS)
