"""Slow view: what counts as high volatility, renewed for every hour from the lake's minute bars.

    view = SlowView(Lake.open(url), LakeWriter.open(url), store.write_context)
    view.renew("BTCUSDT", hour_ns)

Follows event time: the first close past an hour and its lag starts the hour's renewal in a thread of its own.
An hour whose bars are not yet there is tried again with later closes, ever more rarely.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from dataclasses import dataclass, field

import numpy as np
import structlog

from feature_repo.context import CONTEXT_FEATURE, CONTEXT_LAG_NS, WINDOW_NS, Floats, Times, trailing_percentile
from feature_repo.contracts import HOUR_NS, MINUTE_NS, StoreUnavailable
from feature_repo.lake_layout import ContextRow
from feature_repo.lake_reader import Lake
from streaming.lake import LakeWriter

WriteContext = Callable[[str, Mapping[str, float | None], int, int], bool]
FIRST_RETRY_NS = MINUTE_NS
log = structlog.get_logger()


def minute_closes(lake: Lake, symbol: str, start_ns: int, end_ns: int) -> tuple[Times, Floats]:
    """Close times (ns, whole minutes, ascending) and closes in [start, end], from second and minute bars alike."""
    rows = lake.rows("clean", [symbol], start_ns, end_ns, ["close_time", "close", "created"])
    times, closes, created = (rows[name].to_numpy() for name in ("close_time", "close", "created"))
    order = np.lexsort((created, times))
    times, closes = times[order], closes[order]
    # Of several bars of one close the one known last counts.
    kept = (times % MINUTE_NS == 0) & np.append(times[1:] != times[:-1], True)[: len(times)]
    return times[kept].astype(np.int64), closes[kept].astype(np.float64)


@dataclass
class SlowView:
    """Renews `volatility_context` of each symbol once an hour of event time."""

    lake: Lake
    writer: LakeWriter
    write: WriteContext
    pool: Executor = field(default_factory=lambda: ThreadPoolExecutor(1, "slow-view"))
    _done: dict[str, int] = field(default_factory=dict)
    _next_try: dict[str, int] = field(default_factory=dict)
    _wait: dict[str, int] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def on_close(self, symbol: str, close_ns: int) -> None:
        """Start the hour's renewal if it is due; returns at once."""
        hour = (close_ns - CONTEXT_LAG_NS) // HOUR_NS * HOUR_NS
        with self._lock:
            if self._done.get(symbol) == hour or close_ns < self._next_try.get(symbol, 0):
                return
            wait = self._wait.get(symbol, FIRST_RETRY_NS)
            self._next_try[symbol], self._wait[symbol] = close_ns + wait, min(2 * wait, HOUR_NS // 4)
        self.pool.submit(self._try, symbol, hour).add_done_callback(_tell)

    def renew(self, symbol: str, hour_ns: int) -> float | None:
        """Compute and write the view of one hour; null, and nothing written, while the lake holds too little."""
        times, closes = minute_closes(self.lake, symbol, hour_ns - WINDOW_NS - HOUR_NS, hour_ns)
        value = trailing_percentile(times, closes, hour_ns)
        if value is not None:
            row = ContextRow(symbol, hour_ns, hour_ns + CONTEXT_LAG_NS, value)
            self.writer.add_revision("context", [row], "stream")
            self.write(symbol, {CONTEXT_FEATURE: value}, row.ts_event, row.created)
        return value

    def _try(self, symbol: str, hour_ns: int) -> None:
        try:
            value = self.renew(symbol, hour_ns)
        except (StoreUnavailable, OSError) as error:
            log.error("slow view not renewed", symbol=symbol, hour=hour_ns, reason=str(error))
            return
        log.info("slow view", symbol=symbol, hour=hour_ns, value=value)
        if value is not None:
            with self._lock:
                self._done[symbol] = hour_ns
                self._next_try.pop(symbol, None)
                self._wait.pop(symbol, None)


def _tell(renewal: Future[None]) -> None:
    """What nobody expected of a renewal would otherwise stay in its future; the next hour tries anew."""
    if not renewal.cancelled() and (error := renewal.exception()) is not None:
        log.error("slow view failed", reason=repr(error))
