"""Ingest: the venue's streams into Kafka: validated, sequenced, sealed. The only part that talks to the venue.

    CANDLEWICK_VENUE_WS=ws://127.0.0.1:18080 CANDLEWICK_VENUE_REST=http://127.0.0.1:18080 python -m streaming.ingest

One connection carries trade, depth@100ms and bookTicker of every symbol. What a frame means is decided in `feed`
(pure); what a feed lacks is fetched by `repairs`, and `connections` come and go; here they meet, with time and
shutdown. While the broker is away the sink fills; when it is full the venue is left until it has drained, and trade
ids recover the difference.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import time
from collections.abc import Callable, Coroutine, Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import httpx
import structlog

from feature_repo import health, topics
from feature_repo.contracts import SECOND_NS, InvalidMessage, Message, SecondClosed, VenueRefused
from feature_repo.logs import configure
from feature_repo.settings import LOOPBACK, Settings, load_settings
from feature_repo.symbols import SymbolWatch, read_followed
from streaming.connections import OVERLAP_S, PLANNED_S, Connections, now_s
from streaming.feed import Feed
from streaming.first_history import FirstHistory
from streaming.handover import has_come_to
from streaming.ingest_metrics import IngestMetrics
from streaming.repairs import Repairs
from streaming.sink import LIMIT, KafkaSink, Publisher
from streaming.tail import LastSeal, last_seal
from streaming.venue_link import CONNECT_MARGIN_NS, MOST_SYMBOLS, OPENED_WITH, VenueLink
from streaming.venues.binance import DepthFrame, TradeFrame, announces_shutdown
from streaming.venues.binance_rest import RestClient
from streaming.venues.market import market_of, one_market

log = structlog.get_logger()

TICK_S = 0.05
HEARTBEAT_S = 30.0
STALE_S = 10.0
MOST_WAITING = LIMIT * 4 // 5
"""With so many messages waiting for the broker, what an outage left is neither fetched nor sealed: the stream needs
the rest of the sink."""
CLOSE_S = 6.0


@dataclass(frozen=True)
class IngestConfig:
    """What to follow and where."""

    symbols: tuple[str, ...]
    """Canonical instrument ids of the venue, followed from the start."""
    venue_ws: tuple[str, ...]
    """WebSocket hosts, tried in order."""
    session: str
    """Session of live data; a recording names its own."""
    planned_s: float = PLANNED_S
    """Age at which a connection is replaced without a gap."""
    overlap_s: float = OVERLAP_S
    """How long the old and the new connection are read together."""


class Ingest:
    """The running part. `publisher`, REST and wall clock are seams.

    `look_back` finds the last seal of a symbol that is added later (it may block: it is called on another thread).
    """

    def __init__(
        self, config: IngestConfig, publisher: Publisher, rest: RestClient, wall: Callable[[], int],
        metrics: IngestMetrics, last_seals: Mapping[str, LastSeal | None],
        look_back: Callable[[str], LastSeal | None] = lambda _symbol: None,
    ) -> None:
        self.config, self.publisher, self.metrics = config, publisher, metrics
        self.symbols = config.symbols
        """Followed now."""
        self.on_new: Callable[[str], object] = lambda _symbol: None
        """Told each symbol, added while running, that has no history here."""
        self._look_back = look_back
        self._changed = asyncio.Event()
        self.feeds = {symbol: self._feed(symbol, last_seals.get(symbol)) for symbol in config.symbols}
        self._rest = rest
        self._connections = Connections(
            config.venue_ws, config.session, rest, wall, self, config.planned_s, config.overlap_s)
        self._market = one_market(config.symbols)
        self._decoder = self._market.decoder()
        self._repairs = Repairs(rest, lambda: self._current().clock, has_room=self._has_room)

    @property
    def link(self) -> VenueLink | None:
        """The connection that is read."""
        return self._connections.link

    async def run(self) -> None:
        """Follow the venue until `stop`; connections come and go, feeds stay."""
        heart = asyncio.create_task(self._beat())
        try:
            await self._connections.run()
        finally:
            heart.cancel()

    def stop(self) -> None:
        """End `run` in good order."""
        self._connections.stop()

    def follow(self, symbols: tuple[str, ...]) -> None:
        """Follow these symbols from now on and no others; the connection stays. To be called in the event loop.

        Those of another market are for another ingest.
        """
        symbols = tuple(symbol for symbol in symbols if market_of(symbol) is self._rest.market)
        if len(symbols) > MOST_SYMBOLS:
            log.error("too_many_symbols", most=MOST_SYMBOLS, left_out=symbols[MOST_SYMBOLS:])
        self.symbols = symbols[:MOST_SYMBOLS]
        self._changed.set()

    # --- what a connection's reader is told and asked ---

    def opened(self, link: VenueLink) -> None:
        """A connection is open."""
        self.metrics.set_source(link.origin.source, link.origin.session)

    async def begin(self, link: VenueLink) -> None:
        """It is read from now on: every feed takes what it carries."""
        for symbol in set(self.feeds) - set(self.symbols):
            del self.feeds[symbol]
            self.metrics.forget(symbol)
        for symbol in link.symbols:
            await self._connect(link, symbol)

    async def end(self) -> None:
        """Nothing more is read until `begin`."""
        await self._repairs.cancel()
        for feed in self.feeds.values():
            feed.disconnected()
        self.metrics.reconnects.inc()

    def duties(self, link: VenueLink) -> Iterable[Coroutine[Any, Any, None]]:
        """What runs while a connection is read."""
        return self._tick(link), self._keep_symbols(link)

    def has_come_to(self, held: Iterable[bytes]) -> bool:
        """Whether every feed has come to where these frames begin."""
        return has_come_to(self.feeds, self._market.decoder(), held)

    async def wait_until_ready(self) -> None:
        """Another connection is of no use before the broker has taken what waits."""
        while self.publisher.full and not self._connections.stopping.is_set():
            await self._connections.wait(1.0)

    # --- symbols, frames, time ---

    async def _keep_symbols(self, link: VenueLink) -> None:
        """Subscribe to what is followed and the connection does not carry; leave what is followed no longer."""
        self._changed.set()
        while True:
            await self._changed.wait()
            self._changed.clear()
            leaving = [symbol for symbol in link.symbols if symbol not in self.symbols]
            joining = [symbol for symbol in self.symbols if symbol not in link.symbols]
            if leaving:
                await self._leave(link, leaving)
            for first in range(0, len(joining), OPENED_WITH):
                some = joining[first : first + OPENED_WITH]
                await link.subscribe(some)
                for symbol in some:
                    await self._connect(link, symbol)
            if leaving or joining:
                log.info("symbols_changed", added=joining, removed=leaving, followed=link.symbols)

    async def _connect(self, link: VenueLink, symbol: str) -> None:
        """A symbol's feed, made if there is none, takes what the connection carries from now on."""
        feed = self.feeds.get(symbol)
        if feed is None:
            last = await asyncio.get_running_loop().run_in_executor(None, self._look_back, symbol)
            feed = self._feed(symbol, last)
            if last is None:
                self.on_new(symbol)
        else:
            feed.disconnected()  # whatever came over another connection: between the two there may be a gap
        feed.connected(link.origin, link.clock.now() + link.clock.margin_ns(CONNECT_MARGIN_NS), link.clock.margin_ns)
        self.feeds[symbol] = feed

    async def _leave(self, link: VenueLink, symbols: list[str]) -> None:
        await link.unsubscribe(symbols)
        for symbol in symbols:
            await self._repairs.cancel(symbol)
            if (feed := self.feeds.pop(symbol, None)) is not None:
                feed.disconnected()
                self.metrics.forget(symbol)

    def on_text(self, link: VenueLink, text: bytes) -> None:
        """A frame has come: for its feed, or a dead letter."""
        try:
            frame = self._decoder.frame(text)
            if frame is None:
                if announces_shutdown(text):
                    log.info("shutdown_announced", host=link.host)
                    link.leaving.set()
                else:
                    link.answered(text)
                return
            feed = self.feeds.get(frame.symbol)
            if feed is None and link.carries(frame.symbol):
                return  # just subscribed, and its feed is being made; or just left
            if feed is None:
                raise InvalidMessage(f"expected a symbol of {', '.join(self.feeds)}; found {frame.symbol!r:.60}")
            feed.on_frame(frame, link.clock.now())
        except InvalidMessage as error:
            self._dead_letter(link, text, error)
            return
        link.saw(frame.symbol, frame.stream, now_s())
        if isinstance(frame, DepthFrame):
            link.saw_event(frame.ts_event)
        elif isinstance(frame, TradeFrame):
            link.saw_event(frame.time_ms * 1_000_000)

    def _dead_letter(self, link: VenueLink, text: bytes, error: InvalidMessage) -> None:
        letter = topics.dead_letter(text, error, component="ingest", ts_init=link.clock.now())
        self.metrics.dead_letters.labels("ingest", letter.reason).inc()
        self.publisher.publish(topics.DEAD_LETTERS, letter)

    async def _tick(self, link: VenueLink) -> None:
        """What time makes due: seals of silent symbols, repairs, silent streams; ends when the venue must be left."""
        while True:
            await asyncio.sleep(TICK_S)
            now = link.clock.now()
            for feed in self.feeds.values():
                feed.on_tick(now, link.alive_ns)
                self._repairs.look_after(feed)
            self.metrics.waiting.set(self.publisher.waiting)
            if self.publisher.full:
                raise VenueRefused(f"{self.publisher.waiting} messages wait for the broker: leaving the venue")
            if link.is_silent(now_s()):
                raise TimeoutError("nothing came on the connection")
            for symbol, stream in [*link.silent_streams(now_s()), *self._stalled()]:
                log.warning("stream_silent", symbol=symbol, stream=stream)
                self.metrics.resubscribes.labels(stream).inc()
                await link.resubscribe(symbol, stream)

    def _stalled(self) -> Iterable[tuple[str, str]]:
        for symbol, feed in self.feeds.items():
            if feed.depth_stalled:
                feed.depth_stalled = False
                yield symbol, "depth"

    async def _beat(self) -> None:
        while True:
            before = self._connections.frames
            await asyncio.sleep(HEARTBEAT_S)
            for name, count in self._decoder.unknown.items():
                self.metrics.unknown_fields.labels(name).inc(count)
            self._decoder.unknown.clear()
            log.info("heartbeat", frames_per_s=round((self._connections.frames - before) / HEARTBEAT_S, 1),
                     waiting=self.publisher.waiting, unhealthy=self.reasons(),
                     silent=self.silent(self.link) if self.link else {}, symbols={
                         symbol: {"last_close": feed.sealer.prev_close, "book": feed.book.synced,
                                  "late": feed.sealer.late, "owed": feed.arrears.count}
                         for symbol, feed in self.feeds.items()})

    def reasons(self) -> dict[str, str]:
        """Why we are not healthy: reason → detail; empty when all is well. Safe to call from another thread."""
        link = self.link
        if link is None:
            return {"connection": "not connected to the venue"}
        found = {"broker": f"{self.publisher.waiting} messages wait"} if self.publisher.full else {}
        silent = self.silent(link)
        # One halted or thin symbol is the market's own business: without any event the connection is at fault.
        return found | silent if len(silent) == len(self.feeds) else found

    def silent(self, link: VenueLink) -> dict[str, str]:
        """The symbols of which nothing comes: symbol → since when. Safe to call from another thread."""
        limit, found = link.clock.margin_ns(round(STALE_S * SECOND_NS)), {}
        for symbol, feed in dict(self.feeds).items():
            age = None if feed.last_event_ns is None else link.clock.now() - feed.last_event_ns
            if age is None or age > limit:
                found[symbol] = "no event yet" if age is None else f"no event for {age / SECOND_NS:.1f} s"
        return found

    def _feed(self, symbol: str, last: LastSeal | None) -> Feed:
        return Feed(symbol, self.publisher.publish, self.metrics, last, self._has_room)

    def _has_room(self) -> bool:
        return self.publisher.waiting < MOST_WAITING

    def _current(self) -> VenueLink:
        assert self.link is not None, "repairs run only while connected"
        return self.link


