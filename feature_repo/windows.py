"""Windows: what the kernel may see at each of some closes, read lazily from the grids of second and minute bars.

Shapes: B closes; a window is (B, length), oldest first, ending at the close, holes NaN. Three views:
`second` (second bars), `sixty` (60-second bars ending at the close) and `minute` (whole clock-minute bars
closed by then). A 60-second bar stands on at least 57 of its seconds; on a whole minute a kline fills in.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import cached_property
from typing import Any, Final, TypeVar

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

    def __init__(
        self, closes_ns: Ints, seconds: Grid, minutes: Grid, of_minute: dict[tuple[int, int], Windows] | None = None,
    ) -> None:
        """`of_minute` keeps what one live row after another knows of the same whole minutes: see `by_minute`."""
        self.closes_ns = closes_ns
        self._seconds = seconds
        self._minutes = minutes
        self._of_minute = of_minute
        self._no_seconds = seconds.is_empty
        self._cache: dict[tuple[str, str], Floats] = {}
        self._places: dict[tuple[str, int], Place] = {}
        self._known: dict[Callable[[Windows], Any], npt.NDArray[Any]] = {}

    @cached_property
    def by_minute(self) -> tuple[Windows, Ints]:
        """Windows at one close of each minute, which see the whole minutes of all its closes; and each one's place."""
        # The second that closes at midnight ends the day before: no other one of its minute does.
        minutes = 2 * (self.closes_ns // MINUTE_NS) + (self.closes_ns % DAY_NS == 0)
        if minutes.size == 1:
            return self._kept_minute(int(minutes[0])), _ONLY
        _, first, place = np.unique(minutes, return_index=True, return_inverse=True)
        return Windows(self.closes_ns[first], self._seconds, self._minutes), place

    def _kept_minute(self, minute: int) -> Windows:
        """The windows that another close of the same minute has read, if no minute's bar has come since."""
        if self._of_minute is None:
            return Windows(self.closes_ns, self._seconds, self._minutes)
        key = (minute, self._minutes.changes)
        if key not in self._of_minute:
            self._of_minute.clear()
            self._of_minute[key] = Windows(self.closes_ns, self._seconds, self._minutes)
        return self._of_minute[key]

    def once_a_minute(self, formula: Callable[[Windows], npt.NDArray[T]]) -> npt.NDArray[T]:
        """A formula of whole minutes alone at each close, computed once for all closes of a minute.

        `formula` is the same object each time: what it gave is kept by it.
        """
        windows, place = self.by_minute
        return windows.once(formula)[place]

    def once(self, formula: Callable[[Windows], npt.NDArray[T]]) -> npt.NDArray[T]:
        """What a formula gives here; computed when it is first asked."""
        known = self._known.get(formula)
        if known is None:
            known = self._known[formula] = formula(self)
        return known

    @cached_property
    def _by_end(self) -> tuple[Windows, Ints]:
        """Windows at each end of a 60-second bar, of which close neighbours share most; and their places, (B, 16)."""
        ends = self.closes_ns[:, None] - _ENDS_BACK
        if len(ends) == 1:
            return Windows(ends[0], self._seconds, self._minutes), _ALL_ENDS
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
        held = self._cache.get(("sixty", field))
        if held is None:
            held = self._cache["sixty", field] = self._fill_from_minutes(field, self._sixty_from_seconds(field))
        return held[:, -length:]

    def book(self, field: str) -> Floats:
        """The book's state at each close: shape (B,)."""
        state: Floats = self._newest[_ROW_OF[field]]
        return state

    def newest(self, fields: list[int]) -> Floats:
        """Some of `SECOND_FIELDS` of the second bars that end at the closes: shape (fields, B)."""
        found: Floats = self._newest[fields]
        return found

    @cached_property
    def _newest(self) -> Floats:
        if self._no_seconds:
            return np.full((len(SECOND_FIELDS), self.closes_ns.size), np.nan)
        return self._seconds.read_all(self._seconds.locate(self.closes_ns, 1))[:, :, 0]

    def second_or_minute_close(self) -> Floats:
        """The close at t: of the second's bar, else of the minute's that ends at t. Shape (B,)."""
        return self.sixty("close", 1)[:, -1]

    @cached_property
    def holes(self) -> npt.NDArray[np.bool_]:
        """Which closes have no second bar: shape (B,)."""
        return np.isnan(self.book("close"))

    def minutes_of_day(self) -> Ints:
        """Whole minutes closed since 00:00 UTC; the second that closes at 00:00:00 ends the day before."""
        into_day = (self.closes_ns - 1) % DAY_NS + 1
        return into_day // MINUTE_NS

    def seconds_of_minute(self) -> Ints:
        """Seconds closed since the last whole minute, 0 … 59."""
        return (self.closes_ns % MINUTE_NS) // SECOND_NS

    def last_sixty_seconds(self, field: str) -> Floats:
        """The 60-second value that ends at each close, from second bars alone. Shape (B,).

        NaN where fewer than 57 seconds are held. Open, high and low are those of seconds with trades, else the carried
        close. Quantities are summed as integer steps of 1e-8, so that the sum equals the venue's own kline bit for bit.
        """
        closes = self.second("log_close" if field.startswith("log_") else "close", 60)
        enough, last = self._sixty_held
        carried = closes[np.arange(len(closes)), last]
        folded = carried if field in ("close", "log_close") else _fold(field, self.second(field, 60))
        if field in TRADED_FIELDS:
            folded = np.where(np.isnan(folded), carried, folded)
        return np.where(enough, folded, np.nan)

    @cached_property
    def _sixty_held(self) -> tuple[npt.NDArray[np.bool_], npt.NDArray[np.intp]]:
        """At each close, (B,): whether enough of the last 60 seconds are held, and the place of the last of them."""
        # A second's bar knows both its close and the logarithm of it, or there is none.
        held = ~np.isnan(self.second("close", 60))
        return held.sum(axis=-1) >= MIN_SECONDS, 59 - held[:, ::-1].argmax(axis=-1)

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
        place = self._places.get((grid, length))
        if place is None:
            place = self._places[grid, length] = table.locate(self.closes_ns, length)
        return table.read(field, place)

    def _sixty_from_seconds(self, field: str) -> Floats:
        if self._no_seconds:
            return np.full((self.closes_ns.size, SIXTIES), np.nan)
        windows, place = self._by_end
        return windows.last_sixty_seconds(field)[place]

    def _fill_from_minutes(self, field: str, sixty: Floats) -> Floats:
        whole = self.closes_ns % MINUTE_NS == 0
        if not whole.any():
            return sixty
        of_minute, place = self.by_minute
        return np.where(np.isnan(sixty) & whole[:, None], of_minute.minute(field, SIXTIES)[place], sixty)


def _fold(field: str, seconds: Floats) -> Floats:
    """Second values (B, 60) folded into one, (B,)."""
    held = ~np.isnan(seconds)
    if field in SUM_FIELDS:
        steps = np.rint(np.where(held, seconds, 0.0) * STEPS).astype(np.int64).sum(axis=-1)
        return np.where(held.sum(axis=-1) >= MIN_SECONDS, steps / STEPS, np.nan)
    if field == "open":
        first: Floats = seconds[np.arange(len(seconds)), held.argmax(axis=-1)]
        return first
    sign = 1.0 if field in ("high", "log_high") else -1.0
    best = np.where(held, sign * seconds, -np.inf).max(axis=-1)
    return np.where(np.isinf(best), np.nan, sign * best)


_ROW_OF: Final = {field: row for row, field in enumerate(SECOND_FIELDS)}
_ENDS_BACK: Final = np.arange(SIXTIES - 1, -1, -1, dtype=np.int64) * MINUTE_NS
_ONLY: Final = np.zeros(1, dtype=np.intp)
_ALL_ENDS: Final = np.arange(SIXTIES)[None, :]
"""Places of the ends of one close: each is distinct."""
