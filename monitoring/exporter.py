"""Exporter: what no single process can say of itself, as Prometheus metrics on ports.monitoring.

    python -m monitoring.exporter

It follows the topics of rows, predictions and dead letters, reads the online store as a client would, and
exports feature age, tier, drift against the served model's training reference, and message counts; beside it the skew
certificate is renewed (`monitoring.parity.job`).
"""

from __future__ import annotations

import json
import signal
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import structlog

from bentos.champion import served_folder
from feature_repo import logs, topics
from feature_repo.contracts import (
    DAY_NS,
    MINUTE_NS,
    NANOS,
    CandlewickError,
    DeadLetter,
    FeatureRow,
    InvalidMessage,
    Message,
    ModelRefused,
    Prediction,
    StoreUnavailable,
)
from feature_repo.features import FAMILIES, FEATURES
from feature_repo.health import serve
from feature_repo.settings import LOOPBACK, Settings, load_settings
from feature_repo.store import FeatureStore
from feature_repo.symbols import SymbolWatch
from monitoring import metrics
from monitoring.drift import MONITORED, Histogram, drift, references

log = structlog.get_logger()
KEPT_MINUTES = 1440
VIEWS = {f"{family}_features": tuple(f.name for f in FEATURES if f.family == family) for family in FAMILIES}
DRIFT_EVERY_S = 15.0


@dataclass
class Watch:
    """State of one symbol's monitoring: whole-minute rows of the last day, newest times. No clock, no I/O.

    Rows come from one thread while another measures.
    """

    symbol: str
    minutes: OrderedDict[int, dict[str, float | None]] = field(default_factory=OrderedDict)
    known_at: dict[str, int] = field(default_factory=dict)
    """View → event time of its newest row with a value, ns."""
    _lock: threading.Lock = field(default_factory=threading.Lock, repr=False)

    def see_row(self, row: FeatureRow) -> None:
        """Take a feature row; a repeated one changes nothing."""
        known = [view for view, names in VIEWS.items() if any(row.values.get(name) is not None for name in names)]
        with self._lock:
            for view in known:
                self.known_at[view] = max(self.known_at.get(view, 0), row.ts_event)
            if row.ts_event % MINUTE_NS == 0:
                self.minutes[row.ts_event] = {name: row.values.get(name) for name in MONITORED}
                while len(self.minutes) > KEPT_MINUTES:
                    self.minutes.pop(min(self.minutes))

    def drift(self, histograms: dict[str, Histogram]) -> dict[str, dict[str, float]]:
        """PSI and KS of the kept whole-minute rows."""
        with self._lock:
            rows = list(self.minutes.values())
        columns = {name: np.array([row[name] for row in rows], dtype=np.float64) for name in MONITORED}
        return drift(histograms, columns)

    def ages(self, now_ns: int) -> dict[str, float]:
        """Age of each view's newest known value, seconds."""
        with self._lock:
            return {view: (now_ns - at) / NANOS for view, at in self.known_at.items()}


class Exporter:
    """Routes decoded messages to watches and sets the gauges. `now_ns` is the venue's clock."""

    def __init__(self, symbols: Iterable[str], now_ns: Callable[[], int]) -> None:
        self.watches = {symbol: Watch(symbol) for symbol in symbols}
        self.gone: set[str] = set()
        self.now_ns = now_ns

    def follow(self, symbols: Iterable[str]) -> None:
        """Watch these symbols from now on and no others; callable from any thread."""
        held = self.watches
        self.watches = {symbol: held.get(symbol) or Watch(symbol) for symbol in symbols}
        self.gone = (self.gone | set(held)) - set(self.watches)

    def take(self, topic: str, message: Message) -> None:
        metrics.MESSAGES.labels(topic).inc()
        if isinstance(message, FeatureRow) and (watch := self.watches.get(message.symbol)) is not None:
            watch.see_row(message)
        elif isinstance(message, Prediction) and message.symbol in self.watches:
            metrics.TIER.labels(message.symbol).set(message.tier)
            metrics.PREDICTED_AT.labels(message.symbol).set(message.ts_event / NANOS)
        elif isinstance(message, DeadLetter):
            metrics.DEAD_LETTERS_SEEN.labels(message.component, message.reason).inc()

    def set_ages(self, store: FeatureStore) -> None:
        """Age of each view as a reader of the online store would find it now."""
        for symbol in self.gone:
            metrics.forget(symbol)  # each time: another thread may have set one in the moment of the change
        for symbol, watch in self.watches.items():
            if (found := store.read(symbol)) is not None:
                watch.see_row(found.row)
                metrics.set_source(found.row.source, found.row.session)
            for view, age in watch.ages(self.now_ns()).items():
                metrics.FEATURE_AGE.labels(symbol, view).set(age)

    def set_drift(self, histograms: dict[str, Histogram]) -> None:
        for symbol, watch in self.watches.items():
            for name, values in watch.drift(histograms).items():
                metrics.PSI.labels(symbol, name).set(values["psi"])
                metrics.KS.labels(symbol, name).set(values["ks"])


