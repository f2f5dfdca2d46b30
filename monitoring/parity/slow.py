"""Slow: rows of the slow views, in the lake and online, beside the same made again from the lake's observations.

    checker = SlowChecker(lake, "BTCUSDT", settings.data_dir)
    checker.check(report, (start_ns, end_ns), followed_ns, samples.slow, time.sleep)

In the lake those rows are judged that an instant of the window is told: the newest that was known when it began, and
each that became known in it. Online the row that was seen. Each is made of the observations known by its `created` and
held when it was made: what a backfill brings later was known by its own words, and nobody could have had it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar, cast

from feature_repo.contracts import DAY_NS, HOUR_NS, MINUTE_NS, Observation
from feature_repo.lake_layout import Zone
from feature_repo.lake_reader import Lake
from feature_repo.slow_features import SLOW_VIEWS, SlowRow, SlowView, rows
from feature_repo.slow_formulas import LOOK_BACK_NS
from feature_repo.topics import base, slow_topic
from feature_repo.views import slow_state
from monitoring.parity.closes import Closes
from monitoring.parity.report import Report, bits, time_text
from monitoring.parity.sampled import ONLINE_SLOW, Sleep
from streaming.slow_rows import names_of, read_observations, row_of

IN_LAKE = "lake slow rows"
ATTEMPTS = 5
"""How often what is half written is looked at again: rows go to the lake, then online, then their observations."""
SETTLED_NS = MINUTE_NS
"""After this long what became known is online too."""
FILING_NS = 10 * MINUTE_NS
"""A backfill writes rows, and then the observations that they are made of: within this long both are there."""
TOLD_NS: Mapping[str, int] = {
    "funding": 11 * DAY_NS, "open_interest": HOUR_NS, "fear_greed": 11 * DAY_NS, "macro": 131 * DAY_NS,
}
"""How old a moment may be that a provider's answer still corrects."""
SHOWN = 10
"""Observations that are written out behind a cell."""
SHOWN_KEPT = 100
LEFT_KEPT = 10
MOVED = "closes in the lake were written after it was made"
FILING = "a backfill is writing, its observations come after its rows"
ELSEWHERE = "the data folder that closes came from is not here"
T = TypeVar("T")
Online = Mapping[tuple[str, int, int], tuple[int, SlowRow | None]]


@dataclass(frozen=True)
class _Told:
    """What lake and online store tell of one view."""

    judged: list[SlowRow]
    """The lake's rows that an instant of the window is told."""
    newest: list[SlowRow]
    """The lake's rows near the online ones, to see that none is left behind."""
    news: frozenset[int]
    """When something became known within the window, whole microseconds."""
    observations: list[Observation]
    at_ns: int
    """When the online store was looked at, by its clock."""

    def is_whole(self, online: Iterable[SlowRow]) -> bool:
        """Whether each row has what it was made of, and the other way round."""
        known = {_micros(each.created) for each in self.observations}
        made = {_micros(row.created) for row in self.judged}
        return made <= known and self.news <= made and all(_micros(row.created) in known for row in online)


@dataclass(frozen=True)
class _Left:
    """A row of which some betas cannot be proven, as it was found."""

    found: Mapping[str, Any]
    """Its cells."""
    expected: SlowRow
    names: frozenset[str]
    why: str


