"""The lake's layout and reader: what is written comes back, each row once, what was known stays known."""

from pathlib import Path

import pyarrow.parquet as pq
import pytest

from bentos.fallback import Decision
from bentos.predictor import safe_mode
from feature_repo.contracts import HOUR_NS, SECOND_NS, Message, StoreUnavailable
from feature_repo.features import FEATURE_NAMES
from feature_repo.lake_layout import ZONES, hour_folder, identity, merge, to_table, unflatten, zone_schema
from feature_repo.lake_reader import Lake
from tests.feature_repo.made_rows import START_NS, made_context, made_row, write_lake

END_NS = START_NS + HOUR_NS


def test_a_feature_row_comes_back_equal() -> None:
    rows = [made_row(second) for second in range(20)]
    assert [unflatten("features", record) for record in to_table("features", rows).to_pylist()] == rows


def test_created_is_rounded_up_so_that_nothing_is_known_early() -> None:
    record = to_table("features", [made_row(0, lag_ns=1)]).to_pylist()[0]
    assert record["created_timestamp"].microsecond == 1
    assert record["event_timestamp"].microsecond == 0


def test_the_hour_is_that_of_the_close() -> None:
    assert hour_folder("features", "BTCUSDT", START_NS) == "features/btc/date=2024-08-08/hour=23"
    assert hour_folder("features", "BTCUSDT", START_NS + 60 * SECOND_NS) == "features/btc/date=2024-08-09/hour=00"


@pytest.mark.parametrize("zone", ZONES)
def test_identities_are_columns_of_their_zone(zone: str) -> None:
    assert set(identity(zone)) <= set(zone_schema(zone).names)  # type: ignore[arg-type]


def test_merging_keeps_each_identity_once_and_every_revision() -> None:
    first, second = made_row(0), made_row(1)
    revised = made_row(0, lag_ns=60 * SECOND_NS, provenance="reconcile")
    merged = merge("features", [to_table("features", [second, first]), to_table("features", [first, revised])])
    assert [unflatten("features", record) for record in merged.to_pylist()] == [first, revised, second]


def test_a_reader_sees_rows_and_revisions_of_its_symbol_and_times(tmp_path: Path) -> None:
    revised = made_row(5, lag_ns=60 * SECOND_NS, provenance="reconcile")
    rows = [made_row(second) for second in range(120)]
    write_lake(tmp_path.as_uri(), "features", [*rows, revised, made_row(5, "BTCUSDC")])
    found = Lake.open(tmp_path.as_uri()).read("features", "BTCUSDT", rows[5].ts_event, rows[70].ts_event)
    assert [unflatten("features", record) for record in found.to_pylist()] == [rows[5], revised, *rows[6:71]]


def test_of_a_span_whole_minutes_alone_can_be_read(tmp_path: Path) -> None:
    rows = [made_row(second) for second in range(150)]
    write_lake(tmp_path.as_uri(), "features", rows)
    lake = Lake.open(tmp_path.as_uri())
    found = lake.rows("features", ["BTCUSDT"], START_NS, END_NS, ["ts_event"], every_ns=60 * SECOND_NS)
    whole = [row.ts_event for row in rows if row.ts_event % (60 * SECOND_NS) == 0]
    assert sorted(found["ts_event"].to_pylist()) == whole != []


def test_a_file_without_a_newer_feature_reads_as_null(tmp_path: Path) -> None:
    [path] = write_lake(tmp_path.as_uri(), "features", [made_row(0)])
    pq.write_table(pq.read_table(path).drop_columns([FEATURE_NAMES[3]]), path)
    found = Lake.open(tmp_path.as_uri()).read("features", "BTCUSDT", START_NS, END_NS)
    assert found[FEATURE_NAMES[3]].to_pylist() == [None]
    assert found[FEATURE_NAMES[4]].to_pylist() == [made_row(0).values[FEATURE_NAMES[4]]]


def test_predictions_from_before_a_field_was_declared_have_its_default_and_are_merged_with_new_ones(
    tmp_path: Path,
) -> None:
    made = [safe_mode("BTCUSDT", None, None, Decision(5, ("made",)), START_NS + at * SECOND_NS) for at in (0, 1)]
    new = made[1].model_copy(update={"expected_edge_15m_bps": 30.0, "should_trade_15m": True})
    old = to_table("predictions", made[:1]).drop_columns(["expected_edge_15m_bps", "should_trade_15m"])
    path = tmp_path / hour_folder("predictions", "BTCUSDT", START_NS) / "predictions.parquet"
    path.parent.mkdir(parents=True)
    pq.write_table(old, path)

    def read() -> list[Message]:
        found = Lake.open(tmp_path.as_uri()).read("predictions", "BTCUSDT", START_NS, END_NS)
        return [unflatten("predictions", record) for record in found.to_pylist()]

    assert read() == made[:1]
    pq.write_table(merge("predictions", [pq.read_table(path), to_table("predictions", [new])]), path)
    assert read() == [made[0], new]
    assert pq.read_table(path)["should_trade_15m"].to_pylist() == [False, True]


