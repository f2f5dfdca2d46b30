"""The kernel: right formulas, one result however it is asked, nothing from the future, nulls with a reason."""

from __future__ import annotations

import math

import numpy as np
import pytest

from feature_repo.contracts import DAY_NS, MINUTE_NS, SECOND_NS, Bar
from feature_repo.features import FAMILIES, FEATURE_NAMES, FEATURES, FORECAST_BAR, SEQUENCE_LENGTH
from feature_repo.history import BarHistory, feature_row
from tests.feature_repo.made_bars import START_NS, Walk, minutes_then_seconds
from tests.feature_repo.naive import FORMULAS, Naive

HOLES = frozenset({400, 401, 402, 700, *range(1100, 1180)})


def pushed(bars: list[Bar], **kept: int) -> BarHistory:
    history = BarHistory("BTCUSDT", **kept)
    for bar in bars:
        history.push(bar)
    return history


def split(bars: list[Bar]) -> tuple[dict[int, Bar], dict[int, Bar]]:
    seconds = {b.close_time: b for b in bars if b.interval_s == 1}
    return seconds, {b.close_time: b for b in bars if b.interval_s == 60}


def floor(name: str) -> float:
    """Absolute floor of equality: a z-score near zero is a difference of logarithms over a small deviation."""
    return 1e-9 if name in {"return_zscore_60m", "anomaly_score_60m"} else 1e-12


def test_every_feature_equals_a_naive_second_implementation() -> None:
    bars = minutes_then_seconds(1500, holes=HOLES)
    history, naive = pushed(bars, seconds_kept=3000, minutes_kept=3000), Naive(*split(bars))
    compared = dict.fromkeys(FEATURE_NAMES, 0)
    for second in (1, 59, 60, 300, 401, 405, 961, 1020, 1100, 1179, 1200, 1201, 1260, 1320, 1333, 1440, 1500):
        t = START_NS + second * SECOND_NS
        values, _ = history.row(t)
        for name in FEATURE_NAMES:
            expected = naive.value(name, t)
            assert (values[name] is None) == (expected is None), (name, second, values[name], expected)
            if expected is not None:
                assert values[name] == pytest.approx(expected, rel=1e-9, abs=floor(name)), (name, second)
                compared[name] += 1
    assert min(compared.values()) >= 3, compared


def test_naive_knows_every_feature() -> None:
    assert set(FORMULAS) == set(FEATURE_NAMES)


def test_one_row_at_a_time_equals_the_whole_history_bit_for_bit() -> None:
    bars = minutes_then_seconds(1300, holes=HOLES)
    whole = pushed(bars, seconds_kept=4000, minutes_kept=4000)
    streamed = BarHistory("BTCUSDT")
    for bar in bars:
        streamed.push(bar)
        if bar.interval_s == 1 and bar.close_time // SECOND_NS % 7 == 0:
            row, batch = streamed.row(bar.close_time)[0], whole.table(np.array([bar.close_time]))[0]
            one = np.array([math.nan if v is None else v for v in row.values()])
            assert one.tobytes() == batch.tobytes()


def test_a_batch_of_rows_equals_single_rows_bit_for_bit() -> None:
    """The batch crosses midnight."""
    history = pushed(minutes_then_seconds(1300, holes=HOLES), seconds_kept=4000, minutes_kept=4000)
    closes = START_NS + np.arange(900, 1301) * SECOND_NS
    assert closes[300] % DAY_NS == 0
    single = np.concatenate([history.table(closes[i : i + 1]) for i in range(closes.size)])
    assert history.table(closes).tobytes() == single.tobytes()


@pytest.mark.parametrize("seconds", [130, 180])
def test_what_is_kept_from_row_to_row_gives_way_to_a_bar_that_comes_again(seconds: int) -> None:
    bars = minutes_then_seconds(seconds)
    t, minute, second = START_NS + seconds * SECOND_NS, bars[-seconds - 31], bars[-40]
    assert (minute.interval_s, second.interval_s) == (60, 1)
    streamed = pushed(bars)
    before = streamed.row(t), streamed.sequence(t).tobytes()
    for again in (minute, second):
        revised = again.model_copy(update={"volume": again.volume + 1.0, "quote_volume": again.quote_volume + 7.0})
        streamed.push(revised)
        bars.append(revised)
        after = streamed.row(t), streamed.sequence(t).tobytes()
        assert after == ((fresh := pushed(bars)).row(t), fresh.sequence(t).tobytes())
        assert after[0] != before[0]
        before = after


