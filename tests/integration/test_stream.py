"""The whole stream on real components: equal to the venue's klines, to a recomputation, and to itself after kills.

Recorded frames → exchange → ingest → Kafka → Spark → lake and Redis, in the recording's own time, once.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pytest

from feature_repo import topics
from feature_repo.contracts import (
    BOOK_FIELDS,
    MINUTE_NS,
    SECOND_NS,
    Bar,
    DeadLetter,
    FeatureRow,
    MarketSummary,
    Message,
    SecondClosed,
    Trade,
)
from feature_repo.lake_layout import Zone, identity, unflatten
from feature_repo.lake_reader import Lake
from feature_repo.online_row import OnlineRow
from feature_repo.settings import ROOT, Settings
from feature_repo.store import FeatureStore
from streaming.analytics import CALM_NS, RULE
from streaming.bars import minute_bars
from streaming.symbol_stream import Event, SymbolStream
from tests.conftest import Recorded
from tests.integration.conftest import S3, free_port
from tests.integration.streaming_stack import (
    EVER,
    SYMBOL,
    TRADES,
    StreamingStack,
    decoded,
    fresh_topics,
    length,
    records,
    until,
)

pytestmark = [pytest.mark.integration, pytest.mark.alone, pytest.mark.slow, pytest.mark.timeout(400)]
OUTPUTS = (topics.CLEAN, topics.FEATURES, topics.ANALYTICS, topics.ALERTS, topics.DEAD_LETTERS)
JUMPING = "SOLUSDT"
INPUTS = (TRADES, topics.order_book_topic(SYMBOL))
# Ten minutes that the recording holds whole, by their open.
FIRST_MINUTE, LAST_MINUTE = pd.Timestamp("2024-08-08 23:55", tz="UTC"), pd.Timestamp("2024-08-09 00:04", tz="UTC")
MIDNIGHT_NS = pd.Timestamp("2024-08-09", tz="UTC").value
TRADE_COLUMNS = (
    "close_time", "open", "high", "low", "close", "volume", "quote_volume", "vwap", "trades", "taker_buy_volume",
    "first_trade_id", "last_trade_id",
)


@dataclass
class Run:
    """What one run left behind."""

    events: list[Event]
    clean: pa.Table
    features: pa.Table
    alerts: pa.Table
    online: OnlineRow
    metrics: str = ""
    settings: Settings = field(default_factory=Settings)

    @property
    def last_close(self) -> int:
        return max(m.close for m in messages_of(self.events) if isinstance(m, SecondClosed))


@pytest.fixture(scope="module")
def undisturbed(
    tmp_path_factory: pytest.TempPathFactory, kafka: str, redis_process: str, recorded: Recorded,
) -> Iterator[Run]:
    """The recording played once at 12×, with three bad records in the topic and a coin that jumps beside it."""
    fresh_topics(kafka, (*INPUTS, *OUTPUTS, topics.trades_topic(JUMPING)))
    topics.create_topics(kafka, topics.topics((JUMPING,)))
    publish(kafka, jump())
    stack = StreamingStack.make(tmp_path_factory.mktemp("undisturbed"), kafka, _database(redis_process, 1), free_port)
    try:
        exchange = stack.start_exchange("--frames", *map(str, recorded.frames()), "--speed", "12")
        stack.start_job()
        stack.start("streaming.ingest")
        until(lambda: length(kafka, topics.FEATURES) > 1_700, 240, "live rows come")
        throw_in_bad_records(kafka)
        play_out(stack, exchange)
        yield replace(finish(stack, kafka), settings=stack.settings)
    finally:
        stack.close()


def test_minutes_of_the_lake_equal_the_official_klines(undisturbed: Run, recorded: Recorded) -> None:
    seconds = [bar for bar in bars(undisturbed.clean) if bar.provenance == "live"]
    official = pd.read_parquet(recorded.klines_1m)
    official = official[official["date"].between(FIRST_MINUTE, LAST_MINUTE)]
    ours = {bar.open_time: bar for bar in minute_bars(seconds)}
    rows = [ours[date.value] for date in official["date"]]
    assert len(rows) == 10
    for name in ("open", "high", "low", "close", "volume"):
        assert [getattr(bar, name) for bar in rows] == official[name].tolist(), name


def test_every_second_has_one_bar_and_one_row(undisturbed: Run) -> None:
    live = [bar.close_time for bar in bars(undisturbed.clean) if bar.provenance == "live"]
    assert live == list(range(live[0], live[-1] + SECOND_NS, SECOND_NS))
    assert len(live) > 630
    rows = undisturbed.features.to_pylist()
    assert [row["ts_event"] for row in rows if row["provenance"] == "live"] == live
    whole = [row["ts_event"] for row in rows if row["provenance"] == "backfill"]
    assert all(at % MINUTE_NS == 0 for at in whole)
    assert len(whole) > 1_500


def test_spark_gives_what_the_pure_stream_gives(undisturbed: Run) -> None:
    outputs = SymbolStream.new(SYMBOL).apply(undisturbed.events)
    pure = [topics.decode(o.body, o.schema) for o in outputs if o.topic in (topics.CLEAN, topics.FEATURES)]
    assert by_identity(bars(undisturbed.clean)) == by_identity([m for m in pure if isinstance(m, Bar)])
    rows = [unflatten("features", record) for record in undisturbed.features.to_pylist()]
    assert by_identity(rows) == by_identity([m for m in pure if isinstance(m, FeatureRow)])


def test_the_table_of_markets_has_each_second_as_the_pure_stream_gives_it(undisturbed: Run, kafka: str) -> None:
    told = [m for m in decoded(records(kafka, topics.ANALYTICS)) if isinstance(m, MarketSummary)]
    lines = {(line.symbol, line.ts_event): line for line in told}
    outputs = SymbolStream.new(SYMBOL).apply(undisturbed.events)
    pure = [topics.decode(o.body, o.schema) for o in outputs if o.topic == topics.ANALYTICS]
    assert by_identity([line for line in lines.values() if line.symbol == SYMBOL]) == by_identity(pure)
    last = lines[SYMBOL, undisturbed.last_close]
    assert None not in (last.average_1m, last.volatility_5m, last.change_10s, last.change_1h, last.change_24h)
    shown = {line.ts_event for line in lines.values() if line.symbol == JUMPING and line.alert_since}
    assert len(shown) == 9 + CALM_NS // SECOND_NS


def test_a_jump_of_three_percent_is_one_alert_in_the_lake_and_resolved(undisturbed: Run) -> None:
    [alert] = undisturbed.alerts.to_pylist()
    assert (alert["rule"], alert["symbol"], alert["state"]) == (RULE, JUMPING, "resolved")


def test_the_console_shows_a_topic_decoded_by_spark(kafka: str, undisturbed: Run, tmp_path: Path) -> None:
    """In Spark's own tables, and as JSON equal to what the topic holds."""
    assert undisturbed.alerts.num_rows
    asked = ("--topic", topics.ANALYTICS, "--symbol", JUMPING, "--from-start", "--limit", "5")
    with ThreadPoolExecutor(2) as side_by_side:
        as_table = side_by_side.submit(console, kafka, str(tmp_path / "table"), *asked)
        as_json = side_by_side.submit(console, kafka, str(tmp_path / "json"), *asked, "--json")
    table = as_table.result()
    assert "Batch: 0" in table
    assert table.count(f"|{JUMPING}|") == 5
    shown = [json.loads(line) for line in as_json.result().splitlines() if line.startswith("{")]
    held = [m for m in decoded(records(kafka, topics.ANALYTICS)) if getattr(m, "symbol", None) == JUMPING][:5]
    names = ("symbol", "price", "average_1m", "change_10s", "moved")
    assert [[row.get(name) for name in names] for row in shown] == [[getattr(m, name) for name in names] for m in held]
    assert [pd.Timestamp(row["time"]).value for row in shown] == [m.ts_event for m in held]  # type: ignore[attr-defined]


