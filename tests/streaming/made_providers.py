"""Providers of slow series for tests: a local server that plays what it is told, in the shapes of the real ones."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
from aiohttp import web

from feature_repo.contracts import DAY_NS, HOUR_NS, SECOND_NS, DeadLetter, Message, Observation
from feature_repo.settings import Settings
from feature_repo.slow_series import session_close
from streaming.fetch import Fetcher
from streaming.poller import Poller
from streaming.poller_metrics import PollerMetrics
from streaming.slow_sources import Asked, sources

NOW_NS = session_close(datetime(2025, 3, 12, tzinfo=UTC).date()) + HOUR_NS
"""An hour after a Wednesday's session."""
SAYS_LIVE = {"x-candlewick-source": "recording", "x-candlewick-session": "made"}
"""A server on loopback is nobody's own host: it must say what it is."""


@dataclass
class Play:
    """One answer."""

    body: bytes | str | Any = b""
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)


@dataclass
class Provider:
    """Plays the answers of each path in turn, the last one for ever, and remembers what it was asked."""

    plays: dict[str, list[Play]] = field(default_factory=lambda: defaultdict(list))
    asked: list[tuple[str, dict[str, str], dict[str, str]]] = field(default_factory=list)

    def will(self, path: str, *plays: Play) -> None:
        self.plays[path] = list(plays)

    async def answer(self, request: web.Request) -> web.Response:
        self.asked.append((request.path, dict(request.query), dict(request.headers)))
        plays = self.plays.get(request.path) or [Play(status=404)]
        play = plays.pop(0) if len(plays) > 1 else plays[0]
        body = play.body if isinstance(play.body, bytes) else (
            play.body if isinstance(play.body, str) else json.dumps(play.body)).encode()
        return web.Response(body=body, status=play.status, headers={**SAYS_LIVE, **play.headers})


@asynccontextmanager
async def providing() -> AsyncIterator[tuple[Provider, str]]:
    """A provider on a free loopback port, and its URL."""
    provider = Provider()
    app = web.Application()
    app.router.add_route("GET", "/{path:.*}", provider.answer)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    try:
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        yield provider, f"http://127.0.0.1:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()


@dataclass
class Bench:
    """One poller before a provider, its clock in the test's hand, and what it published."""

    provider: Provider
    poller: Poller
    fetcher: Fetcher
    metrics: PollerMetrics
    now_ns: int = NOW_NS
    published: list[tuple[str, Message]] = field(default_factory=list)

    async def poll(self) -> int:
        return await self.poller.poll(self.now_ns)

    @property
    def observations(self) -> list[Observation]:
        return [message for _, message in self.published if isinstance(message, Observation)]

    @property
    def letters(self) -> list[DeadLetter]:
        return [message for _, message in self.published if isinstance(message, DeadLetter)]


def settings_at(url: str, second: str | None = None) -> Settings:
    """Every provider's first host, and those that are second in order elsewhere."""
    other = (second or url,)
    return replace(
        Settings(), venue_usdm_rest=(url,), bybit_rest=other, yahoo_rest=(url,), fred_rest=other,
        fear_greed_rest=(url,),
    )


@asynccontextmanager
async def polling(
    series: str, choose: Callable[[list[Asked]], Asked] | None = None, most_bytes: int = 100_000,
) -> AsyncIterator[Bench]:
    """A poller of one series, of BTCUSDT where it is a contract's."""
    async with providing() as (provider, url), httpx.AsyncClient(timeout=5.0, trust_env=False) as http:
        all_asked = sources(settings_at(url, url.replace("127.0.0.1", "localhost")), ("BTCUSDT",), local=False)
        asked = choose(all_asked) if choose else next(each for each in all_asked if each.series == series)
        metrics = PollerMetrics()
        fetcher = Fetcher(http, lambda: bench.now_ns, most_bytes)
        poller = Poller(asked, fetcher, lambda topic, message: bench.published.append((topic, message)), metrics,
                        chance=lambda: 0.5)
        bench = Bench(provider, poller, fetcher, metrics)
        yield bench


def binance_funding(*rates: str, last_ns: int = NOW_NS) -> list[dict[str, Any]]:
    """As `/fapi/v1/fundingRate` answers, the last one settled at the last multiple of eight hours."""
    settled = last_ns // (8 * HOUR_NS) * 8 * HOUR_NS
    return [
        {"symbol": "BTCUSDT", "fundingTime": (settled - back * 8 * HOUR_NS) // 1_000_000 + 1, "fundingRate": rate,
         "markPrice": "83000.10000000"}
        for back, rate in zip(range(len(rates) - 1, -1, -1), rates, strict=True)
    ]


def bybit_funding(*rates: str, last_ns: int = NOW_NS) -> dict[str, Any]:
    settled = last_ns // (8 * HOUR_NS) * 8 * HOUR_NS
    return {"retCode": 0, "retMsg": "OK", "result": {"category": "linear", "list": [
        {"symbol": "BTCUSDT", "fundingRate": rate,
         "fundingRateTimestamp": str((settled - back * 8 * HOUR_NS) // 1_000_000)}
        for back, rate in enumerate(rates)]}, "retExtInfo": {}, "time": NOW_NS // 1_000_000}


def yahoo_chart(*closes: float | None, last_ns: int = NOW_NS) -> dict[str, Any]:
    """As `/v8/finance/chart` answers: a bar a weekday, stamped with its opening."""
    days, day = [], datetime.fromtimestamp(last_ns // SECOND_NS, UTC)
    while len(days) < len(closes):
        days += [day] if day.weekday() < 5 else []
        day -= timedelta(days=1)
    opened = [session_close(each.date()) // SECOND_NS - 23_400 for each in reversed(days)]
    return {"chart": {"result": [{
        "meta": {"currency": "USD", "symbol": "SPY", "gmtoffset": -14_400, "exchangeTimezoneName": "America/New_York"},
        "timestamp": opened, "indicators": {"quote": [{"close": list(closes), "volume": [1] * len(closes)}]},
    }], "error": None}}


def fred_csv(series: str, *values: str, last_ns: int = NOW_NS) -> str:
    last = datetime.fromtimestamp(last_ns // SECOND_NS, UTC).date()
    days = [last - timedelta(days=back) for back in range(len(values) - 1, -1, -1)]
    lines = [f"{day},{value}\n" for day, value in zip(days, values, strict=True)]
    return "".join([f"observation_date,{series}\n", *lines])


def fng(*values: str, last_ns: int = NOW_NS) -> dict[str, Any]:
    midnight = last_ns // DAY_NS * DAY_NS
    return {"name": "Fear and Greed Index", "data": [
        {"value": value, "value_classification": "Fear", "timestamp": str((midnight - back * DAY_NS) // SECOND_NS)}
        for back, value in enumerate(values)], "metadata": {"error": None}}
