"""Metrics of the pollers, with Prometheus' names; one object, made once a process (or once a test)."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge

from feature_repo.contracts import NANOS, Observation
from streaming.slow_sources import Asked


class PollerMetrics:
    """What the pollers count, by series."""

    def __init__(self) -> None:
        self.registry = registry = CollectorRegistry()
        self.polls = Counter(
            "candlewick_polls_total", "Requests for a slow series by their outcome: ok, unchanged, failed",
            ["series", "provider", "outcome"], registry=registry)
        self.observations = Counter(
            "candlewick_observations_total", "Observations published", ["series", "provider"], registry=registry)
        self.dead_letters = Counter(
            "candlewick_dead_letters_total", "Messages that could not be used", ["component", "reason"],
            registry=registry)
        self.stale = Gauge(
            "candlewick_series_stale", "1 while a series' newest value is older than it may be", ["series", "symbol"],
            registry=registry)
        self.newest = Gauge(
            "candlewick_series_newest_timestamp_seconds", "The moment that a series' newest value describes",
            ["series", "symbol"], registry=registry)
        self.waiting = Gauge("candlewick_sink_waiting", "Messages the broker has not acknowledged",
                             registry=registry)

    def judge(self, asked: Asked, newest: Observation | None, *, stale: bool) -> None:
        """How a series stands."""
        self.stale.labels(asked.series, asked.symbol).set(stale)
        if newest is not None:
            self.newest.labels(asked.series, asked.symbol).set(newest.ts_event / NANOS)

    def forget(self, asked: Asked) -> None:
        """A series is asked for no longer."""
        for gauge in (self.stale, self.newest):
            gauge.remove_by_labels({"series": asked.series, "symbol": asked.symbol})
