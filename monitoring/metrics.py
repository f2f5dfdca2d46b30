"""Metrics of the exporter: names, labels and units as Prometheus' conventions have them."""

from __future__ import annotations

from prometheus_client import Counter, Gauge

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
STORE_UP = Gauge("candlewick_online_store_up", "1 when the online store answered the last read.")
REFERENCE_LOADED = Gauge("candlewick_drift_reference_loaded", "1 when the served model brings training histograms.")
SOURCE = Gauge("candlewick_source_info", "Where the newest row came from; always 1.", ["source", "session"])


def forget(symbol: str) -> None:
    """Remove what says something of a symbol that is followed no longer: it would look like one that went stale."""
    for gauge in (FEATURE_AGE, TIER, PREDICTED_AT, PSI, KS):
        gauge.remove_by_labels({"symbol": symbol})


def set_source(source: str, session: str) -> None:
    """Name the one source and session of the newest row."""
    SOURCE.clear()
    SOURCE.labels(source, session).set(1)
