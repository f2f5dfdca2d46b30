"""A stretch holds what its messages say, in the order in which they came, after the bars that were known before it."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pyarrow as pa
import pytest

from feature_repo import topics
from feature_repo.contracts import MINUTE_NS, SECOND_NS, Bar, Message, SecondClosed, Trade
from feature_repo.lake_layout import RAW_SCHEMA
from feature_repo.lake_reader import Lake
from streaming.lake import LakeWriter
from streaming.settle import fingerprint, settle
from streaming.stretch import Record, Stretch, raw_records, warm_up, within
from tests.feature_repo.made_bars import START_NS, Walk

TOPIC = topics.trades_topic("BTCUSDT")
STRETCH = Stretch(START_NS, START_NS + 10 * SECOND_NS, ("BTCUSDT",))
COMMON = {"symbol": "BTCUSDT", "source": "recording", "session": "s"}


def trade(ms: int) -> Trade:
    at = START_NS + ms * 1_000_000
    return Trade(**COMMON, ts_event=at, ts_init=at, trade_id=ms + 10_000, price=1.0, quantity=1.0, buyer_is_maker=True)


def seal(second: int) -> SecondClosed:
    close = START_NS + second * SECOND_NS
    return SecondClosed(
        **COMMON, ts_event=close, ts_init=close, close=close, prev_close=None, n_trades=0, first_trade_id=None,
        last_trade_id=None,
    )


def record(message: Message, key: str = "BTCUSDT") -> Record:
    return Record(TOPIC, key, topics.header(message), topics.encode(message), 0)


def bad(body: bytes) -> Record:
    return Record(TOPIC, "BTCUSDT", "Trade:0", body, 0)


def test_seconds_belong_by_their_close_and_trades_by_their_moment() -> None:
    messages = [trade(-1), seal(0), trade(0), seal(1), trade(9_999), seal(10), trade(10_000), seal(11)]
    kept = [topics.decode(r.value, r.schema) for r in within(STRETCH, map(record, messages))]
    assert kept == [trade(0), seal(1), trade(9_999), seal(10)]


def test_what_nobody_can_decode_belongs_where_it_lies_between_two_that_do() -> None:
    rows = [bad(b"before"), record(trade(0)), bad(b"within"), record(trade(-5)), record(seal(10)), bad(b"after")]
    assert [r.value for r in within(STRETCH, rows) if r.schema == "Trade:0"] == [b"within"]


def test_other_symbols_of_the_topic_are_left_out() -> None:
    assert list(within(STRETCH, [record(trade(0), "BTCUSDC"), record(trade(1))])) == [record(trade(1))]


@pytest.mark.parametrize(("start", "end"), [(1, SECOND_NS), (SECOND_NS, SECOND_NS), (2 * SECOND_NS, SECOND_NS)])
def test_a_stretch_is_whole_seconds_in_order(start: int, end: int) -> None:
    with pytest.raises(ValueError, match="expected whole seconds, `from` before `to`"):
        Stretch(start, end, ("BTCUSDT",))


def raw(messages: list[Message], first_offset: int, minute: int) -> pa.Table:
    """Records as a batch that arrived in a minute of another day than the market's."""
    at = datetime(2026, 11, 26, 22, minute, tzinfo=UTC)
    return pa.Table.from_pylist([
        {"topic": TOPIC, "partition": 0, "offset": first_offset + i, "kafka_timestamp": at, "key": "BTCUSDT",
         "schema": topics.header(message), "value": topics.encode(message)} for i, message in enumerate(messages)
    ], RAW_SCHEMA)


def test_raw_records_are_found_in_whatever_hour_they_were_streamed(tmp_path: Path) -> None:
    writer = LakeWriter.open(tmp_path.as_uri())
    writer.write_batch(raw([trade(2), seal(1)], 2, 1))
    writer.write_batch(raw([trade(-1), trade(1)], 0, 0))
    found = list(raw_records(Lake.open(tmp_path.as_uri()), STRETCH))
    assert [topics.decode(r.value, r.schema) for r in found] == [trade(1), trade(2), seal(1)]
    assert found[0].timestamp_ms == datetime(2026, 11, 26, 22, 0, tzinfo=UTC).timestamp() * 1_000


def test_the_bars_before_are_those_known_first_minutes_then_seconds(tmp_path: Path) -> None:
    walk = Walk()
    seconds = [walk.bar(START_NS - back * SECOND_NS, 1) for back in (2, 1, 0)]
    minutes: list[Bar] = [walk.bar(START_NS - back * MINUTE_NS, 60) for back in (1, 0)]
    later = seconds[1].model_copy(update={"created": seconds[1].created + MINUTE_NS, "close": seconds[1].close + 1.0})
    revised = seconds[0].model_copy(update={"created": seconds[0].created + 1, "provenance": "reconcile"})
    after = walk.bar(START_NS + SECOND_NS, 1)
    LakeWriter.open(tmp_path.as_uri()).upsert("clean", [*seconds, *minutes, later, revised, after])
    assert warm_up(Lake.open(tmp_path.as_uri()), "BTCUSDT", START_NS) == [*minutes, *seconds]


def test_a_settled_lake_does_not_tell_in_which_batches_it_was_written(tmp_path: Path) -> None:
    walk = Walk()
    messages: list[Message] = [trade(ms) for ms in range(0, 9_000, 100)]
    bars = [walk.bar(START_NS + second * SECOND_NS, 1) for second in range(-5, 15)]
    found = []
    for size in (1, 7, 1000):
        writer = LakeWriter.open((tmp_path / str(size)).as_uri())
        for start in range(0, len(messages), size):
            writer.write_batch(pa.concat_tables(
                raw([message], offset, offset * 2 % 60 if offset < 30 else 59)
                for offset, message in enumerate(messages[start : start + size], start)
            ))
        for start in range(0, len(bars), size):
            writer.upsert("clean", bars[start : start + size])
        settle(writer, STRETCH)
        found.append(fingerprint(writer))
        settle(writer, STRETCH)
        assert fingerprint(writer) == found[-1]
    assert found[0] == found[1] == found[2]
    rows = Lake.open((tmp_path / "7").as_uri()).read("clean", "BTCUSDT", 0, START_NS * 2)
    assert rows["close_time"].to_pylist() == [START_NS + second * SECOND_NS for second in range(1, 11)]


def test_a_raw_record_is_settled_in_the_hour_of_its_own_time(tmp_path: Path) -> None:
    writer = LakeWriter.open(tmp_path.as_uri())
    late = datetime(2026, 11, 26, 23, 10, tzinfo=UTC)
    batch = raw([trade(0), trade(1)], 0, 59).to_pylist()
    batch[1]["kafka_timestamp"] = late
    writer.write_batch(pa.Table.from_pylist(batch, RAW_SCHEMA))
    settle(writer, STRETCH)
    assert sorted(str(p.relative_to(tmp_path)) for p in tmp_path.rglob("*.parquet")) == [
        "raw/btc/date=2026-11-26/hour=22/crypto.btc.trades-0.parquet",
        "raw/btc/date=2026-11-26/hour=23/crypto.btc.trades-0.parquet",
    ]
