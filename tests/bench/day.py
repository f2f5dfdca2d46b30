"""Bench: a day of two million trades → second bars → feature rows in the lake, beside a plain DuckDB scan of the file.

    candlewick bench day --json            # needs the recorded day of CANDLEWICK_DATA_DIR; a minute and a half

The recorded day has 93,598 trades. It is scaled by telling each of them 21 or 22 times, as the fills of one taker
order: same instant, price, side and size, ids of their own; so the seconds stay as busy beside each other as they were.
Measured is `candlewick backfill --frames` of that file into an empty lake, a process of its own, from its start to its
end: the archive read, bars, rows of all features, both zones as Parquet. DuckDB scans and sums the same file by second.
"""

from __future__ import annotations

import csv
import gzip
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from feature_repo.lake_reader import Lake
from feature_repo.settings import ROOT, Settings

RECORDED = Path("trades_bybit_2019-10-01") / "BTCUSD2019-10-01.csv.gz"
SYMBOL = "BTCUSD-PERP.BYBIT"
DAY = ("2019-10-01T00:00:00Z", "2019-10-02T00:00:00Z")
TRADES = 2_000_000
BAR_S, BAR_BYTES = 30.0, 1_500_000_000
COLUMNS = {
    "timestamp": "DOUBLE", "symbol": "VARCHAR", "side": "VARCHAR", "size": "BIGINT", "price": "DOUBLE",
    "tickDirection": "VARCHAR", "trdMatchID": "VARCHAR", "grossValue": "DOUBLE", "homeNotional": "DOUBLE",
    "foreignNotional": "DOUBLE",
}
SCAN = """
SELECT CAST(floor(timestamp) AS BIGINT) AS second, count(*), arg_min(price, timestamp), max(price), min(price),
       arg_max(price, timestamp), sum(foreignNotional), sum(price * foreignNotional)
FROM read_csv(?, columns = ?, header = true) GROUP BY second
"""
Row = Mapping[str, str]


def run(settings: Settings, trades: int = TRADES) -> dict[str, Any]:
    """Measure. Raises `ValueError` without the recorded day."""
    recorded = settings.data_dir / RECORDED
    if not recorded.is_file():
        raise ValueError(f"the recorded day expected at {recorded}, found none; set CANDLEWICK_DATA_DIR")
    load = os.getloadavg()[0]
    with tempfile.TemporaryDirectory(prefix="candlewick-day-") as folder:
        file = scale(recorded, Path(folder) / RECORDED.name, trades)
        product = backfill(file, Path(folder) / "run")
        baseline = scan(file)
    return {
        "trades": trades, **product, "bar_s": BAR_S, "bar_bytes": BAR_BYTES, "duckdb": baseline,
        "of_duckdb": round(product["seconds"] / baseline["seconds"], 1), "cores": os.cpu_count(),
        "load_before": round(load, 2),
        "passed": product["seconds"] <= BAR_S and product["peak_rss_bytes"] <= BAR_BYTES
        and product["trades_in_bars"] == baseline["trades"] == trades,
    }


def scale(recorded: Path, to: Path, trades: int) -> Path:
    """Write the day with so many trades, as the venue lays its archive out: the newest row first."""
    with gzip.open(recorded, "rt", newline="") as source, gzip.open(to, "wt", compresslevel=1, newline="") as target:
        rows = list(csv.DictReader(source))
        writer = csv.DictWriter(target, list(rows[0]))
        writer.writeheader()
        writer.writerows(repeated(rows, trades))
    return to


def repeated(rows: Sequence[Row], trades: int) -> Iterator[Row]:
    """Each row as often as makes so many; a repetition does not move the price."""
    often, more = divmod(trades, len(rows))
    for i, row in enumerate(rows):
        side = row["tickDirection"].removeprefix("Zero")
        for n in reversed(range(often + (i < more))):
            again = {"trdMatchID": f"{row['trdMatchID']}-{n}", "tickDirection": f"Zero{side}"} if n else {}
            yield {**row, **again}


def backfill(file: Path, run_dir: Path) -> dict[str, Any]:
    """The product's own verb on a file, in a process of its own: what it took, and what it wrote."""
    lake_url = f"file://{run_dir}/lake"
    environment = {**os.environ, "CANDLEWICK_RUN_DIR": str(run_dir), "CANDLEWICK_LAKE_URL": lake_url}
    words = ["backfill", "--frames", str(file), "--symbol", SYMBOL, "--from", DAY[0], "--to", DAY[1], "--json"]
    began = time.monotonic()
    with subprocess.Popen(
        [sys.executable, str(ROOT / "candlewick.py"), *words], cwd=ROOT, env=environment, stdout=subprocess.PIPE,
    ) as process:
        assert process.stdout is not None
        told = process.stdout.read()
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    seconds = time.monotonic() - began
    if process.returncode:
        raise RuntimeError(f"backfill: expected exit code 0, found {process.returncode}")
    [found] = json.loads(told)["symbols"]
    return {
        "seconds": round(seconds, 2), "cpu_s": round(usage.ru_utime + usage.ru_stime, 2),
        "peak_rss_bytes": usage.ru_maxrss * (1 if sys.platform == "darwin" else 1024), "bars": found["bars"],
        "rows": found["rows"], "trades_in_bars": trades_in(lake_url),
        "lake_bytes": sizes((run_dir / "lake").rglob("*")),
    }


def trades_in(lake_url: str) -> int:
    """Trades that the lake's bars count."""
    return int(sum(Lake.open(lake_url).rows("clean", [SYMBOL], 0, 2**62, ["trades"])["trades"].to_pylist()))


def sizes(paths: Iterable[Path]) -> int:
    return sum(path.stat().st_size for path in paths if path.is_file())


def scan(file: Path) -> dict[str, Any]:
    """DuckDB's way through the same file: no ids, no order within an instant, no exact sums, no features."""
    import duckdb

    began, cpu = time.monotonic(), time.process_time()
    with duckdb.connect() as connection:
        seconds = connection.execute(SCAN, [str(file), COLUMNS]).fetchall()
    return {
        "seconds": round(time.monotonic() - began, 2), "cpu_s": round(time.process_time() - cpu, 2),
        "seconds_with_trades": len(seconds), "trades": sum(row[1] for row in seconds),
    }
