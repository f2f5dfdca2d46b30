"""Training reads of the deployment's lake what serving was shown: values as first known, outcomes as known now."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from structlog.testing import capture_logs

from feature_repo.contracts import DAY_NS, MINUTE_NS, NANOS, SECOND_NS, Bar
from feature_repo.features import FORECAST_BAR
from feature_repo.lake_layout import zone_schema
from feature_repo.settings import Settings
from streaming.lake import LakeWriter
from tests.feature_repo.made_rows import LAG_NS, START_NS, made_context, made_row
from training import verbs
from training.dataset import assemble, kernel_rows
from training.datasets import arrays, keep, rows_folder
from training.klines import MinuteBars, simulated_klines
from training.known import write_history
from training.lake_rows import Asked, lake_rows
from training.train import TrainConfig, training_set, until_windows

pytestmark = [
    pytest.mark.filterwarnings("ignore"),  # imports of Feast warn about its dependencies
    pytest.mark.usefixtures("every_log"),
]
ASKED = Asked("BTCUSDT", "recording")


def at(minute: int) -> int:
    return START_NS + minute * MINUTE_NS


def made_bar(close_ns: int, close: float, interval_s: int = 1, lag_ns: int = LAG_NS) -> Bar:
    return Bar(
        symbol="BTCUSDT", ts_event=close_ns, ts_init=close_ns + lag_ns, source="recording", session="made",
        interval_s=interval_s, open_time=close_ns - interval_s * NANOS, close_time=close_ns, open=close - 1,
        high=close + 2, low=close - 2, close=close, volume=1.0, quote_volume=close, vwap=close, trades=1,
        taker_buy_volume=0.5, created=close_ns + lag_ns,
    )


def second_bars(minute: int, seconds: range = range(60)) -> list[Bar]:
    """The minute before `at(minute)` but for the seconds left out; its last second closes at 1000 × minute + 159."""
    begin = at(minute - 1)
    return [made_bar(begin + (i + 1) * SECOND_NS, 1000.0 * minute + 100 + i) for i in seconds]


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(run_dir=tmp_path / "run", lake_url=(tmp_path / "lake").as_uri(), data_dir=tmp_path / "no data",
                    model_dir=tmp_path / "none")


@pytest.mark.integration
@pytest.mark.timeout(300)
def test_the_set_holds_what_was_known_at_each_decision_and_gaps_stay_gaps(settings: Settings) -> None:
    writer = LakeWriter.open(settings.lake)
    late_by_two_seconds = made_row(180, lag_ns=2 * SECOND_NS + LAG_NS)
    other_source = made_row(300).model_copy(update={"source": "live"})
    other_features = made_row(360).model_copy(update={"feature_set": "0123456789ab"})
    never_shown = made_row(420, lag_ns=DAY_NS, provenance="reconcile")
    rows = [made_row(0), made_row(1), made_row(60), made_row(61), late_by_two_seconds, made_row(181), made_row(240)]
    writer.upsert("features", [*rows, other_source, other_features, made_row(60, "BTCUSDC")])
    revised = made_row(60, lag_ns=30 * SECOND_NS, provenance="reconcile", seed=1)
    writer.add_revision("features", [revised, never_shown], "reconcile")
    writer.upsert("context", [made_context(0), made_context(1)])
    bars = [*second_bars(0), *second_bars(1, range(3, 60)), *second_bars(2), *second_bars(3, range(4, 60))]
    writer.upsert("clean", [*bars, *(made_bar(at(minute), 1000.0 * minute, 60) for minute in (4, 5, 8))])
    writer.add_revision("clean", [made_bar(at(2), 2222.0, lag_ns=DAY_NS)], "reconcile")

    with capture_logs() as logs:
        rows_found = lake_rows(settings, ASKED)
    assert rows_found.close_ns.tolist() == [at(m) for m in (0, 1, 2, 4, 5, 8)], "of minute 3 a twentieth is missing"
    by_minute = dict(zip((0, 1, 2, 4, 5, 8), rows_found.values, strict=True))
    for minute, row in {0: made_row(0), 1: made_row(60), 4: made_row(240)}.items():
        expected = np.array([row.values[name] for name in FORECAST_BAR], dtype=np.float32)
        assert np.array_equal(by_minute[minute], expected, equal_nan=True), minute
    revision = np.array([revised.values[name] for name in FORECAST_BAR], dtype=np.float32)
    assert not np.array_equal(by_minute[1], revision, equal_nan=True)
    for minute in (2, 5, 8):
        assert np.isnan(by_minute[minute]).all(), f"no row of minute {minute} can have been shown"
    assert rows_found.closes.tolist() == [159.0, 1159.0, 2222.0, 4000.0, 5000.0, 8000.0]
    assert rows_found.opens[2:].tolist() == [2099.0, 3999.0, 4999.0, 7999.0]
    assert np.isnan(rows_found.opens[1]), "its first second is missing"
    context = [made_context(0).value, made_context(1).value]
    assert np.isnan(rows_found.context[0]), "known a minute after the hour"
    assert [rows_found.context[1], rows_found.context[3]] == context
    [told] = [entry for entry in logs if entry["event"] == "lake read"]
    counts = {"of_another_source": 1, "of_other_features": 1, "known_too_late": 2, "revised_since": 1, "decisions": 3}
    assert counts.items() <= told.items()

    bounded = lake_rows(settings, replace(ASKED, start_ns=at(1), end_ns=at(4)))
    assert np.isfinite(bounded.values).any(axis=1).tolist() == [False, True, False, True]
    assert bounded.close_ns.tolist() == [at(m) for m in (0, 1, 2, 4)], "bars an hour back make the spike's threshold"
    with pytest.raises(ValueError, match=r"expected live feature rows of BTCUSDT .* of_another_source 4"):
        lake_rows(settings, replace(ASKED, source="live", end_ns=at(4)))
    with pytest.raises(ValueError, match=r"expected recording feature rows of ETHUSDT .*found no row at all"):
        lake_rows(settings, replace(ASKED, symbol="ETHUSDT"))


@pytest.mark.slow
@pytest.mark.integration
@pytest.mark.timeout(600)
def test_a_set_of_the_lake_is_the_kernels_set_and_comes_back_from_a_lake_that_went_on(
    settings: Settings, monkeypatch: pytest.MonkeyPatch,
) -> None:
    whole = simulated_klines(days=11, seed=4)
    bars, later = cut(whole, slice(0, -120)), cut(whole, slice(-120, None))
    write_history(bars, settings)
    writer = LakeWriter.open(settings.lake)
    writer.add_rows("clean", bar_table(bars), "backfill")
    noise = made_row(0, "BTCUSDT", provenance="reconcile")
    close = int(bars.close_ns[9_000])
    late = noise.model_copy(update={
        "ts_event": close, "created": close + 3 * DAY_NS, "ts_init": close, "source": "simulated", "session": "history",
    })
    writer.add_revision("features", [late], "reconcile")

    until = int(bars.close_ns[-1])
    config = TrainConfig(lake=Asked("BTCUSDT", "simulated"), until_ns=until)
    table = training_set(settings, config)
    expected = assemble(kernel_rows(bars), until_windows(bars.close_ns, until))
    assert table.counts == expected.counts
    for name, column in arrays(expected).items():
        assert np.array_equal(arrays(table)[name], column, equal_nan=True), name

    recipe = config.recipe(settings, "c0ffee")
    keep(settings, table, recipe)
    assert recipe.of(table).lake == {"symbol": "BTCUSDT", "source": "simulated", "start_ns": None, "end_ns": until}
    writer.add_rows("clean", bar_table(later), "backfill")
    monkeypatch.setattr(verbs, "_ready", lambda _component: settings)
    assert verbs.rebuild(table.identity, None)["same"]
    shutil.rmtree(rows_folder(settings))
    found = verbs.rebuild(table.identity, None)
    assert (found["same"], found["rows"]) == (True, "made again"), found["differing"]
    assert training_set(settings, config).identity != table.identity, "labels of the last hour are known by now"


def cut(bars: MinuteBars, part: slice) -> MinuteBars:
    return replace(bars, close_ns=bars.close_ns[part], columns={k: v[part] for k, v in bars.columns.items()})


def bar_table(bars: MinuteBars) -> pa.Table:
    """Minute bars as the clean zone's rows."""
    n, created = len(bars.close_ns), bars.created_ns
    columns: dict[str, Any] = {
        "symbol": [bars.symbol] * n, "ts_event": bars.close_ns, "ts_init": created, "source": [bars.source] * n,
        "session": ["history"] * n, "interval_s": [60] * n, "open_time": bars.close_ns - MINUTE_NS,
        "close_time": bars.close_ns, "created": created, "provenance": ["backfill"] * n, "vwap": bars.closes,
        "trades": [1] * n, "event_timestamp": bars.close_ns // 1000, "created_timestamp": -(-created // 1000),
        "book_valid": [False] * n,
        **{name: bars.columns[name] for name in ("open", "high", "low", "close", "volume", "quote_volume")},
    }
    schema = zone_schema("clean")
    made = [pa.array(columns[f.name]).cast(f.type) if f.name in columns else pa.nulls(n, f.type) for f in schema]
    return pa.Table.from_arrays(made, schema=schema)
