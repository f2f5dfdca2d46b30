"""Rows are checked on their way into the lake, and the lake's rows reported: counted, never altered."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from prometheus_client import REGISTRY

from feature_repo.contracts import FeatureRow
from feature_repo.features import FEATURE_NAMES
from feature_repo.lake_reader import Lake
from feature_repo.slow_features import VIEW_OF, rows
from monitoring.quality import report, text
from streaming.lake import LakeWriter
from tests.feature_repo.made_observations import made_fear_greed
from tests.feature_repo.test_quality import START_NS, row


def counted(feature: str, rule: str) -> float:
    labels = {"feature": feature, "rule": rule}
    return REGISTRY.get_sample_value("candlewick_feature_expectations_missed_total", labels) or 0.0


def checked(name: str) -> float:
    return REGISTRY.get_sample_value(f"candlewick_feature_rows_{name}_total") or 0.0


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
