"""VenueLink: one WebSocket connection to the venue: who is at its other end, what time it is there, whether it lives.

    link = await open_link("wss://stream.binance.com:9443", ("BTCUSDT",), rest, time.time_ns, session)
    async for text in link.socket: ...

TCP keeps order, so an event proves that everything the venue sent before it has arrived (`alive_ns`); in silence a
pong does, up to the time that the venue told before the ping. A silent stream is not a dead socket and the other way
round: each is watched by itself. A connection that falls quiet is suspected (`fell_quiet`) long before it is given
up: what suspicion costs is one connection more.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import count

import structlog
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed

from feature_repo.contracts import SECOND_NS, VenueRefused
from streaming.clock import VenueClock, measured
from streaming.venues.binance import STREAMS, subscription
from streaming.venues.binance_rest import Identity, RestClient, identity
from streaming.venues.market import market_of

log = structlog.get_logger()

OPEN_TIMEOUT_S = 10.0
PING_EVERY_S = 1.0
PONG_TIMEOUT_S = 10.0
QUIET_S = 1.5
"""With neither a frame nor a pong for so long a connection is suspected."""
LONGEST_QUIET_S = PONG_TIMEOUT_S
LOOK_S = 0.1
CLOCK_EVERY_S = 10.0
REPLAY_CLOCK_EVERY_S = 1.0
CLOCK_SAMPLES = 3
STREAM_SILENCE_S = {"depth": 10.0, "bookTicker": 10.0, "trade": 120.0}
"""A stream silent for longer is subscribed anew, not more often than this."""
LINK_SILENCE_S = 15.0
"""A connection on which nothing at all came for so long is given up."""
MOST_SYMBOLS = 1_024 // len(STREAMS)
"""The venue carries 1,024 streams on a connection."""
OPENED_WITH = 100
"""Symbols named in the address of a connection, which may not grow for ever; more are subscribed on it."""
COMMAND_EVERY_S = 0.4
"""The venue ends a connection that sends more than five messages a second, pings and pongs among them."""
ANSWER_TIMEOUT_S = 10.0


@dataclass
class VenueLink:
    """An open connection. Times ending in `_s` are monotonic."""

    host: str
    socket: ClientConnection
    origin: Identity
    clock: VenueClock
    symbols: tuple[str, ...]
    opened_s: float
    alive_ns: int = 0
    last_frame_s: float = 0.0
    seen_s: dict[tuple[str, str], float] = field(default_factory=dict)
    heard: int = 0
    """Frames and pongs so far."""
    is_read: bool = True
    """Whether everything that has arrived was read: whoever reads waits for the venue."""
    quiet_s: float = QUIET_S
    leaving: asyncio.Event = field(default_factory=asyncio.Event)
    """Set when the venue has said that it is about to go."""
    left: set[str] = field(default_factory=set)
    """Symbols that were subscribed: a frame of them may still be on its way."""
    _commands: asyncio.Queue[tuple[str, list[str], asyncio.Future[None]]] = field(default_factory=asyncio.Queue)
    _asked: dict[int, asyncio.Future[None]] = field(default_factory=dict)

    def carries(self, symbol: str) -> bool:
        """Whether frames of a symbol may come."""
        return symbol in self.symbols or symbol in self.left

    def saw(self, symbol: str, stream: str, now_s: float) -> None:
        """A frame of a stream has come."""
        self.last_frame_s = self.seen_s[symbol, stream] = now_s

    def saw_event(self, ts_event: int) -> None:
        """Everything the venue sent before that event time has arrived."""
        self.alive_ns = max(self.alive_ns, ts_event)
        self.clock.saw(ts_event)

    def silent_streams(self, now_s: float) -> list[tuple[str, str]]:
        """The streams that have been silent too long; each is told once in its time."""
        silent = []
        for symbol in self.symbols:
            for stream, limit in STREAM_SILENCE_S.items():
                if now_s - self.seen_s.setdefault((symbol, stream), self.opened_s) > limit:
                    self.seen_s[symbol, stream] = now_s
                    silent.append((symbol, stream))
        return silent

    def is_silent(self, now_s: float) -> bool:
        """Whether nothing at all has come for too long."""
        return now_s - max(self.last_frame_s, self.opened_s) > LINK_SILENCE_S

    async def resubscribe(self, symbol: str, stream: str) -> None:
        """Ask for one stream anew; the connection stays. One that is closed is left to whoever reads it to the end."""
        name = next(name for name in STREAMS if name.startswith(stream))
        names = subscription([market_of(symbol).word(symbol)], [name])
        for method in ("UNSUBSCRIBE", "SUBSCRIBE"):
            self._command(method, names)

    async def subscribe(self, symbols: Sequence[str]) -> None:
        """Carry more symbols; returns when the venue says that it does. Raises `TimeoutError` when it says nothing."""
        self.left -= set(symbols)
        self.symbols = (*self.symbols, *symbols)
        await self._obeyed("SUBSCRIBE", symbols)
        now_s = time.monotonic()
        self.seen_s |= {(symbol, stream): now_s for symbol in symbols for stream in STREAM_SILENCE_S}

    async def unsubscribe(self, symbols: Sequence[str]) -> None:
        """Carry these symbols no longer."""
        self.left |= set(symbols)
        self.symbols = tuple(symbol for symbol in self.symbols if symbol not in self.left)
        await self._obeyed("UNSUBSCRIBE", symbols)

    async def _obeyed(self, method: str, symbols: Sequence[str]) -> None:
        names = subscription(market_of(symbol).word(symbol) for symbol in symbols)
        async with asyncio.timeout(ANSWER_TIMEOUT_S + self._commands.qsize() * COMMAND_EVERY_S):
            await self._command(method, names)

    def _command(self, method: str, names: list[str]) -> asyncio.Future[None]:
        answer = asyncio.get_running_loop().create_future()
        self._commands.put_nowait((method, names, answer))
        return answer

    async def keep_commanding(self) -> None:
        """Send what was asked for, at the pace that the venue allows; a part of following the connection."""
        for number in count(1):
            method, names, answer = await self._commands.get()
            self._asked[number] = answer
            with contextlib.suppress(ConnectionClosed):
                await self.socket.send(json.dumps({"method": method, "params": names, "id": number}))
            await asyncio.sleep(COMMAND_EVERY_S)

    def answered(self, text: str | bytes) -> None:
        """The venue has obeyed a command."""
        number = json.loads(text).get("id")
        answer = self._asked.pop(number, None) if isinstance(number, int) else None
        if answer is not None and not answer.done():
            answer.set_result(None)

    async def keep_proving(self, rest: RestClient) -> None:
        """Ping every second; ends with `TimeoutError` when the venue does not answer.

        In silence the venue is asked for its time first: what it sent before that has arrived when the pong has. Our
        own idea of its time proves nothing: an exchange that replays may have been held up.
        """
        try:
            await self._prove(rest)
        except ConnectionClosed:
            await asyncio.Event().wait()  # whoever reads meets the end too, behind the frames that still wait there

    async def _prove(self, rest: RestClient) -> None:
        before = -1
        while True:
            venue_ns = await self._venue_time(rest) if self.alive_ns == before else None
            pong = await self.socket.ping()
            await self._answered(asyncio.ensure_future(pong))
            self.heard += 1
            # What the pong stands behind has arrived, but may still wait to be read: till then it proves no silence.
            while not self.is_read:  # noqa: ASYNC110 - rare and short: nobody is told when the last frame was read
                await asyncio.sleep(LOOK_S / 10)
            self.alive_ns = before = max(self.alive_ns, venue_ns or 0)
            await asyncio.sleep(PING_EVERY_S)

    async def fell_quiet(self) -> None:
        """Wait until nothing at all has come for `quiet_s`, counted only while we looked."""
        quiet_s, heard = 0.0, self.heard
        while quiet_s < self.quiet_s:
            await asyncio.sleep(LOOK_S)
            quiet_s = quiet_s + LOOK_S if heard == self.heard else 0.0
            heard = self.heard

    def was_wrongly_suspected(self) -> None:
        """It has spoken again: be slower to suspect it."""
        self.quiet_s = min(2 * self.quiet_s, LONGEST_QUIET_S)

    async def _answered(self, pong: asyncio.Future[float]) -> None:
        # The pong stands behind everything sent before it: while frames come, it is we who are slow, not the venue.
        while not pong.done():
            await asyncio.wait({pong}, timeout=PONG_TIMEOUT_S)
            if not pong.done() and time.monotonic() - self.last_frame_s > PONG_TIMEOUT_S:
                raise TimeoutError(f"neither a pong nor a frame within {PONG_TIMEOUT_S:g} s")
        await pong

    async def _venue_time(self, rest: RestClient) -> int | None:
        try:
            sample, _ = await rest.time()
        except VenueRefused as error:
            log.warning("venue_time_refused", reason=str(error))
            return None
        return sample.venue_ns

    async def keep_time(self, rest: RestClient, wall: Callable[[], int]) -> None:
        """Measure the venue's clock again and again; a failure keeps the clock we have."""
        while True:
            # A fast replay is held up by whoever is slow, so its clock keeps to its rate only for a moment.
            await asyncio.sleep(CLOCK_EVERY_S if self.origin.speed == 1 else REPLAY_CLOCK_EVERY_S)
            try:
                newest = self.clock.newest_ns
                self.clock = await measure_clock(rest, wall, self.origin)
                self.clock.saw(newest)
            except VenueRefused as error:
                log.warning("clock_not_measured", reason=str(error))

    async def close(self, died: bool = False) -> None:
        """End the connection; a dead one without waiting for the other side's goodbye."""
        if died:
            self.socket.transport.abort()
        await self.socket.close()


