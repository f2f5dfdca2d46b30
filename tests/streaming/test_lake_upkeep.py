"""The owner keeps the lake tidy, a little at a time, and alone: hours become one file, old ones go."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import CollectorRegistry
from typer.testing import CliRunner

from candlewick import app
from feature_repo.contracts import DAY_NS, HOUR_NS, StoreUnavailable
from feature_repo.lake_reader import Lake
from feature_repo.settings import Settings
from streaming.lake import LakeWriter
from streaming.lake_owner import owner
from streaming.lake_upkeep import EVERY_NS, OVER_NS, LakeMetrics, Upkeep, keep_days
from tests.streaming.lake_faults import EVER, FOLDER, HOUR, TRADES, WRITERS, bar, lake_writer, records


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.rglob("*.*") if path.is_file())


def test_a_raw_hour_is_merged_ten_minutes_after_its_end_and_found_five_minutes_later_at_most(tmp_path: Path) -> None:
    writer = lake_writer(tmp_path.as_uri(), "")
    WRITERS["compaction"].prepare(writer)
    now = [HOUR + HOUR_NS + OVER_NS - 1]
    upkeep = Upkeep(writer, {}, lambda: now[0])
    upkeep()
    assert len(names(tmp_path)) == 26
    now[0] += EVERY_NS - 1
    upkeep()
    assert len(names(tmp_path)) == 26
    now[0] += 1
    upkeep()
    assert names(tmp_path) == ["crypto.btc.orderbook-0.parquet", "crypto.btc.trades-0.parquet"]


def test_a_call_does_some_megabytes_and_the_next_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
) -> None:
    writer = lake_writer(tmp_path.as_uri(), "")
    for hour in range(3):
        writer.add_revision("clean", [bar(3600 * hour + 1)], "backfill")
    monkeypatch.setattr("streaming.lake_upkeep.BYTES_A_CALL", 1)
    upkeep, left = Upkeep(writer, {}, lambda: HOUR), []
    for _ in range(4):
        upkeep()
        left.append(sum(name.startswith("rev-") for name in names(tmp_path)))
    assert left == [2, 1, 0, 0]


def test_an_hour_goes_when_it_is_older_than_its_zone_is_kept_and_other_zones_stay(tmp_path: Path) -> None:
    writer = lake_writer(tmp_path.as_uri(), "")
    WRITERS["compaction"].prepare(writer)
    writer.write_batch(records(TRADES, [bar(0)], 900, HOUR + HOUR_NS))
    writer.upsert("clean", [bar(1)])
    registry = CollectorRegistry()
    upkeep = Upkeep(writer, {"raw": 1}, lambda: HOUR + HOUR_NS + DAY_NS, LakeMetrics(registry))
    upkeep()
    assert not (tmp_path / "raw" / "btc" / FOLDER).exists()
    assert names(tmp_path / "raw") == ["crypto.btc.trades-0.parquet"]
    assert names(tmp_path / "clean") == ["bars.parquet"]
    assert registry.get_sample_value("candlewick_lake_expired_hours_total", {"zone": "raw"}) == 1


@dataclass
class Raced:
    """A file system on which `add` happens just before a date's folder is removed."""

    real: Any
    type_name: str
    add: Callable[[], object]

    def delete_dir(self, path: str) -> None:
        if path.rsplit("/", 1)[-1].startswith("date="):
            self.add()
        self.real.delete_dir(path)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.real, name)


@pytest.mark.parametrize("kind", ["local", "s3"])
def test_an_hour_that_others_add_while_its_date_is_removed_stays(tmp_path: Path, kind: str) -> None:
    other, added = lake_writer(tmp_path.as_uri(), ""), list[str]()
    other.upsert("clean", [bar(-3600)])
    files = Raced(other.filesystem, kind, lambda: added.extend(other.add_revision("clean", [bar(1)], "backfill")))
    Upkeep(LakeWriter(files, other.root), {"clean": 1}, lambda: HOUR + DAY_NS).all_expired()
    assert [str(path) for path in tmp_path.rglob("*.parquet")] == added


@pytest.mark.parametrize("kind", ["local", "s3"])
def test_a_date_goes_with_its_last_hour(tmp_path: Path, kind: str) -> None:
    writer = lake_writer(tmp_path.as_uri(), "")
    writer.upsert("clean", [bar(-3600), bar(1)])
    files = Raced(writer.filesystem, kind, lambda: None)
    Upkeep(LakeWriter(files, writer.root), {"clean": 1}, lambda: HOUR + HOUR_NS + DAY_NS).all_expired()
    assert list((tmp_path / "clean" / "btc").iterdir()) == []


