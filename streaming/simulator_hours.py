"""Hours of the simulated market: best quotes five times a second, and every trade at them.

    >>> hours = Hours("BTCUSDT", seed=1, trade_rate=5.0)
    >>> hour = hours.hour(473_352)  # of 2024-01-01
    >>> len(hour.bid), bool((hour.bid < hour.ask).all())
    (18000, True)

The fair price moves by a Brownian bridge between the minutes' edges, a jump at one step of its minute. Quotes are
renewed once a step around the fair price of the step's begin, so nothing that trades or rests knows the future. Trades
arrive by a self-exciting process, buy rather when the price has just risen, and take from the best quote less than
stands there; some bursts are one order that takes the whole best level and goes on into those behind: a sweep.
"""

from __future__ import annotations

import zlib
from functools import lru_cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from streaming.simulator_arrivals import arrivals
from streaming.simulator_days import (
    FIRST_DAY,
    MARKET,
    MINUTE_VOLATILITY,
    DayMinutes,
    Days,
    Floats,
    Ints,
    mixed,
    noise,
)
from streaming.simulator_instruments import instrument
from streaming.simulator_ladder import FULL, LEVEL_TRADES, Ladder

HOUR_MS = 3_600_000
MINUTE_MS = 60_000
STEP_MS = 200
STEPS = 300
"""Steps of a minute."""
REQUOTE_JITTER_MS = 100
TRADED_MS = 59_900
"""Nothing trades in the last tenth of a second of a minute, in which the book is told once more."""
SPREAD = 1e-6
"""Mean distance of a quote from the fair price beyond the tick, at mean volatility."""
MEAN_TRADE_USD = 1_500.0
LEAST_TOUCH_STEPS = 1_000
SHARE_TAKEN = 0.9
"""The most that orders which are no sweeps take of a best level in a step."""
FLOW = 0.2
"""How far the last move of the price tilts the chance that a taker buys."""
SWEEP_CHANCE, MOST_SWEPT = 0.15, 12
SWEEP_WEIGHT, RECOVERY = 2.0, 0.9
"""Depth near the best after one sweep is 1 / (1 + weight); what a sweep weighs falls by `RECOVERY` a step: 2 s."""
MEMORY_STEPS = 60


class Hour(NamedTuple):
    """Columns of one hour; times in ms since it began. Per step: quotes, their quantities, depth near them in quarters.

    Per trade: `depth` 0 at the best quote, else the level behind it that a sweep reached; `left` what remains there.
    """

    number: int
    step_ms: Ints
    bid: Ints
    ask: Ints
    bid_steps: Ints
    ask_steps: Ints
    bid_quarters: Ints
    ask_quarters: Ints
    first_id: int
    time_ms: Ints
    ticks: Ints
    steps: Ints
    buyer_is_maker: NDArray[np.bool_]
    step: Ints
    depth: Ints
    left: Ints

    def trades_before(self, time_ms: int) -> int:
        """How many trades there are before that time of the hour."""
        return int(np.searchsorted(self.time_ms, time_ms, side="left"))


class Orders(NamedTuple):
    """Taker orders' trades in the order of time, before they have a price and quantity."""

    time_ms: Ints
    step: Ints
    buys: NDArray[np.bool_]
    group: Ints
    """Trades of one step and side share a group."""
    depth: Ints
    sweeps: NDArray[np.bool_]


