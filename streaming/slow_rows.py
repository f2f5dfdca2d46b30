"""Slow rows: observations of slow series become rows of the slow views, in the lake and online.

    slow = SlowRows(lake, writer, store.write_slow, lambda: ("BTCUSDT", "ETHUSDT"), time.time_ns)
    slow(written.observations)                # between two batches of the lake's one writer

What says nothing new (the same value of the same moment, told again) is left out. Rows are written before the
observations they are made of, so that a batch that is repeated after a kill makes the same rows again. An online store
that is away holds up nothing: what could not be written waits here. The newest rows of the lake are written online
again after a restart, and every five minutes, since a backfill writes to the lake alone.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, cast

import structlog

from feature_repo.contracts import DAY_NS, HOUR_NS, MARKET, MINUTE_NS, InvalidMessage, Observation, StoreUnavailable
from feature_repo.lake_layout import Zone, unflatten
from feature_repo.lake_reader import Lake
from feature_repo.slow_features import SERIES_VIEW, SLOW_VIEWS, SlowRow, SlowView, close_of, rows
from feature_repo.slow_formulas import LOOK_BACK_NS
from feature_repo.slow_series import PERPETUAL, SERIES, contract_word
from feature_repo.topics import base
from streaming.lake import LakeWriter

log = structlog.get_logger()
FAR_NS = 2**62
RESTORE_EVERY_NS = 5 * MINUTE_NS
"""How often the lake is looked at for rows that others wrote there."""


@dataclass
class SlowRows:
    """Makes and writes rows of the slow views; only the lake's owner may call it."""

    lake: Lake
    writer: LakeWriter
    write: Callable[[SlowRow], bool]
    """Writes a row online; may raise `StoreUnavailable`."""
    followed: Callable[[], Sequence[str]]
    """Symbols whose rows are made."""
    now_ns: Callable[[], int]
    _restored_ns: int | None = None
    """When it was last asked whose newest rows are to be read from the lake again; null before the first time."""
    _to_restore: list[str] = field(default_factory=list)
    _unsent: dict[tuple[str, str], SlowRow] = field(default_factory=dict)

    def __call__(self, observations: Sequence[Observation]) -> int:
        """Write rows of what is new among these. Returns how many observations were."""
        self._restore(self.now_ns())
        news = new_among(self.lake, observations)
        if news:
            made = rows_of(self.lake, news, self.followed())
            for view in SLOW_VIEWS:
                self.writer.upsert(cast(Zone, view.name), [row for row in made if row.view == view.name])
            for row in made:
                self._unsent[row.view, row.symbol] = row
        self._send()
        self.writer.upsert("observations", news)
        return len(news)

    def _restore(self, now_ns: int) -> None:
        """Have the newest rows of the lake written online: all of them at first, later those that others wrote there.

        A backfill writes to the lake alone. Every `RESTORE_EVERY_NS` each symbol's turn comes, one a batch; an online
        store that holds newer rows keeps them.
        """
        first = self._restored_ns is None
        if self._restored_ns is None or (now_ns >= self._restored_ns + RESTORE_EVERY_NS and not self._to_restore):
            self._restored_ns, self._to_restore = now_ns, list(self.followed())
        while self._to_restore:
            symbol = self._to_restore.pop(0)
            for view in SLOW_VIEWS:
                held = self.lake.read(cast(Zone, view.name), symbol, now_ns - view.ttl_ns - DAY_NS, now_ns)
                if held.num_rows:
                    self._unsent[view.name, symbol] = row_of(view, held.slice(held.num_rows - 1).to_pylist()[0])
            if not first:
                return

    def _send(self) -> None:
        for key, row in list(self._unsent.items()):
            try:
                self.write(row)
            except StoreUnavailable as error:
                log.warning("slow rows wait for the online store", rows=len(self._unsent), reason=str(error))
                return
            except InvalidMessage as error:
                log.error("slow row refused", view=row.view, symbol=row.symbol, reason=str(error))
            del self._unsent[key]


