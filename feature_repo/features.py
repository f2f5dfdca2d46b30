"""Features: every feature of the product, declared once, and the formulas that compute them.

    >>> [f.name for f in FEATURES if f.family == "book"][:2]
    ['spread_1s', 'microprice_distance_1s']

A row at close t uses bars that closed at or before t and nothing else. Windows up to 15 minutes are made
of second bars, grouped as 60-second bars ending at t where klines share the formula (on a whole minute
those equal the venue's klines bit for bit); windows of an hour and more are made of whole clock-minute
bars closed by t. There are no running sums: each value is reduced from its own window, so that stream,
batch and one row at a time give the same bits. The rolling state behind the windows is `history.BarHistory`.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Literal, NamedTuple, TypeVar

import numpy as np
import numpy.typing as npt

from feature_repo.contracts import DAY_NS, SECOND_NS
from feature_repo.grid import Floats
from feature_repo.windows import SECOND_FIELDS, Windows

Requires = Literal["ohlcv_1m", "trades_1s", "book"]
Formula = Callable[[Windows], Floats]
T = TypeVar("T", bound=np.generic)
SEQUENCE_LENGTH = 64
MAX_HOLES = 0.05
BPS = 1e4


@dataclass(frozen=True)
class Need:
    """A window that a feature reads: the last `length` values of a field in a grid, `lag` values back."""

    grid: Literal["second", "sixty", "minute"]
    field: str
    length: int
    lag: int = 0


@dataclass(frozen=True)
class Expectation:
    """What is expected of a feature's values; what misses it is counted and reported, never altered or dropped."""

    low: float = -math.inf
    high: float = math.inf
    """Bounds, inclusive: those of the formula, or else those beyond which a market is not believed."""
    max_null: float = 0.05
    """Share of rows that may be null although the source has what it requires and the history is long enough."""
    max_age_s: int = 60
    """How old the newest known value may be beside the newest row."""


# Each is itself alone: what follows from many of them is kept by them, and found without comparing their fields.
@dataclass(frozen=True, eq=False)
class Feature:
    """One declaration; schema, model columns, drift monitors and the documentation derive from it."""

    name: str
    family: str
    unit: str
    window_s: int
    requires: Requires
    formula: str
    """The formula in words, and where it comes from."""
    needs: tuple[Need, ...]
    """The windows it reads: more than 5 % of holes in one makes it null."""
    compute: Formula
    expects: Expectation
    otherwise: str = "undefined"
    """Why it is null although every window is held."""


def _minutely(formula: Callable[[Windows], npt.NDArray[T]]) -> Callable[[Windows], npt.NDArray[T]]:
    """A formula that reads whole minutes alone."""
    return lambda w: w.once_a_minute(formula)


def _once(formula: Formula) -> Formula:
    """A formula that several features read."""
    return lambda w: w.once(formula)


def _log_return(minutes: int) -> Formula:
    return lambda w: w.sixty("log_close", 1)[:, -1] - w.sixty("log_close", minutes + 1)[:, 0]


def _momentum(minutes: int) -> Formula:
    return _minutely(lambda w: w.minute("log_close", 1)[:, -1] - w.minute("log_close", minutes + 1)[:, 0])


def _distance(level: Floats, w: Windows) -> Floats:
    return w.second_or_minute_close() / level - 1.0


def _mean(values: Floats) -> Floats:
    held = ~np.isnan(values)
    if held.all():
        whole: Floats = values.sum(axis=-1) / values.shape[-1]
        return whole
    return _ratio(np.where(held, values, 0.0).sum(axis=-1), held.sum(axis=-1).astype(np.float64))


def _ratio(top: Floats, bottom: Floats) -> Floats:
    quotient: Floats = np.divide(top, bottom, out=np.full(top.shape, np.nan), where=bottom != 0)
    return quotient


def _deviation(values: Floats) -> Floats:
    """Sample standard deviation (n − 1) along the last axis, holes left out."""
    held = ~np.isnan(values)
    squares = np.where(held, values - _mean(values)[:, None], 0.0) ** 2
    return np.sqrt(_ratio(squares.sum(axis=-1), held.sum(axis=-1) - 1.0))


