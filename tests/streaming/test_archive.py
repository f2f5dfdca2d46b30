"""Trade archives become trades in the order they happened, and bars that equal what is known of their day."""

from __future__ import annotations

import csv
import gzip
import json
from collections.abc import Iterable
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from feature_repo.contracts import DAY_NS, HOUR_NS
from streaming.bars import bars_from_trades, minute_bars, to_steps
from streaming.frame_bars import write_bars
from streaming.venues.archive import Archive, read_archive
from streaming.venues.bybit_archive import COLUMNS, IDS_A_DAY

DAY = 18_170
"""2019-10-01 in days since 1970."""


def bybit(second: str, direction: str, price: str = "8000.0", size: int = 8_000, **other: str) -> dict[str, str]:
    name = f"{second}{direction}{price}{size}"
    return {
        "timestamp": f"{DAY * 86_400 + int(second.partition('.')[0])}.{second.partition('.')[2]}", "symbol": "BTCUSD",
        "side": "Buy", "size": str(size), "price": price, "tickDirection": direction, "trdMatchID": name,
        "foreignNotional": str(Decimal(size) / Decimal(price)), **other,
    }


NEWEST_FIRST = [
    bybit("5.5", "MinusTick", "7999.5"), bybit("3.25", "ZeroPlusTick", "8000.5"), bybit("3.25", "PlusTick", "8000.5"),
    bybit("3.25", "ZeroMinusTick", "8000.0", 4_000), bybit("0.125", "MinusTick", "8000.0"),
]


def written(path: Path, rows: Iterable[dict[str, str]]) -> Path:
    with gzip.open(path, "wt", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS)
        writer.writeheader()
        writer.writerows(rows)
    return path


def test_trades_are_numbered_in_the_order_they_happened(tmp_path: Path) -> None:
    archive = read_archive(written(tmp_path / "day.csv.gz", NEWEST_FIRST))
    assert [(t.trade_id, t.ts_event - DAY * DAY_NS, t.price, t.quantity) for t in archive.trades] == [
        (DAY * IDS_A_DAY, 125_000_000, 8_000.0, 1.0), (DAY * IDS_A_DAY + 1, 3_250_000_000, 8_000.0, 0.5),
        (DAY * IDS_A_DAY + 2, 3_250_000_000, 8_000.5, pytest.approx(8_000 / 8_000.5)),
        (DAY * IDS_A_DAY + 3, 3_250_000_000, 8_000.5, pytest.approx(8_000 / 8_000.5)),
        (DAY * IDS_A_DAY + 4, 5_500_000_000, 7_999.5, pytest.approx(8_000 / 7_999.5)),
    ]
    assert archive.facts == {"tick_direction_disagrees": 0}
    assert archive.whole == (DAY * DAY_NS, (DAY + 1) * DAY_NS)


def test_an_archive_that_begins_with_the_oldest_gives_the_same_trades(tmp_path: Path) -> None:
    oldest_first = read_archive(written(tmp_path / "oldest.csv.gz", reversed(NEWEST_FIRST)))
    newest_first = read_archive(written(tmp_path / "newest.csv.gz", NEWEST_FIRST))
    assert [t.model_copy(update={"session": ""}) for t in oldest_first.trades] == [
        t.model_copy(update={"session": ""}) for t in newest_first.trades]


def test_an_order_that_the_tick_directions_deny_is_counted(tmp_path: Path) -> None:
    rows = [NEWEST_FIRST[0], NEWEST_FIRST[3], NEWEST_FIRST[2], NEWEST_FIRST[1], NEWEST_FIRST[4]]
    assert read_archive(written(tmp_path / "day.csv.gz", rows)).facts["tick_direction_disagrees"] == 3


@pytest.mark.parametrize("bad", [
    {"timestamp": "yesterday"}, {"price": "nan"}, {"price": "-1"}, {"side": "buy"}, {"symbol": "BTCUSDT"},
    {"foreignNotional": ""},
])
def test_a_row_that_is_no_trade_is_counted_and_changes_no_number(tmp_path: Path, bad: dict[str, str]) -> None:
    rows = [*NEWEST_FIRST[:2], NEWEST_FIRST[1] | bad, *NEWEST_FIRST[2:]]
    archive = read_archive(written(tmp_path / "day.csv.gz", rows))
    assert (len(archive.trades), archive.refused.total()) == (5, 1)
    assert archive.trades[-1].trade_id == DAY * IDS_A_DAY + 4


def test_a_repeated_id_counts_once(tmp_path: Path) -> None:
    archive = read_archive(written(tmp_path / "day.csv.gz", [*NEWEST_FIRST, NEWEST_FIRST[0]]))
    assert (len(archive.trades), archive.refused) == (5, {"repeated": 1})


