"""Recompute: the rows that should exist, made again from the raw records as they were known.

    again = recompute("BTCUSDT", records)             # records: the trades topic's raw rows, in offset order
    again.rows([close_ns]), again.sequence(close_ns)

The other way round from the stream: every bar first, then the kernel over the whole history at once, nothing
rolling, no checkpoint, no cache. What the stream computed row by row must come out the same to the last bit.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np

from feature_repo import topics
from feature_repo.contracts import MINUTE_NS, SECOND_NS, Bar, FeatureRow, InvalidMessage, Message, UnknownSchema
from feature_repo.features import FEATURE_NAMES, SEQUENCE_FEATURES, SEQUENCE_LENGTH
from feature_repo.grid import Floats
from feature_repo.history import SECONDS_KEPT, BarHistory, feature_row
from streaming.seconds import Closed, GivenUp, Seconds

_SEQUENCE_COLUMNS = [FEATURE_NAMES.index(name) for name in SEQUENCE_FEATURES]
_MINUTES_BEFORE = 1_441 + SEQUENCE_LENGTH


@dataclass
class Recomputation:
    """Every bar of one symbol that has a row: live seconds, and backfilled whole minutes."""

    symbol: str
    bars: list[Bar] = field(default_factory=list)
    """In the order in which they became known, those without a row of their own too."""
    closes: dict[int, Bar] = field(default_factory=dict)
    """Close, ns → the bar of its row."""
    holes: int = 0

    def rows(self, closes_ns: Sequence[int]) -> list[FeatureRow]:
        """The rows at some closes, their values computed all at once."""
        found = []
        for close, numbers in zip(closes_ns, self._history.table(_at(*closes_ns)).tolist(), strict=True):
            values = {
                name: None if math.isnan(x) else x for name, x in zip(FEATURE_NAMES, numbers, strict=True)
            }
            alone = feature_row(self.closes[close], self._history)
            found.append(alone.model_copy(update={"values": values}))
        return found

    def sequence(self, close_ns: int) -> Floats:
        """The models' input at a close, [64, len(SEQUENCE_FEATURES)]: 63 whole minutes before it, then the close."""
        last = (close_ns - 1) // MINUTE_NS * MINUTE_NS
        whole = [last - back * MINUTE_NS for back in range(SEQUENCE_LENGTH - 2, -1, -1)]
        return self._history.table(_at(*whole, close_ns))[:, _SEQUENCE_COLUMNS]

    @cached_property
    def _history(self) -> BarHistory:
        span = max(bar.close_time for bar in self.bars) - min(bar.open_time for bar in self.bars)
        history = BarHistory(
            self.symbol, span // SECOND_NS + SECONDS_KEPT, span // MINUTE_NS + _MINUTES_BEFORE,
        )
        for bar in self.bars:
            history.push(bar)
        return history


def recompute(symbol: str, records: Iterable[Mapping[str, Any]]) -> Recomputation:
    """Bars and rows of `symbol` from raw records (`schema`, `value`) in offset order; the undecodable are skipped."""
    again, seconds = Recomputation(symbol), Seconds(symbol)
    for message in _messages(symbol, records):
        try:
            outcomes = seconds.take(message)
        except InvalidMessage:
            continue  # the stream has dead-lettered it
        for outcome in outcomes:
            if isinstance(outcome, GivenUp):
                again.holes += 1
                continue
            again.bars.append(outcome.bar)
            if isinstance(outcome, Closed) or outcome.bar.interval_s == 60:
                again.closes[outcome.bar.close_time] = outcome.bar
    return again


def _messages(symbol: str, records: Iterable[Mapping[str, Any]]) -> Iterator[Message]:
    for record in records:
        try:
            message = topics.decode(record["value"] or b"", record["schema"])
        except (InvalidMessage, UnknownSchema):
            continue
        if getattr(message, "symbol", None) == symbol:
            yield message


def _at(*closes_ns: int) -> np.ndarray[Any, np.dtype[np.int64]]:
    return np.array(closes_ns, dtype=np.int64)