def _zscore(last: Formula, before: Formula) -> Formula:
    """`before` reads whole minutes alone."""
    mean, deviation = _minutely(lambda w: _mean(before(w))), _minutely(lambda w: _deviation(before(w)))
    return _once(lambda w: _ratio(last(w) - mean(w), deviation(w)))


def _realized(log_closes: Floats) -> Floats:
    return np.sqrt(_mean(np.diff(log_closes, axis=-1) ** 2))


def _realized_sixty(minutes: int) -> Formula:
    return lambda w: _realized(w.sixty("log_close", minutes + 1))


def _realized_minute(minutes: int) -> Formula:
    return _minutely(lambda w: _realized(w.minute("log_close", minutes + 1)))


def _realized_seconds(w: Windows) -> Floats:
    return _realized(w.second("log_close", 61)) * math.sqrt(60.0)


def _parkinson(w: Windows) -> Floats:
    span = w.sixty("log_high", 15) - w.sixty("log_low", 15)
    return np.sqrt(_mean(span**2) / (4.0 * math.log(2.0)))


def _range(w: Windows) -> Floats:
    span: Floats = w.sixty("log_high", 15).max(axis=-1) - w.sixty("log_low", 15).min(axis=-1)
    return span


def _sma_sixty(minutes: int) -> Formula:
    return lambda w: _distance(_mean(w.sixty("close", minutes)), w)


def _vwap_distance(w: Windows) -> Floats:
    return _distance(_ratio(w.sixty("quote_volume", 15).sum(axis=-1), w.sixty("volume", 15).sum(axis=-1)), w)


def _volume_change(w: Windows) -> Floats:
    volume = w.sixty("volume", 2)
    return _ratio(volume[:, 1] - volume[:, 0], volume[:, 1] + volume[:, 0])


def _last_volume(w: Windows) -> Floats:
    return w.sixty("volume", 1)[:, -1]


def _volume_before(w: Windows) -> Floats:
    return w.minute("volume", 61)[:, :-1]


@_once
def _volume_ratio(w: Windows) -> Floats:
    return _ratio(_last_volume(w), w.once_a_minute(_mean_volume_before))


def _mean_volume_before(w: Windows) -> Floats:
    return _mean(_volume_before(w))


_return_zscore = _zscore(_log_return(1), lambda w: np.diff(w.minute("log_close", 62)[:, :-1], axis=-1))


def _anomaly_score(w: Windows) -> Floats:
    price = np.minimum(np.abs(_return_zscore(w)) / 6.0, 1.0)
    volume = np.minimum(np.maximum(_volume_ratio(w) - 1.0, 0.0) / 4.0, 1.0)
    return 1.0 - (1.0 - price) * (1.0 - volume)


def _trade_imbalance(seconds: int) -> Formula:
    def compute(w: Windows) -> Floats:
        volume, bought = w.second("volume", seconds), w.second("taker_buy_volume", seconds)
        known = ~np.isnan(volume) & ~np.isnan(bought)
        total = np.where(known, volume, 0.0).sum(axis=-1)
        return _ratio(np.where(known, 2.0 * bought - volume, 0.0).sum(axis=-1), total)

    return compute


def _cumulative_delta(w: Windows) -> Floats:
    """Whole minutes of the UTC day plus the seconds since the last whole minute."""
    seconds = 2.0 * w.second("taker_buy_volume", 60) - w.second("volume", 60)
    recent = (np.arange(60, 0, -1) <= w.seconds_of_minute()[:, None]) & ~np.isnan(seconds)
    total: Floats = w.once_a_minute(_whole_minutes_delta) + np.where(recent, seconds, 0.0).sum(axis=-1)
    return total


def _whole_minutes_delta(w: Windows) -> Floats:
    """Null when more than 5 % of the day's minutes are holes."""
    minutes = 2.0 * w.minute("taker_buy_volume", 1440) - w.minute("volume", 1440)
    today = np.arange(1440, 0, -1) <= w.minutes_of_day()[:, None]
    held = today & ~np.isnan(minutes)
    enough = held.sum(axis=-1) >= (1.0 - MAX_HOLES) * today.sum(axis=-1)
    return np.where(enough, np.where(held, minutes, 0.0).sum(axis=-1), np.nan)


@_once
def _mid(w: Windows) -> Floats:
    return (w.book("bid_price") + w.book("ask_price")) / 2.0


def _spread(w: Windows) -> Floats:
    return (w.book("ask_price") - w.book("bid_price")) / _mid(w) * BPS


