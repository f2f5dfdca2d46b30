"""Scored: one model's forecasts on decision rows beside what happened: the seam of scores, backtest and report.

    scored = scored_rows(version, table, at, answers, Facts.of(meta))        # training.scoring
    scored.up, scored.days, scored.returns[15], scored.only(scored.risk_score > 0.7)

Whole-minute decisions only, ascending per symbol. Unknown is NaN, never 0. What a model does not forecast (HAR has no
direction) is NaN throughout.

Shapes: N decisions · K horizons (`targets.HORIZONS`: 5, 15, 60 minutes).
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from feature_repo.grid import Floats, Ints
from training.day_blocks import day_of

RETURN_HORIZONS = (1, 5, 15, 60)
"""Minutes ahead of the realised returns."""


@dataclass(frozen=True)
class Scored:
    """Forecasts and outcomes of N decisions."""

    model: str
    """Version of an artefact, or a baseline's name."""
    symbol_N: NDArray[np.str_]
    close_ns_N: Ints
    """Close of the whole minute that was decided on, ns UTC."""
    t_ns_N: Ints
    """Decision time: when that minute's row became known (`created`), ns UTC."""
    price_N: Floats
    """Close of that minute."""
    entry_N: Floats
    """Open of the next minute: the first price that could be had after the decision; NaN where it has no bar."""
    returns: dict[int, Floats]
    """Horizon in minutes (`RETURN_HORIZONS`) → log return, close to close; NaN across a hole. It scores forecasts."""
    had: dict[int, Floats]
    """Horizon in minutes → log return from `entry_N` to the horizon's close. It scores money."""
    p_up_N: Floats
    """P(up | the price moves) over the next minute."""
    p_flat_N: Floats
    edge_bps: dict[int, Floats]
    """Horizon in minutes → expected log return in bps, recalibrated; only the horizons the model speaks of."""
    rv_NK: Floats
    """Realised volatility after the decision, per √minute."""
    rv_hat_NK: Floats
    """Its forecast."""
    rv_har_NK: Floats
    """HAR's forecast of the same, calibrated as the model is: the reference."""
    rv_low_N: Floats
    """10 % and 90 % of the 15-minute volatility."""
    rv_high_N: Floats
    rv_hour_N: Floats
    """Realised volatility of the hour before the decision: spike threshold / 2, and the naive interval's base."""
    return_bound_NK: Floats
    """80 % of |log return| over each horizon is forecast to lie within this (conformal quantile × rv_hat × √h)."""
    spiked_NK: Floats
    """1.0 where RV_h exceeded twice `rv_hour_N`, else 0.0."""
    spike_prob_NK: Floats
    risky_N: Floats
    """1.0 where RV_15 exceeded its trailing 90th percentile as known at the decision, else 0.0."""
    risk_score_N: Floats
    out_of_distribution_N: NDArray[np.bool_]
    """Rows unlike the training set: no trade (`definitions`)."""

    def __len__(self) -> int:
        return len(self.close_ns_N)

    @property
    def up(self) -> Floats:
        """1.0 where the next minute rose, 0.0 where it fell, NaN where it stood still or is unknown."""
        moved = np.where(self.returns[1] == 0, np.nan, self.returns[1])
        return np.where(np.isnan(moved), np.nan, (moved > 0).astype(np.float64))

    @property
    def flat(self) -> Floats:
        """1.0 where the next minute stood still, 0.0 where it moved, NaN where it is unknown."""
        return np.where(np.isnan(self.returns[1]), np.nan, (self.returns[1] == 0).astype(np.float64))

    @property
    def days(self) -> Ints:
        """UTC day number of each decision's minute: the blocks of the bootstrap, shared by all symbols."""
        return day_of(self.close_ns_N)

    def only(self, chosen: NDArray[np.bool_] | Ints) -> Scored:
        """The chosen decisions, by mask or by position."""
        return replace(self, **{f.name: _chosen(getattr(self, f.name), chosen) for f in fields(self)})


def _chosen(value: Any, chosen: NDArray[np.bool_] | Ints) -> Any:
    if isinstance(value, str):
        return value
    return {name: column[chosen] for name, column in value.items()} if isinstance(value, dict) else value[chosen]
