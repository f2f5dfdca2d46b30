"""Truth: what the exchange really had, to hold against what ingest published.

    truth = Truth(exchange.market)
    truth.trades("BTCUSDT", first_id, last_id)            # id → (ms, price, quantity, buyer is maker)
    truth.book("BTCUSDT", session, last_update_id)        # the whole book after that update, in steps of 1e-8
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from feature_repo.contracts import OrderBook, SecondClosed, Trade
from streaming.bars import STEP
from streaming.exchange_book import BookKeeper
from streaming.exchange_clock import Lap
from streaming.exchange_market import Market
from streaming.tape import MS, VENUE_DECIMALS

LAPS_BACK = 120
"""A scenario lasts minutes: what is older was never published in it."""
Told = tuple[int, float, float, bool]
Side = dict[int, int]


class WholeBook(NamedTuple):
    """Price → quantity of both sides, in steps of 1e-8."""

    bids: Side
    asks: Side


class Truth:
    """The exchange's own trades and books, by their ids."""

    def __init__(self, market: Market) -> None:
        self._market = market
        self._laps: dict[int, Lap] = {}
        # Keepers of its own: asking for an older book makes a keeper begin anew.
        self._books: dict[str, BookKeeper] = {}

    def trades(self, symbol: str, first: int, last: int) -> dict[int, Told]:
        """The trades of those ids that were sent."""
        of = self._market.symbols[symbol]
        rows = of.trades.from_id(first, last - first + 1, self._market.moment())
        return {
            i: (ms, float(of.scale.price_text(ticks)), float(of.scale.quantity_text(steps)), maker)
            for i, ms, ticks, steps, maker in zip(*(column.tolist() for column in rows), strict=True) if i <= last
        }

    def book(self, symbol: str, session: str, last_update_id: int) -> WholeBook | None:
        """The book after that update; None when the exchange never had an update of that id."""
        for lap in self._played(session):
            section = lap.section.symbols[symbol]
            ids = section.tape.diffs.last_ids[section.diffs] + lap.update_offset[symbol]
            at = int(np.searchsorted(ids, last_update_id))
            if at < len(ids) and ids[at] == last_update_id:
                return self._after(lap, symbol, at)
            if at:
                break
        return None

    def book_at(self, symbol: str, session: str, close: int) -> WholeBook | None:
        """The book after the last diff whose event time lies before that close; None before the first."""
        for lap in self._played(session):
            section = lap.section.symbols[symbol]
            times = section.tape.diffs.time_ms[section.diffs] + lap.shift_ns // MS
            at = int(np.searchsorted(times, close // MS)) - 1
            if at >= 0:
                return self._after(lap, symbol, at)
        return None

    def _after(self, lap: Lap, symbol: str, diff: int) -> WholeBook:
        section = lap.section.symbols[symbol]
        keeper = self._books.get(symbol)
        if keeper is None or keeper.tape is not section.tape:
            keeper = self._books[symbol] = BookKeeper(section.tape)
        book, scale = keeper.at(lap, int(section.diff_at[diff]) + 1), section.tape.scale
        tick, step = (10 ** (VENUE_DECIMALS - decimals) for decimals in (scale.price, scale.quantity))
        bids, asks = ({p * tick: q * step for p, q in side.items()} for side in (book.bids, book.asks))
        return WholeBook(bids, asks)

    def _played(self, session: str) -> Iterator[Lap]:
        """The laps of a session, newest first: one of a loop, many where laps join."""
        newest = self._market.moment().lap.number
        for number in range(newest, max(-1, newest - LAPS_BACK), -1):
            if number not in self._laps:
                self._laps[number] = self._market.timeline.lap(number)
            if self._laps[number].session == session:
                yield self._laps[number]

    def is_true(self, message: OrderBook) -> bool:
        """Whether a published book is the exchange's, in the levels it tells."""
        book = self.book(message.symbol, message.session, message.last_update_id)
        return book is not None and all(
            [(price / STEP, side[price] / STEP) for price in sorted(side, reverse=best_first)[: len(told.prices)]]
            == list(zip(told.prices, told.quantities, strict=True))
            for side, told, best_first in ((book.bids, message.bids, True), (book.asks, message.asks, False))
        )

    def seal_is_true(self, seal: SecondClosed) -> bool:
        """Whether a seal's best quotes are the exchange's at its close; one without a book says nothing false."""
        if not seal.book_valid:
            return True
        book = self.book_at(seal.symbol, seal.session, seal.close)
        if book is None:
            return False
        bid, ask = max(book.bids), min(book.asks)
        there = (bid / STEP, book.bids[bid] / STEP, ask / STEP, book.asks[ask] / STEP)
        return there == (seal.bid_price, seal.bid_quantity, seal.ask_price, seal.ask_quantity)


def told(trade: Trade) -> Told:
    """A published trade as `Truth.trades` has it."""
    return trade.ts_event // 1_000_000, trade.price, trade.quantity, trade.buyer_is_maker
