"""Made bars for the kernel's tests: a seeded random walk with silent seconds, holes and an order book."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from feature_repo.contracts import MINUTE_NS, SECOND_NS, Bar

START_NS = 1_723_161_600_000_000_000 - 20 * MINUTE_NS  # 20 minutes before a UTC midnight
MINUTES_BEFORE = 1_510


@dataclass
class Walk:
    """A price walk; the same seed gives the same bars."""

    seed: int = 1
    price: float = 60_000.0

    def __post_init__(self) -> None:
        self.random = np.random.default_rng(self.seed)

    def bar(self, close_ns: int, interval_s: int, *, silent: bool = False, book: bool = True) -> Bar:
        before = self.price
        if not silent:
            self.price = round(before * math.exp(self.random.normal() * 4e-5 * math.sqrt(interval_s)), 2)
        low, high = sorted((before, self.price))
        volume = 0.0 if silent else round(float(self.random.exponential(0.3)) + 1e-5, 5)
        return Bar(
            symbol="BTCUSDT", ts_event=close_ns, ts_init=close_ns + 1, source="simulated", session="made",
            interval_s=interval_s, open_time=close_ns - interval_s * SECOND_NS, close_time=close_ns,
            open=self.price if silent else before, high=self.price if silent else round(high + 0.5, 2),
            low=self.price if silent else round(low - 0.5, 2), close=self.price, volume=volume,
            quote_volume=round(volume * self.price, 8), vwap=self.price, trades=0 if silent else 3,
            taker_buy_volume=round(volume * float(self.random.random()), 5), created=close_ns + SECOND_NS // 4,
            **(self.book() if book else {}),
        )

    def book(self) -> dict[str, float | bool]:
        sizes = {
            f"{side}_{what}": round(float(self.random.exponential(3.0)) + 0.01, 5)
            for side in ("bid", "ask")
            for what in ("quantity", "quantity_5", "quantity_10", "quantity_20", "depth_10bps", "depth_25bps")
        }
        return {
            "book_valid": True, "bid_price": round(self.price - 0.01, 2), "ask_price": self.price,
            "order_flow_imbalance": float(self.random.normal()), **sizes,
        }


def minutes_then_seconds(seconds: int, seed: int = 1, holes: frozenset[int] = frozenset()) -> list[Bar]:
    """25 hours of minute bars, then `seconds` second bars; every ninth second is silent, `holes` never came."""
    walk = Walk(seed)
    minutes = [
        walk.bar(START_NS - (MINUTES_BEFORE - 1 - i) * MINUTE_NS, 60, book=False) for i in range(MINUTES_BEFORE)
    ]
    made = [walk.bar(START_NS + i * SECOND_NS, 1, silent=i % 9 == 0) for i in range(1, seconds + 1)]
    return minutes + [bar for i, bar in enumerate(made, start=1) if i not in holes]
