"""Market: everything the exchange knows, at one moment of its clock. WebSocket and REST are two views of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol

from feature_repo.contracts import Source
from streaming.exchange_book import Book, BookKeeper
from streaming.exchange_clock import Clock, Lap, Moment, Timeline
from streaming.exchange_frames import Frames
from streaming.exchange_history import Minutes
from streaming.exchange_klines import BarRows, KlineLog
from streaming.exchange_trades import Aggregates, TradeLog, TradeRows
from streaming.tape import MarketName, Scale

SOURCE_HEADER = "x-candlewick-source"
SESSION_HEADER = "x-candlewick-session"
SPEED_HEADER = "x-candlewick-speed"


class Laps(Protocol):
    """What is streamed, lap by lap."""

    @property
    def once(self) -> bool:
        """Lap 0 is all there is."""

    @property
    def endless(self) -> bool:
        """Laps join: a client goes on from one to the next."""

    def lap(self, number: int) -> Lap: ...

    def moment(self, venue_ns: int) -> Moment: ...


class Books(Protocol):
    """One symbol's order book at any position of a lap."""

    def at(self, lap: Lap, position: int) -> Book: ...


class SentTrades(Protocol):
    """One symbol's trades up to a moment; see `TradeLog`."""

    def from_id(self, first_id: int, limit: int, moment: Moment) -> TradeRows: ...

    def newest(self, limit: int, moment: Moment) -> TradeRows: ...

    def aggregates_from_id(self, first_id: int, limit: int, moment: Moment) -> Aggregates: ...

    def aggregates_between(self, start_ms: int, end_ms: int, limit: int, moment: Moment) -> Aggregates: ...

    def newest_aggregates(self, limit: int, moment: Moment, end_ms: int | None = None) -> Aggregates: ...


class Klines(Protocol):
    """One symbol's klines up to a moment; see `KlineLog`."""

    def rows(
        self, interval_ms: int, start_ms: int | None, end_ms: int | None, limit: int, moment: Moment) -> BarRows: ...


@dataclass(frozen=True)
class SymbolMarket:
    """One symbol's book, trades and klines."""

    symbol: str
    scale: Scale
    book: Books
    trades: SentTrades
    klines: Klines


def recorded_symbols(timeline: Timeline, history: Mapping[str, Minutes | None]) -> dict[str, SymbolMarket]:
    """The markets of a tape's symbols."""
    return {
        name: SymbolMarket(
            name, tape.scale, BookKeeper(tape), TradeLog(timeline, name), KlineLog(timeline, name, history.get(name)))
        for name, tape in sorted(timeline.tape.symbols.items())
    }


@dataclass
class Market:
    """The exchange's state: a timeline, a clock, and where the furthest client stands when the clock has no rate."""

    timeline: Laps
    clock: Clock
    source: Source
    symbols: Mapping[str, SymbolMarket] = field(repr=False)
    frames: Frames = field(init=False, repr=False, default_factory=Frames)
    _furthest: tuple[int, int] = field(init=False)

    def __post_init__(self) -> None:
        self._furthest = (self.timeline.moment(self.clock.now()).lap.number, 0)

    @property
    def venue(self) -> MarketName:
        """Which of the venue's markets its frames are of."""
        return self.moment().lap.section.tape.market

    def moment(self) -> Moment:
        """What has been sent by now."""
        if self.clock.speed:
            return self.timeline.moment(self.clock.now())
        number, position = self._furthest
        return Moment(self.timeline.lap(number), position, self.clock.now())

    def advance(self, lap: Lap, position: int) -> None:
        """At full speed: a client has been sent everything before that position; the clock follows the furthest."""
        if self.clock.speed or (lap.number, position) <= self._furthest:
            return
        self._furthest = (lap.number, position)
        self.clock.move_to(lap.sent_ns(position - 1) if position else lap.start_ns)

    def next_lap(self, lap: Lap) -> Lap | None:
        """That lap is over: at full speed the clock goes on with the one after it, and where laps join a client too."""
        if self.timeline.once:
            return None
        after = self.timeline.lap(lap.number + 1)
        self.advance(after, 0)
        return after if self.timeline.endless else None

    def headers(self, lap: Lap) -> dict[str, str]:
        """Who is speaking: source, session and speed, on every response."""
        return {SOURCE_HEADER: self.source, SESSION_HEADER: lap.session, SPEED_HEADER: f"{self.clock.speed:g}"}
