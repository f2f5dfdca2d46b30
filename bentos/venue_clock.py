"""VenueTime: the venue's clock as serving knows it, learned from the messages that ingest stamps.

    >>> now = VenueTime(wall=lambda: 5_000_000_000)
    >>> now.learn(stamped_ns=3_000_000_000, appended_ms=1_000)      # the venue is 2 s ahead of this machine
    >>> now()
    7000000000

`ts_init` is on the venue clock, Kafka's append time on the wall clock a few milliseconds later; their
difference is the offset that ingest measured, without asking the venue. So ages are right on a machine whose
clock is wrong, and in a replay with its original times. Until something was learned it is the wall clock.
"""

from __future__ import annotations

import statistics
import time
from collections import deque
from collections.abc import Callable

MILLI_NS = 1_000_000
SAMPLES = 31
JITTER_NS = 250 * MILLI_NS
"""Offsets below this are taken as zero: they are transport time and clock jitter, not a wrong clock."""


class VenueTime:
    """A callable clock: nanoseconds UTC on the venue's clock."""

    def __init__(self, wall: Callable[[], int] = time.time_ns) -> None:
        self._wall = wall
        self._offsets_ns: deque[int] = deque(maxlen=SAMPLES)
        self._offset_ns = 0

    def __call__(self) -> int:
        return self._wall() + self._offset_ns

    @property
    def offset_ns(self) -> int:
        """Venue clock minus wall clock."""
        return self._offset_ns

    def learn(self, stamped_ns: int, appended_ms: int) -> None:
        """Take one message's `ts_init` and the broker's append time."""
        self._offsets_ns.append(stamped_ns - appended_ms * MILLI_NS)
        median = int(statistics.median(self._offsets_ns))
        self._offset_ns = 0 if abs(median) < JITTER_NS else median
