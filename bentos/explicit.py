"""Explicit fields of a request: a what-if on the newest row, field by field; pure.

| field of the request | feature of the newest row | how |
|---|---|---|
| `price` | return_1m/5m/15m, sma_distance_5m/15m, vwap_distance_15m | the close moves to `price`, all else stays |
| `vwap` (15 min) | vwap_distance_15m | price / vwap − 1 |
| `volatility` (15 min, per √minute) | realized_vol_15m | replaced |
| `momentum["1m" "5m" "15m"]` | return_1m, return_5m, return_15m | replaced |
| `momentum["60m" "4h"]` | momentum_60m, momentum_4h | replaced |
| `imbalance` | none | the bar model reads no book: named in `reasons`, changes nothing |

The mirror key `features:{symbol}:15m` holds `vwap` and `volatility` in exactly these meanings.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from feature_repo.contracts import FeatureRow, PredictRequest

MOMENTUM: Mapping[str, str] = {
    "1m": "return_1m", "5m": "return_5m", "15m": "return_15m", "60m": "momentum_60m", "4h": "momentum_4h",
}
RETURNS = ("return_1m", "return_5m", "return_15m")
AVERAGES: Mapping[str, int] = {"sma_distance_5m": 5, "sma_distance_15m": 15}
"""Distance to a moving average → how many closes it averages, the newest among them."""
VWAP, VOLATILITY = "vwap_distance_15m", "realized_vol_15m"


@dataclass(frozen=True, slots=True)
class Override:
    """A row with explicit values in it, and what was done to it, in words."""

    row: FeatureRow
    reasons: tuple[str, ...]


def is_explicit(request: PredictRequest) -> bool:
    """Whether the request says more than which symbol and when."""
    return bool(request.momentum) or any(
        value is not None for value in (request.price, request.vwap, request.volatility, request.imbalance)
    )


def check_momentum(request: PredictRequest) -> None:
    """Raises `ValueError` for a momentum window that no feature has."""
    if unknown := sorted(set(request.momentum or ()) - set(MOMENTUM)):
        raise ValueError(f"momentum: expected windows among {', '.join(MOMENTUM)}; found {', '.join(unknown)}")


def override(row: FeatureRow, request: PredictRequest) -> Override:
    """The newest row as the request wants it. Raises `ValueError` as `check_momentum`."""
    check_momentum(request)
    price = row.price if request.price is None else request.price
    changes: dict[str, float] = {}
    if request.price is not None:
        changes |= moved_close(row, request.price)
    if request.vwap is not None:
        changes[VWAP] = price / request.vwap - 1.0
    if request.volatility is not None:
        changes[VOLATILITY] = request.volatility
    changes |= {MOMENTUM[window]: value for window, value in (request.momentum or {}).items()}
    reasons = [f"explicit input set {', '.join(changes)}"] if changes else []
    if request.imbalance is not None:
        reasons.append("imbalance ignored: the model reads no order book")
    return Override(row.model_copy(update={"values": {**row.values, **changes}, "price": price}), tuple(reasons))


def moved_close(row: FeatureRow, price: float) -> dict[str, float]:
    """Features that contain the newest close, had it been `price`; unknown ones stay unknown."""
    known = {name: value for name, value in row.values.items() if value is not None}
    step = math.log(price / row.price)
    moved: dict[str, float] = {name: known[name] + step for name in RETURNS if name in known}
    for name, closes in AVERAGES.items():
        if name in known:
            average = row.price / (1.0 + known[name]) + (price - row.price) / closes
            moved[name] = price / average - 1.0
    if VWAP in known:
        moved[VWAP] = (1.0 + known[VWAP]) * price / row.price - 1.0
    return moved
