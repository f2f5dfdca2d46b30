"""Days and minutes of the simulated market: where the price stands at any minute of any year, found without the others.

    >>> days = Days("BTCUSDT", seed=1, trades_per_day=432_000)
    >>> float(days.opening_price(REFERENCE_DAY))
    60000.0
    >>> days.minutes(REFERENCE_DAY).level.shape
    (1441,)

Built from the top down, so that a minute of 2013 costs what one of today costs. A table of all days is drawn first:
a day's variance is a log-normal autoregression (Taylor 1986, "Modelling Financial Time Series"), its return is
Gaussian under that variance plus Poisson many Gaussian jumps (Merton 1976). The log price returns to the
instrument's own over years (half-life 500 days), so that it stays in a range where a tick is small. Inside a day
log-variance is the sum of two autoregressions (half-lives 20 min and 4 h; a sum of scales gives the slow decay of
Corsi 2009), and the minutes' returns are conditioned to add up to the day's: a Brownian bridge with unequal steps.
All noise is a mix of one common and one own part, which correlates the returns of the symbols.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from functools import lru_cache
from itertools import accumulate
from threading import Lock
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

FIRST_DAY = 14_610
"""2010-01-01, in days since 1970: there is no market before."""
REFERENCE_DAY = 19_723
"""2024-01-01: each instrument opens at its own price on that day."""
MINUTES = 1_440
CHUNK_DAYS = 1_024
MINUTE_VOLATILITY = 5e-4
DAY_VOLATILITY_SD, DAY_VOLATILITY_HALF_LIFE = 0.35, 10.0
MINUTE_SCALES = ((0.35, 20.0), (0.35, 240.0))
"""Deviation of log volatility and half-life in minutes."""
REVERSION_HALF_LIFE_DAYS = 500.0
JUMPS_PER_DAY, JUMP_SD, MOST_JUMPS = 2.0, 3e-3, 8
JUMP_ACTIVITY = 3.0
"""How much busier a minute with a jump is."""
COMMON_SHARE = 0.7
"""Correlation of the noise of two symbols is the square of this."""
MARKET = "*"


def noise(seed: int, name: str, kind: str, index: int) -> np.random.Generator:
    """The generator of one piece of one series: the same for ever."""
    return np.random.default_rng([seed, index, *f"{kind}:{name}".encode()])


def mixed(common: Floats, own: Floats) -> Floats:
    """Unit noise that is shared in part."""
    return COMMON_SHARE * common + math.sqrt(1 - COMMON_SHARE**2) * own


def keep_of(half_life: float) -> float:
    """What is left after one step."""
    return math.exp(-math.log(2) / half_life)


def autoregression(shocks: Iterable[float], keep: float, start: float) -> Floats:
    """start, keep × start + shock, …: one value more than shocks."""
    return np.fromiter(accumulate(shocks, lambda value, shock: keep * value + shock, initial=start), np.float64)


def bridge(shocks: Floats, keep: float, sd: float, start: float, end: float) -> Floats:
    """A stationary autoregression of deviation `sd` conditioned on its first and last value."""
    n = len(shocks)
    free = autoregression((sd * math.sqrt(1 - keep * keep) * shocks).tolist(), keep, start)
    at = np.arange(n + 1)
    weight: Floats = keep ** (n - at) * (1 - keep ** (2.0 * at)) / (1 - keep ** (2.0 * n))
    path: Floats = free + weight * (end - free[-1])
    return path


class Table(NamedTuple):
    """One row a day from `FIRST_DAY` on. `level` has one more: the log of price over the instrument's, at the open."""

    level: Floats
    log_volatility: Floats
    variance: Floats
    diffusion: Floats
    jump_minute: Ints
    jump: Floats


class DayMinutes(NamedTuple):
    """`level` and `trades` (counted since the day began, by hour) at the edges; the others per minute."""

    level: Floats
    variance: Floats
    jump: Floats
    activity: Floats
    trades: Ints


