"""The simulated market behind the exchange: laps without end, and REST's trades and klines of any time since 2010.

    market = simulated_market(("BTCUSDT",), seed=1, trade_rate=4.0, clock=clock)
    market.symbols["BTCUSDT"].klines.rows(60_000, None, None, 500, market.moment())

A lap is one minute. Three laps are kept, and the next one is made by a thread while one plays, so a lap is never
waited for. Everything REST tells is reduced from the same trades that are streamed, however old.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from functools import lru_cache

import numpy as np

from feature_repo.contracts import MINUTE_NS
from streaming.exchange_book import Book, BookKeeper
from streaming.exchange_clock import Clock, Lap, Moment, Section, SymbolSection
from streaming.exchange_history import Minutes
from streaming.exchange_klines import MINUTE_MS, BarRows, bars_of_trades, dense, joined, regrouped
from streaming.exchange_market import Market, SymbolMarket
from streaming.exchange_trades import Aggregates, TradeRows, first_of, joined_trades, sent_count
from streaming.simulator import FIRST_MS, checked
from streaming.simulator_days import Ints
from streaming.simulator_hours import HOUR_MS, Hour, Hours
from streaming.simulator_minutes import STREAMS, Frame, SymbolMinute, symbol_minute
from streaming.tape import MS, Tape

LAPS_KEPT = 3
HOURS_KEPT = 64
"""Hours of klines kept per symbol and interval, so that a client that pages on does not make an hour twice."""


class EndlessTimeline:
    """Laps of a minute, numbered since 1970."""

    once = False
    endless = True

    def __init__(self, hours: Sequence[Hours], session: str) -> None:
        self._hours = hours
        self._session = session
        self._laps: dict[int, Future[Lap]] = {}
        self._maker = ThreadPoolExecutor(1, "simulator")

    def lap(self, number: int) -> Lap:
        """That minute; the next one is begun."""
        wanted = self._laps.pop(number, None) or self._maker.submit(self._make, number)
        following = self._laps.pop(number + 1, None) or self._maker.submit(self._make, number + 1)
        # The newest asked for stand last.
        self._laps |= {number: wanted, number + 1: following}
        while len(self._laps) > LAPS_KEPT:
            self._laps.pop(next(iter(self._laps))).cancel()
        return wanted.result()

    def moment(self, venue_ns: int) -> Moment:
        lap = self.lap(venue_ns // MINUTE_NS)
        return Moment(lap, lap.position(venue_ns), venue_ns)

    def _make(self, number: int) -> Lap:
        section = _section(number * MINUTE_NS, [symbol_minute(hours, number) for hours in self._hours])
        still = dict.fromkeys(section.symbols, 0)
        return Lap(number, section, section.begin_ns, False, self._session, still, still, 0)


def _section(begin_ns: int, minutes: Sequence[SymbolMinute]) -> Section:
    """One minute of all symbols in one order of sending."""
    frames = [frame for minute in minutes for frame in minute.frames]
    sent = np.array([frame.emit_ns for frame in frames])
    order = np.argsort(sent, kind="stable")
    rank = np.empty(len(order), np.int64)
    rank[order] = np.arange(len(order))
    first = np.cumsum([0, *(len(minute.frames) for minute in minutes)])
    symbol = np.repeat(np.arange(len(minutes)), np.diff(first))[order]
    tape = _tape([frames[i] for i in order.tolist()], sent[order], minutes, symbol)
    symbols = {
        minute.tape.symbol: SymbolSection(
            minute.tape, slice(0, len(minute.tape.trades.ids)), slice(0, len(minute.tape.diffs.last_ids)),
            rank[minute.tape.trades.frame + at], rank[minute.tape.diffs.frame + at])
        for minute, at in zip(minutes, first.tolist(), strict=False)
    }
    return Section(tape, begin_ns, MINUTE_NS, np.arange(len(frames)), sent[order] - begin_ns, symbols)


def _tape(frames: Sequence[Frame], emit_ns: Ints, minutes: Sequence[SymbolMinute], symbol: Ints) -> Tape:
    texts = [frame.text.encode() for frame in frames]
    kinds = np.array([frame.stream for frame in frames])
    return Tape(
        "simulated", "spot", emit_ns, np.array([frame.event_ms for frame in frames]),
        (symbol * len(STREAMS) + kinds).astype(np.int16),
        tuple(f"{minute.tape.symbol.lower()}@{name}" for minute in minutes for name in STREAMS),
        {minute.tape.symbol: minute.tape for minute in minutes}, b"".join(texts),
        np.concatenate(([0], np.cumsum([len(text) for text in texts]))),
    )


class SimulatedBooks:
    """The book within a lap: its opening and the diffs sent since."""

    def __init__(self, symbol: str) -> None:
        self._symbol = symbol
        self._lap: Lap | None = None

    def at(self, lap: Lap, position: int) -> Book:
        if lap is not self._lap:
            self._lap, self._keeper = lap, BookKeeper(lap.section.symbols[self._symbol].tape)
        return self._keeper.at(lap, position)


def trade_rows(hour: Hour) -> TradeRows:
    """All trades of an hour."""
    ids = hour.first_id + np.arange(len(hour.ticks))
    return TradeRows(ids, hour.number * HOUR_MS + hour.time_ms, hour.ticks, hour.steps, hour.buyer_is_maker)


class SimulatedTrades:
    """One symbol's trades of any time. Each is an aggregate of its own: no two share time, price and side."""

    def __init__(self, hours: Hours) -> None:
        self._hours = hours

    def of_hour(self, number: int, moment: Moment) -> TradeRows:
        """The trades of an hour since 1970 that have been sent."""
        hour, (now, minute) = self._hours.hour(number), divmod(moment.lap.number, 60)
        assert number <= now
        if number < now:
            return trade_rows(hour)
        before = hour.trades_before(minute * MINUTE_MS)
        return trade_rows(hour).part(slice(before + sent_count(moment.lap, self._hours.symbol, moment)))

    def from_id(self, first_id: int, limit: int, moment: Moment) -> TradeRows:
        """Up to `limit` trades from that id on."""
        newest = self.newest(1, moment)
        if first_id > int(newest.ids[-1]):
            return newest.part(slice(0, 0))
        start = self._hours.days.hour_of_trade(max(first_id, 1))
        return first_of((rows.part(rows.ids >= first_id) for rows in self._forward(start, moment)), limit)

    def newest(self, limit: int, moment: Moment) -> TradeRows:
        """The last `limit` trades sent, oldest first."""
        return self._newest(limit, moment, None)

    def aggregates_from_id(self, first_id: int, limit: int, moment: Moment) -> Aggregates:
        """Up to `limit` aggregated trades from that id on."""
        return _aggregates(self.from_id(first_id, limit, moment))

    def aggregates_between(self, start_ms: int, end_ms: int, limit: int, moment: Moment) -> Aggregates:
        """Up to `limit` aggregated trades from `start_ms` on, both ends included."""
        last = min(end_ms, moment.venue_ns // MS)
        hours = self._forward(max(start_ms, FIRST_MS) // HOUR_MS, moment, last // HOUR_MS)
        within = (rows.part((rows.time_ms >= start_ms) & (rows.time_ms <= last)) for rows in hours)
        return _aggregates(first_of(within, limit))

    def newest_aggregates(self, limit: int, moment: Moment, end_ms: int | None = None) -> Aggregates:
        """The last `limit` aggregated trades, oldest first."""
        return _aggregates(self._newest(limit, moment, end_ms))

    def _forward(self, start: int, moment: Moment, last: int | None = None) -> Iterator[TradeRows]:
        now = moment.lap.number // 60
        for number in range(start, min(now, now if last is None else last) + 1):
            yield self.of_hour(number, moment)

    def _newest(self, limit: int, moment: Moment, end_ms: int | None) -> TradeRows:
        now = moment.lap.number // 60
        start = now if end_ms is None else min(now, end_ms // HOUR_MS)
        parts: list[TradeRows] = []
        for number in range(start, FIRST_MS // HOUR_MS - 1, -1):
            rows = self.of_hour(number, moment)
            parts.insert(0, rows if end_ms is None else rows.part(rows.time_ms <= end_ms))
            if sum(map(len, parts)) >= limit:
                break
        return joined_trades(parts).part(slice(-limit, None))


def _aggregates(rows: TradeRows) -> Aggregates:
    each = np.arange(len(rows))
    return Aggregates(rows.ids, each, each, rows)


class SimulatedKlines:
    """One symbol's klines of any time, reduced from its trades hour by hour."""

    def __init__(self, hours: Hours, trades: SimulatedTrades) -> None:
        self._hours, self._trades = hours, trades
        self._past = lru_cache(maxsize=HOURS_KEPT)(self._whole)

    def rows(self, interval_ms: int, start_ms: int | None, end_ms: int | None, limit: int, moment: Moment) -> BarRows:
        """Klines that open in [start, end], the first `limit` from a start, else the last `limit`; the open one too."""
        newest = moment.venue_ns // MS // interval_ms * interval_ms
        last = newest if end_ms is None else min(end_ms // interval_ms * interval_ms, newest)
        span = (limit - 1) * interval_ms
        first = max(FIRST_MS, last - span if start_ms is None else -(-start_ms // interval_ms) * interval_ms)
        end = min(last, first + span) + interval_ms
        base = min(interval_ms, MINUTE_MS)
        hours = range(first // HOUR_MS, -(-end // HOUR_MS))
        bars = joined([self._bars(number, base, moment).part(first, end) for number in hours])
        return bars if base == interval_ms else regrouped(bars, interval_ms)

    def _bars(self, number: int, interval_ms: int, moment: Moment) -> BarRows:
        if number < moment.lap.number // 60:
            return self._past(number, interval_ms)
        end_ms = moment.venue_ns // MS // interval_ms * interval_ms + interval_ms
        return _bars(self._hours, self._trades.of_hour(number, moment), number, end_ms, interval_ms)

    def _whole(self, number: int, interval_ms: int) -> BarRows:
        return _bars(self._hours, trade_rows(self._hours.hour(number)), number, (number + 1) * HOUR_MS, interval_ms)


def _bars(hours: Hours, trades: TradeRows, number: int, end_ms: int, interval_ms: int) -> BarRows:
    """Bars of an hour's trades from its begin to `end_ms`."""
    before = hours.last_price(number - 1)
    return dense(bars_of_trades(trades, interval_ms), number * HOUR_MS, end_ms, interval_ms, before)


def simulated_minutes(hours: Hours, until_ms: int, minutes: int) -> Minutes:
    """The minute klines before a whole minute: history for a stretch of the market that is played like a recording."""
    begin_ms = until_ms - minutes * MINUTE_MS
    numbers = range(begin_ms // HOUR_MS, -(-until_ms // HOUR_MS))
    bars = joined([
        _bars(hours, trade_rows(hours.hour(number)), number, (number + 1) * HOUR_MS, MINUTE_MS) for number in numbers
    ]).part(begin_ms, until_ms)
    price, quantity = 10.0**hours.instrument.scale.price, 10.0**hours.instrument.scale.quantity
    opened, high, low, close = (column / price for column in (bars.open, bars.high, bars.low, bars.close))
    return Minutes(bars.open_ms, opened, high, low, close, bars.volume / quantity, bars.taker_volume / quantity)


def simulated_market(symbols: Sequence[str], seed: int, trade_rate: float, clock: Clock) -> Market:
    """The market of those symbols. Raises `ValueError` for a seed or rate out of range."""
    checked(seed, trade_rate)
    hours = [Hours(symbol, seed, trade_rate) for symbol in sorted(set(symbols))]
    timeline = EndlessTimeline(hours, f"simulated-{seed}-{trade_rate:g}")
    return Market(timeline, clock, "simulated", {one.symbol: _symbol_market(one) for one in hours})


def _symbol_market(hours: Hours) -> SymbolMarket:
    trades = SimulatedTrades(hours)
    return SymbolMarket(
        hours.symbol, hours.instrument.scale, SimulatedBooks(hours.symbol), trades, SimulatedKlines(hours, trades))
