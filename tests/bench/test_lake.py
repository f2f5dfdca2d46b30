"""The lake's bench writes what it says it writes, and measures both zones."""

from __future__ import annotations

from tests.bench import lake


def test_every_row_is_in_the_lake_and_both_zones_have_a_rate() -> None:
    found = lake.run(records=2 * lake.BATCH, hours=2)
    raw, features = found["zones"]["raw"], found["zones"]["features"]
    assert raw["rows"] == 2 * lake.BATCH // (lake.PER_SECOND + 1) * (lake.PER_SECOND + 1)
    assert features["rows"] == 2 * 3600
    for zone in (raw, features):
        assert zone["mb_s"] > 0
        assert zone["plain_mb_s"] > 0
        assert 0 < zone["parquet_mb"] < 2 * zone["mb"]
