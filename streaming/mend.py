"""Mend: `candlewick backfill --from --to` and `candlewick reconcile`: the past into the lake, and what it was wrong in.

    backfill(lake, writer, "BTCUSDT", past)                # only what is missing; known one second after its close
    reconcile(lake, writer, "BTCUSDT", past, span, clock)  # where a witness differs: revisions, known from now on

Both add `rev-…` files, bars to `clean` and rows to `features`; the lake's owner merges them. Rows go first: a kill
between the two is mended by the same call again, which still finds the bars to be written. What the lake holds is read
an hour at a time, whatever the span.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from feature_repo.contracts import HOUR_NS, MINUTE_NS, SECOND_NS, Bar
from feature_repo.history import MINUTES_KEPT, SECONDS_KEPT, BarHistory
from feature_repo.lake_layout import unflatten
from feature_repo.lake_reader import Lake
from feature_repo.row_table import row_table
from streaming.lake import LakeWriter
from streaming.past import Past
from streaming.revisions import (
    Difference,
    RevisedRow,
    difference,
    differences,
    earliest,
    missing,
    newest,
    push,
    revised_rows,
    revision,
    time_text,
)
from streaming.stretch import Stretch

REACH_NS = 25 * HOUR_NS
"""The longest window: so far before a close its row reads, and so far behind a bar rows may change."""
ReadBars = Callable[[Lake, str, int, int], dict[tuple[int, int], Bar]]
"""Symbol and a span (start, end] → the bars in it, of each interval and close one."""
SETTLED_NS = 2 * MINUTE_NS
"""Seconds younger than this may still be on their way through the stream."""


@dataclass(frozen=True)
class Reconciled:
    """What one symbol's reconciling found and wrote."""

    symbol: str
    created: int
    """Since when its revisions are known."""
    compared: int
    bars: tuple[Difference, ...]
    rows: tuple[RevisedRow, ...]

    def as_dict(self, most_lines: int) -> dict[str, Any]:
        """Counts, and a line for each revision, the bars' first."""
        lines = [*(bar.line for bar in self.bars), *(row.line for row in self.rows)]
        return {
            "symbol": self.symbol, "created": self.created, "compared": self.compared,
            "revised_bars": len(self.bars), "revised_rows": len(self.rows), "lines": lines[:most_lines],
            "lines_left_out": len(lines[most_lines:]),
        }


def backfill(lake: Lake, writer: LakeWriter, symbol: str, past: Past) -> dict[str, Any]:
    """Write the bars of a past that the lake lacks, and their rows. Returns how many; a repeat writes none.

    A row says that it was known one second after its close: it is made of the bars as the stream knew them then.
    """
    lacking = {hour: found for hour, told in past.by_hour() if (found := missing(_held(lake, symbol, hour), told))}
    closes = [bar.close_time for bars in lacking.values() for bar in bars]
    rows, history = 0, hour_history(symbol)
    for start, end, held in hours(first_bars, lake, symbol, closes, 0):
        fresh = lacking.get(start, [])
        push(history, held | newest(fresh))
        there = _closes(lake, symbol, start, end) if fresh else set[int]()
        made = row_table([bar for bar in _one_a_close(fresh) if bar.close_time not in there], history)
        writer.add_rows("features", made, "backfill")
        writer.add_revision("clean", fresh, "backfill")
        rows += made.num_rows
    return {"symbol": symbol, "told": len(past.bars), "bars": len(closes), "rows": rows}


def reconcile(
    lake: Lake, writer: LakeWriter | None, symbol: str, past: Past, span: Stretch, clock: Callable[[], int],
) -> Reconciled:
    """Write what a witness tells otherwise as revisions; without a writer only tell it. `past` may be a part of `span`.

    They are known from the moment at which they are about to be written: nobody can have read them before it.
    """
    last = max(_bar_closes(lake, symbol, span.start_ns, span.end_ns), default=None)
    if last is None:
        raise ValueError(f"bars of {symbol} expected in the clean zone, {_text(span)}; found none: backfill first")
    # What has not come yet is not missing.
    known = Past(past.witness, tuple(bar for bar in past.bars if bar.close_time <= last), past.tells)
    found = [one for hour, told in known.by_hour() for one in differences(_held(lake, symbol, hour), told)]
    begun_ns = clock()
    rows = _rows(lake, symbol, [revision(one, begun_ns) for one in found], begun_ns, held_bars)
    now_ns = clock()  # rows of hours take their time
    rows = [one.known_from(now_ns) for one in rows]
    if writer is not None:
        writer.add_revision("features", [one.row for one in rows], "reconcile")
        writer.add_revision("clean", [revision(one, now_ns) for one in found], "reconcile")
    return Reconciled(symbol, now_ns, len(known.bars), tuple(found), tuple(rows))


def again(lake: Lake, symbol: str, created_ns: int, start_ns: int, end_ns: int) -> Reconciled:
    """What the reconciling that became known at `created_ns` must have written for closes in (start, end].

    Made from the clean zone alone: the bars known before it and its own, an hour at a time. Rows that were written
    before their process was killed belong to the bars of its repeat, the next that became known.
    """
    held = lake.read("clean", symbol, max(start_ns - REACH_NS, 0) + 1, end_ns)
    revisions = _bars(held.filter(pc.equal(held["provenance"], "reconcile")))
    batch = min((bar.created for bar in revisions if bar.created >= created_ns), default=created_ns)
    revised = [bar for bar in revisions if bar.created == batch]

    def known_before(lake: Lake, symbol: str, start: int, end: int) -> dict[tuple[int, int], Bar]:
        return newest(bar for bar in versions(lake, symbol, start, end) if bar.created < batch)

    of_them = pc.is_in(held["close_time"], pa.array([bar.close_time for bar in revised], pa.int64()))
    before = newest(bar for bar in _bars(held.filter(of_them)) if bar.created < batch)
    told = tuple(difference(before.get((bar.interval_s, bar.close_time)), bar, "a reconcile") for bar in revised)
    rows = _rows(lake, symbol, revised, created_ns, known_before, end_ns) if revised else []
    return Reconciled(symbol, batch, len(revised), told, tuple(rows))


