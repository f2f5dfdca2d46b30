"""Windows: what the kernel may see at each of some closes, read lazily from the grids of second and minute bars.

Shapes: B closes; a window is (B, length), oldest first, ending at the close, holes NaN. Three views:
`second` (second bars), `sixty` (60-second bars ending at the close) and `minute` (whole clock-minute bars
closed by then). A 60-second bar stands on at least 57 of its seconds; on a whole minute a kline fills in.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import cached_property
from typing import Final, TypeVar

import numpy as np
import numpy.typing as npt

from feature_repo.contracts import BOOK_FIELDS, DAY_NS, MINUTE_NS, SECOND_NS, Bar
from feature_repo.grid import Floats, Grid, Ints, Place

PRICE_FIELDS: Final = ("open", "high", "low", "close", "log_high", "log_low", "log_close")
TRADED_FIELDS: Final = ("open", "high", "low", "log_high", "log_low")
SUM_FIELDS: Final = ("volume", "quote_volume", "taker_buy_volume")
MINUTE_FIELDS: Final = PRICE_FIELDS + SUM_FIELDS
SECOND_FIELDS: Final = MINUTE_FIELDS + BOOK_FIELDS
SIXTIES: Final = 16
MIN_SECONDS: Final = 57
STEPS: Final = 1e8
T = TypeVar("T", bound=np.generic)


def bar_values(bar: Bar) -> dict[str, float]:
    """The grid's fields of a bar; what the bar does not know is NaN.

    Logarithms are taken here, once a bar, with `math.log`: a vectorised logarithm may round differently
    by position in the array, and equality between stream and batch is bitwise.
    """
    logs = {f"log_{name}": math.log(getattr(bar, name)) for name in ("high", "low", "close")}
    sums = {name: _number(getattr(bar, name)) for name in SUM_FIELDS}
    book = {name: _number(getattr(bar, name)) if bar.book_valid else math.nan for name in BOOK_FIELDS}
    values = {"open": bar.open, "high": bar.high, "low": bar.low, "close": bar.close, **logs, **sums, **book}
    # A carried price is not a trade: it must not be the open, high or low of the longer bar it falls into.
    carried = bar.interval_s == 1 and bar.trades == 0
    return values | dict.fromkeys(TRADED_FIELDS, math.nan) if carried else values


def _number(value: float | None) -> float:
    return math.nan if value is None else float(value)


class Windows:
    """Lazy windows at `closes_ns` (int64, whole seconds) over the two grids."""

    def __init__(self, closes_ns: Ints, seconds: Grid, minutes: Grid) -> None:
        self.closes_ns = closes_ns
        self._seconds = seconds
        self._minutes = minutes
        self._no_seconds = seconds.is_empty
        self._cache: dict[tuple[str, str], Floats] = {}
        self._places: dict[tuple[str, int], Place] = {}

    @cached_property
    def by_minute(self) -> tuple[Windows, Ints]:
        """Windows at one close of each minute, which see the whole minutes of all its closes; and each one's place."""
        # The second that closes at midnight ends the day before: no other one of its minute does.
        minutes = 2 * (self.closes_ns // MINUTE_NS) + (self.closes_ns % DAY_NS == 0)
        _, first, place = np.unique(minutes, return_index=True, return_inverse=True)
        return Windows(self.closes_ns[first], self._seconds, self._minutes), place

    def once_a_minute(self, formula: Callable[[Windows], npt.NDArray[T]]) -> npt.NDArray[T]:
        """A formula of whole minutes alone at each close, computed once for all closes of a minute."""
        windows, place = self.by_minute
        return formula(windows)[place]

    @cached_property
    def _by_end(self) -> tuple[Windows, Ints]:
        """Windows at each end of a 60-second bar, of which close neighbours share most; and their places, (B, 16)."""
        ends = self.closes_ns[:, None] - np.arange(SIXTIES - 1, -1, -1, dtype=np.int64) * MINUTE_NS
        distinct, place = np.unique(ends, return_inverse=True)
        return Windows(distinct, self._seconds, self._minutes), place.reshape(ends.shape)

    def second(self, field: str, length: int) -> Floats:
        """Second bars: the last `length` values of `field`."""
        return self._cached("second", field, max(length, 60) if length > 1 else 1)[:, -length:]

    def minute(self, field: str, length: int) -> Floats:
        """Whole clock-minute bars closed by each close, at most 1,441."""
        return self._cached("minute", field, 1441 if field == "log_close" or length > 62 else 62)[:, -length:]

    def sixty(self, field: str, length: int) -> Floats:
        """60-second bars ending at each close, at most 16."""
        if ("sixty", field) not in self._cache:
            self._cache["sixty", field] = self._fill_from_minutes(field, self._sixty_from_seconds(field))
        return self._cache["sixty", field][:, -length:]

    def book(self, field: str) -> Floats:
        """The book's state at each close: shape (B,)."""
        return self.second(field, 1)[:, -1]

    def second_or_minute_close(self) -> Floats:
        """The close at t: of the second's bar, else of the minute's that ends at t. Shape (B,)."""
        return self.sixty("close", 1)[:, -1]

    @property
    def holes(self) -> npt.NDArray[np.bool_]:
        """Which closes have no second bar: shape (B,)."""
        return np.isnan(self.second("close", 1)[:, -1])

    def minutes_of_day(self) -> Ints:
        """Whole minutes closed since 00:00 UTC; the second that closes at 00:00:00 ends the day before."""
        into_day = (self.closes_ns - 1) % DAY_NS + 1
        return into_day // MINUTE_NS

    def seconds_of_minute(self) -> Ints:
        """Seconds closed since the last whole minute, 0 … 59."""
        return (self.closes_ns % MINUTE_NS) // SECOND_NS

    def last_sixty_seconds(self, field: str) -> Floats:
        """The 60-second value that ends at each close, from second bars alone. Shape (B,)."""
        return fold_seconds(field, lambda name: self.second(name, 60))[:, -1]

    def _cached(self, grid: str, field: str, length: int) -> Floats:
        held = self._cache.get((grid, field))
        if held is None or held.shape[1] < length:
            held = self._gather(grid, field, length)
            self._cache[grid, field] = held
        return held

    def _gather(self, grid: str, field: str, length: int) -> Floats:
        if grid == "second" and self._no_seconds:
            return np.broadcast_to(np.float64(np.nan), (self.closes_ns.size, length))
        table = self._minutes if grid == "minute" else self._seconds
        if (grid, length) not in self._places:
            self._places[grid, length] = table.locate(self.closes_ns, length)
        return table.read(field, self._places[grid, length])

    def _sixty_from_seconds(self, field: str) -> Floats:
        if self._no_seconds:
            return np.full((self.closes_ns.size, SIXTIES), np.nan)
        windows, place = self._by_end
        return windows.last_sixty_seconds(field)[place]

    def _fill_from_minutes(self, field: str, sixty: Floats) -> Floats:
        whole = (self.closes_ns % MINUTE_NS == 0)[:, None]
        return np.where(np.isnan(sixty) & whole, self.once_a_minute(lambda w: w.minute(field, SIXTIES)), sixty)


def fold_seconds(field: str, read: Callable[[str], Floats]) -> Floats:
    """Second values (B, 60 n) folded into 60-second values (B, n); NaN where fewer than 57 seconds are held.

    `read` gives the second values of a field. Open, high and low are those of seconds with trades, else the
    carried close. Quantities are summed as integer steps of 1e-8, so that the sum equals the venue's own
    kline bit for bit.
    """
    closes = _by_sixty(read("log_close" if field.startswith("log_") else "close"))
    folded = _last(closes) if field in ("close", "log_close") else _fold(field, _by_sixty(read(field)))
    if field in TRADED_FIELDS:
        folded = np.where(np.isnan(folded), _last(closes), folded)
    enough = np.count_nonzero(~np.isnan(closes), axis=-1) >= MIN_SECONDS
    return np.where(enough, folded, np.nan)


def _by_sixty(seconds: Floats) -> Floats:
    return np.ascontiguousarray(seconds).reshape(seconds.shape[0], -1, 60)


def _fold(field: str, groups: Floats) -> Floats:
    held = ~np.isnan(groups)
    if field in SUM_FIELDS:
        steps = np.rint(np.where(held, groups, 0.0) * STEPS).astype(np.int64).sum(axis=-1)
        return np.where(np.count_nonzero(held, axis=-1) >= MIN_SECONDS, steps / STEPS, np.nan)
    if field == "open":
        first: Floats = np.take_along_axis(groups, np.argmax(held, axis=-1)[:, :, None], axis=-1)[:, :, 0]
        return first
    sign = 1.0 if field in ("high", "log_high") else -1.0
    best = np.where(held, sign * groups, -np.inf).max(axis=-1)
    return np.where(np.isinf(best), np.nan, sign * best)


def _last(groups: Floats) -> Floats:
    place = 59 - np.argmax(~np.isnan(groups)[:, :, ::-1], axis=-1)
    values: Floats = np.take_along_axis(groups, place[:, :, None], axis=-1)[:, :, 0]
    return values
