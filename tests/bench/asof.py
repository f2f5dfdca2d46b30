"""The as-of store's speed and memory beside Feast's stock stores and beside DuckDB's bare ASOF JOIN, on the same files.

    candlewick bench store --offline --json

Every store is asked through Feast in a process of its own, after one small question that loads its libraries. Seconds
are the median of the rounds, `cpu_s` what the process burnt, `added_mb` its peak of memory over what it held before.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from feature_repo.settings import ROOT

FEATURES = tuple(f"f{i}" for i in range(8))
BEGIN_S = 1_700_000_000
GIVE_UP_S = 600
GIVE_UP_MB = 8_000
"""Of memory: a store that asks for more has no answer on the machines that this is for."""
LOOK_S = 0.05
ASKING = "asking"
STORES: Mapping[str, Mapping[str, str]] = {
    "asof": {"type": "feature_repo.feast_asof.AsOfOfflineStore"},
    "dask": {"type": "dask"},
    "duckdb": {"type": "duckdb"},
}


@dataclass(frozen=True)
class Case:
    """One row of the table. A view's `rows` are seconds of `symbols`, 2 % of them late revisions."""

    labels: int
    rows: int
    views: int = 1
    symbols: int = 1
    beside: str = ""
    """Stock store asked the same, once."""
    raw: bool = False
    """Whether DuckDB's bare ASOF JOIN is asked the same, in turn with ours."""
    rounds: int = 3


CASES: Mapping[str, Case] = {
    "200 x 100k": Case(200, 100_000, beside="dask"),
    "2k x 100k": Case(2_000, 100_000, beside="duckdb"),
    "50k x 100k x 5 views": Case(50_000, 100_000, views=5, symbols=5, raw=True, rounds=5),
    "500k x 500k": Case(500_000, 500_000, symbols=50, raw=True),
    "1M x 1M": Case(1_000_000, 1_000_000, symbols=50, raw=True),
}


def run(cases: Sequence[str] = tuple(CASES)) -> dict[str, Any]:
    """Every case, the ratios that the bars are about, and the machine's load meanwhile."""
    found = {name: measure(CASES[name]) for name in cases}
    whole = {name: each["asof"]["seconds"] for name, each in found.items()}
    doubled = {"doubling": round(whole["1M x 1M"] / whole["500k x 500k"], 2)} if "500k x 500k" in whole else {}
    return {**found, **doubled, "load": os.getloadavg()}


