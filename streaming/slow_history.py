"""Slow history: the data folder's files of slow series become observations and rows of the lake.

    backfill(lake, writer, settings.data_dir, ("BTCUSDT",), time.time_ns)

A file tells which moment a value describes, and not when it became known: that is taken to be the series' declared lag
later. Moments of which anything is held stay as they are, so that doing it again writes nothing. Rows are written
before the observations they are made of: a kill between them is mended by the same command. A stream that runs beside
it takes these observations into its rows from their `ts_init` on, which is some minutes after they are written
(`HELD_AFTER_NS`): so a row says nothing of which of the two was faster. DTWEXBGS is left out, for FRED tells it a week
at a time and its lag is not a day.
"""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from pathlib import Path
from typing import Any, cast

import structlog

from feature_repo.contracts import HOUR_NS, MARKET, MINUTE_NS, SECOND_NS, Observation
from feature_repo.lake_layout import Zone
from feature_repo.lake_reader import Lake
from feature_repo.slow_features import SLOW_VIEWS, SlowRow, SlowView, close_of, rows
from feature_repo.slow_series import SERIES, session_close
from streaming.lake import LakeWriter
from streaming.slow_rows import is_of, lake_closes, names_of, read_observations

FAR_NS = 2**62
SESSION = "files"
HELD_AFTER_NS = 5 * MINUTE_NS
"""From when writing the observations begins to when rows are made of them: all of them are readable long before."""
log = structlog.get_logger()


@dataclass(frozen=True)
class File:
    """One file of the data folder: where it lies, and where in it a value and its moment stand."""

    series: str
    instrument: str
    name: str
    moment: str
    value: str
    read: Callable[[str], int]
    """The moment's text → ns UTC."""
    symbol: Callable[[Mapping[str, str]], str] = lambda _record: MARKET


def _instant(text: str) -> int:
    return round(datetime.fromisoformat(text).timestamp()) * SECOND_NS // MINUTE_NS * MINUTE_NS


def _session(text: str) -> int:
    return session_close(date.fromisoformat(text))


def _perpetual(record: Mapping[str, str]) -> str:
    return f"{record['symbol']}-PERP.BINANCE"


FILES = (
    File("funding_rate", "BINANCE", "binance_btcusdt_funding_8h.csv", "fundingTime", "fundingRate", _instant,
         _perpetual),
    File("open_interest", "BINANCE", "binance_oi_metrics_5m.csv", "date", "sum_open_interest", _instant, _perpetual),
    File("fear_greed", "FNG", "fear_greed_daily.csv", "timestamp", "value", lambda text: int(text) * SECOND_NS),
    *(File(series, name, f"macro_{name}.csv", "date", "close", _session)
      for series, name in (("sp500", "SPY"), ("nasdaq", "QQQ"), ("dollar", "UUP"), ("gold", "GLD"))),
    File("sp500", "SP500", "macro_SP500_FRED.csv", "date", "value", _session),
    File("vix", "VIX", "macro_VIX.csv", "DATE", "CLOSE", _session),
    File("us10y", "DGS10", "macro_DGS10.csv", "date", "value", _session),
)


def backfill(
    lake: Lake, writer: LakeWriter, data_dir: Path, symbols: Sequence[str], clock_ns: Callable[[], int],
    span: tuple[int, int] = (0, FAR_NS),
) -> dict[str, Any]:
    """Observations that describe moments of (start, end], known by now and not held yet, and their rows.

    Returns what was written, by series and by view. Raises `ValueError` when the folder has none of the files, or one
    cannot be read.
    """
    now_ns = clock_ns()
    # Later than any stamp of a backfill before it: what that wrote is part of these rows.
    told = [o for o in read_folder(data_dir / "context", now_ns + HELD_AFTER_NS)
            if span[0] < o.ts_event <= span[1] and o.created <= now_ns]
    held = read_observations(lake, {o.symbol for o in told}, span[0], span[1])
    moments = {(o.symbol, o.series, o.instrument, o.ts_event) for o in held}
    news = [o for o in told if (o.symbol, o.series, o.instrument, o.ts_event) not in moments]
    written = {"rows": dict.fromkeys((view.name for view in SLOW_VIEWS), 0)}
    for view in SLOW_VIEWS:
        for symbol in symbols:
            made = _rows(lake, data_dir, view, symbol, news)
            writer.add_revision(cast(Zone, view.name), made, "backfill")
            written["rows"][view.name] += len(made)
    _file(writer, news, clock_ns)
    counts = {name: sum(o.series == name for o in news) for name in SERIES}
    return {"source": "context", "observations": counts, **written, "held": len(told) - len(news)}


