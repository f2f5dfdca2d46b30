"""Live: one hub per service process that fans the market out to WebSocket clients.

    hub = Hub(("BTCUSDT",), status)
    outbox = hub.join("BTCUSDT")           # the snapshot is already in it
    hub.take([Received("bar", "BTCUSDT", 17, bar)])
    texts = await outbox.get()

A client is an `Outbox`: a bounded queue. When it overflows, only the newest message of each channel stays, so a
slow reader sees a jump in `sequence` and the present, never a growing past; others do not wait for it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from bentos.live_state import Channel, LiveState, update_json
from bentos.market import MarketBoard
from feature_repo.contracts import Bar, FeatureRow, LiveStatus, MarketSummary, OrderBook, Prediction

MAX_CLIENTS = 64
MAX_PENDING = 48
"""About three seconds of updates."""


@dataclass(frozen=True, slots=True)
class Received:
    """One message from Kafka with its offset: the channel's sequence."""

    channel: Channel
    symbol: str
    offset: int
    message: Bar | OrderBook | FeatureRow | Prediction | MarketSummary
    appended_ms: int = 0
    partition: int = 0


class TooManyClients(RuntimeError):
    """The hub is full."""


class NotFollowed(RuntimeError):
    """The symbol that a client watches is followed no longer."""


class Outbox:
    """What one client has yet to be sent."""

    def __init__(self, limit: int = MAX_PENDING) -> None:
        self._limit = limit
        self._pending: list[tuple[Channel | None, str]] = []
        self._ready = asyncio.Event()
        self._ended = False
        self.dropped = 0
        """Updates that this client never saw."""

    def put(self, channel: Channel | None, text: str) -> int:
        """Queue a message; returns how many it pushed out. One without a channel (the snapshot) is never dropped."""
        dropped = self._keep_newest() if len(self._pending) >= self._limit else 0
        self._pending.append((channel, text))
        self._ready.set()
        return dropped

    def end(self) -> None:
        """Nothing more will come."""
        self._ended = True
        self._ready.set()

    async def get(self) -> list[str]:
        """Everything queued, oldest first; waits for the first message. Raises `NotFollowed` once `end` was called."""
        await self._ready.wait()
        if self._ended:
            raise NotFollowed
        self._ready.clear()
        texts = [text for _, text in self._pending]
        self._pending.clear()
        return texts

    def _keep_newest(self) -> int:
        newest = {channel: i for i, (channel, _) in enumerate(self._pending)}
        kept = [item for i, item in enumerate(self._pending) if item[0] is None or newest[item[0]] == i]
        dropped = len(self._pending) - len(kept)
        self.dropped += dropped
        self._pending = kept
        return dropped


class Hub:
    """The state of every followed symbol and the clients that watch it. Lives in one event loop."""

    def __init__(
        self, symbols: Iterable[str], status: Callable[[str], LiveStatus],
        dropped: Callable[[int], object] = lambda _count: None, max_clients: int = MAX_CLIENTS,
    ) -> None:
        self.states = {symbol: LiveState(symbol) for symbol in symbols}
        self.market = MarketBoard(self.states)
        self._status, self._dropped = status, dropped
        self._max_clients = max_clients
        self._outboxes: dict[str, set[Outbox]] = {symbol: set() for symbol in self.states}
        self._ticks = 0

    @property
    def clients(self) -> int:
        return sum(len(outboxes) for outboxes in self._outboxes.values())

    def follow(self, symbols: Iterable[str]) -> None:
        """Keep the state of these symbols from now on; clients of a symbol that is not among them are let go."""
        wanted = dict.fromkeys(symbols)
        for symbol in [symbol for symbol in self.states if symbol not in wanted]:
            del self.states[symbol]
            for outbox in self._outboxes.pop(symbol):
                outbox.end()
        for symbol in wanted:
            if symbol not in self.states:
                self.states[symbol], self._outboxes[symbol] = LiveState(symbol), set()

    def join(self, symbol: str) -> Outbox:
        """A new client's outbox with the snapshot in it. Raises `TooManyClients`, `KeyError` for an unknown symbol."""
        if self.clients >= self._max_clients:
            raise TooManyClients(f"expected at most {self._max_clients} clients")
        outbox = Outbox()
        status, state = self._status(symbol), self.states[symbol]
        state.sequences["market"] = self.market.sequence
        outbox.put(None, state.snapshot(status, self.market.view(status.ts)))
        self._outboxes[symbol].add(outbox)
        return outbox

    def leave(self, symbol: str, outbox: Outbox) -> None:
        self._outboxes.get(symbol, set()).discard(outbox)

    def take(self, batch: Iterable[Received]) -> None:
        """Messages from Kafka, in the order of each channel."""
        for item in batch:
            if isinstance(item.message, MarketSummary):
                self.market.take(item.partition, item.offset, item.message)
                continue
            state = self.states.get(item.symbol)
            text = state.take(item.channel, item.offset, item.message) if state else None
            if text is not None:
                self._send(item.symbol, item.channel, text)

    def tick(self, now_ns: int) -> None:
        """Send every client the status of its symbol and what is new in the table of all; called once a second."""
        self._ticks += 1
        if self.clients and (news := self.market.news(now_ns)) is not None:
            text = update_json("market", self.market.sequence, news.model_dump_json())
            for symbol in self._outboxes:
                self._send(symbol, "market", text)
        for symbol, outboxes in self._outboxes.items():
            self.states[symbol].sequences["status"] = self._ticks
            if outboxes:
                status = self._status(symbol).model_dump_json()
                self._send(symbol, "status", update_json("status", self._ticks, status))

    def _send(self, symbol: str, channel: Channel, text: str) -> None:
        if dropped := sum(outbox.put(channel, text) for outbox in self._outboxes[symbol]):
            self._dropped(dropped)
