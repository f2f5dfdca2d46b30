"""Costs: what a trade costs per side, stated beside every edge.

    >>> CostModel().per_side_bps
    11.05
"""

from __future__ import annotations

from dataclasses import dataclass

from feature_repo.settings import Settings

COST_TABLE_BPS = (0.0, 0.5, 2.0, 5.0, 10.0)
"""Costs per side that every backtest is repeated at: from none, over makers and futures takers, to a spot taker."""


@dataclass(frozen=True)
class CostModel:
    """Basis points per side."""

    fee_bps: float = 10.0
    """Taker fee: Binance spot's public default tier, 0.1 %."""
    half_spread_bps: float = 0.05
    """Generous for BTCUSDT: one tick of 0.01 at 60,000 is 0.002 bp."""
    slippage_bps: float = 1.0
    """Between the decision and the fill; an assumption, not a measurement."""

    @classmethod
    def of(cls, settings: Settings) -> CostModel:
        """The deployment's costs.

        >>> CostModel.of(Settings(cost_fee_bps=2.0)).per_side_bps
        3.05
        """
        return cls(settings.cost_fee_bps, settings.cost_half_spread_bps, settings.cost_slippage_bps)

    @property
    def per_side_bps(self) -> float:
        return self.fee_bps + self.half_spread_bps + self.slippage_bps

    def as_dict(self) -> dict[str, float]:
        return {
            "fee_bps": self.fee_bps, "half_spread_bps": self.half_spread_bps, "slippage_bps": self.slippage_bps,
            "per_side_bps": self.per_side_bps, "round_trip_bps": 2 * self.per_side_bps,
        }
