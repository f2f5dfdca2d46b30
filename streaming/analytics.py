"""Analytics: one symbol's line in the table of all markets, each second, and the alert when its price jumps.

    summary, watch, alert = analyse(bar, row, history.windows(np.array([bar.close_time])), watch)

Everything follows from the bars up to the close: the same after any restart, batch or replay. What the feature row
already knows is taken from it. "Within ten seconds" looks at every close of them, because a price that fell 1 % and
then rose 3 % has moved more than its two ends tell.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from feature_repo.contracts import SECOND_NS, Alert, Bar, FeatureRow, MarketSummary
from feature_repo.features import MAX_HOLES
from feature_repo.grid import Floats
from feature_repo.windows import Windows
from streaming.bars import to_steps

RULE = "price_change_10s"
WINDOW_S = 10
THRESHOLD_PERCENT = 2
CALM_NS = 60 * SECOND_NS
"""A firing alert is resolved after so long without another such move, so that one jump is one alert."""
MINUTES_BACK = {"change_1h": 60, "change_24h": 1_440}
FROM_ROW = {"volatility_1m": "realized_vol_1m", "volatility_5m": "realized_vol_5m", "change_1m": "return_1m"}


class Watch(NamedTuple):
    """An alert that is firing: where its window begins, and the last close at which the price had moved."""

    window_start: int
    last_moved: int


class Move(NamedTuple):
    """The price against the close of the last ten seconds that lies furthest from it."""

    change: float
    exceeds: bool


def analyse(
    bar: Bar, row: FeatureRow, windows: Windows, watch: Watch | None, at: int = 0,
) -> tuple[MarketSummary, Watch | None, Alert | None]:
    """The summary at a bar's close, whether an alert is firing from now on, and the alert if that changed.

    `row` is that of the same close, which is number `at` of the windows'; `watch` is what the second before returned.
    """
    move = greatest_move(windows.second("close", WINDOW_S + 1)[at])
    now, alert = _watched(bar, move, watch)
    return summary(bar, row, windows, move, now, at), now, alert


def summary(
    bar: Bar, row: FeatureRow, windows: Windows, move: Move | None, watch: Watch | None, at: int = 0,
) -> MarketSummary:
    """One line of the table."""
    closes = windows.second("close", 60)[at]
    known = {name: row.values[feature] for name, feature in FROM_ROW.items()}
    minute = known["change_1m"]
    reasons = {name: row.reasons[feature] for name, feature in FROM_ROW.items() if known[name] is None}
    ours: dict[str, float | None] = {
        "average_1m": _mean(closes), "volume_1m": _sum(windows, "volume", at),
        "quote_volume_1m": _sum(windows, "quote_volume", at), "move_10s": move.change if move else None,
        "change_10s": _change(bar.close, closes[-1 - WINDOW_S]),
    }
    reasons |= {
        name: _why(closes[-1 - WINDOW_S:] if name.endswith("10s") else closes) for name, x in ours.items() if x is None
    }
    long, why = _long_changes(bar.close, windows, at)
    return MarketSummary(
        symbol=bar.symbol, ts_event=bar.close_time, ts_init=bar.ts_init, source=bar.source, session=bar.session,
        created=bar.created, provenance=bar.provenance, price=bar.close,
        **(known | ours | long | {"change_1m": None if minute is None else math.expm1(minute)}),
        moved=move.exceeds if move else None, alert_since=watch.window_start if watch else None, reasons=reasons | why,
    )


def greatest_move(closes: Floats) -> Move | None:
    """The newest close against the furthest of those before it; None while one of them is not held.

    The threshold is judged in integer steps: exactly 2 % has not exceeded it.

    >>> greatest_move(np.array([120.0, 100.0, 150.0]))
    Move(change=0.5, exceeds=True)
    >>> greatest_move(np.array([100.0, 101.0, 102.0])).exceeds, greatest_move(np.array([100.0, np.nan, 103.0]))
    (False, None)
    """
    *before, price = closes.tolist()
    if any(map(math.isnan, (*before, price))):
        return None
    furthest = max(before, key=lambda close: abs(price / close - 1.0))
    distance = abs(to_steps(price) - to_steps(furthest))
    return Move(price / furthest - 1.0, 100 * distance > THRESHOLD_PERCENT * to_steps(furthest))


def _watched(bar: Bar, move: Move | None, watch: Watch | None) -> tuple[Watch | None, Alert | None]:
    # An unknown move proves neither a jump nor calm: it changes nothing.
    if move is None:
        return watch, None
    if move.exceeds and watch is None:
        begun = Watch(bar.close_time - WINDOW_S * SECOND_NS, bar.close_time)
        return begun, _alert(bar, begun, move, is_firing=True)
    if watch is None or move.exceeds:
        return watch and watch._replace(last_moved=bar.close_time), None
    if bar.close_time - watch.last_moved < CALM_NS:
        return watch, None
    return None, _alert(bar, watch, move, is_firing=False)


def _alert(bar: Bar, watch: Watch, move: Move, *, is_firing: bool) -> Alert:
    # Both states carry the window of the first move: one identity, of which the lake keeps the later `ts_init`.
    told = f"moved {move.change:+.2%} within {WINDOW_S} s" if is_firing else f"calm for {CALM_NS // SECOND_NS} s"
    return Alert(
        symbol=bar.symbol, ts_event=watch.window_start + WINDOW_S * SECOND_NS, ts_init=bar.ts_init, source=bar.source,
        session=bar.session, rule=RULE, severity="warning", window_start=watch.window_start,
        state="firing" if is_firing else "resolved", value=move.change, threshold=THRESHOLD_PERCENT / 100,
        summary=f"{bar.symbol} {told}, price {bar.close:g}",
    )


def _long_changes(price: float, windows: Windows, at: int) -> tuple[dict[str, float | None], dict[str, str]]:
    """Changes since whole minutes long ago, and why they are unknown."""
    of_minute, place = windows.by_minute
    minutes = of_minute.minute("log_close", 1_441)[place[at]]
    before = {name: minutes[-1 - back:] for name, back in MINUTES_BACK.items()}
    unknown = {name for name, held in before.items() if math.isnan(held[0])}
    changes = {
        name: None if name in unknown else math.expm1(math.log(price) - float(held[0]))
        for name, held in before.items()
    }
    return changes, {name: _why(before[name]) for name in sorted(unknown)}


def _change(price: float, before: np.float64) -> float | None:
    return None if math.isnan(before) else price / float(before) - 1.0


def _mean(closes: Floats) -> float | None:
    held = ~np.isnan(closes)
    return float(closes[held].mean()) if _is_enough(held) else None


def _sum(windows: Windows, field: str, at: int) -> float | None:
    total = float(windows.sixty(field, 1)[at, -1])
    return None if math.isnan(total) else total


def _is_enough(held: npt.NDArray[np.bool_]) -> bool:
    return bool(np.count_nonzero(~held) <= MAX_HOLES * held.size)


def _why(values: Floats) -> str:
    """`warmup` when the window reaches back before the first known value, else `gap`."""
    held = ~np.isnan(values)
    first = int(np.argmax(held))
    return "warmup" if not held.any() or (first and _is_enough(held[first:])) else "gap"
