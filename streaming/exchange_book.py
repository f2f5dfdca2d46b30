"""The exchange's own order book: the recorded snapshot and every diff sent so far, nothing later.

The snapshot of a recording arrives some frames after its first diffs, as the venue's REST answers do; before that
the book is the snapshot's own. Where a recording lost frames, the next snapshot is the new base. The book knows
what the recording's snapshot reached (1,000 levels a side) and every level that changed since.
"""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import dataclass, field
from itertools import pairwise
from typing import NamedTuple

import numpy as np

from streaming.exchange_clock import Lap, SymbolSection
from streaming.tape import Snapshot, SymbolTape

Levels = dict[int, int]


class Book(NamedTuple):
    """Price ticks → quantity steps of both sides, with the id of the last update in it."""

    last_id: int
    bids: Levels
    asks: Levels


@dataclass
class BookKeeper:
    """Plays one symbol's diffs forward, and from the nearest base again when asked for an earlier state."""

    tape: SymbolTape
    _bases: list[tuple[int, Snapshot]] = field(init=False)
    _next: int = field(init=False, default=-1)
    _bids: Levels = field(init=False, default_factory=dict)
    _asks: Levels = field(init=False, default_factory=dict)

    def __post_init__(self) -> None:
        self._bases = _bases(self.tape)

    def after(self, diff: int) -> Book:
        """The book when the first `diff` diffs of the tape have been sent, in the tape's ids and prices."""
        at = max(0, bisect_right([start for start, _ in self._bases], diff) - 1)
        start, base = self._bases[at]
        if not start <= self._next <= diff:
            self._bids, self._asks, self._next = dict(base.bids), dict(base.asks), start
        self._play(diff)
        last_id = int(self.tape.diffs.last_ids[diff - 1]) if diff > start else base.last_id
        return Book(last_id, self._bids, self._asks)

    def _play(self, stop: int) -> None:
        if stop <= self._next:
            return
        diffs = self.tape.diffs
        for i in range(self._next, stop):
            begin, middle, end = int(diffs.offset[i]), int(diffs.middle[i]), int(diffs.offset[i + 1])
            _apply(self._bids, diffs.ticks[begin:middle].tolist(), diffs.steps[begin:middle].tolist())
            _apply(self._asks, diffs.ticks[middle:end].tolist(), diffs.steps[middle:end].tolist())
        self._next = stop

    def at(self, lap: Lap, position: int) -> Book:
        """The book when `position` frames of the lap have been sent, in the lap's ids and prices."""
        section = lap.section.symbols[self.tape.symbol]
        sent = int(np.searchsorted(section.diff_at, position, side="left"))
        book = self.after(section.diffs.start + sent)
        offset = lap.update_offset[self.tape.symbol]
        if not lap.mirrored:
            return Book(book.last_id + offset, book.bids, book.asks)
        return _mirrored(book, section, offset)


def _apply(side: Levels, ticks: list[int], steps: list[int]) -> None:
    for price, quantity in zip(ticks, steps, strict=True):
        if quantity:
            side[price] = quantity
        else:
            side.pop(price, None)


def _mirrored(book: Book, section: SymbolSection, offset: int) -> Book:
    mirror = section.mirror
    bids, asks = ({mirror - p: q for p, q in side.items() if p < mirror} for side in (book.asks, book.bids))
    return Book(book.last_id + offset, bids, asks)


def _bases(tape: SymbolTape) -> list[tuple[int, Snapshot]]:
    """Per unbroken run of diffs: its snapshot, and the first diff that goes on top of it."""
    previous, last = tape.diffs.previous_ids, tape.diffs.last_ids
    breaks = [0, *(np.flatnonzero(previous[1:] != last[:-1]) + 1).tolist(), len(last)]
    bases = []
    for start, stop in pairwise(breaks):
        for snapshot in tape.snapshots:
            if previous[start] <= snapshot.last_id <= last[stop - 1]:
                bases.append((start + int(np.searchsorted(last[start:stop], snapshot.last_id, side="right")), snapshot))
                break
    if not bases:
        raise ValueError(f"{tape.symbol}: expected a depth snapshot among the frames, found none that fits the diffs")
    return bases