async def open_link(
    host: str, symbols: Sequence[str], rest: RestClient, wall: Callable[[], int], session: str,
) -> VenueLink:
    """Connect, subscribed to every stream of the first symbols. `session` names live data; a recording names its own.

    Raises `VenueRefused` for a host that may not be used, `OSError`, `TimeoutError` or websockets' errors when it
    cannot be reached. The clock is measured after subscribing: an exchange that plays once begins only then.
    """
    symbols = tuple(symbols[:OPENED_WITH])
    names = subscription(rest.market.word(symbol) for symbol in symbols)
    url = f"{host}{rest.market.route}/stream?streams={'/'.join(names)}"
    socket = await connect(
        url, ping_interval=None, compression=None, open_timeout=OPEN_TIMEOUT_S, close_timeout=2.0,
        max_size=16 * 2**20, max_queue=256, proxy=None if "127.0.0.1" in host else True,
    )
    try:
        assert socket.response is not None
        origin = identity(host, dict(socket.response.headers.raw_items()), session)
        clock = await measure_clock(rest, wall, origin)
    except BaseException:
        await socket.close()
        raise
    return VenueLink(host, socket, origin, clock, symbols, time.monotonic())


async def measure_clock(rest: RestClient, wall: Callable[[], int], origin: Identity) -> VenueClock:
    """The venue's clock by REST `time`. Raises `VenueRefused` when REST is of another source than the stream."""
    samples = []
    for _ in range(CLOCK_SAMPLES):
        sample, answer = await rest.time()
        there = identity(answer.host, answer.headers, origin.session)
        if there.source != origin.source:
            raise VenueRefused(f"{answer.host}: expected REST of source {origin.source}, found {there.source}")
        samples.append(sample)
    return measured(wall, samples, origin.speed)


CONNECT_MARGIN_NS = SECOND_NS // 10
"""How wrong our idea of the venue's clock may be when we say from when on everything was delivered."""
