"""Arrears: trade ids that the raw history lacks because the stream went on without them; they are fetched later.

    arrears.owe([(10, 12)], origin, now)        # said in the topic `missing.latest`
    arrears.next                                # (10, 12): to be fetched when nothing else is
    arrears.pay(frames, 11, origin, now)        # published late: kept raw, counted by no seal

What is owed is said after every change, so that the next run goes on where this one stopped.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

import structlog

from feature_repo.contracts import Message, MissingTrades
from feature_repo.topics import MISSING, trades_topic
from streaming.ingest_metrics import IngestMetrics
from streaming.venues.binance import TradeFrame
from streaming.venues.binance_rest import Identity

log = structlog.get_logger()

Ids = tuple[int, int]
"""First and last of a range."""


class Arrears:
    """What is owed of one symbol: ranges of ids, ascending."""

    def __init__(self, symbol: str, publish: Callable[[str, Message], None], metrics: IngestMetrics) -> None:
        self.symbol = symbol
        self._publish, self._metrics = publish, metrics
        self._ranges: list[Ids] = []
        metrics.missing.labels(symbol).set(0)

    @property
    def next(self) -> Ids | None:
        """The range to fetch next; None: nothing is owed."""
        return self._ranges[0] if self._ranges else None

    @property
    def count(self) -> int:
        """How many ids are owed."""
        return sum(last - first + 1 for first, last in self._ranges)

    def clear(self) -> None:
        """Owe nothing: the ids of what was owed mean other trades now."""
        self._ranges = []
        self._metrics.missing.labels(self.symbol).set(0)

    def resume(self, left: MissingTrades, sealed: int | None, origin: Identity, now: int) -> None:
        """Owe what an earlier run has left, and nothing else.

        Ids behind the last sealed one are left out: that run ended before the first seal behind its hole, and this one
        recovers or owes them itself.
        """
        ranges = list(zip(left.first_ids, left.last_ids, strict=True))
        end = max((last for _, last in ranges), default=0) if sealed is None else sealed
        self._ranges = [(first, min(last, end)) for first, last in ranges if first <= end]
        self._metrics.missing.labels(self.symbol).set(self.count)
        if self._ranges != ranges:
            self._tell(origin, now)

    def owe(self, lost: Iterable[Ids], origin: Identity, now: int) -> None:
        """More ids were left behind."""
        self._ranges = sorted([*self._ranges, *lost])
        log.info("trades_owed", symbol=self.symbol, ids=self.count)
        self._tell(origin, now)

    def pay(self, frames: Iterable[TradeFrame], upto: int, origin: Identity, now: int) -> None:
        """Publish trades: of the next range the ids up to `upto` are these, or nobody has them."""
        for frame in frames:
            late = frame.to_trade(ts_init=now, source=origin.source, session=origin.session, late=True)
            self._publish(trades_topic(self.symbol), late)
        first, last = self._ranges.pop(0)
        if upto < last:
            self._ranges.insert(0, (max(first, upto + 1), last))
        self._tell(origin, now)

    def _tell(self, origin: Identity, now: int) -> None:
        self._metrics.missing.labels(self.symbol).set(self.count)
        self._publish(MISSING, MissingTrades(
            symbol=self.symbol, ts_event=now, ts_init=now, source=origin.source, session=origin.session,
            first_ids=[first for first, _ in self._ranges], last_ids=[last for _, last in self._ranges]))