def test_the_online_row_is_the_lakes_last_row(undisturbed: Run) -> None:
    assert undisturbed.online.row == unflatten("features", undisturbed.features.to_pylist()[-1])
    assert undisturbed.online.sequence is not None
    assert not np.isnan(undisturbed.online.sequence[-1]).all()


def test_bad_records_are_dead_lettered_and_counted(undisturbed: Run, kafka: str) -> None:
    letters = [m for m in decoded(records(kafka, topics.DEAD_LETTERS)) if isinstance(m, DeadLetter)]
    ours = Counter((letter.reason, letter.payload) for letter in letters if letter.component == "streaming")
    assert ours == {("InvalidMessage", b"\xff\xff"): 1, ("UnknownSchema", b"?"): 1}
    assert 'candlewick_dead_letters_total{component="streaming",reason="UnknownSchema"} 1.0' in undisturbed.metrics
    late = [line for line in undisturbed.metrics.splitlines() if line.startswith("candlewick_late_trades_total{")]
    assert float(late[0].split()[-1]) == sum(isinstance(m, Trade) and m.late for m in messages_of(undisturbed.events))


def test_a_stretch_replayed_twice_gives_identical_bytes_and_the_rows_of_then(undisturbed: Run, kafka: str) -> None:
    """Two minutes and a half over midnight, at full speed and in many small batches beside it; live state untouched."""
    stack = StreamingStack(undisturbed.settings)
    live = Path(stack.settings.lake.removeprefix("file://"))
    before = (files_of(live), length(kafka, topics.FEATURES), stack.store.version(SYMBOL))
    given = ("--from", "2024-08-08T23:58:30Z", "--to", "2024-08-09T00:01:00Z", "--symbol", SYMBOL)
    with ThreadPoolExecutor(2) as side_by_side:
        how = ("--name", "once"), ("--name", "again", "--speed", "6")
        once, again = side_by_side.map(lambda words: stack.verb("replay", *given, *words), how)
    assert (files_of(live), length(kafka, topics.FEATURES), stack.store.version(SYMBOL)) == before

    first, second = (files_of(live / "replays" / name) for name in ("once", "again"))
    assert {path.parts[0] for path in first} == {"raw", "clean", "features"}
    assert first == second
    assert once["lake_sha256"] == again["lake_sha256"]
    assert once["closes"][SYMBOL] == {
        "bars": 150, "rows": 150, "first": "2024-08-08T23:58:31Z", "last": "2024-08-09T00:01:00Z",
    }
    span = (MIDNIGHT_NS - 90 * SECOND_NS, MIDNIGHT_NS + 60 * SECOND_NS)
    replayed = Lake.open(once["lake"])
    for zone, original in (("clean", undisturbed.clean), ("features", undisturbed.features)):
        at = original["ts_event"]
        then = original.filter(pc.and_(pc.greater(at, span[0]), pc.less_equal(at, span[1])))
        assert replayed.read(zone, SYMBOL, *span).equals(then), zone
    own = FeatureStore.open(replace(stack.settings, namespace="once")).read(SYMBOL)
    assert own is not None
    assert own.row == unflatten("features", replayed.read("features", SYMBOL, *span).to_pylist()[-1])

    with ThreadPoolExecutor(2) as side_by_side:
        list(side_by_side.map(lambda name: stack.verb("replay", "--remove", name), ("once", "again")))
    assert stack.verb("replay", "--list") == {"replays": []}
    assert not any((live / "replays").iterdir())
    assert topics.delete_topics(kafka, "replay.") == []
    assert FeatureStore.open(replace(stack.settings, namespace="once")).version(SYMBOL) is None
    assert (files_of(live), length(kafka, topics.FEATURES), stack.store.version(SYMBOL)) == before


