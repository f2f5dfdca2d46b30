"""Every writer of the lake ended at many points, and watched at every point: each row once, before or after."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import duckdb
import pyarrow.parquet as pq
import pytest

from feature_repo.contracts import StoreUnavailable
from feature_repo.lake_reader import Lake, Versions
from streaming.compaction import compact
from streaming.settle import fingerprint
from tests.streaming.lake_faults import (
    EVER,
    FOLDER,
    TRADES,
    WRITERS,
    bar,
    check_kills,
    contents,
    count_points,
    each_before_or_after,
    lake_writer,
    records,
    spread,
    stop_at,
)

LEAST_POINTS = 20
TRIED = 12
"""Of all points; tests/integration/test_lake_kills.py tries more of them, by kill -9 and on S3."""
BARS_LINE = """select count(*), sum(close) from (
    select * from read_parquet('{0}/clean/btc/**/*.parquet', hive_partitioning=true)
    qualify row_number() over (partition by symbol, interval_s, close_time order by created desc) = 1)"""
RAW_LINE = """select count(*), count(distinct "offset") from (
    select * from read_parquet('{0}/raw/btc/**/*.parquet', hive_partitioning=true)
    qualify row_number() over (partition by topic, partition, "offset") = 1) where topic = '{1}'"""


def prepared(name: str, folder: Path) -> str:
    url = folder.as_uri()
    WRITERS[name].prepare(lake_writer(url, ""))
    return url


@pytest.mark.parametrize("name", WRITERS)
def test_a_writer_that_ends_at_a_point_leaves_what_a_repeat_completes_to_the_last_byte(
    name: str, tmp_path: Path,
) -> None:
    points = count_points(name, prepared(name, tmp_path / "counted"))
    assert points >= LEAST_POINTS
    tried = spread(points, TRIED)
    check_kills(name, lambda part: (tmp_path / part).as_uri(), "", tried, lambda url, at: stop_at(name, url, at))
    assert not stop_at(name, prepared(name, tmp_path / "last"), points)


@pytest.mark.parametrize("name", WRITERS)
def test_a_reader_at_any_point_of_a_writer_sees_each_hour_before_or_after(name: str, tmp_path: Path) -> None:
    url, other = prepared(name, tmp_path / "watched"), prepared(name, tmp_path / "other")
    before = contents(url, "")
    count_points(name, other)
    after, seen = contents(other, ""), []
    WRITERS[name].act(lake_writer(url, "", lambda _: seen.append(contents(url, ""))))
    assert len(seen) >= LEAST_POINTS
    for found in seen:
        each_before_or_after(before, after, found)
    assert contents(url, "") == after


class Interrupted(Lake):
    """A lake whose files change right after the first time that they were listed."""

    def meanwhile(self, act: Callable[[], None]) -> Interrupted:
        object.__setattr__(self, "acts", [act])
        return self

    def _versions(self, folder: str) -> Versions:
        found = super()._versions(folder)
        acts: list[Callable[[], None]] = self.acts  # type: ignore[attr-defined]
        if found and acts:
            acts.pop()()
        return found


@pytest.mark.parametrize("name", ["merge", "compaction", "retention"])
def test_a_reader_whose_files_go_after_it_has_listed_them_reads_what_took_their_place(
    name: str, tmp_path: Path,
) -> None:
    url, other = prepared(name, tmp_path / "a"), prepared(name, tmp_path / "b")
    count_points(name, other)
    lake = Interrupted.open(url)
    assert isinstance(lake, Interrupted)
    lake.meanwhile(lambda: WRITERS[name].act(lake_writer(url, "")))
    read: Callable[[Lake], Any] = (
        (lambda at: at.read("clean", "BTCUSDT", *EVER)) if name == "merge" else
        (lambda at: at.read_raw("btc", TRADES, *EVER)))
    assert read(lake).equals(read(Lake.open(other)))


@pytest.mark.parametrize("name", ["compaction", "merge"])
def test_duckdb_at_any_point_of_a_merge_counts_each_row_once(name: str, tmp_path: Path) -> None:
    url, counts = prepared(name, tmp_path), []
    line = (RAW_LINE if name == "compaction" else BARS_LINE).format(tmp_path, TRADES)
    with duckdb.connect() as connection:
        def count(_point: int) -> None:
            counts.append(connection.execute(line).fetchone())

        WRITERS[name].act(lake_writer(url, "", count))
    assert set(counts) == ({(120, 120)} if name == "compaction" else {(19, 19 * 100.0 + 10)})


def test_a_reader_beside_a_busy_owner_never_misses_a_row(tmp_path: Path) -> None:
    """Batches, compactions and repeats without pause in another thread; the reader's rows only ever grow."""
    url = tmp_path.as_uri()
    writer = lake_writer(url, "")
    writer.write_batch(records(TRADES, [bar(0)], 0, bar(0).ts_event))

    def work() -> None:
        for batch in range(1, 60):
            writer.write_batch(records(TRADES, [bar(batch)], batch, bar(batch).ts_event))
            if batch % 7 == 0:
                compact(writer, "raw", f"raw/btc/{FOLDER}")

    seen, refused = [1], list[str]()
    with ThreadPoolExecutor(1) as pool:
        owner = pool.submit(work)
        while not owner.done():
            try:
                offsets = Lake.open(url).read_raw("btc", TRADES, *EVER)["offset"].to_pylist()
            except StoreUnavailable as error:
                refused.append(str(error))  # it says so, it never gives a part
                continue
            assert offsets == list(range(len(offsets)))
            seen.append(len(offsets))
    owner.result()  # raises what the owner did
    assert seen == sorted(seen)
    assert all("changed each of" in reason for reason in refused)
    compact(writer, "raw", f"raw/btc/{FOLDER}")
    assert [path.name for path in tmp_path.rglob("*.parquet")] == [f"{TRADES}-0.parquet"]
    assert pq.read_metadata(next(tmp_path.rglob("*.parquet"))).num_rows == 60


def test_a_raw_hour_has_the_same_bytes_in_whatever_batches_it_came_and_was_compacted(tmp_path: Path) -> None:
    found = []
    for size in (1, 7, 50):
        writer = lake_writer((tmp_path / str(size)).as_uri(), "")
        for start in range(0, 50, size):
            batch = [bar(i) for i in range(start, min(start + size, 50))]
            writer.write_batch(records(TRADES, list(batch), start, bar(0).ts_event))
            if start % 21 == 0:
                compact(writer, "raw", f"raw/btc/{FOLDER}")
        compact(writer, "raw", f"raw/btc/{FOLDER}")
        found.append(fingerprint(writer))
    assert found[0] == found[1] == found[2]


def test_a_batch_that_comes_again_after_its_hour_was_compacted_is_merged_once_more(tmp_path: Path) -> None:
    writer = lake_writer(prepared("compaction", tmp_path), "")
    compact(writer, "raw", f"raw/btc/{FOLDER}")
    whole = fingerprint(writer)
    WRITERS["compaction"].prepare(writer)
    assert contents(tmp_path.as_uri(), "")
    assert compact(writer, "raw", f"raw/btc/{FOLDER}") == 24
    assert fingerprint(writer) == whole
    assert compact(writer, "raw", f"raw/btc/{FOLDER}") == 0
