"""Klines: bars of exactly the trades sent so far; before the first lap, the data folder's official ones.

Sums are integers (ticks × steps), so a kline equals a bar built from the streamed trades to the last digit.
The open kline is served with its partial values, as the venue does. Official minutes come shifted by whole
minutes and rescaled by one factor to join; they have no trade count and no taker volume (0 means unknown under a
positive volume), and their quote volume is volume × the mean of open, high, low and close.
"""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

import numpy as np

from streaming.exchange_clock import Lap, Moment, Timeline
from streaming.exchange_history import Minutes
from streaming.exchange_trades import TradeRows, lap_trades, sent_count
from streaming.tape import MS, Ints, Scale

SECOND_MS = 1_000
MINUTE_MS = 60_000
INTERVALS_MS = {"1s": SECOND_MS, "1m": MINUTE_MS, "5m": 5 * MINUTE_MS, "15m": 15 * MINUTE_MS, "1h": 60 * MINUTE_MS}


class BarRows(NamedTuple):
    """Columns of bars by open time: prices in ticks, volumes in steps, quote volumes in ticks × steps."""

    open_ms: Ints
    open: Ints
    high: Ints
    low: Ints
    close: Ints
    volume: Ints
    quote: Ints
    trades: Ints
    taker_volume: Ints
    taker_quote: Ints

    def part(self, begin_ms: int, end_ms: int) -> BarRows:
        """Rows that open in [begin, end)."""
        return self.rows(slice(*np.searchsorted(self.open_ms, (begin_ms, end_ms))))

    def rows(self, rows: slice) -> BarRows:
        return BarRows(*(column[rows] for column in self))

    def moved(self, shift_ms: int) -> BarRows:
        return self._replace(open_ms=self.open_ms + shift_ms)


def no_bars() -> BarRows:
    return BarRows(*(np.empty(0, np.int64) for _ in BarRows._fields))


def joined(parts: list[BarRows]) -> BarRows:
    return BarRows(*(np.concatenate(columns) for columns in zip(*parts, strict=True))) if parts else no_bars()


def bars_of_trades(trades: TradeRows, interval_ms: int) -> BarRows:
    """One row for each interval that has trades."""
    if not len(trades):
        return no_bars()
    order = np.argsort(trades.ids, kind="stable")
    _, time_ms, ticks, steps, maker = trades.part(slice(None))
    opens = time_ms[order] // interval_ms * interval_ms
    ticks, steps, taker = ticks[order], steps[order], np.where(maker[order], 0, steps[order])
    first = np.concatenate(([0], np.flatnonzero(np.diff(opens)) + 1))
    return _reduced(opens, first, BarRows(
        opens, ticks, ticks, ticks, ticks, steps, steps * ticks, np.ones_like(steps), taker, taker * ticks))


def regrouped(bars: BarRows, interval_ms: int) -> BarRows:
    """Bars of a longer interval, on the epoch's grid."""
    if not len(bars.open_ms):
        return bars
    opens = bars.open_ms // interval_ms * interval_ms
    return _reduced(opens, np.concatenate(([0], np.flatnonzero(np.diff(opens)) + 1)), bars)


def _reduced(opens: Ints, first: Ints, rows: BarRows) -> BarRows:
    last = np.append(first[1:], len(opens)) - 1
    sums = (np.add.reduceat(column, first) for column in rows[5:])
    return BarRows(
        opens[first], rows.open[first], np.maximum.reduceat(rows.high, first), np.minimum.reduceat(rows.low, first),
        rows.close[last], *sums,
    )


def dense(bars: BarRows, begin_ms: int, end_ms: int, interval_ms: int, price: int) -> BarRows:
    """A row for every interval of [begin, end); one without trades carries the close before it, `price` at first."""
    opens = np.arange(begin_ms, end_ms, interval_ms)
    at = np.searchsorted(bars.open_ms, opens, side="right") - 1
    has = (at >= 0) & (bars.open_ms[at] == opens) if len(bars.open_ms) else np.zeros(len(opens), bool)
    carried = np.where(at >= 0, bars.close[at], price) if len(bars.open_ms) else np.full(len(opens), price)
    rows = at[has]
    columns = []
    for name, column in zip(BarRows._fields[1:], bars[1:], strict=True):
        filled = carried.copy() if name in ("open", "high", "low", "close") else np.zeros(len(opens), np.int64)
        filled[has] = column[rows]
        columns.append(filled)
    return BarRows(opens, *columns)


