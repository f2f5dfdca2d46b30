"""A zone written as a Delta table reads back as it is in the lake, however often it is written."""

from __future__ import annotations

from pathlib import Path

import pyarrow.compute as pc
import pytest
from typer.testing import CliRunner

from candlewick import app
from feature_repo.contracts import HOUR_NS
from feature_repo.lake_reader import Lake
from feature_repo.settings import Settings
from streaming.delta import days, export
from streaming.lake import LakeWriter
from tests.streaming.lake_faults import EVER, HOUR, TRADES, WRITERS, bar

deltalake = pytest.importorskip("deltalake", reason="left out: deltalake is not installed (make delta)")


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    """A lake of two days with revisions, and raw records."""
    made = Settings(lake_url=(tmp_path / "lake").as_uri())
    writer = LakeWriter.open(made.lake)
    WRITERS["merge"].prepare(writer)
    WRITERS["compaction"].prepare(writer)
    writer.upsert("clean", [bar(3600), bar(7200)])
    return made


def read(table: str) -> list[dict]:
    rows = deltalake.DeltaTable(table).to_pyarrow_table().to_pylist()
    return sorted(rows, key=lambda row: (row["ts_event"], row["created"]))


def test_rows_and_revisions_are_there_once_and_the_same_after_a_repeat(tmp_path: Path, settings: Settings) -> None:
    table = (tmp_path / "delta").as_uri()
    first = export(settings, "clean", table, *days(None, None))
    held = Lake.open(settings.lake).read("clean", "BTCUSDT", *EVER).to_pylist()
    assert (first["rows"], first["days"]) == (len(held), 2)
    found = read(table)
    assert [{name: row[name] for name in held[0]} for row in found] == held
    assert {(row["base"], row["date"]) for row in found} == {("btc", "2024-08-08"), ("btc", "2024-08-09")}
    export(settings, "clean", table, *days(None, None))
    assert read(table) == found


def test_a_day_is_replaced_and_the_others_stay(tmp_path: Path, settings: Settings) -> None:
    table = (tmp_path / "delta").as_uri()
    export(settings, "clean", table, *days(None, None))
    before = read(table)
    writer = LakeWriter.open(settings.lake)
    writer.add_revision("clean", [bar(2, 555.0, 5_000), bar(7200, 556.0, 5_000)], "reconcile")
    assert export(settings, "clean", table, *days("2024-08-09T00:00Z", "2024-08-09T01:00Z"))["days"] == 1
    assert [row for row in read(table) if row not in before] == [
        row for row in read(table) if row["close"] == 556.0]
    assert len(read(table)) == len(before) + 1


def test_raw_records_are_there_by_their_offset(tmp_path: Path, settings: Settings) -> None:
    table = (tmp_path / "delta").as_uri()
    export(settings, "raw", table, HOUR, HOUR + HOUR_NS)
    rows = deltalake.DeltaTable(table).to_pyarrow_table()
    assert sorted(rows.filter(pc.equal(rows["topic"], TRADES))["offset"].to_pylist()) == list(range(120))


def test_what_is_no_zone_is_refused(tmp_path: Path) -> None:
    done = CliRunner().invoke(app, ["lake", "delta", "bars", "--table", tmp_path.as_uri()])
    assert "expected a zone, one of raw, clean" in str(done.exception)
