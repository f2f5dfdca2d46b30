"""Serving: the parts of one service process, put together, started and stopped.

    serving = Serving.open(settings)
    await serving.start()
    …
    await serving.stop()
"""

from __future__ import annotations

import asyncio
import gc
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import structlog

from bentos.answers import Answers, unknown_origin
from bentos.champion import choose_artefact
from bentos.live import Hub, Received
from bentos.live_feed import LiveFeed
from bentos.live_socket import allowed_origins
from bentos.metrics import ServiceMetrics
from bentos.readiness import READY_S, readiness
from bentos.venue_clock import MILLI_NS, VenueTime
from feature_repo.contracts import NANOS, LiveStatus, Market, OrderBook, Source, SymbolList, SymbolState
from feature_repo.row_watch import RowWatch
from feature_repo.settings import Settings
from feature_repo.store import AsyncReader
from feature_repo.symbols import SymbolWatch
from feature_repo.topics import base
from feature_repo.views import CONTEXT_VIEW, FAMILY_VIEWS

PUBLISHED_FRESH_S = 3.0
TICK_S = 1.0
HAND_OVER_S = 30.0
"""An event loop that takes nothing for so long is stuck: the feed connects anew."""
log = structlog.get_logger()


@dataclass
class Serving:
    """Everything behind the routes of one process. Made outside the event loop, started inside it."""

    symbols: tuple[str, ...]
    """Followed now; the settings' own until `symbols.latest` has been read."""
    answers: Answers
    metrics: ServiceMetrics
    clock: VenueTime
    reader: AsyncReader
    watch: RowWatch
    origins: frozenset[str]
    kafka: str
    hub: Hub = field(init=False)
    feed: LiveFeed | None = None
    symbol_watch: SymbolWatch | None = None
    _tiers: dict[str, int] = field(default_factory=dict)
    _tasks: list[asyncio.Task[None]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.hub = Hub(self.symbols, self.status, self.metrics.live_dropped.inc)
        self.answers.origin = self.origin

    @classmethod
    def open(cls, settings: Settings) -> Serving:
        """Load the model, verify it, and prepare the readers; nothing is connected yet."""
        metrics, clock = ServiceMetrics(), VenueTime()
        chosen = choose_artefact(settings, lambda slot: metrics.model_refused.labels(slot=slot).inc())
        if chosen.artefact:
            facts = chosen.artefact.facts
            metrics.model_info.labels(model=facts.name, version=facts.version, slot=chosen.slot).set(1)
        reader = AsyncReader.open(settings)
        watch = RowWatch(settings.redis, settings.symbols)
        return cls(
            settings.symbols, Answers(reader, chosen, clock, metrics, watch), metrics, clock, reader, watch,
            allowed_origins(settings), settings.kafka,
        )

    async def start(self) -> None:
        """Follow Kafka, tick every second, and take what was built so far out of the garbage collector's sight."""
        loop = asyncio.get_running_loop()
        self.feed = LiveFeed(
            self.kafka, self.symbols, partial(self._hand_over, loop),
            lambda reason: self.metrics.undecoded.labels(reason=reason).inc(),
        )
        self.feed.start()
        self.symbol_watch = SymbolWatch(
            self.kafka, self.symbols, lambda symbols: loop.call_soon_threadsafe(self.follow, symbols)).start()
        self._tasks = [asyncio.create_task(self.watch.run()), asyncio.create_task(self._tick())]
        gc.collect()
        gc.freeze()

    async def stop(self) -> None:
        for task in self._tasks:
            task.cancel()
        if self.symbol_watch:
            self.symbol_watch.stop()
        if self.feed:
            await asyncio.to_thread(self.feed.stop)
        await self.reader.close()

    def follow(self, symbols: tuple[str, ...]) -> None:
        """Follow these symbols from now on and no others; what is open for the others is ended."""
        if symbols == self.symbols:
            return
        log.info("symbols changed", followed=symbols)
        gone, self.symbols = set(self.symbols) - set(symbols), symbols
        self.hub.follow(symbols)
        self.watch.follow(symbols)
        if self.feed:
            self.feed.follow(symbols)
        for symbol in gone:
            self.answers.forget(symbol)
            self._tiers.pop(symbol, None)

    async def listed(self) -> SymbolList:
        """The body of `GET /symbols`."""
        return SymbolList(symbols=[self._state(symbol, *await self.answers.look(symbol)) for symbol in self.symbols])

    async def latest(self, symbol: str) -> str:
        """The published prediction as JSON while it is fresh, else one made now."""
        published = self.hub.states[symbol].prediction
        if published and self.clock() - published.ts_event <= PUBLISHED_FRESH_S * NANOS:
            return published.model_dump_json()
        return await self.answers.plain(symbol)

    async def report(self) -> dict[str, Any]:
        """The body of `/readyz`."""
        looks = {symbol: await self.answers.look(symbol) for symbol in self.symbols}
        ages_s = {symbol: age_s for symbol, (age_s, _) in looks.items()}
        chosen = self.answers.chosen
        found = readiness(chosen.fault, next((fault for _, fault in looks.values() if fault), None), ages_s)
        self.metrics.ready.set(found.ready)
        facts = chosen.artefact.facts if chosen.artefact else None
        return {
            "ready": found.ready, "reasons": found.reasons, "model": facts.name if facts else None,
            "model_version": facts.version if facts else None, "slot": chosen.slot, "feature_age_s": ages_s,
            "live_feed": bool(self.feed and self.feed.connected),
        }

    def status(self, symbol: str) -> LiveStatus:
        """The state of a symbol's data now."""
        now_ns, state, held = self.clock(), self.hub.states[symbol], self.answers.held(symbol)
        row = held.online.row if held else state.features
        chosen = self.answers.chosen.artefact
        newest = row or state.book
        return LiveStatus(
            ts=now_ns, source=newest.source if newest else None, session=newest.session if newest else None,
            symbol=symbol, last_event_age_ms=_age_ms(now_ns, state.newest_event_ns),
            feature_age_ms=_age_ms(now_ns, row.ts_event if row else None), tier=self._tiers.get(symbol, 5),
            model_version=chosen.facts.version if chosen else None, feature_ages_ms=self._view_ages(symbol, now_ns),
        )

    def market(self) -> Market:
        """Every followed symbol's newest summary and the top movers."""
        return self.hub.market.view(self.clock())

    def origin(self, symbol: str) -> tuple[Source, str]:
        """Source and session of the newest order book."""
        book = self.hub.states[symbol].book
        return (book.source, book.session) if book else unknown_origin(symbol)

    def metrics_text(self) -> bytes:
        self.metrics.live_clients.set(self.hub.clients)
        return self.metrics.render()

    def _state(self, symbol: str, age_s: float | None, _fault: str | None) -> SymbolState:
        held = self.answers.held(symbol)
        newest = held.online.row if held else None
        is_stale = age_s is not None and age_s > READY_S
        return SymbolState(
            symbol=symbol, base=base(symbol), state="starting" if age_s is None else "stale" if is_stale else "ready",
            tier=self._tiers.get(symbol, 5), feature_age_s=None if age_s is None else max(0.0, age_s),
            source=newest.source if newest else None, session=newest.session if newest else None,
        )

    def _view_ages(self, symbol: str, now_ns: int) -> dict[str, float | None]:
        held = self.answers.held(symbol)
        row_age = _age_ms(now_ns, held.online.row.ts_event if held else None)
        context_age = _age_ms(now_ns, held.online.context_ts_event if held else None)
        return {**dict.fromkeys((view.name for view in FAMILY_VIEWS), row_age), CONTEXT_VIEW.name: context_age}

    def _hand_over(self, loop: asyncio.AbstractEventLoop, batch: list[Received]) -> None:
        """On the feed's thread: read no more from Kafka before the loop has taken this."""
        asyncio.run_coroutine_threadsafe(self._take(batch), loop).result(HAND_OVER_S)

    async def _take(self, batch: list[Received]) -> None:
        for item in batch:
            if isinstance(item.message, OrderBook):
                self.clock.learn(item.message.ts_init, item.appended_ms)
        self.hub.take(batch)

    async def _tick(self) -> None:
        while True:
            try:
                for symbol in self.symbols:
                    self._tiers[symbol] = await self.answers.tier(symbol)
                self.hub.tick(self.clock())
            except Exception:  # the ticker must outlive what it meets; the page shows the silence otherwise
                log.exception("tick failed")
            await asyncio.sleep(TICK_S)


def _age_ms(now_ns: int, then_ns: int | None) -> float | None:
    """Age in milliseconds, never negative; None when unknown."""
    return None if then_ns is None else max(0.0, (now_ns - then_ns) / MILLI_NS)
