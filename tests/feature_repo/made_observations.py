"""Made observations of slow series, and the features made of them a second time, naively."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, date, datetime, timedelta

import numpy as np

from feature_repo.contracts import DAY_NS, HOUR_NS, MARKET, MINUTE_NS, SECOND_NS, Bar, Observation, Source
from feature_repo.slow_features import close_of
from feature_repo.slow_series import MACRO, SERIES, session_close

LAST_DAY = date(2025, 3, 31)
END_NS = session_close(LAST_DAY)


def observation(
    series: str, ts_event: int, value: float, *, instrument: str = "", created: int | None = None,
    source: Source = "live", word: str = "BTCUSDT",
) -> Observation:
    """One value, known its series' lag later unless said otherwise."""
    declared = SERIES[series]
    instrument = instrument or declared.instruments[0]
    known = ts_event + declared.lag_ns if created is None else created
    symbol = f"{word}-PERP.{instrument}" if series in ("funding_rate", "open_interest") else MARKET
    return Observation(
        symbol=symbol, ts_event=ts_event, ts_init=known, source=source, session="made", series=series, provider="made",
        instrument=instrument, created=known, value=value,
    )


def sessions(count: int, last: date = LAST_DAY) -> list[int]:
    """Closes of the last `count` weekdays, ascending."""
    days: list[date] = []
    while len(days) < count:
        days += [last] if last.weekday() < 5 else []
        last -= timedelta(days=1)
    return [session_close(day) for day in reversed(days)]


def made_macro(count: int = 90, seed: int = 1) -> list[Observation]:
    """Every macro series over some sessions; now and then a session lacks a series, or has both its instruments."""
    rng = np.random.default_rng(seed)
    found = []
    for name in MACRO:
        level = float(rng.uniform(4, 400))
        for at in sessions(count):
            level *= float(np.exp(rng.normal() * 0.01))
            preferred, *others = SERIES[name].instruments
            if rng.random() > 0.01:
                found.append(observation(name, at, round(level, 4), instrument=preferred))
            if others and rng.random() < 0.3:
                found.append(observation(name, at, round(level * 1.1, 4), instrument=others[0]))
    return found


def made_closes(symbol: str = "BTCUSDT", count: int = 90, seed: int = 2) -> list[Observation]:
    rng = np.random.default_rng(seed)
    prices = 60_000 * np.exp(np.cumsum(rng.normal(size=count) * 0.02))
    return [close_of(symbol, at, at + SECOND_NS, round(float(price), 2), "live")
            for at, price in zip(sessions(count), prices, strict=True)]


def made_bar(close_ns: int, price: float, created: int | None = None) -> Bar:
    """A minute bar of the lake's clean zone that nothing but a close is read of."""
    return Bar(
        symbol="BTCUSDT", ts_event=close_ns, ts_init=close_ns + SECOND_NS, source="live", session="made", interval_s=60,
        open_time=close_ns - MINUTE_NS, close_time=close_ns, open=price, high=price, low=price, close=price,
        volume=1.0, quote_volume=price, vwap=price, trades=1, taker_buy_volume=None,
        created=close_ns + SECOND_NS if created is None else created, provenance="backfill",
    )


def made_funding(count: int = 60, seed: int = 3, word: str = "BTCUSDT") -> list[Observation]:
    rng = np.random.default_rng(seed)
    first = END_NS // (8 * HOUR_NS) * 8 * HOUR_NS - (count - 1) * 8 * HOUR_NS
    return [observation("funding_rate", first + i * 8 * HOUR_NS, round(float(rng.normal(1e-4, 5e-5)), 8), word=word)
            for i in range(count)]


def made_open_interest(count: int = 400, seed: int = 4, word: str = "BTCUSDT") -> list[Observation]:
    rng = np.random.default_rng(seed)
    levels = 80_000 * np.exp(np.cumsum(rng.normal(size=count) * 0.001))
    first = END_NS // (5 * MINUTE_NS) * 5 * MINUTE_NS - (count - 1) * 5 * MINUTE_NS
    return [observation("open_interest", first + i * 5 * MINUTE_NS, round(float(x), 3), word=word)
            for i, x in enumerate(levels)]


def made_fear_greed(count: int = 30, seed: int = 5) -> list[Observation]:
    rng = np.random.default_rng(seed)
    first = END_NS // DAY_NS * DAY_NS - (count - 1) * DAY_NS
    return [observation("fear_greed", first + i * DAY_NS, float(rng.integers(5, 95))) for i in range(count)]


def everything() -> list[Observation]:
    return [*made_macro(), *made_funding(), *made_open_interest(), *made_fear_greed()]


def naive_returns(told: Sequence[Observation], name: str, event: int, known: int) -> dict[date, tuple[date, float]]:
    """Session → (the session before, log return), by tables of dates: the second implementation."""
    tables: dict[str, dict[date, float]] = {}
    for o in sorted(told, key=lambda o: o.created):
        if o.series == name and o.created <= known and o.ts_event <= event:
            tables.setdefault(o.instrument, {})[day_of(o.ts_event)] = o.value
    found: dict[date, tuple[date, float]] = {}
    for instrument in reversed(SERIES[name].instruments):
        table = tables.get(instrument, {})
        for day in table:
            before = [other for other in table if other < day]
            if before and (day - max(before)).days <= 6:
                found[day] = (max(before), float(np.log(table[day]) - np.log(table[max(before)])))
    return found


def naive_beta(
    told: Sequence[Observation], closes: Sequence[Observation], name: str, event: int, known: int, window: int,
) -> float | None:
    """The slope of a least-squares line through the pairs of returns; null with fewer than 95 % of them."""
    theirs = naive_returns(told, name, event, known)
    if day_of(event) not in theirs:
        return None
    prices = {day_of(o.ts_event): o.value for o in closes if o.created <= known}
    pairs = [
        (theirs[day][1], np.log(prices[day] / prices[theirs[day][0]])) for day in sorted(theirs)[-window:]
        if day in prices and theirs[day][0] in prices
    ]
    if len(pairs) < 0.95 * window:
        return None
    x, y = np.array(pairs).T
    return float(np.polyfit(x, y, 1)[0])


def day_of(at_ns: int) -> date:
    return datetime.fromtimestamp(at_ns // SECOND_NS, UTC).date()
