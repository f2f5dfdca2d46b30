"""Drift: how far live features have moved from what the model was trained on, in plain NumPy.

    >>> even = Histogram(edges=(0.0, 1.0, 2.0), proportions=(0.25, 0.25, 0.25, 0.25))
    >>> round(psi(even, np.array([-1.0, 0.5, 1.5, 3.0])), 6)
    0.0
    >>> psi(even, np.array([0.1, 0.2, 0.3, 0.4])) > 1
    True

The reference travels with the model (`meta.json`), so a model is always compared with its own training data.
Bands of the population stability index, by convention: below 0.1 steady, to 0.25 watch, above it drift.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from feature_repo.contracts import ModelRefused
from feature_repo.features import DECLARED, SEQUENCE_FEATURES
from feature_repo.grid import Floats

# The hour and the weekday of one day of data are no sample of a year: they would always "drift".
MONITORED: tuple[str, ...] = tuple(f.name for f in DECLARED if f.name in SEQUENCE_FEATURES and f.family != "calendar")
SMALLEST_SHARE = 1e-4
MINIMUM_ROWS = 120


@dataclass(frozen=True)
class Histogram:
    """Shares of a feature's training values: `proportions[i]` lies in [edges[i-1], edges[i]), open at both ends."""

    edges: tuple[float, ...]
    proportions: tuple[float, ...]

    def __post_init__(self) -> None:
        if len(self.proportions) != len(self.edges) + 1:
            raise ModelRefused(f"expected {len(self.edges) + 1} proportions, found {len(self.proportions)}")

    def shares(self, values: Floats) -> Floats:
        """Shares of `values` (finite) in the same bins."""
        counts = np.bincount(np.searchsorted(self.edges, values, side="right"), minlength=len(self.proportions))
        shares: Floats = counts / max(values.size, 1)
        return shares

    def sample(self, size: int) -> Floats:
        """`size` values spread evenly through the bins' quantiles: a stand-in where a report wants values.

        The open bins at both ends are taken as wide as their neighbours.
        """
        inner = np.asarray(self.edges)
        edges = np.concatenate([[2 * inner[0] - inner[1]], inner, [2 * inner[-1] - inner[-2]]])
        cumulative = np.concatenate([[0.0], np.cumsum(self.proportions)])
        values: Floats = np.interp((np.arange(size) + 0.5) / size * cumulative[-1], cumulative, edges)
        return values


def psi(reference: Histogram, values: Floats) -> float:
    """Population stability index: sum of (p − q) ln(p / q) over the bins, shares floored at 1e-4."""
    expected = np.maximum(reference.proportions, SMALLEST_SHARE)
    found = np.maximum(reference.shares(values), SMALLEST_SHARE)
    return float(((found - expected) * np.log(found / expected)).sum())


def ks(reference: Histogram, values: Floats) -> float:
    """Kolmogorov–Smirnov distance at the bins' edges, in [0, 1]."""
    gap = np.cumsum(reference.shares(values)) - np.cumsum(reference.proportions)
    return float(np.abs(gap).max())


def references(meta: Mapping[str, Any]) -> dict[str, Histogram]:
    """The training histograms in a model's `meta.json` of the monitored features that it reads.

    Raises `ModelRefused` when one lacks.
    """
    found, read = meta.get("reference_histograms", {}), meta.get("features", MONITORED)
    wanted = [name for name in MONITORED if name in read]
    if missing := [name for name in wanted if name not in found]:
        raise ModelRefused(f"meta.json: expected reference_histograms of {', '.join(missing)}, found none")
    return {name: Histogram(tuple(found[name]["edges"]), tuple(found[name]["proportions"])) for name in wanted}


def drift(histograms: Mapping[str, Histogram], columns: Mapping[str, Floats]) -> dict[str, dict[str, float]]:
    """PSI and KS of each feature with at least 120 known values; a feature with fewer is left out."""
    known = {name: column[np.isfinite(column)] for name, column in columns.items() if name in histograms}
    return {
        name: {"psi": psi(histograms[name], values), "ks": ks(histograms[name], values), "rows": float(values.size)}
        for name, values in known.items()
        if values.size >= MINIMUM_ROWS
    }
