"""Time machine: a stretch of the past through the whole stream again, beside the live one and without touching it.

    $ candlewick replay --from 2026-11-26T20:00:00Z --to 2026-11-26T20:10:00Z --json

Records as they were in Kafka (`raw`), or recorded frames through ingest's rules (`frames`), go to topics of the
replay's own; the hot and the lake query run over them until all is taken; rows go to the replay's own online keys and
lake prefix. Its lake is then settled, so that replaying a stretch twice gives identical bytes.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from heapq import merge
from itertools import chain
from pathlib import Path
from typing import Any, Literal, get_args

import pyarrow.compute as pc
from prometheus_client import CollectorRegistry

from feature_repo import topics
from feature_repo.bulk_producer import BulkProducer
from feature_repo.contracts import SECOND_NS, Message, Source
from feature_repo.lake_layout import Zone
from feature_repo.lake_reader import Lake
from feature_repo.logs import configure
from feature_repo.settings import Settings
from feature_repo.store import FeatureStore
from streaming.delivery import Delivery, StreamMetrics
from streaming.job import JobConfig, at_full_speed, start_hot, start_lake
from streaming.lake import LakeWriter
from streaming.recorded_feed import messages
from streaming.recorder import recordings_folder
from streaming.recordings import Index
from streaming.replay_places import check_reachable, free_name, remove, write_note
from streaming.settle import fingerprint, settle
from streaming.spark import session
from streaming.stretch import Record, Stretch, moment, raw_records, warm_up

SourceOfReplay = Literal["raw", "frames"]
MS = 1_000_000
MARGIN_NS = 5 * SECOND_NS
"""Frames this long after a stretch are read too: a second is sealed by what comes after it."""


@dataclass(frozen=True)
class ReplayConfig:
    """What to replay, how fast, and what to keep of it."""

    stretch: Stretch
    """Which seconds of which symbols."""
    source: SourceOfReplay = "raw"
    """The lake's raw zone, or recorded frames."""
    frames: tuple[Path, ...] = ()
    """Recorded files of one symbol, in order; empty means the index of `recordings`."""
    recordings: Path = Path()
    """Folder of recordings."""
    speed: float = 0.0
    """Times real time; 0 is as fast as it goes."""
    name: str = ""
    """Names the replay's topics, keys and files; empty makes one of the stretch."""
    discard: bool = False
    """Leave nothing behind but the summary."""


def replay(settings: Settings, config: ReplayConfig) -> dict[str, Any]:
    """Run a replay to its end. Returns its summary.

    Raises `ValueError` for a stretch that nothing is known of or a name that is taken, `StoreUnavailable` when Kafka
    or Redis cannot be reached.
    """
    check_reachable(settings)
    records = records_of(settings, config)
    own = replace(settings, namespace=free_name(settings, config.name, config.stretch))
    write_note(own, {"name": own.namespace, "state": "running", "symbols": config.stretch.symbols})
    try:
        summary = _summary(own, config, _run(own, config, records))
        write_note(own, summary)
    except BaseException:
        write_note(own, {"name": own.namespace, "state": "failed", "symbols": config.stretch.symbols})
        raise
    finally:
        if config.discard:
            remove(settings, own.namespace)
    return summary


def _run(settings: Settings, config: ReplayConfig, records: Iterable[Record]) -> Counter[str]:
    """Publish, let both queries take everything, settle the lake. Returns the records published by topic."""
    topics.create_topics(settings.kafka, topics.replay_topics(settings.namespace, config.stretch.symbols))
    spark = session("candlewick-replay", settings)
    # One for each thread: the queries run beside the publisher.
    producers = [BulkProducer(settings.kafka, "candlewick-replay", settings.namespace) for _ in range(3)]
    try:
        queries = _queries(spark, settings, *producers[1:])
        running = [start(at_full_speed()) for start in queries] if config.speed else []
        published = publish(records, producers[0], config.speed)
        for query in running:
            query.stop()
        for start in queries:  # the lake's after the hot one's, which fills its topics
            start(at_full_speed(drain=True)).awaitTermination()
    finally:
        spark.stop()
        for producer in producers:
            producer.close()
    settle(LakeWriter.open(settings.lake, settings.s3_endpoint), config.stretch)
    return published


def _queries(
    spark: Any, settings: Settings, hot: BulkProducer, lake: BulkProducer,
) -> tuple[Callable[[JobConfig], Any], ...]:
    metrics = StreamMetrics(CollectorRegistry())
    deliver = Delivery(hot, FeatureStore.open(settings).write, metrics, time.time_ns)
    writer = LakeWriter.open(settings.lake, settings.s3_endpoint)
    return (
        lambda job: start_hot(spark, settings, job, deliver, lambda _outputs: None),
        lambda job: start_lake(spark, settings, job, writer, lake, metrics),
    )


def publish(
    records: Iterable[Record], producer: BulkProducer, speed: float, clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
) -> Counter[str]:
    """Send records in order with their own times, `speed` times as fast as they came; 0 waits for nothing.

    A topic's times never go back. Returns how many went to each topic; raises `StoreUnavailable` when the broker
    did not store all of them.
    """
    published: Counter[str] = Counter()
    newest: dict[str, int] = {}
    began: tuple[float, int] | None = None
    for record in records:
        at_ms = newest[record.topic] = max(record.timestamp_ms, newest.get(record.topic, 0))
        began = began or (clock(), at_ms)
        if speed and (wait := began[0] + (at_ms - began[1]) / 1_000 / speed - clock()) > 0:
            sleep(wait)
        producer.add(record.topic, record.key, record.schema, record.value, at_ms)
        published[record.topic] += 1
    producer.confirm()
    return published