class Hours:
    """One symbol's hours, numbered since 1970, each made without the others."""

    def __init__(self, symbol: str, seed: int, trade_rate: float) -> None:
        self.instrument = instrument(symbol)
        self.symbol, self.seed = symbol, seed
        self.days = Days(symbol, seed, round(trade_rate * 86_400), self.instrument.price)
        self.hour = lru_cache(maxsize=3)(self._hour)
        self.ladder = lru_cache(maxsize=2)(self._ladder)

    def last_price(self, number: int) -> int:
        """In ticks, when that hour since 1970 ended; before there was a market, the price at which it opened."""
        if number < FIRST_DAY * 24:
            return int(self.days.opening_price(FIRST_DAY) * 10**self.instrument.scale.price)
        ticks = self.hour(number).ticks
        return int(ticks[-1]) if len(ticks) else self.last_price(number - 1)

    def _ladder(self, day: int) -> Ladder:
        price, scale = self.days.opening_price(day), self.instrument.scale
        salt = zlib.crc32(f"{self.seed}:{self.symbol}".encode())
        return Ladder(salt, int(price * 10**scale.price), MEAN_TRADE_USD / price * 10**scale.quantity)

    def _hour(self, number: int) -> Hour:
        day, part = divmod(number, 24)
        path = self.days.minutes(day)
        minutes = slice(60 * part, 60 * part + 60)
        dice = noise(self.seed, self.symbol, "hour", number)
        fair, last_move = self._fair(number, path, minutes, dice)
        step_ms = STEP_MS * np.arange(60 * STEPS) + dice.integers(0, REQUOTE_JITTER_MS, 60 * STEPS)
        step_ms[::STEPS] = MINUTE_MS * np.arange(60)
        count = int(path.trades[part + 1] - path.trades[part])
        wildness = np.sqrt(path.variance[minutes]) / MINUTE_VOLATILITY
        half = np.repeat(SPREAD * wildness, STEPS) * fair
        bid = np.maximum(1, np.floor(fair).astype(np.int64) - _extra(dice, half))
        ask = np.maximum(bid, np.floor(fair).astype(np.int64)) + 1 + _extra(dice, half)
        orders = _orders(dice, _times_ms(dice, count, path.activity[minutes]), step_ms, last_move)
        quarters = [_quarters(orders, side) for side in (False, True)]
        mean_wildness = float(wildness.mean())
        return self._filled(number, dice, orders, step_ms, (bid, ask), (quarters[0], quarters[1]), mean_wildness)

    def _fair(self, number: int, path: DayMinutes, minutes: slice, dice: np.random.Generator) -> tuple[Floats, Floats]:
        """Fair price in ticks when each step begins, and the move that led there in deviations."""
        own = dice.standard_normal((60, STEPS))
        z = mixed(noise(self.seed, MARKET, "hour", number).standard_normal((60, STEPS)), own)
        sd = np.sqrt(path.variance[minutes] / STEPS)[:, None]
        jump = path.jump[minutes]
        level = path.level[minutes.start : minutes.stop + 1]
        smooth = np.diff(level) - jump
        moves = sd * (z - z.mean(axis=1, keepdims=True)) + smooth[:, None] / STEPS
        moves[np.arange(60), dice.integers(0, STEPS, 60)] += jump
        within = np.cumsum(moves, axis=1)
        # A step's quotes know the moves before it, not its own.
        before = np.concatenate((np.zeros((60, 1)), within[:, :-1]), axis=1)
        start = self.instrument.price * 10**self.instrument.scale.price
        fair = start * np.exp(level[:-1, None] + before)
        last_move = np.concatenate(([0.0], (moves / sd).ravel()[:-1]))
        return fair.ravel(), last_move

    def _filled(
        self, number: int, dice: np.random.Generator, orders: Orders, step_ms: Ints, quotes: tuple[Ints, Ints],
        quarters: tuple[Ints, Ints], wildness: float,
    ) -> Hour:
        """Price and quantity of every trade, and what stands at the best quotes."""
        ladder = self.ladder(number // 24)
        at = orders.step
        bid, ask = quotes
        bid_steps, ask_steps = (_touch(dice, len(step_ms), ladder.mean_steps) for _ in quotes)
        touch = np.where(orders.buys, ask[at], bid[at])
        stands = np.where(orders.buys, ask_steps[at], bid_steps[at])
        depth_left = np.where(orders.buys, quarters[1][at], quarters[0][at])
        wanted = dice.lognormal(-0.5, 1.0, len(at)) * ladder.mean_steps * wildness
        steps, left = _taken(orders, wanted, stands)
        cells = ladder.behind(touch, np.where(orders.buys, 1, -1), np.maximum(orders.depth, 1))
        behind = ladder.quantity(cells, number * 60 * STEPS + at, depth_left)
        last = np.append(orders.group[1:] != orders.group[:-1], True) if len(at) else orders.buys
        deep = orders.depth > 0
        steps = np.where(deep, np.where(last, behind // 2, behind), steps)
        return Hour(
            number, step_ms, bid, ask, bid_steps, ask_steps, quarters[0], quarters[1],
            self.days.first_trade_id(number), orders.time_ms, np.where(deep, ladder.tick(cells), touch), steps,
            ~orders.buys, at, orders.depth, np.where(deep, behind - steps, left),
        )


def _extra(dice: np.random.Generator, mean: Floats) -> Ints:
    return np.floor(dice.standard_exponential(len(mean)) * mean).astype(np.int64)


def _touch(dice: np.random.Generator, count: int, mean_steps: float) -> Ints:
    drawn = dice.lognormal(0.0, 1.0, count) * LEVEL_TRADES * mean_steps
    return np.maximum(LEAST_TOUCH_STEPS, drawn.astype(np.int64))


def _times_ms(dice: np.random.Generator, count: int, activity: Floats) -> Ints:
    """Ascending, each ms once, none in the last tenth of a second of a minute."""
    minute, within = np.divmod(arrivals(dice, count, activity, 3_600.0), 60.0)
    minute = np.minimum(minute.astype(np.int64), 59)
    at = minute * MINUTE_MS + (within * (TRADED_MS / 60)).astype(np.int64)
    rank = np.arange(count)
    later = np.maximum.accumulate(at - rank) + rank
    from_end = np.cumsum(np.bincount(minute, minlength=60))[minute] - 1 - rank
    times: Ints = np.minimum(later, minute * MINUTE_MS + TRADED_MS - 1 - from_end)
    return times


def _orders(dice: np.random.Generator, time_ms: Ints, step_ms: Ints, last_move: Floats) -> Orders:
    """Sides, and which bursts are one sweeping order: its trades have one time, each a level deeper."""
    step = np.searchsorted(step_ms, time_ms, side="right") - 1
    buys = dice.random(len(step)) < 0.5 + FLOW * np.tanh(last_move[step])
    order = np.lexsort((time_ms, buys, step))
    key = (2 * step + buys)[order]
    first = np.flatnonzero(np.concatenate((np.ones(min(1, len(key)), bool), np.diff(key) != 0)))
    sizes = np.diff(np.append(first, len(key)))
    group = np.repeat(np.arange(len(first)), sizes)
    place = np.arange(len(key)) - first[group]
    sweeps = ((dice.random(len(first)) < SWEEP_CHANCE) & (sizes >= 2) & (sizes <= MOST_SWEPT))[group]
    at = np.where(sweeps, time_ms[order][first[group]], time_ms[order])
    by_time = np.lexsort((place, group, at))
    depth = np.where(sweeps, place, 0)
    return Orders(
        at[by_time], step[order][by_time], buys[order][by_time], group[by_time], depth[by_time], sweeps[by_time])


def _quarters(orders: Orders, buys: bool) -> Ints:
    """Depth near the best of one side in each step: what the sweeps of the steps before have left of it."""
    hit = np.zeros(60 * STEPS)
    hit[orders.step[orders.sweeps & (orders.buys == buys)]] = SWEEP_WEIGHT
    memory = np.convolve(hit, RECOVERY ** np.arange(MEMORY_STEPS))[: len(hit)]
    weight = np.concatenate(([0.0], memory[:-1]))
    left: Ints = np.ceil(FULL / (1 + weight) - 1e-9).astype(np.int64)
    return left


def _taken(orders: Orders, wanted: Floats, stands: Ints) -> tuple[Ints, Ints]:
    """What each trade at the best quote takes and leaves: a sweep all, the others together a share."""
    groups = int(orders.group.max()) + 1 if len(wanted) else 0
    total = np.bincount(orders.group, wanted, groups)[orders.group]
    steps = np.maximum(1, (wanted * np.minimum(1.0, SHARE_TAKEN * stands / total)).astype(np.int64))
    order = np.argsort(orders.group, kind="stable")
    sums = np.cumsum(steps[order])
    sizes = np.bincount(orders.group, minlength=groups)
    before = np.concatenate(([0], sums[np.cumsum(sizes) - 1][:-1])) if groups else np.empty(0, np.int64)
    taken = np.empty_like(steps)
    taken[order] = sums - before[orders.group[order]]
    return np.where(orders.sweeps, stands, steps), np.where(orders.sweeps, 0, stands - taken)
