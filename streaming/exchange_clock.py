"""The exchange's time: which lap of the recording plays at an instant, and what the exchange's clock says.

A *section* is the part of a tape that is played: the whole of it once, or its whole minutes in a loop. A *lap* is
one playing of a section, placed in time by a shift of whole minutes. Laps are contiguous; trade ids and update ids
go on from lap to lap. Everything here is a pure function of (tape, anchor): an exchange started again with the
same anchor plays the same frame at the same instant.

Odd laps are the recording's mirror image: price p becomes first + last − p, bids become asks, buyers become
sellers. So laps join to the tick (the raw seam of the recorded BTCUSDT is a 36 bps jump), every price stays a
whole tick, and the market has no drift. Rescaling each lap by last/first instead, as first planned, joins as well,
but the price falls by 36 bps every ten minutes: 40 % a day.

    lap      −2        −1         0          1
    price  /        \\          /          \\         (a rising recording)
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from typing import ClassVar, Literal

import numpy as np

from feature_repo.contracts import MINUTE_NS, SECOND_NS
from streaming.tape import MS, Ints, SymbolTape, Tape

HISTORY_LAPS = 2
# Ids of two anchors never meet: each minute of shift moves them by four laps, and an anchor's own history is two.
ID_LAPS_PER_MINUTE = 4


@dataclass(frozen=True)
class SymbolSection:
    """One symbol's part of a section: ranges of its trades and diffs, and where in the section each is sent."""

    tape: SymbolTape
    trades: slice
    diffs: slice
    trade_at: Ints
    """Position in the section of each trade of the range."""
    diff_at: Ints
    """Position in the section of each diff of the range."""

    @property
    def first_trade_id(self) -> int:
        return int(self.tape.trades.ids[self.trades.start])

    @property
    def trade_span(self) -> int:
        return int(self.tape.trades.ids[self.trades.stop - 1]) - self.first_trade_id + 1

    @property
    def first_update_id(self) -> int:
        return int(self.tape.diffs.first_ids[self.diffs.start])

    @property
    def update_span(self) -> int:
        return int(self.tape.diffs.last_ids[self.diffs.stop - 1]) - self.first_update_id + 1

    @property
    def mirror(self) -> int:
        """The sum of first and last trade price, in ticks: the mirrored price is this minus the price."""
        ticks = self.tape.trades.ticks[self.trades]
        return int(ticks[0] + ticks[-1])


@dataclass(frozen=True)
class Section:
    """A played part of a tape. `frames[i]` is the tape row at position i, sent `offset_ns[i]` after `begin_ns`."""

    tape: Tape
    begin_ns: int
    length_ns: int
    frames: Ints
    offset_ns: Ints
    symbols: dict[str, SymbolSection]

    def __len__(self) -> int:
        return len(self.frames)


def whole_section(tape: Tape) -> Section:
    """The whole tape, from its first frame to its last."""
    begin, end = int(tape.emit_ns[0]), int(tape.emit_ns[-1]) + 1
    return _section(tape, np.arange(len(tape)), begin, end - begin)