def files_of(lake: Path) -> dict[Path, bytes]:
    """Path in the lake → bytes, but for what replays have there."""
    found = {path.relative_to(lake): path.read_bytes() for path in lake.rglob("*.parquet")}
    return {path: body for path, body in found.items() if path.parts[0] != "replays"}


def test_a_stream_killed_twice_leaves_the_same_lake_and_redis(
    undisturbed: Run, tmp_path: Path, kafka: str, redis_process: str, moto_s3: S3,
) -> None:
    """The same topic read again from its beginning, this time into a lake on S3."""
    fresh_topics(kafka, OUTPUTS)
    on_s3 = {"lake_url": moto_s3.lake_url, "s3_endpoint": moto_s3.endpoint}
    stack = StreamingStack.make(tmp_path, kafka, _database(redis_process, 2), free_port, **on_s3)
    try:
        for rows in (1, 1_800):
            stack.start_job("--hot-batch", "700", "--lake-every", "2 seconds")
            until(lambda: length(kafka, topics.FEATURES) > rows, 180, f"more than {rows} rows")  # noqa: B023
            stack.kill("job")
        stack.start_job("--lake-every", "2 seconds")
        stack.await_close(undisturbed.last_close)
        again = read(stack, undisturbed.events)
    finally:
        stack.close()
    assert length(kafka, topics.FEATURES) >= undisturbed.features.num_rows
    assert again.clean.equals(undisturbed.clean)
    assert again.features.equals(undisturbed.features)
    assert again.alerts.equals(undisturbed.alerts)
    assert_each_once(again)
    assert again.online.row == undisturbed.online.row
    np.testing.assert_array_equal(again.online.sequence, undisturbed.online.sequence)


