"""Connections: one to the venue after the other, each left for the next before or when it ends; who reads them stays.

    connections = Connections(hosts, "live", rest, time.time_ns, reader)
    await connections.run()                     # until `stop`

Hosts are tried in order, with growing random waits and never more often than the venue allows. A connection that must
end (24 h, or announced) is replaced while it still delivers; one that falls quiet is suspected, and left once the next
one is open. What frames mean, and what else must be done while a connection is read, is the `Reader`'s.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import time
from collections.abc import Callable, Collection, Coroutine, Iterable, Sequence
from typing import Any, Protocol

import httpx
import structlog
from websockets.exceptions import ConnectionClosedOK, WebSocketException

from feature_repo.contracts import VenueRefused
from streaming.budget import Budget
from streaming.venue_link import VenueLink, open_link
from streaming.venues.binance_rest import RestClient

log = structlog.get_logger()

LOOK_S = 0.05
LONGEST_BACKOFF_S = 10.0
FIRST_BACKOFF_S = 0.25
GOOD_AFTER_S = 5.0
"""A connection that lived so long resets the backoff; one that did not, and its host, is not tried again first."""
MOST_CONNECTS, CONNECT_WINDOW_S = 50, 300.0
"""Connections in any five minutes. The venue allows 300 to an address, which others may share."""
PLANNED_S = 23.8 * 3600
"""The venue ends a connection after 24 h; before that a second one takes over."""
OVERLAP_S = 5.0
LONGEST_OVERLAP_S = 60.0
"""A connection that has not come so far by then as its successor began is given up; repairs fill what it lacks."""
FRAMES_PER_TURN = 32
DISCONNECTED = (OSError, TimeoutError, WebSocketException, VenueRefused, httpx.HTTPError)


class Reader(Protocol):
    """Who reads the connections."""

    @property
    def symbols(self) -> tuple[str, ...]:
        """What a new connection is to carry."""

    def opened(self, link: VenueLink) -> None:
        """A connection is open; it may yet be closed without having been read."""

    async def begin(self, link: VenueLink) -> None:
        """It is read from now on; nothing was before it, or what was has ended."""

    async def end(self) -> None:
        """Nothing more is read until `begin`."""

    def on_text(self, link: VenueLink, text: bytes) -> None:
        """A frame has come."""

    def has_come_to(self, held: Iterable[bytes]) -> bool:
        """Whether nothing would be missing if these frames were read next."""

    def duties(self, link: VenueLink) -> Iterable[Coroutine[Any, Any, Any]]:
        """What runs while a connection is read; the connection is left when one of them ends or raises."""

    async def wait_until_ready(self) -> None:
        """Return when another connection may be opened."""


class Connections:
    """The connections of one reader. REST and wall clock are seams."""

    def __init__(
        self, hosts: Sequence[str], session: str, rest: RestClient, wall: Callable[[], int], reader: Reader,
        planned_s: float = PLANNED_S, overlap_s: float = OVERLAP_S,
    ) -> None:
        self.link: VenueLink | None = None
        """The one that is read."""
        self.frames = 0
        """Frames read so far."""
        self.stopping = asyncio.Event()
        self._hosts, self._session, self._rest, self._wall, self._reader = hosts, session, rest, wall, reader
        self._planned_s, self._overlap_s = planned_s, overlap_s
        self._connects = Budget(MOST_CONNECTS, CONNECT_WINDOW_S)
        self._host = 0
        self._spare: VenueLink | None = None

    def stop(self) -> None:
        """End `run` in good order."""
        self.stopping.set()

    async def run(self) -> None:
        """Follow the venue until `stop`."""
        attempt = 0
        try:
            while not self.stopping.is_set():
                opened = self._take_spare() or await self._open()
                if opened is not None:
                    lived_s = await self._follow(opened)
                    attempt = 0 if lived_s > GOOD_AFTER_S else attempt
                    self._host += lived_s <= GOOD_AFTER_S
                if self._spare is None:
                    await self.wait(backoff_s(attempt, random.random()))
                attempt += 1
                await self._reader.wait_until_ready()
        finally:
            if (spare := self._take_spare()) is not None:
                await spare.close()

    async def wait(self, seconds: float) -> None:
        """Sleep; no longer than until `stop`."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self.stopping.wait()

    def _take_spare(self) -> VenueLink | None:
        spare, self._spare = self._spare, None
        return spare

    async def _open(self) -> VenueLink | None:
        """A connection to the host whose turn it is; None when it cannot be had, and then it is the next one's turn."""
        await self.wait(self._connects.wait(now_s()))
        self._connects.spend(now_s())
        host = self._hosts[self._host % len(self._hosts)]
        try:
            link = await open_link(host, self._reader.symbols, self._rest, self._wall, self._session)
        except DISCONNECTED as error:
            log.warning("connect_failed", host=host, error=f"{type(error).__name__}: {error}")
            self._host += 1
            return None
        log.info("connected", host=host, source=link.origin.source, session=link.origin.session,
                 speed=link.origin.speed, clock_offset_ms=round(link.clock.offset_ns / 1e6, 1))
        self._reader.opened(link)
        return link

    async def _follow(self, link: VenueLink) -> float:
        """Read a connection, and those that take over from it, until one ends. Returns the seconds it lived."""
        began_s = now_s()
        self.link = link
        await self._reader.begin(link)
        current: VenueLink | None = link
        try:
            while current is not None:
                current = await self._follow_one(current)
        finally:
            await self._reader.end()
            self.link = None
        return now_s() - began_s

    async def _follow_one(self, link: VenueLink) -> VenueLink | None:
        """Read one connection; the one that took over, or None when it ended."""
        duties: list[Coroutine[Any, Any, Any]] = [
            self._read(link), link.keep_proving(self._rest), link.keep_time(self._rest, self._wall),
            link.keep_commanding(), *self._reader.duties(link), self.stopping.wait(),
        ]
        parts = [asyncio.create_task(duty) for duty in duties]
        suspecting, leaving = asyncio.create_task(self._suspect(link)), asyncio.create_task(link.leaving.wait())
        every, successor, died = {*parts, suspecting, leaving}, None, False
        try:
            left_s = self._planned_s - (now_s() - link.opened_s)
            await asyncio.wait(every, timeout=max(0.0, left_s), return_when=asyncio.FIRST_COMPLETED)
            if not any(part.done() for part in (*parts, suspecting)):
                suspecting.cancel()
                successor = await self._take_over(link, parts)
            died = _log_end(link, [part for part in every - {leaving} if part.done() and not part.cancelled()])
        finally:
            for part in every:
                part.cancel()
            await asyncio.gather(*every, return_exceptions=True)
            await link.close(died)
        return successor

    async def _suspect(self, link: VenueLink) -> None:
        """Leave a connection that died without a word, once the next one is open; one that speaks again is kept."""
        while True:
            await link.fell_quiet()
            heard = link.heard
            log.warning("connection_suspected", host=link.host, quiet_s=link.quiet_s)
            spare = await self._open()
            if heard == link.heard and spare is not None:
                self._spare = spare
                raise TimeoutError(f"neither a frame nor a pong within {link.quiet_s:g} s")
            link.was_wrongly_suspected()
            if spare is not None:
                await spare.close()

    async def _take_over(self, link: VenueLink, parts: Collection[asyncio.Task[Any]]) -> VenueLink | None:
        """Open the next connection while `parts` still read this one; what both delivered drops out.

        The next one's frames are held back until this one has come to where they begin: read at once, they would be a
        gap to whoever is behind, and what this one still has to say would be repetitions. None when this one ended
        before there was another, or the other is of another time or market.
        """
        while (successor := await self._open()) is None:
            if await _any_ended(parts, within_s=1.0):
                return None
        if successor.origin != link.origin:
            await successor.close()
            return None
        held: list[bytes] = []
        holding = asyncio.create_task(_hold(successor, held))
        deadline_s = now_s() + LONGEST_OVERLAP_S
        ended = await _any_ended(parts, within_s=self._overlap_s)
        while not (ended or self._reader.has_come_to(held) or now_s() > deadline_s):
            ended = await _any_ended(parts, within_s=LOOK_S)
        holding.cancel()
        with contextlib.suppress(asyncio.CancelledError, *DISCONNECTED):
            await holding
        self.link = successor
        for text in held:
            self._give(successor, text)
        log.info("connection_replaced", host=link.host, held=len(held))
        return successor

    async def _read(self, link: VenueLink) -> None:
        while True:
            try:
                link.is_read = True  # nobody sees it before there is something to wait for
                # As bytes: what is no UTF-8 is a bad message, not the end of the connection.
                text = await link.socket.recv(decode=False)
            except ConnectionClosedOK:
                return
            link.is_read = False
            link.heard += 1
            self._give(link, text)
            if self.frames % FRAMES_PER_TURN == 0:
                await asyncio.sleep(0)  # frames that wait are given without a pause: let repairs and clocks have a turn

    def _give(self, link: VenueLink, text: bytes) -> None:
        self.frames += 1
        self._reader.on_text(link, text)