def records_of(settings: Settings, config: ReplayConfig) -> Iterator[Record]:
    """What was known before the stretch, at the time of its first record, then the stretch.

    Raises `ValueError` when the stretch holds nothing.
    """
    lake, stretch = Lake.open(settings.lake, settings.s3_endpoint), config.stretch
    found = raw_records(lake, stretch) if config.source == "raw" else _frame_records(config)
    first = next(found, None)
    if first is None:
        where = "the lake's raw zone" if config.source == "raw" else str(config.recordings)
        span = f"{_time(stretch.start_ns)} to {_time(stretch.end_ns)}"
        raise ValueError(f"records of {', '.join(stretch.symbols)} expected in {where}, {span}; found none")
    before = (
        _record(topics.trades_topic(symbol), bar, first.timestamp_ms)
        for symbol in stretch.symbols for bar in warm_up(lake, symbol, stretch.start_ns)
    )
    return chain(before, [first], found)


def _frame_records(config: ReplayConfig) -> Iterator[Record]:
    parts = [_symbol_frames(config, symbol) for symbol in config.stretch.symbols]
    return merge(*parts, key=lambda record: record.timestamp_ms)


def _symbol_frames(config: ReplayConfig, symbol: str) -> Iterator[Record]:
    stretch = config.stretch
    files, source = _files(config, symbol)
    for topic, message in messages(files, symbol, source, f"frames-{files[0].stem}"[:200]) if files else ():
        if message.ts_event > stretch.end_ns + MARGIN_NS:  # type: ignore[attr-defined]
            return
        if stretch.holds(message):
            yield _record(topic, message, message.ts_init // MS)  # type: ignore[attr-defined]


def _files(config: ReplayConfig, symbol: str) -> tuple[tuple[Path, ...], Source]:
    """The files of a symbol in order, and whose data they hold: what was made up stays so, all else was recorded."""
    if config.frames:
        return config.frames, "recording"
    stretch = config.stretch
    entries = Index.read(config.recordings).of(symbol, stretch.start_ns - MARGIN_NS, stretch.end_ns + MARGIN_NS)
    made_up = any(entry.source == "simulated" for entry in entries)
    files = tuple(config.recordings / entry.file for entry in entries)
    return files, "simulated" if made_up else "recording"


def _record(topic: str, message: Message, timestamp_ms: int) -> Record:
    symbol: str = message.symbol  # type: ignore[attr-defined]
    return Record(topic, symbol, topics.header(message), topics.encode(message), timestamp_ms)


def _summary(settings: Settings, config: ReplayConfig, published: Counter[str]) -> dict[str, Any]:
    stretch = config.stretch
    lake = Lake.open(settings.lake, settings.s3_endpoint)
    found = fingerprint(LakeWriter.open(settings.lake, settings.s3_endpoint))
    return {
        "name": settings.namespace, "state": "done", "source": config.source, "from": _time(stretch.start_ns),
        "to": _time(stretch.end_ns), "symbols": list(stretch.symbols), "published": dict(published),
        "closes": {symbol: _closes(lake, symbol, stretch) for symbol in stretch.symbols},
        "lake": settings.lake, "lake_sha256": found["sha256"], "files": found["files"],
        "topics": topics.prefix(settings.namespace), "kept": not config.discard,
    }


def _closes(lake: Lake, symbol: str, stretch: Stretch) -> dict[str, Any]:
    """How many bars and rows a symbol has in the stretch, and the first and last close of a row."""
    zones: tuple[Zone, ...] = ("clean", "features")
    bars, rows = (lake.rows(z, [symbol], stretch.start_ns, stretch.end_ns, ["ts_event"])["ts_event"] for z in zones)
    ends = pc.min_max(rows).as_py()
    return {
        "bars": len(bars), "rows": len(rows), "first": ends["min"] and _time(ends["min"]),
        "last": ends["max"] and _time(ends["max"]),
    }


def _time(at_ns: int) -> str:
    return datetime.fromtimestamp(at_ns // SECOND_NS, UTC).isoformat().replace("+00:00", "Z")


def config_of(settings: Settings, start: str | None, end: str | None, **given: Any) -> ReplayConfig:
    """The command line's words as a configuration. Raises `ValueError` naming the one that is wrong."""
    if start is None or end is None:
        raise ValueError("expected both --from and --to; found one of them")
    symbols = given.pop("symbols") or settings.symbols
    if given["source"] not in get_args(SourceOfReplay):
        raise ValueError(f"--source: expected raw or frames, found {given['source']!r}")
    if given["frames"] and len(symbols) != 1:
        raise ValueError(f"--frames: expected files of one --symbol, found the symbols {', '.join(symbols)}")
    if given["frames"]:
        given["source"] = "frames"
    folder = given.pop("recordings") or recordings_folder(settings)
    return ReplayConfig(Stretch(moment(start), moment(end), tuple(symbols)), recordings=folder, **given)


def run(settings: Settings, config: ReplayConfig) -> dict[str, Any]:
    """`replay` with logs on stderr, for the command line."""
    configure("replay", settings.log_level)
    return replay(settings, config)
