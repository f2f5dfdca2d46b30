"""Metrics of ingest, with Prometheus' names; one object, made once a process (or once a test)."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from feature_repo.contracts import SECOND_NS

HOP_BUCKETS = (0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.3, 0.5, 0.75, 1.0, 2.0, 5.0, 10.0)


class IngestMetrics:
    """What ingest counts. Hops are in venue seconds: from the venue to us, close to seal, seal to Kafka's word."""

    def __init__(self) -> None:
        self.registry = registry = CollectorRegistry()
        self.events = Counter(
            "candlewick_ingest_events_total", "Market events taken", ["symbol", "stream"], registry=registry)
        self.dead_letters = Counter(
            "candlewick_dead_letters_total", "Messages that could not be used", ["component", "reason"],
            registry=registry)
        self.unknown_fields = Counter(
            "candlewick_unknown_fields_total", "Fields the venue added", ["field"], registry=registry)
        self.late_trades = Counter(
            "candlewick_late_trades_total", "Trades that came after their second's seal", ["symbol"],
            registry=registry)
        self.seals = Counter(
            "candlewick_seals_total", "Seconds sealed; recovered: not wholly connected", ["symbol", "recovered"],
            registry=registry)
        self.holes = Counter(
            "candlewick_hole_seconds_total", "Seconds that could not be sealed", ["symbol"], registry=registry)
        self.missing = Gauge(
            "candlewick_missing_trades", "Trades of holes that raw still lacks", ["symbol"], registry=registry)
        self.book_valid = Gauge("candlewick_book_valid", "1 while the local book is synced", ["symbol"],
                                registry=registry)
        self.book_resyncs = Counter(
            "candlewick_book_resyncs_total", "Times the local book lost its sequence", ["symbol"], registry=registry)
        self.reconnects = Counter("candlewick_reconnects_total", "Connections opened after the first",
                                  registry=registry)
        self.resubscribes = Counter(
            "candlewick_resubscribes_total", "Silent streams asked for again", ["stream"], registry=registry)
        self.waiting = Gauge("candlewick_sink_waiting", "Messages the broker has not acknowledged",
                             registry=registry)
        self.hops = Histogram("candlewick_hop_seconds", "Time of one hop", ["hop"], buckets=HOP_BUCKETS,
                              registry=registry)
        self.source = Gauge("candlewick_source_info", "Where data come from; always 1", ["source", "session"],
                            registry=registry)

        self._venue_to_ingest, self._close_to_seal, self._seal_to_kafka = (
            self.hops.labels(name) for name in ("venue_to_ingest", "close_to_seal", "seal_to_kafka")
        )

    def received(self, ts_event: int, now: int) -> None:
        """An event has come from the venue."""
        self._venue_to_ingest.observe(max(0, now - ts_event) / SECOND_NS)

    def sealed(self, symbol: str, close: int, now: int, recovered: bool) -> None:
        """A second was sealed; how long after its close says nothing of one that had to be recovered."""
        self.seals.labels(symbol, str(recovered).lower()).inc()
        if not recovered:
            self._close_to_seal.observe(max(0, now - close) / SECOND_NS)

    def delivered(self, sealed_at: int, now: int) -> None:
        """The broker has a seal."""
        self._seal_to_kafka.observe(max(0, now - sealed_at) / SECOND_NS)

    def set_source(self, source: str, session: str) -> None:
        """Name the one source and session of now."""
        self.source.clear()
        self.source.labels(source, session).set(1)

    def total(self, name: str) -> float:
        """A counter's sum over its labels."""
        families = self.registry.collect()
        return sum(sample.value for family in families for sample in family.samples if sample.name == name)

    def forget(self, symbol: str) -> None:
        """A symbol is followed no longer: what was counted stays, its state does not."""
        self.book_valid.remove(symbol)
        self.missing.remove(symbol)

    def resyncs(self, symbol: str) -> float:
        """Times the local book of a symbol lost its sequence so far."""
        return self.registry.get_sample_value("candlewick_book_resyncs_total", {"symbol": symbol}) or 0.0
