"""Drawing: charts as inline SVG that take their colours from the page, so that they are dark or light with it.

    svg = plot("QLIKE by day", "Below HAR on 17 of 20 days.", x, y, [Series("model", days, values, "c1")])

A chart is drawn for a third of the page and scales with its card; its text stays legible at 360 pixels, and wider ones
scroll there. Each carries a title and what is to be seen in words, for those who do not see it. Unknown values (NaN)
interrupt a line.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from html import escape
from itertools import pairwise

import numpy as np

from feature_repo.contracts import DAY_NS
from feature_repo.grid import Floats

NARROW, WIDE, WHOLE = 420.0, 640.0, 1260.0
"""Widths of a chart in a third, a half and the whole of the page."""
HEIGHT = 230.0
LEFT, RIGHT, TOP, BOTTOM = 52.0, 10.0, 8.0, 26.0
ROW = 26.0
"""Height of one line of a dot chart."""
_Place = Callable[[float, float], tuple[float, float]]


@dataclass(frozen=True)
class Axis:
    """A range and the places on it that are named."""

    low: float
    high: float
    ticks: tuple[tuple[float, str], ...]

    def share(self, value: float) -> float:
        """Where a value lies, 0 at the low end and 1 at the high one; what lies outside is put at its edge."""
        return min(max((value - self.low) / (self.high - self.low), 0.0), 1.0)


def axis(values: Iterable[float], steps: int = 5, unit: str = "", floor: float | None = None) -> Axis:
    """An axis with round ticks around the finite values; from 0 to 1 without any.

    >>> [label for _, label in axis([0.12, 0.47]).ticks]
    ['0.1', '0.2', '0.3', '0.4', '0.5']
    """
    known = [value for value in values if math.isfinite(value)]
    low, high = (min(known), max(known)) if known else (0.0, 1.0)
    low = low if floor is None else min(low, floor)
    if high - low < 1e-12:
        low, high = low - 0.5 * max(abs(low), 1e-6), high + 0.5 * max(abs(high), 1e-6)
    step = _round_step((high - low) / steps)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    digits = max(0, -math.floor(math.log10(step) + 1e-9))
    ticks = tuple((i * step, f"{i * step:,.{digits}f}{unit}".replace("-", "−")) for i in range(first, last + 1))
    return Axis(first * step, last * step, ticks)


def _round_step(rough: float) -> float:
    power = 10.0 ** math.floor(math.log10(rough))
    return next(step * power for step in (1, 2, 5, 10) if step * power >= rough * (1 - 1e-9))


def time_axis(first_ns: int, last_ns: int, steps: int = 4) -> Axis:
    """UTC days between two times, named by day and month, and by year where the span exceeds one."""
    last_ns = max(last_ns, first_ns + 1)
    days = (last_ns - first_ns) / DAY_NS
    form = "%b %Y" if days > 400 else "%-d %b" if days > 3 else "%-d %b %H:%M"
    unit = DAY_NS if days > 3 else DAY_NS // 24
    step = max(1, round((last_ns - first_ns) / unit / steps)) * unit
    start = -(-first_ns // unit) * unit
    ticks = tuple((float(ns), datetime.fromtimestamp(ns / 1e9, UTC).strftime(form))
                  for ns in range(int(start), int(last_ns) + 1, int(step)))
    return Axis(float(first_ns), float(last_ns), ticks)


@dataclass(frozen=True)
class Series:
    """One line of a plot; `low` and `high` are the ends of each point's interval."""

    name: str
    x: Floats
    y: Floats
    color: str
    """A class of the page's style: c1 … c6."""
    dashed: bool = False
    area: bool = False
    """Filled down to the axis instead of drawn as a line."""
    marks: bool = False
    low: Floats | None = None
    high: Floats | None = None


@dataclass(frozen=True)
class Guide:
    """What the points are to be compared with: a straight line between two points, or the band between two levels."""

    x: tuple[float, float]
    y: tuple[float, float]
    band: bool = False


def plot(
    title: str, told: str, x: Axis, y: Axis, series: Sequence[Series], guides: Sequence[Guide] = (),
    width: float = NARROW,
) -> str:
    """Lines or points over two axes. `title` and `told` (one sentence of what is seen) are read aloud, not drawn."""
    def place(px: float, py: float) -> tuple[float, float]:
        return (LEFT + x.share(px) * (width - LEFT - RIGHT), HEIGHT - BOTTOM - y.share(py) * (HEIGHT - TOP - BOTTOM))

    parts = [_grid(x, y, place, width)]
    for guide in guides:
        (x1, y1), (x2, y2) = place(guide.x[0], guide.y[0]), place(guide.x[1], guide.y[1])
        parts.append(
            f'<rect class="band" x="{x1:.1f}" y="{min(y1, y2):.1f}" width="{x2 - x1:.1f}" height="{abs(y2 - y1):.1f}"/>'
            if guide.band else f'<path class="guide" d="M{x1:.1f} {y1:.1f}L{x2:.1f} {y2:.1f}"/>'
        )
    parts += [_series(each, place) for each in series]
    return _svg(title, told, (width, HEIGHT), "".join(parts))


def _grid(x: Axis, y: Axis, place: _Place, width: float) -> str:
    parts = []
    for value, label in y.ticks:
        _, at = place(x.low, value)
        parts.append(f'<path class="grid" d="M{LEFT} {at:.1f}H{width - RIGHT}"/>'
                     f'<text class="end" x="{LEFT - 7}" y="{at + 3.5:.1f}">{escape(label)}</text>')
    for value, label in x.ticks:
        at, _ = place(value, y.low)
        side = "end" if at > width - RIGHT - 18 else "mid"
        right = min(at, width - 2.0) if side == "end" else at
        parts.append(f'<path class="tick" d="M{at:.1f} {HEIGHT - BOTTOM}v4"/>'
                     f'<text class="{side}" x="{right:.1f}" y="{HEIGHT - BOTTOM + 17}">{escape(label)}</text>')
    return "".join(parts) + f'<path class="base" d="M{LEFT} {HEIGHT - BOTTOM}H{width - RIGHT}"/>'


