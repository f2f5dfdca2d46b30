"""Job: a new certificate of the last closed stretch every few minutes while the stack runs, as gauges and as two files.

    job = SkewJob(settings, lambda: ("BTCUSDT",), time.time_ns)
    job.run(stop)                                  # until `stop`; <run dir>/parity/certificate.json and .html

One stretch begins where the one before it ended, so nothing is left out while the job runs. Each raw record is read
once, and between certificates some megabytes a symbol are held. Feast is not asked here: its import alone takes more
memory than all of that; `candlewick parity` asks it too.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa
import structlog

from feature_repo.contracts import SECOND_NS, InvalidMessage, StoreUnavailable
from feature_repo.settings import Settings
from monitoring import metrics
from monitoring.parity.check import Certifier
from monitoring.parity.page import page
from monitoring.parity.report import Report
from monitoring.parity.sampled import Sleep, sample

SETTLED_S = 15
"""The zones of the lake are written one after the other: what closed so long ago is in all of them."""
LEAST_ROOM_S = 900
REVISIONS = "revisions"
NOT_IN_TIME = "no certificate was made for longer than one reaches back"
log = structlog.get_logger()


@dataclass
class SkewJob:
    """Certificates of the symbols that are followed when it is time for one. One thread."""

    settings: Settings
    symbols: Callable[[], Iterable[str]]
    now_ns: Callable[[], int]
    newest: dict[str, dict[str, Any]] = field(default_factory=dict)
    """Symbol → its newest certificate."""
    _certifiers: dict[str, Certifier] = field(default_factory=dict)
    _ends: dict[str, int] = field(default_factory=dict)
    """Symbol → the newest close that was certified."""

    def run(self, stop: threading.Event) -> None:
        """Certify every `certify_every_s` seconds, above 0, until `stop`."""
        while not stop.wait(self.settings.certify_every_s):
            self.certify_all(stop.wait)

    def certify_all(self, sleep: Sleep) -> None:
        """One certificate of each symbol, kept and shown. One that cannot be made is a count and a log, not an end."""
        followed = tuple(self.symbols())
        for symbol in set(self._certifiers) - set(followed):
            for held in (self._certifiers, self._ends, self.newest):
                held.pop(symbol, None)
            metrics.forget_skew(symbol)
        for symbol in followed:
            try:
                report = self.certify(symbol, sleep)
            except (StoreUnavailable, InvalidMessage) as error:
                metrics.SKEW_FAILURES.labels(symbol).inc()
                log.warning("no certificate", symbol=symbol, error=str(error))
                continue
            except Exception:  # a row that no code can read must not take freshness, drift and outcomes with it
                metrics.SKEW_FAILURES.labels(symbol).inc()
                log.exception("no certificate", symbol=symbol)
                continue
            if report is not None:
                self._publish(report)
        if self.newest:
            self._write()
        pa.default_memory_pool().release_unused()

    def certify(self, symbol: str, sleep: Sleep) -> Report | None:
        """The closes since the last certificate, and the online row of now; null while there is none to judge."""
        every_s = self.settings.certify_every_s
        room_s = max(2 * every_s, LEAST_ROOM_S)
        if symbol not in self._certifiers:
            self._certifiers[symbol] = Certifier.open(self.settings, symbol, room_s)
        certifier = self._certifiers[symbol]
        samples = sample(certifier.store, symbol, 0, sleep)
        newest = certifier.await_lake(samples.newest, sleep)
        certifier.catch_up(samples.newest, sleep)
        closes = certifier.expected.closes
        end = min(newest or 0, max(closes, default=0)) - SETTLED_S * SECOND_NS
        goes_on = self._ends.get(symbol, end - every_s * SECOND_NS)
        start = max(goes_on, end - room_s * SECOND_NS)
        if end <= max(start, 0):
            log.info("nothing to certify", symbol=symbol)
            return None
        # A lake that is behind says nothing against the online row: the next certificate looks at another one.
        report, _ = certifier.certify(start, end, samples.until(max(closes)), sleep)
        if start > goes_on:
            report.leave("seconds", NOT_IN_TIME, (start - goes_on) // SECOND_NS)
        self._ends[symbol] = end
        return report

    def _publish(self, report: Report) -> None:
        self.newest[report.symbol] = report.as_dict()
        views = report.by_view()
        if report.revised.rows or report.revised.mismatches:
            views[REVISIONS] = report.revised.rows, report.revised.mismatches
        metrics.set_skew(report.symbol, views, self.now_ns())
        metrics.set_not_judged(report.symbol, report.not_judged)
        say = log.info if report.passed else log.error
        say("certificate", symbol=report.symbol, start=report.start, end=report.end, cells=report.cells,
            mismatches=report.mismatches, revised_mismatches=report.revised.mismatches,
            not_judged=sum(report.not_judged.values()), feature_sets=list(report.feature_sets),
            worst=[tally.worst.feature for tally in report.worst()[:3] if tally.worst])

    def _write(self) -> None:
        folder = certificates(self.settings)
        folder.mkdir(parents=True, exist_ok=True)
        made_ns = self.now_ns()
        _replace(folder / "certificate.json", json.dumps({"made_ns": made_ns, "symbols": self.newest}))
        _replace(folder / "certificate.html", page(list(self.newest.values()), made_ns))


def certificates(settings: Settings) -> Path:
    """Where the newest certificate lies."""
    return settings.run_dir / "parity"


def _replace(path: Path, text: str) -> None:
    """A reader sees the old file or the new one."""
    made = path.with_suffix(f"{path.suffix}.tmp")
    made.write_text(text)
    made.replace(path)
