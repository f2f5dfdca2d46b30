"""Parity sees what is equal as equal and a change of 1e-6 as a change: real Redis, Feast and Parquet."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

from candlewick import app
from feature_repo import topics
from feature_repo.contracts import MINUTE_NS, SECOND_NS, Bar, FeatureRow, Message, SecondClosed, Trade
from feature_repo.features import FORECAST_BAR, SEQUENCE_LENGTH
from feature_repo.lake_layout import RAW_SCHEMA
from feature_repo.online_row import OnlineWrite
from feature_repo.settings import Settings
from feature_repo.store import FeatureStore
from monitoring.parity import Report, check
from streaming.lake import LakeWriter
from streaming.symbol_stream import ONLINE, Event, Output, SymbolStream
from tests.feature_repo.made_bars import START_NS, Walk

pytestmark = pytest.mark.integration
LIVE_SECONDS = 130
TOPIC = topics.trades_topic("BTCUSDT")


def history(walk: Walk) -> list[Bar]:
    """What ingest sends at first start: minutes, then seconds, of the venue's klines."""
    def backfilled(close: int, interval_s: int) -> Bar:
        return walk.bar(close, interval_s, book=False).model_copy(
            update={"provenance": "backfill", "created": close + SECOND_NS},
        )

    minutes = [backfilled(START_NS - back * MINUTE_NS, 60) for back in range(1_570, -1, -1)]
    return [*minutes, *(backfilled(START_NS - back * SECOND_NS, 1) for back in range(999, -1, -1))]


def live(walk: Walk) -> list[Message]:
    """Trades and seals of the seconds after the start; every ninth is silent."""
    messages: list[Message] = []
    common = {"symbol": "BTCUSDT", "source": "recording", "session": "made-loop0"}
    trade_id = 0
    for second in range(1, LIVE_SECONDS + 1):
        close = START_NS + second * SECOND_NS
        count = 0 if second % 9 == 0 else 3
        for i in range(count):
            at = close - SECOND_NS + (i + 1) * 200_000_000
            price = walk.bar(close, 1).close
            messages.append(Trade(
                **common, ts_event=at, ts_init=at + 40_000_000, trade_id=trade_id + i, price=price,
                quantity=round(0.001 * (i + second), 5), buyer_is_maker=bool(i % 2),
            ))
        messages.append(SecondClosed(
            **common, ts_event=close, ts_init=close + 250_000_123, close=close, n_trades=count,
            prev_close=close - SECOND_NS if second > 1 else None, first_trade_id=trade_id if count else None,
            last_trade_id=trade_id + count - 1 if count else None, **walk.book(),
        ))
        trade_id += count
    return messages


@pytest.fixture(scope="module")
def streamed() -> tuple[pa.Table, list[Output]]:
    """The raw records of a first start and two minutes, and all that the stream made of them."""
    walk = Walk()
    messages = [*history(walk), *live(walk)]
    events = [
        Event(0, i, START_NS + i, TOPIC, topics.header(message), topics.encode(message))
        for i, message in enumerate(messages)
    ]
    raw = pa.Table.from_pylist(
        [{
            "topic": TOPIC, "partition": 0, "offset": e.offset, "kafka_timestamp": e.timestamp_ns // 1000,
            "key": "BTCUSDT", "schema": e.schema, "value": e.body,
        } for e in events],
        schema=RAW_SCHEMA.set(3, pa.field("kafka_timestamp", pa.int64())),
    ).cast(RAW_SCHEMA)
    return raw, SymbolStream.new("BTCUSDT").apply(events)


@pytest.fixture
def settings(tmp_path: Path, redis_server: str, applied: Path, streamed: tuple[pa.Table, list[Output]]) -> Settings:
    """Lake and Redis as the stream leaves them."""
    made = Settings(run_dir=tmp_path, redis_url=redis_server)
    made.registry.parent.mkdir(parents=True)
    made.registry.write_bytes(applied.read_bytes())
    raw, outputs = streamed
    writer = LakeWriter.open(made.lake)
    writer.write_batch(raw)
    writer.upsert("features", [_row(output) for output in outputs if output.topic == topics.FEATURES])
    [online] = [output for output in outputs if output.topic == ONLINE]
    FeatureStore.open(made).write([_online(online)])
    return made


