"""Fill: `candlewick backfill --features`: what rows of an older feature set lack, made of the bars that are held.

    fill(lake, writer, "BTCUSDT", span).as_dict()      # {"rows": 3600, "filled": 3598, "left": {"no bar held": 2}, …}

A row that was written before a feature was declared is null there and says no reason. It is made again from the bars
that it was made of, which is shown by all that it says coming out again to the last bit; then it is written once more
under its own identity, with what it lacked. `lake_layout.once` keeps the telling that says more. Nothing that a row
says is changed: not its `feature_set`, which tells what the stream wrote, nor `created`, nor `provenance`. A row that
does not come out again is left as it is, and counted. Why it is so: ADR 0028.
"""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from feature_repo.contracts import HOUR_NS, Bar
from feature_repo.feature_sets import Sets
from feature_repo.features import FEATURE_NAMES, FEATURE_SET, FEATURES
from feature_repo.grid import Floats
from feature_repo.history import RETIRED_REASON, BarHistory
from feature_repo.lake_layout import zone_schema
from feature_repo.lake_reader import Lake
from feature_repo.views import as_text
from streaming.lake import LakeWriter
from streaming.mend import REACH_NS, ReadBars, first_bars, hour_history, hours, versions
from streaming.revisions import Bars, bits, newest, push, time_text
from streaming.stretch import Stretch

NO_BAR, DIFFERS = "no bar held", "made of other bars"
GONE = "its set is not known here"
"""Whether all that it says comes out again, this code cannot tell, and writing it would drop what it does not know."""
Bools = NDArray[np.bool_]
_PLACE = {name: i for i, name in enumerate(FEATURE_NAMES)}
_WANTED = np.isin(FEATURE_NAMES, [feature.name for feature in FEATURES])
"""Of the declared features those that a new row is to have; a retired one is no longer filled in."""


@dataclass
class Filled:
    """What filling one symbol's rows came to."""

    symbol: str
    rows: int = 0
    """That lacked something."""
    filled: int = 0
    left: Counter[str] = field(default_factory=Counter)
    """Why → rows that stay as they are."""
    first_left: str | None = None
    """The first row that does not come out again, and a feature in which it differs."""

    def add(self, more: Filled) -> None:
        """Take what a later part of a span came to."""
        self.rows, self.filled = self.rows + more.rows, self.filled + more.filled
        self.left += more.left
        self.first_left = self.first_left or more.first_left

    def as_dict(self) -> dict[str, Any]:
        return {"symbol": self.symbol, "rows": self.rows, "filled": self.filled, "left": dict(self.left),
                "first_left": self.first_left}


@dataclass(frozen=True)
class _Group:
    """Rows that know the same bars: those known first, or those by the moment of one reconcile."""

    bars: ReadBars
    closes: list[int]
    created: frozenset[int] | None
    """Of the revised rows; null for the rows that are no revision."""

    def of(self, rows: pa.Table) -> pa.Table:
        """Its rows among some."""
        if self.created is None:
            return rows.filter(pc.not_equal(rows["provenance"], "reconcile"))
        is_of = pc.is_in(rows["created"], pa.array(sorted(self.created), pa.int64()))
        return rows.filter(pc.and_(pc.equal(rows["provenance"], "reconcile"), is_of))


