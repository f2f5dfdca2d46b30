"""The lake holds each row once, whole or not at all, whatever is repeated, added by others or torn off."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pyarrow as pa
import pytest

from feature_repo import topics
from feature_repo.contracts import HOUR_NS, SECOND_NS, Bar, InvalidMessage, Message, UnknownSchema
from feature_repo.lake_layout import RAW_SCHEMA
from feature_repo.lake_reader import Lake
from streaming.compaction import compact
from streaming.lake import LakeWriter, newest, read_zone

HOUR = 478_655 * HOUR_NS
NOW = datetime(2024, 8, 9, 0, 30, tzinfo=UTC)


def bar(second: int, close: float = 100.0, created_after: int = 1) -> Bar:
    at = HOUR + second * SECOND_NS
    return Bar(
        symbol="BTCUSDT", ts_event=at, ts_init=at, source="recording", session="s", interval_s=1,
        open_time=at - SECOND_NS, close_time=at, open=close, high=close, low=close, close=close, volume=1.0,
        quote_volume=close, vwap=close, trades=1, taker_buy_volume=0.5, created=at + created_after * SECOND_NS,
        provenance="live" if created_after == 1 else "reconcile",
    )


def records(topic: str, messages: list[Message], first_offset: int = 0) -> pa.Table:
    return pa.Table.from_pylist([
        {"topic": topic, "partition": 0, "offset": first_offset + i, "kafka_timestamp": NOW, "key": "BTCUSDT",
         "schema": topics.header(message), "value": topics.encode(message)}
        for i, message in enumerate(messages)
    ], RAW_SCHEMA)


def seconds(lake_url: str) -> list[tuple[int, float]]:
    rows = read_zone(lake_url, "clean", "BTCUSDT", HOUR, HOUR + 2 * HOUR_NS)
    return [((row["close_time"] - HOUR) // SECOND_NS, row["close"]) for row in rows.to_pylist()]


def test_a_repeated_batch_changes_nothing(tmp_path: Path) -> None:
    writer = LakeWriter.open(tmp_path.as_uri())
    batch = pa.concat_tables([
        records("crypto.btc.trades", [bar(1), bar(2)], 40), records(topics.CLEAN, [bar(2), bar(1), bar(2)]),
    ])
    for _ in range(3):
        written = writer.write_batch(batch)
    assert written.records == {"raw": 2, "clean": 3}
    assert sorted(str(p.relative_to(tmp_path)) for p in tmp_path.rglob("*.*")) == [
        "clean/btc/date=2024-08-08/hour=23/bars.parquet",
        "raw/btc/date=2024-08-09/hour=00/crypto.btc.trades-0-40-41.parquet",
        "raw/btc/date=2024-08-09/hour=00/crypto.btc.trades-0.parquet",
    ]
    assert seconds(tmp_path.as_uri()) == [(1, 100.0), (2, 100.0)]
    raw = Lake.open(tmp_path.as_uri()).read_raw("btc", "crypto.btc.trades", HOUR, HOUR + HOUR_NS)
    assert [topics.decode(v, s) for v, s in zip(raw["value"].to_pylist(), raw["schema"].to_pylist(), strict=True)] == [
        bar(1), bar(2),
    ]


@pytest.mark.parametrize("size", [1, 7, 100])
def test_an_hours_file_has_the_same_bytes_in_whatever_batches_its_rows_came(tmp_path: Path, size: int) -> None:
    bars: list[Message] = [bar(second, 100.0 + second % 13) for second in range(1, 100)]
    at_once, in_batches = LakeWriter.open((tmp_path / "a").as_uri()), LakeWriter.open((tmp_path / "b").as_uri())
    at_once.upsert("clean", bars)
    for start in reversed(range(0, len(bars), size)):
        in_batches.write_batch(records(topics.CLEAN, bars[start : start + size]))
    a, b = (next((tmp_path / name).rglob("bars.parquet")).read_bytes() for name in ("a", "b"))
    assert a == b


def test_an_hour_belongs_to_the_close(tmp_path: Path) -> None:
    LakeWriter.open(tmp_path.as_uri()).upsert("clean", [bar(3599), bar(3600)])
    assert [p.parent.name for p in sorted(tmp_path.rglob("*.parquet"))] == ["hour=23", "hour=00"]


def test_revisions_of_others_are_read_at_once_and_merged_by_the_owner(tmp_path: Path) -> None:
    url = tmp_path.as_uri()
    writer = LakeWriter.open(url)
    writer.upsert("clean", [bar(1), bar(2)])
    revision, = writer.add_revision("clean", [bar(2, close=101.0, created_after=900)], "reconcile")
    assert writer.add_revision("clean", [bar(2, close=101.0, created_after=900)], "reconcile") == [revision]
    before = Lake.open(url).read("clean", "BTCUSDT", HOUR, HOUR + HOUR_NS)
    assert seconds(url) == [(1, 100.0), (2, 101.0)]
    compact(writer, "clean", "clean/btc/date=2024-08-08/hour=23")
    assert [p.name for p in tmp_path.rglob("*.parquet")] == ["bars.parquet"]
    assert Lake.open(url).read("clean", "BTCUSDT", HOUR, HOUR + HOUR_NS).equals(before)
    assert before.num_rows == 3, "what was known before stays known"


def test_a_torn_temporary_file_is_never_seen(tmp_path: Path) -> None:
    writer = LakeWriter.open(tmp_path.as_uri())
    writer.upsert("clean", [bar(1)])
    torn = next(tmp_path.rglob("bars.parquet")).with_suffix(".parquet.tmp")
    torn.write_bytes(b"PAR1 half")
    assert seconds(tmp_path.as_uri()) == [(1, 100.0)]
    writer.upsert("clean", [bar(2)])
    assert not torn.exists()
    assert seconds(tmp_path.as_uri()) == [(1, 100.0), (2, 100.0)]


def test_what_cannot_be_decoded_is_handed_back_with_its_reason(tmp_path: Path) -> None:
    good = records(topics.CLEAN, [bar(1), bar(2)]).to_pylist()
    good[0]["value"] = b"\xff"
    strange = {**good[1], "schema": "Bar:0000", "offset": 7}
    written = LakeWriter.open(tmp_path.as_uri()).write_batch(pa.Table.from_pylist([*good, strange], RAW_SCHEMA))
    assert [(type(r.error), r.record["offset"]) for r in written.refused] == [(InvalidMessage, 0), (UnknownSchema, 7)]
    assert seconds(tmp_path.as_uri()) == [(2, 100.0)]


def test_symbols_of_one_base_share_their_files_and_are_told_apart(tmp_path: Path) -> None:
    url, usdc = tmp_path.as_uri(), bar(1, close=99.0).model_copy(update={"symbol": "BTCUSDC"})
    both = [bar(1), usdc]
    batch = pa.concat_tables([records(topics.trades_topic(usdc.symbol), both), records(topics.CLEAN, both)])
    LakeWriter.open(url).write_batch(batch)
    assert sorted(str(p.relative_to(tmp_path)) for p in tmp_path.rglob("*.parquet")) == [
        "clean/btc/date=2024-08-08/hour=23/bars.parquet",
        "raw/btc/date=2024-08-09/hour=00/crypto.btc.trades-0-0-1.parquet",
        "raw/btc/date=2024-08-09/hour=00/crypto.btc.trades-0.parquet",
    ]
    for symbol, close in (("BTCUSDT", 100.0), ("BTCUSDC", 99.0)):
        assert read_zone(url, "clean", symbol, HOUR, HOUR + HOUR_NS)["close"].to_pylist() == [close]


def test_newest_keeps_one_row_a_second() -> None:
    rows = pa.table({
        "symbol": ["A", "A", "A"], "ts_event": [1, 1, 2], "created": [1, 5, 3], "x": [0.1, 0.2, 0.3],
    })
    assert newest("features", rows)["x"].to_pylist() == [0.2, 0.3]


def test_a_lake_without_a_scheme_is_refused() -> None:
    with pytest.raises(ValueError, match="expected a lake URL"):
        LakeWriter.open("data/lake")
