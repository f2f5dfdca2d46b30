"""Made: decisions of a market that a test lays out, with forecasts it may replace."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from feature_repo.contracts import MINUTE_NS
from feature_repo.grid import Floats, Ints
from training.backtest import Quotes
from training.scored import RETURN_HORIZONS, Scored
from training.targets import HORIZONS, realised_after

START_NS = 1_748_736_000_000_000_000  # 2025-06-01 00:00 UTC


def minutes(count: int, start_ns: int = START_NS) -> Ints:
    """Closes of consecutive minutes."""
    return start_ns + MINUTE_NS * np.arange(1, count + 1)


def walk(count: int, seed: int = 0, deviation: float = 5e-4) -> tuple[Floats, Floats]:
    """Opens and closes of a random walk whose minutes open a little off the last close."""
    rng = np.random.default_rng(seed)
    closes = 60_000 * np.exp(np.cumsum(deviation * rng.standard_normal(count)))
    opens = np.concatenate([[60_000.0], closes[:-1]]) * np.exp(1e-5 * rng.standard_normal(count))
    return opens, closes


def made_scored(close_ns: Ints, opens: Floats, closes: Floats, symbol: str = "BTCUSDT", **columns: Any) -> Scored:
    """Every bar as a decision; forecasts say next to nothing unless given."""
    n = len(close_ns)
    had, returns = {}, {}
    for h in RETURN_HORIZONS:
        quotes = Quotes.of_bars(symbol, close_ns, opens, closes, h)
        had[h], returns[h] = np.log(quotes.exit_N / quotes.entry_N), np.log(quotes.exit_N / closes)
    rv = np.full((n, len(HORIZONS)), 5e-4)
    made = Scored(
        model="made", symbol_N=np.full(n, symbol), close_ns_N=close_ns, t_ns_N=close_ns + 10**9, price_N=closes,
        entry_N=Quotes.of_bars(symbol, close_ns, opens, closes, 1).entry_N, returns=returns, had=had,
        p_up_N=np.full(n, 0.5), p_flat_N=np.full(n, 0.04), edge_bps={1: np.zeros(n), 15: np.zeros(n)},
        rv_NK=rv, rv_hat_NK=rv, rv_har_NK=rv, rv_low_N=rv[:, 1] / 2, rv_high_N=rv[:, 1] * 2, rv_hour_N=rv[:, 0],
        return_bound_NK=rv, spiked_NK=np.zeros_like(rv), spike_prob_NK=np.full_like(rv, 0.1), risky_N=np.zeros(n),
        risk_score_N=np.full(n, 0.1), out_of_distribution_N=np.zeros(n, dtype=bool),
    )
    return replace(made, **columns)


def forecast_scored(days: int = 6, seed: int = 0) -> Scored:
    """A week whose volatility comes and goes by the hour, with forecasts that know some of it and say so honestly."""
    n, rng = days * 1440, np.random.default_rng(seed)
    level = 4e-4 * np.exp(np.repeat(0.5 * rng.standard_normal(n // 60), 60))
    closes = 60_000 * np.exp(np.cumsum(level * rng.standard_normal(n)))
    plain = made_scored(minutes(n), np.concatenate([[60_000.0], closes[:-1]]), closes)
    rv = np.column_stack([realised_after(closes, h) for h in HORIZONS])
    hat, har = (level[:, None] * np.exp(spread * rng.standard_normal((n, 3))) for spread in (0.2, 0.25))
    moved = np.column_stack([np.abs(plain.returns[h]) for h in HORIZONS])
    reach = np.sqrt(np.array(HORIZONS))
    bound = hat * reach * np.nanquantile(moved / (hat * reach), 0.8, axis=0)
    chance = np.clip(0.1 * np.exp(rng.standard_normal((n, 4))), 0.005, 0.9)
    came = (rng.random((n, 4)) < chance).astype(np.float64)
    return replace(
        plain, rv_NK=rv, rv_hat_NK=hat, rv_har_NK=har, rv_low_N=0.75 * hat[:, 1], rv_high_N=1.25 * hat[:, 1],
        return_bound_NK=bound, spiked_NK=came[:, :3], spike_prob_NK=chance[:, :3], risky_N=came[:, 3],
        risk_score_N=chance[:, 3], p_up_N=0.5 + 0.01 * rng.standard_normal(n), edge_bps={1: rng.standard_normal(n)},
    ).only(np.arange(n - 60))