def test_the_figures_are_those_of_the_files(tmp_path: Path) -> None:
    writer = lake_writer(tmp_path.as_uri(), "")
    WRITERS["merge"].prepare(writer)
    registry = CollectorRegistry()
    Upkeep(writer, {}, lambda: HOUR, LakeMetrics(registry))()

    def told(name: str) -> float | None:
        return registry.get_sample_value(f"candlewick_lake_{name}", {"zone": "clean"})

    # As they were listed, before the ten revisions were merged.
    assert (told("files"), told("waiting_files"), told("merged_files_total")) == (11, 10, 10)
    assert told("oldest_hour_timestamp_seconds") == HOUR // 10**9
    assert (registry.get_sample_value("candlewick_lake_free_bytes") or 0) > 0
    survey = Upkeep(writer, {}, lambda: HOUR).survey().as_dict()["clean"]
    assert (survey["files"], survey["waiting"]) == (1, 0)
    assert survey["bytes"] == next(tmp_path.rglob("bars.parquet")).stat().st_size


def test_what_fails_is_told_and_tried_again_and_keeps_nothing_else_waiting(tmp_path: Path) -> None:
    writer, now = lake_writer(tmp_path.as_uri(), ""), [HOUR]
    WRITERS["merge"].prepare(writer)
    writer.add_revision("clean", [bar(3601)], "backfill")
    (tmp_path / "clean" / "strange.parquet").write_bytes(b"not ours")
    broken = next((tmp_path / "clean" / "btc" / FOLDER).glob("rev-*.parquet"))
    body = broken.read_bytes()
    broken.write_bytes(b"half")
    registry = CollectorRegistry()
    upkeep = Upkeep(writer, {}, lambda: now[0], LakeMetrics(registry))
    upkeep()
    assert registry.get_sample_value("candlewick_lake_upkeep_failures_total") == 1
    assert len(list(tmp_path.rglob("rev-*.parquet"))) == 10, "the next hour's was merged"
    broken.write_bytes(body)
    now[0] += EVERY_NS
    upkeep()
    assert names(tmp_path) == ["bars.parquet", "bars.parquet", "strange.parquet"]


def test_temporary_files_that_nobody_will_finish_go_and_young_ones_stay(tmp_path: Path) -> None:
    writer = lake_writer(tmp_path.as_uri(), "")
    writer.upsert("clean", [bar(1)])
    torn = next(tmp_path.rglob("bars.parquet")).with_name("rev-x.parquet.77.tmp")
    torn.write_bytes(b"half")
    written = torn.stat().st_mtime_ns
    Upkeep(writer, {}, lambda: written + HOUR_NS).all_due()
    assert torn.exists()
    Upkeep(writer, {}, lambda: written + HOUR_NS + 1).all_due()
    assert names(tmp_path) == ["bars.parquet"]


@pytest.mark.parametrize("wrong", ["raw", "raw=", "raw=0", "raw=x", "bars=3"])
def test_a_retention_that_says_nothing_is_refused(wrong: str) -> None:
    with pytest.raises(ValueError, match="lake_retention: expected one of raw, clean"):
        keep_days([wrong])


def test_a_lake_has_one_owner_at_a_time(tmp_path: Path) -> None:
    settings = Settings(run_dir=tmp_path / "run", lake_url=(tmp_path / "lake").as_uri())
    waited: list[float] = []
    with owner(settings), pytest.raises(StoreUnavailable, match="another process owns it"), \
            owner(settings, 2.0, waited.append):
        pass
    assert len(waited) == 4
    with owner(replace(settings, lake_url="s3://bucket/lake")), owner(settings):
        assert (tmp_path / "run" / "lake.owner").exists()


def test_the_verbs_show_merge_and_remove(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    url = (tmp_path / "lake").as_uri()
    writer = lake_writer(url, "")
    WRITERS["compaction"].prepare(writer)
    WRITERS["merge"].prepare(writer)
    for name, value in {"RUN_DIR": str(tmp_path), "LAKE_URL": url, "LAKE_RETENTION": "raw=30"}.items():
        monkeypatch.setenv(f"CANDLEWICK_{name}", value)

    def verb(*words: str, code: int = 0) -> dict:
        done = CliRunner().invoke(app, ["lake", *words, "--json"])
        assert done.exit_code == code, done.output
        return json.loads(done.stdout) if done.exit_code == 0 else {}

    shown = verb("status")
    assert (shown["due_hours"], shown["expired_hours"]) == (2, 1)
    assert (shown["zones"]["raw"]["files"], shown["zones"]["raw"]["waiting"]) == (26, 24)
    assert "24 waiting" in CliRunner().invoke(app, ["lake", "status"]).output
    with owner(Settings(run_dir=tmp_path, lake_url=url)):
        verb("compact", code=1)
    merged = verb("compact")["merged"]
    assert (merged["raw"], merged["clean"]) == (24, 10)
    assert verb("retain", "--dry-run")["expired"]["raw"]["hours"] == 1
    assert Lake.open(url).read_raw("btc", TRADES, *EVER).num_rows == 120
    assert verb("retain")["expired"]["raw"]["hours"] == 1
    assert Lake.open(url).read_raw("btc", TRADES, *EVER).num_rows == 0
