"""Streaming job: one Spark application with two queries, the hot one (bars, features) and the lake's.

    python -m streaming.job

Each query has its own checkpoint under `<run_dir>/checkpoints`; after a kill at any point both go on where
they were and every sink holds each row once. SIGTERM stops both after their batch.
"""

from __future__ import annotations

import argparse
import signal
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import structlog

from feature_repo import topics
from feature_repo.bulk_producer import BulkProducer
from feature_repo.contracts import Observation
from feature_repo.health import serve
from feature_repo.lake_reader import Lake
from feature_repo.logs import configure
from feature_repo.models import retired_in_use
from feature_repo.settings import LOOPBACK, Settings, load_settings
from feature_repo.store import FeatureStore
from feature_repo.symbols import read_followed
from streaming.delivery import Delivery, StreamMetrics
from streaming.hot import OUTPUT, HotProcessor
from streaming.lake import PATTERN as LAKE_TOPICS
from streaming.lake import LakeWriter, Refused
from streaming.lake_owner import owner
from streaming.lake_upkeep import LakeMetrics, Upkeep, keep_days
from streaming.pace import Pace, seal_watcher
from streaming.packed_source import kafka_packs
from streaming.slow_rows import SlowRows
from streaming.slow_view import SlowView
from streaming.spark import kafka_records, session
from streaming.symbol_stream import Output, layout_hash

TRADES_TOPICS = r"crypto\.[a-z0-9]+\.trades"
HOT, LAKE = "hot", "lake"
STARTING = {"job": "starting"}
OWNER_WITHIN_S = 60.0
"""How long `candlewick lake compact`, or a stream that is ending, may hold the lake."""
MOST_FAILURES, FAILURES_WITHIN_S = 5, 300.0
"""A worker that came too late or a broker that went away mends itself; what keeps failing is for the supervisor."""
log = structlog.get_logger()


@dataclass(frozen=True)
class JobConfig:
    """How the two queries run. The defaults are for a live market: a second's records are not worth a second task."""

    hot_batch: int = 40_000
    """Most records a hot batch takes: one or two seconds of work when a backlog is read, some 50 MB in the worker."""
    hot_tasks: int = 1
    """Tasks that share the symbols of a hot batch, for as long as its checkpoint lives."""
    lake_batch: int = 50_000
    """Most records a lake batch takes."""
    lake_every: str = "5 seconds"
    """How often the lake's files are written."""
    drain: bool = False
    """End a query when it has taken everything that was in its topics when it began."""


def at_full_speed(drain: bool = False) -> JobConfig:
    """For a backlog: two tasks share the symbols, and what a batch costs by itself is spread over more records."""
    return JobConfig(hot_batch=100_000, hot_tasks=2, drain=drain)


def start_hot(
    spark: Any, settings: Settings, config: JobConfig, deliver: Delivery, pace: Callable[[list[Output]], None],
) -> Any:
    """Start the hot query: events → bars → rows → Kafka → online store.

    Of the retired features it computes those that a served model reads as it starts.
    """
    spark.conf.set("spark.sql.shuffle.partitions", config.hot_tasks)
    packs = kafka_packs(spark, settings, TRADES_TOPICS, config.hot_batch)
    # Where there are several tasks they share the symbols; one task takes all in one group.
    sharded = packs.selectExpr("*", "symbol as shard" if config.hot_tasks > 1 else "'' as shard")
    processor = HotProcessor(HOT, retired_in_use(settings))
    processed = sharded.groupBy("shard").transformWithStateInPandas(processor, OUTPUT, "Append", "None")

    def run(batch: Any, _batch_id: int) -> None:
        with deliver.metrics.batch.labels(HOT, "compute").time():
            outputs = list(map(Output, *(column.to_pylist() for column in batch.toArrow().columns)))
        with deliver.metrics.batch.labels(HOT, "deliver").time():
            deliver(outputs)
        pace(outputs)

    stream = processed.writeStream.trigger(availableNow=True) if config.drain else processed.writeStream
    return _start(stream, HOT, settings.checkpoints / f"{HOT}-{layout_hash()}", run)


def start_lake(  # noqa: PLR0913, PLR0917 - what a batch goes through, one after the other
    spark: Any, settings: Settings, config: JobConfig, writer: LakeWriter, producer: BulkProducer,
    metrics: StreamMetrics, between: Callable[[], None] = lambda: None,
    slow: Callable[[Sequence[Observation]], object] = lambda _news: None,
) -> Any:
    """Start the lake query: every topic → its zone. `between` batches the lake's owner keeps it tidy.

    `slow` makes rows of what was observed of slow series, and keeps it.
    """
    records = kafka_records(spark, settings, LAKE_TOPICS, config.lake_batch, tasks=1)
    declare = cache(writer.declare)

    def run(batch: Any, _batch_id: int) -> None:
        with metrics.batch.labels(LAKE, "upkeep").time():
            between()
        table = batch.toArrow()
        declare()
        with metrics.batch.labels(LAKE, "write").time():
            written = writer.write_batch(table)
        with metrics.batch.labels(LAKE, "slow").time():
            slow(written.observations)
        bury(producer, written.refused, metrics)
        for zone, count in written.records.items():
            metrics.messages.labels(f"lake/{zone}").inc(count)

    when = {"availableNow": True} if config.drain else {"processingTime": config.lake_every}
    return _start(records.writeStream.trigger(**when), LAKE, settings.checkpoints / LAKE, run)


