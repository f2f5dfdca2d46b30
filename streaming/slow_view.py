"""Slow view: what counts as high volatility, renewed for every hour from the lake's minute bars.

    view = SlowView(Lake.open(url), LakeWriter.open(url), store.write_context)
    view.renew("BTCUSDT", hour_ns)

Follows event time: the first close past an hour and its lag starts the hour's renewal in a thread of its own.
An hour whose bars are not yet there is tried again with later closes, ever more rarely. Its value is made of what was
known one lag after it, so that it is the same whenever it is computed, and the certificate can compute it again.
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
SPAN_NS = WINDOW_NS + HOUR_NS
"""How far back closes are read: the window, and those that its first value needs."""
log = structlog.get_logger()


@dataclass(frozen=True)
class MinuteBars:
    """Bars that close at whole minutes, from second and minute bars alike, every version of each."""

    times: Times
    """Close times, ns, ascending; of one close the version that became known first comes first."""
    closes: Floats
    created: Times
    """When each became known, ns."""

    @classmethod
    def read(cls, lake: Lake, symbol: str, start_ns: int, end_ns: int) -> MinuteBars:
        """Those that close in [start, end]; the seconds between them are never held. Raises `StoreUnavailable`."""
        columns = ("close_time", "close", "created")
        rows = lake.rows("clean", [symbol], start_ns, end_ns, columns, every_ns=MINUTE_NS)
        times, closes, created = (rows[name].to_numpy() for name in columns)
        order = np.lexsort((created, times))
        return cls(times[order].astype(np.int64), closes[order].astype(np.float64), created[order].astype(np.int64))

    def known(self, start_ns: int, end_ns: int, known_ns: int) -> tuple[Times, Floats]:
        """Close times and closes in [start, end], each once, as they were known by an instant: the last one counts."""
        held = (self.times >= start_ns) & (self.times <= end_ns) & (self.created <= known_ns)
        times, closes = self.times[held], self.closes[held]
        last = np.append(times[1:] != times[:-1], True)[: len(times)]
        return times[last], closes[last]


def percentile_known(bars: MinuteBars, hour_ns: int) -> float | None:
    """`volatility_context` at an hour of what was known when it counts as known; null with too little.

    A revision that came later, or a bar that was sealed late, is no part of it, whenever it is computed.
    """
    times, closes = bars.known(hour_ns - SPAN_NS, hour_ns, hour_ns + CONTEXT_LAG_NS)
    return trailing_percentile(times, closes, hour_ns)


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
        """Compute and write the view of one hour; null, and nothing written, while the lake holds too little.

        An hour that is in the lake already is not computed again: after a restart its bars may have been filled in, and
        a row that was told stays what it was.
        """
        created = hour_ns + CONTEXT_LAG_NS
        value = self._held(symbol, hour_ns, created)
        if value is None:
            if (self.lake.newest("clean", symbol) or 0) < hour_ns:
                return None  # the lake is behind the row that asks: its last minutes are to come
            value = percentile_known(MinuteBars.read(self.lake, symbol, hour_ns - SPAN_NS, hour_ns), hour_ns)
            if value is None:
                return None
            self.writer.add_revision("context", [ContextRow(symbol, hour_ns, created, value)], "stream")
        self.write(symbol, {CONTEXT_FEATURE: value}, hour_ns, created)
        return value

    def _held(self, symbol: str, hour_ns: int, created: int) -> float | None:
        rows = self.lake.rows("context", [symbol], hour_ns, hour_ns, ["created", CONTEXT_FEATURE]).to_pylist()
        return next((row[CONTEXT_FEATURE] for row in rows if row["created"] == created), None)

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
