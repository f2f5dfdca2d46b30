"""VenueClock: what time it is at the venue, from the wall clock and a measured offset.

    >>> clock = VenueClock(lambda: 1_500, anchor_ns=1_000, offset_ns=250, rate=2.0)
    >>> clock.now()      # 1,000 + 250 at the anchor, then twice as fast
    2250

A recording may be played faster than it happened: then the venue's clock runs at `rate`, and margins that guard
against slowness of this machine (`margin_ns`) grow with it, because slowness is wall time. Played at full speed
(rate 0) there is no clock to measure: time is what the newest event says (`saw`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from feature_repo.contracts import VenueRefused


@dataclass(frozen=True, slots=True)
class ClockSample:
    """One REST `time` call: wall clock when sent and when answered, and the venue's answer; nanoseconds."""

    sent_ns: int
    answered_ns: int
    venue_ns: int

    @property
    def round_trip_ns(self) -> int:
        return self.answered_ns - self.sent_ns


FULL_SPEED_MARGIN = 1_000
"""How much faster than it happened a recording may be at full speed, for margins."""


@dataclass(slots=True)
class VenueClock:
    """venue time = anchor + offset + (wall − anchor) × rate, in integer nanoseconds UTC."""

    wall: Callable[[], int]
    """Wall clock in nanoseconds; injected."""
    anchor_ns: int
    """Wall time at which the offset was measured."""
    offset_ns: int
    """Venue clock minus wall clock at the anchor."""
    rate: float = 1.0
    """Venue seconds in one wall second; 0: time follows the events."""
    newest_ns: int = 0
    """The newest event time seen."""

    def now(self) -> int:
        return self.at(self.wall())

    def at(self, wall_ns: int) -> int:
        """The venue time at a wall time."""
        if self.rate == 0:
            return max(self.newest_ns, self.anchor_ns + self.offset_ns)
        elapsed = wall_ns - self.anchor_ns
        return self.anchor_ns + self.offset_ns + (elapsed if self.rate == 1.0 else round(elapsed * self.rate))

    def saw(self, ts_event: int) -> None:
        """An event of that time has come."""
        self.newest_ns = max(self.newest_ns, ts_event)

    def margin_ns(self, wall_ns: int) -> int:
        """A margin of `wall_ns` at rate 1, in venue time: never less than stated, more when time runs faster."""
        return round(wall_ns * (max(1.0, self.rate) if self.rate else FULL_SPEED_MARGIN))

    def wall_s(self, venue_ns: int) -> float:
        """Wall seconds in a span of venue time; 0 where time follows the events."""
        return venue_ns / self.rate / 1e9 if self.rate else 0.0


def measured(wall: Callable[[], int], samples: Iterable[ClockSample], rate: float = 1.0) -> VenueClock:
    """The clock of the sample with the shortest round trip, whose answer is taken to lie in the middle of it."""
    best = min(samples, key=lambda s: s.round_trip_ns, default=None)
    if best is None:
        raise VenueRefused("expected at least one answer to REST time, found none")
    middle = best.sent_ns + best.round_trip_ns // 2
    return VenueClock(wall, middle, best.venue_ns - middle, rate)
