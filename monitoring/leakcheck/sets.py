"""Sets: training sets and labels of minute bars, and the same with another future or another past.

    table = inputs(bars)                  # (N, features and slow view) by `kernel_rows`: what a model is trained on
    check_inputs(report, bars, inputs, cuts, rng)
    check_labels(report, rows, assemble, cuts, rng)

An input may use what was known at its decision. A slow view was known its declared lag after the hour it describes.
A label may use the minutes after its decision up to its horizon (`training.targets.AHEAD`), the close at the decision,
and of the past only what its threshold is made of (`BEHIND`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import pairwise
from typing import Any

import numpy as np

from feature_repo.context import CONTEXT_FEATURE, CONTEXT_LAG_NS
from feature_repo.contracts import HOUR_NS, MINUTE_NS
from feature_repo.features import FORECAST_BAR
from feature_repo.grid import Floats, Ints
from monitoring.leakcheck.report import Report
from monitoring.leakcheck.world import Table
from training.dataset import PARTS, KnownRows, Split, TrainingSet, assemble, dense_places, kernel_rows
from training.klines import MinuteBars
from training.targets import AHEAD, BEHIND, HORIZONS

SET_DAYS = 11
"""Enough for the slow view's seven days and for three parts with a day between them."""
Inputs = Callable[[MinuteBars], Table]
Assemble = Callable[[KnownRows, Split], TrainingSet]


def inputs(bars: MinuteBars) -> Table:
    """What a model is trained on, a row a minute."""
    rows = kernel_rows(bars)
    values = np.column_stack([rows.values.astype(np.float64), rows.context])
    return Table((*FORECAST_BAR, CONTEXT_FEATURE), bars.created_ns, values)


def check_inputs(report: Report, bars: MinuteBars, path: Inputs, cuts: Sequence[int], rng: np.random.Generator) -> None:
    """Cut the bars after row `cut`; every input decided by then must stay, over the whole set."""
    base = path(bars)
    for cut in cuts:
        judged = _judged(base, bars, cut)
        others = {"future truncated": head(bars, cut + 1), "future overwritten": overwritten(bars, cut + 1, rng)}
        for how, other in others.items():
            found = path(other)
            seen = judged if len(found.values) == len(judged) else judged & _rows(base, found)
            report.compare("training", how, int(bars.created_ns[cut]), (base, found), seen)


def _judged(base: Table, bars: MinuteBars, cut: int) -> Any:
    """Which inputs may not change: those decided by the cut, the slow view until its next value is published."""
    judged = np.broadcast_to((base.decided_ns <= bars.created_ns[cut])[:, None], base.values.shape).copy()
    if CONTEXT_FEATURE in base.names:
        described = (base.decided_ns - CONTEXT_LAG_NS) // HOUR_NS * HOUR_NS
        judged[:, base.names.index(CONTEXT_FEATURE)] = described <= bars.close_ns[cut]
    return judged


def _rows(base: Table, found: Table) -> Any:
    """A set that ends early has no later rows: that is no leak."""
    return np.isin(base.decided_ns, found.decided_ns)[:, None]


def head(bars: MinuteBars, n: int) -> MinuteBars:
    """The first `n` bars."""
    return replace(bars, close_ns=bars.close_ns[:n], columns={k: v[:n] for k, v in bars.columns.items()})


def overwritten(bars: MinuteBars, first: int, rng: np.random.Generator) -> MinuteBars:
    """The same bars with another market from row `first` on."""
    columns = {name: column.copy() for name, column in bars.columns.items()}
    n = len(bars.close_ns) - first
    factors = np.exp(rng.uniform(-0.5, 0.5, n))
    for name in ("open", "high", "low", "close"):
        columns[name][first:] *= factors * np.exp(rng.uniform(-0.01, 0.01, n))
    for name in ("volume", "quote_volume"):
        columns[name][first:] *= np.exp(rng.uniform(-2, 2, n))
    return replace(bars, columns=columns)


