"""Budget: at most so many in any window of time; a sliding one, so that no two windows can be spent back to back.

    >>> budget = Budget(most=2, window=60)
    >>> [(budget.wait(now), budget.spend(now)) for now in (0, 10)]
    [(0, None), (0, None)]
    >>> budget.wait(15), budget.wait(60)
    (45, 0)

Time is an argument, in whatever unit the window is. Time that went back (another clock) makes the old entries void.
"""

from __future__ import annotations

from collections import deque


class Budget:
    """What may be spent of something."""

    def __init__(self, most: int, window: float) -> None:
        self._window = window
        self._spent: deque[float] = deque(maxlen=most)

    def wait(self, now: float) -> float:
        """How long from now until one more may be spent; 0: now."""
        if len(self._spent) < (self._spent.maxlen or 0) or self._spent[0] > now:
            return 0
        return max(0, self._spent[0] + self._window - now)

    def spend(self, now: float) -> None:
        """Spend one."""
        self._spent.append(now)
