"""Bars: where a check's bars come from: the lake, files, or a made market.

    bars = from_lake(Lake.open(url), "BTCUSDT")
    bars = from_files([Path("bars.parquet"), Path("btcusdt_spot_1m.parquet")], "BTCUSDT")

A file is one that `candlewick bars` wrote, or klines with the bar's open under `date`. Whole minutes are also made of
seconds, as the stream makes them, so that minute and second bars of one market follow each other without a hole.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from feature_repo.contracts import DAY_NS, HOUR_NS, MINUTE_NS, SECOND_NS, Bar, Source
from feature_repo.lake_layout import unflatten
from feature_repo.lake_reader import Lake
from streaming.bars import minute_bars
from training.klines import MinuteBars, simulated_klines

if TYPE_CHECKING:
    import pandas as pd

LAKE_NS = 3 * HOUR_NS
"""So much of the newest history is read as seconds, a day and three hours before it as minutes."""
MINUTES = 27 * 60
FILE_NS = 14 * DAY_NS
"""So much of a file's end is read."""
FIELDS = ("open", "high", "low", "close", "volume", "quote_volume", "taker_buy_volume")


def from_lake(lake: Lake, symbol: str) -> list[Bar]:
    """The newest hours of a lake's clean zone, as they became known."""
    newest = lake.newest("clean", symbol)
    if newest is None:
        return []
    records = lake.read("clean", symbol, newest - LAKE_NS - MINUTES * MINUTE_NS, newest).to_pylist()
    return with_minutes(bar for r in records if isinstance(bar := unflatten("clean", r), Bar))


def with_minutes(bars: Iterable[Bar]) -> list[Bar]:
    """The bars, and the whole minutes of their seconds, each close once an interval: what was known first stays."""
    once: dict[tuple[int, int], Bar] = {}
    given = sorted(bars, key=lambda bar: bar.created)
    for bar in [*given, *minute_bars(given)]:
        once.setdefault((bar.interval_s, bar.close_time), bar)
    return sorted(once.values(), key=lambda bar: (bar.created, bar.close_time, bar.interval_s))


def from_files(paths: Iterable[Path], symbol: str, source: Source = "recording") -> list[Bar]:
    """Bars of Parquet files. Raises `ValueError` for a file that holds none of the symbol."""
    tables = [_of_file(path, symbol) for path in paths]
    # Years of klines are more than anything reads: the days up to the end of whatever ends first.
    end = min(int(rows["close_ns"].max()) for rows in tables)
    kept = [rows[(rows["close_ns"] <= end) & (rows["close_ns"] > end - FILE_NS)] for rows in tables]
    return with_minutes(_bar(row, symbol, source) for rows in kept for row in rows.to_dict("records"))


def _of_file(path: Path, symbol: str) -> pd.DataFrame:
    import pandas as pd

    try:
        rows = pd.read_parquet(path)
    except (OSError, ValueError) as error:
        raise ValueError(f"{path}: expected a Parquet file of bars or klines, found none that can be read ({error}); "
                         "see docs/leakcheck.md for the columns") from error
    if "date" in rows:
        rows = rows.assign(interval_s=60, close_ns=_ns(rows["date"]) + MINUTE_NS)
    elif {"open_time", "close_time", "symbol"} <= set(rows):
        rows = rows[rows["symbol"] == symbol]
        close_ns = _ns(rows["close_time"])
        rows = rows.assign(close_ns=close_ns, interval_s=(close_ns - _ns(rows["open_time"])) // SECOND_NS)
    else:
        found = ", ".join(map(str, rows))
        raise ValueError(f"{path.name}: expected columns of `candlewick bars` or klines, found {found}")
    if rows.empty:
        raise ValueError(f"{path.name}: expected bars of {symbol}, found none")
    return rows


def _ns(column: Any) -> Any:
    return column.dt.as_unit("ns").astype("int64")


def _bar(row: Mapping[Any, Any], symbol: str, source: Source) -> Bar:
    close, interval = int(row["close_ns"]), int(row["interval_s"])
    volume, trades = float(row["volume"]), int(row.get("trades", 1))
    bought = row.get("taker_buy_volume")
    quote = float(row.get("quote_volume", volume * (row["high"] + row["low"] + row["close"]) / 3))
    return Bar(
        symbol=symbol, ts_event=close, ts_init=close + SECOND_NS, source=source, session="bars",
        interval_s=interval, open_time=close - interval * SECOND_NS, close_time=close,  # type: ignore[arg-type]
        open=row["open"], high=row["high"], low=row["low"], close=row["close"], volume=volume, quote_volume=quote,
        vwap=row["close"], trades=trades, taker_buy_volume=None if bought is None or np.isnan(bought) else bought,
        created=close + SECOND_NS, provenance="backfill",
    )


def minutes_of(bars: Iterable[Bar], days: int) -> MinuteBars | None:
    """The last `days` of minute bars as training holds them; null where there are fewer."""
    minutes = sorted((bar for bar in bars if bar.interval_s == 60), key=lambda bar: bar.close_time)[-days * 1440:]
    if len(minutes) < 0.98 * days * 1440:
        return None
    columns = {
        name: np.array([np.nan if (x := getattr(bar, name)) is None else x for bar in minutes]) for name in FIELDS
    }
    closes = np.array([bar.close_time for bar in minutes], dtype=np.int64)
    return MinuteBars(minutes[0].symbol, minutes[0].source, closes, columns)


def made_minutes(symbol: str, days: int, seed: int) -> MinuteBars:
    """A market that is not real, where the bars given are too few for a training set."""
    return simulated_klines(days, seed, symbol)