def test_a_killed_ingest_leaves_the_same_bars(
    undisturbed: Run, tmp_path: Path, kafka: str, redis_process: str, recorded: Recorded,
) -> None:
    """The recording's first half at 10×, ingest killed in the middle of it."""
    fresh_topics(kafka, (*INPUTS, *OUTPUTS))
    stack = StreamingStack.make(tmp_path, kafka, _database(redis_process, 3), free_port)
    try:
        exchange = stack.start_exchange("--frames", str(recorded.frames()[0]), "--speed", "10")
        stack.start("streaming.ingest")
        until(lambda: length(kafka, TRADES) > 4_000, 120, "the stream runs")
        stack.kill("ingest")
        stack.start("streaming.ingest")
        stack.start_job()
        play_out(stack, exchange)
        killed = finish(stack, kafka)
    finally:
        stack.close()
    assert_each_once(killed)
    theirs = {bar.close_time: bar for bar in bars(undisturbed.clean) if bar.provenance == "live"}
    ours = [bar for bar in bars(killed.clean) if bar.provenance == "live"]
    assert [bar.close_time for bar in ours] == list(range(ours[0].close_time, killed.last_close + 1, SECOND_NS))
    # Which second is the first depends on how quickly ingest connected.
    both = [(bar, theirs[bar.close_time]) for bar in ours if bar.close_time in theirs]
    assert len(both) > 320
    for bar, other in both:
        assert values(bar, TRADE_COLUMNS) == values(other, TRADE_COLUMNS)
        if bar.book_valid and other.book_valid:
            # A new book knows its first second's flow of orders only in part: null, not a part of it.
            flows = bar.order_flow_imbalance is not None and other.order_flow_imbalance is not None
            names = BOOK_FIELDS if flows else BOOK_FIELDS[:-1]
            assert values(bar, names) == values(other, names)
    assert 0 < sum(not bar.book_valid for bar in ours) < 60