def new_among(lake: Lake, observations: Sequence[Observation]) -> list[Observation]:
    """Those that say something that neither the lake nor an earlier one of them does, in order of `created`.

    A value that a provider takes back for another is new. Raises `StoreUnavailable`.
    """
    if not observations:
        return []
    told = sorted((o for o in observations if not o.stale and _is_ours(o)), key=lambda o: o.created)
    events = [o.ts_event for o in told]
    held = read_observations(lake, {o.symbol for o in told}, min(events, default=0), max(events, default=0))
    values = {_moment(o): o.value for o in sorted(held, key=lambda o: o.created)}
    identities = {(*_moment(o), o.created) for o in held}
    news = []
    for observation in told:
        if values.get(_moment(observation)) != observation.value and (
            *_moment(observation), observation.created) not in identities:
            values[_moment(observation)] = observation.value
            news.append(observation)
    return news


def rows_of(lake: Lake, news: Sequence[Observation], followed: Sequence[str]) -> list[SlowRow]:
    """The rows of every view and followed symbol that some news are of, ascending by `created`."""
    made: list[SlowRow] = []
    for view in SLOW_VIEWS:
        of_view = [o for o in news if o.series in view.series]
        for symbol in followed if of_view else ():
            ours = [o for o in of_view if is_of(o, symbol)]
            if ours:
                made += _rows(lake, view, symbol, ours)
    return made


def _rows(lake: Lake, view: SlowView, symbol: str, news: Sequence[Observation]) -> list[SlowRow]:
    begin = min(o.ts_event for o in news) - LOOK_BACK_NS[view.name]
    # News of an older moment make another version of the newest row, which is somewhere after them.
    held = [o for name in names_of(view, symbol) for o in read_observations(lake, [name], begin, FAR_NS, view.series)]
    everything = {(*_moment(o), o.created): o for o in [*held, *news]}
    sessions = {o.ts_event for o in everything.values()}
    closes = lake_closes(lake, symbol, sorted(sessions)) if view.name == "macro" else []
    return rows(view, symbol, list(everything.values()), news, closes)


def names_of(view: SlowView, symbol: str) -> list[str]:
    """The symbols of the observations that a symbol's row of a view is made of."""
    if not PERPETUAL.intersection(view.series):
        return [MARKET]
    return [f"{contract_word(symbol)}-PERP.{venue}" for name in view.series for venue in SERIES[name].instruments]


def read_observations(
    lake: Lake, symbols: Iterable[str], start_ns: int, end_ns: int, series: Sequence[str] = tuple(SERIES),
) -> list[Observation]:
    """Observations that describe moments in [start, end]. Raises `StoreUnavailable`."""
    found: list[Observation] = []
    for symbol in sorted(set(symbols)):
        records = lake.read("observations", symbol, max(start_ns, 0), end_ns).to_pylist()
        found += [cast(Observation, unflatten("observations", r)) for r in records if r["series"] in series]
    return found


def lake_closes(lake: Lake, symbol: str, times_ns: Iterable[int]) -> list[Observation]:
    """The symbol's closes at some whole minutes, every version of each, from second and minute bars alike."""
    found = []
    hours = set(lake.hours("clean", base(symbol)))
    for at in (at for at in times_ns if at // HOUR_NS * HOUR_NS in hours):
        bars = lake.read("clean", symbol, at, at)
        found += [
            close_of(symbol, at, bar["created"], bar["close"], bar["source"]) for bar in bars.to_pylist()
        ]
    return found


def is_of(observation: Observation, symbol: str) -> bool:
    """Whether an observation belongs into a symbol's rows: the market's do, and those of its perpetual contracts."""
    return observation.symbol == MARKET or contract_word(observation.symbol) == contract_word(symbol)


def row_of(view: SlowView, record: dict[str, Any]) -> SlowRow:
    """A slow view's row from its record in the lake."""
    return SlowRow(
        view.name, record["symbol"], record["ts_event"], record["created"], record[view.state("source")],
        record[view.state("provenance")], {name: record[name] for name in view.names},
        json.loads(record[view.state("reasons")]),
    )


def _is_ours(observation: Observation) -> bool:
    if observation.series in SERIES_VIEW:
        return True
    log.error("observation of an unknown series", series=observation.series, symbol=observation.symbol)
    return False


def _moment(observation: Observation) -> tuple[str, str, str, str, int]:
    return observation.source, observation.symbol, observation.series, observation.instrument, observation.ts_event
