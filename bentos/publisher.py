"""Publisher: the one process that predicts every live row and writes it to `crypto_predictions`.

    python -m bentos.publisher

It holds a lease in Redis; a second publisher stands by without reading. It goes on from the last committed offset,
skips to the newest row when it is behind, but never leaves out a whole minute that is at most a minute old.
Predictions are pure functions of their row: one that is made twice after a kill has the same identity.
"""

from __future__ import annotations

import os
import signal
import socket
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import structlog

from bentos.champion import Chosen, choose_artefact
from bentos.feature_tail import FeatureTail
from bentos.lease import TTL_S, Lease
from bentos.metrics import PublisherMetrics
from bentos.predictor import Outputs
from bentos.publishing import Silence, answer, to_predict
from bentos.sequence import Floats
from bentos.venue_clock import MILLI_NS, VenueTime
from feature_repo import health
from feature_repo.contracts import NANOS, FeatureRow, InvalidMessage, Prediction, StoreUnavailable
from feature_repo.logs import configure
from feature_repo.redis_client import connect
from feature_repo.settings import LOOPBACK, Settings, load_settings
from feature_repo.store import FeatureStore, OnlineRow
from feature_repo.symbols import SymbolWatch
from feature_repo.topics import PREDICTIONS, producer, send

LEASE_KEY = "candlewick:publisher"
STAND_BY_S, RENEW_S = 1.0, TTL_S / 3
HELD_WITHIN_S, LOOK_EVERY_S = 0.2, 0.004
ACKNOWLEDGED_S = 10.0
ALIVE_S = 15.0
"""A loop that has not turned for so long is stuck."""
log = structlog.get_logger()


