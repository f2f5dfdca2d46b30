"""Planted: markets whose volume tells where the price goes, and what an oracle that knows it earns."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from feature_repo.contracts import DAY_NS, MINUTE_NS
from feature_repo.grid import Floats
from tests.training.scored_rows import START_NS
from training.backtest import Quotes, Trades, trade
from training.dataset import TrainingSet, Windows, assemble, kernel_rows
from training.edge import should_trade
from training.klines import MinuteBars
from training.scored import Scored

EDGE_BPS, NOISE_BPS = 6.0, 8.0
DRIFT_BPS, TURNS = 2.0, 1 / 30
"""Of the market that drifts: bps a minute, and the chance that the drift turns in one."""
DAYS, LEARN_DAYS, TUNE_DAYS = 30, 13, 8
"""Of which to learn from and to calibrate on; eight are left to be judged by, a day behind each."""


@dataclass(frozen=True)
class Planted:
    """Bars, and which way each minute's volume says that the next one goes."""

    bars: MinuteBars
    sides: Floats

    def oracle(self, scored: Scored, cost_bps: float) -> Trades:
        """What one who knows the edge earns on the same decisions by the same rule."""
        edge = EDGE_BPS * self.sides[np.searchsorted(self.bars.close_ns, scored.close_ns_N)]
        return trade(Quotes.of(scored, 1), should_trade(edge, cost_bps), cost_bps)


def planted(seed: int = 0) -> Planted:
    """A loud minute is followed by a rise, a quiet one by a fall: 6 bps in the mean, 8 bps of noise."""
    rng = np.random.default_rng(seed)
    return _market(rng, rng.choice([-1.0, 1.0], DAYS * 1440), EDGE_BPS)


def drifting(seed: int = 0) -> Planted:
    """A loud minute is followed by 2 bps up in the mean, a quiet one by as much down, and loud follows loud for half an
    hour in the mean: after 15 minutes some 18 bps are to be had, after one less than two."""
    rng = np.random.default_rng(seed)
    return _market(rng, np.cumprod(np.where(rng.random(DAYS * 1440) < TURNS, -1.0, 1.0)), DRIFT_BPS)


def _market(rng: np.random.Generator, side: Floats, edge_bps: float) -> Planted:
    n = len(side)
    returns = 1e-4 * NOISE_BPS * rng.standard_normal(n)
    returns[1:] += 1e-4 * edge_bps * side[:-1]
    close = np.round(50_000 * np.exp(np.cumsum(returns)), 2)
    opened = np.concatenate([[50_000.0], close[:-1]])
    volume = 10.0 * np.exp(0.8 * side + 0.1 * rng.standard_normal(n))
    columns = {
        "open": opened, "high": np.maximum(opened, close) + 1.0, "low": np.minimum(opened, close) - 1.0, "close": close,
        "volume": volume, "quote_volume": volume * close, "taker_buy_volume": np.full(n, np.nan),
    }
    closes_ns = START_NS + MINUTE_NS * np.arange(1, n + 1)
    return Planted(MinuteBars("BTCUSDT", "simulated", closes_ns, columns), side)


def parts(close_ns: np.ndarray, learn_days: int = LEARN_DAYS, tune_days: int = TUNE_DAYS) -> Windows:
    """Midnights between the days to learn from, to calibrate on and to be judged by."""
    first = int(close_ns[0]) - MINUTE_NS
    cuts = (first + learn_days * DAY_NS, first + (learn_days + tune_days) * DAY_NS)
    return Windows.between((int(close_ns[0]), *cuts, int(close_ns[-1]) + 1))


def planted_table(market: Planted) -> TrainingSet:
    return assemble(kernel_rows(market.bars), parts(market.bars.close_ns))
