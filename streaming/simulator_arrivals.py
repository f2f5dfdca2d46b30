"""Arrivals: times of a self-exciting (Hawkes) process in a window, conditioned on how many there are.

    >>> import numpy as np
    >>> times = arrivals(np.random.default_rng(1), 500, np.ones(60), 3_600.0)
    >>> len(times), bool((np.diff(times) >= 0).all()), bool((times < 3_600).all())
    (500, True, True)

Hawkes (1971) with an exponential kernel, drawn by its branching (Hawkes & Oakes 1974): immigrants come by a Poisson
process whose rate follows the market's activity, each event has Poisson(`BRANCHING`) children, each at an exponential
time after its parent. Conditioning on the count is what makes trade ids known for every hour without the hours
before. Descendants that fall beyond the window begin it instead, which keeps the process stationary.
"""

from __future__ import annotations

import numpy as np

from streaming.simulator_days import Floats, Ints

BRANCHING = 0.6
"""Children per event: the dispersion of counts over long windows is 1 / (1 − this)² = 6 times Poisson's."""
MEMORY_S = 0.7
"""Mean time from parent to child."""


def arrivals(dice: np.random.Generator, count: int, activity: Floats, length_s: float) -> Floats:
    """`count` ascending times in [0, length). `activity` weighs the window's equal parts."""
    edges = np.linspace(0.0, length_s, len(activity) + 1)
    share = np.concatenate(([0.0], np.cumsum(activity))) / activity.sum()
    clusters = int(count * (1 - BRANCHING) * 1.1) + 20
    while True:
        times, family = _families(dice, np.interp(dice.random(clusters), share, edges))
        if len(times) >= count:
            break
        clusters *= 2
    # Whole families in the order of their immigrants, which is random in time; the last one may be cut.
    chosen = np.argsort(family, kind="stable")[:count]
    return np.sort(times[chosen] % length_s)


def _families(dice: np.random.Generator, immigrants: Floats) -> tuple[Floats, Ints]:
    """Times of all descendants and of the immigrants themselves, and whose family each belongs to."""
    times, families = [immigrants], [np.arange(len(immigrants))]
    while len(times[-1]):
        children = dice.poisson(BRANCHING, len(times[-1]))
        parents = np.repeat(times[-1], children)
        times.append(parents + dice.exponential(MEMORY_S, len(parents)))
        families.append(np.repeat(families[-1], children))
    return np.concatenate(times), np.concatenate(families)
