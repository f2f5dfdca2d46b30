"""Known: the observations of one series for one market, asked as of a moment: nothing that was known later is seen.

    >>> one = Observation(symbol="MARKET", ts_event=100, ts_init=150, created=150, source="live", session="s",
    ...                   series="fear_greed", provider="alternative.me", instrument="FNG", value=40.0)
    >>> known = Known([one], ("FNG",))
    >>> known.between(0, 100, known_ns=149), known.between(0, 100, known_ns=150)
    ([], [(100, 40.0)])
"""

from __future__ import annotations

from bisect import bisect_right
from collections import defaultdict
from collections.abc import Iterable
from itertools import accumulate
from operator import attrgetter

from feature_repo.contracts import Observation

Point = tuple[int, float]
"""(the moment a value describes, ns; the value)."""
_ORDER = attrgetter("ts_event", "created")


class Known:
    """Of each instrument its observations by (ts_event, created); of one moment the one known last counts."""

    def __init__(self, observations: Iterable[Observation], instruments: tuple[str, ...]) -> None:
        self._instruments = instruments
        held: dict[str, list[Observation]] = defaultdict(list)
        for observation in observations:
            held[observation.instrument].append(observation)
        self._held = {name: sorted(held[name], key=_ORDER) for name in instruments if name in held}
        self._events = {name: [each.ts_event for each in rows] for name, rows in self._held.items()}
        known = sorted((each.created, each.ts_event) for rows in self._held.values() for each in rows)
        self._created = [created for created, _ in known]
        self._firsts = list(accumulate((event for _, event in known), min))

    def of(self, instrument: str, after_ns: int, until_ns: int, known_ns: int) -> list[Point]:
        """One instrument's values of (after, until], ascending, as known by `known_ns`."""
        events = self._events.get(instrument, [])
        rows = self._held.get(instrument, [])[bisect_right(events, after_ns) : bisect_right(events, until_ns)]
        return list({each.ts_event: each.value for each in rows if each.created <= known_ns}.items())

    def each(self, after_ns: int, until_ns: int, known_ns: int) -> list[list[Point]]:
        """`of` every instrument that has a value there, the preferred one first."""
        return [found for name in self._instruments if (found := self.of(name, after_ns, until_ns, known_ns))]

    def between(self, after_ns: int, until_ns: int, known_ns: int) -> list[Point]:
        """Values of (after, until], ascending; of each moment the preferred instrument's."""
        merged: dict[int, float] = {}
        for points in reversed(self.each(after_ns, until_ns, known_ns)):
            merged.update(points)
        return sorted(merged.items())

    def begins(self, known_ns: int) -> int | None:
        """The first moment that anything known by then describes; null when nothing is."""
        place = bisect_right(self._created, known_ns)
        return self._firsts[place - 1] if place else None
