"""Feature rows against what is expected of them: bounds, nulls nothing excuses, staleness, the order of time."""

from __future__ import annotations

import math

import pyarrow as pa
import pytest

from feature_repo.contracts import SECOND_NS, FeatureRow
from feature_repo.features import FEATURE_NAMES, FEATURE_SET, FEATURES
from feature_repo.lake_layout import to_table
from feature_repo.quality import Column, examine, out_of_order
from tests.feature_repo.made_bars import minutes_then_seconds
from tests.feature_repo.made_rows import START_NS
from tests.feature_repo.test_features import pushed

FEATURE = {feature.name: feature for feature in FEATURES}


def row(
    second: int, value: float | None = 0.0, reason: str = "", lag_ns: int = 250_000_000, **changed: object,
) -> FeatureRow:
    """A row whose every feature is 0 but `return_1m`."""
    close = START_NS + second * SECOND_NS
    values = {**dict.fromkeys(FEATURE_NAMES, 0.0), "return_1m": value}
    return FeatureRow(
        symbol="BTCUSDT", ts_event=close, ts_init=close + lag_ns, source="recording", session="made",
        created=close + lag_ns, feature_set=FEATURE_SET, price=1.0, values=values,
        reasons={"return_1m": reason} if reason else {},
    ).model_copy(update=changed)


def examined(*rows: FeatureRow) -> Column:
    return examine(to_table("features", rows))["return_1m"]


def missed(*rows: FeatureRow) -> list[str]:
    return examined(*rows).missed(FEATURE["return_1m"])


def test_every_feature_declares_bounds_that_the_kernel_s_own_rows_keep() -> None:
    bars = minutes_then_seconds(1_200)
    history = pushed(bars, seconds_kept=4_000, minutes_kept=4_000)
    for second in (700, 960, 1_000, 1_200):
        values, _ = history.row(bars[-1].close_time - (1_200 - second) * SECOND_NS)
        for name, value in values.items():
            expects = FEATURE[name].expects
            assert expects.low < expects.high
            assert value is None or expects.low - 1e-9 <= value <= expects.high + 1e-9, (name, value)


def test_a_value_beyond_its_bounds_is_counted_and_one_on_them_is_not() -> None:
    assert examined(row(0, 0.2), row(1, -0.2), row(2, 0.2 + 1e-12)).outside == 0
    assert examined(row(0, 0.21), row(1, -0.3), row(2, 0.1)).outside == 2
    assert missed(row(0, 0.21)) == ["range"]


@pytest.mark.parametrize(("reason", "excused"), [
    ("warmup", True), ("requires ohlcv_1m", True), ("gap", False), ("undefined", False), ("", False),
])
def test_a_null_is_excused_by_what_the_row_could_not_know(reason: str, excused: bool) -> None:
    found = examined(row(0), row(1, None, reason))
    assert (found.excused, found.nulls) == ((1, 0) if excused else (0, 1))
    assert missed(row(0), row(1, None, reason)) == ([] if excused else ["null"])


def test_history_computed_in_bulk_does_not_spell_its_reasons() -> None:
    assert examined(row(0), row(1, None, provenance="backfill")).nulls == 0


def test_five_percent_of_nulls_are_expected_and_more_are_not() -> None:
    rows = [row(i, None if i == 7 else 0.0, "gap" if i == 7 else "") for i in range(20)]
    assert missed(*rows) == []
    assert missed(*rows[:19]) == ["null"]


def test_a_feature_that_stopped_a_minute_ago_is_stale() -> None:
    def rows(stopped: int) -> list[FeatureRow]:
        return [row(i, 0.0 if i < 2_000 else None, "" if i < 2_000 else "gap") for i in range(2_000 + stopped)]

    assert missed(*rows(60)) == []
    assert missed(*rows(62)) == ["stale"]
    assert examined(*rows(62)).age_s == 62.0


def test_nothing_known_is_null_and_not_zero() -> None:
    found = examined(row(0, None, "warmup"))
    assert (found.low, found.high, found.age_s, found.known) == (None, None, None, 0)
    assert missed(row(0, None, "warmup")) == []


def test_the_order_of_time() -> None:
    def disorder(*rows: FeatureRow) -> int:
        return out_of_order(to_table("features", rows))

    assert disorder() == 0
    assert disorder(row(2), row(0), row(1)) == 0, "the order in which rows are written says nothing"
    assert disorder(row(0, lag_ns=3 * SECOND_NS), row(1)) == 1, "known before the second before it"
    assert disorder(row(0, lag_ns=3 * SECOND_NS, provenance="reconcile"), row(1)) == 0
    assert disorder(row(0, lag_ns=3 * SECOND_NS), row(1, symbol="BTC-USD-PERP.STANDX")) == 0
    assert disorder(row(0, created=START_NS - 1)) == 1, "known before it happened"
    assert disorder(row(0, ts_event=START_NS + 5)) == 1, "off the whole second"


def test_an_empty_table_is_no_error() -> None:
    empty: pa.Table = to_table("features", [])
    assert examine(empty)["return_1m"].rows == 0
    assert math.isclose(examine(empty)["return_1m"].null_share, 0.0)
