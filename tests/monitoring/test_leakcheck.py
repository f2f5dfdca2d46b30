"""The leak check: the product passes it, every planted leak is found by name, and a kernel that reads ahead as well."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from feature_repo.contracts import DAY_NS, HOUR_NS, MINUTE_NS, SECOND_NS, Bar
from feature_repo.features import FEATURE_NAMES
from feature_repo.grid import Grid, Ints, Place
from feature_repo.slow_features import SLOW_NAMES
from monitoring.leakcheck import slow, text
from monitoring.leakcheck.bars import from_files, made_minutes, minutes_of
from monitoring.leakcheck.check import CheckConfig, check, check_bars, made_market
from monitoring.leakcheck.paths import PARTS, messages, recomputed, stream, tell
from monitoring.leakcheck.plants import PLANTS
from monitoring.leakcheck.report import Report
from monitoring.leakcheck.sets import SET_DAYS
from monitoring.leakcheck.world import Table, around, cuts, made_bars, variants
from streaming.bars import close_bar
from training.targets import AHEAD, targets

NAMES = ("a", "b")
NAN = math.nan


@pytest.fixture(scope="module")
def market() -> list[Bar]:
    return made_market(seed=1)


@pytest.fixture(scope="module")
def result(market: list[Bar], tmp_path_factory: pytest.TempPathFactory) -> dict:
    minutes = made_minutes("BTCUSDT", SET_DAYS, seed=1)
    return check(market, minutes, CheckConfig(instants=2, plant=True), tmp_path_factory.mktemp("leaks"))


def table(decided: list[int], *values: list[float]) -> Table:
    return Table(NAMES, np.array(decided, dtype=np.int64), np.array(values, dtype=np.float64))


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_no_feature_no_slow_view_and_no_label_leaks_and_something_was_shown_of_each(result: dict) -> None:
    assert result["leaking"] == {}
    assert result["unproven"] == []
    assert set(result["compared"]) == {
        "stream", "recompute", "training", "labels", "split", "history through Feast", "slow views",
    }
    assert min(result["compared"].values()) > 1_000


@pytest.mark.slow
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("leak", [plant.name for plant in PLANTS])
def test_a_planted_leak_is_found_by_its_name_and_its_instant(leak: str, result: dict) -> None:
    [planted] = [each for each in result["planted"] if each["leak"] == leak]
    assert planted["found"], planted
    assert planted["instant"]


def test_no_slow_row_leaks_and_something_is_shown_of_each() -> None:
    report = Report()
    slow.check(report, slow.made, 19_944 * DAY_NS + 13 * HOUR_NS, np.random.default_rng(1))
    assert report.passed
    assert report.unproven(SLOW_NAMES) == []


@pytest.mark.slow
def test_a_kernel_that_reads_one_slot_too_far_is_found_in_the_stream(
    market: list[Bar], monkeypatch: pytest.MonkeyPatch,
) -> None:
    right = Grid.locate

    def ahead(self: Grid, closes_ns: Ints, length: int) -> Place:
        return right(self, closes_ns + self.step_ns, length)

    monkeypatch.setattr(Grid, "locate", ahead)
    report = Report()
    check_bars(report, market, {"stream": stream}, 1, CheckConfig())
    assert {"return_1m", "spread_1s", "realized_vol_1m"} <= set(report.counts)
    assert report.leaks[0].path == "stream"


def test_a_value_that_changes_before_the_cut_is_a_leak_and_after_it_is_not() -> None:
    report = Report()
    base, other = table([10, 20], [1.0, NAN], [3.0, 4.0]), table([10, 20], [1.0, 0.5], [9.0, 9.0])
    report.compare("stream", "future overwritten", 15, (base, other))
    assert report.counts == {"b": 1}
    [leak] = report.leaks
    assert (leak.name, leak.expected, leak.found) == ("b", "null", (0.5).hex())
    assert leak.instant == "1970-01-01T00:00:00.000+00:00"
    assert not report.passed


def test_the_last_bit_counts() -> None:
    report = Report()
    base, other = table([10], [1.0, 1.0]), table([10], [np.nextafter(1.0, 2.0), 1.0])
    report.compare("stream", "future overwritten", 15, (base, other))
    assert report.counts == {"a": 1}


def test_a_row_that_is_gone_is_a_leak_unless_it_is_decided_after_the_cut() -> None:
    report = Report()
    report.compare("stream", "future truncated", 15, (table([10, 20], [1.0, 1.0], [2.0, 2.0]), table([5], [1.0, 1.0])))
    assert report.counts == {"row": 1}


def test_nothing_is_shown_of_a_name_that_never_moves_or_never_has_a_value() -> None:
    report = Report()
    base, other = table([10, 20], [1.0, NAN], [3.0, 4.0]), table([10, 20], [1.0, NAN], [3.0, 5.0])
    report.compare("stream", "future overwritten", 15, (base, other))
    assert report.passed
    assert report.unproven(NAMES) == ["a", "b"], "a never moved, b was never known before the cut"
    assert report.unproven(["a"], constant=["a"]) == []


def test_two_worlds_agree_on_all_that_was_known_at_the_cut_and_on_nothing_after_it() -> None:
    bars = made_bars("BTCUSDT", seed=2, minutes=400, seconds=1_300, end_ns=1_723_161_600 * SECOND_NS)
    rng = np.random.default_rng(5)
    for cut in cuts(bars, 6, rng):
        for how, base, other in variants(around("BTCUSDT", bars, cut, 300), cut.created, rng):
            known = [[bar for bar in world.bars if bar.created <= cut.created] for world in (base, other)]
            assert known[0] == known[1], how
            later = [[bar for bar in world.bars if bar.created > cut.created] for world in (base, other)]
            assert later[0] != later[1], how


def test_a_second_is_told_as_trades_that_make_the_same_bar() -> None:
    bars = made_bars("BTCUSDT", seed=3, minutes=2, seconds=1_200, end_ns=1_723_161_600 * SECOND_NS)
    cut = bars[-40]
    world = around("BTCUSDT", bars, cut, 2)
    told = list(messages(world))
    bar = next(b for b in world.bars if b.close_time == cut.close_time)
    seal = next(m for m in told if getattr(m, "close", None) == bar.close_time and hasattr(m, "n_trades"))
    trades = [m for m in told if hasattr(m, "trade_id") and 0 < seal.close - m.ts_event < SECOND_NS]
    again = close_bar(seal, trades, previous_close=bar.open)
    assert len(trades) in (0, PARTS)
    same = ("open", "high", "low", "close", "volume", "bid_price", "ask_quantity_5", "created")
    assert {name: getattr(again, name) for name in same} == {name: getattr(bar, name) for name in same}


def test_the_stream_and_the_recomputation_give_the_same_rows_of_a_world(market: list[Bar]) -> None:
    cut = next(bar for bar in reversed(market) if bar.close_time % MINUTE_NS == 0 and bar.interval_s == 1)
    world = around("BTCUSDT", market, cut, 100)
    records = tell(world)
    one, two = stream(world, records), recomputed(world, records)
    assert one.names == FEATURE_NAMES
    assert len(one.values) == len(world.asked) > 20
    assert one.values.tobytes() == two.values[:, : len(FEATURE_NAMES)].tobytes()


def test_every_label_has_a_declared_horizon() -> None:
    closes = np.exp(np.random.default_rng(1).normal(size=300) * 1e-3)
    assert set(targets(closes, closes, closes)) == set(AHEAD)


def test_bars_come_from_klines_and_from_bar_files(tmp_path: Path) -> None:
    opened = pd.date_range("2025-01-01", periods=90, freq="1min", tz="UTC")
    prices = dict.fromkeys(("open", "high", "low", "close"), 100.0)
    klines = pd.DataFrame({"date": opened, **prices, "volume": 2.0})
    klines.to_parquet(tmp_path / "klines.parquet")
    bars = from_files([tmp_path / "klines.parquet"], "BTCUSDT")
    assert len(bars) == 90
    assert bars[0].close_time == opened[0].value + MINUTE_NS
    assert bars[0].created == bars[0].close_time + SECOND_NS
    assert minutes_of(bars, days=1) is None, "too few for a set"
    klines[["open"]].to_parquet(tmp_path / "other.parquet")
    with pytest.raises(ValueError, match="expected columns"):
        from_files([tmp_path / "other.parquet"], "BTCUSDT")


def test_a_file_that_is_not_there_or_no_parquet_is_told_as_such(tmp_path: Path) -> None:
    torn = tmp_path / "torn.parquet"
    torn.write_text("hello")
    for path in (torn, tmp_path / "nowhere.parquet"):
        with pytest.raises(ValueError, match=f"{path}: expected a Parquet file of bars"):
            from_files([path], "BTCUSDT")


def test_a_result_reads_as_one_line_a_leak() -> None:
    report = Report()
    report.compare("stream", "future truncated", 15, (table([10], [1.0, 2.0]), table([10], [1.0, 3.0])))
    said = text({**report.as_dict(), "unproven": ["a"], "features": 2, "labels": 0})
    assert "LEAK b at 1970-01-01T00:00:00.000+00:00 (stream, future truncated)" in said
    assert said.endswith("1 names leak, of 2 features and 0 labels")
