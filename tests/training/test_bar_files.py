"""Bars of any venue come in by one door, and what is wrong with a file is said: expected, found, what to do."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from feature_repo.contracts import MINUTE_NS
from training.bar_files import BarForm, parse_time, read_bars, without_volume

START = pd.Timestamp("2025-03-01", tz="UTC")
Change = Callable[[pd.DataFrame], pd.DataFrame]


def made(n: int = 6) -> pd.DataFrame:
    price = 100.0 + np.arange(n)
    return pd.DataFrame({
        "date": pd.date_range(START, periods=n, freq="min"), "open": price, "high": price + 1, "low": price - 1,
        "close": price + 0.5, "volume": 2.0,
    })


def written(folder: Path, table: pd.DataFrame, name: str = "bars.parquet") -> Path:
    path = folder / name
    if path.suffix == ".csv":
        table.to_csv(path, index=False)
    else:
        table.to_parquet(path)
    return path


def closes(path: Path, form: BarForm | None = None) -> list[int]:
    [bars] = read_bars([path], form)
    return ((bars.close_ns - START.value) // MINUTE_NS).tolist()


def test_a_date_is_the_bars_open_unless_it_is_said_to_be_the_close(tmp_path: Path) -> None:
    path = written(tmp_path, made())
    assert closes(path) == [1, 2, 3, 4, 5, 6]
    assert closes(path, BarForm(label="close")) == [0, 1, 2, 3, 4, 5]


@pytest.mark.parametrize(("unit", "per_s"), [("s", 1), ("ms", 10**3), ("us", 10**6), ("ns", 10**9)])
@pytest.mark.parametrize("kind", ["bars.parquet", "bars.csv"])
def test_integer_times_of_any_unit_are_the_same_bars(tmp_path: Path, unit: str, per_s: int, kind: str) -> None:
    table = made().assign(date=lambda t: t["date"].dt.as_unit("ns").astype("int64") // (10**9 // per_s))
    path = written(tmp_path, table, kind)
    assert closes(path) == closes(path, BarForm(unit=unit)) == [1, 2, 3, 4, 5, 6]  # type: ignore[arg-type]
    wrong = "ms" if unit != "ms" else "s"
    with pytest.raises(ValueError, match=f"expected date in {wrong}, found .* use --time-unit {unit}"):
        closes(path, BarForm(unit=wrong))  # type: ignore[arg-type]


def test_a_close_written_as_the_minutes_last_millisecond_is_the_minute(tmp_path: Path) -> None:
    last = made()["date"].dt.as_unit("ns").astype("int64") // 10**6 + 59_999
    path = written(tmp_path, made().drop(columns="date").assign(close_time=last), "bars.csv")
    assert closes(path) == [1, 2, 3, 4, 5, 6]


def test_csv_and_parquet_with_other_names_and_letters_hold_the_same_bars(tmp_path: Path) -> None:
    shouted = made().rename(columns=lambda name: {"volume": "Vol", "date": "When"}.get(name, name.upper()))
    form = BarForm(time="When", label="open", columns={"volume": "Vol"})
    [csv] = read_bars([written(tmp_path, shouted, "bars.csv")], form)
    [parquet] = read_bars([written(tmp_path, made())])
    assert csv.close_ns.tolist() == parquet.close_ns.tolist()
    for name, column in parquet.columns.items():
        assert np.array_equal(column, csv.columns[name], equal_nan=True), name
    assert np.isnan(parquet.columns["taker_buy_volume"]).all(), "unknown, not 0"


def test_of_two_columns_of_times_the_one_that_was_said_is_taken(tmp_path: Path) -> None:
    opens = made().rename(columns={"date": "open_time"})
    both = opens.assign(close_time=opens["open_time"] + pd.Timedelta("1min"))
    path = written(tmp_path, both)
    assert closes(path) == closes(path, BarForm(label="open")) == closes(path, BarForm(label="close"))
    only = written(tmp_path, both.drop(columns="close_time"), "only.parquet")
    with pytest.raises(ValueError, match="expected a column of times"):
        closes(only, BarForm(label="close"))


def test_a_column_that_is_named_hides_one_of_our_name(tmp_path: Path) -> None:
    path = written(tmp_path, made().assign(base_volume=7.0))
    [bars] = read_bars([path], BarForm(columns={"volume": "base_volume"}))
    assert set(bars.columns["volume"].tolist()) == {7.0}


def test_several_files_are_one_history_in_any_order_and_a_gap_stays_a_gap(tmp_path: Path) -> None:
    late, early = (written(tmp_path, part, name) for part, name in
                   ((made(9).iloc[6:], "late.parquet"), (made(9).iloc[:4], "early.csv")))
    [bars] = read_bars([late, early])
    assert ((bars.close_ns - START.value) // MINUTE_NS).tolist() == [1, 2, 3, 4, 7, 8, 9]


def test_symbols_come_from_a_column_from_the_argument_or_from_the_form(tmp_path: Path) -> None:
    both = pd.concat([made().assign(symbol="ETHUSDT"), made().assign(symbol="SOLUSDT")])
    named = [written(tmp_path, both, "both.parquet"), f"BTC-USD-PERP.STANDX={written(tmp_path, made(), 'x.csv')}"]
    assert [b.symbol for b in read_bars(named)] == ["BTC-USD-PERP.STANDX", "ETHUSDT", "SOLUSDT"]
    assert read_bars([written(tmp_path, made())], BarForm(symbol="ADAUSDT"))[0].symbol == "ADAUSDT"


def at(row: int, **values: float) -> Change:
    return lambda t: t.assign(**{k: t[k].where(np.arange(len(t)) != row, v) for k, v in values.items()})


FAULTS: dict[str, tuple[Change, str]] = {
    "repeated": (lambda t: pd.concat([t, t.iloc[-1:]]), r"one bar a minute, found 2025-03-01 00:06:00 UTC twice"),
    "disordered": (lambda t: t.iloc[::-1], "ascending by time, found 2025-03-01 00:05:00 UTC after a later one; sort"),
    "nameless time": (lambda t: t.rename(columns={"date": "when"}), "name it by --time-column NAME --time-means"),
    "misnamed": (lambda t: t.rename(columns={"volume": "volumes"}), r"no volume\); .*--column volume=volumes"),
    "missing": (lambda t: t.drop(columns=["open", "low"]), r"\(no open, low\)"),
    "unknown value": (at(2, close=np.nan), r"a number in .*, found .*close nan, volume 2 in .* 00:03:00"),
    "infinite": (at(2, volume=np.inf), "a number in .*, found .*volume inf"),
    "negative price": (at(1, low=-5.0), r"prices above 0 .*low -5, .*; correct or delete"),
    "negative volume": (at(1, volume=-1.0), "volumes of at least 0"),
    "negative beside an unknown one": (
        lambda t: t.assign(volume=-1.0, quote_volume=np.nan), "finite volumes of at least 0"),
    "infinite optional volume": (lambda t: t.assign(taker_buy_volume=np.inf), "finite volumes of at least 0"),
    "nameless symbol": (lambda t: t.assign(symbol=["BTCUSDT", None, *["BTCUSDT"] * (len(t) - 2)]), "found 1 without"),
    "high below close": (at(3, high=1.0), "high ≥ open, close ≥ low"),
    "text": (lambda t: t.assign(open="cheap"), "expected numbers in open, found 'cheap' and 5 more"),
    "five minutes": (lambda t: t.assign(date=pd.date_range(START, periods=len(t), freq="5min")), "found 300 s between"),
    "half minutes": (lambda t: t.assign(date=t["date"] + pd.Timedelta("30s")), "expected whole minutes in date"),
    "no time": (lambda t: t.assign(date=t["date"].where(t.index != 1)), "a time in every row, found 1 without"),
    "1970": (lambda t: t.assign(date=pd.to_datetime(t["date"].astype("int64") // 10**6)), "written in another unit"),
    "mixed units": (
        lambda t: t.assign(date=t["date"].dt.as_unit("ns").astype("int64") // np.where(t.index < 3, 10**6, 10**3)),
        "expected date in one unit since 1970",
    ),
    "no date": (lambda t: t.assign(date="soon"), "expected times in date, found 'soon'"),
    "recorded": (lambda t: t.assign(source="recording"), "source live, found recording; ask for them by --source"),
    "empty": (lambda t: t.iloc[:0], "expected bars, found no row"),
    "slashed symbol": (lambda t: t.assign(symbol="BTC/USDT"), "dots and dashes, found 'BTC/USDT'; write it as BTCUSDT"),
    "no volume": (lambda t: t.drop(columns="volume"), r"no volume\); .* none to be had, --column volume="),
    "numbers that are no times": (lambda t: t.assign(date="20250301000000"), "expected date in one unit since 1970"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_what_is_wrong_is_said_with_what_to_do(tmp_path: Path, fault: str) -> None:
    change, said = FAULTS[fault]
    with pytest.raises(ValueError, match=said) as refused:
        read_bars([written(tmp_path, change(made()))])
    assert "bars.parquet" in str(refused.value)


def test_a_file_that_is_no_table_and_one_that_is_not_there_are_refused(tmp_path: Path) -> None:
    (tmp_path / "noise.parquet").write_bytes(b"not a table")
    with pytest.raises(ValueError, match=r"noise\.parquet: expected Parquet"):
        read_bars([tmp_path / "noise.parquet"])
    with pytest.raises(ValueError, match="expected a file of bars, found nothing"):
        read_bars([tmp_path / "nowhere.csv"])


def test_a_minute_in_two_files_is_refused(tmp_path: Path) -> None:
    names = [written(tmp_path, made(), name) for name in ("a.parquet", "b.parquet")]
    with pytest.raises(ValueError, match=r"a\.parquet, b\.parquet: expected each minute of BTCUSDT once"):
        read_bars(names)


def test_times_that_a_table_has_as_its_index_are_times(tmp_path: Path) -> None:
    path = tmp_path / "bars.parquet"
    for index in (made().set_index("date"), made().set_index("date").rename_axis(None)):
        index.to_parquet(path)
        assert closes(path) == [1, 2, 3, 4, 5, 6]
    made().set_index("date", drop=False).to_parquet(path)
    assert closes(path) == [1, 2, 3, 4, 5, 6], "the column of that name is kept"


def test_times_of_any_zone_and_numbers_written_as_text_are_the_same_bars(tmp_path: Path) -> None:
    far = made().assign(date=lambda t: t["date"].dt.tz_convert("Asia/Kathmandu"), ignored="x", trades=1)
    assert closes(written(tmp_path, far)) == [1, 2, 3, 4, 5, 6]
    spelled = made().assign(date=lambda t: (t["date"].dt.as_unit("ns").astype("int64") // 10**6).astype(str))
    spelled = spelled.assign(**{name: spelled[name].astype(str) for name in ("open", "high", "low", "close", "volume")})
    [bars] = read_bars([written(tmp_path, spelled)])
    assert ((bars.close_ns - START.value) // MINUTE_NS).tolist() == [1, 2, 3, 4, 5, 6]
    assert bars.columns["high"].tolist() == made()["high"].tolist()


@pytest.mark.parametrize("name", ["bars.csv", "BARS.CSV", "bars.csv.gz", "bars.csv.xz", "bars.csv.zip"])
def test_csv_with_a_byte_order_mark_packed_or_not_is_the_same_bars(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    made().to_csv(path, index=False, encoding="utf-8-sig")
    assert closes(path) == [1, 2, 3, 4, 5, 6]


@pytest.mark.parametrize("name", ["bars.csv.gz", "bars.csv.xz", "bars.csv.zip", "bars.csv.bz2", "bars.parquet"])
@pytest.mark.parametrize("share", [0.0, 0.5])
def test_a_file_that_is_cut_is_refused(tmp_path: Path, name: str, share: float) -> None:
    path = tmp_path / name
    made(500).to_csv(path, index=False) if ".csv" in name else made(500).to_parquet(path)
    whole = path.read_bytes()
    path.write_bytes(whole[: int(share * len(whole))])
    with pytest.raises(ValueError, match=f"{name}: expected (CSV|Parquet)"):
        read_bars([path])


def test_a_csv_without_a_line_of_names_is_told_so(tmp_path: Path) -> None:
    ms = made().assign(date=lambda t: t["date"].dt.as_unit("ns").astype("int64") // 10**6)
    ms.to_csv(tmp_path / "bars.csv", index=False, header=False)
    with pytest.raises(ValueError, match=r"a line of columns' names first, found numbers .*add one, such as open_time"):
        read_bars([tmp_path / "bars.csv"])


def test_bars_without_volumes_are_read_where_it_is_said_and_never_learnt_from(tmp_path: Path) -> None:
    form = BarForm(columns={"volume": ""})
    for table in (made().drop(columns="volume"), made(), made().assign(quote_volume=5.0)):
        [bars] = read_bars([written(tmp_path, table)], form, volume_needed=False)
        assert without_volume(bars), "it was said that there is none, whatever a column is called"
    assert bars.columns["quote_volume"].tolist() == [5.0] * 6
    with pytest.raises(ValueError, match="expected volumes to learn from, found none above 0 of BTCUSDT"):
        read_bars([written(tmp_path, made())], form)
    with pytest.raises(ValueError, match="expected the file's name of close in --column close=NAME, found none"):
        BarForm(columns={"close": ""})


@pytest.mark.parametrize("text", ["soon", "1752192000000", "0001-01-01T00:00+14:00", "9999-12-31", "2025-13-01", ""])
def test_a_time_that_cannot_be_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="expected a time"):
        parse_time(text)


@pytest.mark.parametrize("text", ["2025-07-11", "2025-07-11T00Z", "2025-07-11 02:00+02:00", "2025-07-10T20:00-04:00"])
def test_a_time_without_a_zone_is_utc(text: str) -> None:
    assert parse_time(text) == pd.Timestamp("2025-07-11", tz="UTC").value