def test_the_newest_row_is_found_by_the_newest_hour_that_has_one(tmp_path: Path) -> None:
    rows = [made_row(second) for second in (0, 61, 30)]
    write_lake(tmp_path.as_uri(), "features", [*rows, made_row(4_000, "BTCUSDC")])
    lake = Lake.open(tmp_path.as_uri())
    assert lake.newest("features", "BTCUSDT") == rows[1].ts_event
    assert lake.newest("features", "ETHUSDT") is None
    assert [hour // HOUR_NS for hour in lake.hours("features", "btc")] == [START_NS // HOUR_NS + n for n in (2, 1, 0)]


def test_unfinished_files_are_not_read(tmp_path: Path) -> None:
    [path] = write_lake(tmp_path.as_uri(), "features", [made_row(0)])
    Path(path).with_suffix(".parquet.tmp").write_bytes(b"half")
    assert Lake.open(tmp_path.as_uri()).read("features", "BTCUSDT", START_NS, END_NS).num_rows == 1


def test_an_empty_lake_has_no_rows_but_all_columns(tmp_path: Path) -> None:
    lake = Lake.open(tmp_path.as_uri())
    assert lake.read("features", "BTCUSDT", START_NS, END_NS).schema == zone_schema("features")
    assert lake.rows("context", None, 0, END_NS, ["symbol", "created"]).num_rows == 0


def test_an_hour_that_changes_while_it_is_read_is_read_again(tmp_path: Path) -> None:
    [path] = write_lake(tmp_path.as_uri(), "context", [made_context(0)])
    folder, seen = Path(path).parent, []

    def read(files: list[str]) -> list[str]:
        """The first time the file is replaced by one of another name meanwhile."""
        seen.append([Path(file).name for file in files])
        if len(seen) == 1:
            Path(path).rename(folder / "other.parquet")
        return pq.read_table(files[0]).column_names and seen[-1]

    assert Lake.open(tmp_path.as_uri())._snapshot(str(folder), read) == ["other.parquet"]
    assert seen == [[Path(path).name], ["other.parquet"]]


@pytest.mark.parametrize("minute", [61, 0])
def test_a_day_is_read_though_its_running_hour_is_replaced_all_the_time(tmp_path: Path, minute: int) -> None:
    """The newest hour, or shortly after midnight the last of the day before, changes whenever another is read."""
    made = [made_context(at) for at in (61, 1, 0, -60, -1440, -1500)]  # two hours of each of three days
    write_lake(tmp_path.as_uri(), "context", made)
    running = tmp_path / hour_folder("context", "BTCUSDT", made_context(minute).ts_event)
    [owned] = running.iterdir()
    seen: list[str] = []

    def read(files: list[str]) -> list[str]:
        if any(Path(file).parent != running for file in files):
            owned.write_bytes(owned.read_bytes() + b" ")
        seen.extend(files)
        return files

    parts = Lake.open(tmp_path.as_uri())._snapshots("context", "btc", 0, 2**62, read)
    assert [file for part in parts for file in part] == seen
    assert len(set(seen)) == len(seen) == len(made)


def test_a_folder_that_never_stands_still_is_not_read(tmp_path: Path) -> None:
    [path] = write_lake(tmp_path.as_uri(), "context", [made_context(0)])
    lake = Lake.open(tmp_path.as_uri())
    with pytest.raises(StoreUnavailable, match="changed each of 10 times"):
        lake._snapshot(str(Path(path).parent), lambda files: Path(path).write_bytes(Path(files[0]).read_bytes() + b" "))


def test_a_damaged_lake_is_unavailable_not_empty(tmp_path: Path) -> None:
    [path] = write_lake(tmp_path.as_uri(), "features", [made_row(0)])
    Path(path).write_bytes(b"not parquet")
    with pytest.raises(StoreUnavailable):
        Lake.open(tmp_path.as_uri()).read("features", "BTCUSDT", START_NS, END_NS)
