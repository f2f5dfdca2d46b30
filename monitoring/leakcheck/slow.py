"""Slow views: rows of the slow series in worlds that agree on what was known at an instant and differ after it.

    check(report, decided, at_ns, rng)

Observations of every series are made for four months, some of them corrected later. The rows are `slow_features.rows`,
as the stream and the backfill make them, and what is compared is what somebody who asks at a time is told: of the rows
known by then, the greatest (moment, created). A poller's values and a file's are the same here: both have a `created`.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import numpy as np

from feature_repo.contracts import DAY_NS, HOUR_NS, MARKET, MINUTE_NS, SECOND_NS, Observation
from feature_repo.slow_features import SLOW_NAMES, SLOW_VIEWS, SlowRow, close_of, rows
from feature_repo.slow_series import MACRO, SERIES, session_close
from monitoring.leakcheck.report import Report
from monitoring.leakcheck.world import Table

PATH = "slow views"
SYMBOL = "BTCUSDT"
DAYS = 120
"""Of the daily series: the sessions of the longest beta, and a month to ask in."""
ASKED = 60


@dataclass(frozen=True)
class SlowWorld:
    """Everything that is ever known, in no order."""

    observations: tuple[Observation, ...]
    closes: tuple[Observation, ...]

    def changed(self, change: Callable[[Observation], Sequence[Observation]]) -> SlowWorld:
        """Every observation replaced by what `change` makes of it."""
        return SlowWorld(*(tuple(new for each in told for new in change(each)) for told in (
            self.observations, self.closes)))


Rows = Callable[[SlowWorld], list[SlowRow]]


def made(world: SlowWorld) -> list[SlowRow]:
    """The rows of every slow view, as the product makes them."""
    found: list[SlowRow] = []
    for view in SLOW_VIEWS:
        told = [each for each in world.observations if each.series in view.series]
        found += rows(view, SYMBOL, told, told, world.closes)
    return found


def check(report: Report, path: Rows, at_ns: int, rng: np.random.Generator) -> None:
    """Ask before and after an instant; what is told by it must not change with what is known later."""
    world = made_world(at_ns, rng)
    times = sorted({at_ns, *(at_ns - rng.integers(1, 2 * DAY_NS, ASKED)).tolist(),
                    *(at_ns + rng.integers(1, 8 * DAY_NS, ASKED)).tolist()})
    for how, one, two in variants(world, at_ns, rng):
        report.compare(PATH, how, at_ns, (as_told(path(one), times), as_told(path(two), times)))


def variants(
    world: SlowWorld, at_ns: int, rng: np.random.Generator,
) -> Iterator[tuple[str, SlowWorld, SlowWorld]]:
    """Pairs of worlds that agree on what is known by the instant."""
    def later(each: Observation) -> bool:
        return each.created > at_ns

    def other(each: Observation) -> Observation:
        return each.model_copy(update={"value": each.value * float(rng.uniform(0.7, 0.99))})

    def delayed(each: Observation) -> Observation:
        known = max(each.created, at_ns + int(rng.integers(1, DAY_NS)))
        return each.model_copy(update={"created": known, "ts_init": known})

    moved = world.changed(lambda each: [delayed(each) if rng.random() < 0.05 else each])
    yield "future truncated", world, world.changed(lambda each: [] if later(each) else [each])
    yield "future overwritten", world, world.changed(lambda each: [other(each) if later(each) else each])
    yield "known later", moved, moved.changed(lambda each: [other(each) if later(each) else each])
    yield "revised later", world, world.changed(
        lambda each: [each] if later(each) else [each, other(delayed(each))])


def as_told(given: list[SlowRow], times: Sequence[int]) -> Table:
    """What the rows of each view say at each time, whatever their age; NaN for null."""
    values = np.full((len(times), len(SLOW_NAMES)), np.nan)
    place = {name: i for i, name in enumerate(SLOW_NAMES)}
    for view in SLOW_VIEWS:
        known = sorted((row for row in given if row.view == view.name), key=lambda row: row.created)
        newest: list[SlowRow] = []
        for row in known:
            best = newest[-1] if newest else row
            newest.append(row if (row.ts_event, row.created) >= (best.ts_event, best.created) else best)
        created = [row.created for row in known]
        for n, at in enumerate(times):
            if place_of := bisect_right(created, at):
                for name, value in newest[place_of - 1].values.items():
                    values[n, place[name]] = np.nan if value is None else value
    return Table(SLOW_NAMES, np.array(times, dtype=np.int64), values)


def made_world(at_ns: int, rng: np.random.Generator) -> SlowWorld:
    """Series around an instant, ending a week after it; one value in fifty is corrected an hour later."""
    end = at_ns + 8 * DAY_NS
    days = [datetime.fromtimestamp(end // SECOND_NS, UTC).date() - timedelta(days=back) for back in range(DAYS)]
    sessions = [session_close(day) for day in days if day.weekday() < 5]
    moments = {
        "funding_rate": _grid(at_ns - 30 * DAY_NS, end, 8 * HOUR_NS),
        "open_interest": _grid(at_ns - 3 * DAY_NS, at_ns + DAY_NS, 15 * MINUTE_NS),
        "fear_greed": _grid(at_ns - 30 * DAY_NS, end, DAY_NS), **dict.fromkeys(MACRO, sessions),
    }
    told = tuple(new for name, times in moments.items() for at in times for new in _observed(name, int(at), rng))
    prices = 60_000 * np.exp(np.cumsum(rng.normal(size=len(sessions)) * 0.02))
    closes = tuple(close_of(SYMBOL, at, at + SECOND_NS, float(price), "simulated")
                   for at, price in zip(sorted(sessions), prices, strict=True))
    return SlowWorld(told, closes)


def _grid(start_ns: int, end_ns: int, step_ns: int) -> list[int]:
    return list(range(start_ns // step_ns * step_ns, end_ns, step_ns))


def _observed(name: str, at_ns: int, rng: np.random.Generator) -> Iterator[Observation]:
    series = SERIES[name]
    level = {"funding_rate": 1e-4, "open_interest": 80_000.0, "fear_greed": 50.0, "vix": 20.0, "us10y": 4.0}
    value = level.get(name, 400.0) * float(np.exp(rng.normal() * 0.05))
    instrument = series.instruments[0]
    symbol = f"{SYMBOL}-PERP.{instrument}" if name in ("funding_rate", "open_interest") else MARKET
    # All series of a moment become known together: a row for each of six would show no more.
    known = at_ns + series.lag_ns + at_ns // SECOND_NS * 2_654_435_761 % SECOND_NS
    first = Observation(
        symbol=symbol, ts_event=at_ns, ts_init=known, source="simulated", session="leakcheck", series=name,
        provider="made", instrument=instrument, created=known, value=value,
    )
    yield first
    if rng.random() < 0.02:
        yield first.model_copy(update={"value": value * 1.02, "created": known + HOUR_NS, "ts_init": known + HOUR_NS})