def _row(output: Output) -> FeatureRow:
    row = topics.decode(output.body, output.schema)
    assert isinstance(row, FeatureRow)
    return row


def _online(output: Output) -> OnlineWrite:
    sequence = np.frombuffer(output.sequence or b"", "<f8").reshape(SEQUENCE_LENGTH, len(FORECAST_BAR))
    return OnlineWrite(_row(output), sequence, {})


def run(settings: Settings) -> Report:
    return check(settings, "BTCUSDT", minutes=10, sleep=lambda _seconds: None)


def plant(settings: Settings, feature: str, row: int, change: float) -> None:
    """Change one value in the newest file of the features zone."""
    path = max(Path(settings.lake.removeprefix("file://")).glob("features/**/*.parquet"))
    table = pq.read_table(path, partitioning=None)
    values = table[feature].to_pylist()
    values[row] += change
    at = table.column_names.index(feature)
    pq.write_table(table.set_column(at, feature, pa.array(values, pa.float64())), path)


def test_what_the_stream_wrote_equals_what_raw_gives_in_every_place(settings: Settings) -> None:
    report = run(settings)
    assert report.examples == []
    assert report.passed
    # Ten minutes back from the last second: live rows, and backfilled ones at whole minutes.
    assert report.places["lake"] == LIVE_SECONDS + 10 - LIVE_SECONDS // 60
    assert (report.places["online"], report.places["online sequence"], report.places["feast online"]) == (1, 1, 1)
    assert report.places["feast history"] >= 25
    assert report.cells > report.known > 0


@pytest.mark.parametrize("change", [1e-6, -1e-13])
def test_a_planted_change_is_caught_and_named(settings: Settings, change: float) -> None:
    plant(settings, "realized_vol_15m", -7, change)
    report = run(settings)
    assert not report.passed
    planted = report.examples[0]
    assert (planted.where, planted.feature) == ("lake", "realized_vol_15m")
    assert float.fromhex(planted.found) - float.fromhex(planted.expected) == pytest.approx(change, rel=1e-3)


def test_a_lost_row_is_caught(settings: Settings) -> None:
    path = max(Path(settings.lake.removeprefix("file://")).glob("features/**/*.parquet"))
    table = pq.read_table(path, partitioning=None)
    pq.write_table(pa.concat_tables([table.slice(0, table.num_rows - 9), table.slice(table.num_rows - 8)]), path)
    report = run(settings)
    assert [(e.where, e.feature, e.found) for e in report.examples][:1] == [("lake", "row", "no row")]


def test_an_online_row_of_another_value_is_caught(settings: Settings) -> None:
    store = FeatureStore.open(settings)
    held = store.read("BTCUSDT")
    assert held is not None
    changed = held.row.model_copy(update={"values": {**held.row.values, "return_1m": 1.0}})
    store.client.flushall()
    store.write([OnlineWrite(changed, held.sequence, {})])
    report = run(settings)
    assert ("online", "return_1m") in {(e.where, e.feature) for e in report.examples}


def test_an_empty_lake_is_a_failure_not_a_pass(settings: Settings, tmp_path: Path) -> None:
    assert not run(dataclasses.replace(settings, lake_url=(tmp_path / "empty").as_uri())).passed


def test_the_verb_prints_one_object_and_exits_1_on_a_mismatch(
    settings: Settings, monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("CANDLEWICK_RUN_DIR", str(settings.run_dir))
    monkeypatch.setenv("CANDLEWICK_SYMBOLS", "BTCUSDT")
    monkeypatch.setenv("CANDLEWICK_REDIS_URL", settings.redis)
    equal = CliRunner().invoke(app, ["parity", "--json"])
    assert equal.exit_code == 0, equal.output
    plant(settings, "return_15m", -3, 1e-6)
    changed = CliRunner().invoke(app, ["parity", "--json"])
    assert changed.exit_code == 1
    assert '"mismatches": ' in changed.output
