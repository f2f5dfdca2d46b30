"""The local order book: one snapshot and the diffs after it, by the venue's published rules, in integer steps.

    >>> book = LocalBook("BTCUSDT")
    >>> book.on_snapshot(Snapshot(10, bids=((100, 5),), asks=((102, 7),), full=True))
    >>> book.on_diff(DepthFrame("BTCUSDT", 1_000, 11, 12, bids=((101, 3),), asks=()))
    >>> book.best()
    (101, 3, 102, 7)
    >>> book.on_diff(DepthFrame("BTCUSDT", 1_100, 14, 15, bids=(), asks=()))
    Traceback (most recent call last):
        ...
    feature_repo.contracts.StaleBook: BTCUSDT: expected a diff that continues update 12, found 14 to 15

Every rule drops `u <= lastUpdateId` of the snapshot. `SPOT`: the first diff kept must span lastUpdateId + 1; from then
on `U > local + 1` is a gap. `USDM`: ids are shared by all symbols, so a diff names the one before it: the snapshot must
not lie before the first kept diff's `pu`; from then on `pu` must equal the last `u`. Each rule sees the other venue's
diffs as a gap at once. Between a gap and the next snapshot the book is not synced and says nothing. A diff of ids
already applied but of a later time says that the ids went back: what set ours was wrong.
https://developers.binance.com/docs/binance-spot-api-docs/web-socket-streams#how-to-manage-a-local-order-book-correctly
https://developers.binance.com/docs/derivatives/usds-margined-futures/websocket-market-streams/How-to-manage-a-local-order-book-correctly
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import accumulate, islice, pairwise
from typing import NoReturn

from sortedcontainers import SortedDict

from feature_repo.contracts import BookState, OrderBook, PriceLevels, Source, StaleBook
from streaming.bars import STEP
from streaming.venues.binance import DepthFrame, Level, Snapshot

BINS = 30
TOP = 20
RECENT_DIFFS = 2_000
"""Diffs kept for the next snapshot: 200 s of `depth@100ms`, far more than a REST call takes."""
BASIS = 10_000
BACK_MS = 300
"""Two connections tell the same ids at the same event time, but for the limits of their 100 ms."""

Best = tuple[int, int, int, int]
"""Best bid price and quantity, best ask price and quantity, in steps."""


@dataclass(frozen=True)
class BookRule:
    """How a venue says that a diff continues a book, by the id of the last update in it."""

    begins: Callable[[int, DepthFrame], bool]
    """Whether the first diff that is newer than a snapshot continues it."""
    follows: Callable[[int, DepthFrame], bool]
    """Whether a diff continues the one before it."""


def _reaches_back(last_id: int, diff: DepthFrame) -> bool:
    return diff.first_id <= last_id + 1


SPOT = BookRule(_reaches_back, _reaches_back)
USDM = BookRule(
    begins=lambda last_id, diff: diff.previous_id is not None and diff.previous_id <= last_id,
    follows=lambda last_id, diff: diff.previous_id == last_id,
)


class LocalBook:
    """One symbol's book. `bid_reach`/`ask_reach`: the worst price of the snapshot, beyond which levels are unknown."""

    def __init__(self, symbol: str, rule: BookRule = SPOT) -> None:
        self.symbol = symbol
        self.rule = rule
        self.synced = False
        self.last_update_id = 0
        self._at_snapshot = False
        self.bids: SortedDict[int, int] = SortedDict()
        self.asks: SortedDict[int, int] = SortedDict()
        self.bid_reach: int | None = None
        self.ask_reach: int | None = None
        self._recent: deque[DepthFrame] = deque(maxlen=RECENT_DIFFS)
        self._applied_ms: int | None = None

    def on_diff(self, diff: DepthFrame) -> None:
        """Apply a diff, or keep it for the snapshot to come.

        Raises `StaleBook` at a gap, at ids that go back while time goes on, and when the book is crossed.
        """
        if not self.synced:
            self._keep(diff)
            return
        if not self.continues(diff):
            self._lose_to(diff)
        if diff.last_id <= self.last_update_id:
            return
        self._recent.append(diff)
        self._apply(diff)
        self._applied_ms = diff.time_ms
        self._check_crossed()

    def _keep(self, diff: DepthFrame) -> None:
        """Keep a diff for the snapshot to come. One wild id must not make every snapshot look old."""
        if any(diff.last_id <= kept.last_id and diff.time_ms > kept.time_ms + BACK_MS for kept in self._recent):
            self._recent.clear()
        self._recent.append(diff)

    def continues(self, diff: DepthFrame) -> bool:
        """Whether nothing is missing between a synced book and a diff, and ids have not gone back."""
        if diff.last_id <= self.last_update_id:
            return self._applied_ms is None or diff.time_ms <= self._applied_ms + BACK_MS
        follows = self.rule.begins if self._at_snapshot else self.rule.follows
        return follows(self.last_update_id, diff)

    def _lose_to(self, diff: DepthFrame) -> NoReturn:
        """Begin anew with a diff that does not continue what is known."""
        expected = self.last_update_id
        self.lose()
        self._recent.append(diff)
        raise StaleBook(
            f"{self.symbol}: expected a diff that continues update {expected}, found {diff.first_id} to {diff.last_id}")

    def on_snapshot(self, snapshot: Snapshot) -> None:
        """Begin from a snapshot, or extend the reach of a synced book.

        Raises `StaleBook` when the diffs kept do not continue the snapshot; a synced book then stays as it was.
        """
        diffs = [diff for diff in self._recent if diff.last_id > snapshot.last_update_id]
        if not continuous(snapshot.last_update_id, diffs, self.rule):
            raise StaleBook(
                f"{self.symbol}: expected a diff that continues snapshot {snapshot.last_update_id}, "
                f"found {diffs[0].first_id} to {diffs[0].last_id}"
            )
        self.bids = SortedDict(snapshot.bids)
        self.asks = SortedDict(snapshot.asks)
        self.bid_reach = None if snapshot.full else min(self.bids, default=None)
        self.ask_reach = None if snapshot.full else max(self.asks, default=None)
        self.last_update_id = snapshot.last_update_id
        self._applied_ms = None
        self.synced = self._at_snapshot = True
        for diff in diffs:
            self._apply(diff)
        self._check_crossed()

    def lose(self) -> None:
        """Forget everything: the next snapshot begins anew."""
        self.synced = False
        self._recent.clear()

    @property
    def last_diff(self) -> DepthFrame | None:
        """The newest diff seen."""
        return self._recent[-1] if self._recent else None

    def best(self) -> Best | None:
        """Best quotes; None while not synced or with an empty side."""
        if not (self.synced and self.bids and self.asks):
            return None
        bid_price, bid_quantity = self.bids.peekitem(-1)
        ask_price, ask_quantity = self.asks.peekitem(0)
        return bid_price, bid_quantity, ask_price, ask_quantity

    def reaches(self, bps: int) -> bool:
        """Whether both sides are known to `bps` basis points from the mid price."""
        return self.best() is not None and None not in (self._bid_edge(bps), self._ask_edge(bps))

    def levels(self, side: str, count: int = TOP) -> list[Level]:
        """The best `count` levels of "bids" or "asks", best first."""
        if side == "bids":
            return list(islice(reversed(self.bids.items()), count))
        return list(islice(self.asks.items(), count))

    def top_quantity(self, side: str, count: int) -> float | None:
        """Quantity of the best `count` levels in base units; None where the book does not reach the last of them."""
        levels = self.levels(side, count)
        reach = self.bid_reach if side == "bids" else self.ask_reach
        if reach is not None:
            worst = levels[-1][0] if levels else None
            if worst is None or len(levels) < count or (worst < reach if side == "bids" else worst > reach):
                return None
        return sum(quantity for _, quantity in levels) / STEP

    def bid_depths(self, edges_bps: Sequence[int]) -> list[int | None]:
        """Steps of quantity between successive edges below the mid price (half-open); None where unknown."""
        starts = [None if (edge := self._bid_edge(bps)) is None else self.bids.bisect_left(edge) for bps in edges_bps]
        return [_between(self.bids, far, near) for near, far in pairwise(starts)]

    def ask_depths(self, edges_bps: Sequence[int]) -> list[int | None]:
        """Steps of quantity between successive edges above the mid price (half-open); None where unknown."""
        ends = [None if (edge := self._ask_edge(bps)) is None else self.asks.bisect_right(edge) for bps in edges_bps]
        return [_between(self.asks, near, far) for near, far in pairwise(ends)]

    def _bid_edge(self, bps: int) -> int | None:
        # The lowest price p with (mid − p) / mid < bps / 10⁴, in integers: 2·10⁴·p > (10⁴ − bps)·(bid + ask).
        edge = (self.bids.peekitem(-1)[0] + self.asks.peekitem(0)[0]) * (BASIS - bps) // (2 * BASIS) + 1
        return None if self.bid_reach is not None and edge < self.bid_reach else edge

    def _ask_edge(self, bps: int) -> int | None:
        edge = -(-(self.bids.peekitem(-1)[0] + self.asks.peekitem(0)[0]) * (BASIS + bps) // (2 * BASIS)) - 1
        return None if self.ask_reach is not None and edge > self.ask_reach else edge

    def _apply(self, diff: DepthFrame) -> None:
        _change(self.bids, diff.bids)
        _change(self.asks, diff.asks)
        self.last_update_id = diff.last_id
        self._at_snapshot = False

    def _check_crossed(self) -> None:
        best = self.best()
        if best is not None and best[0] >= best[2]:
            self.lose()
            raise StaleBook(f"{self.symbol}: expected bid < ask, found {best[0] / STEP} and {best[2] / STEP}")


def continuous(last_update_id: int, diffs: Iterable[DepthFrame], rule: BookRule = SPOT) -> bool:
    """Whether diffs that end after a snapshot at `last_update_id` continue it without a gap.

    >>> a, b = DepthFrame("X", 1, 9, 12, (), ()), DepthFrame("X", 2, 13, 13, (), ())
    >>> continuous(10, [a, b]), continuous(10, [b])
    (True, False)
    """
    goes_on = rule.begins
    for diff in diffs:
        if not goes_on(last_update_id, diff):
            return False
        last_update_id, goes_on = diff.last_id, rule.follows
    return True


def flow_imbalance(before: Best, after: Best) -> int:
    """Contribution e_n of one change of the best quotes to order-flow imbalance, in quantity steps.

    Cont, Kukanov and Stoikov (2014), "The price impact of order book events", equation 4: what joined the bid
    minus what left it, minus the same at the ask.

    >>> flow_imbalance((100, 5, 102, 7), (100, 8, 102, 6))      # 3 joined the bid, 1 left the ask
    4
    >>> flow_imbalance((100, 5, 102, 7), (101, 2, 102, 7))      # a better bid of 2
    2
    """
    bid, bid_quantity, ask, ask_quantity = before
    bid_now, bid_quantity_now, ask_now, ask_quantity_now = after
    return (
        (bid_quantity_now if bid_now >= bid else 0) - (bid_quantity if bid_now <= bid else 0)
        - (ask_quantity_now if ask_now <= ask else 0) + (ask_quantity if ask_now >= ask else 0)
    )


def book_state(book: LocalBook, flow: int | None) -> BookState:
    """The book as features need it; `flow` is the second's order-flow imbalance in steps, None when not whole."""
    best = book.best()
    if best is None:
        return BookState()
    top = {
        f"{side[:-1]}_quantity_{n}": book.top_quantity(side, n) for side in ("bids", "asks") for n in (5, 10, 20)
    }
    bid_10, bid_25 = _cumulative(book.bid_depths((0, 10, 25)))
    ask_10, ask_25 = _cumulative(book.ask_depths((0, 10, 25)))
    return BookState(
        book_valid=True, bid_price=best[0] / STEP, bid_quantity=best[1] / STEP,
        ask_price=best[2] / STEP, ask_quantity=best[3] / STEP, **top,
        bid_depth_10bps=bid_10, bid_depth_25bps=bid_25, ask_depth_10bps=ask_10, ask_depth_25bps=ask_25,
        order_flow_imbalance=None if flow is None else flow / STEP,
    )


def order_book(
    book: LocalBook, *, ts_event: int, ts_init: int, source: Source, session: str,
) -> OrderBook | None:
    """The OrderBook message of a synced book; None when there is nothing to say."""
    best = book.best()
    if best is None:
        return None
    edges = range(BINS + 1)
    bids, asks = book.bid_depths(edges), book.ask_depths(edges)
    depths = {
        f"{side}_depth_{bps}bps": _cumulative(bins)[bps - 1]
        for side, bins in (("bid", bids), ("ask", asks)) for bps in (5, 10, 25)
    }
    return OrderBook(
        symbol=book.symbol, ts_event=ts_event, ts_init=ts_init, source=source, session=session,
        last_update_id=book.last_update_id, mid_price=(best[0] + best[2]) / (2 * STEP),
        bids=_price_levels(book.levels("bids")), asks=_price_levels(book.levels("asks")),
        **depths, bid_bins=_units(bids), ask_bins=_units(asks),
    )


def _change(side: SortedDict[int, int], levels: Iterable[Level]) -> None:
    for price, quantity in levels:
        if quantity:
            side[price] = quantity
        else:
            side.pop(price, None)


def _between(side: SortedDict[int, int], start: int | None, stop: int | None) -> int | None:
    if start is None or stop is None:
        return None
    quantities: Iterable[int] = map(side.__getitem__, side.islice(start, stop))
    return sum(quantities)


def _cumulative(parts: Iterable[int | None]) -> list[float | None]:
    return _units(accumulate(parts, lambda total, part: None if total is None or part is None else total + part))


def _units(steps: Iterable[int | None]) -> list[float | None]:
    return [None if value is None else value / STEP for value in steps]


def _price_levels(levels: Sequence[Level]) -> PriceLevels:
    return PriceLevels(
        prices=[price / STEP for price, _ in levels], quantities=[quantity / STEP for _, quantity in levels],
    )
