"""Context of the local exchange: funding and open interest of perpetual contracts, made up, and marked so.

No recording holds them. They are a function of symbol, seed and time, the same at the same time whoever asks, served
under Binance's own paths beside whatever the exchange plays. Every answer says `x-candlewick-source: simulated`, also
where the exchange plays a recording.
https://developers.binance.com/docs/derivatives/usds-margined-futures/market-data/rest-api
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from aiohttp import web

from feature_repo.contracts import DAY_NS, HOUR_NS, MINUTE_NS
from streaming.exchange_market import SESSION_HEADER, SOURCE_HEADER, Market
from streaming.exchange_rest import NUMBER_PATTERN, Query, Refused, limit_of
from streaming.exchange_tickers import price_ticker
from streaming.tape import MS

SETTLED_EVERY_NS = 8 * HOUR_NS
MOST_RATES = 1_000
SESSION = "made-context"


@dataclass(frozen=True)
class Context:
    """Funding and open interest of one symbol. Times in ns."""

    symbol: str
    seed: int = 1

    def funding_rate(self, settled_ns: int) -> float:
        """The rate settled at a multiple of eight hours: around one basis point, as it mostly is."""
        swing = 0.8 * math.sin(2 * math.pi * settled_ns / (9 * DAY_NS)) + 1.2 * (self._noise(settled_ns) - 0.5)
        return round(1e-4 * (1 + swing), 8)

    def open_interest(self, at_ns: int) -> float:
        """Base currency; moves by a few percent in a day, and a little from minute to minute."""
        level = 80_000 * (1 + self._noise(0))
        swing = 0.03 * math.sin(2 * math.pi * at_ns / DAY_NS) + 0.004 * self._noise(at_ns // MINUTE_NS)
        return round(level * (1 + swing), 3)

    def _noise(self, key: int) -> float:
        """A number of [0, 1) that depends on symbol, seed and key alone."""
        digest = hashlib.sha256(f"{self.symbol}|{self.seed}|{key}".encode()).digest()
        return int.from_bytes(digest[:6], "big") / 2**48


class ContextRest:
    """`/fapi/v1/premiumIndex`, `/fapi/v1/fundingRate` and `/fapi/v1/openInterest`."""

    def __init__(self, market: Market) -> None:
        self._market = market

    def routes(self) -> list[web.RouteDef]:
        answers = {
            "premiumIndex": self._premium_index, "fundingRate": self._funding_rates,
            "openInterest": self._open_interest,
        }
        return [web.get(f"/fapi/v1/{name}", _handler(answer)) for name, answer in answers.items()]

    def _context(self, query: Query) -> Context:
        name = query.get("symbol", "")
        if not name:
            raise Refused(-1102, "Mandatory parameter 'symbol' was not sent, was empty/null, or malformed.")
        if name not in self._market.symbols:
            raise Refused(-1121, "Invalid symbol.")
        return Context(name)

    def _premium_index(self, query: Query) -> dict[str, Any]:
        context, now = self._context(query), self._market.clock.now()
        coming = now // SETTLED_EVERY_NS * SETTLED_EVERY_NS + SETTLED_EVERY_NS
        price = price_ticker(self._market.symbols[context.symbol], self._market.moment())["price"]
        return {
            "symbol": context.symbol, "markPrice": price, "indexPrice": price, "estimatedSettlePrice": price,
            "lastFundingRate": f"{context.funding_rate(coming):.8f}", "interestRate": "0.00010000",
            "nextFundingTime": coming // MS, "time": now // MS,
        }

    def _funding_rates(self, query: Query) -> list[dict[str, Any]]:
        context, now = self._context(query), self._market.clock.now()
        start, end = (_time(query, name) for name in ("startTime", "endTime"))
        last = min(now, now if end is None else end) // SETTLED_EVERY_NS
        limit = limit_of(query, 100, MOST_RATES)
        first = last - limit + 1 if start is None else -(-start // SETTLED_EVERY_NS)
        return [
            {"symbol": context.symbol, "fundingTime": n * SETTLED_EVERY_NS // MS,
             "fundingRate": f"{context.funding_rate(n * SETTLED_EVERY_NS):.8f}", "markPrice": ""}
            for n in range(max(first, 0), min(last, first + limit - 1) + 1)
        ]

    def _open_interest(self, query: Query) -> dict[str, Any]:
        context, now = self._context(query), self._market.clock.now()
        return {"symbol": context.symbol, "openInterest": f"{context.open_interest(now):.3f}", "time": now // MS}


def _time(query: Query, name: str) -> int | None:
    text = query.get(name)
    if text is None:
        return None
    if not text.isdecimal():
        raise Refused(-1100, f"Illegal characters found in parameter '{name}'; legal range is '{NUMBER_PATTERN}'.")
    return int(text) * MS


def _handler(answer: Callable[[Query], Any]) -> Callable[[web.Request], Any]:
    async def handle(request: web.Request) -> web.Response:
        try:
            body, status = answer(request.query), 200
        except Refused as refused:
            body, status = refused.body, refused.status
        return web.Response(
            text=json.dumps(body, separators=(",", ":")), status=status, content_type="application/json",
            headers={SOURCE_HEADER: "simulated", SESSION_HEADER: SESSION},
        )

    return handle