@dataclass
class Publisher:
    """The loop and what it needs; one thread."""

    store: FeatureStore
    lease: Lease
    chosen: Chosen
    open_tail: Callable[[tuple[str, ...]], FeatureTail]
    open_producer: Callable[[], Any]
    clock: VenueTime
    metrics: PublisherMetrics
    symbols: tuple[str, ...]
    """Followed now; may be replaced at any time by another thread."""
    monotonic_s: Callable[[], float] = time.monotonic
    stopping: threading.Event = field(default_factory=threading.Event)
    turned_s: float = 0.0
    fault: str | None = None
    """What interrupted publishing, until it goes again."""
    _silence: Silence = field(default_factory=Silence)
    _last: dict[str, FeatureRow] = field(default_factory=dict)

    def run(self) -> None:
        """Stand by or lead until asked to stop."""
        while not self.stopping.is_set():
            self.turned_s = self.monotonic_s()
            if not self.lease.hold(self.turned_s):
                self.stopping.wait(STAND_BY_S)
                continue
            try:
                self._lead()
            except Exception as error:  # a broker or store that went away: begin anew
                log.exception("publishing interrupted")
                self.fault = f"{type(error).__name__}: {error}"
                self.stopping.wait(STAND_BY_S)
            finally:
                self.metrics.active.set(0)

    def follow(self, symbols: tuple[str, ...]) -> None:
        """Predict these symbols from the next turn on; callable from any thread."""
        self.symbols = symbols

    def reasons(self) -> Mapping[str, str]:
        """Why this process is unhealthy; empty when it is fine, standing by included."""
        stuck_s = self.monotonic_s() - self.turned_s
        found = {
            "loop": f"last turned {stuck_s:.0f} s ago" if stuck_s > ALIVE_S else None,
            "model": self.chosen.fault, "publishing": self.fault, "redis": self.lease.fault,
        }
        return {name: reason for name, reason in found.items() if reason}

    def _lead(self) -> None:
        symbols = self.symbols
        log.info("publishing", fence=self.lease.fence, symbols=symbols)
        self.metrics.active.set(1)
        self._last = {s: held.row for s in symbols if (held := self.store.read(s)) is not None}
        tail, out = self.open_tail(symbols), self.open_producer()
        renewed_s = self.monotonic_s()
        self.lease.hold(renewed_s)  # connecting may have taken longer than the lease
        try:
            # Followed anew from the last commit when other symbols are followed: rare, and over in a moment.
            while not self.stopping.is_set() and self.lease.is_held(self.monotonic_s()) and symbols == self.symbols:
                self.turned_s = self.monotonic_s()
                if self.turned_s - renewed_s > RENEW_S:
                    self.lease.hold(self.turned_s)
                    renewed_s = self.turned_s
                self._turn(tail, out)
                self.fault = None
            log.info("publishing ended", stopping=self.stopping.is_set())
        finally:
            tail.close()
            out.close(timeout=ACKNOWLEDGED_S)
            if self.stopping.is_set():
                self.lease.release()

    def _turn(self, tail: FeatureTail, out: Any) -> None:
        """Read what is there, predict and publish it, then commit."""
        batch = tail.poll()
        if batch.book is not None:
            self.clock.learn(*batch.book)
        rows = [row for row, _ in batch.rows if row.symbol in self.symbols]
        wanted, passed_over = to_predict(rows, self.clock())
        self.metrics.skipped.labels(reason="behind").inc(passed_over)
        appended_ms = {id(row): at_ms for row, at_ms in batch.rows}
        for row in wanted:
            self._publish(out, self._predict(row))
            self._last[row.symbol] = row
            self._observe_hop(appended_ms[id(row)])
        self._break_silence(out)
        if batch.rows:
            tail.commit()

    def _predict(self, row: FeatureRow) -> Prediction:
        try:
            online = self._held(row)
        except (StoreUnavailable, InvalidMessage) as error:
            return answer(row, None, self.chosen, self.clock(), self._infer, store_fault=str(error))
        return answer(row, online, self.chosen, self.clock(), self._infer)

    def _held(self, row: FeatureRow) -> OnlineRow | None:
        """What Redis holds, as soon as it holds this row or a later one; after `HELD_WITHIN_S` whatever it holds."""
        wanted, deadline_s = (row.ts_event, row.created), self.monotonic_s() + HELD_WITHIN_S
        while (self.store.version(row.symbol) or (0, 0)) < wanted and self.monotonic_s() < deadline_s:
            time.sleep(LOOK_EVERY_S)
        return self.store.read(row.symbol)

    def _infer(self, sequence: Floats, threshold: float | None) -> Outputs:
        assert self.chosen.artefact is not None, "a tier that forecasts has a model"
        with self.metrics.inference.time():
            return self.chosen.artefact.run(sequence, threshold)

    def _publish(self, out: Any, made: Prediction) -> None:
        """Write a prediction; raises when the broker does not acknowledge it, so that its row is not committed."""
        send(out, PREDICTIONS, made).get(timeout=ACKNOWLEDGED_S)
        self.metrics.predicted(made.tier)

    def _observe_hop(self, appended_ms: int) -> None:
        elapsed_s = time.time_ns() / NANOS - appended_ms * MILLI_NS / NANOS
        self.metrics.hop.labels(hop="row_to_prediction").observe(max(0.0, elapsed_s))

    def _break_silence(self, out: Any) -> None:
        for symbol in self.symbols:
            notice = self._silence.notice(symbol, self._last.get(symbol), self.chosen, self.clock())
            if notice is not None:
                log.warning("features stopped", symbol=symbol, reasons=notice.reasons)
                self._publish(out, notice)


def build(settings: Settings, owner: str) -> Publisher:
    """A publisher of these settings; nothing is connected yet."""
    metrics, clock = PublisherMetrics(), VenueTime()
    chosen = choose_artefact(settings, lambda slot: metrics.model_refused.labels(slot=slot).inc())
    return Publisher(
        FeatureStore.open(settings), Lease(connect(settings.redis_writer), LEASE_KEY, owner), chosen,
        lambda symbols: FeatureTail(settings.kafka, symbols, metrics),
        lambda: producer(settings.kafka, "candlewick-publisher", linger_ms=0), clock, metrics, settings.symbols,
    )


def main(settings: Settings) -> None:
    """Run until SIGTERM or Ctrl-C."""
    configure("publisher", settings.log_level)
    publisher = build(settings, f"{socket.gethostname()}-{os.getpid()}")
    watch = SymbolWatch(settings.kafka, settings.symbols, publisher.follow).start()
    for signum in (signal.SIGTERM, signal.SIGINT):
        signal.signal(signum, lambda *_: publisher.stopping.set())
    publisher.turned_s = time.monotonic()
    server = health.serve(LOOPBACK, settings.ports.publisher, publisher.reasons, publisher.metrics.registry)
    try:
        publisher.run()
    finally:
        watch.stop()
        server.shutdown()


if __name__ == "__main__":
    main(load_settings())