def jump() -> list[Message]:
    """A coin at 100 for 13 seconds, then at 103: a trade and its seal each second, until the alert is resolved."""
    at = {"symbol": JUMPING, "source": "recording", "session": "jump"}
    made: list[Message] = []
    for n in range(1, 24 + CALM_NS // SECOND_NS):
        close, before = EVER[0] + n * SECOND_NS, EVER[0] + (n - 1) * SECOND_NS
        made.append(Trade(
            **at, ts_event=close - 1, ts_init=close, trade_id=n, price=100.0 if n < 14 else 103.0, quantity=1.0,
            buyer_is_maker=True,
        ))
        made.append(SecondClosed(
            **at, ts_event=close, ts_init=close, close=close, prev_close=before if n > 1 else None, n_trades=1,
            first_trade_id=n, last_trade_id=n,
        ))
    return made


def publish(kafka: str, messages: list[Message]) -> None:
    producer = topics.producer(kafka, "test")
    for message in messages:
        topics.send(producer, topics.trades_topic(JUMPING), message)
    producer.close()


def console(kafka: str, folder: str, *arguments: str) -> str:
    """What `candlewick console` prints."""
    made = subprocess.run(
        [sys.executable, "candlewick.py", "console", *arguments], cwd=ROOT, check=True, capture_output=True, text=True,
        env={**os.environ, "CANDLEWICK_KAFKA_BOOTSTRAP": kafka, "CANDLEWICK_RUN_DIR": folder}, timeout=180,
    )
    return made.stdout


def throw_in_bad_records(kafka: str) -> None:
    """A damaged body, a schema nobody knows, and a trade that ingest marked late."""
    now = time.time_ns()
    late = Trade(
        symbol=SYMBOL, ts_event=now, ts_init=now, source="recording", session="late", trade_id=1, price=1.0,
        quantity=1.0, buyer_is_maker=True, late=True,
    )
    known = topics.header(Trade)
    producer = topics.producer(kafka, "test")
    for schema, body in ((known, b"\xff\xff"), ("Trade:0", b"?"), (known, topics.encode(late))):
        producer.send(TRADES, key=SYMBOL.encode(), value=body, headers=[(topics.SCHEMA_HEADER, schema.encode())])
    producer.flush()
    producer.close()


def play_out(stack: StreamingStack, exchange: object) -> None:
    """Wait until the exchange has played everything, then let ingest hand over what it holds."""
    until(lambda: exchange.poll() is not None, 200, "the recording is played")  # type: ignore[attr-defined]
    time.sleep(1.0)
    assert stack.stop("ingest") == 0


def finish(stack: StreamingStack, kafka: str) -> Run:
    """Wait for everything in the topic to arrive in the lake, then stop the job."""
    events = [
        Event(r.partition, r.offset, r.timestamp * 1_000_000, r.topic,
              (topics.record_schema(r.headers) or b"").decode(), r.value)
        for r in records(kafka, TRADES)
    ]
    stack.await_close(max(m.close for m in messages_of(events) if isinstance(m, SecondClosed)))
    run = read(stack, events)
    assert stack.stop("job") == 0
    return run


def read(stack: StreamingStack, events: list[Event]) -> Run:
    online = stack.store.read(SYMBOL)
    assert online is not None
    lake = stack.lake
    until(lambda: _is_resolved(lake), 60, "the lake holds the end of the alert", every_s=1.0)
    return Run(
        events, lake.read("clean", SYMBOL, *EVER), lake.read("features", SYMBOL, *EVER),
        lake.read("alerts", JUMPING, *EVER), online, stack.metrics(),
    )


def _is_resolved(lake: Lake) -> bool:
    return "resolved" in lake.read("alerts", JUMPING, *EVER)["state"].to_pylist()


def messages_of(events: list[Event]) -> list[Message]:
    return decoded([_Record(e.body, [(topics.SCHEMA_HEADER, (e.schema or "").encode())]) for e in events])


@dataclass(frozen=True)
class _Record:
    value: bytes
    headers: list[tuple[str, bytes]]


def bars(clean: pa.Table) -> list[Bar]:
    return [unflatten("clean", record) for record in clean.to_pylist()]  # type: ignore[misc]


def by_identity(messages: Iterable[Message]) -> list[Message]:
    return sorted(messages, key=lambda m: (m.ts_event, m.created, getattr(m, "interval_s", 0)))  # type: ignore[attr-defined]


def values(bar: Bar, names: tuple[str, ...]) -> dict[str, object]:
    return {name: getattr(bar, name) for name in names}


def assert_each_once(run: Run) -> None:
    zones: tuple[tuple[Zone, pa.Table], ...] = (("clean", run.clean), ("features", run.features))
    for zone, rows in zones:
        keys = rows.select(list(identity(zone))).to_pandas()
        assert not keys.duplicated().any(), zone


def _database(redis_url: str, number: int) -> str:
    return f"{redis_url.rsplit('/', 1)[0]}/{number}"