def load_reference(folder: Path) -> dict[str, Histogram]:
    """The served model's training histograms; none, with a word in the log, where the model brings none."""
    try:
        metrics.REFERENCE_LOADED.set(1)
        return references(json.loads((folder / "meta.json").read_text()))
    except (OSError, ValueError, ModelRefused) as error:
        log.error("no drift reference", folder=str(folder), error=str(error))
        metrics.REFERENCE_LOADED.set(0)
        return {}


def follow(settings: Settings, exporter: Exporter, stop: threading.Event) -> None:
    """Feed the exporter from Kafka: a day of rows first, then whatever comes, until `stop`."""
    consumer = _consumer(settings)
    try:
        while not stop.is_set():
            for partition, records in consumer.poll(timeout_ms=500, max_records=2000).items():
                for record in records:
                    _take(exporter, partition.topic, record)
    finally:
        consumer.close()


def _take(exporter: Exporter, topic: str, record: Any) -> None:
    try:
        exporter.take(topic, topics.decode(record.value, topics.record_schema(record.headers)))
    except CandlewickError as error:
        # The writer of the lake dead-letters it; here it is only counted, once.
        metrics.UNDECODABLE.labels(topic).inc()
        log.warning("undecodable message", topic=topic, offset=record.offset, error=str(error))


def _consumer(settings: Settings) -> Any:
    """A consumer of its own (no group): every topic from a day ago, so that drift has its window after a restart."""
    from kafka import KafkaConsumer, TopicPartition

    consumer = KafkaConsumer(
        bootstrap_servers=settings.kafka.split(","), client_id="candlewick-monitoring", enable_auto_commit=False,
    )
    wanted = (topics.FEATURES, topics.PREDICTIONS, topics.CLEAN, topics.DEAD_LETTERS)
    partitions = [TopicPartition(t, p) for t in wanted for p in sorted(consumer.partitions_for_topic(t) or ())]
    consumer.assign(partitions)
    day_ago_ms = (time.time_ns() - DAY_NS) // 1_000_000
    for partition, offset in consumer.offsets_for_times(dict.fromkeys(partitions, day_ago_ms)).items():
        if offset is None:
            consumer.seek_to_end(partition)
        else:
            consumer.seek(partition, offset.offset)
    return consumer


def measure(settings: Settings, exporter: Exporter, stop: threading.Event) -> None:
    """Set ages each second and drift every 15 s, until `stop`. A store out of reach is a metric, not an end."""
    store, next_drift = FeatureStore.open(settings), 0.0
    reference = load_reference(served_folder(settings))
    while not stop.wait(1.0):
        try:
            exporter.set_ages(store)
            metrics.STORE_UP.set(1)
        except (StoreUnavailable, InvalidMessage) as error:
            metrics.STORE_UP.set(0)
            log.warning("online store out of reach or not readable", error=str(error))
        if reference and time.monotonic() >= next_drift:
            exporter.set_drift(reference)
            next_drift = time.monotonic() + DRIFT_EVERY_S


def together(beside: Sequence[Callable[[], None]], following: Callable[[], None], stop: threading.Event) -> None:
    """Run all of them until `stop`. When one ends by a mistake the others end too, and the mistake is raised."""
    with ThreadPoolExecutor(len(beside), "beside") as pool:
        running = [pool.submit(one) for one in beside]
        for one in running:
            one.add_done_callback(lambda _: stop.set())
        try:
            following()
        finally:
            stop.set()
        for one in running:
            one.result()


def main() -> None:
    """Run until SIGTERM or SIGINT."""
    settings = load_settings()
    logs.configure("monitoring", settings.log_level)
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    exporter = Exporter(settings.symbols, time.time_ns)
    watch = SymbolWatch(settings.kafka, settings.symbols, exporter.follow).start()
    server = serve(LOOPBACK, settings.ports.monitoring, lambda: {"exporter": "ending"} if stop.is_set() else {})
    try:
        beside = [lambda: measure(settings, exporter, stop)]
        if settings.certify_every_s:
            from monitoring.parity.job import SkewJob  # its reading of the lake takes 56 MB

            beside.append(lambda: SkewJob(settings, lambda: tuple(exporter.watches), time.time_ns).run(stop))
        together(beside, lambda: follow(settings, exporter, stop), stop)
    finally:
        watch.stop()
        server.shutdown()


if __name__ == "__main__":
    main()
