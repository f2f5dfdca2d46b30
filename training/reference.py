"""Reference: what the inputs looked like in training, for drift gauges (PSI) and the out-of-distribution rule.

    >>> import numpy as np
    >>> histogram(np.array([0.0, 0.0, 1.0, np.nan]))["null_share"]
    0.25

PSI over a feature = Σ (p − q) ln(p / q) over the bins of `edges` (open at both ends) with proportions floored at 1e-4.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from feature_repo.features import FEATURE_NAMES, FORECAST_BAR
from feature_repo.grid import Floats
from training.dataset import TrainingSet

BINS = 10
BOUNDS = (0.0005, 0.9995)
MAX_OUTSIDE = 2
"""A row with more features than this beyond their bounds is out of distribution."""
DISTANCE_QUANTILE = 0.9995
CALENDAR = tuple(name for name in FORECAST_BAR if name.startswith(("time_of_day", "day_of_week")))


def histogram(values: Floats) -> dict[str, Any]:
    """Inner edges of equally filled bins, the share of known values in each, and the share that is null."""
    known = values[np.isfinite(values)]
    if len(known) == 0:
        return {"edges": [], "proportions": [], "null_share": 1.0}
    edges = np.unique(np.quantile(known, np.linspace(0, 1, BINS + 1)[1:-1]))
    counts = np.bincount(np.searchsorted(edges, known, side="right"), minlength=len(edges) + 1)
    return {
        "edges": edges.tolist(), "proportions": (counts / len(known)).tolist(),
        "null_share": float(1 - len(known) / len(values)),
    }


def histograms(table: TrainingSet) -> dict[str, Any]:
    """Reference histogram of every FORECAST_BAR feature over the training part; the others were not in training."""
    newest = table.newest(table.part("train")).astype(np.float64)
    return {name: histogram(newest[:, i]) for i, name in enumerate(FORECAST_BAR)}


def out_of_distribution(table: TrainingSet) -> dict[str, Any]:
    """Bounds per feature, the distance rule and the share of training and calibration rows that each calls out.

    distance = sqrt(mean of z²) over known features, z = (x − center) / scale, cut at ± 20.
    """
    newest = table.newest(table.part("train")).astype(np.float64)
    low, high = np.nanquantile(newest, BOUNDS, axis=0)
    center = np.nanmedian(newest, axis=0)
    spread = np.nanquantile(newest, [0.16, 0.84], axis=0)
    scale = np.maximum((spread[1] - spread[0]) / 2, 1e-12)
    limit = float(np.quantile(distance(newest, center, scale), DISTANCE_QUANTILE))
    calibration = table.newest(table.part("calibration")).astype(np.float64)
    facts = {
        "features": list(FORECAST_BAR), "lower": low.tolist(), "upper": high.tolist(), "center": center.tolist(),
        "scale": scale.tolist(), "max_distance": limit, "max_outside": MAX_OUTSIDE,
        "rule": "out when more than max_outside known features lie beyond [lower, upper], or when "
                "sqrt(mean(min(|x - center| / scale, 20)^2)) over known features exceeds max_distance",
    }
    both = {"train": newest, "calibration": calibration}
    return {**facts, "share_out": {name: float(is_out(rows, facts).mean()) for name, rows in both.items()}}


def distance(rows_NF: Floats, center: Floats, scale: Floats) -> Floats:
    """Robust distance of each row from the training rows' centre, unknown features left out."""
    z = np.minimum(np.abs(rows_NF - center) / scale, 20.0)
    return np.asarray(np.sqrt(np.nanmean(z**2, axis=1)))


def is_out(rows_NF: Floats, facts: dict[str, Any]) -> NDArray[np.bool_]:
    """The rule of `out_of_distribution` on rows in FORECAST_BAR order; a rule of an older set may know fewer."""
    rows_NF = rows_NF[:, [FORECAST_BAR.index(name) for name in facts["features"]]]
    outside = ((rows_NF < np.array(facts["lower"])) | (rows_NF > np.array(facts["upper"]))).sum(axis=1)
    far = distance(rows_NF, np.array(facts["center"]), np.array(facts["scale"])) > facts["max_distance"]
    return np.asarray((outside > facts["max_outside"]) | far)


def features_without_reference() -> list[str]:
    """Features the model does not read: they have no training reference."""
    return [name for name in FEATURE_NAMES if name not in FORECAST_BAR]
