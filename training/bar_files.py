"""Bar files: one-minute bars of any venue, Parquet or CSV, as training reads them; what is wrong with them is said.

    [bars] = read_bars(["btcusdt.parquet"], BarForm())
    eth, perp = read_bars(["ETHUSDT=eth.csv", "BTCUSDT-PERP.BINANCE=perp.parquet"], BarForm(time="ts", label="close"))

A file has a column of times and `open`, `high`, `low`, `close`, `volume` (letters' case does not matter), and may have
`quote_volume`, `taker_buy_volume`, `symbol` and `source`. The time column is `open_time`, `close_time` or, taken as the
bar's open as most venues and libraries publish it, one of `TIME_COLUMNS`; anything else is named by `BarForm`. Times
are UTC: timestamps, ISO 8601 text or integers since 1970 whose unit is told by their size. A missing minute is a gap
and stays one. A file without volumes can be evaluated on where `BarForm(columns={"volume": ""})` says so. Everything
that cannot be right is refused with what was expected, what was found and what to do.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Literal, cast, get_args

import numpy as np
from numpy.typing import NDArray

from feature_repo.contracts import MINUTE_NS, SECOND_NS, SYMBOL_PATTERN, Source
from feature_repo.grid import Floats, Ints
from training.bar_tables import NEEDED, OPTIONAL, bar_table
from training.klines import SYMBOL, MinuteBars

if TYPE_CHECKING:
    import pandas as pd

Label = Literal["open", "close"]
Unit = Literal["s", "ms", "us", "ns"]
UNIT_NS: Mapping[str, int] = {"s": SECOND_NS, "ms": 1_000_000, "us": 1_000, "ns": 1}
TIME_COLUMNS: Mapping[str, Label] = {
    "open_time": "open", "close_time": "close", "date": "open", "timestamp": "open", "datetime": "open", "time": "open",
}
"""Time columns known by name and what they are taken to be, the first that is there."""
_SAY_WHICH = frozenset({"open_time", "close_time"})
EARLIEST_NS, LATEST_NS = 1_230_768_000 * SECOND_NS, 4_102_444_800 * SECOND_NS
"""2009-01-01, before which nothing traded, to 2100-01-01: in this range a time's unit is told by its size."""
LAST_MS_OF_A_MINUTE = {MINUTE_NS - 1_000_000, MINUTE_NS - 1_000, MINUTE_NS - 1}
"""A close written as the bar's last instant, as Binance does: the close is the instant after it."""


@dataclass(frozen=True)
class BarForm:
    """How files say what they hold, where it is not by `TIME_COLUMNS` and the names of the fields."""

    time: str | None = None
    """The column of times."""
    label: Label | None = None
    """Whether a time is its bar's open or its close."""
    unit: Unit | None = None
    """Of integer times; None: told by their size."""
    columns: Mapping[str, str] = field(default_factory=dict)
    """Field → the file's own name of it; a volume whose name is empty is one that the files do not have."""
    symbol: str = SYMBOL
    """Of files that neither have a `symbol` column nor are given as SYMBOL=FILE."""
    source: Source = "live"
    """What the files may hold; rows of another `source` are refused."""

    def __post_init__(self) -> None:
        choices = (("label", self.label, get_args(Label)), ("unit", self.unit, get_args(Unit)),
                   ("source", self.source, get_args(Source)))
        for name, found, allowed in choices:
            if found is not None and found not in allowed:
                raise ValueError(f"expected {name} to be one of {', '.join(allowed)}, found {found}")
        if unknown := set(self.columns) - {*NEEDED, *OPTIONAL, "symbol"}:
            raise ValueError(
                f"expected --column FIELD=NAME with a field of {', '.join((*NEEDED, *OPTIONAL, 'symbol'))}, "
                f"found {', '.join(sorted(unknown))}",
            )
        if nameless := [f for f, name in self.columns.items() if not name and f not in ("volume", *OPTIONAL)]:
            raise ValueError(f"expected the file's name of {nameless[0]} in --column {nameless[0]}=NAME, found none; "
                             "only a volume may be missing")