class Days:
    """One symbol's days, made as they are asked for."""

    def __init__(self, symbol: str, seed: int, trades_per_day: int, price: float = 60_000.0) -> None:
        self.symbol, self.seed, self.trades_per_day = symbol, seed, trades_per_day
        self._price = price
        self._table = _empty()
        self._log_volatility = 0.0
        self._growing = Lock()
        self.minutes = lru_cache(maxsize=4)(self._minutes)

    def opening_price(self, day: int) -> float:
        """In quote currency, at 00:00 UTC."""
        row = day - FIRST_DAY
        return self._price * math.exp(self._upto(row).level[row] - self._reference())

    def _reference(self) -> float:
        row = REFERENCE_DAY - FIRST_DAY
        return float(self._upto(row).level[row])

    def _upto(self, row: int) -> Table:
        # Laps are made by one thread, REST is answered by another.
        with self._growing:
            while len(self._table.variance) <= row:
                self._grow()
        return self._table

    def _grow(self) -> None:
        done = self._table
        chunk = len(done.variance) // CHUNK_DAYS
        dice = noise(self.seed, self.symbol, "days", chunk)
        common = noise(self.seed, MARKET, "days", chunk).standard_normal((2, CHUNK_DAYS))
        shock, z = mixed(common, dice.standard_normal((2, CHUNK_DAYS)))
        count = dice.poisson(JUMPS_PER_DAY, CHUNK_DAYS)
        jump = dice.normal(0.0, JUMP_SD, (CHUNK_DAYS, MOST_JUMPS)) * (np.arange(MOST_JUMPS) < count[:, None])
        minute = dice.integers(0, MINUTES, (CHUNK_DAYS, MOST_JUMPS))
        keep = keep_of(DAY_VOLATILITY_HALF_LIFE)
        kicks = DAY_VOLATILITY_SD * math.sqrt(1 - keep * keep) * shock
        volatility = autoregression(kicks.tolist(), keep, self._log_volatility)[1:]
        variance = MINUTES * MINUTE_VOLATILITY**2 * np.exp(2 * volatility - 2 * DAY_VOLATILITY_SD**2)
        diffusion = np.sqrt(variance) * z
        moves = (diffusion + jump.sum(axis=1)).tolist()
        level = autoregression(moves, keep_of(REVERSION_HALF_LIFE_DAYS), float(done.level[-1]))
        self._log_volatility = float(volatility[-1])
        self._table = Table(
            np.concatenate((done.level, level[1:])), *(np.concatenate(columns) for columns in zip(
                done[1:], (volatility, variance, diffusion, minute, jump), strict=True)))

    def _minutes(self, day: int) -> DayMinutes:
        row = day - FIRST_DAY
        table = self._upto(row)
        start, end = table.level[row : row + 2]
        jump = np.zeros(MINUTES)
        np.add.at(jump, table.jump_minute[row], table.jump[row])
        shape = np.exp(2 * self._shape(day))
        share = shape / shape.sum()
        variance = table.variance[row] * share
        z = mixed(*(noise(self.seed, name, "minutes", day).standard_normal(MINUTES) for name in (MARKET, self.symbol)))
        steps = np.sqrt(variance) * z
        steps += share * (table.diffusion[row] - steps.sum())
        pull = (end - start - table.diffusion[row] - table.jump[row].sum()) / MINUTES
        level = start + np.concatenate(([0.0], np.cumsum(steps + jump + pull)))
        activity = np.sqrt(share * MINUTES) * np.where(jump == 0, 1.0, JUMP_ACTIVITY)
        by_hour = np.concatenate(([0.0], np.cumsum(activity.reshape(24, 60).sum(axis=1))))
        trades = np.rint(self.trades_per_day * by_hour / by_hour[-1]).astype(np.int64)
        return DayMinutes(level - self._reference(), variance, jump, activity, trades)

    def _shape(self, day: int) -> Floats:
        """Log volatility of each minute around the day's."""
        names = (MARKET, self.symbol)
        scales = len(MINUTE_SCALES)
        edges = [mixed(*(noise(self.seed, name, "edges", at).standard_normal(scales) for name in names))
                 for at in (day, day + 1)]
        shocks = mixed(*(noise(self.seed, name, "shape", day).standard_normal((scales, MINUTES)) for name in names))
        path = np.zeros(MINUTES + 1)
        for (sd, half_life), row, start, end in zip(MINUTE_SCALES, shocks, *edges, strict=True):
            path += bridge(row, keep_of(half_life), sd, sd * start, sd * end)
        return path[:-1]

    def first_trade_id(self, hour: int) -> int:
        """Id of the first trade of an hour since 1970; ids are contiguous, a day has `trades_per_day` of them."""
        day, part = divmod(hour, 24)
        return (day - FIRST_DAY) * self.trades_per_day + int(self.minutes(day).trades[part]) + 1

    def hour_of_trade(self, trade_id: int) -> int:
        """The hour since 1970 that holds a trade id."""
        row, rest = divmod(trade_id - 1, self.trades_per_day)
        return (row + FIRST_DAY) * 24 + int(np.searchsorted(self.minutes(row + FIRST_DAY).trades, rest, "right")) - 1


def _empty() -> Table:
    none: Any = np.empty(0)
    return Table(np.zeros(1), none, none, none, np.empty((0, MOST_JUMPS), np.int64), np.empty((0, MOST_JUMPS)))
