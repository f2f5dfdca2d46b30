"""Context: the hourly percentile, `volatility_context`, in lake and Redis, beside the same made again from the bars.

    checker = ContextChecker(lake, "BTCUSDT", keeps_closes=True)
    checker.check(report, (start_ns, end_ns), samples.context)

It is made of a month of bars: more than the certificate reads of raw, so that the lake's own are taken, as betas take
them. A row is judged by what was known at its `created`. Where that differs and a file of its hours was written later,
nobody can say what the row was made of; that lake and Redis hold the same is judged all the same.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from feature_repo.context import CONTEXT_FEATURE, CONTEXT_LAG_NS
from feature_repo.contracts import DAY_NS, HOUR_NS, MINUTE_NS, NANOS
from feature_repo.lake_reader import Lake
from feature_repo.online_row import OnlineContext
from feature_repo.settings import Settings
from feature_repo.topics import base, trades_topic
from feature_repo.views import CONTEXT_TTL_S
from monitoring.parity.closes import HOUR_OVER_NS
from monitoring.parity.report import CONTEXT_CREATED, CONTEXT_ROW, Report, bits, time_text
from monitoring.parity.sampled import ONLINE_SLOW
from monitoring.parity.slow import IN_LAKE, MOVED, joined
from streaming.lake_upkeep import keep_days
from streaming.slow_view import SPAN_NS, MinuteBars, percentile_known

SETTLED_NS = 20 * MINUTE_NS
"""After this long what the lake holds is online too: a store that was away is tried again every quarter of an hour."""
SHOWN = 10
"""Closes that are written out behind a value."""
KEPT = 100
EXPIRED = "bars that it was made of may have expired"
Seen = Mapping[tuple[int, int], tuple[int, OnlineContext | None]]


@dataclass
class ContextChecker:
    """Judges one symbol's hourly rows. A month of bars is read once for each: what follows is not made again."""

    lake: Lake
    symbol: str
    keeps_closes: bool
    """Whether the lake keeps bars for longer than a row reads back."""
    _follows: dict[tuple[int, int], float | None] = field(default_factory=dict)
    """Hour and `created` → the value that was shown to follow, of the last `KEPT`."""
    _left: dict[tuple[int, int], tuple[float | None, str]] = field(default_factory=dict)
    """The same → a value that cannot be proven, and why."""
    _span: tuple[int, int] = (0, 0)
    """From when to when bars were read, while a certificate is made."""
    _read: MinuteBars | None = None

    def check(self, report: Report, window: tuple[int, int], online: Seen) -> None:
        """Rows that an instant of (start, end], ns, is told, and those seen online. Raises `StoreUnavailable`."""
        start, end = window
        self._read = None
        back_ns = CONTEXT_TTL_S * NANOS + DAY_NS
        held = self._held([(start - back_ns, end), *((at - back_ns, at) for at, _ in online.values())])
        before = [key for key in held if key[1] <= start]
        judged = [*([max(before)] if before else []), *(key for key in held if start < key[1] <= end)]
        for key in judged:
            self._judge(report, IN_LAKE, key, held[key], held[key])
        for at_ns, seen in online.values():
            self._check_online(report, at_ns, seen, held)
        self._read = None

    def _held(self, spans: Iterable[tuple[int, int]]) -> dict[tuple[int, int], float | None]:
        """Hour and `created` → value, ascending."""
        found: dict[tuple[int, int], float | None] = {}
        for start_ns, end_ns in joined(spans):
            rows = self.lake.read("context", self.symbol, max(start_ns, 0), end_ns).to_pylist()
            found |= {(row["ts_event"], row["created"]): row[CONTEXT_FEATURE] for row in rows}
        return dict(sorted(found.items()))

    def _check_online(
        self, report: Report, at_ns: int, seen: OnlineContext | None, held: Mapping[tuple[int, int], float | None],
    ) -> None:
        self._check_newest(report, at_ns, seen, held)
        if seen is None or at_ns - seen.ts_event > CONTEXT_TTL_S * NANOS:
            return
        key = seen.ts_event, seen.created
        if key in held:
            self._judge(report, ONLINE_SLOW, key, seen.value, held[key])
        else:
            report.differs(ONLINE_SLOW, CONTEXT_ROW, seen.ts_event, "a row that the lake holds", "another")

    def _check_newest(
        self, report: Report, at_ns: int, seen: OnlineContext | None, held: Mapping[tuple[int, int], float | None],
    ) -> None:
        """Lake first, then online: what has lain in the lake for a while, and is an answer still, is online."""
        for hour, created in reversed(list(held)):
            is_answer = at_ns - hour <= CONTEXT_TTL_S * NANOS
            if not is_answer or (seen is not None and (seen.ts_event, seen.created) >= (hour, created)):
                return
            settled_ns = max(created, self.lake.changed_ns("context", base(self.symbol), hour))
            if settled_ns <= at_ns - SETTLED_NS:
                found = f"that of {time_text(seen.ts_event)}" if seen else "none"
                report.differs(ONLINE_SLOW, CONTEXT_ROW, hour, f"the row of {time_text(hour)}", found)
                return

    def _judge(
        self, report: Report, where: str, key: tuple[int, int], found: float | None, of_lake: float | None,
    ) -> None:
        """`of_lake` is the lake's value of the same row: where that cannot be proven, it is what is to be online."""
        expected, why = self._expected(key, of_lake)
        if why and where == IN_LAKE:
            report.leave(where, why)
            return
        wanted = {CONTEXT_FEATURE: of_lake if why else expected, CONTEXT_CREATED: key[0] + CONTEXT_LAG_NS}
        cells: dict[str, Any] = {CONTEXT_FEATURE: found, CONTEXT_CREATED: key[1]}
        report.compare(where, key[0], wanted, cells)
        tally = report.features[CONTEXT_FEATURE]
        if bits(wanted[CONTEXT_FEATURE]) != bits(found) and tally.raw is None:
            tally.raw = self._behind(key)

    def _expected(self, key: tuple[int, int], of_lake: float | None) -> tuple[float | None, str]:
        """What a row is to hold, and why that cannot be said."""
        if key in self._follows:
            return self._follows[key], ""
        if key in self._left and bits(self._left[key][0]) == bits(of_lake):
            return None, self._left[key][1]
        value = percentile_known(self._bars(key[0]), key[0])
        if bits(value) == bits(of_lake):
            _keep(self._follows, key, value)
            return value, ""
        if why := self._why_not(key):
            _keep(self._left, key, (of_lake, why))
        return value, why

    def _why_not(self, key: tuple[int, int]) -> str:
        """Why a value that differs says nothing."""
        hour, created = key
        if not self.keeps_closes:
            return EXPIRED
        moved = any(
            self.lake.changed_ns("clean", base(self.symbol), at) > max(created, at + HOUR_OVER_NS)
            for at in range(hour - SPAN_NS, hour + 1, HOUR_NS)
        )
        return MOVED if moved else ""

    def _bars(self, hour: int) -> MinuteBars:
        """A month and the day behind it: the hours of one window are made of nearly the same bars."""
        start, end = hour - SPAN_NS, hour + DAY_NS
        if self._read is None or not self._span[0] <= start < hour <= self._span[1]:
            self._span, self._read = (start, end), MinuteBars.read(self.lake, self.symbol, start, end)
        return self._read

    def _behind(self, key: tuple[int, int]) -> dict[str, Any]:
        """The newest closes behind a value, as what is behind a slow feature is told."""
        hour, created = key
        times, closes = self._bars(hour).known(hour - SPAN_NS, hour, created)
        newest = list(zip(times.tolist(), closes.tolist(), strict=True))[: -SHOWN - 1 : -1]
        return {
            "topic": trades_topic(self.symbol), "after": time_text(hour - SPAN_NS), "to": time_text(hour),
            "known_by": time_text(created),
            "observations": [
                {"series": "close", "instrument": self.symbol, "provider": "lake", "value": close,
                 "moment": time_text(at), "known": time_text(created)} for at, close in newest
            ],
            "observations_left_out": len(times) - len(newest),
        }


def keeps_closes(settings: Settings) -> bool:
    """Whether bars are kept for longer than a row reads back."""
    kept = keep_days(settings.lake_retention).get("clean")
    return kept is None or kept * DAY_NS > SPAN_NS + DAY_NS


def _keep(held: dict[tuple[int, int], Any], key: tuple[int, int], value: Any) -> None:
    held[key] = value
    while len(held) > KEPT:
        del held[next(iter(held))]
