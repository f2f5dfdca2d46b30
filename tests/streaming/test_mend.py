"""The past is filled in where nothing was, and where it was wrong a revision is added that says why; both once."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from feature_repo.contracts import HOUR_NS
from feature_repo.feast_asof.join import Times, as_of
from feature_repo.features import FEATURE_NAMES
from feature_repo.lake_reader import Lake
from monitoring.parity import Report, check_lake
from monitoring.parity.revised import check_revised
from streaming.bars import minute_bars
from streaming.compaction import compact
from streaming.lake import LakeWriter
from streaming.mend import again, backfill, held_bars, reconcile
from streaming.revisions import earliest, newest, rows_of
from tests.feature_repo.made_bars import minutes_then_seconds
from tests.streaming.made_past import (
    EVER,
    NOW,
    SECONDS,
    SPAN,
    SYMBOL,
    corrected,
    history_of,
    revised_rows_of,
    rows,
    streamed,
    told,
)


def test_a_hole_is_filled_once_with_bars_and_the_rows_that_the_stream_would_have_made(tmp_path: Path) -> None:
    bars = minutes_then_seconds(SECONDS)
    hole = [bar for bar in bars if bar.interval_s == 1][100:160]
    whole, _ = streamed(tmp_path / "whole", bars)
    lake, writer = streamed(tmp_path / "holed", [bar for bar in bars if bar not in hole])
    done = backfill(lake, writer, SYMBOL, told(hole))
    assert (done["told"], done["bars"], done["rows"]) == (60, 60, 60)
    expected = {row.ts_event: row.values for row in rows(whole)}
    filled = {bar.close_time for bar in hole}
    assert {row.ts_event: row.values for row in rows(lake) if row.ts_event in filled} == {
        close: expected[close] for close in filled}
    assert backfill(lake, writer, SYMBOL, told(hole)) == {**done, "bars": 0, "rows": 0}


def test_a_backfill_leaves_what_is_there_as_it_is(tmp_path: Path) -> None:
    bars = minutes_then_seconds(SECONDS)
    lake, writer = streamed(tmp_path, bars)
    before = held_bars(lake, SYMBOL, *EVER)
    wrong = [corrected(bar) for bar in bars]
    minutes = minute_bars([bar for bar in wrong if bar.interval_s == 1])
    assert minutes
    assert backfill(lake, writer, SYMBOL, told([*wrong, *minutes]))["bars"] == 0
    assert held_bars(lake, SYMBOL, *EVER) == before


def test_a_hole_filled_after_a_revision_knows_nothing_of_it(tmp_path: Path) -> None:
    bars = minutes_then_seconds(SECONDS)
    seconds = [bar for bar in bars if bar.interval_s == 1]
    hole = seconds[61:121]
    whole, _ = streamed(tmp_path / "whole", bars)
    lake, writer = streamed(tmp_path / "holed", [bar for bar in bars if bar not in hole])
    assert reconcile(lake, writer, SYMBOL, told([corrected(seconds[30])]), SPAN, lambda: NOW).rows
    assert backfill(lake, writer, SYMBOL, told(hole))["rows"] == len(hole)
    filled = {bar.close_time for bar in hole}
    assert [row for row in rows(lake) if row.ts_event in filled and row.provenance != "reconcile"] == [
        row for row in rows(whole) if row.ts_event in filled]


def test_of_bars_the_earliest_is_the_first_known_that_is_no_revision() -> None:
    bar = minutes_then_seconds(1)[-1]
    again, revised = (bar.model_copy(update=update) for update in (
        {"created": bar.created + 1, "volume": 2.0}, {"created": bar.created - 1, "provenance": "reconcile"}))
    assert list(earliest([again, revised, bar]).values()) == [bar]
    assert earliest([revised]) == {}


def test_what_a_witness_tells_otherwise_becomes_a_revision_with_a_line_and_both_versions_stay(tmp_path: Path) -> None:
    bars = minutes_then_seconds(SECONDS)
    lake, writer = streamed(tmp_path, bars)
    as_known = rows(lake)
    wrong = [bar for bar in bars if bar.interval_s == 1][120]
    right = corrected(wrong)
    found = reconcile(lake, writer, SYMBOL, told([*bars[:-1], right]), SPAN, lambda: NOW)
    line, = (one.line for one in found.bars)
    assert line == (
        f"BTCUSDT 2024-08-08T23:42:01Z 1 s: high {wrong.high} → {right.high}, volume {wrong.volume} → {right.volume}, "
        f"trades {wrong.trades} → {right.trades}, told by klines")
    assert {row.ts_event for row in as_known} >= {one.row.ts_event for one in found.rows}
    assert min(one.row.ts_event for one in found.rows) == wrong.close_time
    assert all("by the bar of 2024-08-08T23:42:01Z" in one.line for one in found.rows)

    both = [bar for bar in lake.read("clean", SYMBOL, wrong.close_time, wrong.close_time).to_pylist()
            if bar["interval_s"] == 1]
    assert [(bar["provenance"], bar["created"], bar["volume"], bar["bid_price"]) for bar in both] == [
        ("live", wrong.created, wrong.volume, wrong.bid_price), ("reconcile", NOW, right.volume, wrong.bid_price)]
    held = rows(lake)
    assert [row for row in held if row.provenance != "reconcile"] == as_known
    revised = [row for row in held if row.provenance == "reconcile"]
    assert {row.created for row in revised} == {NOW}
    truth = {row.ts_event: row.values for row in
             rows_of(history_of(SYMBOL, newest([*bars, right.model_copy(update={"created": NOW})])),
                     [bar for bar in bars if bar.interval_s == 1])}
    known = {row.ts_event: row.values for row in as_known} | {row.ts_event: row.values for row in revised}
    assert known == truth, "newest row of every second as if the right bar had always been there"
    again = reconcile(lake, writer, SYMBOL, told([*bars[:-1], right]), SPAN, lambda: NOW + 1)
    assert (again.bars, again.rows) == ((), ())


def test_a_question_before_the_revision_is_answered_as_it_was_known_and_after_it_as_revised(tmp_path: Path) -> None:
    bars = minutes_then_seconds(SECONDS)
    lake, writer = streamed(tmp_path, bars)
    wrong = bars[-1]
    reconcile(lake, writer, SYMBOL, told([*bars[:-1], corrected(wrong)]), SPAN, lambda: NOW)
    compact(writer, "features", "features/btc/date=2024-08-08/hour=23")
    held = lake.rows("features", [SYMBOL], *EVER, ["symbol", "ts_event", "created", "provenance"])
    event, created = (held[name].to_numpy() for name in ("ts_event", "created"))
    asked = pa.array([SYMBOL] * 2)
    found = as_of([held["symbol"].combine_chunks()], Times(event, created, created), [asked], np.array([NOW - 1, NOW]))
    assert held.take(found)["provenance"].to_pylist() == ["live", "reconcile"]


def test_revisions_are_known_from_when_they_are_written(tmp_path: Path) -> None:
    bars = minutes_then_seconds(SECONDS)
    lake, writer = streamed(tmp_path, bars)
    moments = iter([NOW, NOW + 7])
    found = reconcile(lake, writer, SYMBOL, told([corrected(bars[-1])]), SPAN, lambda: next(moments))
    assert {found.created, *(one.row.created for one in found.rows)} == {NOW + 7}
    for zone in ("clean", "features"):
        held = lake.read(zone, SYMBOL, *EVER).to_pylist()
        assert {row["created"] for row in held if row["provenance"] == "reconcile"} == {NOW + 7}


def test_seconds_that_were_not_held_are_revisions_and_what_comes_after_the_newest_is_not_missing(
    tmp_path: Path,
) -> None:
    bars = minutes_then_seconds(SECONDS)
    seconds = [bar for bar in bars if bar.interval_s == 1]
    lake, writer = streamed(tmp_path, [bar for bar in bars if bar not in seconds[200:203] and bar not in seconds[290:]])
    found = reconcile(lake, None, SYMBOL, told(bars), SPAN, lambda: NOW)
    assert [one.told.close_time for one in found.bars] == [bar.close_time for bar in seconds[200:203]]
    assert found.bars[1].line.endswith(": no bar held, 3 trades told by klines")
    assert not list(tmp_path.rglob("rev-*")), "a dry run writes nothing"
    reconcile(lake, writer, SYMBOL, told(bars), SPAN, lambda: NOW)
    assert {bar.provenance for key, bar in held_bars(lake, SYMBOL, *EVER).items()
            if key[1] in {bar.close_time for bar in seconds[200:203]} and key[0] == 1} == {"reconcile"}


def test_minutes_are_compared_with_those_that_the_held_seconds_make(tmp_path: Path) -> None:
    bars = minutes_then_seconds(SECONDS)
    lake, _ = streamed(tmp_path, bars)
    minutes = minute_bars([bar for bar in bars if bar.interval_s == 1])
    assert len(minutes) == 5
    assert reconcile(lake, None, SYMBOL, told(minutes), SPAN, lambda: NOW).bars == ()
    found = reconcile(lake, None, SYMBOL, told([*minutes[:2], corrected(minutes[2])]), SPAN, lambda: NOW)
    assert [(one.told.interval_s, one.fields) for one in found.bars] == [(60, ("high", "volume", "trades"))]
    assert {FEATURE_NAMES.index(name) >= 0 for one in found.rows for name in one.features} <= {True}


def test_what_a_witness_cannot_tell_is_not_compared(tmp_path: Path) -> None:
    bars = minutes_then_seconds(SECONDS)
    lake, _ = streamed(tmp_path, bars)
    aggregates = [bar.model_copy(update={"trades": 1, "taker_buy_volume": None}) for bar in bars]
    past = told(aggregates, tells=("close", "taker_buy_volume"))
    assert reconcile(lake, None, SYMBOL, past, SPAN, lambda: NOW).bars == ()


def test_nothing_held_is_no_truth_to_revise(tmp_path: Path) -> None:
    writer = LakeWriter.open(tmp_path.as_uri())
    with pytest.raises(ValueError, match="found none: backfill first"):
        reconcile(Lake(writer.filesystem, writer.root), writer, SYMBOL, told([]), SPAN, lambda: NOW)


def test_a_kill_between_rows_and_bars_is_mended_by_the_same_call(tmp_path: Path) -> None:
    bars = minutes_then_seconds(SECONDS)
    lake, writer = streamed(tmp_path, bars)
    past = told([*bars[:-1], corrected(bars[-1])])

    class Dies(LakeWriter):
        def add_revision(self, zone: Any, messages: Any, provenance: str) -> list[str]:
            if zone == "clean":
                raise InterruptedError
            return super().add_revision(zone, messages, provenance)

    with pytest.raises(InterruptedError):
        reconcile(lake, Dies(writer.filesystem, writer.root), SYMBOL, past, SPAN, lambda: NOW)
    found = reconcile(lake, writer, SYMBOL, past, SPAN, lambda: NOW + 1)
    assert (len(found.bars), len(found.rows)) == (1, 1)
    assert reconcile(lake, writer, SYMBOL, past, SPAN, lambda: NOW + 2).bars == ()
    # The rows of the attempt that died follow from the bars of its repeat.
    known = {row.ts_event: row for row in rows(lake) if row.provenance != "reconcile"}
    report = Report(SYMBOL)
    check_revised(report, lake, (SPAN.start_ns, SPAN.end_ns), known, revised_rows_of(lake))
    assert (report.revised.rows, report.revised.mismatches) == (2, 0)


def test_the_reconcile_made_again_at_its_own_time_is_what_it_was_whatever_came_later(tmp_path: Path) -> None:
    bars = minutes_then_seconds(SECONDS)
    seconds = [bar for bar in bars if bar.interval_s == 1]
    lake, writer = streamed(tmp_path, bars)
    first = reconcile(lake, writer, SYMBOL, told([corrected(seconds[30])]), SPAN, lambda: NOW)
    second = reconcile(lake, writer, SYMBOL, told([corrected(seconds[40])]), SPAN, lambda: NOW + HOUR_NS)
    for done in (first, second):
        made = again(lake, SYMBOL, done.created, SPAN.start_ns, SPAN.end_ns)
        assert [one.row for one in made.rows] == [one.row for one in done.rows]
        assert [one.line for one in made.bars] == [
            one.line.replace("told by klines", "told by a reconcile") for one in done.bars]
    assert again(lake, SYMBOL, NOW + 2 * HOUR_NS, SPAN.start_ns, SPAN.end_ns).bars == ()


def test_parity_judges_the_streams_rows_and_counts_what_was_filled_in_or_revised(tmp_path: Path) -> None:
    bars = minutes_then_seconds(SECONDS)
    hole = [bar for bar in bars if bar.interval_s == 1][-9:-4]
    lake, writer = streamed(tmp_path, [bar for bar in bars if bar not in hole])
    streams_own = {row.ts_event: row for row in rows(lake)}
    backfill(lake, writer, SYMBOL, told([bar.model_copy(update={"provenance": "backfill"}) for bar in hole]))
    reconcile(lake, writer, SYMBOL, told([corrected(bars[-1])]), SPAN, lambda: NOW)
    report = Report(SYMBOL)
    check_lake(report, rows(lake), streams_own)
    assert (report.mismatches, report.revised.filled_in, report.rows) == (0, 5, SECONDS - 5)
    check_revised(report, lake, (SPAN.start_ns, SPAN.end_ns), streams_own, revised_rows_of(lake))
    assert (report.revised.rows, report.revised.mismatches) == (1, 0)
