"""Trades the exchange has sent so far, by id or time, over all laps; and their aggregation per taker order.

Ids are contiguous over laps. Nothing after the moment asked about is ever returned.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from functools import cached_property
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from streaming.exchange_clock import Lap, Moment, Timeline
from streaming.tape import MS, Ints


class TradeRows(NamedTuple):
    """Columns of trades in the order sent: `time_ms` trade time, prices in ticks, quantities in steps."""

    ids: Ints
    time_ms: Ints
    ticks: Ints
    steps: Ints
    buyer_is_maker: NDArray[np.bool_]

    def part(self, rows: slice | NDArray[np.bool_]) -> TradeRows:
        ids, time_ms, ticks, steps, maker = self
        return TradeRows(ids[rows], time_ms[rows], ticks[rows], steps[rows], maker[rows])

    def __len__(self) -> int:
        return len(self.ids)


class Aggregates(NamedTuple):
    """Aggregated trades: ids, first and last trade row of each in `rows`."""

    ids: Ints
    first: Ints
    last: Ints
    rows: TradeRows


def lap_trades(lap: Lap, symbol: str) -> TradeRows:
    """All trades of a lap, as that lap sends them."""
    section = lap.section.symbols[symbol]
    trades, part = section.tape.trades, section.trades
    ticks, maker = trades.ticks[part], trades.buyer_is_maker[part]
    return TradeRows(
        trades.ids[part] + lap.trade_offset[symbol], trades.time_ms[part] + lap.shift_ns // MS,
        section.mirror - ticks if lap.mirrored else ticks, trades.steps[part], ~maker if lap.mirrored else maker,
    )


def sent_count(lap: Lap, symbol: str, moment: Moment) -> int:
    """How many of the lap's trades have been sent at the moment."""
    at = lap.section.symbols[symbol].trade_at
    if lap.number != moment.lap.number:
        return len(at) if lap.number < moment.lap.number else 0
    return int(np.searchsorted(at, moment.position, side="left"))


def group_starts(rows: TradeRows) -> Ints:
    """Where each aggregated trade begins: same time, price and taker side are one taker order at one price."""
    if not len(rows):
        return np.empty(0, np.int64)
    maker = rows.buyer_is_maker
    new = (np.diff(rows.time_ms) != 0) | (np.diff(rows.ticks) != 0) | (maker[1:] != maker[:-1])
    return np.concatenate(([0], np.flatnonzero(new) + 1))


class TradeLog:
    """One symbol's trades over the laps of a timeline."""

    def __init__(self, timeline: Timeline, symbol: str) -> None:
        self._timeline = timeline
        self._symbol = symbol

    @cached_property
    def _groups_per_lap(self) -> int:
        lap = self._timeline.lap(self._timeline.first_lap_number)
        return len(group_starts(lap_trades(lap, self._symbol)))

    def from_id(self, first_id: int, limit: int, moment: Moment) -> TradeRows:
        """Up to `limit` trades from that id on."""
        start = self._lap_number(first_id - self._first_id(), self._timeline.lap(0), "trade")
        parts = (rows.part(rows.ids >= first_id) for rows in self._laps(start, moment))
        return first_of(parts, limit)

    def newest(self, limit: int, moment: Moment) -> TradeRows:
        """The last `limit` trades sent, oldest first."""
        parts: list[TradeRows] = []
        for number in range(moment.lap.number, self._timeline.first_lap_number - 1, -1):
            parts.insert(0, self._sent(number, moment))
            if sum(map(len, parts)) >= limit:
                break
        return joined_trades(parts).part(slice(-limit, None))

    def aggregates_from_id(self, first_id: int, limit: int, moment: Moment) -> Aggregates:
        """Up to `limit` aggregated trades from that aggregate id on."""
        order = first_id // self._groups_per_lap
        start = self._clamp(order - self._timeline.lap(0).order)
        return self._aggregates(start, moment, limit, first_id=first_id)

    def aggregates_between(self, start_ms: int, end_ms: int, limit: int, moment: Moment) -> Aggregates:
        """Up to `limit` aggregated trades from `start_ms` on, both ends included."""
        lap = self._timeline.lap(0)
        start = self._lap_number(start_ms * MS - lap.start_ns, lap, "time")
        return self._aggregates(start, moment, limit, start_ms=start_ms, end_ms=end_ms)

    def newest_aggregates(self, limit: int, moment: Moment, end_ms: int | None = None) -> Aggregates:
        """The last `limit` aggregated trades, oldest first."""
        start = self._clamp(moment.lap.number - 1)
        found = self._aggregates(start, moment, None, end_ms=end_ms)
        return Aggregates(found.ids[-limit:], found.first[-limit:], found.last[-limit:], found.rows)

    def _aggregates(
        self, start: int, moment: Moment, limit: int | None, *,
        first_id: int = 0, start_ms: int = 0, end_ms: int | None = None,
    ) -> Aggregates:
        ids, first, last, rows = [], [], [], []
        base = 0
        for number in range(start, moment.lap.number + 1):
            lap = self._timeline.lap(number)
            trades = lap_trades(lap, self._symbol)
            starts = group_starts(trades)
            ends = np.append(starts[1:], len(trades)) - 1
            group_ids = np.arange(len(starts)) + lap.order * self._groups_per_lap
            times = trades.time_ms[starts]
            wanted = (ends < sent_count(lap, self._symbol, moment)) & (group_ids >= first_id) & (times >= start_ms)
            if end_ms is not None:
                wanted &= times <= end_ms
            ids.append(group_ids[wanted])
            first.append(starts[wanted] + base)
            last.append(ends[wanted] + base)
            rows.append(trades)
            base += len(trades)
            if limit is not None and sum(map(len, ids)) >= limit:
                break
        parts = (np.concatenate(part)[:limit] for part in (ids, first, last))
        return Aggregates(next(parts), next(parts), next(parts), joined_trades(rows))

    def _laps(self, start: int, moment: Moment) -> Iterator[TradeRows]:
        for number in range(start, moment.lap.number + 1):
            yield self._sent(number, moment)

    def _sent(self, number: int, moment: Moment) -> TradeRows:
        lap = self._timeline.lap(number)
        return lap_trades(lap, self._symbol).part(slice(0, sent_count(lap, self._symbol, moment)))

    def _first_id(self) -> int:
        lap = self._timeline.lap(0)
        return lap.section.symbols[self._symbol].first_trade_id + lap.trade_offset[self._symbol]

    def _lap_number(self, distance: int, lap: Lap, unit: str) -> int:
        """The lap that lies `distance` (ids or ns) after the beginning of lap 0, as far back as laps reach."""
        loop = self._timeline.loop or lap.section
        span = loop.symbols[self._symbol].trade_span if unit == "trade" else loop.length_ns
        return self._clamp(distance // span)

    def _clamp(self, number: int) -> int:
        first = self._timeline.first_lap_number
        return max(first, min(number, 0)) if self._timeline.once else max(first, number)


def first_of(parts: Iterable[TradeRows], limit: int) -> TradeRows:
    """The first `limit` trades of parts in order; no more parts are made than are needed."""
    found: list[TradeRows] = []
    for rows in parts:
        found.append(rows)
        if sum(map(len, found)) >= limit:
            break
    return joined_trades(found).part(slice(0, limit))


def joined_trades(parts: Sequence[TradeRows]) -> TradeRows:
    """Parts in order as one."""
    if not parts:
        none = np.empty(0, np.int64)
        return TradeRows(none, none, none, none, none.astype(bool))
    return TradeRows(*(np.concatenate(columns) for columns in zip(*parts, strict=True)))
