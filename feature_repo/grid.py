"""Grid: a rolling, dense table of bar fields by close time, with holes as NaN.

    >>> grid = Grid(("close",), step_ns=1, capacity=4)
    >>> grid.put(7, (1.5,)); grid.put(9, (2.5,))
    >>> grid.window("close", np.array([9]), 3)
    array([[1.5, nan, 2.5]])

A slot belongs to a close time; a window never reads a slot that another close time has taken, so what
was overwritten or never came is a hole, not an old value.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Place = tuple[Ints, npt.NDArray[np.bool_] | None]


class Grid:
    """`capacity` slots of `fields`, one per `step_ns`; the slot of a close time is its step modulo capacity."""

    def __init__(self, fields: Sequence[str], step_ns: int, capacity: int) -> None:
        self.fields = tuple(fields)
        self.step_ns = step_ns
        self.capacity = capacity
        self._row = {name: i for i, name in enumerate(self.fields)}
        self._data = np.full((len(self.fields), capacity), np.nan)
        self._steps = np.full(capacity, -1, dtype=np.int64)
        self._newest = -1
        self.changes = 0
        """Raised by whatever changes a slot: what was read at one count is good while it stands."""

    @property
    def is_empty(self) -> bool:
        return self._newest < 0

    @property
    def last_close(self) -> int | None:
        """The newest close time held, nanoseconds; null when empty."""
        return None if self._newest < 0 else self._newest * self.step_ns

    def put(self, close_ns: int, values: Sequence[float]) -> None:
        """Set one slot. `values` in the order of `fields`."""
        step = self._step(close_ns)
        self._data[:, step % self.capacity] = values
        self._steps[step % self.capacity] = step
        self._changed(step)

    def put_many(self, closes_ns: Ints, columns: Mapping[str, Floats]) -> None:
        """Set many slots at once; a field that `columns` lacks stays a hole."""
        steps = closes_ns // self.step_ns
        slots = steps % self.capacity
        self._data[:, slots] = np.nan
        for name, column in columns.items():
            self._data[self._row[name], slots] = column
        self._steps[slots] = steps
        self._changed(int(steps.max(initial=-1)))

    def window(self, field: str, closes_ns: Ints, length: int) -> Floats:
        """The last `length` values of `field` up to each close: shape (B, length), oldest first, holes NaN."""
        return self.read(field, self.locate(closes_ns, length))

    def locate(self, closes_ns: Ints, length: int) -> Place:
        """Where the last `length` slots up to each close lie; good for every field until the next `put`."""
        steps = (closes_ns // self.step_ns)[:, None] - _back(length)
        slots = steps % self.capacity
        missing = self._steps[slots] != steps
        return slots, missing if missing.any() else None

    def read(self, field: str, place: Place) -> Floats:
        """The values of `field` at a place: shape (B, length), holes NaN."""
        slots, missing = place
        found: Floats = self._data[self._row[field]][slots]
        if missing is not None:
            found[missing] = np.nan
        return found

    def read_all(self, place: Place) -> Floats:
        """The values of every field at a place: shape (fields, B, length), holes NaN."""
        slots, missing = place
        found: Floats = self._data.take(slots, axis=1)
        if missing is not None:
            found[:, missing] = np.nan
        return found

    def chunk(self, start_ns: int, length: int) -> bytes:
        """The `length` slots that close in (start, start + length steps], as little-endian float64, field by field."""
        place = self.locate(np.array([start_ns + length * self.step_ns], dtype=np.int64), length)
        return self.read_all(place).astype("<f8", copy=False).tobytes()

    def load_chunk(self, start_ns: int, chunk: bytes, present: str) -> None:
        """Put back what `chunk` gave. A slot whose `present` field is NaN stays a hole.

        Raises `ValueError` when the chunk was written with other fields.
        """
        if len(chunk) % (8 * len(self.fields)):
            raise ValueError(f"expected a chunk of {len(self.fields)} float64 fields, found {len(chunk)} bytes")
        columns = np.frombuffer(chunk, dtype="<f8").reshape(len(self.fields), -1)
        held = ~np.isnan(columns[self._row[present]])
        steps = start_ns // self.step_ns + 1 + np.flatnonzero(held)
        self._data[:, steps % self.capacity] = columns[:, held]
        self._steps[steps % self.capacity] = steps
        self._changed(int(steps.max(initial=-1)))

    def _changed(self, step: int) -> None:
        self._newest = max(self._newest, step)
        self.changes += 1

    def _step(self, close_ns: int) -> int:
        if close_ns % self.step_ns:
            raise ValueError(f"expected a close on a whole step of {self.step_ns} ns, found {close_ns}")
        return close_ns // self.step_ns


@cache
def _back(length: int) -> Ints:
    """How many steps each slot of a window lies before its close."""
    return np.arange(length - 1, -1, -1, dtype=np.int64)