def _held(lake: Lake, symbol: str, hour_ns: int) -> dict[tuple[int, int], Bar]:
    """`held_bars` of the closes in (hour, hour + 1 h]."""
    return held_bars(lake, symbol, hour_ns, hour_ns + HOUR_NS)


def joined(before: Mapping[str, Any] | None, more: Mapping[str, Any], most_lines: int) -> dict[str, Any]:
    """What `Reconciled.as_dict` told of an earlier part of a span, and of the next."""
    if before is None:
        return dict(more)
    lines = [*before["lines"], *more["lines"]]
    counts = {name: before[name] + more[name] for name in ("compared", "revised_bars", "revised_rows")}
    return {
        **more, **counts, "lines": lines[:most_lines],
        "lines_left_out": before["lines_left_out"] + more["lines_left_out"] + len(lines[most_lines:]),
    }


def held_bars(lake: Lake, symbol: str, start_ns: int, end_ns: int) -> dict[tuple[int, int], Bar]:
    """The clean zone's bars with a close in (start, end], as they are known now."""
    return newest(versions(lake, symbol, start_ns, end_ns))


def first_bars(lake: Lake, symbol: str, start_ns: int, end_ns: int) -> dict[tuple[int, int], Bar]:
    """The same closes as they were known first, without those of which only a revision tells."""
    return earliest(versions(lake, symbol, start_ns, end_ns))


def versions(lake: Lake, symbol: str, start_ns: int, end_ns: int) -> list[Bar]:
    """Every version of the bars with a close in (start, end]."""
    return _bars(lake.read("clean", symbol, max(start_ns, 0) + 1, end_ns))


def _bars(records: pa.Table) -> list[Bar]:
    return [bar for record in records.to_pylist() if isinstance(bar := unflatten("clean", record), Bar)]


def _rows(
    lake: Lake, symbol: str, revised: Sequence[Bar], now_ns: int, bars_before: ReadBars, until_ns: int | None = None,
) -> list[RevisedRow]:
    """Rows that are held, or now can be, and that revised bars change; an hour at a time, up to `until_ns`."""
    causes = sorted({bar.close_time for bar in revised})
    before, after = hour_history(symbol), hour_history(symbol)
    found: list[RevisedRow] = []
    reach_ns = REACH_NS if until_ns is None or not causes else max(0, until_ns - causes[-1])
    for start, end, held in hours(bars_before, lake, symbol, causes, reach_ns):
        fresh = newest(bar for bar in revised if start < bar.close_time <= end)
        bars = held | fresh
        push(before, held)
        push(after, bars)
        if end < causes[0]:
            continue
        closes = _closes(lake, symbol, start, end) | {close for key, close in fresh if (key, close) not in held}
        asked = [bar for bar in _one_a_close(list(bars.values())) if causes[0] <= bar.close_time in closes]
        found += revised_rows(before, after, asked, causes, now_ns)
    return found


def hour_history(symbol: str) -> BarHistory:
    """Room for an hour whose rows are asked for when all of it is in."""
    return BarHistory(symbol, HOUR_NS // SECOND_NS + SECONDS_KEPT, HOUR_NS // MINUTE_NS + MINUTES_KEPT)


def hours(
    bars: ReadBars, lake: Lake, symbol: str, closes: Sequence[int], after_ns: int,
) -> Iterator[tuple[int, int, dict[tuple[int, int], Bar]]]:
    """Start, end and bars of each hour, from as far before the first close as a window reaches."""
    if not closes:
        return
    first, last = (min(closes) - 1) // HOUR_NS * HOUR_NS, max(closes) + after_ns
    for start in range(max(first - REACH_NS, 0), last, HOUR_NS):
        yield start, start + HOUR_NS, bars(lake, symbol, start, start + HOUR_NS)


def _bar_closes(lake: Lake, symbol: str, start_ns: int, end_ns: int) -> list[int]:
    """Closes in (start, end] of which a bar is held."""
    found: list[int] = lake.rows("clean", [symbol], start_ns + 1, end_ns, ["ts_event"])["ts_event"].to_pylist()
    return found


def _closes(lake: Lake, symbol: str, start_ns: int, end_ns: int) -> set[int]:
    """Closes in (start, end] that have a row."""
    return set(lake.rows("features", [symbol], start_ns + 1, end_ns, ["ts_event"])["ts_event"].to_pylist())


def _one_a_close(bars: Sequence[Bar]) -> list[Bar]:
    """The bar of each row: of a whole minute's two the second's, which knows the book."""
    found: dict[int, Bar] = {}
    for bar in sorted(bars, key=lambda bar: -bar.interval_s):
        found[bar.close_time] = bar
    return [found[close] for close in sorted(found)]


def _text(span: Stretch) -> str:
    return f"{time_text(span.start_ns)} to {time_text(span.end_ns)}"
