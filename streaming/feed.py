"""Feed: one symbol's frames in, messages out: trades, seals and order books. Pure: time is an argument.

    feed = Feed("BTCUSDT", publish, IngestMetrics())
    feed.connected(Identity("recording", "s"), now, margin_ns=…)
    feed.on_frame(frame, now)         # publishes Trade, OrderBook and, when a second is complete, SecondClosed
    feed.on_tick(now, alive)          # what silence makes due

What it cannot know by itself it asks for: `wants_snapshot` (the book), `sealer.missing()` (trade ids), `hole` (a
span before the next seal that was not streamed: no second is sealed until its klines were published, or could not be
had) and `arrears` (the trades of such a span, for the raw history: nothing waits for them).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import structlog

from feature_repo.contracts import SECOND_NS, Bar, BookState, InvalidMessage, Message, SecondClosed, StaleBook
from feature_repo.topics import order_book_topic, trades_topic
from streaming.arrears import Arrears
from streaming.backfill import Span
from streaming.ingest_metrics import IngestMetrics
from streaming.order_book import BINS, LocalBook, order_book
from streaming.seal import ANEW_NS, RECOVER_NS, Missing, Sealer, Second
from streaming.second_books import SecondBooks
from streaming.tail import LastSeal
from streaming.venues.binance import (
    MILLISECOND_NS,
    DepthFrame,
    MarketFrame,
    Snapshot,
    TickerFrame,
    TradeFrame,
)
from streaming.venues.binance_rest import Identity
from streaming.venues.market import market_of

log = structlog.get_logger()

STRAY_NS = 10 * SECOND_NS
"""Events further than this from the venue's clock are refused before they move anything."""
REPLAY_LAGS = 6
"""A replay faster than it happened may be this many times further behind its clock before an event is refused."""
BOOK_GRID_NS = 200 * MILLISECOND_NS
"""An order book is published for each of these that a diff enters: five a second."""
BOOK_SILENCE_NS = 250 * MILLISECOND_NS
AHEAD_NS = 2 * SECOND_NS
"""How long a trade or the best quotes may be newer than the book before the depth stream counts as stalled."""
FIRST_DIFF_NS = 3 * SECOND_NS
"""A snapshot is asked for when a diff has come that it can be joined to, or none has for so long."""
MOST_AHEAD = 30_000
"""A trade id further than this beyond those known is believed when the next one confirms it."""
MOST_KEPT_AHEAD = 5_000
"""Trades taken from the stream while older ones are being fetched: two or three minutes of the busiest symbol."""
REFRESH_NS = 60 * SECOND_NS
UNTOLD_NS = 60 * SECOND_NS
"""Longest outage recovered where the venue does not tell trades by id: of the newest thousand it tells all."""
Publish = Callable[[str, Message], None]


class StrayTime(InvalidMessage):
    """An event whose time is too far from the venue's clock."""


@dataclass
class _Ahead:
    """A trade or best quote that no diff follows yet: what would, when it came, and what it happened before."""

    awaited: int
    """Event time of the trade; update id of the quote."""
    now: int
    before: int | None
    """The trade's time; the next event's after the quote, which has none. None: not yet known."""


