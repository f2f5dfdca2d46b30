"""SecondBooks: the order book's last state in each second, kept until the second is sealed.

    >>> books = SecondBooks(LocalBook("BTCUSDT"))
    >>> books.on_snapshot(Snapshot(10, bids=((100, 5),), asks=((102, 7),), full=True))
    >>> for i in (1, 2):
    ...     books.on_diff(DepthFrame("BTCUSDT", i * 1000 + 500, 10 + i, 10 + i, bids=((100, 5 + i),), asks=()))
    >>> state = books.state_at(2 * SECOND_NS)
    >>> state.book_valid, state.bid_quantity
    (True, 6e-08)

A diff belongs to the second of its event time; the state at a close is the book after the last diff before it. It is
not known where a diff is missing around the close, nor of a snapshot that is newer than every diff: nobody tells its
time. Order-flow imbalance is null unless the book was synced for the whole second.
"""

from __future__ import annotations

from feature_repo.contracts import SECOND_NS, BookState, StaleBook
from streaming.order_book import LocalBook, book_state, flow_imbalance
from streaming.venues.binance import DepthFrame, Snapshot

KEPT = 600
"""Seconds of states kept for seals that wait for missing trades."""


class SecondBooks:
    """Feeds a book and remembers its state at each close. Pure: time is the diffs' event time."""

    def __init__(self, book: LocalBook) -> None:
        self.book = book
        self._states: dict[int, BookState] = {}
        self._open: int | None = None
        self._flow: int | None = None
        self._timed = False

    def on_diff(self, diff: DepthFrame) -> None:
        """Apply a diff in its second. Raises `StaleBook` when the book lost its sequence."""
        if self.book.synced and diff.last_id > self.book.last_update_id and self.book.continues(diff):
            self._turn(diff.ts_event // SECOND_NS * SECOND_NS)
            self._timed = True
        before = self.book.best()
        try:
            self.book.on_diff(diff)
        except StaleBook:
            self._forget()
            raise
        after = self.book.best()
        if self._flow is not None and before is not None and after is not None:
            self._flow += flow_imbalance(before, after)

    def on_snapshot(self, snapshot: Snapshot) -> None:
        """Sync the book, or extend its reach. Raises `StaleBook` when the snapshot does not fit the diffs."""
        begins = not self.book.synced
        try:
            self.book.on_snapshot(snapshot)
        except StaleBook:
            if not self.book.synced:
                self._forget()
            raise
        newest = self.book.last_diff
        self._timed = newest is not None and newest.last_id == self.book.last_update_id
        if begins and newest is not None:
            self._open = newest.ts_event // SECOND_NS * SECOND_NS

    def lose(self) -> None:
        """The connection is gone: seconds that have not closed have no book."""
        self.book.lose()
        self._forget()

    def state_at(self, close: int) -> BookState:
        """The book at a close; not valid where it was not synced. Older states are let go."""
        if self._open is not None and self._open < close:
            self._turn(close)
        found = self._states.get(close, BookState())
        for done in [known for known in self._states if known <= close]:
            del self._states[done]
        return found

    def _turn(self, opened: int) -> None:
        """Finish every second before the one that begins at `opened`."""
        if not self.book.synced:
            return
        if self._open is None:
            self._open, self._flow = opened, None
            return
        for close in range(self._open + SECOND_NS, opened + SECOND_NS, SECOND_NS):
            if self._timed:
                self._states[close] = book_state(self.book, self._flow)
            self._open, self._flow = close, 0 if self._timed else None
        while len(self._states) > KEPT:
            del self._states[next(iter(self._states))]

    def _forget(self) -> None:
        self._open, self._flow = None, None
