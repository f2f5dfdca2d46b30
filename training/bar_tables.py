"""Bar tables: a file of bars as a table whose columns have our names; what cannot be read as one is said.

    bar_table(Path("btcusdt.csv.gz"), {"volume": "base_volume"})["volume"]

Parquet or CSV (`.csv` in the name, compressed or not). Of values and times nothing is known yet (`training.bar_files`).
"""

from __future__ import annotations

import difflib
import lzma
import re
import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pandas as pd

NEEDED = ("open", "high", "low", "close", "volume")
OPTIONAL = ("quote_volume", "taker_buy_volume")
UNREADABLE = (
    OSError, ValueError, EOFError, NotImplementedError, ImportError, zlib.error, lzma.LZMAError, zipfile.BadZipFile,
)
"""What pandas and pyarrow raise of a file that is cut, packed otherwise or no table; parser errors are ValueErrors."""


def bar_table(path: Path, named: Mapping[str, str]) -> pd.DataFrame:
    """The file's columns under our names; `named` as `BarForm.columns`. Raises `ValueError` for what is no table."""
    table = _with_times(_read(path))
    if table.empty:
        raise ValueError(f"{path.name}: expected bars, found no row")
    names = _names(table, path.name, named)
    # A column that is named otherwise takes the place of one that has our name.
    taken = {*names.values(), *(field for field, name in named.items() if not name)}
    hidden = [column for column in table.columns if column in taken and names.get(column) != column]
    table = table.drop(columns=hidden).rename(columns=names)
    if "symbol" in table:
        nameless = int((table["symbol"].isna() | (table["symbol"].astype(str).str.strip() == "")).sum())
        if nameless:
            raise ValueError(f"{path.name}: expected a symbol in every row, found {nameless} without; fill it in")
    return table


def _read(path: Path) -> pd.DataFrame:
    import pandas as pd

    if not path.is_file():
        raise ValueError(f"{path}: expected a file of bars, found {'a folder' if path.is_dir() else 'nothing'}")
    is_csv = any(suffix.lower() in {".csv", ".txt"} for suffix in path.suffixes)
    try:
        return pd.read_csv(path) if is_csv else pd.read_parquet(path)
    except UNREADABLE as error:
        raise ValueError(f"{path.name}: expected {'CSV with a header line' if is_csv else 'Parquet'}, found neither "
                         f"bars nor a table ({error}); CSV files are told by .csv in their name") from error


def _with_times(table: pd.DataFrame) -> pd.DataFrame:
    """Times that a table has as its index are a column, under their name or, where they have none, as `time`."""
    import pandas as pd

    named = table.index.name
    if named is None and not isinstance(table.index, pd.DatetimeIndex):
        return table
    name = "time" if named is None else str(named)
    return table.reset_index(drop=name in table.columns, names=name)


def _names(table: pd.DataFrame, name: str, told: Mapping[str, str]) -> dict[str, str]:
    """The file's names → ours."""
    own = [str(column) for column in table.columns]
    lower = {column.lower(): column for column in own}
    names = {}
    for wanted in (*NEEDED, *OPTIONAL, "symbol", "source"):
        named = told.get(wanted)
        if named == "":
            continue
        if named is not None and named not in own:
            raise ValueError(f"{name}: expected a column {named} for {wanted}, found {', '.join(own)}")
        if (found := named or (wanted if wanted in own else lower.get(wanted))) is not None:
            names[found] = wanted
    needed = [wanted for wanted in NEEDED if told.get(wanted) != ""]
    if missing := [wanted for wanted in needed if wanted not in names.values()]:
        if all(re.fullmatch(r"[-+.\deE]+", column) for column in own):
            raise ValueError(f"{name}: expected a line of columns' names first, found numbers ({', '.join(own[:6])}); "
                             f"add one, such as open_time,{','.join(NEEDED)}")
        near = {m: close for m in missing if (close := difflib.get_close_matches(m, lower, 1, 0.5))}
        hint = " ".join(f"--column {m}={lower[close[0]]}" for m, close in near.items()) or "--column FIELD=NAME"
        none = "; where there is none to be had, --column volume=" if missing == ["volume"] else ""
        raise ValueError(f"{name}: expected columns {', '.join(NEEDED)}, found {', '.join(own)} "
                         f"(no {', '.join(missing)}); say which it is by {hint}{none}")
    return names