def minutes_section(tape: Tape) -> Section:
    """The whole minutes that the tape covers. Raises `ValueError` when there is none.

    Trades and diffs belong by their event time, so a lap's minutes hold exactly the trades of those minutes.
    """
    begin = -(-int(tape.emit_ns[0]) // MINUTE_NS) * MINUTE_NS
    end = int(tape.emit_ns[-1]) // MINUTE_NS * MINUTE_NS
    if end <= begin:
        raise ValueError("a loop needs a recording with one whole minute at least, found none; play it with --once")
    time_ns = np.where(tape.event_ms > 0, tape.event_ms * MS, tape.emit_ns)
    for symbol in tape.symbols.values():
        time_ns[symbol.trades.frame] = symbol.trades.time_ms * MS
    return _section(tape, np.flatnonzero((time_ns >= begin) & (time_ns < end)), begin, end - begin)


def _section(tape: Tape, frames: Ints, begin_ns: int, length_ns: int) -> Section:
    # What belongs to the last minute but left the venue just after it is sent at its very end, before the seam.
    offset = np.clip(tape.emit_ns[frames] - begin_ns, 0, length_ns - 1)
    symbols = {name: _symbol_section(symbol, frames) for name, symbol in tape.symbols.items()}
    return Section(tape, begin_ns, length_ns, frames, offset, symbols)


def _symbol_section(symbol: SymbolTape, frames: Ints) -> SymbolSection:
    trades, trade_at = _range(symbol.trades.frame, frames)
    diffs, diff_at = _range(symbol.diffs.frame, frames)
    if not len(trade_at) or not len(diff_at):
        raise ValueError(f"{symbol.symbol}: expected trades and depth diffs in the part played, found none of one kind")
    return SymbolSection(symbol, trades, diffs, trade_at, diff_at)


def _range(rows: Ints, frames: Ints) -> tuple[slice, Ints]:
    inside = np.flatnonzero(np.isin(rows, frames, assume_unique=True))
    if not len(inside):
        return slice(0, 0), inside
    part = slice(int(inside[0]), int(inside[-1]) + 1)
    return part, np.searchsorted(frames, rows[part])


@dataclass(frozen=True)
class Lap:
    """One playing of a section. `number` 0 is the first that is streamed; negative laps are only history."""

    number: int
    section: Section
    start_ns: int
    mirrored: bool
    session: str
    trade_offset: dict[str, int]
    update_offset: dict[str, int]
    order: int
    """Laps counted over all anchors: grows with time."""

    @property
    def end_ns(self) -> int:
        return self.start_ns + self.section.length_ns

    @property
    def shift_ns(self) -> int:
        """What is added to times of the tape."""
        return self.start_ns - self.section.begin_ns

    def position(self, venue_ns: int) -> int:
        """How many of the lap's frames have been sent at that time."""
        return int(np.searchsorted(self.section.offset_ns, venue_ns - self.start_ns, side="right"))

    def sent_ns(self, position: int) -> int:
        """When the frame at that position is sent; the lap's end for the position after the last."""
        return self.start_ns + int(self.section.offset_ns[position]) if position < len(self.section) else self.end_ns


@dataclass(frozen=True)
class Moment:
    """An instant of the exchange: everything before `position` in `lap` has been sent, nothing later is known."""

    lap: Lap
    position: int
    venue_ns: int


@dataclass(frozen=True, eq=False)
class Timeline:
    """All laps of one exchange. `shift_ns` places lap 0; `once` plays the whole tape a single time."""

    tape: Tape
    shift_ns: int
    once: bool
    history_laps: int
    endless: ClassVar[bool] = False
    """A client is disconnected where a lap ends."""
    _laps: dict[int, Lap] = field(default_factory=dict, repr=False)

    @cached_property
    def loop(self) -> Section | None:
        """The part that loops; none in a tape without a whole minute that is played once."""
        if self.once:
            try:
                return minutes_section(self.tape)
            except ValueError:
                return None
        return minutes_section(self.tape)

    @cached_property
    def first(self) -> Section:
        section = whole_section(self.tape) if self.once else self.loop
        assert section is not None
        return section

    @property
    def first_lap_number(self) -> int:
        return -self.history_laps if self.loop else 0

    @cached_property
    def name(self) -> str:
        start = np.datetime64((self.first.begin_ns + self.shift_ns) // SECOND_NS, "s")
        return f"{self.tape.identity}-{str(start).replace('-', '').replace(':', '')}"

    def lap(self, number: int) -> Lap:
        """Lap `number`, from `first_lap_number` on (0 is the only streamed one when played once)."""
        if number not in self._laps:
            self._laps[number] = self._make_lap(number)
        return self._laps[number]

    def _make_lap(self, number: int) -> Lap:
        section = self.first if number == 0 else self.loop
        assert section is not None
        assert number >= self.first_lap_number
        assert number <= 0 or not self.once
        start = self.first.begin_ns + self.shift_ns
        if number:
            start = start // MINUTE_NS * MINUTE_NS + number * section.length_ns
        minutes = self.shift_ns // MINUTE_NS * ID_LAPS_PER_MINUTE
        return Lap(
            number, section, start, number % 2 == 1, f"{self.name}-loop{max(number, 0)}",
            {s: self._offset(s, number, minutes, "trade") for s in section.symbols},
            {s: self._offset(s, number, minutes, "update") for s in section.symbols}, minutes + number,
        )

    def _offset(self, symbol: str, number: int, minutes: int, kind: Literal["trade", "update"]) -> int:
        """What is added to the ids of the tape, so that they are contiguous over laps and grow with the anchor."""
        first = self.first.symbols[symbol]
        section = first if number == 0 else (self.loop or self.first).symbols[symbol]
        loop = (self.loop or self.first).symbols[symbol]
        if kind == "trade":
            return first.first_trade_id - section.first_trade_id + (minutes + number) * loop.trade_span
        return first.first_update_id - section.first_update_id + (minutes + number) * loop.update_span

    def lap_at(self, venue_ns: int) -> Lap:
        """The lap that plays at that time; times before lap 0 give lap 0."""
        number = max(0, (venue_ns - self.first.begin_ns - self.shift_ns) // self.first.length_ns)
        return self.lap(0 if self.once else int(number))

    def moment(self, venue_ns: int) -> Moment:
        lap = self.lap_at(venue_ns)
        return Moment(lap, lap.position(venue_ns), venue_ns)


def shift_for(section: Section, anchor_ns: int) -> int:
    """The shift, whole minutes, that puts the section's first minute on the minute of the anchor."""
    return (anchor_ns // MINUTE_NS - section.begin_ns // MINUTE_NS) * MINUTE_NS


class Clock:
    """The venue's clock: `speed` times the wall clock from an origin; may wait, and may be held back.

    A clock with speed 0 stands still except where `move_to` puts it: it shows the furthest frame sent.
    """

    def __init__(self, wall_ns: Callable[[], int], speed: float, venue_ns: int, origin_wall_ns: int | None) -> None:
        self._wall = wall_ns
        self.speed = speed
        self._venue_ns = venue_ns
        self._origin = origin_wall_ns
        """None: not yet started."""

    @property
    def started(self) -> bool:
        return self._origin is not None

    def start(self) -> None:
        """Let a waiting clock go."""
        if self._origin is None:
            self._origin = self._wall()

    def now(self) -> int:
        """Venue time in ns."""
        if self._origin is None or self.speed == 0:
            return self._venue_ns
        elapsed = self._wall() - self._origin
        return self._venue_ns + (elapsed if self.speed == 1 else int(elapsed * self.speed))

    def move_to(self, venue_ns: int) -> None:
        """Say that it is that time now, and go on from there."""
        self._venue_ns = venue_ns
        self._origin = self._wall()

    def hold(self, venue_ns: int) -> None:
        """Say that it is that time now, and wait there until `start`."""
        self._venue_ns = venue_ns
        self._origin = None

    def wait_s(self, venue_ns: int) -> float:
        """Wall seconds until that venue time; 0 when it is past or the clock has no rate."""
        if self.speed == 0:
            return 0.0
        return max(0.0, (venue_ns - self.now()) / self.speed / SECOND_NS)
