"""Klines: minute bars of years, as columns, and the feature rows the one kernel makes of them.

    bars = read_klines(settings.data_dir / KLINES)       # or simulated_klines(days=30, seed=1)
    rows = feature_rows(bars)                            # (N, len(FEATURES)), one per bar that exists

The files have open, high, low, close and volume only. Quote volume is taken as volume × (high + low + close) / 3,
which moves `vwap_distance_15m` a little; taker volume is unknown and stays null.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np
import pandas as pd

from feature_repo.contracts import DAY_NS, MINUTE_NS, SECOND_NS, Source
from feature_repo.grid import Floats, Ints
from feature_repo.history import BarHistory

KLINES = Path("klines_binance") / "btcusdt_spot_1m.parquet"
SYMBOL = "BTCUSDT"
STRETCH_GAP_NS = DAY_NS
"""A hole longer than this starts a new history: no window reaches across it."""
SIMULATED_START_NS = 1_704_067_200 * SECOND_NS


@dataclass(frozen=True)
class MinuteBars:
    """Columns of one-minute bars, ascending by close; gaps are gaps."""

    symbol: str
    source: Source
    close_ns: Ints
    columns: dict[str, Floats]
    """open, high, low, close, volume, quote_volume, taker_buy_volume (NaN unknown), each (N,)."""

    @property
    def closes(self) -> Floats:
        return self.columns["close"]

    @property
    def created_ns(self) -> Ints:
        """When each backfilled row counts as known: close + 1 s (`definitions`)."""
        return self.close_ns + SECOND_NS


def read_klines(path: Path, symbol: str = SYMBOL) -> MinuteBars:
    """The data folder's official 1m klines. Raises `ValueError` when they are not there or not ascending."""
    if not path.exists():
        raise ValueError(f"expected klines at {path}, found none; set CANDLEWICK_DATA_DIR, or train with --simulated")
    klines = pd.read_parquet(path, columns=["date", "open", "high", "low", "close", "volume"])
    close_ns = klines["date"].dt.as_unit("ns").astype("int64").to_numpy() + MINUTE_NS
    if not (np.diff(close_ns) > 0).all():
        raise ValueError(f"{path.name}: expected strictly ascending dates, found repeated or disordered ones")
    return _bars(symbol, "live", close_ns, {name: klines[name].to_numpy(np.float64) for name in klines.columns[1:]})


def simulated_klines(days: int, seed: int = 0, symbol: str = SYMBOL) -> MinuteBars:
    """A market that is not real, source `simulated`: log volatility wanders with a daily cycle."""
    rng = np.random.default_rng(seed)
    n = days * 1440
    minute = np.arange(n)
    shocks = rng.standard_normal(n)
    fast, slow = _wander(shocks, 0.97, 0.12), _wander(rng.standard_normal(n), 0.9995, 0.012)
    ln_volatility = np.log(6e-4) + fast + slow + 0.3 * np.sin(2 * np.pi * (minute % 1440) / 1440)
    returns = np.exp(ln_volatility) * rng.standard_t(5, n) * np.sqrt(3 / 5)
    close = 50_000 * np.exp(np.cumsum(returns) - returns.sum() * minute / n)
    opened = np.concatenate([[50_000.0], close[:-1]])
    reach = np.abs(rng.standard_normal((2, n))) * np.exp(ln_volatility) * 0.5
    high, low = np.maximum(opened, close) * np.exp(reach[0]), np.minimum(opened, close) * np.exp(-reach[1])
    volume = np.exp(1.5 + 0.8 * (fast + slow) + 0.5 * rng.standard_normal(n))
    prices = {"open": opened, "high": high, "low": low, "close": close}
    columns = {name: np.round(values, 2) for name, values in prices.items()} | {"volume": np.round(volume, 5)}
    return _bars(symbol, "simulated", SIMULATED_START_NS + (minute + 1) * MINUTE_NS, columns)


def _wander(shocks: Floats, memory: float, step: float) -> Floats:
    """An AR(1) path."""
    path, value = np.empty_like(shocks), 0.0
    for i, shock in enumerate(shocks.tolist()):
        value = memory * value + step * shock
        path[i] = value
    return path


def _bars(symbol: str, source: Source, close_ns: Ints, columns: dict[str, Floats]) -> MinuteBars:
    typical = (columns["high"] + columns["low"] + columns["close"]) / 3
    unknown = np.full(len(close_ns), np.nan)
    every = {**columns, "quote_volume": columns["volume"] * typical, "taker_buy_volume": unknown}
    return MinuteBars(symbol, source, close_ns.astype(np.int64), every)


def stretches(close_ns: Ints, gap_ns: int = STRETCH_GAP_NS) -> list[slice]:
    """Parts of the history without a hole longer than `gap_ns`."""
    edges = [0, *(np.flatnonzero(np.diff(close_ns) > gap_ns) + 1).tolist(), len(close_ns)]
    return [slice(first, last) for first, last in pairwise(edges)]


def feature_rows(bars: MinuteBars) -> Floats:
    """Every feature at every bar's close by the one kernel: (N, len(FEATURES)), NaN for null."""
    return np.concatenate([_stretch_rows(bars, part) for part in stretches(bars.close_ns)])


def _stretch_rows(bars: MinuteBars, part: slice) -> Floats:
    close_ns = bars.close_ns[part]
    span = int((close_ns[-1] - close_ns[0]) // MINUTE_NS)
    history = BarHistory(bars.symbol, minutes_kept=span + 1500)
    history.load_minutes(close_ns, {name: column[part] for name, column in bars.columns.items()})
    return history.table(close_ns)
