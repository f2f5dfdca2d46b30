"""The one-liners of docs/data-access.md, executed, give exactly what was written."""

from __future__ import annotations

import ast
import json
import os
import re
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from feature_repo import topics
from feature_repo.contracts import HOUR_NS, MINUTE_NS, SECOND_NS, Bar, FeatureRow, Trade
from feature_repo.lake_layout import RAW_SCHEMA
from feature_repo.settings import ROOT
from streaming.bars import bars_from_trades, minute_bars
from streaming.lake import LakeWriter
from tests.feature_repo.made_rows import made_row
from tests.integration.streaming_stack import fresh_topics, records

pytestmark = [pytest.mark.integration, pytest.mark.alone, pytest.mark.timeout(180)]
PAGE = ROOT / "docs" / "data-access.md"
TOPIC = topics.trades_topic("BTCUSDT")
START_NS = 1_723_161_300_000_000_000
HOURS = 2
TRADES_A_MINUTE = 20


@dataclass(frozen=True)
class Truth:
    """What was written, and where."""

    bootstrap: str
    lake: Path
    sent: list[Any]
    """The topic's records."""
    seconds: list[Bar]
    minutes: list[Bar]
    rows: list[FeatureRow]

    def run(self, line: str) -> str:
        """The output of a documented line, at this broker and lake."""
        placed = line.replace("127.0.0.1:19092", self.bootstrap).replace(".run/lake", str(self.lake))
        # The interpreter's own path has the same words, so they must not be put in before.
        placed = placed.replace(".venv/bin/python", sys.executable)
        placed = placed.replace(".venv/bin/candlewick", f"{sys.executable} {ROOT}/candlewick.py")
        done = subprocess.run(
            ["bash", "-c", placed], cwd=ROOT, capture_output=True, text=True, timeout=60, check=False,
            env={**os.environ, "CANDLEWICK_KAFKA_BOOTSTRAP": self.bootstrap})
        assert done.returncode == 0, done.stderr
        return done.stdout


def lines() -> list[str]:
    """The page's commands, in order."""
    blocks = re.findall(r"^```console\n(.*?)^```", PAGE.read_text(), re.MULTILINE | re.DOTALL)
    return [line.removeprefix("$ ") for block in blocks for line in block.splitlines()]


def line(part: str) -> str:
    """The one command that has this part."""
    found, = (found for found in lines() if part in found)
    return found


