"""Headline: the few numbers of an evaluation that MLflow and the console show, under names that do not change.

    headline(report)["qlike_15m"]
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from training.targets import SPIKE_HORIZON

Found = Mapping[str, Any]


def headline(report: Found) -> dict[str, float]:
    """The few numbers that MLflow and the console show; what the model does not forecast is not among them."""
    told: dict[str, float | None] = {"rows": report["decisions"], "days": report["days"]}
    for horizon, scores in report["volatility"].items():
        told |= {f"qlike_{horizon}m": scores["qlike"], f"r2_log_{horizon}m": scores["r2_log"]}
        for name, other in report["baselines"].items():
            told[f"qlike_{horizon}m_{name}"] = other["volatility"][horizon]["qlike"]
    for name, scores in _chances(report).items():
        told |= {f"auc_{name}": scores["auc"], f"calibration_error_{name}": scores["ece"]}
    told["accuracy_up"] = report["direction"]["accuracy"]
    told["coverage_band_15m"] = report["intervals"]["band_15"]["coverage"]
    every_minute = report["pnl"]["1"]["strategies"].get("model_every_minute")
    net = every_minute and every_minute["at_settings"]["net_bps"]
    told["net_bps_per_trade_1m"] = net["value"] if net else None
    return {name: float(value) for name, value in told.items() if value is not None}


def _chances(report: Found) -> dict[str, Found]:
    """Each chance under the name that runs have had it under from the first: `spike` is that of 15 minutes."""
    spikes = {"spike" if h == str(SPIKE_HORIZON) else f"spike_{h}m": scores for h, scores in report["spike"].items()}
    return {"up": report["direction"], "flat": report["flat"], "risk": report["risk"], **spikes}
