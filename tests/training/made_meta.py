"""Made: what meta.json says of a model's training, as evaluation asks it."""

from __future__ import annotations

from typing import Any

from feature_repo.features import FORECAST_BAR

N = len(FORECAST_BAR)
WINDOWS = {"train": ["2025-01-01T00:01:00+00:00", "2025-03-01T00:00:00+00:00"],
           "calibration": ["2025-03-02T00:01:00+00:00", "2025-04-01T00:00:00+00:00"]}
LEARNT: dict[str, Any] = {
    "symbol": "BTCUSDT", "source": "live", "calibration": {"return_intervals": {"5": 1.2, "15": 1.3, "60": 1.4}},
    "dataset": {"identity": "0" * 16, "windows": WINDOWS, "counts": {"train": 84_000}},
    "ood": {"features": list(FORECAST_BAR), "lower": [-1.0] * N, "upper": [1.0] * N, "center": [0.0] * N,
            "scale": [0.01] * N, "max_distance": 5.0, "max_outside": 2},
}
"""What evaluation asks of an artefact besides what serving does."""
