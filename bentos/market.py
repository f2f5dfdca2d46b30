"""MarketBoard: the newest summary of every followed symbol, and who moves most; pure.

    board = MarketBoard(("BTCUSDT", "ETHUSDT"))
    board.take(partition=0, offset=17, summary=summary)
    market = board.view(now_ns)            # what `GET /market` and the `market` channel show
"""

from __future__ import annotations

from collections.abc import Container, Sequence
from typing import get_args

from feature_repo.contracts import SECOND_NS, ChangeWindow, Market, MarketSummary, Movers, Source

WINDOWS: tuple[ChangeWindow, ...] = get_args(ChangeWindow)
MOST_MOVERS = 5
FRESH_NS = 10 * SECOND_NS
"""A symbol whose newest line is older does not move now: it stays in the table and out of the movers."""


class MarketBoard:
    """One line a symbol. `followed` may change: it is asked each time."""

    def __init__(self, followed: Container[str]) -> None:
        self._followed = followed
        self._lines: dict[str, MarketSummary] = {}
        self._next_offsets: dict[int, int] = {}
        self._is_news = False

    @property
    def sequence(self) -> int:
        """The sum of the offsets read in each partition: the same in every process that has read as far."""
        return sum(self._next_offsets.values())

    def take(self, partition: int, offset: int, summary: MarketSummary) -> None:
        """Remember a line unless a newer one is known; a repeated record changes nothing."""
        self._next_offsets[partition] = max(offset + 1, self._next_offsets.get(partition, 0))
        held = self._lines.get(summary.symbol)
        is_newer = held is None or (held.ts_event, held.created) < (summary.ts_event, summary.created)
        if is_newer:
            self._lines[summary.symbol] = summary
            self._is_news = True

    def view(self, now_ns: int) -> Market:
        """The whole table as known at `now_ns`."""
        lines = [self._lines[symbol] for symbol in sorted(self._lines) if symbol in self._followed]
        fresh = [line for line in lines if now_ns - line.ts_event <= FRESH_NS]
        return Market(
            ts=now_ns, source=_common_source(lines), summaries=lines,
            movers=[movers(fresh, window) for window in WINDOWS],
        )

    def news(self, now_ns: int) -> Market | None:
        """The table if a line changed since this was last asked."""
        changed, self._is_news = self._is_news, False
        return self.view(now_ns) if changed else None


def movers(lines: Sequence[MarketSummary], window: ChangeWindow) -> Movers:
    """Who rose and who fell most over a window, greatest change first; an unknown change is no change.

    Equal changes are ordered by symbol, so that the order does not depend on arrival.
    """
    changes = {line.symbol: getattr(line, f"change_{window}") for line in lines}
    known = sorted((change, symbol) for symbol, change in changes.items() if change is not None)
    up = sorted(((-change, symbol) for change, symbol in known if change > 0))
    return Movers(
        window=window, up=[symbol for _, symbol in up[:MOST_MOVERS]],
        down=[symbol for change, symbol in known if change < 0][:MOST_MOVERS],
    )


def _common_source(lines: Sequence[MarketSummary]) -> Source | None:
    sources = {line.source for line in lines}
    return sources.pop() if len(sources) == 1 else None