@pytest.mark.parametrize(("name", "content"), [
    ("day.csv.gz", b"timestamp,symbol\n1,BTCUSD\n"), ("day.csv.gz", b""), ("day.json.gz", b"{}"),
    ("day.json.gz", b"[1]"), ("day.json.gz", b"[" * 100_000),
])
def test_a_file_that_is_no_archive_is_the_users_to_mend(tmp_path: Path, name: str, content: bytes) -> None:
    path = tmp_path / name
    path.write_bytes(gzip.compress(content))
    with pytest.raises(ValueError, match="expected"):
        read_archive(path)


def aggregate(i: int, ms: int, **other: Any) -> dict[str, Any]:
    return {"e": "aggTrade", "E": ms + 1, "s": "BTCUSDT", "a": i, "p": "10.5", "q": "2.0", "f": 2 * i, "l": 2 * i + 1,
            "T": ms, "m": False, "M": True, **other}


def test_seconds_that_a_missing_aggregate_touches_have_no_bar(tmp_path: Path) -> None:
    ids = [(1, 500), (2, 1_500), (3, 2_500), (5, 4_500), (6, 5_500), (7, 6_500), (8, 7_500)]
    path = tmp_path / "x_trades.json.gz"
    path.write_bytes(gzip.compress(json.dumps([aggregate(*i) for i in ids] + [aggregate(1, 500, q="x")]).encode()))
    summary = write_bars([path], "1s", tmp_path / "out.parquet")
    closes = pq.read_table(tmp_path / "out.parquet", columns=["close_time"])["close_time"].cast("int64").to_pylist()
    assert [close // 1_000_000 for close in closes] == [2, 6, 7]
    assert (summary["frames"], summary["refused"], summary["fills"]) == (8, {"InvalidMessage": 1}, 14)


# --- the recorded archives ---


def _recorded(data_dir: Path, *parts: str) -> Path:
    path = data_dir.joinpath(*parts)
    if not path.is_file():
        pytest.skip(f"left out: no trade archive at {path}")
    return path


@pytest.fixture(scope="module")
def full_day(data_dir: Path) -> tuple[Path, Archive]:
    path = _recorded(data_dir, "trades_bybit_2019-10-01", "BTCUSD2019-10-01.csv.gz")
    return path, read_archive(path)


def test_the_full_day_is_whole_unique_ascending_and_in_the_order_of_its_ticks(full_day: tuple[Path, Archive]) -> None:
    path, archive = full_day
    with gzip.open(path, "rt", newline="") as file:
        rows = list(csv.DictReader(file))
    assert (len(rows), len(archive.trades), archive.refused.total()) == (93_598, 93_598, 0)
    assert [trade.trade_id for trade in archive.trades] == list(range(DAY * IDS_A_DAY, DAY * IDS_A_DAY + 93_598))
    assert all(a.ts_event <= b.ts_event for a, b in zip(archive.trades, archive.trades[1:], strict=False))
    assert archive.facts == {"tick_direction_disagrees": 0}


def test_the_full_days_bars_are_dense_and_hold_every_contract(full_day: tuple[Path, Archive]) -> None:
    path, archive = full_day
    assert archive.whole == (DAY * DAY_NS, (DAY + 1) * DAY_NS)
    bars = bars_from_trades(archive.trades, *archive.whole)
    minutes = minute_bars(bars)
    assert (len(bars), len(minutes), sum(bar.trades for bar in minutes)) == (86_400, 1_440, 93_598)
    with gzip.open(path, "rt", newline="") as file:
        rows = list(csv.DictReader(file))
    base, contracts = (sum(Decimal(row[name]) for row in rows) for name in ("foreignNotional", "size"))
    assert sum(to_steps(bar.volume) for bar in minutes) == base * 10**8
    quote = sum(bar.quote_volume for bar in minutes)
    # The venue rounds each base value down to 1e-8: our quote volume lacks that much, and nothing else.
    assert 0 < float(contracts) - quote < 1e-8 * float(contracts)
    assert (minutes[0].open, minutes[-1].close) == (8_297.5, float(rows[0]["price"]))


def test_a_recorded_hour_of_aggregates_equals_the_official_hour(data_dir: Path) -> None:
    import pandas as pd

    archive = read_archive(_recorded(
        data_dir, "aggtrades_binance_2020-11-01", "BTCUSDT_2020-11-01T09-00-00_trades.json.gz"))
    begin = archive.trades[0].ts_event // HOUR_NS * HOUR_NS
    minutes = minute_bars(bars_from_trades(archive.trades, begin, begin + HOUR_NS, archive.trades[0].price))
    klines = pd.read_parquet(_recorded(data_dir, "klines_binance", "btcusdt_spot_1h.parquet")).set_index("date")
    hour = klines.loc[pd.Timestamp(begin, unit="ns", tz="UTC")]
    assert (len(minutes), archive.facts["fills"]) == (60, 22_661)
    assert (minutes[0].open, max(b.high for b in minutes), min(b.low for b in minutes), minutes[-1].close) == (
        hour["open"], hour["high"], hour["low"], hour["close"])
    assert sum(to_steps(bar.volume) for bar in minutes) == to_steps(hour["volume"])
