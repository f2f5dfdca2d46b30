"""Console: a topic as Spark sees it, decoded to readable columns and printed batch by batch. For learning.

    candlewick console --topic crypto_clean --symbol BTCUSDT --limit 20

The session, the Kafka source and the Avro schemas are those of the product's own queries; only the sink is another:
Spark's console. Nothing is written, and the checkpoint goes when the query ends.
"""

from __future__ import annotations

import json
import tempfile
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from feature_repo import topics
from feature_repo.contracts import (
    Alert,
    Bar,
    CandlewickError,
    DeadLetter,
    FeatureRow,
    MarketSummary,
    Message,
    OrderBook,
    Prediction,
    Trade,
)
from feature_repo.derive import avro_schema
from feature_repo.settings import Settings
from streaming.spark import kafka_records, session

EVERY, POLL_S = "1 second", 0.25
MOST_A_BATCH = 1_000
TIME = "timestamp_micros(ts_event div 1000) as time"


class NothingCame(CandlewickError):
    """The topic, or its broker, stayed silent."""


@dataclass(frozen=True)
class View:
    """How a topic's messages are shown: `columns` are SQL over the message's fields."""

    kind: type[Message]
    columns: tuple[str, ...]


VIEWS: Mapping[str, View] = {
    topics.CLEAN: View(Bar, (
        TIME, "symbol", "interval_s", "open", "high", "low", "close", "volume", "trades", "provenance")),
    topics.FEATURES: View(FeatureRow, (
        TIME, "symbol", "price", *(f"values['{name}'] as {name}" for name in (
            "return_1m", "realized_vol_5m", "trade_imbalance_1m", "spread_1s")),
        "size(filter(map_values(values), x -> x is null)) as unknown")),
    topics.ANALYTICS: View(MarketSummary, (
        TIME, "symbol", "price", "average_1m", "volatility_1m", "change_10s", "change_1m", "volume_1m", "moved")),
    topics.PREDICTIONS: View(Prediction, (
        TIME, "symbol", "p_up", "volatility_15m", "risk_score", "should_trade", "nowcast", "tier")),
    topics.ALERTS: View(Alert, (TIME, "symbol", "rule", "severity", "state", "value", "summary")),
    topics.DEAD_LETTERS: View(DeadLetter, (
        "timestamp_micros(ts_init div 1000) as time", "symbol", "component", "reason", "left(detail, 80) as detail")),
    "trades": View(Trade, (TIME, "symbol", "trade_id", "price", "quantity", "buyer_is_maker", "late")),
    "orderbook": View(OrderBook, (
        TIME, "symbol", "last_update_id", "bids.prices[0] as bid", "asks.prices[0] as ask", "bid_depth_10bps",
        "ask_depth_10bps")),
}


@dataclass(frozen=True)
class ConsoleConfig:
    """What to show."""

    topic: str = topics.CLEAN
    symbol: str | None = None
    """Only this symbol; None shows all."""
    limit: int = 20
    """End after so many rows; 0 goes on until it is stopped."""
    from_start: bool = False
    """Begin with the oldest record held, not with the next to come."""
    patience_s: float = 60.0
    """Give up after so long without a new row."""


def view_of(topic: str) -> View:
    """How a topic is shown. Raises `ValueError` for one that is not.

    >>> view_of("crypto.btc.trades").kind.__name__
    'Trade'
    """
    found = VIEWS.get(topic if topic in VIEWS else topic.rpartition(".")[2] if topic.startswith("crypto.") else "")
    if found is None:
        known = ", ".join(name if name.startswith("crypto_") else f"crypto.<base>.{name}" for name in VIEWS)
        raise ValueError(f"topic: expected one of {known}; found {topic!r}")
    return found


