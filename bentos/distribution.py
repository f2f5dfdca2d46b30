"""Distribution: whether a row lies where the model was trained, by the two rules of its `meta.json`; pure.

    >>> known = Bounds(("return_1m", "range_15m"), (0.0, 0.01), (0.001, 0.01), (-0.01, 0.0), (0.01, 0.1), 5.0, 0)
    >>> known.objection({"return_1m": 0.002, "range_15m": None})
    >>> known.objection({"return_1m": 0.012, "range_15m": 0.02})
    'out of distribution: return_1m beyond the training range; distance 8.5 > 5'

Out when more than `max_outside` known features lie beyond [lower, upper], or when the root mean square of the
robust z (cut at `CUT`) over known features exceeds `max_distance`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

CUT = 20.0


@dataclass(frozen=True, slots=True)
class Bounds:
    """One value a feature, in the order of `features`."""

    features: tuple[str, ...]
    center: tuple[float, ...]
    scale: tuple[float, ...]
    lower: tuple[float, ...]
    upper: tuple[float, ...]
    max_distance: float
    max_outside: int

    def objection(self, values: Mapping[str, float | None]) -> str | None:
        """Why a row is out of distribution, or None. Unknown values are no objection."""
        outside, squares = [], []
        for i, name in enumerate(self.features):
            value = values.get(name)
            if value is None:
                continue
            squares.append(min(abs(value - self.center[i]) / self.scale[i], CUT) ** 2)
            if not self.lower[i] <= value <= self.upper[i]:
                outside.append(name)
        distance = math.sqrt(sum(squares) / len(squares)) if squares else 0.0
        causes = [f"{', '.join(outside)} beyond the training range"] if len(outside) > self.max_outside else []
        if distance > self.max_distance:
            causes.append(f"distance {distance:.1f} > {self.max_distance:.3g}")
        return f"out of distribution: {'; '.join(causes)}" if causes else None
