"""Reliability in text: a calibration plot that any reader of Markdown shows, for cards.

    >>> points = [{"forecast": 0.1, "frequency": 0.1, "count": 9.0, "interval": {"frequency": None}},
    ...           {"forecast": 0.2, "frequency": 0.5, "count": 9.0,
    ...            "interval": {"frequency": {"low": 0.4, "high": 0.5, "days": 3}}}]
    >>> print(plot(points, width=17))
     said    came   95 %            0.1000     0.5000
    0.1000  0.1000                  ◉
    0.2000  0.5000 [0.4000, 0.5000]     ○       ────●

`points` are those of `training.day_blocks.reliability`: bins of equally many decisions, from the lowest chance.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

WIDTH = 48
SAID, CAME, BOTH, BETWEEN = "○", "●", "◉", "─"
LEGEND = f"{SAID} what was said, {CAME} how often it came, {BOTH} both, {BETWEEN} the 95 % interval of how often"
Point = Mapping[str, Any]


def plot(points: Sequence[Point], width: int = WIDTH) -> str:
    """A line a bin: the figures, then where they lie on an axis that all lines share."""
    values = [v for point in points for v in (point["forecast"], point["frequency"], *_ends(point))]
    low, high = min(values), max(values)
    head = f"{' said':<8}{' came':<7}{' 95 %':<17}"
    lines = [f"{head}{low:<{width - 6}.4f}{high:>6.4f}"]
    for point in points:
        ends = _ends(point)
        interval = "[{:.4f}, {:.4f}]".format(*ends) if ends else ""
        marks = _marks(point, ends, (low, high), width)
        lines.append(f"{point['forecast']:.4f}  {point['frequency']:.4f} {interval:<16} {marks}".rstrip())
    return "\n".join(lines)


def _ends(point: Point) -> tuple[float, ...]:
    held = point["interval"]["frequency"]
    return () if held is None else (held["low"], held["high"])


def _marks(point: Point, ends: Sequence[float], axis: tuple[float, float], width: int) -> str:
    said, came, *reach = (_place(value, axis, width) for value in (point["forecast"], point["frequency"], *ends))
    cells = [" "] * width
    if reach:
        cells[reach[0] : reach[1] + 1] = BETWEEN * (reach[1] + 1 - reach[0])
    cells[said], cells[came] = SAID, CAME
    if said == came:
        cells[said] = BOTH
    return "".join(cells)


def _place(value: float, axis: tuple[float, float], width: int) -> int:
    low, high = axis
    return round((value - low) / (high - low) * (width - 1)) if high > low else 0