class KlineLog:
    """One symbol's klines over the laps of a timeline and the history before them."""

    def __init__(self, timeline: Timeline, symbol: str, history: Minutes | None) -> None:
        self._timeline = timeline
        self._symbol = symbol
        self.scale: Scale = timeline.first.symbols[symbol].tape.scale
        self._history = self._joined_history(history) if history is not None else no_bars()
        self._whole_lap = lru_cache(maxsize=8)(self._bars_of_section)

    def rows(self, interval_ms: int, start_ms: int | None, end_ms: int | None, limit: int, moment: Moment) -> BarRows:
        """Klines that open in [start, end], the first `limit` from a start, else the last `limit`; the open one too."""
        newest = moment.venue_ns // MS // interval_ms * interval_ms
        last = newest if end_ms is None else min(end_ms // interval_ms * interval_ms, newest)
        first = self._earliest(interval_ms)
        if start_ms is not None:
            first = max(-(-start_ms // interval_ms) * interval_ms, first)
        # Where bars are missing, the venue goes on until it has as many as were asked for.
        reach = limit
        while True:
            span = (reach - 1) * interval_ms
            begin, end = (max(first, last - span), last) if start_ms is None else (first, min(last, first + span))
            found = self._between(interval_ms, begin, end + interval_ms, moment)
            if len(found.open_ms) >= limit or (begin == first and end >= last):
                return found.rows(slice(-limit, None) if start_ms is None else slice(limit))
            reach *= 2

    def _between(self, interval_ms: int, begin_ms: int, end_ms: int, moment: Moment) -> BarRows:
        base = min(interval_ms, MINUTE_MS)
        found = joined([self._before(base, begin_ms, end_ms, moment), *self._streamed(base, begin_ms, end_ms, moment)])
        return found if base == interval_ms else regrouped(found, interval_ms)

    def _earliest(self, interval_ms: int) -> int:
        first = self._timeline.lap(self._timeline.first_lap_number).start_ns // MS
        if interval_ms >= MINUTE_MS and len(self._history.open_ms):
            first = int(self._history.open_ms[0])
        return first // interval_ms * interval_ms

    def _before(self, interval_ms: int, begin_ms: int, end_ms: int, moment: Moment) -> BarRows:
        if interval_ms != MINUTE_MS:
            return no_bars()
        closed = moment.venue_ns // MS // MINUTE_MS * MINUTE_MS
        return self._history.part(begin_ms, min(end_ms, closed))

    def _streamed(self, interval_ms: int, begin_ms: int, end_ms: int, moment: Moment) -> list[BarRows]:
        timeline, parts = self._timeline, []
        # A minute that the tape holds only in part is the official one's as soon as it is closed.
        closed = moment.venue_ns // MS // MINUTE_MS * MINUTE_MS
        taken = min(self._history_end, closed) if interval_ms == MINUTE_MS else 0
        for number in range(self._first_number(begin_ms), moment.lap.number + 1):
            lap = timeline.lap(number)
            if lap.start_ns // MS >= end_ms:
                break
            now = number == moment.lap.number
            bars = self._bars_now(lap, interval_ms, moment) if now else self._bars(lap, interval_ms)
            parts.append(bars.part(max(begin_ms, taken), end_ms))
        return parts

    @property
    def _history_end(self) -> int:
        return int(self._history.open_ms[-1]) + MINUTE_MS if len(self._history.open_ms) else 0

    def _first_number(self, begin_ms: int) -> int:
        lap = self._timeline.lap(0)
        loop = self._timeline.loop or lap.section
        number = (begin_ms * MS - lap.start_ns) // loop.length_ns
        return max(self._timeline.first_lap_number, min(number, 0) - 1 if self._timeline.once else number)

    def _bars(self, lap: Lap, interval_ms: int) -> BarRows:
        """All bars of a lap that is over."""
        return self._whole_lap(lap.number == 0, lap.mirrored, interval_ms).moved(lap.shift_ns // MS)

    def _bars_of_section(self, first: bool, mirrored: bool, interval_ms: int) -> BarRows:
        """Bars of one whole lap on the tape's own time axis: the same for all laps of a kind."""
        number = 0 if first else (1 if mirrored else 2) if not self._timeline.once else -1 if mirrored else -2
        if not first and number < self._timeline.first_lap_number:
            number = 0
        lap = self._timeline.lap(number)
        trades = lap_trades(lap, self._symbol)
        begin_ms, end_ms = self._bounds(lap, trades, interval_ms)
        return dense(bars_of_trades(trades, interval_ms), begin_ms, end_ms, interval_ms, int(trades.ticks[0])).moved(
            -lap.shift_ns // MS)

    def _bounds(self, lap: Lap, trades: TradeRows, interval_ms: int) -> tuple[int, int]:
        # The whole tape played once begins within a bar: nothing is known before its first trade.
        partial = self._timeline.once and lap.number == 0
        begin = int(trades.time_ms[0]) if partial else lap.start_ns // MS
        return begin // interval_ms * interval_ms, -(-(lap.end_ns // MS) // interval_ms) * interval_ms

    def _bars_now(self, lap: Lap, interval_ms: int, moment: Moment) -> BarRows:
        """Bars of the lap that plays, from the trades sent so far, up to the open one."""
        trades = lap_trades(lap, self._symbol)
        sent = sent_count(lap, self._symbol, moment)
        begin_ms, _ = self._bounds(lap, trades, interval_ms)
        end_ms = moment.venue_ns // MS // interval_ms * interval_ms + interval_ms
        if sent == 0:
            partial = self._timeline.once and lap.number == 0
            return no_bars() if partial else dense(no_bars(), begin_ms, end_ms, interval_ms, int(trades.ticks[0]))
        open_ms = int(trades.time_ms[sent - 1]) // interval_ms * interval_ms
        done = self._bars(lap, interval_ms).part(0, open_ms)
        within = (trades.time_ms[:sent] // interval_ms) * interval_ms == open_ms
        newest = bars_of_trades(trades.part(slice(0, sent)).part(within), interval_ms)
        return joined([done, dense(newest, open_ms, max(end_ms, open_ms + interval_ms), interval_ms, 0)])

    def _joined_history(self, minutes: Minutes) -> BarRows:
        timeline = self._timeline
        lap = timeline.lap(timeline.first_lap_number)
        shift = lap.shift_ns // MS
        join = -(-(lap.start_ns // MS) // MINUTE_MS) * MINUTE_MS
        minutes = minutes.part(minutes.open_ms + shift < join)
        if not len(minutes.open_ms):
            return no_bars()
        factor = 1.0
        if timeline.shift_ns:
            # A file that ends before the recording begins is moved on, by whole minutes, until it joins.
            shift += join - MINUTE_MS - (int(minutes.open_ms[-1]) + shift)
            factor = float(lap_trades(lap, self._symbol).ticks[0]) / 10**self.scale.price / float(minutes.close[-1])
        return self._scaled(minutes, shift, factor)

    def _scaled(self, minutes: Minutes, shift_ms: int, factor: float) -> BarRows:
        prices = [np.rint(column * factor * 10**self.scale.price).astype(np.int64) for column in minutes[1:5]]
        volume, taker = (np.rint(column * 10**self.scale.quantity).astype(np.int64) for column in minutes[5:7])
        sum_of_four = sum(prices[1:], prices[0])
        opened, high, low, close = prices
        return BarRows(
            minutes.open_ms + shift_ms, opened, high, low, close, volume, volume * sum_of_four // 4,
            np.zeros_like(volume), taker, taker * sum_of_four // 4,
        )