@pytest.mark.parametrize("second", [600, 1201, 1259, 1260])
def test_a_row_never_changes_when_the_future_does(second: int) -> None:
    bars = minutes_then_seconds(1320)
    t = START_NS + second * SECOND_NS
    other = Walk(seed=99, price=1_000.0)
    changed = [b if b.close_time <= t else other.bar(b.close_time, b.interval_s) for b in bars]
    kept = {"seconds_kept": 4000, "minutes_kept": 4000}
    one, two = pushed(bars, **kept), pushed(changed, **kept)
    assert one.row(t) == two.row(t)
    assert one.sequence(t).tobytes() == two.sequence(t).tobytes()
    assert one.row(t + MINUTE_NS) != two.row(t + MINUTE_NS)


def test_whole_minutes_from_seconds_equal_the_minute_bars_bit_for_bit() -> None:
    bars = minutes_then_seconds(1200)
    naive = Naive(*split(bars))
    from_seconds = pushed(bars)
    klines = [naive.minutes[START_NS + k * MINUTE_NS] for k in range(1, 21)]
    exact = [k.model_copy(update={
        "close_time": START_NS + i * MINUTE_NS, "volume": round(k.volume, 8),
        "quote_volume": round(k.quote_volume, 8), "taker_buy_volume": round(k.taker_buy_volume or 0, 8),
    }) for i, k in enumerate(klines, start=1)]
    from_minutes = pushed([b for b in bars if b.interval_s == 60] + exact)
    t = START_NS + 1200 * SECOND_NS
    seconds, minutes = from_seconds.row(t)[0], from_minutes.row(t)[0]
    assert {n: seconds[n] for n in FORECAST_BAR} == {n: minutes[n] for n in FORECAST_BAR}


def test_klines_alone_feed_every_forecast_feature_and_the_rest_say_what_they_need() -> None:
    history = pushed(minutes_then_seconds(0))
    values, reasons = history.row(START_NS)
    assert all(values[name] is not None for name in FORECAST_BAR)
    rest = {f.name: f"requires {f.requires}" for f in FEATURES if f.requires != "ohlcv_1m"}
    assert set(reasons) == set(rest)
    assert set(reasons.values()) <= {"requires trades_1s", "requires book", "warmup", "gap"}


def test_a_window_with_more_than_five_percent_holes_is_null_with_reason_gap() -> None:
    t = START_NS + 1000 * SECOND_NS
    four = pushed(minutes_then_seconds(1000, holes=frozenset(range(960, 964))))
    three = pushed(minutes_then_seconds(1000, holes=frozenset(range(960, 963))))
    assert four.row(t)[0]["sma_distance_1m"] is None
    assert four.row(t)[1]["sma_distance_1m"] == "gap"
    assert three.row(t)[0]["sma_distance_1m"] is not None


def test_a_book_that_is_not_valid_gives_null_never_zero() -> None:
    bars = minutes_then_seconds(120)
    stale = bars[-1].model_copy(update={"book_valid": False})
    values, reasons = pushed([*bars[:-1], stale]).row(stale.close_time)
    assert values["spread_1s"] is None
    assert reasons["spread_1s"] == "requires book"


def test_unknown_taker_volume_makes_flow_null() -> None:
    bars = [b.model_copy(update={"taker_buy_volume": None}) for b in minutes_then_seconds(400)]
    values, reasons = pushed(bars).row(bars[-1].close_time)
    assert values["trade_imbalance_1m"] is None
    assert reasons["trade_imbalance_1m"] == "requires trades_1s"


