"""Recompute: the rows that should exist, made again from the raw records as they were known.

    again = recompute("BTCUSDT", records)             # records: the trades topic's raw rows, in offset order
    again.rows([close_ns]), again.sequence(close_ns)

    going_on = Running("BTCUSDT", room_s=600)         # the same for a stream that does not end
    going_on.take(records); going_on.take(later_records)

The other way round from the stream: every bar first, then the kernel over the whole stretch at once, no checkpoint,
no cache. What the stream computed row by row must come out the same to the last bit.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import islice
from typing import Any

import numpy as np

from feature_repo import topics
from feature_repo.contracts import MINUTE_NS, SECOND_NS, Bar, FeatureRow, InvalidMessage, Trade, UnknownSchema
from feature_repo.features import FEATURE_NAMES, SEQUENCE_FEATURES, SEQUENCE_LENGTH
from feature_repo.grid import Floats
from feature_repo.history import SECONDS_KEPT, BarHistory, feature_rows
from streaming.bars import tick_of
from streaming.seconds import Closed, GivenUp, Outcome, Seconds
from streaming.ticks import TRADE, read_ticks

_SEQUENCE_COLUMNS = [FEATURE_NAMES.index(name) for name in SEQUENCE_FEATURES]
_MINUTES_BEFORE = 1_441 + SEQUENCE_LENGTH
_BULK = 20_000
"""Records whose trades are read at once: enough for NumPy, some megabytes."""
Record = Mapping[str, Any]


@dataclass
class Recomputation:
    """Every bar of one symbol that has a row: live seconds, and backfilled whole minutes."""

    symbol: str
    bars: list[Bar] = field(default_factory=list)
    """In the order in which they became known, those without a row of their own too."""
    closes: dict[int, Bar] = field(default_factory=dict)
    """Close, ns → the bar of its row."""
    holes: int = 0
    known_later: dict[int, int] = field(default_factory=dict)
    """Close of a live row → `created` of a bar up to that close which became known after the row did; none has one."""
    _seconds: Seconds = field(init=False, repr=False)
    _known_ns: int = field(default=0, init=False, repr=False)

    def __post_init__(self) -> None:
        self._seconds = Seconds(self.symbol)

    def take(self, records: Iterable[Record]) -> None:
        """Raw records (`schema`, `value`) behind those taken before, in offset order; the undecodable are skipped."""
        for outcome in _outcomes(self._seconds, records):
            if isinstance(outcome, GivenUp):
                self.holes += 1
                continue
            bar = outcome.bar
            is_live = isinstance(outcome, Closed)
            if is_live and bar.created < self._known_ns:
                self.known_later[bar.close_time] = self._known_ns
            self._known_ns = max(self._known_ns, bar.created)
            self._add(bar, has_row=is_live or bar.interval_s == 60)

    def rows(self, closes_ns: Sequence[int]) -> list[FeatureRow]:
        """The rows at some closes, ascending, their values computed all at once."""
        return feature_rows([self.closes[close] for close in closes_ns], self._history) if closes_ns else []

    def mirrors(self, close_ns: int) -> dict[str, dict[str, float | None]]:
        """What the mirror keys hold at a close, by window."""
        return self._history.mirrors(self.rows([close_ns])[0])

    def sequence(self, close_ns: int) -> Floats:
        """The models' input at a close, [64, len(SEQUENCE_FEATURES)]: 63 whole minutes before it, then the close."""
        return next(self.sequences([close_ns]))

    def sequences(self, closes_ns: Sequence[int]) -> Iterator[Floats]:
        """`sequence` at each of some closes; the whole minutes that they share are computed once."""
        whole = {close: _minutes_before(close) for close in closes_ns}
        asked = sorted({*closes_ns, *(minute for minutes in whole.values() for minute in minutes)})
        table = self._history.table(np.array(asked, dtype=np.int64))[:, _SEQUENCE_COLUMNS]
        place = {close: at for at, close in enumerate(asked)}
        for close in closes_ns:
            yield table[[*(place[minute] for minute in whole[close]), place[close]]]

    def _add(self, bar: Bar, *, has_row: bool) -> None:
        self.bars.append(bar)
        self.__dict__.pop("_history", None)
        if has_row:
            self.closes[bar.close_time] = bar

    @cached_property
    def _history(self) -> BarHistory:
        span = max(bar.close_time for bar in self.bars) - min(bar.open_time for bar in self.bars)
        history = BarHistory(
            self.symbol, span // SECOND_NS + SECONDS_KEPT, span // MINUTE_NS + _MINUTES_BEFORE,
        )
        for bar in self.bars:
            history.push(bar)
        return history


class Running(Recomputation):
    """A recomputation without end: rows can be asked for at the newest `room_s` seconds, and `bars` stays empty.

    It holds about two megabytes, however much it has read, so a later stretch costs only its own records.
    """

    def __init__(self, symbol: str, room_s: int) -> None:
        super().__init__(symbol)
        self.room_s = room_s
        # A sequence's minutes are made of their seconds too, though the minute bars would give the same bits.
        seconds = room_s + SEQUENCE_LENGTH * 60 + SECONDS_KEPT
        self.__dict__["_history"] = BarHistory(symbol, seconds, room_s // 60 + 1 + _MINUTES_BEFORE)

    def _add(self, bar: Bar, *, has_row: bool) -> None:
        self._history.push(bar)
        if has_row:
            self.closes[bar.close_time] = bar
            while (oldest := next(iter(self.closes))) <= bar.close_time - self.room_s * SECOND_NS:
                del self.closes[oldest]
                self.known_later.pop(oldest, None)


def recompute(symbol: str, records: Iterable[Record]) -> Recomputation:
    """Bars and rows of `symbol` from raw records (`schema`, `value`) in offset order; the undecodable are skipped."""
    again = Recomputation(symbol)
    again.take(records)
    return again


def _outcomes(seconds: Seconds, records: Iterable[Record]) -> Iterator[Outcome]:
    """What becomes certain by each record. What the stream dead-letters is nothing here."""
    left = iter(records)
    while batch := [(record["schema"], record["value"] or b"") for record in islice(left, _BULK)]:
        ticks = iter(read_ticks([body for schema, body in batch if schema == TRADE], seconds.symbol))
        for schema, body in batch:
            tick = next(ticks) if schema == TRADE else None
            try:
                outcomes = seconds.take_tick(tick) if tick is not None else _strictly(seconds, schema, body)
            except (InvalidMessage, UnknownSchema):
                continue
            yield from outcomes


def _strictly(seconds: Seconds, schema: str | None, body: bytes) -> Sequence[Outcome]:
    message = topics.decode(body, schema)
    if getattr(message, "symbol", None) != seconds.symbol:
        return ()
    return seconds.take_tick(tick_of(message)) if isinstance(message, Trade) else seconds.take(message)


def _minutes_before(close_ns: int) -> list[int]:
    """The whole minutes of the sequence at a close, oldest first."""
    last = (close_ns - 1) // MINUTE_NS * MINUTE_NS
    return [last - back * MINUTE_NS for back in range(SEQUENCE_LENGTH - 2, -1, -1)]