async def serve(settings: Settings, wall: Callable[[], int] = time.time_ns) -> int:
    """Run until SIGTERM or SIGINT. Returns how many messages the broker had not acknowledged."""
    metrics = IngestMetrics()
    loop = asyncio.get_running_loop()
    market = one_market(settings.symbols)
    followed = await loop.run_in_executor(None, read_followed, settings.kafka, settings.symbols)
    symbols = tuple(symbol for symbol in followed if market_of(symbol) is market)
    seals = {symbol: await loop.run_in_executor(None, last_seal, settings.kafka, symbol) for symbol in symbols}

    def delivered(message: Message) -> None:
        if isinstance(message, SecondClosed) and ingest.link is not None:
            metrics.delivered(message.ts_init, ingest.link.clock.now())

    sink = KafkaSink(lambda: topics.producer(settings.kafka, "ingest"), on_delivered=delivered)
    hosts, rest_hosts = market.hosts(settings)
    trust_env = not any(LOOPBACK in host for host in rest_hosts)
    async with httpx.AsyncClient(timeout=httpx.Timeout(10.0), trust_env=trust_env) as http:
        rest = RestClient(rest_hosts, http, wall, market=market)
        config = IngestConfig(symbols, hosts, f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ}")
        ingest = Ingest(config, sink, rest, wall, metrics, seals, lambda symbol: last_seal(settings.kafka, symbol))
        watch = SymbolWatch(
            settings.kafka, settings.symbols, lambda now: loop.call_soon_threadsafe(ingest.follow, now)).start()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, ingest.stop)
        server = health.serve(LOOPBACK, settings.ports.ingest, ingest.reasons, metrics.registry)
        log.info("ingest_started", symbols=symbols, resumed={
            symbol: None if seal is None else seal.resume.close for symbol, seal in seals.items()})
        history = FirstHistory(settings.history_days, lambda: ingest.link is not None)
        ingest.on_new = history.bring
        history.bring(*(symbol for symbol, seal in seals.items() if seal is None))
        try:
            await ingest.run()
        finally:
            watch.stop()
            history.cancel()
            server.shutdown()
            left = await loop.run_in_executor(None, sink.close, CLOSE_S)
    log.info("ingest_stopped", unacknowledged=left)
    return left


def main() -> int:
    """Entry point: 0 when everything was delivered, 1 when messages were left, 2 for settings that cannot be used."""
    try:
        settings = load_settings()
        one_market(settings.symbols)
        configure("ingest", settings.log_level)
    except ValueError as error:
        sys.stderr.write(f"ingest: {error}\n")
        return 2
    import uvloop

    os.environ.setdefault("DO_NOT_TRACK", "1")
    return 1 if uvloop.run(serve(settings)) else 0


if __name__ == "__main__":
    sys.exit(main())
