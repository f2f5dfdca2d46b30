"""Revised: what a reconcile wrote for a window: that its rows follow from its bars, and which bar changed each cell.

As known and as revised are two truths: a row says what was known at its `created`. So revised rows are no mismatch of
what was served; here they are made once more from the revised bars and compared to the last bit, and each cell that a
revision changed is told with both values and the bar behind it.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

from feature_repo.contracts import FeatureRow
from feature_repo.feature_sets import Sets
from feature_repo.lake_reader import Lake
from monitoring.parity.report import ROW, Report, bits, foreign, time_text
from monitoring.parity.written import as_written
from streaming import mend
from streaming.revisions import RevisedRow


def check_revised(
    report: Report, lake: Lake, window: tuple[int, int], known: Mapping[int, FeatureRow], revised: Iterable[FeatureRow],
    sets: Sets | None = None,
) -> None:
    """The rows of provenance `reconcile` with a close in the window (start, end], ns. `known`: as known in time.

    A row of a set that this code cannot judge is there, and no more is said of it; `sets` is by default its own alone.
    """
    by_batch: defaultdict[int, dict[int, FeatureRow]] = defaultdict(dict)
    for row in revised:
        by_batch[row.created][row.ts_event] = row
    for created, rows in sorted(by_batch.items()):
        _check_batch(report, lake, window, known, created, rows, sets or Sets.here())


def _check_batch(
    report: Report, lake: Lake, window: tuple[int, int], known: Mapping[int, FeatureRow], created: int,
    rows: Mapping[int, FeatureRow], sets: Sets,
) -> None:
    """The rows that became known at one moment."""
    start, end = window
    again = mend.again(lake, report.symbol, created, start, end)
    lines = {one.told.close_time: one.line for one in again.bars}
    # A row that came into the lake while the reconcile ran, or later, is of what was known then: it was not revised.
    settled = {close for close, row in known.items() if row.created < created - mend.SETTLED_NS}
    expected = {
        one.row.ts_event: one for one in again.rows
        if start < one.row.ts_event <= end and (one.row.ts_event in settled or one.row.ts_event in rows
                                                or one.row.ts_event not in known)
    }
    for close in sorted(expected.keys() | rows.keys()):
        report.revised.rows += close in rows
        if close not in rows or close not in expected:
            report.revised.differs(ROW, close, _presence(close in expected), _presence(close in rows))
        elif (row := as_written(expected[close].row, rows[close], sets)) is None:
            report.leave("as revised", foreign(rows[close].feature_set))
        else:
            _check_row(report, known.get(close), replace(expected[close], row=row), rows[close], lines)


def _check_row(
    report: Report, known: FeatureRow | None, expected: RevisedRow, found: FeatureRow, lines: Mapping[int, str],
) -> None:
    for name, wanted in expected.row.values.items():
        value = found.values[name]
        if bits(wanted) != bits(value):
            report.revised.differs(name, found.ts_event, wanted, value)
        elif name in expected.features:
            before = known.values.get(name) if known else None
            report.revised.explain(_cell(name, found, before, value, lines[expected.because]))


def _cell(name: str, row: FeatureRow, before: float | None, after: float | None, line: str) -> dict[str, Any]:
    return {
        "second": time_text(row.ts_event), "feature": name, "as_known": before, "as_revised": after,
        "known_from": time_text(row.created), "because": line,
    }


def _presence(present: bool) -> str:
    return "a revised row" if present else "none"