class Feed:
    """Everything ingest knows of one symbol."""

    def __init__(
        self, symbol: str, publish: Publish, metrics: IngestMetrics, last: LastSeal | None = None,
        has_room: Callable[[], bool] = lambda: True,
    ) -> None:
        self.symbol = symbol
        self.book = LocalBook(symbol, market_of(symbol).rule)
        self.sealer = Sealer(symbol)
        self.origin = Identity("recording", "")
        self.wants_snapshot = False
        self.last_event_ns: int | None = None
        self._publish_to, self._has_room, self._metrics = publish, has_room, metrics
        self._events = {stream: metrics.events.labels(symbol, stream) for stream in ("trade", "depth", "bookTicker")}
        self._trades_topic, self._book_topic = trades_topic(symbol), order_book_topic(symbol)
        self._last = last
        self._books = SecondBooks(self.book)
        self._margin: Callable[[int], int] = lambda ns: ns
        self._snapshot_at = self._book_at = 0
        self._book_cell = -1
        self._ticker_ahead: _Ahead | None = None
        self._trade_ahead: _Ahead | None = None
        self._wanted_at = self._alive = 0
        self._doubted: int | None = None
        self.depth_stalled = False
        """Set when the depth stream must be asked for anew; whoever does it resets it."""
        self.arrears = Arrears(symbol, publish, metrics)
        self._filled: Span | None = None
        self._lates = 0

    # --- the connection ---

    def continues(self, frame: MarketFrame) -> bool:
        """Whether nothing is missing between what was taken and this frame."""
        if isinstance(frame, TradeFrame):
            return self.sealer.knows_before(frame.trade_id)
        if isinstance(frame, DepthFrame):
            return not self.book.synced or self.book.continues(frame)
        return True

    def connected(self, origin: Identity, now: int, margin_ns: Callable[[int], int]) -> None:
        """A connection delivers everything from venue time `now` on."""
        ids_go_on = self._resumed(origin, now) if self._last is not None else origin.series == self.origin.series
        self._last = None
        if not ids_go_on and self.sealer.prev_close is not None:
            log.info("ids_begin_anew", symbol=self.symbol, session=origin.session)
        if not ids_go_on:
            self.arrears.clear()
        self.origin, self._margin = origin, margin_ns
        # Margins guard against slowness of this machine, which is wall time: more venue time in a fast replay.
        self.sealer.silence_ns, self.sealer.anew_ns = margin_ns(SECOND_NS), margin_ns(ANEW_NS)
        tells_trades = market_of(self.symbol).tells_trades
        self.sealer.recover_ns = max(RECOVER_NS if tells_trades else 0, margin_ns(UNTOLD_NS))
        self.sealer.on_connected(now, ids_go_on)
        self._want_snapshot(now)

    def disconnected(self) -> None:
        """Nothing more comes until `connected`."""
        self.sealer.on_disconnected()
        self._books.lose()
        self._ticker_ahead = self._trade_ahead = self._doubted = None
        self.wants_snapshot = self.depth_stalled = False
        self._metrics.book_valid.labels(self.symbol).set(0)

    def _resumed(self, origin: Identity, now: int) -> bool:
        """Go on from the last seal of an earlier run. Returns whether its trade ids go on."""
        assert self._last is not None
        if self._last.resume.close > now + STRAY_NS:
            log.warning("last_seal_in_the_future", symbol=self.symbol, close=self._last.resume.close, now=now)
            return False
        self.sealer.resume(self._last.resume)
        left = self._last.missing
        if left is not None and origin.series == Identity(left.source, left.session).series:
            self.arrears.resume(left, self._last.resume.last_trade_id, origin, now)
        return origin.series == Identity(self._last.source, self._last.session).series

    # --- events ---

    def on_frame(self, frame: MarketFrame, now: int) -> None:
        """Take a frame. Raises `InvalidMessage` for one that is refused."""
        self._events[frame.stream].inc()
        if isinstance(frame, TradeFrame):
            if not self._is_wanted(frame.trade_id):
                return
            self._check_time(frame.time_ms * MILLISECOND_NS, now)
            self._date_quote(frame.time_ms * MILLISECOND_NS, frame.trade_id > (self.sealer.newest_id or 0))
            self._on_trade(frame, now)
            self._expect_diff(frame.time_ms * MILLISECOND_NS, now)
        elif isinstance(frame, DepthFrame):
            self._check_time(frame.ts_event, now)
            self._date_quote(frame.ts_event, frame.last_id > self.book.last_update_id)
            self._on_depth(frame, now)
        else:
            self._on_ticker(frame, now)
        self.seal(now)

    def on_recovered(self, frames: Iterable[TradeFrame], now: int) -> None:
        """Trades fetched by id: older than the stream, so their time is not judged."""
        for frame in frames:
            self._on_trade(frame, now)
        self.seal(now)

    def on_tick(self, now: int, alive: int) -> None:
        """What the passing of time makes due; `alive`: the venue time up to which everything has arrived."""
        self.sealer.on_alive(alive)
        self._alive = max(alive, self._alive)
        self.seal(now)
        self._check_stall(now)
        if self.book.synced and now - self._book_at >= self._margin(BOOK_SILENCE_NS):
            self._publish_book(now)
        if self.book.synced and now - self._snapshot_at >= self._margin(REFRESH_NS) and not self.book.reaches(BINS):
            self._want_snapshot(now)  # the price has moved to where the snapshot does not reach

    def snapshot_is_due(self, now: int) -> bool:
        """Whether the book needs a snapshot, and one asked for now can be joined to a diff."""
        waited = now - self._wanted_at >= self._margin(FIRST_DIFF_NS)
        return self.wants_snapshot and (self.book.last_diff is not None or waited)

    def _want_snapshot(self, now: int) -> None:
        self.wants_snapshot, self._wanted_at = True, now

    def on_snapshot(self, snapshot: Snapshot, now: int) -> None:
        """Sync the book. Raises `StaleBook` when the snapshot does not fit the diffs: ask again."""
        self._snapshot_at = now
        self._books.on_snapshot(snapshot)
        self.wants_snapshot = False
        self._metrics.book_valid.labels(self.symbol).set(1)

    def on_bars(self, bars: Iterable[Bar]) -> None:
        """Publish history, before the next seal."""
        for bar in bars:
            self._publish_to(self._trades_topic, bar)

    def _is_wanted(self, trade_id: int) -> bool:
        """Whether a trade is to be taken. Raises `InvalidMessage` for a wild id.

        While older trades are being fetched one that cannot be believed, or is one too many, is left to be fetched.
        """
        is_believed = self._is_believed(trade_id)
        if self.sealer.is_recovering and not (is_believed and self.sealer.ahead < MOST_KEPT_AHEAD):
            self.sealer.on_dropped()
            return False
        if not is_believed:
            raise InvalidMessage(
                f"{self.symbol}: expected a trade id soon after {self.sealer.known_id}, found {trade_id}")
        return True

    def _is_believed(self, trade_id: int) -> bool:
        # One wild id must not make every later one look old: it counts when the next id is its neighbour.
        known = self.sealer.newest_id if self.sealer.is_recovering else self.sealer.known_id
        if known is None or trade_id - known <= self._margin(MOST_AHEAD):
            self._doubted = None
            return True
        doubted, self._doubted = self._doubted, trade_id
        return doubted is not None and 0 < trade_id - doubted <= MOST_AHEAD

    def _check_time(self, ts_event: int, now: int) -> None:
        margin = self._margin(STRAY_NS)
        # In a fast replay we may lag by seconds of wall time, which are minutes of its time.
        if ts_event - now > margin or now - ts_event > (margin if margin == STRAY_NS else REPLAY_LAGS * margin):
            raise StrayTime(f"{self.symbol}: expected a time within 10 s of {now}, found {ts_event}")
        self._metrics.received(ts_event, now)
        self.last_event_ns = max(ts_event, self.last_event_ns or 0)

    def _date_quote(self, ts_event: int, is_new: bool) -> None:
        # A quote has no time of its own: it happened before the event that follows it. What the next connection
        # repeats follows nothing: its old time would make every second since look as if its book lacked the quote.
        if is_new and self._ticker_ahead is not None and self._ticker_ahead.before is None:
            self._ticker_ahead.before = ts_event

    def _on_trade(self, frame: TradeFrame, now: int) -> None:
        if not frame.counts:
            self.sealer.on_uncounted(frame.trade_id, frame.time_ms * MILLISECOND_NS)
            return
        # Never before it happened, should our clock be behind the venue's: the stream refuses what is far ahead of it.
        known = max(now, frame.time_ms * MILLISECOND_NS)
        trade = frame.to_trade(ts_init=known, source=self.origin.source, session=self.origin.session)
        published = self.sealer.on_trade(trade)
        if published is not None:
            self._publish_to(self._trades_topic, published)
        if self.sealer.late > self._lates:
            self._metrics.late_trades.labels(self.symbol).inc(self.sealer.late - self._lates)
        self._lates = self.sealer.late

    def _on_depth(self, frame: DepthFrame, now: int) -> None:
        self.sealer.on_event_time(frame.ts_event)
        try:
            self._books.on_diff(frame)
        except StaleBook as error:
            self._lost_book(str(error), now)
        if self._trade_ahead is not None and frame.ts_event >= self._trade_ahead.awaited:
            self._trade_ahead = None
        if self._ticker_ahead is not None and self.book.last_update_id >= self._ticker_ahead.awaited:
            self._ticker_ahead = None
        cell = frame.ts_event // BOOK_GRID_NS
        if self.book.synced and cell > self._book_cell:
            self._book_cell = cell
            self._publish_book(now)

    def _on_ticker(self, frame: TickerFrame, now: int) -> None:
        if self.book.synced and frame.update_id > self.book.last_update_id and self._ticker_ahead is None:
            self._ticker_ahead = _Ahead(frame.update_id, now, before=None)

    def _expect_diff(self, ts_event: int, now: int) -> None:
        """A trade changes the book: a diff of its time or later must follow."""
        diff = self.book.last_diff
        if self.book.synced and self._trade_ahead is None and (diff is None or diff.ts_event < ts_event):
            self._trade_ahead = _Ahead(ts_event, now, before=ts_event)

    def _is_behind(self, close: int) -> bool:
        """Whether the stream has not come to that close (trades fetched by id may lie ahead of it), or the book lacks
        what a trade or quote before it says: its diffs are lost or late."""
        return max(self.last_event_ns or 0, self._alive) < close or any(
            ahead is not None and ahead.before is not None and ahead.before < close
            for ahead in (self._ticker_ahead, self._trade_ahead))

    def _check_stall(self, now: int) -> None:
        since = [ahead.now for ahead in (self._ticker_ahead, self._trade_ahead) if ahead is not None]
        if since and now - min(since) > self._margin(AHEAD_NS):
            self._books.lose()
            self.depth_stalled = True
            self._lost_book("trades or best quotes are newer than the book: its diffs stalled", now)

    def _lost_book(self, reason: str, now: int) -> None:
        log.warning("book_lost", symbol=self.symbol, reason=reason)
        self._ticker_ahead = self._trade_ahead = None
        self._want_snapshot(now)
        self._metrics.book_resyncs.labels(self.symbol).inc()
        self._metrics.book_valid.labels(self.symbol).set(0)

    def _publish_book(self, now: int) -> None:
        self._book_at = now
        diff = self.book.last_diff
        message = order_book(
            self.book, ts_event=diff.ts_event if diff is not None else now, ts_init=now, source=self.origin.source,
            session=self.origin.session,
        )
        if message is not None:
            self._publish_to(self._book_topic, message)

    def owe_lost(self, now: int) -> None:
        """Take note of the ids that were given up: they are fetched when the stream has gone on."""
        lost = self.sealer.take_lost()
        if lost and market_of(self.symbol).tells_trades:
            self.arrears.owe(lost, self.origin, now)

    # --- seals ---

    @property
    def hole(self) -> Span | None:
        """Time before the next seal that no seal covers and that was not filled."""
        opened, sealed = self.sealer.next_open, self.sealer.prev_close
        if opened is None or opened == sealed or self._filled == Span(sealed, opened):
            return None
        return Span(sealed, opened)

    def filled(self, span: Span) -> None:
        """The span's history was published, or cannot be had."""
        self._filled = span
        if span.start_ns is not None:
            self._metrics.holes.labels(self.symbol).inc((span.end_ns - span.start_ns) / SECOND_NS)

    def unfillable(self, missing: Missing) -> None:
        """Trade ids nobody can tell: their seconds become a hole."""
        log.warning("trades_unfillable", symbol=self.symbol, first=missing.first, last=missing.last)
        self.sealer.on_unfillable(missing)

    def seal(self, now: int) -> None:
        """Publish every seal that is due."""
        if self.hole is not None or not self._has_room():
            return
        for second in self.sealer.take():
            # Never before the second's end, should our clock be behind the venue's.
            self._publish_to(self._trades_topic, self._sealed(second, max(now, second.close)))
            self._metrics.sealed(self.symbol, second.close, now, second.recovered)
            if not self._has_room():
                return  # thousands of seconds may be due behind an outage: the rest at a later tick

    def _sealed(self, second: Second, now: int) -> SecondClosed:
        state = BookState() if self._is_behind(second.close) else self._books.state_at(second.close)
        return SecondClosed(
            symbol=self.symbol, ts_event=second.close, ts_init=now, source=self.origin.source,
            session=self.origin.session, close=second.close, prev_close=second.prev_close, n_trades=second.n_trades,
            first_trade_id=second.first_trade_id, last_trade_id=second.last_trade_id, **state.model_dump(),
        )
