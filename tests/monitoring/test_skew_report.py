"""The certificate's counts, distances and page: what differs is counted once under its feature, and shown as text."""

from __future__ import annotations

import json
import math
import re

import pytest

from feature_repo.features import FORECAST_BAR
from feature_repo.views import SEQUENCE_VIEW
from monitoring.parity.page import page
from monitoring.parity.raw import read_span
from monitoring.parity.report import MOST_REVISIONS, Report, Tally, difference, ulps
from monitoring.parity.summary import text

SECOND = 1_000_000_000
CLOSE = 1_723_161_600 * SECOND


@pytest.mark.parametrize(("expected", "found", "absolute", "relative", "steps"), [
    (1.0, math.nextafter(1.0, 2.0), 2.0**-52, 2.0**-52, 1),
    (-1.0, 1.0, 2.0, 2.0, 2 * 0x3FF0_0000_0000_0000),
    (0.0, 5e-324, 5e-324, None, 1),
    (None, 1.0, None, None, None),
    ("live", "recording", None, None, None),
])
def test_how_far_two_cells_are_apart(
    expected: object, found: object, absolute: float | None, relative: float | None, steps: int | None,
) -> None:
    told = difference("lake", "return_1m", CLOSE, expected, found)
    assert (told.absolute, told.relative, told.ulp) == (absolute, relative, steps)


def test_both_zeros_are_one_place_and_still_not_the_same_bits() -> None:
    report = Report("BTCUSDT")
    report.compare("lake", CLOSE, {"return_1m": 0.0}, {"return_1m": -0.0})
    assert ulps(0.0, -0.0) == 0
    assert report.mismatches == 1


def test_counts_go_to_the_feature_and_its_view_and_the_worst_is_kept() -> None:
    report = Report("BTCUSDT")
    one, two = math.nextafter(0.5, 1.0), math.nextafter(math.nextafter(0.5, 1.0), 1.0)
    for second, found in enumerate((0.5, one, two, one)):
        at = CLOSE + second * SECOND
        report.compare("lake", at, {"return_1m": 0.5, "spread_1s": None}, {"return_1m": found, "spread_1s": math.nan})
    assert report.features["spread_1s"] == Tally(compared=4, known=0)
    tally = report.features["return_1m"]
    assert (tally.compared, tally.known, tally.matched, tally.mismatches) == (4, 4, 1, 3)
    assert tally.worst is not None
    assert (tally.worst.ulp, tally.worst.second, tally.close_ns) == (2, "2024-08-09T00:00:02Z", CLOSE + 2 * SECOND)
    assert report.by_view() == {"price_features": (4, 3), "book_features": (4, 0)}
    assert (report.cells, report.known, report.passed) == (8, 4, False)


def test_a_value_where_null_was_expected_is_worse_than_any_distance() -> None:
    report = Report("BTCUSDT")
    report.compare("lake", CLOSE, {"return_1m": None}, {"return_1m": 1.0})
    report.compare("lake", CLOSE + SECOND, {"return_1m": -1e300}, {"return_1m": 1e300})
    assert report.features["return_1m"].worst == report.examples[0]


def test_the_cells_of_a_sequence_are_counted_as_one_name() -> None:
    report = Report("BTCUSDT")
    report.compare("online sequence", CLOSE, {"sequence[0]": 1.0, "sequence[1]": 2.0}, {"sequence[0]": 1.0})
    assert list(report.features) == ["sequence"]
    assert report.by_view() == {SEQUENCE_VIEW.name: (2, 1)}


def test_nothing_compared_is_no_certificate() -> None:
    assert not Report("BTCUSDT").passed


def test_a_revision_that_does_not_follow_fails_the_certificate_beside_the_mismatches() -> None:
    report = Report("BTCUSDT")
    report.compare("lake", CLOSE, {"return_1m": 0.5}, {"return_1m": 0.5})
    assert report.passed
    report.revised.differs("return_1m", CLOSE, 0.5, 0.25)
    assert (report.mismatches, report.passed) == (0, False)


def test_a_cell_of_the_sequence_reads_the_time_of_its_own_minute() -> None:
    width = len(FORECAST_BAR)
    close = CLOSE + 30 * SECOND
    start, end = read_span(f"sequence[{63 * width}]", close)
    assert (start, end) == read_span(FORECAST_BAR[0], close)
    assert read_span(f"sequence[{62 * width}]", close)[1] == CLOSE
    assert read_span("sequence[0]", close)[1] == CLOSE - 62 * 60 * SECOND


def shown() -> Report:
    report = Report("BTCUSDT", "2024-08-09T00:00:00Z", "2024-08-09T00:10:00Z")
    report.compare("lake", CLOSE, {"return_1m": 0.5}, {"return_1m": math.nextafter(0.5, 1.0)})
    report.features["return_1m"].raw = {
        "topic": "crypto.btc.trades", "after": "2024-08-08T23:58:00Z", "to": "2024-08-09T00:00:00Z", "seconds": 120,
        "trades": 3600, "late_trades": 2, "history_bars": 0, "first_offset": 10, "last_offset": 4000,
        "newest": [{
            "second": "2024-08-09T00:00:00Z", "seal": {"partition": 0, "offset": 4000, "trades": 2, "ts_init": CLOSE},
            "trades": 2, "late": 0, "trade_ids": [71, 72], "trade_ids_left_out": 5, "first_offset": 3998,
            "last_offset": 4000,
        }], "seconds_left_out": 119,
    }
    for _ in range(MOST_REVISIONS + 3):
        report.revised.explain({
            "second": "2024-08-09T00:00:00Z", "feature": "volume_change_1m", "as_known": 0.25, "as_revised": None,
            "known_from": "2024-08-09T00:20:00Z", "because": "BTCUSDT <b>: volume 1.0 → 2.0, told by a reconcile",
        })
    report.unproven_predictions["no hash"] = 7
    return report


def test_the_page_stands_alone_and_shows_what_differs_with_its_raw_events() -> None:
    html = page([shown().as_dict()], CLOSE)
    assert not re.search(r"<(script|link|img|iframe)|https?://|url\(|@import", html)
    for words in ("Not certified", "1 ulp", "71, 72 and 5 more", "0:4000", "3,600 trades, 2 of them late", "no hash",
                  "3 more cells are not written out", "BTCUSDT &lt;b&gt;: volume 1.0 → 2.0"):
        assert words in html
    assert "<b>" not in html


def test_a_certificate_without_a_mismatch_says_so_and_none_at_all_does_not() -> None:
    report = Report("BTCUSDT")
    report.compare("lake", CLOSE, {"return_1m": 0.5}, {"return_1m": 0.5})
    assert "0 mismatches: online" in page([report.as_dict()], CLOSE)
    assert "Not certified" in page([], CLOSE)


def test_the_lines_for_people_name_the_feature_the_distance_and_the_events() -> None:
    lines = text(shown().as_dict())
    assert "return_1m: 1 of 1; lake at 2024-08-09T00:00:00Z" in lines
    assert "1 ulp or 1.11e-16" in lines
    assert "the last second trades 71, 72 … and seal 4000" in lines


def test_the_json_is_json() -> None:
    assert json.loads(json.dumps(shown().as_dict(), allow_nan=False))["as_revised"]["left_out"] == 3
