"""Exchanges for tests: a tape, a wall clock that the test sets, and the real server on a free port."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from contextlib import asynccontextmanager
from functools import lru_cache
from typing import Any

import aiohttp

from feature_repo.contracts import MINUTE_NS, Source
from streaming.exchange import Exchange, ExchangeConfig, make_market
from streaming.exchange_history import Minutes
from streaming.exchange_market import Market
from streaming.exchange_rest import Rest
from streaming.recording import Line
from streaming.simulator_hours import Hours
from streaming.simulator_market import simulated_minutes
from streaming.tape import Tape, build_tape

STREAMS = "btcusdt@trade/btcusdt@depth@100ms/btcusdt@bookTicker"
HISTORY_MINUTES = 3_000


class Wall:
    """A wall clock that stands where the test puts it."""

    def __init__(self, now_ns: int) -> None:
        self.now_ns = now_ns

    def __call__(self) -> int:
        return self.now_ns


def from_the_minute() -> tuple[Callable[[], int], int]:
    """A wall clock that starts at the beginning of this minute, and that beginning, ns: a lap that is anchored there is
    as far from its seam, which ends its connections, whatever the second of the day."""
    started = time.time_ns()
    anchor_ns = started // MINUTE_NS * MINUTE_NS
    return lambda: anchor_ns + time.time_ns() - started, anchor_ns


def tape_of(lines: Iterable[Line]) -> Tape:
    return build_tape([lines])


@lru_cache
def simulated_history(symbol: str, until_ms: int) -> Minutes:
    return simulated_minutes(Hours(symbol, 7, 1.0), until_ms, HISTORY_MINUTES)


def no_history(_symbol: str, _until_ms: int) -> None:
    return None


def market_of(
    tape: Tape, wall: Any, source: Source = "simulated", history: Any = simulated_history, **config: Any,
) -> Market:
    return make_market(tape, source, ExchangeConfig(**config), wall, history)


def ask(market: Market, endpoint: str, query: Mapping[str, object], wall_ns: Any = lambda: 0) -> Any:
    """The body of a REST answer at the market's present moment; raises `Refused` as the venue refuses."""
    answers = Rest(market, wall_ns).endpoints()
    return answers[endpoint].answer({name: str(value) for name, value in query.items()})


@asynccontextmanager
async def exchanging(market: Market, wall_ns: Any) -> AsyncIterator[tuple[Exchange, str]]:
    """An exchange on a free loopback port, and its `127.0.0.1:port`."""
    exchange = Exchange(market, wall_ns)
    port = await exchange.start(0)
    try:
        yield exchange, f"127.0.0.1:{port}"
    finally:
        await exchange.stop()


@asynccontextmanager
async def served(market: Market, wall_ns: Any) -> AsyncIterator[str]:
    """The exchange on a free loopback port; gives `127.0.0.1:port`."""
    async with exchanging(market, wall_ns) as (_, host):
        yield host


@asynccontextmanager
async def connected(
    host: str, path: str = f"/stream?streams={STREAMS}",
) -> AsyncIterator[aiohttp.ClientWebSocketResponse]:
    """One client's socket."""
    async with aiohttp.ClientSession() as session, session.ws_connect(f"ws://{host}{path}", max_msg_size=0) as socket:
        yield socket


async def frames_until_closed(host: str, path: str = f"/stream?streams={STREAMS}") -> tuple[list[str], int | None]:
    """Everything one client is sent, and the close code."""
    async with connected(host, path) as socket:
        frames = [message.data async for message in socket]
        return frames, socket.close_code
