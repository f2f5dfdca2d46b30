"""Trade columns: many trades of one symbol, a column a field, and the second bars of them without a message for each.

    trades[0], trades[5:8], len(trades)         # messages where they are asked for
    trades.bars(start_ns, end_ns, "backfill")   # the bars that `bars_from_trades` makes of them, bit for bit
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, overload

import numpy as np
import numpy.typing as npt

from feature_repo.contracts import SECOND_NS, Bar, Provenance, Trade
from streaming.bars import STEP, Sums, dense_bars, round_half_even

LARGEST = 2.0**33
"""Up to here the steps of one value, and of the sum of all quantities, fit 63 bits."""
SECONDS_AT_ONCE = 4_096
"""Seconds whose exact products are held at a time."""
Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class TradeColumns(Sequence[Trade]):
    """Trades by ascending id and time. `origin` is one of them: symbol, source and session are all of theirs."""

    origin: Trade
    trade_id: Ints
    ts_event: Ints
    price: Floats
    quantity: Floats
    buyer_is_maker: npt.NDArray[np.bool_]

    def __post_init__(self) -> None:
        """Raises `ValueError` for what the contract of `Trade` refuses, or whose sums are not exact here."""
        ascending = (np.diff(self.trade_id) > 0).all() and (np.diff(self.ts_event) >= 0).all()
        positive = all(((column > 0) & (column <= LARGEST)).all() for column in (self.price, self.quantity))
        if not (ascending and positive and self.quantity.sum() <= LARGEST):
            raise ValueError("expected trades by ascending id and time, with positive prices and quantities")

    def __len__(self) -> int:
        return self.trade_id.size

    @overload
    def __getitem__(self, at: int) -> Trade: ...
    @overload
    def __getitem__(self, at: slice) -> TradeColumns: ...
    def __getitem__(self, at: int | slice) -> Trade | TradeColumns:
        if isinstance(at, slice):
            return TradeColumns(
                self.origin, self.trade_id[at], self.ts_event[at], self.price[at], self.quantity[at],
                self.buyer_is_maker[at],
            )
        return self._trade(*(column[at].item() for column in self._columns))

    def __iter__(self) -> Iterator[Trade]:
        return map(self._trade, *(column.tolist() for column in self._columns))

    @property
    def _columns(self) -> tuple[npt.NDArray[Any], ...]:
        return self.trade_id, self.ts_event, self.price, self.quantity, self.buyer_is_maker

    def bars(self, start_ns: int, end_ns: int, provenance: Provenance) -> list[Bar]:
        """Dense second bars of [start_ns, end_ns), as `bars_from_trades` makes them."""
        first, last = np.searchsorted(self.ts_event, [start_ns, end_ns]).tolist()
        sums = dict(_sums(self[first:last]))
        return dense_bars(sums, self.origin, start_ns, end_ns, provenance=provenance) if sums else []

    def _trade(self, *fields: Any) -> Trade:
        trade_id, at_ns, price, quantity, buyer_is_maker = fields
        return self.origin.model_copy(update={
            "trade_id": trade_id, "ts_event": at_ns, "ts_init": at_ns, "price": price, "quantity": quantity,
            "buyer_is_maker": buyer_is_maker,
        })


def _sums(trades: TradeColumns) -> Iterator[tuple[int, Sums]]:
    """Close of each second that has trades, and their sums; some thousand seconds at a time."""
    seconds = trades.ts_event // SECOND_NS
    starts = np.flatnonzero(np.diff(seconds, prepend=-1))
    for some in np.split(starts, range(SECONDS_AT_ONCE, starts.size, SECONDS_AT_ONCE)):
        if some.size:
            after = starts[np.searchsorted(starts, some[-1]) + 1 :][:1]
            yield from _block(trades[int(some[0]) : int(after[0]) if after.size else len(trades)], some - some[0])


def _block(trades: TradeColumns, starts: Ints) -> Iterator[tuple[int, Sums]]:
    ends = np.append(starts[1:], len(trades))
    price, quantity = trades.price, to_steps(trades.quantity)
    # A price in steps times a quantity in steps has up to 80 bits: these products are Python's integers.
    notional = to_steps(price).astype(object) * quantity.astype(object)
    columns = (
        trades.ts_event[starts] // SECOND_NS * SECOND_NS + SECOND_NS, price[starts],
        np.maximum.reduceat(price, starts), np.minimum.reduceat(price, starts), price[ends - 1],
        np.add.reduceat(quantity, starts), np.add.reduceat(notional, starts),
        np.add.reduceat(np.where(trades.buyer_is_maker, 0, quantity), starts), ends - starts,
        trades.trade_id[starts], trades.trade_id[ends - 1],
    )
    rows = zip(*(column.tolist() for column in columns), strict=True)
    for close, begin, high, low, end, volume, quote, bought, count, first, last in rows:
        yield close, Sums(begin, high, low, end, volume, round_half_even(quote, STEP), bought, count, first, last)


def to_steps(values: Floats) -> Ints:
    """`bars.to_steps` of many values up to `LARGEST`."""
    whole = values.astype(np.int64)
    return whole * STEP + np.rint((values - whole) * STEP).astype(np.int64)