def rows(spark: Any, settings: Settings, config: ConsoleConfig) -> Any:
    """The streaming DataFrame of a topic's messages, decoded from Avro by Spark itself."""
    from pyspark.sql.avro.functions import from_avro
    from pyspark.sql.functions import col

    view = view_of(config.topic)
    start = "earliest" if config.from_start else "latest"
    records = kafka_records(spark, settings, config.topic.replace(".", r"\."), MOST_A_BATCH, start)
    # A topic may carry several kinds (trades, seals, history): the header tells which a record is.
    ours = records.where(col("schema") == topics.header(view.kind))
    messages = ours.select(from_avro("value", json.dumps(avro_schema(view.kind))).alias("m")).select("m.*")
    shown = messages.where(col("symbol") == config.symbol) if config.symbol else messages
    return (shown.limit(config.limit) if config.limit else shown).selectExpr(*view.columns)


def run(settings: Settings, config: ConsoleConfig, as_json: bool, stop: threading.Event | None = None) -> int:
    """Print a topic until the limit, until `stop`, or until nothing comes. Returns the rows printed.

    As JSON: one object a line. Raises `ValueError` for a topic that is not there, `NothingCame` for silence.
    """
    view_of(config.topic)
    _expect_topic(settings.kafka, config.topic)
    spark = session("candlewick-console", replace(settings, run_dir=settings.run_dir / "console"))
    try:
        with tempfile.TemporaryDirectory(prefix="candlewick-console-") as checkpoint:
            stream = rows(spark, settings, config).writeStream.trigger(processingTime=EVERY)
            printed = _Printed()
            stream = stream.foreachBatch(printed.as_json) if as_json else _console(stream)
            query = stream.option("checkpointLocation", checkpoint).start()
            try:
                return _follow(query, config, stop or threading.Event(), printed)
            finally:
                query.stop()
    finally:
        spark.stop()


def _console(stream: Any) -> Any:
    return stream.format("console").option("truncate", "false").option("numRows", MOST_A_BATCH)


@dataclass
class _Printed:
    """Rows printed by batch."""

    by_batch: dict[int, int] = field(default_factory=dict)

    @property
    def rows(self) -> int:
        return sum(self.by_batch.values())

    def as_json(self, batch: Any, number: int) -> None:
        """Print a batch as JSON lines, times in ISO 8601."""
        from pyspark.sql.functions import struct, to_json

        lines = [row[0] for row in batch.select(to_json(struct("*"))).collect()]
        for line in lines:
            print(line, flush=True)
        self.by_batch[number] = len(lines)

    def look(self, query: Any) -> None:
        """Read what Spark's sink printed; a sink of ours (−1) counts for itself."""
        for progress in query.recentProgress:
            rows = progress["sink"]["numOutputRows"]
            if rows > 0:
                self.by_batch[progress["batchId"]] = rows


def _follow(query: Any, config: ConsoleConfig, stop: threading.Event, printed: _Printed) -> int:
    """Wait until enough was printed. Raises `NothingCame` when the topic is silent for too long."""
    seen, heard_s = 0, time.monotonic()
    while query.isActive and not stop.wait(POLL_S):
        printed.look(query)
        if printed.rows > seen:
            seen, heard_s = printed.rows, time.monotonic()
        if config.limit and seen >= config.limit:
            break
        if time.monotonic() - heard_s > config.patience_s:
            raise NothingCame(f"{config.topic}: expected a row within {config.patience_s:g} s, found {seen} in all")
    if query.exception() is not None:
        raise NothingCame(str(query.exception())[:500])
    return seen


def _expect_topic(bootstrap: str, topic: str) -> None:
    # Spark would wait for the topic or its broker for ever, in silence.
    from kafka import KafkaConsumer
    from kafka.errors import KafkaError

    try:
        consumer = KafkaConsumer(bootstrap_servers=bootstrap.split(","), client_id="candlewick-console")
    except KafkaError as error:
        raise NothingCame(f"expected a broker at {bootstrap}, found none ({error}); run `make up`") from error
    try:
        if topic not in consumer.topics():
            raise ValueError(f"topic: expected one that exists, found {topic!r}; run `candlewick topics`")
    finally:
        consumer.close()