def parse_time(text: str) -> int:
    """ISO 8601 to ns UTC; a time without a zone is UTC. Raises `ValueError`.

    >>> parse_time("2025-07-11") == parse_time("2025-07-11T02:00+02:00")
    True
    """
    try:
        at = datetime.fromisoformat(text)
        at_ns = round((at if at.tzinfo else at.replace(tzinfo=UTC)).timestamp() * 1e6) * 1_000
    except (ValueError, OverflowError):
        raise ValueError(f"expected a time such as 2025-07-11 or 2025-07-11T12:00Z, found {text}") from None
    if not EARLIEST_NS <= at_ns < LATEST_NS:
        raise ValueError(f"expected a time between 2009 and 2100, found {text}")
    return at_ns


def read_bars(
    files: Sequence[str | Path], form: BarForm | None = None, *, volume_needed: bool = True,
) -> list[MinuteBars]:
    """Bars by symbol, each ascending by close. Raises `ValueError` for what is not as the module says.

    `volume_needed`: a model that learnt of bars without volumes would be another where they are there.
    """
    form = form or BarForm()
    if not files:
        raise ValueError("expected at least one file of bars, found none")
    read = [bars for name in files for bars in _of_file(name, form)]
    symbols = sorted({bars.symbol for _, bars in read})
    found = [_joined([each for each in read if each[1].symbol == symbol], form) for symbol in symbols]
    if volume_needed and (lacking := [bars.symbol for bars in found if without_volume(bars)]):
        raise ValueError(f"expected volumes to learn from, found none above 0 of {', '.join(lacking)}; bars without "
                         "them can only be evaluated on")
    return found


def without_volume(bars: MinuteBars) -> bool:
    """Whether it was said that there is none, or none was ever traded."""
    return not (bars.columns["volume"] > 0).any()


def until(bars: MinuteBars, last_ns: int) -> MinuteBars:
    """The bars that close at or before a time."""
    return _chosen(bars, bars.close_ns <= last_ns)


def _chosen(bars: MinuteBars, kept: NDArray[np.bool_]) -> MinuteBars:
    return replace(bars, close_ns=bars.close_ns[kept], columns={k: v[kept] for k, v in bars.columns.items()})


Named = tuple[str, MinuteBars]


def _of_file(named: str | Path, form: BarForm) -> list[Named]:
    symbol, path = _symbol_and_path(named, form)
    table = bar_table(path, form.columns)
    close_ns = _closes(table, path.name, form)
    symbols = table["symbol"].astype(str).to_numpy() if "symbol" in table else np.full(len(table), symbol)
    _check_source(table, path.name, form)
    columns = {name: _numbers(table, name, path.name) for name in (*NEEDED, *OPTIONAL) if name in table}
    found = []
    for name in dict.fromkeys(symbols.tolist()):
        _check_symbol(name, path.name)
        own = symbols == name
        bars = MinuteBars(name, form.source, close_ns[own], {k: v[own] for k, v in columns.items()})
        _check(bars, path.name)
        found.append((path.name, bars))
    return found


def _check_symbol(symbol: str, name: str) -> None:
    if not re.fullmatch(SYMBOL_PATTERN, symbol):
        near = re.sub(r"[^A-Z0-9.-]", "", symbol.upper()) or "BTCUSDT"
        raise ValueError(f"{name}: expected a symbol of capitals, digits, dots and dashes, found {symbol!r}; write it "
                         f"as {near}")


def _symbol_and_path(named: str | Path, form: BarForm) -> tuple[str, Path]:
    text = str(named)
    symbol, separator, rest = text.partition("=")
    if separator and not Path(text).exists() and "/" not in symbol:
        return symbol, Path(rest)
    return form.symbol, Path(text)


