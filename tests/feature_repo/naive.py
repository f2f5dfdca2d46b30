"""A second, naive implementation of every feature: plain Python over lists of bars, nothing shared with the kernel.

`Naive(seconds, minutes)` maps close → bar; `value(name, t)` is the feature at close t or None.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import pairwise
from statistics import fmean, stdev

from feature_repo.contracts import DAY_NS, MINUTE_NS, SECOND_NS, Bar


class Missing(Exception):
    """More than 5 % of a window is not there."""


class Naive:
    def __init__(self, seconds: dict[int, Bar], minutes: dict[int, Bar]) -> None:
        self.seconds = seconds
        self.minutes = dict(minutes)
        for end in {(t + MINUTE_NS - 1) // MINUTE_NS * MINUTE_NS for t in seconds}:
            if (made := self.sixty(end)) is not None:
                self.minutes[end] = made

    def sixty(self, t: int) -> Bar | None:
        """The 60-second bar that ends at t from its seconds, else the minute bar that ends there."""
        parts = [self.seconds[s] for s in range(t - 59 * SECOND_NS, t + 1, SECOND_NS) if s in self.seconds]
        if len(parts) < 57:
            return self.minutes.get(t)
        traded = [p for p in parts if p.trades] or [parts[-1]]
        last = parts[-1]
        return last.model_copy(update={
            "interval_s": 60, "open": traded[0].open, "high": max(p.high for p in traded),
            "low": min(p.low for p in traded), "volume": math.fsum(p.volume for p in parts),
            "quote_volume": math.fsum(p.quote_volume for p in parts),
            "taker_buy_volume": math.fsum(p.taker_buy_volume for p in parts),
        })

    def last_sixties(self, t: int, n: int) -> list[Bar]:
        bars = [self.sixty(t - k * MINUTE_NS) for k in range(n - 1, -1, -1)]
        return enough(bars)

    def last_minutes(self, t: int, n: int, lag: int = 0) -> list[Bar | None]:
        end = t // MINUTE_NS * MINUTE_NS - lag * MINUTE_NS
        bars = [self.minutes.get(end - k * MINUTE_NS) for k in range(n - 1, -1, -1)]
        enough(bars)
        return bars

    def last_seconds(self, t: int, n: int, *, book: bool = False) -> list[Bar]:
        bars = [self.seconds.get(t - k * SECOND_NS) for k in range(n - 1, -1, -1)]
        return enough([b if b is not None and (b.book_valid or not book) else None for b in bars])

    def value(self, name: str, t: int) -> float | None:
        try:
            return FORMULAS[name](self, t)
        except (Missing, ZeroDivisionError):
            return None


def enough(bars: list[Bar | None]) -> list[Bar]:
    held = [b for b in bars if b is not None]
    if len(bars) - len(held) > 0.05 * len(bars):
        raise Missing
    return held


def ret(bars: list[Bar | None]) -> float:
    if bars[0] is None or bars[-1] is None:
        raise Missing
    return math.log(bars[-1].close / bars[0].close)


def returns(bars: list[Bar | None]) -> list[float]:
    return [math.log(b.close / a.close) for a, b in pairwise(bars) if a and b]


def rms(values: list[float]) -> float:
    return math.sqrt(fmean(v * v for v in values))


def distance(n: Naive, t: int, level: float) -> float:
    return n.last_sixties(t, 1)[0].close / level - 1


def vwap(bars: list[Bar]) -> float:
    return math.fsum(b.quote_volume for b in bars) / math.fsum(b.volume for b in bars)


def parkinson(bars: list[Bar]) -> float:
    return math.sqrt(fmean(math.log(b.high / b.low) ** 2 for b in bars) / (4 * math.log(2)))


def change(a: Bar, b: Bar) -> float:
    return (b.volume - a.volume) / (b.volume + a.volume)


def hour_before(n: Naive, t: int) -> list[float]:
    return [b.volume for b in n.last_minutes(t, 60, lag=1) if b]


def volume_z(n: Naive, t: int) -> float:
    before = hour_before(n, t)
    return (n.last_sixties(t, 1)[0].volume - fmean(before)) / stdev(before)


def volume_ratio(n: Naive, t: int) -> float:
    return n.last_sixties(t, 1)[0].volume / fmean(hour_before(n, t))


def return_z(n: Naive, t: int) -> float:
    before = returns(n.last_minutes(t, 61, lag=1))
    return (ret(n.last_sixties(t, 2)) - fmean(before)) / stdev(before)


def anomaly(n: Naive, t: int) -> float:
    price = min(abs(return_z(n, t)) / 6, 1)
    volume = min(max(volume_ratio(n, t) - 1, 0) / 4, 1)
    return 1 - (1 - price) * (1 - volume)


def trade_imbalance(bars: list[Bar]) -> float:
    bought = math.fsum(b.taker_buy_volume for b in bars)
    total = math.fsum(b.volume for b in bars)
    return (bought - (total - bought)) / total


def delta(bar: Bar) -> float:
    return 2 * bar.taker_buy_volume - bar.volume


def cumulative_delta(n: Naive, t: int) -> float:
    if t not in n.seconds:
        raise Missing
    midnight = (t - 1) // DAY_NS * DAY_NS
    minute = t // MINUTE_NS * MINUTE_NS
    bars = [n.minutes.get(m) for m in range(midnight + MINUTE_NS, minute + 1, MINUTE_NS)]
    whole = enough([bar if bar is not None and bar.taker_buy_volume is not None else None for bar in bars])
    rest = [n.seconds[s] for s in range(minute + SECOND_NS, t + 1, SECOND_NS) if s in n.seconds]
    return math.fsum(map(delta, whole)) + math.fsum(map(delta, rest))


def book_now(n: Naive, t: int) -> Bar:
    return n.last_seconds(t, 1, book=True)[0]


def mid(bar: Bar) -> float:
    return (bar.bid_price + bar.ask_price) / 2


def micro(bar: Bar) -> float:
    weighted = bar.bid_price * bar.ask_quantity + bar.ask_price * bar.bid_quantity
    return (weighted / (bar.bid_quantity + bar.ask_quantity) - mid(bar)) / mid(bar) * 10_000


def imbalance(suffix: str) -> Callable[[Naive, int], float]:
    def compute(n: Naive, t: int) -> float:
        bar = book_now(n, t)
        bid, ask = getattr(bar, f"bid_quantity{suffix}"), getattr(bar, f"ask_quantity{suffix}")
        total = both(bid, ask)
        return (bid - ask) / total

    return compute


def spread(n: Naive, t: int) -> float:
    bar = book_now(n, t)
    return (bar.ask_price - bar.bid_price) / mid(bar) * 10_000


def both(bid: float | None, ask: float | None) -> float:
    """A depth the local book does not reach on one side is not known."""
    if bid is None or ask is None:
        raise Missing
    return bid + ask


def phase(t: int, period_s: int, offset_s: int = 0) -> float:
    return 2 * math.pi * ((t // SECOND_NS + offset_s) % period_s) / period_s


FORMULAS: dict[str, Callable[[Naive, int], float]] = {
    "return_1m": lambda n, t: ret(n.last_sixties(t, 2)),
    "return_5m": lambda n, t: ret(n.last_sixties(t, 6)),
    "return_15m": lambda n, t: ret(n.last_sixties(t, 16)),
    "momentum_60m": lambda n, t: ret(n.last_minutes(t, 61)),
    "momentum_4h": lambda n, t: ret(n.last_minutes(t, 241)),
    "sma_distance_1m": lambda n, t: distance(n, t, fmean(b.close for b in n.last_seconds(t, 60))),
    "sma_distance_5m": lambda n, t: distance(n, t, fmean(b.close for b in n.last_sixties(t, 5))),
    "sma_distance_15m": lambda n, t: distance(n, t, fmean(b.close for b in n.last_sixties(t, 15))),
    "vwap_distance_15m": lambda n, t: distance(n, t, vwap(n.last_sixties(t, 15))),
    "range_15m": lambda n, t: math.log(
        max(b.high for b in n.last_sixties(t, 15)) / min(b.low for b in n.last_sixties(t, 15))),
    "realized_vol_1m": lambda n, t: rms(second_returns(n, t)) * math.sqrt(60),
    "realized_vol_5m": lambda n, t: rms(returns(n.last_sixties(t, 6))),
    "realized_vol_15m": lambda n, t: rms(returns(n.last_sixties(t, 16))),
    "realized_vol_60m": lambda n, t: rms(returns(n.last_minutes(t, 61))),
    "realized_vol_4h": lambda n, t: rms(returns(n.last_minutes(t, 241))),
    "realized_vol_1d": lambda n, t: rms(returns(n.last_minutes(t, 1441))),
    "parkinson_vol_15m": lambda n, t: parkinson(n.last_sixties(t, 15)),
    "volume_change_1m": lambda n, t: change(*n.last_sixties(t, 2)),
    "volume_zscore_60m": volume_z,
    "volume_ratio_60m": volume_ratio,
    "trade_imbalance_1m": lambda n, t: trade_imbalance(n.last_seconds(t, 60)),
    "trade_imbalance_5m": lambda n, t: trade_imbalance(n.last_seconds(t, 300)),
    "cumulative_volume_delta_1d": cumulative_delta,
    "spread_1s": spread,
    "microprice_distance_1s": lambda n, t: micro(book_now(n, t)),
    "book_imbalance_top1_1s": imbalance(""),
    "book_imbalance_top5_1s": imbalance("_5"),
    "book_imbalance_top10_1s": imbalance("_10"),
    "book_imbalance_top20_1s": imbalance("_20"),
    "depth_10bps_1s": lambda n, t: both(book_now(n, t).bid_depth_10bps, book_now(n, t).ask_depth_10bps),
    "depth_25bps_1s": lambda n, t: both(book_now(n, t).bid_depth_25bps, book_now(n, t).ask_depth_25bps),
    "order_flow_imbalance_1m": lambda n, t: math.fsum(
        b.order_flow_imbalance for b in n.last_seconds(t, 60, book=True)),
    "return_zscore_60m": return_z,
    "anomaly_score_60m": anomaly,
    "time_of_day_sin_1d": lambda _, t: math.sin(phase(t, 86_400)),
    "time_of_day_cos_1d": lambda _, t: math.cos(phase(t, 86_400)),
    "day_of_week_sin_7d": lambda _, t: math.sin(phase(t, 604_800, 259_200)),
    "day_of_week_cos_7d": lambda _, t: math.cos(phase(t, 604_800, 259_200)),
}


def second_returns(n: Naive, t: int) -> list[float]:
    bars = [n.seconds.get(t - k * SECOND_NS) for k in range(60, -1, -1)]
    enough(bars)
    return returns(bars)
