"""Ladder: the order book behind the best quotes, as a function of price and time instead of a state.

    >>> ladder = Ladder(salt=1, open_ticks=6_000_000, mean_steps=2_500.0)
    >>> ask = ladder.behind(np.array([6_000_000]), np.array([1]), np.array([1]))
    >>> bool(ladder.tick(ask)[0] > 6_000_000), bool((ladder.quantity(ask, np.array([0]), np.array([4])) > 1).all())
    (True, True)

Prices are cut into cells, each with one level at a place of its own. Behind a best quote every cell within `near`
holds an order, and one in `thin` out to 60 bps: arrivals that thin out with the distance, as in the zero-intelligence
book of Cont, Stoikov & Talreja (2010). Each order lives a minute and is then replaced by another of other size; a
level that the price leaves behind is filled, one that it reaches is withdrawn. A sweep takes `near` down to a quarter,
from which it recovers within seconds (resiliency). Since no level depends on what was there before, the book at
any instant is found without playing what went before.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from streaming.simulator_days import Floats, Ints

REACH = 0.006
LEVELS = 320
NEAR_CELLS = 20
LIFE_STEPS = 300
"""Steps that an order stands."""
FULL = 4
"""Depth near the best is told in quarters."""
LEVEL_TRADES = 10.0
"""Mean quantity of a level, in mean trades."""

Words = NDArray[np.uint64]


def scrambled(words: Words) -> Words:
    """SplitMix64 (Steele, Lea & Flood 2014): every bit of the input moves every bit of the output."""
    words = words + np.uint64(0x9E3779B97F4A7C15)
    words = (words ^ (words >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    words = (words ^ (words >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return words ^ (words >> np.uint64(31))


def shown(size: Floats, quarters: Ints) -> Ints:
    """What a level of that size shows while so many quarters of it are left."""
    return np.maximum(2, (size * quarters / FULL).astype(np.int64))


@dataclass(frozen=True)
class Ladder:
    """One symbol's cells on one day. `open_ticks` is the day's opening price, `mean_steps` a mean trade."""

    salt: int
    open_ticks: int
    mean_steps: float

    @property
    def reach(self) -> int:
        """Ticks from the best to the farthest level."""
        return max(int(self.open_ticks * REACH), NEAR_CELLS)

    @property
    def cell(self) -> int:
        """Ticks of a cell."""
        return max(1, self.reach // LEVELS // 4)

    @property
    def thin(self) -> int:
        """One cell in so many holds a level beyond `near`."""
        return max(1, self.reach // LEVELS // self.cell)

    @property
    def near(self) -> int:
        """Ticks from the best within which every cell holds a level."""
        return NEAR_CELLS * self.cell

    def _hash(self, cells: Any, kind: int) -> Words:
        mixed = (self.salt * 8 + kind) & 0xFFFFFFFFFFFFFFFF
        return scrambled(scrambled(np.asarray(cells).astype(np.uint64)) ^ np.uint64(mixed))

    def tick(self, cells: Ints) -> Ints:
        """Where each cell's level stands."""
        place = self._hash(cells, 0) % np.uint64(self.cell)
        return cells * self.cell + place.astype(np.int64)

    def behind(self, touch: Ints, sign: Ints, depth: Ints) -> Ints:
        """The cell of the `depth`-th level (from 1) behind a best price; sign 1 for asks, −1 for bids."""
        at = touch // self.cell
        first: Ints = np.where((self.tick(at) - touch) * sign > 0, at, at + sign)
        return first + sign * (depth - 1)

    def quantity(self, cells: Ints, step: Ints, quarters: Ints) -> Ints:
        """Steps of quantity in each cell at a step (counted since 1970), at least 2."""
        return shown(self.size(cells, self.age(cells, step)), quarters)

    def age(self, cells: Ints, step: Ints) -> Ints:
        """How many orders have stood in each cell before the one at that step."""
        phase = (self._hash(cells, 1) % np.uint64(LIFE_STEPS)).astype(np.int64)
        age: Ints = (step + phase) // LIFE_STEPS
        return age

    def size(self, cells: Ints, age: Ints) -> Floats:
        """Steps of quantity of each cell's order, as long as nothing sweeps it."""
        bits = scrambled(self._hash(cells, 2) ^ age.astype(np.uint64))
        parts = sum(((bits >> np.uint64(shift)) & np.uint64(0xFFFF)).astype(np.float64) for shift in (0, 16, 32))
        # The sum of three uniforms is nearly normal with deviation ½: sizes are log-normal with deviation 1.
        return LEVEL_TRADES * self.mean_steps * np.exp(2 * (parts / 65_536 - 1.5) - 0.5)

    def cells_between(self, low: int, high: int, every: int = 1) -> Ints:
        """Cells, one in `every`, whose prices overlap [low, high]."""
        first = max(0, low) // self.cell
        return np.arange(-(-first // every) * every, high // self.cell + 1, every)