def labels_of(rows: KnownRows, table: TrainingSet) -> Table:
    """Every label, a row a minute that exists."""
    place = dense_places(rows.close_ns)
    return Table(tuple(table.targets), rows.close_ns, np.column_stack([x[place] for x in table.targets.values()]))


def check_labels(
    report: Report, rows: KnownRows, how: Assemble, cuts: Sequence[int], rng: np.random.Generator,
) -> None:
    """Overwrite all after a minute, then all before it: a label changes with what lies in (t, t + h] and no more."""
    whole = how(rows, Split())
    base = labels_of(rows, whole)
    undeclared = [name for name in base.names if name not in AHEAD]
    assert not undeclared, f"labels without a declared horizon: {undeclared}; see training.targets.AHEAD"
    ahead = np.array([AHEAD[name] for name in base.names]) * MINUTE_NS
    behind = np.array([BEHIND.get(name, 0) for name in base.names]) * MINUTE_NS
    for cut in cuts:
        at = int(rows.close_ns[cut])
        ended = rows.close_ns[:, None] + ahead <= at
        later = labels_of(rows, how(_prices(rows, slice(cut + 1, None), rng), Split()))
        report.compare("labels", "all after the horizon overwritten", at, (base, later), ended)
        begun = rows.close_ns[:, None] - behind > at
        earlier = labels_of(rows, how(_prices(rows, slice(None, cut + 1), rng), Split()))
        report.compare("labels", "all before the decision overwritten", at, (base, earlier), begun)
    check_parts(report, rows, whole, how, rng)


def check_parts(report: Report, rows: KnownRows, whole: TrainingSet, how: Assemble, rng: np.random.Generator) -> None:
    """Purge and embargo: no label of a part reads into the next, which begins an embargo later."""
    split = Split()
    for before, after in pairwise(PARTS):
        last, first = whole.window(before)[1], whole.window(after)[0]
        name, edge = f"{before} to {after}", first - split.embargo_ns
        gap = first - last - max(HORIZONS) * MINUTE_NS
        if gap < split.embargo_ns:
            report.found(name, first, last, "split", "embargo", f"{split.embargo_ns} ns", f"{gap} ns")
        other = how(_prices(rows, slice(int(np.searchsorted(rows.close_ns, edge, "right")), None), rng), split)
        _compare_part(report, name, whole, other, before)


def _compare_part(report: Report, name: str, whole: TrainingSet, other: TrainingSet, part: Any) -> None:
    """The part's labels must not know what comes after it."""
    at = whole.part(part)
    report.compared["split"] = report.compared.get("split", 0) + len(at) * len(whole.targets)
    for column in whole.targets:
        a, b = whole.targets[column][at], other.targets[column][at]
        differ = np.flatnonzero(~((a == b) | (np.isnan(a) & np.isnan(b))))
        if len(differ):
            row = int(whole.close_ns[at[differ[0]]])
            report.found(name, row, int(whole.close_ns[at[-1]]), "split", "all after the part overwritten",
                         f"{column} as it was", f"{len(differ)} others")


def _prices(rows: KnownRows, part: slice, rng: np.random.Generator) -> KnownRows:
    """The same rows, slow view and all, with other prices in a part of time."""
    changed: dict[str, Floats] = {"opens": rows.opens.copy(), "closes": rows.closes.copy()}
    for column in changed.values():
        column[part] *= np.exp(rng.uniform(-0.5, 0.5, len(column[part])))
    return replace(rows, **changed)  # type: ignore[arg-type]


def set_of(rows: KnownRows, split: Split) -> TrainingSet:
    """The product's own way."""
    return assemble(rows, split)


def random_rows(close_ns: Ints, instants: int, rng: np.random.Generator) -> list[int]:
    """Rows to cut at, in the part where everything is known; every third just before a whole hour."""
    first, last = int(len(close_ns) * 0.6), len(close_ns) - 120
    chosen = rng.integers(first, last, instants).tolist()
    hours = [row for row in range(first, last) if (close_ns[row] + MINUTE_NS) % HOUR_NS == 0]
    return [int(rng.choice(hours)) if n % 3 == 2 and hours else row for n, row in enumerate(chosen)]
