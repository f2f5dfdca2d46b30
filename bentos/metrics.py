"""Metrics: what the service and the publisher count, each in a registry of its own.

    metrics = ServiceMetrics()
    metrics.predicted(1)
    body = metrics.render()

Only known routes become label values: a scanner that asks for a thousand paths adds one series, `other`.
"""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4

CONTENT_TYPE = CONTENT_TYPE_PLAIN_0_0_4
INFERENCE_BUCKETS = (0.0001, 0.0002, 0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5)
HOP_BUCKETS = (0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.3, 0.5, 0.75, 1.0, 2.0, 5.0, 10.0)
REQUEST_BUCKETS = (0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.5, 1.0)


class ServingMetrics:
    """The counters of one serving process."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self._by_tier: dict[int, Counter] = {}
        self.inference = Histogram(
            "candlewick_inference_seconds", "Time in the model's graph", buckets=INFERENCE_BUCKETS,
            registry=self.registry,
        )
        self.predictions = Counter("candlewick_predictions", "Answers by tier", ["tier"], registry=self.registry)
        self.model_refused = Counter(
            "candlewick_model_refused", "Artefacts that were refused", ["slot"], registry=self.registry,
        )
        self.model_info = Gauge(
            "candlewick_model_info", "The model that answers", ["model", "version", "slot"], registry=self.registry,
        )
        self.undecoded = Counter(
            "candlewick_undecoded_messages", "Messages from Kafka that could not be read", ["reason"],
            registry=self.registry,
        )

    def predicted(self, tier: int) -> None:
        """Count one answer."""
        counter = self._by_tier.get(tier)
        if counter is None:
            counter = self._by_tier[tier] = self.predictions.labels(tier=str(tier))
        counter.inc()

    def render(self) -> bytes:
        """The exposition text."""
        return generate_latest(self.registry)


class ServiceMetrics(ServingMetrics):
    """What only the HTTP service counts."""

    def __init__(self) -> None:
        super().__init__()
        self.requests = Counter(
            "candlewick_http_requests", "Requests by route and status", ["route", "status"],
            registry=self.registry,
        )
        self.request_seconds = Histogram(
            "candlewick_http_request_seconds", "Time to answer a request", ["route"], buckets=REQUEST_BUCKETS,
            registry=self.registry,
        )
        self.live_clients = Gauge("candlewick_live_clients", "Open /live sockets", registry=self.registry)
        self.live_dropped = Counter(
            "candlewick_live_dropped", "Updates that slow clients never saw", registry=self.registry,
        )
        self._by_route: dict[tuple[str, int], tuple[Counter, Histogram]] = {}
        self.ready = Gauge("candlewick_ready", "1 when /readyz answers 200", registry=self.registry)


    def answered(self, route: str, status: int, seconds: float) -> None:
        """Count one request. Label lookups cost more than the counting, so their result is kept."""
        found = self._by_route.get((route, status))
        if found is None:
            counters = self.requests.labels(route, str(status)), self.request_seconds.labels(route)
            found = self._by_route[route, status] = counters
        found[0].inc()
        found[1].observe(seconds)


class PublisherMetrics(ServingMetrics):
    """What only the publisher counts."""

    def __init__(self) -> None:
        super().__init__()
        self.hop = Histogram(
            "candlewick_hop_seconds", "Time from one step to the next", ["hop"], buckets=HOP_BUCKETS,
            registry=self.registry,
        )
        self.skipped = Counter(
            "candlewick_rows_skipped", "Feature rows not predicted", ["reason"], registry=self.registry,
        )
        self.active = Gauge(
            "candlewick_publisher_active", "1 while this process holds the lease", registry=self.registry,
        )
