"""Revisions: what differs between the bars that are held and what a witness tells, and the rows that follow from it.

    found = differences(held, past)                         # one of each bar, with a line that explains it
    revised = [revision(one, now_ns) for one in found]      # bars of provenance `reconcile`, known from now on
    rows = revised_rows(before, after, closes, now_ns)      # rows whose values they change

Pure: bars in, bars and rows out. What was known stays: a revision is a row of its own with a later `created`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime

import numpy as np

from feature_repo.contracts import SECOND_NS, Bar, FeatureRow
from feature_repo.features import FEATURE_NAMES
from feature_repo.grid import Floats
from feature_repo.history import BarHistory, feature_rows
from streaming.bars import minute_bars
from streaming.past import Past

Key = tuple[int, int]
"""Interval in seconds, close."""
Bars = Mapping[Key, Bar]


@dataclass(frozen=True)
class Difference:
    """A bar that a witness tells otherwise, or one that was not held (`held` null)."""

    told: Bar
    held: Bar | None
    fields: tuple[str, ...]
    witness: str

    @property
    def line(self) -> str:
        """What is different, for people."""
        at = f"{self.told.symbol} {time_text(self.told.close_time)} {self.told.interval_s} s"
        if self.held is None:
            return f"{at}: no bar held, {self.told.trades} trades told by {self.witness}"
        changes = (f"{name} {getattr(self.held, name)} → {getattr(self.told, name)}" for name in self.fields)
        return f"{at}: {', '.join(changes)}, told by {self.witness}"


@dataclass(frozen=True)
class RevisedRow:
    """A row of provenance `reconcile`, which features it changes, and the newest revised bar that it follows from."""

    row: FeatureRow
    features: tuple[str, ...]
    because: int

    def known_from(self, now_ns: int) -> RevisedRow:
        """The same row with another `created`."""
        return replace(self, row=self.row.model_copy(update={"created": now_ns, "ts_init": now_ns}))

    @property
    def line(self) -> str:
        changed = f"{len(self.features)} features ({', '.join(self.features[:4])}{', …' * (len(self.features) > 4)})"
        at = f"{self.row.symbol} {time_text(self.row.ts_event)} row"
        return f"{at}: {changed} by the bar of {time_text(self.because)}"


def newest(bars: Iterable[Bar]) -> dict[Key, Bar]:
    """Of each interval and close the bar that was known last."""
    found: dict[Key, Bar] = {}
    for bar in sorted(bars, key=lambda bar: bar.created):
        found[bar.interval_s, bar.close_time] = bar
    return found


def earliest(bars: Iterable[Bar]) -> dict[Key, Bar]:
    """Of each interval and close the bar that was known first; revisions were known to no row made in time."""
    found: dict[Key, Bar] = {}
    for bar in sorted(bars, key=lambda bar: bar.created):
        if bar.provenance != "reconcile":
            found.setdefault((bar.interval_s, bar.close_time), bar)
    return found


def missing(held: Bars, past: Past) -> list[Bar]:
    """Bars of which nothing is held, as the witness tells them: a backfill changes nothing that is there."""
    covered = {bar.close_time for bar in minute_bars(held.values())} if past.bars else set[int]()
    return [
        bar for bar in past.bars
        if (bar.interval_s, bar.close_time) not in held and not (bar.interval_s == 60 and bar.close_time in covered)
    ]


def differences(held: Bars, past: Past) -> list[Difference]:
    """Where a witness contradicts what is held, ascending. Minutes are also compared with those of held seconds."""
    whole = {bar.close_time: bar for bar in minute_bars(held.values())}
    found = []
    for told in past.bars:
        ours = held.get((told.interval_s, told.close_time))
        if told.interval_s == 60 and (made := whole.get(told.close_time)) is not None:
            ours = made if ours is None or ours.created <= made.created else ours
        fields = () if ours is None else tuple(name for name in past.tells if _differs(ours, told, name))
        if ours is None or fields:
            found.append(Difference(told, ours, fields, past.witness))
    return sorted(found, key=lambda one: (one.told.close_time, one.told.interval_s))


def difference(held: Bar | None, told: Bar, witness: str) -> Difference:
    """A revised bar beside the one before it."""
    fields = () if held is None else tuple(name for name in Past.tells if _differs(held, told, name))
    return Difference(told, held, fields, witness)


def revision(one: Difference, now_ns: int) -> Bar:
    """The bar as it is known from now on. The book at its close, which no witness tells, stays as it was held."""
    known = {"created": now_ns, "ts_init": now_ns, "provenance": "reconcile"}
    if one.held is None:
        return one.told.model_copy(update=known)
    told = {name: getattr(one.told, name) for name in (*one.fields, "vwap")}
    if "trades" in one.fields:
        told |= {"first_trade_id": one.told.first_trade_id, "last_trade_id": one.told.last_trade_id}
    return one.held.model_copy(update=told | known)


def push(history: BarHistory, bars: Bars) -> None:
    """Bars of the next while into a history: minutes, then the seconds that tell them better, then revised minutes."""
    for kind in (_is_plain_minute, _is_second, _is_revised_minute):
        for at in sorted(key for key, bar in bars.items() if kind(bar)):
            history.push(bars[at])


def rows_of(history: BarHistory, bars: Sequence[Bar]) -> list[FeatureRow]:
    """The rows at the closes of bars that are in a history; a bar known later gives a row known later."""
    return feature_rows(sorted(bars, key=lambda bar: bar.close_time), history) if bars else []


def revised_rows(
    before: BarHistory, after: BarHistory, bars: Sequence[Bar], causes: Sequence[int], now_ns: int,
) -> list[RevisedRow]:
    """Rows at the closes of `bars` whose values differ in a bit between two histories. `causes`: closes revised."""
    ordered = sorted(bars, key=lambda bar: bar.close_time)
    closes = np.array([bar.close_time for bar in ordered], dtype=np.int64)
    differs = bits(before.table(closes)) != bits(after.table(closes))
    changed = np.flatnonzero(differs.any(axis=1))
    known = [
        ordered[at].model_copy(update={"created": now_ns, "ts_init": now_ns, "provenance": "reconcile"})
        for at in changed
    ]
    behind = np.searchsorted(np.array(sorted(causes)), closes[changed], side="right") - 1
    return [
        RevisedRow(row, tuple(np.array(FEATURE_NAMES)[differs[at]].tolist()), sorted(causes)[int(cause)])
        for at, row, cause in zip(changed, rows_of(after, known), behind, strict=True)
    ]


def time_text(at_ns: int) -> str:
    """A whole second as people write it."""
    return datetime.fromtimestamp(at_ns // SECOND_NS, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _differs(ours: Bar, told: Bar, name: str) -> bool:
    # A taker volume that one side does not tell contradicts nothing.
    values = getattr(ours, name), getattr(told, name)
    return None not in values and values[0] != values[1]


def _is_second(bar: Bar) -> bool:
    return bar.interval_s == 1


def _is_plain_minute(bar: Bar) -> bool:
    return bar.interval_s == 60 and bar.provenance != "reconcile"


def _is_revised_minute(bar: Bar) -> bool:
    return bar.interval_s == 60 and bar.provenance == "reconcile"


def bits(table: Floats) -> np.ndarray[tuple[int, ...], np.dtype[np.int64]]:
    """Of each value, every NaN the same: equal integers are equal values to the last bit."""
    return np.where(np.isnan(table), np.nan, table).view(np.int64)
