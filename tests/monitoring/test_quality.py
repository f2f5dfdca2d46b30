"""Rows are checked on their way into the lake, and the lake's rows reported: counted, never altered."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from prometheus_client import REGISTRY

from feature_repo.contracts import FeatureRow
from feature_repo.features import FEATURE_NAMES
from feature_repo.lake_layout import hour_folder, to_table
from feature_repo.lake_reader import Lake
from feature_repo.slow_features import SLOW_VIEWS, VIEW_OF, rows
from monitoring.quality import report, text
from streaming import lake_quality
from streaming.compaction import compact
from streaming.lake import LakeWriter
from tests.feature_repo.made_observations import made_fear_greed
from tests.feature_repo.test_quality import START_NS, row


def counted(feature: str, rule: str, view: str = "features") -> float:
    labels = {"view": view, "feature": feature, "rule": rule}
    return REGISTRY.get_sample_value("candlewick_feature_expectations_missed_total", labels) or 0.0


def checked(name: str, view: str = "features") -> float:
    labels = {"view": view} if name == "checked" else {}
    return REGISTRY.get_sample_value(f"candlewick_feature_rows_{name}_total", labels) or 0.0


def written(folder: Path, rows: list[FeatureRow]) -> Lake:
    LakeWriter.open(folder.as_uri()).upsert("features", rows)
    return Lake.open(folder.as_uri())


def test_a_row_that_misses_its_expectations_is_counted_and_written_as_it_is(tmp_path: Path) -> None:
    before = counted("return_1m", "range"), counted("return_1m", "null"), checked("checked"), checked("out_of_order")
    wild, gap = row(0, 7.0), row(1, None, "gap")
    lake = written(tmp_path, [wild, gap, row(2, lag_ns=1)])
    now = counted("return_1m", "range"), counted("return_1m", "null"), checked("checked"), checked("out_of_order")
    assert [b - a for a, b in zip(before, now, strict=True)] == [1, 1, 3, 0]
    kept = lake.read("features", "BTCUSDT", 0, 2**62)
    assert kept["return_1m"].to_pylist() == [7.0, None, 0.0]


def test_the_report_names_the_feature_and_what_it_misses(tmp_path: Path) -> None:
    found = report(written(tmp_path, [row(i, 7.0 if i == 3 else 0.0) for i in range(60)]), "BTCUSDT", hours=1)
    assert not found["passed"]
    assert found["missed"] == {"return_1m": ["range"]}
    assert found["rows"] == 60
    assert found["features"]["return_1m"]["high"] == 7.0
    assert set(found["features"]) == set(FEATURE_NAMES)
    assert "return_1m" in text([found])
    assert "range" in text([found])


def test_only_the_newest_hours_count(tmp_path: Path) -> None:
    late = row(2 * 3600)
    found = report(written(tmp_path, [row(0, 7.0), late]), "BTCUSDT", hours=1)
    assert (found["rows"], found["passed"], late.ts_event > START_NS) == (1, True, True)


def test_disorder_fails_the_report(tmp_path: Path) -> None:
    found = report(written(tmp_path, [row(0, lag_ns=3_000_000_000), row(1)]), "BTCUSDT", hours=1)
    assert found["missed"] == {"time": ["order"]}


def test_a_lake_without_rows_is_no_pass(tmp_path: Path) -> None:
    assert report(Lake.open(tmp_path.as_uri()), "BTCUSDT", hours=1)["passed"] is False


def test_a_slow_row_that_misses_its_expectations_fails_the_report(tmp_path: Path) -> None:
    told = made_fear_greed(20)
    lake, writer = written(tmp_path, [row(i) for i in range(60)]), LakeWriter.open(tmp_path.as_uri())
    sound = rows(VIEW_OF["fear_greed"], "BTCUSDT", told, told)
    writer.upsert("fear_greed", sound)
    found = report(lake, "BTCUSDT", hours=1)
    assert (found["passed"], found["slow"]["fear_greed"]["rows"], found["slow"]["macro"]["rows"]) == (True, 20, 0)
    assert found["slow"]["fear_greed"]["features"]["fear_greed_change_7d"]["excused"] == 7
    values = {"fear_greed_1d": 140.0, "fear_greed_change_7d": 1.0}
    wild = replace(sound[-1], created=sound[-1].created + 1, values=values)
    gaps = [replace(each, created=each.created + 2, values=dict.fromkeys(each.values), reasons={"fear_greed_1d": "gap"})
            for each in sound[-2:]]
    writer.upsert("fear_greed", [wild, *gaps])
    found = report(lake, "BTCUSDT", hours=1)
    assert not found["passed"]
    assert found["slow"]["fear_greed"]["missed"] == {
        "fear_greed_1d": ["range", "null"], "fear_greed_change_7d": ["null"]}
    assert "BTCUSDT fear_greed: 23 rows" in text([found])


def test_rows_that_others_add_are_counted_where_they_are_added_and_where_the_owner_merges_them(tmp_path: Path) -> None:
    lake = written(tmp_path, [row(0)])
    writer, wild = LakeWriter(lake.filesystem, lake.root), [row(1, 7.0), row(2, None, "gap")]

    def now() -> tuple[float, ...]:
        return counted("return_1m", "range"), counted("return_1m", "null"), checked("checked")

    before, told = now(), lake_quality.told()
    writer.add_revision("features", wild, "reconcile")
    writer.add_rows("features", to_table("features", [row(3, 8.0)]), "backfill")
    added = now()
    assert [b - a for a, b in zip(before, added, strict=True)] == [2, 1, 3]
    assert lake_quality.since(told) == {"features return_1m range": 2, "features return_1m null": 1}
    compact(writer, "features", hour_folder("features", "BTCUSDT", row(0).ts_event))
    assert [b - a for a, b in zip(added, now(), strict=True)] == [2, 1, 3]


def test_slow_rows_are_counted_on_every_way_in(tmp_path: Path) -> None:
    writer = LakeWriter.open(tmp_path.as_uri())
    told = made_fear_greed(20)
    sound = rows(VIEW_OF["fear_greed"], "BTCUSDT", told, told)
    last = sound[-1]
    wild = replace(last, created=last.created + 1, values={**last.values, "fear_greed_1d": 140.0})
    gap = replace(last, created=last.created + 2, values=dict.fromkeys(last.values), reasons={"fear_greed_1d": "gap"})

    def now() -> tuple[float, ...]:
        return (counted("fear_greed_1d", "range", "fear_greed"), counted("fear_greed_1d", "null", "fear_greed"),
                counted("fear_greed_change_7d", "null", "fear_greed"), checked("checked", "fear_greed"))

    before = now()
    writer.upsert("fear_greed", sound)
    assert [b - a for a, b in zip(before, now(), strict=True)] == [0, 0, 0, 20]
    writer.upsert("fear_greed", [wild])
    writer.add_revision("fear_greed", [gap], "backfill")
    assert [b - a for a, b in zip(before, now(), strict=True)] == [1, 1, 1, 22]


def test_every_expectation_has_a_series_before_it_is_missed() -> None:
    for view, names in (("features", FEATURE_NAMES), *((view.name, view.names) for view in SLOW_VIEWS)):
        for name in names:
            for rule in ("range", "null"):
                labels = {"view": view, "feature": name, "rule": rule}
                assert REGISTRY.get_sample_value("candlewick_feature_expectations_missed_total", labels) is not None