def fill(lake: Lake, writer: LakeWriter, symbol: str, span: Stretch) -> Filled:
    """Fill what rows with a close in `span` lack of this code's features; a repeat finds them whole and writes none.

    Holds an hour of bars and a span's closes: give it a day at a time. Raises `StoreUnavailable`.
    """
    found, sets = Filled(symbol), Sets.open(lake)
    for group in _groups(lake, symbol, span):
        history, asked = hour_history(symbol), {(close - 1) // HOUR_NS * HOUR_NS for close in group.closes}
        for start, end, held in hours(group.bars, lake, symbol, group.closes, 0):
            push(history, held)
            if start in asked:
                rows = group.of(_lacking(lake, symbol, max(start, span.start_ns), min(end, span.end_ns)))
                here = pa.array([is_known(sets, name) for name in rows["feature_set"].to_pylist()], pa.bool_())
                rows, gone = rows.filter(here), rows.filter(pc.invert(here))
                found.add(Filled(symbol, gone.num_rows, left=+Counter({GONE: gone.num_rows})))
                if rows.num_rows:  # a settled row stays, but for retention
                    found.add(_fill_hour(writer, rows, history, held))
    return found


def is_known(sets: Sets, feature_set: str) -> bool:
    """Whether this code declares all that rows of a set may hold, as it was then."""
    codes = sets.of(feature_set)
    return bool(codes) and all(name in _PLACE for code in codes for name in code.names)


def _fill_hour(writer: LakeWriter, rows: pa.Table, history: BarHistory, held: Bars) -> Filled:
    told = _Told.of(rows)
    made, reasons = _made(history, rows["ts_event"].to_numpy())
    has_bar = np.isin(rows["ts_event"].to_numpy(), [close for _, close in held])
    differs = (bits(told.values) != bits(made)) & told.says
    is_same = ~differs.any(axis=1)
    cells = told.lacks  # `retired` is said of a feature, and stays, should it be declared again
    good = cells.any(axis=1) & has_bar & is_same
    whole = _with(rows, told, cells, made, reasons).filter(pa.array(good))
    writer.add_rows("features", whole, "backfill")
    left = Counter({NO_BAR: int((~has_bar).sum()), DIFFERS: int((has_bar & ~is_same).sum())})
    return Filled(history.symbol, len(rows), whole.num_rows, +left, _first(rows, differs & has_bar[:, None]))


@dataclass(frozen=True)
class _Told:
    """What some rows say, (N, F) each."""

    values: Floats
    """NaN for null."""
    named: Bools
    """A null with a reason."""
    retired: Bools
    """A null that was not computed, for nobody read it."""

    @classmethod
    def of(cls, rows: pa.Table) -> _Told:
        coded = rows["reasons"].combine_chunks().dictionary_encode()
        codes, texts = coded.indices.to_numpy(zero_copy_only=False), coded.dictionary.to_pylist()
        named = np.zeros((len(texts), len(FEATURE_NAMES)), dtype=bool)
        retired = named.copy()
        for n, text in enumerate(texts):
            for name, why in json.loads(text).items():
                if name in _PLACE:
                    named[n, _PLACE[name]], retired[n, _PLACE[name]] = True, why == RETIRED_REASON
        columns = [rows[name].to_numpy() for name in FEATURE_NAMES]
        return cls(np.column_stack(columns).astype(np.float64, copy=False), named[codes], retired[codes])

    @property
    def says(self) -> Bools:
        """What is to come out again."""
        found: Bools = ~np.isnan(self.values) | (self.named & ~self.retired)
        return found

    @property
    def lacks(self) -> Bools:
        """What a row of this code has and these say nothing of."""
        found: Bools = np.isnan(self.values) & ~self.named & _WANTED
        return found

    @property
    def due(self) -> Bools:
        """Which rows may have something to be filled in, (N,)."""
        return np.asarray(self.lacks.any(axis=1))


def _groups(lake: Lake, symbol: str, span: Stretch) -> Iterator[_Group]:
    rows = _lacking(lake, symbol, span.start_ns, span.end_ns)
    is_revised = pc.equal(rows["provenance"], "reconcile")
    first, revised = rows.filter(pc.invert(is_revised)), rows.filter(is_revised)
    if first.num_rows:
        yield _Group(first_bars, first["ts_event"].to_pylist(), None)
    if not revised.num_rows:
        return
    columns = ["created", "provenance"]
    bars = lake.rows("clean", [symbol], max(span.start_ns - REACH_NS, 0) + 1, span.end_ns, columns)
    moments = pc.unique(bars.filter(pc.equal(bars["provenance"], "reconcile"))["created"]).to_pylist()
    of_batch: dict[int, set[int]] = defaultdict(set)
    for created in pc.unique(revised["created"]).to_pylist():
        # Rows whose process was killed before their bars belong to those of its repeat (`mend.again`).
        of_batch[min((at for at in moments if at >= created), default=created)].add(created)
    for batch, known in sorted(of_batch.items()):
        mine = revised.filter(pc.is_in(revised["created"], pa.array(sorted(known), pa.int64())))
        yield _Group(_known_by(batch), mine["ts_event"].to_pylist(), frozenset(known))


def _lacking(lake: Lake, symbol: str, start_ns: int, end_ns: int) -> pa.Table:
    """Rows of another set with a close in (start, end] that may lack something."""
    rows = lake.read("features", symbol, start_ns + 1, end_ns)
    rows = rows.filter(pc.not_equal(rows["feature_set"], FEATURE_SET))
    return rows.filter(pa.array(_Told.of(rows).due)) if rows.num_rows else rows


def _known_by(created_ns: int) -> ReadBars:
    """The bars as they were known at a moment, revisions among them."""
    def read(lake: Lake, symbol: str, start_ns: int, end_ns: int) -> dict[tuple[int, int], Bar]:
        return newest(bar for bar in versions(lake, symbol, start_ns, end_ns) if bar.created <= created_ns)

    return read


def _made(history: BarHistory, closes_ns: NDArray[np.int64]) -> tuple[Floats, list[dict[str, str]]]:
    """Values, (N, F), and reasons at closes that may come more than once."""
    asked, place = np.unique(closes_ns, return_inverse=True)
    blocks = list(history.blocks(asked))
    reasons = [why for _, _, found in blocks for why in found]
    return np.concatenate([table for _, table, _ in blocks])[place], [reasons[at] for at in place]


def _with(rows: pa.Table, told: _Told, cells: Bools, made: Floats, reasons: list[dict[str, str]]) -> pa.Table:
    """The rows with some cells as they were made."""
    schema, values = zone_schema("features"), np.where(cells, made, told.values)
    for i in np.flatnonzero(cells.any(axis=0)).tolist():
        at, column = schema.get_field_index(FEATURE_NAMES[i]), pa.array(values[:, i], from_pandas=True)
        rows = rows.set_column(at, schema.field(at), column)
    texts = []
    for text, filled, why in zip(rows["reasons"].to_pylist(), cells, reasons, strict=True):
        names = {FEATURE_NAMES[i] for i in np.flatnonzero(filled).tolist()}
        kept = {name: reason for name, reason in json.loads(text).items() if name not in names}
        texts.append(as_text({**kept, **{name: why[name] for name in names if name in why}}))
    at = schema.get_field_index("reasons")
    return rows.set_column(at, schema.field(at), pa.array(texts, pa.string()))


def _first(rows: pa.Table, differs: Bools) -> str | None:
    at = np.flatnonzero(differs.any(axis=1))
    if not at.size:
        return None
    name = FEATURE_NAMES[int(np.flatnonzero(differs[at[0]])[0])]
    return f"{time_text(rows['ts_event'][int(at[0])].as_py())} {name}"
