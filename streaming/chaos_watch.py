"""Watch: what ingest did while its venue misbehaved: what it published, when it lost and regained link and books.

    watch = Watch(time.monotonic)
    ingest = Ingest(config, watch, rest, time.time_ns, IngestMetrics(), {})     # it is the publisher
    watch.look(link, {"BTCUSDT": feed.book.synced}, served=3)                   # a hundred times a second

A figure of time is None when nothing of the kind happened.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from itertools import pairwise
from typing import NamedTuple

from feature_repo.contracts import DeadLetter, Message, OrderBook, SecondClosed, Trade

CONNECT_WINDOW_S = 300.0


class Link(NamedTuple):
    """A connection as it can be seen: which one, when it was opened, when it delivered its last frame (0: none)."""

    number: int
    opened_s: float
    last_frame_s: float


@dataclass
class Watch:
    """A publisher that keeps what a judgement needs, and never stands in the way."""

    clock: Callable[[], float]
    """Monotonic seconds."""
    trades: dict[str, dict[int, Trade]] = field(default_factory=lambda: defaultdict(dict))
    doubled: int = 0
    late: int = 0
    reasons: Counter[str] = field(default_factory=Counter)
    seals: dict[str, list[SecondClosed]] = field(default_factory=lambda: defaultdict(list))
    books: dict[str, list[OrderBook]] = field(default_factory=lambda: defaultdict(list))
    left: list[float] = field(default_factory=list)
    """When a connection was left for another, or for none."""
    back: list[tuple[float, float, float]] = field(default_factory=list)
    """When a connection had delivered its first frame, when it was opened, and the last frame of the one before it."""
    served: list[float] = field(default_factory=list)
    """When the venue accepted a connection."""
    turns: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))
    """When each symbol's book was synced first, lost, regained, lost, …"""
    _link: int | None = None
    _delivers: bool = False
    _heard_s: float = 0.0

    @property
    def full(self) -> bool:
        return False

    @property
    def waiting(self) -> int:
        return 0

    def close(self, timeout_s: float) -> int:  # noqa: ARG002 - nothing ever waits here
        return 0

    def publish(self, topic: str, message: Message) -> None:  # noqa: ARG002 - the message says what it is
        if isinstance(message, Trade):
            self.late += message.late
            self.doubled += message.trade_id in self.trades[message.symbol]
            self.trades[message.symbol][message.trade_id] = message
        elif isinstance(message, DeadLetter):
            self.reasons[message.reason] += 1
        elif isinstance(message, SecondClosed):
            self.seals[message.symbol].append(message)
        elif isinstance(message, OrderBook):
            self.books[message.symbol].append(message)

    def look(self, link: Link | None, synced: Mapping[str, bool], served: int) -> None:
        """Note what has changed since the last look."""
        now = self.clock()
        self.served += [now] * (served - len(self.served))
        for symbol, is_synced in synced.items():
            # The turns alternate, so their number tells what was seen last.
            if is_synced != (len(self.turns[symbol]) % 2 == 1):
                self.turns[symbol].append(now)
        number = None if link is None else link.number
        if number != self._link:
            self.left += [now] * (self._link is not None)
            self._link, self._delivers = number, False
        if link is None or not link.last_frame_s:
            return
        if not self._delivers:
            self._delivers = True
            self.back.append((now, link.opened_s, self._heard_s))
        self._heard_s = link.last_frame_s

    def resync_times(self) -> list[float]:
        """Seconds of each time that a book was lost and regained."""
        return [back - lost for turns in self.turns.values()
                for lost, back in zip(turns[1::2], turns[2::2], strict=False)]

    def reconnect_time(self, fault_s: float) -> tuple[float, float] | None:
        """Seconds until a connection opened after a fault delivers: without any frame since the fault, and from leaving
        the old one. None when there was none."""
        found = next((back for back in self.back if back[1] > fault_s), None)
        if found is None:
            return None
        seen, _, heard = found
        left = max((left for left in self.left if fault_s < left <= seen), default=seen)
        return seen - max(fault_s, heard), seen - left

    def gaps(self) -> int:
        """Seals that do not follow the one before them: seconds without one."""
        return sum(b.prev_close != a.close or b.close - a.close != 1_000_000_000
                   for seals in self.seals.values() for a, b in pairwise(seals))

    def most_connects(self) -> int:
        """Connections accepted in the fullest five minutes."""
        return max((sum(at <= other < at + CONNECT_WINDOW_S for other in self.served) for at in self.served), default=0)


def p95(values: Iterable[float]) -> float | None:
    """The 95th percentile, nearest rank; None of nothing.

    >>> p95([]), p95(range(1, 101))
    (None, 95.0)
    """
    ordered = sorted(values)
    return round(float(ordered[-(-len(ordered) * 95 // 100) - 1]), 3) if ordered else None
