"""The history lake is replaced so that a kill leaves each hour's old file or its new one, and a repeat ends it."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa

from feature_repo.lake_layout import filesystem, hour_folder, rev_file, to_table
from tests.feature_repo.made_rows import made_row
from tests.streaming.lake_faults import Dying, Hook, Killed
from training.known import replace_files

HOURS = 3


def files(version: str, seed: int) -> list[tuple[str, pa.Table]]:
    """One file an hour."""
    rows = [made_row(3600 * hour, seed=seed) for hour in range(HOURS)]
    return [(f"{hour_folder('features', row.symbol, row.ts_event)}/{rev_file('backfill', version)}",
             to_table("features", [row])) for row in rows]


OLD, NEW = files("00000000000a", 0), files("00000000000b", 1)


def lying(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def names(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*.parquet")}


def replaced(folder: Path, made: list[tuple[str, pa.Table]], hook: Hook = lambda _: None) -> tuple[int, int]:
    real, root = filesystem(folder.as_uri())
    return replace_files(made, Dying(real, hook), root, lambda: None)


def test_what_another_kernel_left_goes_when_all_that_takes_its_place_is_there(tmp_path: Path) -> None:
    assert replaced(tmp_path, OLD) == (HOURS, 0)
    assert replaced(tmp_path, OLD) == (0, 0)
    seen: list[set[str]] = []
    assert replaced(tmp_path, NEW, lambda _: seen.append(names(tmp_path))) == (HOURS, HOURS)
    old, new = {path for path, _ in OLD}, {path for path, _ in NEW}
    assert len(seen) >= 10 * HOURS
    assert all(old <= found or new <= found for found in seen)
    assert names(tmp_path) == set(lying(tmp_path)) == new


def test_killed_at_any_point_a_repeat_leaves_what_an_undisturbed_run_does(tmp_path: Path) -> None:
    replaced(tmp_path / "whole", NEW)
    whole, point = lying(tmp_path / "whole"), 0
    while True:
        folder = tmp_path / str(point)
        replaced(folder, OLD)

        def die(at: int, last: int = point) -> None:
            if at >= last:  # the two threads that write both end
                raise Killed

        try:
            replaced(folder, NEW, die)
        except Killed:
            replaced(folder, NEW)
            assert lying(folder) == whole, point
            point += 1
        else:
            break
    assert point >= 10 * HOURS


def test_a_file_that_a_power_cut_left_empty_is_written_again(tmp_path: Path) -> None:
    replaced(tmp_path, OLD)
    (tmp_path / OLD[1][0]).write_bytes(b"")
    assert replaced(tmp_path, OLD) == (1, 0)
    assert all(lying(tmp_path).values())
