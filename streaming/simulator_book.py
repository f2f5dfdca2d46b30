"""Book of a simulated minute: what stands in it when, and every change of a level.

    part = part_of(Hours("BTCUSDT", seed=1, trade_rate=4.0), 28_401_120)
    changes = changes_of(part, ladder, book_at_end(hours, 28_401_119), told_ms=59_950)

The book changes when quotes are renewed (five times a second) and when something trades; in between it is what
`Ladder` says. A minute begins with the book that stood at the end of the minute before and ends by setting again what
was taken in its last step, so minutes can be made in any order and still join.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from streaming.simulator_days import FIRST_DAY, Ints
from streaming.simulator_hours import MINUTE_MS, STEP_MS, STEPS, Hour, Hours
from streaming.simulator_ladder import FULL, Ladder, shown
from streaming.tape import Snapshot

UPDATES_PER_MINUTE = 100_000
"""Update ids of a minute; its last diff takes those that are left, so that every minute's first id is known."""
# Order of what happens in one millisecond.
LEFT, BEHIND, QUOTED, TRADED = 0, 1, 2, 3
BID, ASK = 0, 1
SIGN = (-1, 1)


class Changes(NamedTuple):
    """Levels set to a quantity, in order. `key` is 4 × (ms of the minute) + the order within the ms."""

    key: Ints
    side: Ints
    ticks: Ints
    steps: Ints


class Part(NamedTuple):
    """A minute's part of its hour."""

    minute: int
    hour: Hour
    trades: slice

    @property
    def steps(self) -> slice:
        """Its steps among the hour's."""
        first = self.minute % 60 * STEPS
        return slice(first, first + STEPS)

    @property
    def step_ms(self) -> Ints:
        """When quotes are renewed, ms of the minute."""
        return self.hour.step_ms[self.steps] - self._begin_ms

    @property
    def time_ms(self) -> Ints:
        """Trades' times, ms of the minute."""
        return self.hour.time_ms[self.trades] - self._begin_ms

    @property
    def _begin_ms(self) -> int:
        return self.minute % 60 * MINUTE_MS

    def quotes(self, side: int) -> tuple[Ints, Ints, Ints]:
        """A side's best price, the quantity there, and the depth behind it in quarters: per step."""
        hour, steps = self.hour, self.steps
        if side == BID:
            return hour.bid[steps], hour.bid_steps[steps], hour.bid_quarters[steps]
        return hour.ask[steps], hour.ask_steps[steps], hour.ask_quarters[steps]