def test_cumulative_delta_restarts_at_midnight_utc() -> None:
    bars = minutes_then_seconds(1260)
    history = pushed(bars)
    midnight = START_NS + 1200 * SECOND_NS
    assert midnight % DAY_NS == 0
    after = next(b for b in bars if b.close_time == midnight + SECOND_NS)
    value = history.row(midnight + SECOND_NS)[0]["cumulative_volume_delta_1d"]
    assert value == pytest.approx(2 * (after.taker_buy_volume or 0) - after.volume)


def test_state_survives_its_chunks() -> None:
    bars = minutes_then_seconds(1100, holes=HOLES)
    history, again = pushed(bars), BarHistory("BTCUSDT")
    last = bars[-1].close_time
    for minute in range(last // MINUTE_NS * MINUTE_NS - 17 * MINUTE_NS, last, MINUTE_NS):
        again.load_second_chunk(minute, history.second_chunk(minute))
    hour_ns = 60 * MINUTE_NS
    for hour in range(last // hour_ns * hour_ns - 26 * hour_ns, last, hour_ns):
        again.load_minute_chunk(hour, history.minute_chunk(hour))
    assert again.last_close == last
    assert again.row(last) == history.row(last)
    assert again.sequence(last).tobytes() == history.sequence(last).tobytes()
    following = Walk(seed=7, price=bars[-1].close).bar(last + SECOND_NS, 1)
    for each in (history, again):
        each.push(following)
    assert again.row(following.close_time) == history.row(following.close_time)


def test_the_sequence_is_the_whole_minute_rows_and_the_newest() -> None:
    bars = minutes_then_seconds(1205)
    history = pushed(bars)
    t = START_NS + 1205 * SECOND_NS
    sequence = history.sequence(t)
    assert sequence.shape == (SEQUENCE_LENGTH, len(FORECAST_BAR))
    columns = [FEATURE_NAMES.index(name) for name in FORECAST_BAR]
    whole = history.table(np.array([START_NS + 1200 * SECOND_NS]))[0, columns]
    assert sequence[-2].tobytes() == whole.tobytes()
    assert sequence[-1].tobytes() == history.table(np.array([t]))[0, columns].tobytes()


def test_a_revision_changes_the_rows_after_it() -> None:
    bars = minutes_then_seconds(1205)
    history = pushed(bars)
    t = START_NS + 1205 * SECOND_NS
    before = history.sequence(t).copy()
    history.push(Walk(seed=5, price=59_000.0).bar(START_NS - 5 * MINUTE_NS, 60, book=False))
    assert history.sequence(t).tobytes() != before.tobytes()


def test_a_feature_row_carries_the_bar_s_identity() -> None:
    bars = minutes_then_seconds(30)
    row = feature_row(bars[-1], pushed(bars))
    assert (row.symbol, row.ts_event, row.created, row.price) == (
        "BTCUSDT", bars[-1].close_time, bars[-1].created, bars[-1].close)
    assert set(row.values) == set(FEATURE_NAMES)
    assert all(row.values[name] is None for name in row.reasons)


def test_mirrors_are_vwap_volatility_and_mean_imbalance() -> None:
    bars = minutes_then_seconds(1000)
    history = pushed(bars)
    row = feature_row(bars[-1], history)
    last = [b for b in bars if b.interval_s == 1][-60:]
    mirror = history.mirrors(row)["1m"]
    assert mirror["vwap"] == pytest.approx(sum(b.quote_volume for b in last) / sum(b.volume for b in last))
    assert mirror["volatility"] == row.values["realized_vol_1m"]
    tops = [(b.bid_quantity_5, b.ask_quantity_5) for b in last]
    assert mirror["imbalance"] == pytest.approx(np.mean([(x - y) / (x + y) for x, y in tops]))


def test_another_symbol_s_bar_is_refused() -> None:
    with pytest.raises(ValueError, match="expected a bar of ETHUSDT"):
        BarHistory("ETHUSDT").push(minutes_then_seconds(1)[-1])


def test_names_say_window_and_families_are_whole() -> None:
    assert len(set(FEATURE_NAMES)) == len(FEATURES)
    assert all(f.name.rsplit("_", 1)[1][-1] in "smhd" for f in FEATURES)
    assert FAMILIES == ("price", "volatility", "volume", "flow", "book", "anomaly", "calendar")
