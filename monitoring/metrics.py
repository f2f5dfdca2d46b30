"""Metrics of the exporter: names, labels and units as Prometheus' conventions have them."""

from __future__ import annotations

from collections.abc import Mapping

from prometheus_client import Counter, Gauge

from feature_repo.contracts import NANOS

MESSAGES = Counter("candlewick_topic_messages", "Messages seen on a topic, from a day before the start.", ["topic"])
UNDECODABLE = Counter("candlewick_undecodable_messages", "Messages whose schema or body could not be read.", ["topic"])
DEAD_LETTERS_SEEN = Counter(
    "candlewick_dead_letters_seen", "Dead letters on crypto_dlq, from a day before the start.", ["component", "reason"],
)
FEATURE_AGE = Gauge(
    "candlewick_feature_age_seconds", "Age of a view's newest known value in the online store.", ["symbol", "view"],
)
TIER = Gauge("candlewick_tier", "Tier of the newest prediction, 1 (fresh) to 5 (safe mode).", ["symbol"])
PREDICTED_AT = Gauge(
    "candlewick_prediction_as_of_timestamp_seconds", "As-of second of the newest prediction, Unix time.", ["symbol"],
)
PSI = Gauge(
    "candlewick_feature_psi", "Population stability index of a day's whole minutes against training.",
    ["symbol", "feature"],
)
KS = Gauge(
    "candlewick_feature_ks", "Kolmogorov-Smirnov distance of a day's whole minutes against training.",
    ["symbol", "feature"],
)
SKEW = Gauge(
    "candlewick_skew_mismatch_ratio",
    "Cells of the newest certificate that differ from what raw gives, over those compared: 0, or something is wrong.",
    ["symbol", "feature_view"],
)
SKEW_COMPARED = Gauge(
    "candlewick_skew_compared_cells", "Cells that the newest certificate compared.", ["symbol", "feature_view"],
)
SKEW_NOT_JUDGED = Gauge(
    "candlewick_skew_not_judged",
    "Rows (of slow views: cells) that the newest certificate could not judge, neither a match nor a mismatch.",
    ["symbol", "where", "reason"],
)
SKEW_CERTIFIED_AT = Gauge(
    "candlewick_skew_certificate_timestamp_seconds", "When the newest certificate was made, Unix time.", ["symbol"],
)
SKEW_FAILURES = Counter(
    "candlewick_skew_certificate_failures", "Certificates not made because a store was out of reach.", ["symbol"],
)
STORE_UP = Gauge("candlewick_online_store_up", "1 when the online store answered the last read.")
REFERENCE_LOADED = Gauge("candlewick_drift_reference_loaded", "1 when the served model brings training histograms.")
SOURCE = Gauge("candlewick_source_info", "Where the newest row came from; always 1.", ["source", "session"])


def forget(symbol: str) -> None:
    """Remove what says something of a symbol that is followed no longer: it would look like one that went stale."""
    for gauge in (FEATURE_AGE, TIER, PREDICTED_AT, PSI, KS):
        gauge.remove_by_labels({"symbol": symbol})


def set_skew(symbol: str, views: Mapping[str, tuple[int, int]], now_ns: int) -> None:
    """The newest certificate of a symbol: feature view → cells compared, cells that differ."""
    for gauge in (SKEW, SKEW_COMPARED):
        gauge.remove_by_labels({"symbol": symbol})  # a view that this one did not look at says nothing any more
    for view, (compared, mismatches) in views.items():
        SKEW.labels(symbol, view).set(mismatches / max(compared, 1))
        SKEW_COMPARED.labels(symbol, view).set(compared)
    SKEW_CERTIFIED_AT.labels(symbol).set(now_ns / NANOS)


def set_not_judged(symbol: str, counts: Mapping[tuple[str, str], int]) -> None:
    """What the newest certificate of a symbol left: place and reason → how often."""
    SKEW_NOT_JUDGED.remove_by_labels({"symbol": symbol})
    for (where, reason), count in counts.items():
        SKEW_NOT_JUDGED.labels(symbol, where, reason).set(count)


def forget_skew(symbol: str) -> None:
    """Remove the certificate of a symbol that is followed no longer."""
    for gauge in (SKEW, SKEW_COMPARED, SKEW_CERTIFIED_AT, SKEW_NOT_JUDGED):
        gauge.remove_by_labels({"symbol": symbol})


def set_source(source: str, session: str) -> None:
    """Name the one source and session of the newest row."""
    SOURCE.clear()
    SOURCE.labels(source, session).set(1)