def part_of(hours: Hours, minute: int) -> Part:
    """A minute since 1970, in its hour."""
    hour = hours.hour(minute // 60)
    begin = minute % 60 * MINUTE_MS
    return Part(minute, hour, slice(hour.trades_before(begin), hour.trades_before(begin + MINUTE_MS)))


class Levels(NamedTuple):
    """One side's levels behind the best quote: `steps[i, k]` is the quantity at `ticks[i]` in step k, 0 for none."""

    ticks: Ints
    steps: Ints
    near: NDArray[np.bool_]
    """Whether the place is within the ladder's `near`, or not behind the best at all."""

    def at(self, ticks: Ints, step: Ints) -> Ints:
        """Quantities at prices of cells, each in its step."""
        found: Ints = self.steps[np.searchsorted(self.ticks, ticks), step]
        return found


def levels(ladder: Ladder, side: int, touch: Ints, quarters: Ints, first_step: int) -> Levels:
    """Levels behind a best price over consecutive steps, the first counted since 1970."""
    sign = SIGN[side]
    cells = _cells(ladder, side, int(touch.min()), int(touch.max()))
    ticks = ladder.tick(cells)
    away = sign * (ticks[:, None] - touch)
    near = away <= ladder.near
    there = (away > 0) & (ticks > 0)[:, None] & (near | ((away <= ladder.reach) & (cells % ladder.thin == 0)[:, None]))
    # In so many steps an order is replaced once at most.
    age = ladder.age(cells[:, None], first_step + np.arange(len(touch)))
    first, last = (ladder.size(cells, age[:, at])[:, None] for at in (0, -1))
    size = np.where(age == age[:, :1], first, last)
    return Levels(ticks, np.where(there, shown(size, np.where(near, quarters, FULL)), 0), near)


def _cells(ladder: Ladder, side: int, low: int, high: int) -> Ints:
    """Cells that may hold a level while the best price is in [low, high]."""
    spans = ((ladder.reach, ladder.thin), (ladder.near, 1))
    if side == BID:
        return np.union1d(*(ladder.cells_between(low - span, high, every) for span, every in spans))
    return np.union1d(*(ladder.cells_between(low, high + span, every) for span, every in spans))


def book_at_end(hours: Hours, minute: int) -> Snapshot:
    """The book that a minute leaves, by its last diff."""
    part = part_of(hours, minute)
    sides = []
    for side in (BID, ASK):
        price, steps, quarters = (column[-1:] for column in part.quotes(side))
        behind = levels(hours.ladder(minute // 1_440), side, price, quarters, (minute + 1) * STEPS - 1)
        sides.append(_book(behind, 0) | {int(price[0]): int(steps[0])})
    return Snapshot((minute + 1 - FIRST_DAY * 1_440) * UPDATES_PER_MINUTE, *sides)


def _book(behind: Levels, step: int) -> dict[int, int]:
    held = np.flatnonzero(behind.steps[:, step])
    return dict(zip(behind.ticks[held].tolist(), behind.steps[held, step].tolist(), strict=True))


def changes_of(part: Part, ladder: Ladder, opening: Snapshot, told_ms: int) -> Changes:
    """Every level that is set in a minute that begins with that book; at `told_ms` what was taken stands again."""
    pieces = [piece for side in (BID, ASK) for piece in _changes(part, ladder, side, opening, told_ms)]
    changes = Changes(*(np.concatenate(columns) for columns in zip(*pieces, strict=True)))
    order = np.argsort(changes.key, kind="stable")
    assert len(order) < UPDATES_PER_MINUTE
    return Changes(*(column[order] for column in changes))


def _changes(part: Part, ladder: Ladder, side: int, opening: Snapshot, told_ms: int) -> Iterator[Changes]:
    """What happens to one side's levels in a minute."""
    price, steps, quarters = part.quotes(side)
    behind = levels(ladder, side, price, quarters, part.minute * STEPS)
    step_ms = part.step_ms
    before = opening.bids if side == BID else opening.asks
    yield _opened(side, before, _book(behind, 0) | {int(price[0]): int(steps[0])})
    yield _moved(side, behind, step_ms, told_ms)
    yield _set(4 * step_ms[1:] + LEFT, side, price[:-1], np.zeros(STEPS - 1, np.int64))
    yield _set(4 * step_ms[1:] + QUOTED, side, price[1:], steps[1:])
    yield _set(np.array([4 * told_ms + QUOTED]), side, price[-1:], steps[-1:])
    trades = part.trades
    mine = part.hour.buyer_is_maker[trades] == (side == BID)
    ticks, left = part.hour.ticks[trades][mine], part.hour.left[trades][mine]
    yield _set(4 * part.time_ms[mine] + TRADED, side, ticks, left)
    swept = part.hour.depth[trades][mine] > 0
    after = part.hour.step[trades][mine][swept] - part.steps.start + 1
    at = np.append(step_ms, told_ms)[after]
    yield _set(4 * at + BEHIND, side, ticks[swept], behind.at(ticks[swept], np.minimum(after, STEPS - 1)))


def _set(key: Ints, side: int, ticks: Ints, steps: Ints) -> Changes:
    return Changes(key, np.full(len(key), side), ticks, steps)


def _opened(side: int, before: dict[int, int], now: dict[int, int]) -> Changes:
    """From the book of the minute before to that of the first step."""
    changed = {tick: 0 for tick in before if tick not in now}
    changed |= {tick: steps for tick, steps in now.items() if before.get(tick) != steps}
    ticks, steps = (np.array(list(column), np.int64) for column in (changed, changed.values()))
    return _set(np.full(len(ticks), BEHIND), side, ticks, steps)


def _moved(side: int, behind: Levels, step_ms: Ints, told_ms: int) -> Changes:
    """Levels that come, go or are replaced from step to step; far from the best half a step later than near it."""
    step, row = np.nonzero((behind.steps[:, 1:] != behind.steps[:, :-1]).T)
    near = behind.near[row, step] | behind.near[row, step + 1]
    at = step_ms[step + 1]
    at = np.where(near, at, np.minimum(at + STEP_MS // 2, told_ms))
    return _set(4 * at + BEHIND, side, behind.ticks[row], behind.steps[row, step + 1])