def _microprice_distance(w: Windows) -> Floats:
    bid, ask = w.book("bid_quantity"), w.book("ask_quantity")
    micro = _ratio(w.book("bid_price") * ask + w.book("ask_price") * bid, bid + ask)
    return (micro - _mid(w)) / _mid(w) * BPS


def _book_imbalance(levels: str) -> Formula:
    def compute(w: Windows) -> Floats:
        bid, ask = w.book(f"bid_quantity{levels}"), w.book(f"ask_quantity{levels}")
        return _ratio(bid - ask, bid + ask)

    return compute


def _depth(bps: int) -> Formula:
    return lambda w: w.book(f"bid_depth_{bps}bps") + w.book(f"ask_depth_{bps}bps")


def _order_flow(w: Windows) -> Floats:
    flow = w.second("order_flow_imbalance", 60)
    total: Floats = np.where(np.isnan(flow), 0.0, flow).sum(axis=-1)
    return total


def _cycle(period_ns: int, wave: Callable[[float], float], offset_ns: int = 0) -> Formula:
    """`math` one value at a time: vectorised sines may round differently by position."""

    def compute(w: Windows) -> Floats:
        phases = ((w.closes_ns + offset_ns) % period_ns) // SECOND_NS
        return np.array([wave(2.0 * math.pi * int(p) / (period_ns // SECOND_NS)) for p in phases])

    return compute


def _sixty(name: str, length: int) -> tuple[Need, ...]:
    return (Need("sixty", name, length),)


def _minute(name: str, length: int) -> tuple[Need, ...]:
    return (Need("minute", name, length),)


def _second(name: str, length: int) -> tuple[Need, ...]:
    return (Need("second", name, length),)


def _sides(what: str) -> tuple[Need, ...]:
    return _second(f"bid_{what}", 1) + _second(f"ask_{what}", 1)


def _within(bound: float) -> Expectation:
    return Expectation(-bound, bound)


def _upto(bound: float) -> Expectation:
    return Expectation(0.0, bound)


_HOUR_BEFORE = (Need("sixty", "volume", 1), Need("minute", "volume", 60, lag=1))
_RETURN_BEFORE = (Need("sixty", "log_close", 2), Need("minute", "log_close", 61, lag=1))
_CONT = "Cont, Kukanov, Stoikov (2014)"
# The epoch was a Thursday; weeks here begin on Monday.
_MONDAY = 3 * DAY_NS

FEATURES: tuple[Feature, ...] = (
    Feature("return_1m", "price", "log return", 60, "ohlcv_1m",
            "ln(C_t / C_{t-1m})", _sixty("log_close", 2), _log_return(1), _within(0.2)),
    Feature("return_5m", "price", "log return", 300, "ohlcv_1m",
            "ln(C_t / C_{t-5m})", _sixty("log_close", 6), _log_return(5), _within(0.3)),
    Feature("return_15m", "price", "log return", 900, "ohlcv_1m",
            "ln(C_t / C_{t-15m})", _sixty("log_close", 16), _log_return(15), _within(0.4)),
    Feature("momentum_60m", "price", "log return", 3600, "ohlcv_1m",
            "ln(C_m / C_{m-60}), whole minutes", _minute("log_close", 61), _momentum(60), _within(0.5)),
    Feature("momentum_4h", "price", "log return", 14400, "ohlcv_1m",
            "ln(C_m / C_{m-240}), whole minutes", _minute("log_close", 241), _momentum(240), _within(0.7)),
    Feature("sma_distance_1m", "price", "ratio", 60, "trades_1s",
            "C_t / mean(60 second closes) - 1",
            _second("close", 60), lambda w: _distance(_mean(w.second("close", 60)), w), _within(0.2)),
    Feature("sma_distance_5m", "price", "ratio", 300, "ohlcv_1m",
            "C_t / mean(5 sixty-second closes) - 1", _sixty("close", 5), _sma_sixty(5), _within(0.3)),
    Feature("sma_distance_15m", "price", "ratio", 900, "ohlcv_1m",
            "C_t / mean(15 sixty-second closes) - 1", _sixty("close", 15), _sma_sixty(15), _within(0.4)),
    Feature("vwap_distance_15m", "price", "ratio", 900, "ohlcv_1m",
            "C_t / (sum quote volume / sum volume) - 1", _sixty("volume", 15), _vwap_distance, _within(0.4)),
    Feature("range_15m", "price", "log return", 900, "ohlcv_1m",
            "ln(max high / min low)", _sixty("log_high", 15), _range, _upto(0.8)),
    Feature("realized_vol_1m", "volatility", "per sqrt minute", 60, "trades_1s",
            "sqrt(60 mean r^2), second returns", _second("log_close", 61), _realized_seconds, _upto(0.2)),
    Feature("realized_vol_5m", "volatility", "per sqrt minute", 300, "ohlcv_1m",
            "sqrt(mean r^2), 5 one-minute returns", _sixty("log_close", 6), _realized_sixty(5), _upto(0.2)),
    Feature("realized_vol_15m", "volatility", "per sqrt minute", 900, "ohlcv_1m",
            "sqrt(mean r^2), 15 one-minute returns", _sixty("log_close", 16), _realized_sixty(15), _upto(0.1)),
    Feature("realized_vol_60m", "volatility", "per sqrt minute", 3600, "ohlcv_1m",
            "sqrt(mean r^2), 60 clock minutes", _minute("log_close", 61), _realized_minute(60), _upto(0.1)),
    Feature("realized_vol_4h", "volatility", "per sqrt minute", 14400, "ohlcv_1m",
            "sqrt(mean r^2), 240 clock minutes", _minute("log_close", 241), _realized_minute(240), _upto(0.05)),
    Feature("realized_vol_1d", "volatility", "per sqrt minute", 86400, "ohlcv_1m",
            "sqrt(mean r^2), 1440 clock minutes", _minute("log_close", 1441), _realized_minute(1440), _upto(0.05)),
    Feature("parkinson_vol_15m", "volatility", "per sqrt minute", 900, "ohlcv_1m",
            "sqrt(mean ln(H/L)^2 / (4 ln 2)); Parkinson (1980)", _sixty("log_high", 15), _parkinson, _upto(0.1)),
    Feature("volume_change_1m", "volume", "ratio in [-1, 1]", 60, "ohlcv_1m",
            "(V_t - V_{t-1m}) / (V_t + V_{t-1m})", _sixty("volume", 2), _volume_change, _within(1)),
    Feature("volume_zscore_60m", "volume", "deviations", 3600, "ohlcv_1m",
            "(V_t - mean) / deviation of the 60 minutes before",
            _HOUR_BEFORE, _zscore(_last_volume, _volume_before), Expectation(-8, 1e4)),
    Feature("volume_ratio_60m", "volume", "ratio", 3600, "ohlcv_1m",
            "V_t / mean of the 60 minutes before; a spike is > 3", _HOUR_BEFORE, _volume_ratio, _upto(1e4)),
    Feature("trade_imbalance_1m", "flow", "ratio in [-1, 1]", 60, "trades_1s",
            "(bought - sold) / volume, taker side", _second("taker_buy_volume", 60), _trade_imbalance(60), _within(1)),
    Feature("trade_imbalance_5m", "flow", "ratio in [-1, 1]", 300, "trades_1s",
            "(bought - sold) / volume, taker side", _second("taker_buy_volume", 300), _trade_imbalance(300),
            _within(1)),
    Feature("cumulative_volume_delta_1d", "flow", "base", 86400, "trades_1s",
            "sum of bought - sold since 00:00 UTC", _second("taker_buy_volume", 1), _cumulative_delta,
            Expectation(), "warmup"),
    Feature("spread_1s", "book", "bps", 1, "book",
            "(ask - bid) / mid", _second("bid_price", 1), _spread, _upto(500)),
    Feature("microprice_distance_1s", "book", "bps", 1, "book",
            "(microprice - mid) / mid; Stoikov (2018), first order", _second("bid_price", 1), _microprice_distance,
            _within(250)),
    Feature("book_imbalance_top1_1s", "book", "ratio in [-1, 1]", 1, "book",
            "(bid - ask) / (bid + ask), best level", _sides("quantity"), _book_imbalance(""), _within(1)),
    Feature("book_imbalance_top5_1s", "book", "ratio in [-1, 1]", 1, "book",
            "(bid - ask) / (bid + ask), 5 levels", _sides("quantity_5"), _book_imbalance("_5"), _within(1)),
    Feature("book_imbalance_top10_1s", "book", "ratio in [-1, 1]", 1, "book",
            "(bid - ask) / (bid + ask), 10 levels", _sides("quantity_10"), _book_imbalance("_10"), _within(1)),
    Feature("book_imbalance_top20_1s", "book", "ratio in [-1, 1]", 1, "book",
            "(bid - ask) / (bid + ask), 20 levels", _sides("quantity_20"), _book_imbalance("_20"), _within(1)),
    Feature("depth_10bps_1s", "book", "base", 1, "book",
            "quantity within 10 bps of mid, both sides", _sides("depth_10bps"), _depth(10), _upto(math.inf)),
    Feature("depth_25bps_1s", "book", "base", 1, "book",
            "quantity within 25 bps of mid, both sides", _sides("depth_25bps"), _depth(25), _upto(math.inf)),
    Feature("order_flow_imbalance_1m", "book", "base", 60, "book",
            f"sum of e_n at the best level; {_CONT}", _second("order_flow_imbalance", 60), _order_flow, Expectation()),
    Feature("return_zscore_60m", "anomaly", "deviations", 3600, "ohlcv_1m",
            "(r_1m - mean) / deviation of the 60 returns before; anomaly beyond 3", _RETURN_BEFORE, _return_zscore,
            _within(1e3)),
    Feature("anomaly_score_60m", "anomaly", "score in [0, 1]", 3600, "ohlcv_1m",
            "1 - (1 - min(|z|/6, 1)) (1 - min((V ratio - 1)/4, 1)): either rule alone is 0.5 at its threshold",
            _RETURN_BEFORE + _HOUR_BEFORE, _anomaly_score, _upto(1)),
    Feature("time_of_day_sin_1d", "calendar", "sine", 86400, "ohlcv_1m",
            "sin of the UTC day's phase", (), _cycle(DAY_NS, math.sin), _within(1)),
    Feature("time_of_day_cos_1d", "calendar", "cosine", 86400, "ohlcv_1m",
            "cos of the UTC day's phase", (), _cycle(DAY_NS, math.cos), _within(1)),
    Feature("day_of_week_sin_7d", "calendar", "sine", 604800, "ohlcv_1m",
            "sin of the week's phase, Monday 00:00 UTC = 0", (), _cycle(7 * DAY_NS, math.sin, _MONDAY), _within(1)),
    Feature("day_of_week_cos_7d", "calendar", "cosine", 604800, "ohlcv_1m",
            "cos of the week's phase, Monday 00:00 UTC = 0", (), _cycle(7 * DAY_NS, math.cos, _MONDAY), _within(1)),
)

RETIRED: tuple[Feature, ...] = ()
"""Features of older sets, moved here from `FEATURES` when they were edited or dropped: computed and written for as long
as a served model reads them, in no new model's inputs. `candlewick features diff` says when an entry can be deleted."""

DECLARED: tuple[Feature, ...] = (*FEATURES, *RETIRED)
"""What a row has a value, or a reason, for."""
FEATURE_NAMES: tuple[str, ...] = tuple(f.name for f in DECLARED)
FAMILIES: tuple[str, ...] = tuple(dict.fromkeys(f.family for f in DECLARED))
FORECAST_BAR: tuple[str, ...] = tuple(f.name for f in FEATURES if f.requires == "ohlcv_1m")
SEQUENCE_FEATURES: tuple[str, ...] = (*FORECAST_BAR, *(f.name for f in RETIRED if f.requires == "ohlcv_1m"))
"""Columns of a stored sequence: every model's inputs are among them."""
FEATURE_SET: str = hashlib.sha256(
    "\n".join(f"{f.name}|{f.unit}|{f.window_s}|{f.requires}|{f.formula}" for f in FEATURES).encode(),
).hexdigest()[:12]


def compute(w: Windows, declared: tuple[Feature, ...] = DECLARED) -> Floats:
    """Every declared feature at every close of `w`: shape (B, len(declared)), NaN where it cannot be known."""
    table = np.empty((w.closes_ns.size, len(declared)))
    for column, feature in enumerate(declared):
        table[:, column] = feature.compute(w)
    plan = _plan(declared)
    short = np.zeros((plan.needs + 1, w.closes_ns.size), dtype=np.bool_)
    if plan.newest:
        short[plan.newest_rows] = np.isnan(w.newest(plan.newest))
    for row, holes, most in plan.windows:
        short[row] = holes(w) > most
    table[short[plan.of_feature].any(axis=1).T] = np.nan
    return table


class _Plan(NamedTuple):
    """How it is found out what features lack. Needs are numbered: the distinct ones of all features."""

    needs: int
    newest: list[int]
    """The `SECOND_FIELDS` of which the newest second's value alone is needed: they are many, and read together."""
    newest_rows: list[int]
    windows: list[tuple[int, Callable[[Windows], npt.NDArray[np.int64]], float]]
    """Of each other need its number, what counts its holes, and how many are allowed."""
    of_feature: npt.NDArray[np.intp]
    """Each feature's needs, one row a feature, filled up with a number behind the last need."""


@cache
def _plan(declared: tuple[Feature, ...]) -> _Plan:
    needs = tuple(dict.fromkeys(need for f in declared for need in f.needs))
    of_feature = np.full((len(declared), max(1, *(len(f.needs) for f in declared))), len(needs))
    for row, feature in enumerate(declared):
        of_feature[row, : len(feature.needs)] = [needs.index(need) for need in feature.needs]
    newest = [row for row, need in enumerate(needs) if _is_newest(need)]
    windows = [(row, _holes(need), MAX_HOLES * need.length) for row, need in enumerate(needs) if row not in newest]
    fields = [SECOND_FIELDS.index(needs[row].field) for row in newest]
    return _Plan(len(needs), fields, newest, windows, of_feature)


def _is_newest(need: Need) -> bool:
    return need.grid == "second" and need.length == 1 and need.lag == 0


def reasons(feature: Feature, w: Windows, at: npt.NDArray[np.intp]) -> list[str]:
    """Why a feature is null at the closes number `at` of `w`: `requires …`, `warmup`, `gap`, or without a value."""
    found, texts = _reading(feature)
    why = [0] * at.size
    for lack in found:
        why = [known or other for known, other in zip(why, w.once(lack)[at].tolist(), strict=True)]
    return [texts[number] for number in why]


_HELD, _WARMUP, _GAP, _UNHEARD = range(4)


@cache
def _reading(feature: Feature) -> tuple[tuple[Callable[[Windows], npt.NDArray[np.int8]], ...], tuple[str, ...]]:
    """What tells why each of a feature's windows lacks values, and the text of each answer."""
    unheard = "warmup" if feature.requires == "ohlcv_1m" else f"requires {feature.requires}"
    return tuple(map(_lack, feature.needs)), (feature.otherwise, "warmup", "gap", unheard)


@cache
def _lack(need: Need) -> Callable[[Windows], npt.NDArray[np.int8]]:
    """Why a window does not have all its values, at each close: numbers, (B,)."""

    def of_windows(w: Windows) -> npt.NDArray[np.int8]:
        if _is_newest(need):
            return np.isnan(w.book(need.field)) * np.int8(_UNHEARD)
        held = ~np.isnan(_read(need, w))
        first, count = held.argmax(axis=1), held.sum(axis=1)
        young = (first > 0) & (count / (need.length - first) >= 1.0 - MAX_HOLES)
        some = np.where(young, _WARMUP, _GAP)
        return np.where(count == need.length, _HELD, np.where(count == 0, _UNHEARD, some)).astype(np.int8)

    def lack(w: Windows) -> npt.NDArray[np.int8]:
        why = w.once_a_minute(of_windows) if need.grid == "minute" else of_windows(w)
        # Where not even the second's bar is known, it is not its source that lacks something.
        return np.where((why == _UNHEARD) & w.holes, _WARMUP, why).astype(np.int8)

    return lack


@cache
def _holes(need: Need) -> Callable[[Windows], npt.NDArray[np.int64]]:
    """How many values of a window are not held, at each close, (B,)."""

    def holes(w: Windows) -> npt.NDArray[np.int64]:
        count: npt.NDArray[np.int64] = np.isnan(_read(need, w)).sum(axis=-1)
        return count

    return _minutely(holes) if need.grid == "minute" else holes


def _read(need: Need, w: Windows) -> Floats:
    read = w.second if need.grid == "second" else w.sixty if need.grid == "sixty" else w.minute
    return read(need.field, need.length + need.lag)[:, : need.length]
