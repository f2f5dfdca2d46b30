"""One line of the table of markets: what it says, what it leaves open and why, and when a jump becomes an alert."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Mapping

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from feature_repo.contracts import MINUTE_NS, SECOND_NS, Alert, Bar, MarketSummary
from feature_repo.history import BarHistory, feature_row
from streaming.analytics import CALM_NS, RULE, Watch, analyse, greatest_move

START = 478_655 * 60 * MINUTE_NS
CALM_S = CALM_NS // SECOND_NS


def bar(close_ns: int, close: float, interval_s: int = 1) -> Bar:
    return Bar(
        symbol="BTCUSDT", ts_event=close_ns, ts_init=close_ns + 7, source="recording", session="s",
        interval_s=interval_s, open_time=close_ns - interval_s * SECOND_NS, close_time=close_ns, open=close, high=close,
        low=close, close=close, volume=0.5, quote_volume=0.5 * close, vwap=close, trades=2, taker_buy_volume=0.25,
        created=close_ns + 7,
    )


def lines(closes: Mapping[int, float], history: BarHistory | None = None) -> list[tuple[MarketSummary, Alert | None]]:
    """The summary and the alert of each second: `closes` by seconds after START, ascending."""
    history = history or BarHistory("BTCUSDT", minutes_kept=2_880)
    watch: Watch | None = None
    found = []
    for second, close in closes.items():
        made = bar(START + second * SECOND_NS, close)
        history.push(made)
        row = feature_row(made, history)
        line, watch, alert = analyse(made, row, history.windows(np.array([made.close_time])), watch)
        found.append((line, alert))
    return found


def seconds(closes: Iterable[float], first: int = 1) -> dict[int, float]:
    return dict(enumerate(closes, first))


def alerts(found: list[tuple[MarketSummary, Alert | None]]) -> list[tuple[str, int, int]]:
    """(state, window start, known at), seconds after START."""
    told = [alert for _, alert in found if alert]
    assert {alert.rule for alert in told} <= {RULE}
    return [
        (a.state, (a.window_start - START) // SECOND_NS, (a.ts_init - START) // SECOND_NS) for a in told
    ]


def test_a_dense_minute_gives_every_short_number() -> None:
    closes = [100.0 + n % 7 for n in range(61)]
    line, _ = lines(seconds(closes))[-1]
    assert line.price == closes[-1]
    assert line.average_1m == pytest.approx(sum(closes[1:]) / 60, rel=1e-12)
    assert line.change_10s == pytest.approx(closes[-1] / closes[-11] - 1, rel=1e-12)
    returns = [math.log(b / a) for a, b in itertools.pairwise(closes)]
    assert line.volatility_1m == pytest.approx(math.sqrt(sum(r * r for r in returns)), rel=1e-9)
    assert line.volume_1m == pytest.approx(60 * bar(START, 1.0).volume)
    assert line.quote_volume_1m == pytest.approx(sum(bar(START, c).quote_volume for c in closes[1:]))
    assert (line.change_1m, line.reasons["change_1m"]) == (None, "warmup")


def test_numbers_of_the_feature_row_are_not_computed_again() -> None:
    history = BarHistory("BTCUSDT")
    line, _ = lines(seconds(100.0 + n % 11 for n in range(400)), history)[-1]
    row = feature_row(bar(START + 400 * SECOND_NS, 100.0 + 399 % 11), history)
    assert line.volatility_1m == row.values["realized_vol_1m"]
    assert line.volatility_5m == row.values["realized_vol_5m"]
    assert line.change_1m == math.expm1(row.values["return_1m"] or math.nan)


def test_an_hour_and_a_day_are_counted_from_whole_minutes() -> None:
    history = BarHistory("BTCUSDT", minutes_kept=2_880)
    for n in range(-1_500, 1):
        history.push(bar(START + n * MINUTE_NS, 100.0 + n / 100, interval_s=60))
    line, _ = lines(seconds([120.0] * 61), history)[-1]
    assert line.change_1h == pytest.approx(120.0 / (100.0 - 59 / 100) - 1, rel=1e-12)
    assert line.change_24h == pytest.approx(120.0 / (100.0 - 1_439 / 100) - 1, rel=1e-12)


def test_what_was_not_seen_yet_is_null_with_warmup() -> None:
    line, alert = lines(seconds([100.0, 103.0]))[-1]
    unknown = {name for name, value in line if value is None} - {"alert_since", "moved"}
    assert unknown == set(line.reasons) >= {"average_1m", "change_10s", "move_10s", "change_24h"}
    assert set(line.reasons.values()) == {"warmup"}
    assert (line.moved, alert) == (None, None)


def test_a_hole_is_null_with_gap_and_no_alert() -> None:
    closes = seconds([100.0] * 70) | {74: 103.0}
    line, alert = lines(closes)[-1]
    assert (line.move_10s, line.moved, line.reasons["move_10s"]) == (None, None, "gap")
    assert (line.change_10s, alert) == (pytest.approx(0.03), None)
    later, _ = lines(closes | {75: 103.0, 84: 103.0})[-1]
    assert (later.change_10s, later.average_1m, later.reasons["average_1m"]) == (0.0, None, "gap")


@pytest.mark.parametrize(("before", "price", "moved"), [
    (100.0, 102.0, False), (100.0, 102.01, True), (100.0, 98.0, False), (100.0, 97.99, True),
    (0.1, 0.102, False), (0.1, 0.10200001, True), (61837.63, 63074.3826, False), (61837.63, 63074.3827, True),
])
def test_exactly_two_percent_has_not_exceeded_two_percent(before: float, price: float, moved: bool) -> None:
    line, alert = lines(seconds([*[before] * 10, price]))[-1]
    assert (line.moved, alert is not None) == (moved, moved)


@pytest.mark.parametrize(("seconds_ago", "moved"), [(1, True), (10, True), (11, False)])
def test_ten_seconds_ago_is_within_and_eleven_is_not(seconds_ago: int, moved: bool) -> None:
    closes = [100.0] * 20 + [97.0] + [100.0] * seconds_ago
    line, _ = lines(seconds(closes))[-1]
    assert line.moved is moved


def test_a_fall_and_a_rise_within_ten_seconds_count_although_the_ends_are_near() -> None:
    line, _ = lines(seconds([*[100.0] * 10, 99.0, 98.5, 99.5, 100.6]))[-1]
    assert line.change_10s == pytest.approx(0.006)
    assert (line.move_10s, line.moved) == (pytest.approx(100.6 / 98.5 - 1), True)


def test_one_jump_is_one_alert_resolved_after_a_minute_of_calm() -> None:
    found = lines(seconds([*[100.0] * 12, *[103.0] * (10 + CALM_S)]))
    assert alerts(found) == [("firing", 3, 13), ("resolved", 3, 22 + CALM_S)]
    shown = [line.alert_since is not None for line, _ in found]
    assert shown == [False] * 12 + [True] * (9 + CALM_S) + [False]


def test_moves_that_follow_each_other_prolong_the_alert() -> None:
    found = lines(seconds([*[100.0] * 12, *[103.0] * 40, *[107.0] * (9 + CALM_S)]))
    assert alerts(found) == [("firing", 3, 13)]


def test_an_unknown_move_does_not_resolve_an_alert() -> None:
    jump = seconds([*[100.0] * 12, *[103.0] * 12])
    after_a_hole = dict.fromkeys(range(24 + 2 * CALM_S, 36 + 2 * CALM_S), 103.0)
    assert alerts(lines(jump | after_a_hole)) == [("firing", 3, 13), ("resolved", 3, 34 + 2 * CALM_S)]


def test_both_states_of_an_alert_have_one_identity_and_one_hour() -> None:
    told = [alert for _, alert in lines(seconds([*[100.0] * 12, *[103.0] * (10 + CALM_S)])) if alert]
    assert len({(a.rule, a.symbol, a.window_start, a.ts_event) for a in told}) == 1
    assert [a.value for a in told] == [pytest.approx(0.03), 0.0]
    assert told[0].summary == "BTCUSDT moved +3.00% within 10 s, price 103"


@given(st.lists(st.integers(9_000, 11_000).map(lambda n: n / 100), min_size=11, max_size=11))
def test_the_greatest_move_is_that_of_every_pair_with_the_newest(closes: list[float]) -> None:
    move = greatest_move(np.array(closes))
    assert move is not None
    changes = [closes[-1] / close - 1 for close in closes[:-1]]
    assert abs(move.change) == pytest.approx(max(map(abs, changes)))
    assert move.exceeds == any(abs(round(100 * closes[-1]) - round(100 * c)) * 50 > round(100 * c) for c in closes[:-1])