@dataclass
class SlowChecker:
    """Judges one symbol's slow rows; what has been shown to follow, or not to be provable, is not made again."""

    lake: Lake
    symbol: str
    data_dir: Path
    """Where a backfilled beta's closes come from."""
    _shown: dict[tuple[str, int, int], SlowRow] = field(default_factory=dict)
    """View, moment and `created` → the row, the last `SHOWN_KEPT` looked at: a beta reads a hundred hours of bars."""
    _left: dict[tuple[str, int, int], _Left] = field(default_factory=dict)
    """The same of rows that cannot be proven, the last `LEFT_KEPT`: the newest macro row is looked at for days."""
    _closes_now: Closes = field(init=False)
    """Read once in a run."""

    def __post_init__(self) -> None:
        self._closes_now = Closes(self.lake, self.symbol, self.data_dir)

    def check(
        self, report: Report, window: tuple[int, int], followed_ns: int | None, online: Online, sleep: Sleep,
    ) -> None:
        """Rows known in (start, end], ns, and those seen online. `followed_ns`: since when the symbol has rows.

        Raises `StoreUnavailable`.
        """
        self._closes_now = Closes(self.lake, self.symbol, self.data_dir)
        # A file that was written does not become older; a folder that was away may be back.
        self._left = {key: left for key, left in self._left.items() if left.why == MOVED}
        for view in SLOW_VIEWS:
            seen = {at_ns: row for (name, _, _), (at_ns, row) in online.items() if name == view.name}
            told = self._whole(view, window, followed_ns, seen, sleep)
            for row in told.judged:
                self._judge(report, IN_LAKE, view, row, told)
            for created in sorted(told.news - {_micros(row.created) for row in told.judged}):
                at = max(each.ts_event for each in told.observations if _micros(each.created) == created)
                report.differs(IN_LAKE, view.state("row"), at, "a row of what became known", "no row")
            for at_ns, held in seen.items():
                self._check_newest(report, view, at_ns, held, told)
                if held is not None:
                    self._judge(report, ONLINE_SLOW, view, held, told)

    def _whole(
        self, view: SlowView, window: tuple[int, int], followed_ns: int | None, seen: Mapping[int, SlowRow | None],
        sleep: Sleep,
    ) -> _Told:
        online = [row for row in seen.values() if row is not None]
        for attempt in range(ATTEMPTS):
            if attempt:
                sleep(1.0)
            told = self._read(view, window, followed_ns, seen)
            if told.is_whole(online):
                break
        return told

    def _read(
        self, view: SlowView, window: tuple[int, int], followed_ns: int | None, seen: Mapping[int, SlowRow | None],
    ) -> _Told:
        start, end = window
        before = self._rows(view, start - view.ttl_ns - DAY_NS, end)
        known = [row for row in before if row.created <= start]
        judged = [*([max(known, key=_order)] if known else []), *(row for row in before if start < row.created <= end)]
        newest = [row for at in seen for row in self._rows(view, at - view.ttl_ns - DAY_NS, at)]
        look_back, told_ns = LOOK_BACK_NS[view.name], TOLD_NS[view.name]
        begin = min([start - told_ns, *(row.ts_event - look_back for row in judged)])
        spans = [(begin, end), *((row.ts_event - max(look_back, told_ns), row.created) for row in seen.values() if row)]
        held = {
            _identity(each): each for span in joined(spans)
            for each in read_observations(self.lake, names_of(view, self.symbol), *span, view.series)
        }
        news = {_micros(each.created) for each in held.values()
                if start < each.created <= end and followed_ns is not None and each.created >= followed_ns}
        return _Told(judged, newest, frozenset(news), list(held.values()), max(seen, default=end))

    def _rows(self, view: SlowView, start_ns: int, end_ns: int) -> list[SlowRow]:
        found = self.lake.read(cast(Zone, view.name), self.symbol, max(start_ns, 0), end_ns)
        return [row_of(view, record) for record in found.to_pylist()]

    def _judge(self, report: Report, where: str, view: SlowView, found: SlowRow, told: _Told) -> None:
        key = view.name, found.ts_event, _micros(found.created)
        known = self._left.get(key)
        if known is None or known.found != _cells(found):
            expected = self._shown.get(key) or self._again(view, found, told)
            if expected is None:
                self._of_nothing(report, where, view, found, told)
                return
            known = _Left(_cells(found), expected, *self._unprovable(view, expected, found, told))
        for _ in known.names:
            report.leave(where, known.why)
        wanted, cells = _cells(known.expected, known.names), _cells(found, known.names)
        report.compare(where, found.ts_event, wanted, cells)
        differing = [name for name in wanted if bits(wanted[name]) != bits(cells.get(name))]
        for name in differing:
            if report.features[name].raw is None:
                report.features[name].raw = behind(view, name, known.expected, told.observations)
        if known.names:
            _keep(self._left, key, known, LEFT_KEPT)
        elif not differing:
            _keep(self._shown, key, known.expected, SHOWN_KEPT)

    def _of_nothing(self, report: Report, where: str, view: SlowView, found: SlowRow, told: _Told) -> None:
        """A row that nothing became known for; of a backfill that is at work it may yet come."""
        changed_ns = self.lake.changed_ns(cast(Zone, view.name), base(self.symbol), found.ts_event)
        if found.provenance == "backfill" and changed_ns > told.at_ns - FILING_NS:
            report.leave(where, FILING)
        else:
            report.differs(where, view.state("row"), found.ts_event, "no row: nothing became known then", "a row")

    def _again(self, view: SlowView, found: SlowRow, told: _Told) -> SlowRow | None:
        """The row of what became known with `found`, of its source where there are two; null when nothing did."""
        news = _news(found, told)
        if not news:
            return None
        made_ns, made = _made(news), []
        held = [each for each in told.observations if each.ts_init <= made_ns]
        closes = self._closes(held, news) if view.name == "macro" else []
        # Why a value is null, `warmup` or `gap`, hangs on how far back was read: from the news of a batch, or all.
        for begin in (min(each.ts_event for each in news) - LOOK_BACK_NS[view.name], 0):
            again = rows(view, self.symbol, [each for each in held if each.ts_event >= begin], news, closes)
            made.append(next((row for row in again if row.source == found.source), again[0]))
            if _cells(made[-1]) == _cells(found):
                return made[-1]
        return made[0]

    def _closes(self, held: Sequence[Observation], news: Sequence[Observation]) -> list[Observation]:
        sessions = sorted({each.ts_event for each in held})
        return [*(self._closes_now.of_files(sessions) if _is_of_files(news) else ()),
                *self._closes_now.of_lake(sessions)]

    def _unprovable(
        self, view: SlowView, expected: SlowRow, found: SlowRow, told: _Told,
    ) -> tuple[frozenset[str], str]:
        """The betas that differ although nobody can say which closes were held when the row was made, and why."""
        betas = frozenset(name for name in view.names if name.startswith("beta_") and (
            bits(expected.values[name]) != bits(found.values[name])
            or expected.reasons.get(name) != found.reasons.get(name)))
        news = _news(found, told)
        if not betas or not news:
            return frozenset(), ""
        begin = found.ts_event - LOOK_BACK_NS[view.name]
        sessions = sorted({each.ts_event for each in told.observations if begin <= each.ts_event <= found.ts_event})
        if _is_of_files(news) and not self._closes_now.of_files(sessions):
            return betas, ELSEWHERE
        return (betas, MOVED) if self._closes_now.have_moved(sessions, _made(news)) else (frozenset(), "")

    def _check_newest(
        self, report: Report, view: SlowView, at_ns: int, held: SlowRow | None, told: _Told,
    ) -> None:
        """The online store is not behind the lake. When a backfilled row came is not known, so none is asked for."""
        live = [row for row in told.newest if row.provenance == "live" and row.created <= at_ns - SETTLED_NS]
        newest = max(live, key=_order, default=None)
        if newest is None or at_ns - newest.ts_event > view.ttl_ns:
            return
        if held is None or _order(held) < _order(newest):
            report.differs(
                ONLINE_SLOW, view.state("row"), newest.ts_event, f"the row known at {time_text(newest.created)}",
                f"that known at {time_text(held.created)}" if held else "none")