def _series(series: Series, place: _Place) -> str:
    points = [place(float(px), float(py)) if math.isfinite(py) else None
              for px, py in zip(series.x, series.y, strict=True)]
    if series.area:
        return _area(series, [point for point in points if point])
    d, pen = [], "M"
    for point in points:
        if point is not None:
            d.append(f"{pen}{point[0]:.1f} {point[1]:.1f}")
        pen = "M" if point is None else "L"
    parts = [f'<path class="line {series.color}{" dashed" if series.dashed else ""}" d="{"".join(d)}"/>']
    if series.low is not None and series.high is not None:
        parts.append(_whiskers(series, place))
    if series.marks:
        parts += [f'<circle class="mark {series.color}" cx="{p[0]:.1f}" cy="{p[1]:.1f}" r="3.2"/>' for p in points if p]
    return "".join(parts)


def _area(series: Series, points: Sequence[tuple[float, float]]) -> str:
    if not points:
        return ""
    top = "L".join(f"{px:.1f} {py:.1f}" for px, py in points)
    floor = HEIGHT - BOTTOM
    return f'<path class="area {series.color}" d="M{points[0][0]:.1f} {floor}L{top}L{points[-1][0]:.1f} {floor}Z"/>'


def _whiskers(series: Series, place: _Place) -> str:
    assert series.low is not None
    assert series.high is not None
    ends = [(place(float(px), float(low)), place(float(px), float(high)))
            for px, low, high in zip(series.x, series.low, series.high, strict=True)
            if math.isfinite(low) and math.isfinite(high)]
    d = "".join(f"M{a[0]:.1f} {a[1]:.1f}V{b[1]:.1f}" for a, b in ends)
    return f'<path class="whisker {series.color}" d="{d}"/>'


@dataclass(frozen=True)
class Dot:
    """One line of a dot chart: a value and its interval."""

    label: str
    value: float
    low: float
    high: float
    color: str = "c1"


def dot_chart(
    title: str, told: str, x: Axis, dots: Sequence[Dot], reference: float, width: float = NARROW,
) -> str:
    """Values with intervals under each other, against a vertical line at `reference`."""
    left, right, height = 128.0, 22.0, TOP + ROW * len(dots) + BOTTOM

    def across(value: float) -> float:
        return left + x.share(value) * (width - left - right)

    floor = height - BOTTOM
    parts = [f'<path class="grid" d="M{across(value):.1f} {TOP}V{floor}"/>'
             f'<text class="mid" x="{across(value):.1f}" y="{floor + 17}">{escape(label)}</text>'
             for value, label in x.ticks]
    parts.append(f'<path class="guide" d="M{across(reference):.1f} {TOP}V{floor}"/>')
    for i, dot in enumerate(dots):
        at = TOP + ROW * (i + 0.5)
        parts.append(f'<text class="end name" x="{left - 10}" y="{at + 4:.1f}">{escape(dot.label)}</text>')
        if math.isfinite(dot.low) and math.isfinite(dot.high):
            d = f"M{across(dot.low):.1f} {at:.1f}H{across(dot.high):.1f}"
            parts.append(f'<path class="whisker {dot.color}" d="{d}"/>')
        parts.append(f'<circle class="mark {dot.color}" cx="{across(dot.value):.1f}" cy="{at:.1f}" r="4"/>')
    return _svg(title, told, (width, height), "".join(parts))


def legend(series: Sequence[Series]) -> str:
    """The names of a plot's lines with a piece of each, as an HTML list."""
    def item(each: Series) -> str:
        mark = f'<circle class="mark {each.color}" cx="11" cy="5" r="3.2"/>' if each.marks else ""
        kind, d = ("area", "M1 1H21V10H1Z") if each.area else ("line", "M1 5H21")
        stroke = f'<path class="{kind} {each.color}{" dashed" if each.dashed else ""}" d="{d}"/>'
        key = f'<svg class="key" viewBox="0 0 22 10" width="22" height="10" aria-hidden="true">{stroke}{mark}</svg>'
        return f"<li>{key}{escape(each.name)}</li>"

    return f'<ul class="legend">{"".join(item(each) for each in series)}</ul>'


def thinned(x: Floats, y: Floats, points: int = 360) -> tuple[Floats, Floats]:
    """At most about `points` of a long line: first, last and each stretch's lowest and highest, so no peak is lost."""
    if len(x) <= points:
        return x, y
    edges = np.linspace(0, len(x), points // 2 + 1).astype(np.int64)
    kept = {0, len(x) - 1}
    for a, b in pairwise(edges.tolist()):
        kept |= {int(a + np.argmin(y[a:b])), int(a + np.argmax(y[a:b]))}
    at = np.array(sorted(kept))
    return x[at], y[at]


def _svg(title: str, told: str, size: tuple[float, float], inside: str) -> str:
    wide = " wide" if size[0] > NARROW else ""
    svg = (f'<svg class="chart{wide}" viewBox="0 0 {size[0]:g} {size[1]:g}" role="img" '
           f'aria-label="{escape(f"{title}. {told}", quote=True)}">{inside}</svg>')
    return f'<div class="pan" tabindex="0">{svg}</div>' if wide else svg