def backoff_s(attempt: int, chance: float) -> float:
    """Full jitter: uniform in [0, min(10 s, 0.25 s × 2^attempt)), by `chance` in [0, 1).

    >>> backoff_s(0, 0.5), backoff_s(20, 0.5)
    (0.125, 5.0)
    """
    return chance * min(LONGEST_BACKOFF_S, FIRST_BACKOFF_S * 2.0**attempt)


def now_s() -> float:
    """Monotonic seconds."""
    return time.monotonic()  # what the event loop's own clock is, and callable from any thread


async def _any_ended(parts: Collection[asyncio.Task[Any]], within_s: float) -> bool:
    done, _ = await asyncio.wait(parts, timeout=within_s, return_when=asyncio.FIRST_COMPLETED)
    return bool(done)


async def _hold(link: VenueLink, held: list[bytes]) -> None:
    """Keep the frames of a connection that is not read yet."""
    while True:
        held.append(await link.socket.recv(decode=False))
        link.heard += 1


def _log_end(link: VenueLink, done: Iterable[asyncio.Task[Any]]) -> bool:
    """Tell why a connection ended. Returns whether it died without a word."""
    died = False
    for task in done:
        error = task.exception()
        if error is not None and not isinstance(error, DISCONNECTED):
            raise error
        log.info("disconnected", host=link.host, reason=str(error) if error else link.socket.close_reason or "ended")
        died = died or isinstance(error, TimeoutError)
    return died
