"""Ingest for tests: a publisher that remembers, and ingest over an exchange in the same process."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, TypeVar

import httpx

from feature_repo.contracts import Bar, Message, SecondClosed, Trade
from feature_repo.topics import encode, headers
from streaming.bars import close_bar
from streaming.ingest import Ingest, IngestConfig
from streaming.ingest_metrics import IngestMetrics
from streaming.tail import LastSeal, find_last_seal
from streaming.venues.binance_rest import RestClient

M = TypeVar("M", bound=Message)


@dataclass
class Memory:
    """A publisher that keeps what it is given; `full` can be set."""

    sent: list[tuple[str, Message]] = field(default_factory=list)
    full: bool = False
    waiting: int = 0

    def publish(self, topic: str, message: Message) -> None:
        self.sent.append((topic, message))

    def close(self, timeout_s: float) -> int:  # noqa: ARG002 - nothing ever waits here
        return 0

    def of(self, kind: type[M]) -> list[M]:
        return [message for _, message in self.sent if isinstance(message, kind)]

    def records(self, symbol: str | None = None) -> list[Any]:
        """What a consumer would read; of one symbol, where that is enough."""
        wanted = [m for _, m in self.sent if symbol is None or getattr(m, "symbol", None) == symbol]
        return [Record(encode(message), headers(message)) for message in wanted]


@dataclass(frozen=True)
class Record:
    value: bytes
    headers: list[tuple[str, bytes]]


@asynccontextmanager
async def ingesting(
    host: str, memory: Memory, last: LastSeal | None = None, before: tuple[str, ...] = (),
    transport: httpx.AsyncBaseTransport | None = None, symbols: tuple[str, ...] = ("BTCUSDT",), **config: Any,
) -> AsyncIterator[Ingest]:
    """Ingest of some symbols over an exchange at `host`, `before` which others are tried; it is stopped at the end.

    A symbol that is added goes on behind what `memory` holds of it.
    """
    async with httpx.AsyncClient(trust_env=False, transport=transport) as http:
        rest = RestClient((*(h.replace("ws", "http", 1) for h in before), f"http://{host}"), http, time.time_ns)
        made = IngestConfig(symbols, (*before, f"ws://{host}"), "test", **config)
        ingest = Ingest(made, memory, rest, time.time_ns, IngestMetrics(), {"BTCUSDT": last},
                        lambda symbol: find_last_seal(memory.records(symbol), symbol))
        running = asyncio.create_task(ingest.run())
        try:
            yield ingest
        finally:
            ingest.stop()
            await asyncio.wait_for(running, 10)


async def until(condition: Callable[[], object], seconds: float = 20.0) -> None:
    """Wait for a condition; raises `TimeoutError`."""
    async with asyncio.timeout(seconds):
        while not condition():  # noqa: ASYNC110 - the conditions are of plain lists that nobody signals
            await asyncio.sleep(0.02)


def read_bars(messages: Sequence[Message]) -> list[Bar]:
    """The second bars a reader of the trades topic makes, each seal once, in order; prices carried from history."""
    trades = [message for message in messages if isinstance(message, Trade)]
    history = [message for message in messages if isinstance(message, Bar)]
    seals: dict[int, SecondClosed] = {}
    for message in messages:
        if isinstance(message, SecondClosed):
            seals.setdefault(message.close, message)
    bars: list[Bar] = []
    previous = history[-1].close if history else None
    for close in sorted(seals):
        bars.append(close_bar(seals[close], trades, previous))
        previous = bars[-1].close
    return bars
