"""Repairs: what a feed cannot know by itself, asked of the venue's REST: the book, missing trades, history.

One repair of a kind runs at a time for each feed; a failed one is tried again with growing waits. What cannot be had
is said (`unfillable`, `filled` without bars) so that sealing goes on behind a hole instead of standing still. Trades of
a long outage come page by page, each published and sealed before the next is asked for; all symbols together take no
more pages at once, ids and request weight than leaves the others' repairs, clocks and books undisturbed.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

import structlog

from feature_repo.contracts import SECOND_NS, CandlewickError, StaleBook, VenueRefused
from streaming.backfill import Span, history
from streaming.budget import Budget
from streaming.clock import VenueClock
from streaming.feed import UNTOLD_NS, Feed
from streaming.seal import Missing
from streaming.venues.binance_rest import PAGE, RestClient

log = structlog.get_logger()

ATTEMPTS = 4
FIRST_WAIT_S = 0.5
REST_LAG_S = 0.3
"""The venue's REST shows a trade a moment after its stream does."""
KLINE_LAG_NS = 1_200_000_000
"""A kline is asked for this long after its end."""
KLINE_TRIES = 3
MOST_RECOVERED = 200_000
"""Trade ids that seconds may wait for, of all symbols together: what the venue tells in a minute and a quarter."""
RECOVERING_SHARE = 0.8
"""Of the request weight; the rest is for books, clocks and klines."""
PAGES_AT_ONCE = 4
PAGES_A_LINE = 20
"""Pages between two lines in the log."""
ROOM_S = 0.2
ARREARS_SHARE = 0.5
ARREARS_PAUSE_S = 0.5
"""After a page of trades that nobody waits for: what reads them has a stream to keep up with."""
ARREARS_RETRY_S = 60.0
SNAPSHOTS_PER_MINUTE = 5
"""Of one symbol, in any minute of the venue's clock: a book that cannot be kept must not cost us the address."""


class _TooMany(Exception):
    """More trades are missing than their seconds may wait for."""