def bury(producer: BulkProducer, refused: list[Refused], metrics: StreamMetrics) -> None:
    """Send what the lake could not decode to the dead letters, and wait until it is there."""
    for item in refused:
        record = item.record
        letter = topics.dead_letter(
            record["value"] or b"", item.error, component="lake", topic=record["topic"], symbol=record["key"],
            ts_init=int(record["kafka_timestamp"].timestamp() * 1e9),
        )
        producer.add(topics.DEAD_LETTERS, record["key"], topics.header(letter), topics.encode(letter))
        metrics.dead.labels(letter.component, letter.reason).inc()
    producer.confirm()


def _start(stream: Any, name: str, checkpoint: Path, run: Callable[[Any, int], None]) -> Any:
    return stream.queryName(name).option("checkpointLocation", checkpoint.as_uri()).foreachBatch(run).start()


@dataclass
class Queries:
    """The running queries. One that fails is started again from its checkpoint; one that keeps failing ends the job."""

    start: Mapping[str, Callable[[], Any]]
    """Name → how to start it."""
    running: dict[str, Any] = field(default_factory=dict)
    failures: list[float] = field(default_factory=list)
    suits: Mapping[str, Callable[[], Any]] = field(default_factory=dict)
    """Name → what its query is started for; when that is another thing than at its start, it is started anew."""
    started_for: dict[str, Any] = field(default_factory=dict)

    def watch(self, stop: threading.Event, clock: Callable[[], float] = time.monotonic) -> int:
        """Keep the queries running until `stop`. Returns the exit code."""
        while not stop.is_set():
            for name in self.start:
                self._end_unsuited(name)
                query = self.running.get(name)
                if query is None or not query.isActive:
                    if query is not None and not self._may_go_on(name, query, clock()):
                        return 1
                    if name in self.suits:
                        self.started_for[name] = self.suits[name]()
                    self.running[name] = self.start[name]()
                    log.info("query started", query=name, suits=self.started_for.get(name))
            stop.wait(0.5)
        log.info("stopping")
        return 0

    def problems(self) -> dict[str, str]:
        """Why the job is not healthy; empty when it is."""
        running = dict(self.running)
        missing = {name: "not started" for name in self.start if name not in running}
        return missing | {name: "stopped" for name, query in running.items() if not query.isActive}

    def stop(self) -> None:
        for query in self.running.values():
            query.stop()

    def _end_unsuited(self, name: str) -> None:
        """A running query that was started for another thing ends after its batch and is gone."""
        query = self.running.get(name)
        if name in self.suits and query is not None and query.isActive and self.suits[name]() != self.started_for[name]:
            log.info("query ends to begin anew", query=name)
            query.stop()
            del self.running[name]

    def _may_go_on(self, name: str, query: Any, now: float) -> bool:
        log.error("query failed", query=name, reason=str(query.exception())[:2000])
        self.failures = [*(at for at in self.failures if now - at < FAILURES_WITHIN_S), now]
        return len(self.failures) <= MOST_FAILURES


def run(settings: Settings, config: JobConfig, stop: threading.Event) -> int:
    """Run both queries until `stop` or until one keeps failing. Returns the exit code."""
    with owner(settings, OWNER_WITHIN_S):
        return _run(settings, config, stop)


def _run(settings: Settings, config: JobConfig, stop: threading.Event) -> int:
    metrics = StreamMetrics()
    queries = Queries({})
    server = serve(LOOPBACK, settings.ports.streaming, lambda: queries.problems() if queries.start else STARTING)
    spark = session("candlewick", settings)
    store = FeatureStore.open(settings)
    writer = LakeWriter.open(settings.lake, settings.s3_endpoint)
    lake = Lake(writer.filesystem, writer.root)
    view = SlowView(lake, writer, store.write_context)
    slow = SlowRows(
        lake, writer, store.write_slow, lambda: read_followed(settings.kafka, settings.symbols), time.time_ns)
    # One for each query: they run in threads of their own.
    to_hot, to_lake = (BulkProducer(settings.kafka, f"candlewick-{name}") for name in (HOT, LAKE))
    deliver = Delivery(to_hot, store.write, metrics, time.time_ns, view.on_close)
    upkeep = Upkeep(writer, keep_days(settings.lake_retention), time.time_ns, LakeMetrics())
    pace = Pace(seal_watcher(settings.kafka, TRADES_TOPICS))
    queries.suits = {HOT: lambda: retired_in_use(settings)}
    queries.start = {
        HOT: lambda: start_hot(spark, settings, config, deliver, pace),
        LAKE: lambda: start_lake(spark, settings, config, writer, to_lake, metrics, upkeep, slow),
    }
    try:
        return queries.watch(stop)
    finally:
        queries.stop()
        view.pool.shutdown(wait=False, cancel_futures=True)
        spark.stop()
        to_hot.close()
        to_lake.close()
        server.shutdown()


def parse(arguments: Sequence[str]) -> JobConfig:
    """Command line → configuration."""
    default = JobConfig()
    parser = argparse.ArgumentParser(prog="streaming.job", description="The streaming application.")
    parser.add_argument("--hot-batch", type=int, default=default.hot_batch, help="most records a hot batch takes")
    parser.add_argument("--lake-batch", type=int, default=default.lake_batch, help="most records a lake batch takes")
    parser.add_argument("--lake-every", default=default.lake_every, help="how often the lake is written")
    return JobConfig(**vars(parser.parse_args(arguments)))


def main(arguments: Sequence[str] | None = None) -> int:
    """Entry point: runs until SIGTERM."""
    config = parse(sys.argv[1:] if arguments is None else arguments)
    settings = load_settings()
    configure("streaming", settings.log_level)
    stop = threading.Event()
    for name in (signal.SIGTERM, signal.SIGINT):
        signal.signal(name, lambda *_: stop.set())
    return run(settings, config, stop)


if __name__ == "__main__":
    sys.exit(main())
