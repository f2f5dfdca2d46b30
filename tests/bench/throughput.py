"""Bench: trades a second through the whole hot path from Kafka, beside Spark's bare aggregate of the same records.

    candlewick bench throughput --json              # own broker and Redis on free ports; about two minutes

A backlog of two made markets (history of a day, then seconds of trades with their seals) lies in Kafka; the product's
own hot query reads it at full speed, as `candlewick replay` does: Kafka → Spark → bars → feature rows → Kafka,
confirmed → Redis. The baseline is the least that Spark can do with them: the same source and batch size, records
counted by key. The first batch of each query warms up (workers start, code is compiled) and is left out; its time is
told.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Mapping
from typing import Any

from prometheus_client import CollectorRegistry

from feature_repo import topics
from feature_repo.bulk_producer import BulkProducer
from feature_repo.contracts import MINUTE_NS, Trade
from feature_repo.settings import Settings
from feature_repo.store import FeatureStore
from infra.drill.batches import BatchSender, batch
from infra.drill.made_market import MadeMarket, Record
from infra.drill.stack import own_stack, until
from streaming.delivery import Delivery, StreamMetrics
from streaming.job import HOT, TRADES_TOPICS, at_full_speed, start_hot
from streaming.spark import kafka_records, session
from streaming.symbol_stream import Event, SymbolStream

BAR = 40_000.0
SYMBOLS = ("BTCUSDT", "ETHUSDT")
HISTORY_MINUTES = 1_570
BEGIN_NS = 1_723_161_300_000_000_000 // MINUTE_NS * MINUTE_NS
PATIENCE_S = 900.0
FILL = 5_000
BATCH = at_full_speed().hot_batch // len(SYMBOLS)
"""Records of one symbol in a batch."""


def run(trades: int = 800_000, per_second: int = 30) -> dict[str, Any]:
    """Measure. Figures are of this run on this machine; `load_before` tells how busy it was."""
    load = os.getloadavg()[0]
    with own_stack(("redis", "kafka"), symbols=SYMBOLS) as drill:
        drill.await_ready(120)
        backlogs = [backlog(symbol, trades // len(SYMBOLS), per_second) for symbol in SYMBOLS]
        total = sum(map(len, backlogs))
        topics.create_topics(drill.settings.kafka, topics.topics(SYMBOLS))
        for records in backlogs:
            fill(drill.settings.kafka, records)
        sample = backlogs[0][: 4 * BATCH]
        # A driver that holds all of them would be measured by its garbage collector.
        del backlogs, records
        spark = session("candlewick-bench", drill.settings)
        try:
            spark.conf.set("spark.sql.streaming.numRecentProgressUpdates", "10000")
            baseline = bare(spark, drill.settings, total)
            hot = whole(spark, drill.settings, total)
        finally:
            spark.stop()
    share = trades / total
    return {
        "trades": trades, "records": total, "symbols": SYMBOLS, "trades_per_market_second": per_second,
        "trades_per_s": round(hot["records_per_s"] * share), "bar_trades_per_s": BAR,
        "hot": hot, "bare_aggregate": baseline, "kernel_alone": kernel(SYMBOLS[0], sample),
        "cores": os.cpu_count(), "load_before": round(load, 2), "passed": hot["records_per_s"] * share >= BAR,
    }


def backlog(symbol: str, trades: int, per_second: int) -> list[Record]:
    """A day of minute bars, then seconds of `per_second` trades."""
    market = MadeMarket(symbol, 1, BEGIN_NS)
    seconds = (record for _ in range(trades // per_second) for record in market.second(per_second))
    return [*market.history(HISTORY_MINUTES), *seconds]


def fill(bootstrap: str, records: list[Record]) -> None:
    """Put the records of one topic there, stored."""
    with BatchSender(bootstrap) as sender:
        for start in range(0, len(records), FILL):
            sender.send([(records[0].topic, batch(records[start : start + FILL]))])


def bare(spark: Any, settings: Settings, total: int) -> dict[str, Any]:
    """Spark's count by key of the same records, in batches of the same size."""
    counted = kafka_records(spark, settings, TRADES_TOPICS, at_full_speed().hot_batch).groupBy("key").count()
    query = counted.writeStream.outputMode("update").format("noop").queryName("bare").option(
        "checkpointLocation", (settings.run_dir / "checkpoints" / "bare").as_uri(),
    ).start()
    return measured(query, total)


def whole(spark: Any, settings: Settings, total: int) -> dict[str, Any]:
    """The product's hot query, its sinks included."""
    metrics = StreamMetrics(CollectorRegistry())
    producer = BulkProducer(settings.kafka, "bench")
    deliver = Delivery(producer, FeatureStore.open(settings).write, metrics, time.time_ns)
    found = measured(start_hot(spark, settings, at_full_speed(), deliver, lambda _outputs: None), total)
    producer.close()
    for part in ("compute", "deliver"):
        found[f"{part}_s"] = round(metrics.batch.labels(HOT, part)._sum.get(), 2)
    return found


def measured(query: Any, total: int) -> dict[str, Any]:
    """Wait until a query has read everything; its rate after the first batch and where the time went, by stage."""
    def done() -> bool:
        if not query.isActive:
            raise RuntimeError(f"the query ended: {query.exception()}")
        return sum(map(records_in, query.recentProgress)) >= total

    try:
        # A look costs both sides some milliseconds of the cores that are measured.
        until(done, PATIENCE_S, f"{total} records read", every_s=1.0)
        first, *rest = [progress for progress in query.recentProgress if records_in(progress)]
    finally:
        query.stop()
    records = sum(map(records_in, rest))
    spent_ms = sum(progress["durationMs"]["triggerExecution"] for progress in rest)
    stages = {name for progress in rest for name in progress["durationMs"]}
    return {
        "records_per_s": round(records / spent_ms * 1e3), "batches": len(rest), "records": records,
        "first_batch_s": first["durationMs"]["triggerExecution"] / 1e3,
        "stages_s": {
            name: round(sum(progress["durationMs"].get(name, 0) for progress in rest) / 1e3, 2)
            for name in sorted(stages)
        },
    }


def records_in(progress: Mapping[str, Any]) -> int:
    """Records that a batch took, by its offsets: a row of the hot query's source is a pack of them."""
    (source,) = progress["sources"]
    start, end = (json.loads(source[name] or "null") or {} for name in ("startOffset", "endOffset"))
    return sum(
        until - (start.get(topic) or {}).get(number, 0) for topic, numbers in end.items()
        for number, until in numbers.items()
    )


def kernel(symbol: str, records: list[Record]) -> dict[str, Any]:
    """The same records through the pure stream alone, in this process: no Kafka, no Spark, no sinks."""
    trade = topics.header(Trade)
    events = [
        Event(0, i, BEGIN_NS, record.topic, record.schema.decode(), record.value)
        for i, record in enumerate(records)
    ]
    stream, spent_s = SymbolStream.new(symbol), []
    for start in range(0, len(events), BATCH):
        began = time.perf_counter()
        stream.apply(events[start : start + BATCH])
        spent_s.append(time.perf_counter() - began)
    counted = sum(event.schema == trade for event in events[BATCH:])
    return {"trades_per_s": round(counted / sum(spent_s[1:])), "first_batch_s": round(spent_s[0], 2)}
