"""History before the first lap: official minute klines of the data folder, as bare columns.

Read in a child process (`python -m streaming.exchange_history FILE UNTIL_MS`): pyarrow costs 120 MB that the
exchange, which runs for weeks, would otherwise keep.
"""

from __future__ import annotations

import io
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from streaming.tape import Ints

HISTORY_DAYS = 45
COLUMNS = ("open", "high", "low", "close", "volume")
SECONDS_TO_WAIT = 60

Floats = NDArray[np.float64]


class Minutes(NamedTuple):
    """Minute klines by open time, in quote currency and base currency. `taker_volume` is 0 where it is unknown."""

    open_ms: Ints
    open: Floats
    high: Floats
    low: Floats
    close: Floats
    volume: Floats
    taker_volume: Floats

    def part(self, rows: NDArray[np.bool_]) -> Minutes:
        return Minutes(self.open_ms[rows], *(column[rows] for column in self[1:]))


class OfficialMinutes:
    """The data folder's minute klines of one symbol, being read by a child process from the moment it is made."""

    def __init__(self, data_dir: Path, symbol: str, until_ms: int) -> None:
        self._path = data_dir / "klines_binance" / f"{symbol.lower()}_spot_1m.parquet"
        self._child: subprocess.Popen[bytes] | None = None
        if self._path.is_file():
            self._child = subprocess.Popen(
                [sys.executable, "-m", "streaming.exchange_history", str(self._path), str(until_ms)],
                stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd=Path(__file__).resolve().parent.parent,
            )

    def wait(self) -> Minutes | None:
        """The 45 days before `until_ms`, or before the file's end when that is earlier; None without such a file.

        Raises `ValueError` when the file cannot be read. To be called once.
        """
        if self._child is None:
            return None
        text, error = self._child.communicate(timeout=SECONDS_TO_WAIT)
        if self._child.returncode:
            raise ValueError(f"{self._path}: expected minute klines, found: {error.decode()[-300:]}")
        table = np.load(io.BytesIO(text), allow_pickle=False)
        opened, high, low, close, volume = (np.ascontiguousarray(row) for row in table[1:])
        return Minutes(table[0].astype(np.int64), opened, high, low, close, volume, np.zeros(table.shape[1]))


def _read(path: Path, until_ms: int) -> Floats:
    import pyarrow.compute as pc
    import pyarrow.parquet as pq

    table = pq.read_table(path, columns=["date", *COLUMNS])
    until = min(datetime.fromtimestamp(until_ms / 1000, UTC), pc.max(table["date"]).as_py() + timedelta(minutes=1))
    since = until - timedelta(days=HISTORY_DAYS)
    rows = table.filter(pc.and_(pc.less(table["date"], until), pc.greater_equal(table["date"], since)))
    open_ms = rows["date"].cast("timestamp[ms]").cast("int64")
    return np.array([column.to_numpy().astype(np.float64) for column in (open_ms, *(rows[name] for name in COLUMNS))])


def main(arguments: list[str]) -> None:
    """Write the columns as one float64 array (open time in ms is exact in it) in .npy form to standard output."""
    path, until_ms = arguments
    np.save(sys.stdout.buffer, _read(Path(path), int(until_ms)), allow_pickle=False)


if __name__ == "__main__":
    main(sys.argv[1:])
