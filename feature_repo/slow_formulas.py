"""Slow formulas: what each slow feature computes, from what was known when its row became known.

    beta("sp500", 60)(at)          # at: AsOf; raises `Unknown` with the reason where it cannot be known

Everything is asked of `Known`, which shows nothing that was known later. Windows of macro series count New York
sessions.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import pairwise
from statistics import fmean

from feature_repo.contracts import DAY_NS, HOUR_NS, MINUTE_NS
from feature_repo.features import MAX_HOLES
from feature_repo.slow_known import Known, Point

OPEN_INTEREST_SLACK_NS = 10 * MINUTE_NS
"""How much older than asked for the open interest before may be: two of its periods."""
LOOK_BACK_NS: Mapping[str, int] = {
    "funding": 7 * DAY_NS, "open_interest": DAY_NS + OPEN_INTEREST_SLACK_NS, "fear_greed": 8 * DAY_NS,
    "macro": 100 * DAY_NS,
}
"""How far before its moment a row of each view reads; 60 sessions and their holidays are under 100 days."""


class Unknown(Exception):
    """A value cannot be known; the text is the reason."""


@dataclass(frozen=True)
class AsOf:
    """What one row may look at: the moment it describes, when it became known, and everything known by then."""

    event_ns: int
    known_ns: int
    series: Mapping[str, Known]
    closes: Known
    """The symbol's own closes at the sessions' ends; only `macro` reads them."""

    def lacking(self, name: str, begin_ns: int) -> Unknown:
        """Why a series has too little since a moment."""
        begins = self.series[name].begins(self.known_ns)
        return Unknown("warmup" if begins is None or begins > begin_ns else "gap")


Formula = Callable[[AsOf], float]


# --- funding ---

def funding(at: AsOf) -> float:
    """The rate settled at the row's moment."""
    return _value_at(at, "funding_rate")


def funding_mean(at: AsOf) -> float:
    """The mean of the rates settled in the week up to it."""
    begin = at.event_ns - 7 * DAY_NS
    rates = at.series["funding_rate"].between(begin, at.event_ns, at.known_ns)
    if len(rates) < 20:  # of 21 settlements; venues that settle oftener have more
        raise at.lacking("funding_rate", begin + 8 * HOUR_NS)
    return fmean(value for _, value in rates)


# --- open interest ---

def open_interest(at: AsOf) -> float:
    """Open interest at the row's moment."""
    return _value_at(at, "open_interest")


def open_interest_change(span_ns: int) -> Formula:
    """ln(OI now / OI a span before), of a value at most ten minutes older than that."""
    def log_ratio(at: AsOf) -> float:
        now, begin = _value_at(at, "open_interest"), at.event_ns - span_ns
        before = at.series["open_interest"].between(begin - OPEN_INTEREST_SLACK_NS, begin, at.known_ns)
        if not before:
            raise at.lacking("open_interest", begin)
        return _log_ratio(now, before[-1][1])

    return log_ratio


# --- fear and greed ---

def fear_greed(at: AsOf) -> float:
    """The index of the row's day."""
    return _value_at(at, "fear_greed")


def fear_greed_change(at: AsOf) -> float:
    """The index less that of seven days before."""
    begin = at.event_ns - 7 * DAY_NS
    before = at.series["fear_greed"].between(begin - 1, begin, at.known_ns)
    if not before:
        raise at.lacking("fear_greed", begin)
    return fear_greed(at) - before[-1][1]


# --- macro ---

def level(name: str) -> Formula:
    """The close of the row's session."""
    return lambda at: _value_at(at, name)


def change(name: str) -> Formula:
    """The close less that of the session before."""
    def difference(at: AsOf) -> float:
        before, now = _sessions(at, name, 1)
        return now[1] - before[1]

    return difference


def log_return(name: str, sessions: int) -> Formula:
    """ln(close / close so many sessions before), of one instrument."""
    def over(at: AsOf) -> float:
        closes = _sessions(at, name, sessions)
        return _log_ratio(closes[-1][1], closes[0][1])

    return over


def beta(name: str, sessions: int) -> Formula:
    """cov(b, m) / var(m) over the last sessions, b and m the log returns of symbol and series between two closes."""
    def slope(at: AsOf) -> float:
        returns = session_returns(at, name, sessions)
        closes = dict(at.closes.between(at.event_ns - LOOK_BACK_NS["macro"], at.event_ns, at.known_ns))
        pairs = [
            (_log_ratio(closes[end], closes[begin]), value) for begin, end, value in returns
            if begin in closes and end in closes
        ]
        if returns and not pairs:
            raise Unknown("requires closes")
        if len(pairs) < sessions * (1 - MAX_HOLES):
            enough = len(returns) >= sessions * (1 - MAX_HOLES)
            raise Unknown("warmup") if enough else at.lacking(name, at.event_ns - sessions * 3 * DAY_NS // 2)
        ours, theirs = fmean(b for b, _ in pairs), fmean(m for _, m in pairs)
        variance = sum((m - theirs) ** 2 for _, m in pairs)
        if variance == 0.0:
            raise Unknown("undefined")
        return sum((b - ours) * (m - theirs) for b, m in pairs) / variance

    return slope


def session_returns(at: AsOf, name: str, sessions: int) -> list[tuple[int, int, float]]:
    """(begin, end, log return) of the last sessions up to the row's moment that has one itself, ascending.

    A return is between two consecutive closes of one instrument, at most six days apart (a long weekend is four); of
    a session the preferred instrument's. Empty when the row's own session has none.
    """
    merged: dict[int, tuple[int, float]] = {}
    for points in reversed(at.series[name].each(at.event_ns - LOOK_BACK_NS["macro"], at.event_ns, at.known_ns)):
        merged |= {
            end: (begin, _log_ratio(close, before)) for (begin, before), (end, close) in pairwise(points)
            if end - begin <= 6 * DAY_NS
        }
    if at.event_ns not in merged:
        return []
    return [(merged[end][0], end, merged[end][1]) for end in sorted(merged)[-sessions:]]


def _sessions(at: AsOf, name: str, back: int) -> list[Point]:
    """The row's close and the `back` before it, of one instrument: the first that has them."""
    begin = at.event_ns - (2 * back + 5) * DAY_NS
    for points in at.series[name].each(begin, at.event_ns, at.known_ns):
        if points[-1][0] == at.event_ns and len(points) > back:
            return points[-back - 1 :]
    raise at.lacking(name, begin)


def _value_at(at: AsOf, name: str) -> float:
    points = at.series[name].between(at.event_ns - 1, at.event_ns, at.known_ns)
    if not points:
        raise at.lacking(name, at.event_ns)
    return points[-1][1]


def _log_ratio(now: float, before: float) -> float:
    if now <= 0.0 or before <= 0.0:
        raise Unknown("undefined")
    return math.log(now / before)
