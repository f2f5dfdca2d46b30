"""Bars of recorded frames equal the venue's own klines to the last decimal, and say what they left out."""

from __future__ import annotations

import json
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from feature_repo.contracts import SECOND_NS
from feature_repo.settings import load_settings
from streaming.frame_bars import second_bars, write_bars
from streaming.recording import Line, LineWriter

START_MS = 1_723_161_300_000


def frame(trade_id: int, ms: int, price: str = "100.00", quantity: str = "0.5") -> Line:
    data = {"e": "trade", "E": START_MS + ms, "s": "BTCUSDT", "t": trade_id, "p": price, "q": quantity,
            "T": START_MS + ms, "m": False, "M": True}
    return Line((START_MS + ms) * 1_000_000, json.dumps({"stream": "btcusdt@trade", "data": data}))


def test_partial_seconds_at_both_ends_are_left_out() -> None:
    lines = [frame(1, 400), frame(2, 1100), frame(3, 1900, "101.00"), frame(4, 3300), frame(5, 3900)]
    bars = second_bars(lines).bars["BTCUSDT"]
    assert [((b.close_time // SECOND_NS) - START_MS // 1000, b.close, b.trades) for b in bars] == [
        (2, 101.0, 2), (3, 101.0, 0),
    ]


def test_seconds_that_a_missing_id_touches_are_left_out() -> None:
    lines = [frame(1, 400), frame(2, 1100), frame(3, 2900), frame(7, 4100), frame(8, 5100), frame(9, 6300)]
    bars = second_bars(lines).bars["BTCUSDT"]
    assert [(b.close_time // SECOND_NS) - START_MS // 1000 for b in bars] == [2, 6]


def test_frame_that_cannot_be_read_is_counted_and_changes_nothing() -> None:
    lines = [frame(1, 400), Line(1, '{"stream":"btcusdt@trade","data":{"t":"x"}}'), frame(2, 1100), frame(3, 2300)]
    found = second_bars(lines)
    assert (found.refused.total(), len(found.bars["BTCUSDT"])) == (1, 1)


def test_interval_nobody_knows_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="expected 1s or 1m, found '5m'"):
        write_bars([tmp_path / "x.gz"], "5m", tmp_path / "out.parquet")


def test_frames_of_another_kind_are_refused(tmp_path: Path) -> None:
    with LineWriter(tmp_path / "odd.zst") as writer:
        writer.write(Line(1, '{"stream":"btcusdt@depth@0ms","data":{"pu":1}}'))
    with pytest.raises(ValueError, match="none that can be read"):
        write_bars([tmp_path / "odd.zst"], "1m", tmp_path / "out.parquet")


def test_ten_recorded_minutes_equal_the_official_klines(tmp_path: Path) -> None:
    data = load_settings().data_dir
    frames = [data / "ws_raw_binance" / f"spot_btcusdt_{day}.gz" for day in ("20240808", "20240809")]
    if not all(path.exists() for path in frames):
        pytest.skip(f"no recorded frames under {data}: set CANDLEWICK_DATA_DIR")
    summary = write_bars(frames, "1m", tmp_path / "bars.parquet")
    ours = pq.read_table(tmp_path / "bars.parquet").to_pandas().set_index("open_time")
    official = pq.read_table(data / "klines_binance" / "btcusdt_spot_1m.parquet").to_pandas().set_index("date")
    window = official.loc["2024-08-08 23:55":"2024-08-09 00:04"]
    assert summary["refused"] == {}
    assert len(window) == 10
    for column in ("open", "high", "low", "close", "volume"):
        assert [f"{x:.8f}" for x in ours[column].loc[window.index]] == [f"{x:.8f}" for x in window[column]], column