def made_trades() -> list[Trade]:
    """Two hours of trades, a few a minute, each with a price of its own."""
    count = HOURS * 60 * TRADES_A_MINUTE
    return [
        Trade(symbol="BTCUSDT", ts_event=(at := START_NS + i * MINUTE_NS // TRADES_A_MINUTE), ts_init=at + 1,
              source="simulated", session="made", trade_id=i + 1, price=60_000.0 + i * 0.01,
              quantity=0.001 * (i % 7 + 1), buyer_is_maker=i % 3 == 0)
        for i in range(count)
    ]


@pytest.fixture(scope="module")
def truth(kafka: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Truth]:
    trades = made_trades()
    fresh_topics(kafka, (TOPIC,))
    out = topics.producer(kafka, "test-data-access")
    for trade in trades:
        topics.send(out, TOPIC, trade)
    out.close()
    seconds = bars_from_trades(trades, START_NS, START_NS + HOURS * HOUR_NS, provenance="live")
    minutes = minute_bars(seconds)
    lake = tmp_path_factory.mktemp("lake")
    writer = LakeWriter.open(lake.as_uri())
    sent = records(kafka, TOPIC)
    writer.write_batch(pa.Table.from_pylist([
        {"topic": r.topic, "partition": r.partition, "offset": r.offset, "kafka_timestamp": r.timestamp * 1_000,
         "key": r.key.decode(), "schema": topics.header(Trade), "value": r.value} for r in sent], schema=RAW_SCHEMA))
    writer.upsert("clean", [*seconds, *minutes])
    # A later revision of the last minute but one: a reader must take it instead of what it revises.
    revised = minutes[-2].model_copy(update={
        "close": 61_000.0, "high": 61_000.0, "created": minutes[-2].created + SECOND_NS, "provenance": "reconcile"})
    late = seconds[-2].model_copy(update={
        "trades": seconds[-2].trades + 1, "created": seconds[-2].created + SECOND_NS, "provenance": "reconcile"})
    writer.add_revision("clean", [revised, late], "reconcile")
    seconds = [*seconds[:-2], late, seconds[-1]]
    rows = [made_row(number, "BTCUSDT") for number in range(5)]
    writer.upsert("features", rows)
    yield Truth(kafka, lake, sent, seconds, [*minutes[:-2], revised, minutes[-1]], rows)
    fresh_topics(kafka, (TOPIC,))


@pytest.mark.skipif(shutil.which("kcat") is None, reason="left out: kcat is not on this machine")
def test_kcat_lists_the_topics_and_shows_keys_offsets_and_schemas(truth: Truth) -> None:
    listed = {topic["topic"] for topic in json.loads(truth.run(line("-L -J")))["topics"]}
    assert {topic.name for topic in topics.topics(("BTCUSDT",))} <= listed
    shown = truth.run(line("-o -3")).splitlines()
    assert shown == [
        f"{r.offset} {r.timestamp} {r.key.decode()} schema={topics.header(Trade)}" for r in truth.sent[-3:]]


def test_tail_decodes_the_newest_records(truth: Truth) -> None:
    shown = json.loads(truth.run(line("candlewick tail")))["records"]
    assert [(r["offset"], r["key"], r["schema"]) for r in shown] == [
        (r.offset, "BTCUSDT", topics.header(Trade)) for r in truth.sent[-3:]]
    assert [r["body"] for r in shown] == [trade.model_dump(mode="json") for trade in made_trades()[-3:]]


def test_duckdb_reads_the_last_minutes_with_their_revision(truth: Truth) -> None:
    assert ast.literal_eval(truth.run(line("interval_s = 60"))) == [
        (bar.close_time, bar.close, bar.volume, bar.trades) for bar in reversed(truth.minutes[-3:])]


def test_duckdb_sums_an_hour_by_its_partition(truth: Truth) -> None:
    hours: Counter[tuple[str, str]] = Counter()
    for bar in truth.seconds:
        at = datetime.fromtimestamp(bar.close_time // SECOND_NS, UTC)
        hours[f"{at:%Y-%m-%d}", f"{at:%H}"] += bar.trades
    assert len(hours) > HOURS
    assert ast.literal_eval(truth.run(line("group by all"))) == [(*at, count) for at, count in sorted(hours.items())]


def test_pandas_reads_a_feature_over_time(truth: Truth) -> None:
    rows = sorted(truth.rows, key=lambda row: row.ts_event)[-3:]
    shown = json.loads(truth.run(line("read_parquet('.run/lake/features/btc'")))
    assert shown == [[row.ts_event, row.price, pytest.approx(row.values["return_1m"], rel=1e-9)] for row in rows]


def test_raw_records_decode_by_one_line(truth: Truth) -> None:
    shown = truth.run(line("raw/btc")).splitlines()
    assert [Trade.model_validate_json(text) for text in shown] == made_trades()[-3:]


def test_bars_of_a_recording_are_made_by_one_line(truth: Truth, simulated_file: Path, tmp_path: Path) -> None:
    output = tmp_path / "bars.parquet"
    shown = json.loads(truth.run(
        line("bars --frames").replace("FILE", str(simulated_file)).replace("bars.parquet", str(output))))
    assert (shown["symbols"], shown["refused"]) == ({"BTCUSDT": 2}, {})
    assert pq.read_table(output, columns=["open_time"]).num_rows == 2


def test_every_documented_line_is_executed_by_a_test() -> None:
    tested = (
        "-L -J", "-o -3", "candlewick tail", "interval_s = 60", "group by all", "features/btc", "raw/btc",
        "bars --frames",
    )
    assert [sum(part in found for part in tested) for found in lines()] == [1] * len(tested)
