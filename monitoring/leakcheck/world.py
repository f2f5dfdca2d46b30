"""World: what was known of one symbol and when, and other worlds that agree with it up to an instant.

    world = World("BTCUSDT", bars, asked=(close_ns,))
    for how, base, other in variants(world, at_ns, rng): ...      # what is decided by at_ns must be the same in both

Every bar is known at its `created`. Two worlds agree up to t when they hold the same bars with `created` ≤ t.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np

from feature_repo.contracts import BOOK_FIELDS, HOUR_NS, MINUTE_NS, SECOND_NS, Bar
from feature_repo.grid import Floats, Ints
from feature_repo.history import SECONDS_KEPT

MINUTES_BEFORE = (1_441 + 64, 241 + 64)
"""How much history a world has: all that any row reads, or, four times as quick, all but a day's window."""
SECONDS_AFTER = 75
MINUTES_AFTER = 75
TOLD = 25
"""Of so many bars before the cut is asked what they came to."""
MOVED = 12
"""So many bars of the past are moved, or revised, to after the cut."""


class Table(NamedTuple):
    """What one way of computing gives: a row per decision, a column per name, NaN for null."""

    names: tuple[str, ...]
    decided_ns: Ints
    """When each row is decided (its `created`): what is known later must not show in it."""
    values: Floats


@dataclass(frozen=True)
class World:
    """Bars of one symbol in the order in which they became known, and the closes whose rows are asked for."""

    symbol: str
    bars: tuple[Bar, ...]
    asked: tuple[int, ...]
    live_from: int
    """Seconds closing after this come as trades and a seal, earlier ones as history."""

    def with_bars(self, bars: list[Bar]) -> World:
        return replace(self, bars=tuple(sorted(bars, key=lambda bar: (bar.created, bar.close_time, bar.interval_s))))


class Variant(NamedTuple):
    """Two worlds that agree up to the cut, and how they differ after it."""

    how: str
    base: World
    other: World


def around(symbol: str, bars: list[Bar], cut: Bar, minutes_before: int = MINUTES_BEFORE[0]) -> World:
    """The part of a history that rows near the cut can read, with enough of what came after it."""
    if cut.interval_s == 1:
        first, last = cut.close_time - SECONDS_KEPT * SECOND_NS, cut.close_time + SECONDS_AFTER * SECOND_NS
        asked_from, asked_to = cut.close_time - TOLD * SECOND_NS, cut.close_time + TOLD * SECOND_NS
    else:
        first, last = cut.close_time, cut.close_time + MINUTES_AFTER * MINUTE_NS
        asked_from, asked_to = cut.close_time - TOLD * MINUTE_NS, cut.close_time + TOLD * MINUTE_NS
    begin = cut.close_time - minutes_before * MINUTE_NS
    kept = [
        bar for bar in bars
        if (begin < bar.close_time <= (first if cut.interval_s == 1 else last) and bar.interval_s == 60)
        or (cut.interval_s == 1 and first < bar.close_time <= last and bar.interval_s == 1)
    ]
    asked = [b.close_time for b in kept if b.interval_s == cut.interval_s and asked_from < b.close_time <= asked_to]
    live_from = asked_from if cut.interval_s == 1 else last
    return World(symbol, (), tuple(asked), live_from).with_bars(kept)


def variants(world: World, at_ns: int, rng: np.random.Generator) -> Iterator[Variant]:
    """Worlds that agree with `world` on all that was known at `at_ns`."""
    known = [bar for bar in world.bars if bar.created <= at_ns]
    after = [bar for bar in world.bars if bar.created > at_ns]
    yield Variant("future truncated", world, world.with_bars(known))
    yield Variant("future overwritten", world, world.with_bars([*known, *(mangled(bar, rng) for bar in after)]))
    if world.live_from not in range(world.bars[0].close_time, at_ns):
        return  # history told before the first second is one piece: by definition known a second after each close
    # Only history can come late: seconds told by seals have one writer, and each names the one before it.
    history = [i for i, bar in enumerate(known) if bar.close_time <= min(world.live_from, *world.asked)]
    chosen = set(rng.choice(history, min(MOVED, len(history)), replace=False).tolist()) if history else set()
    kept = [bar for i, bar in enumerate(known) if i not in chosen]
    late = [_known_at(known[i], at_ns + 1 + int(rng.integers(MINUTE_NS))) for i in chosen]
    base = world.with_bars([*kept, *late, *after])
    yield Variant("known later", base, world.with_bars([*kept, *(mangled(bar, rng) for bar in late), *after]))
    revisions = [mangled(_known_at(known[i], at_ns + 1), rng).model_copy(update={"provenance": "reconcile"})
                 for i in chosen]
    yield Variant("revised later", world, world.with_bars([*known, *revisions, *after]))