class Repairs:
    """The repairs of the connected feeds. `cancel` them with the connection. While `has_room` denies it, no trades are
    asked for."""

    def __init__(
        self, rest: RestClient, clock: Callable[[], VenueClock],
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep, has_room: Callable[[], bool] = lambda: True,
    ) -> None:
        self._rest, self._clock, self._sleep, self._has_room = rest, clock, sleep, has_room
        self._pages, self._paying = asyncio.Semaphore(PAGES_AT_ONCE), asyncio.Lock()
        self._granted: dict[str, int] = {}
        self._snapshots: dict[str, Budget] = defaultdict(lambda: Budget(SNAPSHOTS_PER_MINUTE, 60 * SECOND_NS))
        self._running: dict[tuple[str, str], asyncio.Task[None]] = {}

    def look_after(self, feed: Feed) -> None:
        """Start the repairs a feed needs."""
        if feed.snapshot_is_due(self._clock().now()):
            self._start(feed, "book", self._sync_book)
        if feed.sealer.missing() is not None:
            self._start(feed, "trades", self._fetch_trades)
        if feed.hole is not None:
            self._start(feed, "history", self._fill)
        feed.owe_lost(self._clock().now())
        if feed.arrears.next is not None and feed.hole is None and not feed.sealer.is_recovering:
            self._start(feed, "arrears", self._pay)

    async def cancel(self, symbol: str | None = None) -> None:
        """End every repair, or those of one symbol."""
        running = [task for key, task in self._running.items() if symbol in (None, key[0])]
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)

    def _start(self, feed: Feed, kind: str, repair: Callable[[Feed], Coroutine[Any, Any, None]]) -> None:
        key = (feed.symbol, kind)
        if key not in self._running:
            task = asyncio.create_task(repair(feed))
            self._running[key] = task
            task.add_done_callback(lambda done: self._done(key, done))

    def _done(self, key: tuple[str, str], task: asyncio.Task[None]) -> None:
        del self._running[key]
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("repair_failed", symbol=key[0], kind=key[1], error=repr(error))

    async def _sync_book(self, feed: Feed) -> None:
        async def sync() -> None:
            await self._wait_for_snapshot(feed.symbol)
            # A recording's book is shorter than the limit because it is not whole.
            is_live = feed.origin.source == "live"
            snapshot = await self._rest.depth(feed.symbol, whole_when_short=is_live, session=feed.origin.session)
            feed.on_snapshot(snapshot, self._clock().now())

        await self._tried(sync, "book", feed.symbol)  # while `wants_snapshot` stands, the next look begins anew

    async def _wait_for_snapshot(self, symbol: str) -> None:
        clock, budget = self._clock(), self._snapshots[symbol]
        wait_s = clock.wall_s(round(budget.wait(clock.now())))
        if wait_s > 0:
            log.warning("snapshot_waits", symbol=symbol, seconds=round(wait_s, 1))
            await self._sleep(wait_s)
        budget.spend(self._clock().now())

    async def _fetch_trades(self, feed: Feed) -> None:
        await self._sleep(REST_LAG_S)
        asked = missing = feed.sealer.missing()
        pages = 0
        try:
            while missing is not None and asked is not None and missing.last == asked.last:
                if not await self._had_page(feed, missing, pages):
                    self._give_up(feed, missing)
                    break
                pages += 1
                missing = feed.sealer.missing()
                if pages % PAGES_A_LINE == 0:
                    log.info("trades_being_fetched", symbol=feed.symbol, first=asked.first, next=feed.sealer.known_id,
                             pages=pages, known_until_ns=feed.sealer.known_until)
        finally:
            self._granted.pop(feed.symbol, None)
        if asked is not None:
            log.info("trades_fetched", symbol=feed.symbol, first=asked.first, last=feed.sealer.known_id, pages=pages)

    async def _had_page(self, feed: Feed, missing: Missing, before: int) -> bool:
        """Fetch the first missing trades. `before`: pages fetched before this one."""
        async def fetch() -> None:
            # Whether there is more than a page to come is known for nothing by the first one.
            if before or (missing.last is not None and missing.last - missing.first >= PAGE):
                await self._grant(feed.symbol, missing)
            await self._wait_for_room()
            if not before:
                await self._fetch_page(feed, missing)  # most repairs are no longer: they wait for nobody
                return
            async with self._pages:
                await self._fetch_page(feed, missing, RECOVERING_SHARE)

        try:
            return await self._tried(fetch, "trades", feed.symbol)
        except _TooMany as error:
            log.warning("trades_too_many", symbol=feed.symbol, first=missing.first, reason=str(error))
            return False

    async def _grant(self, symbol: str, missing: Missing) -> None:
        """Raises `_TooMany` when so many trades are missing that they would be waited for too long."""
        if symbol in self._granted:
            return
        newest = await self._rest.newest_trade_id(symbol) if missing.last is None else missing.last
        wanted, taken = newest - missing.first + 1, sum(self._granted.values())
        if wanted + taken > MOST_RECOVERED:
            raise _TooMany(f"{wanted} are missing here and {taken} elsewhere, {MOST_RECOVERED} may be waited for")
        self._granted[symbol] = wanted

    async def _fetch_page(self, feed: Feed, missing: Missing, share: float = 1.0) -> None:
        since, clock = feed.sealer.known_until, self._clock()
        is_short = clock.now() - since <= clock.margin_ns(UNTOLD_NS) or not self._rest.market.tells_trades
        page = await self._rest.trades_page(
            feed.symbol, missing.first, missing.last, since if is_short else None, share)
        if missing.last is None and page.is_last:
            feed.sealer.on_recovered()
        feed.on_recovered(page.frames, clock.now())
        told = [frame.trade_id for frame in page.frames]
        while not page.is_last and (left := feed.sealer.missing()) is not None and left.first <= told[-1]:
            feed.unfillable(Missing(left.first, next(i for i in told if i > left.first) - 1))
        left = feed.sealer.missing()
        if missing.last is not None and page.is_last and left is not None and left.first <= missing.last:
            raise VenueRefused(f"trades {missing.first} to {missing.last}: expected all, found {len(page.frames)}")
        if feed.sealer.is_recovering and page.is_last:
            await self._sleep(REST_LAG_S)

    async def _pay(self, feed: Feed) -> None:
        """Fetch a page of what the stream went on without."""
        async with self._paying:
            is_paid = await self._tried(lambda: self._pay_page(feed), "arrears", feed.symbol)
            await self._sleep(ARREARS_PAUSE_S)
        if not is_paid:
            await self._sleep(ARREARS_RETRY_S)

    async def _pay_page(self, feed: Feed) -> None:
        await self._wait_for_room()
        owed = feed.arrears.next
        if owed is None:
            return
        first, last = owed
        page = await self._rest.trades_page(feed.symbol, first, last, None, ARREARS_SHARE)
        paid = last if page.is_last else page.frames[-1].trade_id
        if len(page.frames) < paid - first + 1:
            log.warning("trades_not_had", symbol=feed.symbol, first=first, last=paid, found=len(page.frames))
        feed.arrears.pay(page.frames, paid, feed.origin, self._clock().now())
        if page.is_last or first // (PAGE * PAGES_A_LINE) != paid // (PAGE * PAGES_A_LINE):
            log.info("arrears_paid", symbol=feed.symbol, last=paid, left=feed.arrears.count)

    async def _wait_for_room(self) -> None:
        while not self._has_room():
            await self._sleep(ROOM_S)

    def _give_up(self, feed: Feed, missing: Missing) -> None:
        left = feed.sealer.missing()
        if left is not None and (missing.last is None or left.first <= missing.last):
            feed.unfillable(left)

    async def _fill(self, feed: Feed) -> None:
        span = feed.hole
        if span is None:
            return
        clock = self._clock()
        await self._sleep(max(0.0, clock.wall_s(span.end_ns + KLINE_LAG_NS - clock.now())))
        if not await self._tried(lambda: self._publish_history(feed, span), "history", feed.symbol):
            log.warning("history_not_had", symbol=feed.symbol, start_ns=span.start_ns, end_ns=span.end_ns)
        feed.filled(span)
        feed.seal(self._clock().now())

    async def _publish_history(self, feed: Feed, span: Span) -> None:
        for _ in range(KLINE_TRIES):
            bars = await history(self._rest, feed.symbol, span, feed.origin)
            newest = max((bar.close_time for bar in bars if bar.interval_s == 1), default=None)
            if newest is None or newest == span.end_ns:
                break  # the venue has no second klines of that time, or all of them
            await self._sleep(KLINE_LAG_NS / SECOND_NS)
        feed.on_bars(bars)
        log.info("history_published", symbol=feed.symbol, bars=len(bars),
                 short_by_s=None if newest is None else (span.end_ns - newest) / SECOND_NS)

    async def _tried(self, repair: Callable[[], Awaitable[None]], kind: str, symbol: str) -> bool:
        """Try a repair a few times; False when it never worked."""
        for attempt in range(ATTEMPTS):
            try:
                await repair()
            except StaleBook as error:
                log.info("snapshot_does_not_fit", symbol=symbol, reason=str(error))
            except (CandlewickError, KeyError, TypeError, ValueError) as error:
                log.warning("repair_failed", symbol=symbol, kind=kind, error=str(error))
            else:
                return True
            await self._sleep(FIRST_WAIT_S * 2**attempt)
        return False