def measure(case: Case) -> dict[str, Any]:
    """One case: ours, what it is compared with, and by how much."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        make(case, folder)
        ours = child(folder, case, "asof", case.rounds)
        found: dict[str, Any] = {"asof": ours}
        if case.beside:
            theirs = found[case.beside] = child(folder, case, case.beside, 1)
            if "seconds" in ours and "added_mb" in theirs:
                least = "" if "seconds" in theirs else "_at_least"
                theirs_s = theirs["seconds" if "seconds" in theirs else "after_s"]
                found[f"times_faster{least}"] = round(theirs_s / ours["seconds"], 1)
                found[f"times_less_memory{least}"] = round(theirs["added_mb"] / ours["added_mb"], 1)
        return found


def make(case: Case, folder: Path) -> None:
    """One file a view and one of labels, in the order of time."""
    for view in range(case.views):
        random = np.random.default_rng(view)
        event = np.sort(random.integers(0, case.rows // case.symbols + 1, case.rows)) * 1_000_000
        lag = np.where(random.random(case.rows) < 0.02, random.integers(10, 3_600, case.rows), 1) * 1_000_000
        columns = {
            "symbol": symbols(random.integers(0, case.symbols, case.rows), case.symbols),
            "event_timestamp": moments(event), "created": moments(event + lag),
        }
        values = {name: random.normal(size=case.rows) for name in FEATURES}
        pq.write_table(pa.table({**columns, **values}), folder / f"view{view}.parquet")
    random = np.random.default_rng(99)
    at = random.integers(0, case.rows // case.symbols * 1_000_000, case.labels)
    who = symbols(random.integers(0, case.symbols, case.labels), case.symbols)
    labels = {"symbol": who, "event_timestamp": moments(at), "label": np.arange(case.labels)}
    pq.write_table(pa.table(labels), folder / "labels.parquet")


def symbols(numbers: np.ndarray[Any, Any], count: int) -> pa.Array:
    return pa.array([f"S{i}USDT" for i in range(count)]).take(pa.array(numbers))


def moments(microseconds: np.ndarray[Any, Any]) -> pa.Array:
    return pa.array(microseconds + BEGIN_S * 1_000_000).cast(pa.timestamp("us", "UTC"))


def child(folder: Path, case: Case, store: str, rounds: int) -> dict[str, Any]:
    """Ask in a process of its own; where it gives up: how long after it was asked, and what memory it had added."""
    options = [str(folder), store, str(case.views), str(rounds), *(["raw"] if case.raw else [])]
    command = [sys.executable, "-W", "ignore", "-m", "tests.bench.asof", *options]
    with tempfile.TemporaryFile("w+") as out, tempfile.TemporaryFile("w+") as err:
        process = subprocess.Popen(command, cwd=ROOT, stdout=out, stderr=err, text=True)
        why, began, asked = "", time.monotonic(), False
        before_mb = held_mb = peak_mb = 0.0
        while process.poll() is None and not why:
            with contextlib.suppress(OSError, StopIteration):  # it has ended meanwhile
                held_mb = _memory_mb("VmRSS", str(process.pid))
                peak_mb = max(peak_mb, held_mb)
            if not asked and os.fstat(out.fileno()).st_size:
                asked, began, before_mb = True, time.monotonic(), held_mb
            if peak_mb > GIVE_UP_MB:
                why = f"no answer within {GIVE_UP_MB:,} MB"
            elif time.monotonic() - began > GIVE_UP_S:
                why = f"no answer within {GIVE_UP_S} s"
            else:
                time.sleep(LOOK_S)
        after_s = time.monotonic() - began
        process.kill()
        code = process.wait()
        out.seek(0)
        err.seek(0)
        if code == 0 and not why:
            answer: dict[str, Any] = json.loads(out.read().strip().splitlines()[-1])
            return answer
        if not why and code != -signal.SIGKILL:  # it failed, which says nothing of its speed
            return {"failed": f"exit {code}: {err.read().strip().splitlines()[-1:]}"}
        why = why or "killed, for its memory most likely"
    return {"gave_up": why, "after_s": round(after_s, 1), "added_mb": round(max(peak_mb - before_mb, 1.0), 1)}


def ask(folder: Path, store: str, views: int, rounds: int, raw: bool) -> dict[str, Any]:
    """What the process of its own does: load, ask, tell."""
    feast, refs = repository(folder, store, views)
    labels = pd.read_parquet(folder / "labels.parquet")

    def ours() -> pd.DataFrame:
        found: pd.DataFrame = feast.get_historical_features(labels, refs, full_feature_names=True).to_df()
        return found

    feast.get_historical_features(labels[:2], refs[:1]).to_df()
    print(ASKING, flush=True)  # who waits counts from here
    before = _memory_mb("VmRSS")
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")
    took, bare = [timed(ours)], []
    peak = _memory_mb("VmHWM")
    for _ in range(rounds - 1):
        if raw:  # in turn, so that a busy machine is busy for both
            bare.append(timed(lambda: bare_join(folder, labels, views)))
        took.append(timed(ours))
    answer = ours() if rounds > 1 else None
    found = {
        "seconds": _median(took, 0), "cpu_s": _median(took, 1), "before_mb": before, "peak_mb": peak,
        "added_mb": round(max(peak - before, 1.0), 1),
    }
    if answer is not None:
        found |= {"rows": len(answer), "known": int(answer.iloc[:, -1].notna().sum())}
    if bare:
        found |= {"raw_seconds": _median(bare, 0), "raw_cpu_s": _median(bare, 1)}
        found["of_raw"] = round(found["seconds"] / found["raw_seconds"], 2)
        found["cpu_of_raw"] = round(found["cpu_s"] / found["raw_cpu_s"], 2)
    return found


def repository(folder: Path, store: str, views: int) -> tuple[Any, list[str]]:
    """A Feast repository over the made files, and the references to every feature of every view."""
    from feast import Entity, FeatureStore, FeatureView, Field, FileSource, RepoConfig, ValueType
    from feast.types import Float64

    config = RepoConfig(
        project="bench", provider="local", registry=str(folder / f"{store}.db"), entity_key_serialization_version=3,
        online_store={"type": "sqlite", "path": str(folder / "online.db")}, offline_store=dict(STORES[store]),
    )
    config.repo_path = folder
    feast = FeatureStore(config=config)
    symbol = Entity(name="symbol", join_keys=["symbol"], value_type=ValueType.STRING)
    made = [
        FeatureView(
            name=f"view{i}", entities=[symbol], ttl=timedelta(days=1),
            schema=[Field(name=name, dtype=Float64) for name in FEATURES],
            source=FileSource(
                name=f"source{i}", path=str(folder / f"view{i}.parquet"), timestamp_field="event_timestamp",
                created_timestamp_column="created",
            ),
        )
        for i in range(views)
    ]
    feast.apply([symbol, *made])
    return feast, [f"{view.name}:{name}" for view in made for name in FEATURES]


def bare_join(folder: Path, labels: pd.DataFrame, views: int) -> pd.DataFrame:
    """DuckDB's own ASOF JOIN on the same files: no revisions, no TTL, no order; with its nested loops switched off."""
    joins = " ".join(
        f"ASOF LEFT JOIN read_parquet('{folder}/view{i}.parquet') v{i} "
        f"ON l.symbol = v{i}.symbol AND l.event_timestamp >= v{i}.created" for i in range(views)
    )
    chosen = ", ".join(f"v{i}.{name} AS view{i}__{name}" for i in range(views) for name in FEATURES)
    with duckdb.connect() as connection:
        connection.execute("SET asof_loop_join_threshold = 0")
        connection.register("labels", labels)
        found: pd.DataFrame = connection.execute(f"SELECT l.*, {chosen} FROM labels l {joins}").df()  # noqa: S608
        return found


def timed(call: Callable[[], Any]) -> tuple[float, float]:
    """Wall and processor seconds of a call."""
    wall, processor = time.perf_counter(), time.process_time()
    call()
    return time.perf_counter() - wall, time.process_time() - processor


def _median(took: Sequence[tuple[float, float]], which: int) -> float:
    return round(statistics.median(each[which] for each in took), 3)


def _memory_mb(name: str, process: str = "self") -> float:
    line = next(line for line in Path(f"/proc/{process}/status").read_text().splitlines() if line.startswith(name))
    return round(int(line.split()[1]) / 1024, 1)


if __name__ == "__main__":
    place, kind, count, times, *bare = sys.argv[1:]
    print(json.dumps(ask(Path(place), kind, int(count), int(times), bool(bare))))
