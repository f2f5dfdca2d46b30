"""The skew certificate of an hour, or its short form: late trades, messages sent twice, a kill and a reconcile.

As known there is no mismatch, and each revised cell is told with its revision.
`CANDLEWICK_SKEW_SECONDS=3600` is the whole hour, for which this takes a minute.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from feature_repo.contracts import MINUTE_NS, SECOND_NS
from feature_repo.lake_reader import Lake
from monitoring.parity import check, lake_rows
from monitoring.parity.report import time_text
from streaming.mend import reconcile
from streaming.revisions import time_text as revision_time
from streaming.stretch import Stretch
from tests.feature_repo.made_bars import START_NS
from tests.integration.skew_market import SYMBOL, made_settings, settle, streamed

pytestmark = pytest.mark.integration
SECONDS = int(os.environ.get("CANDLEWICK_SKEW_SECONDS", "150"))
END_NS = START_NS + SECONDS * SECOND_NS
REVISED_NS = END_NS + 10 * MINUTE_NS
MINUTES = SECONDS // 60 + 8
"""What is certified: the market, and some minutes of its history."""


def test_late_trades_a_kill_and_a_reconcile_leave_no_mismatch_and_every_revision_explained(
    tmp_path: Path, redis_server: str, applied: Path,
) -> None:
    left, settings = streamed(SECONDS), made_settings(tmp_path, redis_server, applied)
    writer = settle(left, settings)
    lake = Lake(writer.filesystem, writer.root)
    span = Stretch(START_NS, END_NS, (SYMBOL,))
    done = reconcile(lake, writer, SYMBOL, left.past(), span, lambda: REVISED_NS)
    assert {one.told.close_time for one in done.bars} == left.late_closes != set()
    report = check(settings, SYMBOL, minutes=MINUTES, sleep=lambda _seconds: None)
    assert (report.examples, report.revised.examples) == ([], [])
    assert report.passed
    assert report.places["lake"] == SECONDS + MINUTES - SECONDS // 60
    assert report.places["predictions"] == SECONDS - 1
    assert report.places["predictions, oldest line masked"] == 1
    assert report.revised.rows == len(done.rows) > 0
    # Beside it, by hand: the cells in which the lake's revised rows differ from those known in time.
    held = lake_rows(lake, SYMBOL, START_NS, END_NS)
    known = {row.ts_event: row.values for row in held if row.provenance != "reconcile"}
    cells = {
        (time_text(row.ts_event), name): (known[row.ts_event][name], value)
        for row in held if row.provenance == "reconcile"
        for name, value in row.values.items() if value != known[row.ts_event][name]
    }
    assert report.revised.cells == len(cells) > 0
    told = {(str(one["second"]), str(one["feature"])): one for one in report.revised.revisions}
    assert all((one["as_known"], one["as_revised"]) == cells[at] for at, one in told.items())
    late = {revision_time(close) for close in left.late_closes}
    for (second, _), one in told.items():
        because = str(one["because"]).removeprefix(f"{SYMBOL} ").split(" ")[0]
        assert because in late
        assert because <= second
        assert "volume" in str(one["because"])