def _closes(table: pd.DataFrame, name: str, form: BarForm) -> Ints:
    """When each bar closed, ns UTC."""
    column, label = _time_column(table, name, form)
    at_ns = _times(table, column, name, form)
    if label == "close" and set((at_ns % MINUTE_NS).tolist()) <= LAST_MS_OF_A_MINUTE:
        at_ns = (at_ns // MINUTE_NS + 1) * MINUTE_NS
    odd = np.flatnonzero(at_ns % MINUTE_NS)
    if len(odd):
        raise ValueError(
            f"{name}: expected whole minutes in {column}, found {_iso(int(at_ns[odd[0]]))} in row {odd[0]} and "
            f"{len(odd) - 1} more; give one-minute bars, the unit by --time-unit, or another column by --time-column",
        )
    return at_ns + (MINUTE_NS if label == "open" else 0)


def _time_column(table: pd.DataFrame, name: str, form: BarForm) -> tuple[str, Label]:
    lower = {str(column).lower(): str(column) for column in table.columns}
    if form.time is not None:
        if form.time not in table:
            raise ValueError(f"{name}: expected a column {form.time}, found {', '.join(map(str, table.columns))}")
        label = form.label or TIME_COLUMNS.get(form.time.lower())
        if label is None:
            raise ValueError(f"{name}: expected to be told what {form.time} is; add --time-means open or close")
        return form.time, label
    there = [(known, label) for known, label in TIME_COLUMNS.items() if known in lower]
    if form.label is not None:
        # Of two columns of times the one that is what was said; a name that says the opposite is never taken for it.
        there = [(known, form.label) for known, label in there if label == form.label or known not in _SAY_WHICH]
        there.sort(key=lambda found: found[0] != f"{form.label}_time")
    if there:
        return lower[there[0][0]], there[0][1]
    raise ValueError(
        f"{name}: expected a column of times ({', '.join(TIME_COLUMNS)}), found {', '.join(map(str, table.columns))}; "
        f"name it by --time-column NAME --time-means open|close",
    )


def _times(table: pd.DataFrame, column: str, name: str, form: BarForm) -> Ints:
    """A column of times as ns UTC."""
    import pandas as pd

    times = table[column]
    if times.isna().any():
        raise ValueError(f"{name}: expected a time in every row, found {int(times.isna().sum())} without in {column}")
    if not pd.api.types.is_datetime64_any_dtype(times) and times.astype(str).str.fullmatch(r"\d{9,19}").all():
        times = times.astype("int64")  # whole numbers written as text
    if pd.api.types.is_numeric_dtype(times):
        return _of_numbers(times.to_numpy(), column, name, form)
    try:
        text = not pd.api.types.is_datetime64_any_dtype(times)
        stamps = pd.to_datetime(times, utc=True, format="ISO8601" if text else None)
    except (ValueError, TypeError, OverflowError) as error:
        raise ValueError(f"{name}: expected times in {column}, found {times.iloc[0]!r} ({error}); write ISO 8601 or "
                         "integers since 1970") from error
    at_ns = np.asarray(stamps.dt.as_unit("ns").astype("int64"), dtype=np.int64)
    return _in_range(at_ns, times, column, name)


def _of_numbers(times: NDArray[np.generic], column: str, name: str, form: BarForm) -> Ints:
    whole = times.astype(np.int64)
    if not np.array_equal(whole, times):
        raise ValueError(f"{name}: expected whole numbers in {column}, found {times[whole != times][0]}; write "
                         "integers since 1970 in s, ms, us or ns")
    units = {unit for value in (whole.min(), whole.max()) for unit in [_unit(int(value))]}
    if len(units) != 1 or None in units:
        raise ValueError(
            f"{name}: expected {column} in one unit since 1970 (s, ms, us or ns), found {whole.min()} to "
            f"{whole.max()}; make it one unit, or name another column by --time-column",
        )
    unit = cast("str", units.pop())
    if form.unit is not None and form.unit != unit:
        raise ValueError(f"{name}: expected {column} in {form.unit}, found {whole.min()}, which is a time in {unit}; "
                         f"use --time-unit {unit}")
    return whole * UNIT_NS[unit]


def _unit(value: int) -> str | None:
    """The unit in which a number is a time between 2009 and 2100."""
    return next((unit for unit, ns in UNIT_NS.items() if EARLIEST_NS <= value * ns < LATEST_NS), None)


def _in_range(at_ns: Ints, times: pd.Series, column: str, name: str) -> Ints:
    if at_ns.min() < EARLIEST_NS or at_ns.max() >= LATEST_NS:
        raise ValueError(
            f"{name}: expected times between 2009 and 2100 in {column}, found {times.min()} to {times.max()}; they "
            "were written in another unit than they were read in: write them anew, or as integers since 1970",
        )
    return at_ns


def _check_source(table: pd.DataFrame, name: str, form: BarForm) -> None:
    if "source" in table and (others := sorted(set(table["source"].astype(str)) - {form.source})):
        raise ValueError(f"{name}: expected rows of source {form.source}, found {', '.join(others)}; ask for them by "
                         "--source, or leave them out")


def _numbers(table: pd.DataFrame, column: str, name: str) -> Floats:
    import pandas as pd

    values = pd.to_numeric(table[column], errors="coerce")
    if bad := int((values.isna() & table[column].notna()).sum()):
        first = table[column][values.isna() & table[column].notna()].iloc[0]
        raise ValueError(f"{name}: expected numbers in {column}, found {first!r} and {bad - 1} more that are none")
    return np.asarray(values.to_numpy(np.float64))


def _check(bars: MinuteBars, name: str) -> None:
    """Order, spacing and values of one symbol's bars of a file. Raises `ValueError` at the first thing wrong."""
    _check_order(bars, name)
    columns, close_ns = bars.columns, bars.close_ns
    needed = [name for name in NEEDED if name in columns]
    faults = {
        f"a number in {', '.join(needed)}": ~np.isfinite(np.column_stack([columns[n] for n in needed])).all(axis=1),
        "prices above 0": (np.column_stack([columns[n] for n in NEEDED[:4]]) <= 0).any(axis=1),
        "finite volumes of at least 0": _bad_volumes(columns),
        "high ≥ open, close ≥ low": (columns["high"] < np.maximum(columns["open"], columns["close"]))
        | (columns["low"] > np.minimum(columns["open"], columns["close"])),
    }
    for expected, wrong in faults.items():
        if wrong.any():
            first = int(np.flatnonzero(wrong)[0])
            row = ", ".join(f"{n} {columns[n][first]:g}" for n in needed)
            raise ValueError(
                f"{name}: expected {expected} in every bar, found {row} in the minute closing {_iso(close_ns[first])} "
                f"and {int(wrong.sum()) - 1} more; correct or delete those rows (a missing minute is a gap)",
            )


def _bad_volumes(columns: Mapping[str, Floats]) -> NDArray[np.bool_]:
    """Where one is negative or infinite; an optional one may be unknown."""
    found = np.zeros(len(columns["close"]), dtype=bool)
    for name in columns:
        if name.endswith("volume"):
            found |= (columns[name] < 0) | np.isinf(columns[name])
    return found


def _check_order(bars: MinuteBars, name: str) -> None:
    close_ns = bars.close_ns
    steps = np.diff(close_ns)
    if (steps < 0).any():
        raise ValueError(f"{name}: expected bars of {bars.symbol} ascending by time, found "
                         f"{_iso(close_ns[int(np.flatnonzero(steps < 0)[0]) + 1])} after a later one; sort the file")
    if (same := np.flatnonzero(steps == 0)).size:
        raise ValueError(f"{name}: expected one bar a minute, found {_iso(close_ns[same[0]])} twice and "
                         f"{len(same) - 1} more such; delete the repeated rows, or add a symbol column")
    if len(steps) and np.median(steps) > MINUTE_NS:
        raise ValueError(f"{name}: expected one-minute bars, found {np.median(steps) / SECOND_NS:g} s between most of "
                         "them; give the one-minute file")


def _joined(files: list[Named], form: BarForm) -> MinuteBars:
    """One symbol's files as one history, whatever order they were given in."""
    files = sorted(files, key=lambda each: int(each[1].close_ns[0]))
    close_ns = np.concatenate([bars.close_ns for _, bars in files])
    place = np.argsort(close_ns, kind="stable")
    close_ns = close_ns[place]
    if (same := np.flatnonzero(np.diff(close_ns) == 0)).size:
        names = ", ".join(dict.fromkeys(name for name, _ in files))
        raise ValueError(
            f"{names}: expected each minute of {files[0][1].symbol} once, found {_iso(close_ns[same[0]])} in two files "
            f"and {len(same) - 1} more such; leave one out, or name instruments apart as SYMBOL=FILE",
        )
    columns = {name: np.concatenate([_column(bars, name) for _, bars in files])[place] for name in (*NEEDED, *OPTIONAL)}
    return MinuteBars(files[0][1].symbol, form.source, close_ns, columns)


def _column(bars: MinuteBars, name: str) -> Floats:
    """A field; what a file does not have is as `training.klines` says."""
    if name in bars.columns:
        return bars.columns[name]
    if name == "quote_volume" and "volume" in bars.columns:
        typical = (bars.columns["high"] + bars.columns["low"] + bars.columns["close"]) / 3
        return bars.columns["volume"] * typical
    return np.full(len(bars.close_ns), np.nan)


def _iso(at_ns: int | np.int64) -> str:
    return f"{datetime.fromtimestamp(int(at_ns) / 1e9, UTC):%Y-%m-%d %H:%M:%S} UTC"