def _known_at(bar: Bar, at_ns: int) -> Bar:
    return bar.model_copy(update={"created": at_ns, "ts_init": at_ns})


def mangled(bar: Bar, rng: np.random.Generator) -> Bar:
    """The same bar with other prices, volumes and another book."""
    prices = sorted(round(bar.close * math.exp(rng.uniform(-1, 1)), 2) + 0.01 for _ in range(4))
    volume = round(float(rng.exponential(5.0)) + 1e-4, 5)
    inner = rng.permutation(prices)
    books: dict[str, Any] = {
        name: _other(name, getattr(bar, name), rng) for name in BOOK_FIELDS if name != "book_valid"
    }
    return bar.model_copy(update={
        "open": float(inner[0]), "close": float(inner[1]), "low": prices[0], "high": prices[-1],
        "vwap": float(inner[2]), "volume": volume, "quote_volume": round(volume * prices[1], 8),
        "trades": 4, "taker_buy_volume": None if bar.taker_buy_volume is None else round(volume * rng.random(), 5),
        **books,
    })


def _other(name: str, value: float | None, rng: np.random.Generator) -> float | None:
    if value is None:
        return None
    return float(rng.normal()) if name == "order_flow_imbalance" else round(value * math.exp(rng.uniform(-1, 1)), 8)


def made_bars(symbol: str, seed: int, minutes: int, seconds: int, end_ns: int) -> list[Bar]:
    """A made market with every field known: minute bars, then second bars with a book, every ninth one silent."""
    rng = np.random.default_rng(seed)
    begin = end_ns - seconds * SECOND_NS
    price, bars = 60_000.0, []
    steps = [(begin - back * MINUTE_NS, 60) for back in range(minutes - 1, -1, -1)]
    for close, interval in [*steps, *((begin + i * SECOND_NS, 1) for i in range(1, seconds + 1))]:
        silent = interval == 1 and rng.random() < 1 / 9
        before, price = price, price if silent else round(price * math.exp(rng.normal() * 4e-5 * interval**0.5), 2)
        bars.append(_made(symbol, close, interval, (before, price), rng, silent=silent))
    return bars


def _made(
    symbol: str, close_ns: int, interval_s: int, prices: tuple[float, float], rng: np.random.Generator, *, silent: bool,
) -> Bar:
    before, price = prices
    volume = 0.0 if silent else round(float(rng.exponential(0.3)) + 1e-4, 5)
    sizes: dict[str, Any] = {
        name: round(float(rng.exponential(3.0)) + 0.01, 5) for name in BOOK_FIELDS if "quanti" in name or "bps" in name
    }
    book = {"book_valid": True, "bid_price": round(price - 0.01, 2), "ask_price": price,
            "order_flow_imbalance": float(rng.normal())} | sizes
    low, high = (price, price) if silent else (min(prices) - 0.5, max(prices) + 0.5)
    return Bar(
        symbol=symbol, ts_event=close_ns, ts_init=close_ns + SECOND_NS // 4, source="simulated", session="made",
        interval_s=interval_s, open_time=close_ns - interval_s * SECOND_NS, close_time=close_ns,  # type: ignore[arg-type]
        open=price if silent else before, high=round(high, 2), low=round(low, 2), close=price, volume=volume,
        quote_volume=round(volume * price, 8), vwap=price, trades=0 if silent else 4,
        taker_buy_volume=round(volume * float(rng.random()), 5),
        created=close_ns + (SECOND_NS if interval_s == 60 else SECOND_NS // 4), **(book if interval_s == 1 else {}),
    )


def cuts(bars: list[Bar], instants: int, rng: np.random.Generator) -> list[Bar]:
    """Bars at whose knowledge the world is cut: random ones, every third a minute of history, every fourth on a whole
    hour or minute where there is one."""
    by_interval = {s: [bar for bar in bars if bar.interval_s == s] for s in (1, 60)}
    chosen = []
    for n in range(instants):
        interval = 60 if not by_interval[1] or (n % 3 == 2 and by_interval[60]) else 1
        pool = _enough(by_interval[interval], bars)
        step = HOUR_NS if interval == 60 else MINUTE_NS
        edges = [bar for bar in pool if bar.close_time % step == 0]
        pool = edges if n % 4 == 3 and edges else pool
        if pool:
            chosen.append(pool[int(rng.integers(len(pool)))])
    return chosen


def _enough(pool: list[Bar], bars: list[Bar]) -> list[Bar]:
    """Those with something before them and after them."""
    first, last = (f(bar.close_time for bar in bars if bar.interval_s == pool[0].interval_s) for f in (min, max))
    lead = (TOLD if pool[0].interval_s == 1 else min(1_450, len(pool) // 2)) * pool[0].interval_s * SECOND_NS
    trail = TOLD * pool[0].interval_s * SECOND_NS
    return [bar for bar in pool if first + lead < bar.close_time <= last - trail]
