"""The as-of bench asks the same of ours and of the bare join, and says when a store gives up."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

from tests.bench import asof

pytestmark = [
    pytest.mark.filterwarnings("ignore::RuntimeWarning", "ignore::DeprecationWarning", "ignore::FutureWarning"),
    pytest.mark.timeout(600),  # Feast's libraries are imported on the way
]


def test_a_small_case_is_answered_by_both_and_told(tmp_path: Path) -> None:
    asof.make(asof.Case(labels=200, rows=2_000, views=2, symbols=2), tmp_path)
    told = asof.ask(tmp_path, "asof", views=2, rounds=2, raw=True)
    assert told["rows"] == 200
    assert 0 < told["known"] <= 200
    assert told["of_raw"] > 0
    bare = asof.bare_join(tmp_path, pd.read_parquet(tmp_path / "labels.parquet"), 2)
    assert len(bare) == 200
    assert bare.shape[1] == 3 + 2 * len(asof.FEATURES)


@pytest.mark.parametrize(("limit", "value", "told"), [
    ("GIVE_UP_S", 0.01, "no answer within 0.01 s"), ("GIVE_UP_MB", 5, "no answer within 5 MB"),
])
def test_a_store_that_does_not_answer_within_time_or_memory_is_told_as_given_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, limit: str, value: float, told: str,
) -> None:
    monkeypatch.setattr(asof, limit, value)
    found = asof.child(tmp_path, asof.Case(labels=1, rows=1), "dask", 1)
    assert found["gave_up"] == told
    assert 0 <= found["after_s"] < 60
    assert found["added_mb"] > 1 or limit == "GIVE_UP_S"


def test_a_store_that_fails_says_why(tmp_path: Path) -> None:
    found = asof.child(tmp_path / "none", asof.Case(labels=1, rows=1), "dask", 1)
    assert set(found) == {"failed"}, "nothing to make a ratio of"
    assert "exit 1" in found["failed"]