def behind(view: SlowView, name: str, row: SlowRow, observations: Iterable[Observation]) -> dict[str, Any]:
    """The raw observations that a cell of a row may be made of, the newest moment first."""
    series = [each for each in view.series if f"{each}_" in name] or list(view.series)
    begin = row.ts_event - LOOK_BACK_NS[view.name]
    read = sorted((each for each in observations if each.series in series and each.source == row.source
                   and begin <= each.ts_event <= row.ts_event and each.created <= row.created),
                  key=lambda each: (each.ts_event, each.created), reverse=True)
    symbol = read[0].symbol if read else row.symbol
    return {
        "topic": slow_topic(series[0], symbol), "after": time_text(begin), "to": time_text(row.ts_event),
        "known_by": time_text(row.created),
        "observations": [
            {"series": each.series, "instrument": each.instrument, "provider": each.provider, "value": each.value,
             "moment": time_text(each.ts_event), "known": time_text(each.created)} for each in read[:SHOWN]
        ],
        "observations_left_out": len(read[SHOWN:]),
    }


def _cells(row: SlowRow, left: frozenset[str] = frozenset()) -> dict[str, Any]:
    """A row as cells, less those that are left out, under the names they are counted by."""
    kept = SlowRow(
        row.view, row.symbol, row.ts_event, row.created, row.source, row.provenance,
        {name: value for name, value in row.values.items() if name not in left},
        {name: why for name, why in row.reasons.items() if name not in left},
    )
    return {**kept.values, **slow_state(kept), f"{row.view}_ts_event": row.ts_event}


def _keep(held: dict[tuple[str, int, int], T], key: tuple[str, int, int], value: T, most: int) -> None:
    """Hold what was looked at last."""
    held.pop(key, None)
    held[key] = value
    while len(held) > most:
        del held[next(iter(held))]


def _news(row: SlowRow, told: _Told) -> list[Observation]:
    return [each for each in told.observations if _micros(each.created) == _micros(row.created)]


def _made(news: Iterable[Observation]) -> int:
    """When a row of some news was made, ns: live as they came, of files when these were read."""
    return max(each.ts_init for each in news)


def _is_of_files(news: Iterable[Observation]) -> bool:
    return any(each.provenance == "backfill" for each in news)


def _identity(each: Observation) -> tuple[Any, ...]:
    return each.source, each.symbol, each.series, each.instrument, each.ts_event, each.created


def _order(row: SlowRow) -> tuple[int, int]:
    return row.ts_event, _micros(row.created)


def _micros(created_ns: int) -> int:
    """What the online store keeps of a `created`: whole microseconds, rounded up."""
    return -(-created_ns // 1000)


def joined(spans: Iterable[tuple[int, int]]) -> list[tuple[int, int]]:
    """Spans that overlap as one.

    >>> joined([(5, 9), (0, 2), (1, 4)])
    [(0, 4), (5, 9)]
    """
    joined: list[tuple[int, int]] = []
    for begin, end in sorted(spans):
        if joined and begin <= joined[-1][1]:
            joined[-1] = joined[-1][0], max(joined[-1][1], end)
        else:
            joined.append((begin, end))
    return joined