def _file(writer: LakeWriter, news: Sequence[Observation], clock_ns: Callable[[], int]) -> None:
    """Write observations under the time from which on rows are made of them."""
    held_from = clock_ns() + HELD_AFTER_NS
    writer.add_revision("observations", [o.model_copy(update={"ts_init": held_from}) for o in news], "backfill")
    if (late_ns := clock_ns() - held_from) > 0:
        log.warning("observations were readable later than rows count on; a certificate may name such a row",
                    late_s=late_ns // SECOND_NS)


def read_folder(folder: Path, ts_init: int) -> list[Observation]:
    """Every file's observations, under one `ts_init`: from when on rows are made of them.

    Raises `ValueError` when there is no file, or one cannot be read.
    """
    present = [file for file in FILES if (folder / file.name).is_file()]
    if not present:
        raise ValueError(f"--source context: expected files such as {FILES[0].name} in {folder}, found none; set "
                         "CANDLEWICK_DATA_DIR")
    return [observation for file in present for observation in _read(folder / file.name, file, ts_init)]


def _read(path: Path, file: File, ts_init: int) -> Iterator[Observation]:
    series = SERIES[file.series]
    with path.open(newline="") as lines:
        for number, record in enumerate(csv.DictReader(lines), start=2):
            if record.get(file.value) in ("", "."):
                continue  # a holiday
            try:
                at = file.read(record[file.moment])
                observation = Observation(
                    symbol=file.symbol(record), ts_event=at, ts_init=ts_init, source="live", session=SESSION,
                    series=series.name, provider=SESSION, instrument=file.instrument, created=at + series.lag_ns,
                    provenance="backfill", value=float(record[file.value]),
                )
                series.check(observation)
            except (KeyError, TypeError, ValueError) as error:
                raise ValueError(f"{path} line {number}: expected {file.moment} and {file.value} of {series.name}, "
                                 f"found {error!r}") from error
            yield observation


def _rows(
    lake: Lake, data_dir: Path, view: SlowView, symbol: str, news: Sequence[Observation],
) -> list[SlowRow]:
    ours = [o for o in news if o.series in view.series and is_of(o, symbol)]
    if not ours:
        return []
    held = [o for name in names_of(view, symbol) for o in read_observations(lake, [name], 0, FAR_NS, view.series)]
    sessions = sorted({o.ts_event for o in (*held, *ours)})
    closes = [*file_closes(data_dir, symbol, sessions), *lake_closes(lake, symbol, sessions)]
    return rows(view, symbol, [*held, *ours], ours, closes if view.name == "macro" else ())


def file_closes(data_dir: Path, symbol: str, times_ns: Sequence[int]) -> list[Observation]:
    """A symbol's closes at whole hours from the data folder's hourly klines; none where it has no such file."""
    import pyarrow.parquet as pq

    path = data_dir / "klines_binance" / f"{symbol.lower()}_spot_1h.parquet"
    if not path.is_file():
        return []
    table = pq.read_table(path, columns=["date", "close"])
    opens_ms = table["date"].cast("timestamp[ms]").cast("int64").to_pylist()
    closes = {
        at * 1_000_000 + HOUR_NS: close for at, close in zip(opens_ms, table["close"].to_pylist(), strict=True)
    }
    return [close_of(symbol, at, at + SECOND_NS, closes[at], "live") for at in times_ns if at in closes]
