"""The online store's speed and its races, on a Redis of its own; Feast's SDK, server and stock store in the same run.

    candlewick bench online --json               # ten thousand races through each of Feast's ways
    candlewick bench online --races 0            # only the speeds

The model's inputs and the row they belong to are read, up to the arrays that ONNX takes: by one HMGET (what serving
does), through Feast's SDK from the same process, and from `feast serve` over HTTP; all three give the same array.
"""

from __future__ import annotations

import base64
import http.client
import itertools
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import redis

from feature_repo.contracts import SECOND_NS
from feature_repo.online_row import SEQUENCE_SHAPE, OnlineWrite
from feature_repo.settings import LOOPBACK, ROOT, Settings
from feature_repo.store import FeatureStore
from feature_repo.views import VIEWS
from infra.drill.stack import free_ports
from infra.stack.redis import command, program
from tests.bench.races import OURS, STOCK, THREADS, WAYS, race_all
from tests.bench.store import quantiles
from tests.bench.stranger import await_server
from tests.feature_repo.made_rows import CONTEXT, START_NS, made_row, made_sequence, made_write

SYMBOL = "BTCUSDT"
REFS = [f"{view.name}:{name}" for view in VIEWS for name in view.names]
"""What serving reads of a symbol, in Feast's words: the sequence, its context and the row they belong to."""
BARS_MS = {"read_inputs": 0.2, "write": 0.3}
"""What p50 must not exceed."""
WARM = 50


def run(settings: Settings, calls: int = 2_000, races: int = 10_000) -> dict[str, Any]:
    """Milliseconds p50 / p95 / p99, ratios of the medians, and races lost by way and store."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))  # servers end with this process
    with tempfile.TemporaryDirectory(prefix="candlewick-bench-", ignore_cleanup_errors=True) as folder:
        own = replace(
            settings, run_dir=Path(folder), ports=free_ports(), redis_url="", redis_writer_url="", lake_url="",
            symbols=(SYMBOL,),
        )
        with serving(command(own), own.ports.redis, Path(folder)):
            found = speeds(own, calls)
        lost = race(Path(folder), free_ports().redis, races) if races else {}
    over = [name for name, bar in BARS_MS.items() if found[f"{name}_ms"][0] > bar]
    kept = not any(lost.get("newest_wins", {}).values())
    return {
        **found, "bars_ms": BARS_MS, "over": over, "threads": THREADS, "races_each_way": races, "lost": lost,
        "load_average": round(os.getloadavg()[0], 1), "passed": kept and not over,
    }


def speeds(settings: Settings, calls: int) -> dict[str, Any]:
    """One symbol, one call at a time."""
    from feature_repo.feast_config import apply

    apply(settings)
    store = FeatureStore.open(settings)
    found = {"ping_ms": quantiles(store.client.ping, calls), "write_ms": writing(store, calls)}
    found["sdk_write_one_view_ms"] = sdk_writing(store, calls // 20)
    fresh(store)
    expected = inputs(store)["sequence"]
    for _ in range(WARM):
        inputs(store)
    found["read_inputs_ms"] = quantiles(lambda: inputs(store), calls)
    assert np.array_equal(sdk_inputs(store)["sequence"], expected, equal_nan=True)
    found["sdk_ms"] = quantiles(lambda: sdk_inputs(store), calls // 4)
    with feast_server(settings) as server:
        fresh(store)
        assert np.array_equal(server_inputs(server)["sequence"], inputs(store)["sequence"], equal_nan=True)
        found["feast_serve_ms"] = quantiles(lambda: server_inputs(server), calls // 10)
    ours = found["read_inputs_ms"][0]
    return found | {
        "sdk_over_ours": round(found["sdk_ms"][0] / ours, 1),
        "feast_serve_over_ours": round(found["feast_serve_ms"][0] / ours, 1),
    }


def writing(store: FeatureStore, calls: int) -> list[float]:
    """All fast views, the sequence and the mirror keys; each row is news, a revision a microsecond later.

    As in a stream the sequence's newest row is another each time, the minutes before it each sixtieth.
    """
    made = iter([made_news(i) for i in range(calls + WARM)])
    for write in itertools.islice(made, WARM):
        store.write([write])
    return quantiles(lambda: store.write([next(made)]), calls)


def made_news(number: int) -> OnlineWrite:
    sequence = made_sequence(number // 60)
    sequence[-1] = made_sequence(number)[0]
    return replace(made_write(now_second(), SYMBOL, lag_ns=1_000 * (number + 1)), sequence=sequence)


def sdk_writing(store: FeatureStore, calls: int) -> list[float]:
    """One of the ten views, by Feast's `write_to_online_store`."""
    names = [feature.name for feature in store.feast.get_feature_view("price_features").features]
    at = pd.Timestamp(time.time_ns() // SECOND_NS, unit="s", tz="UTC")
    times = iter(at + pd.to_timedelta(range(calls + 2), unit="us"))

    def write() -> None:
        row = {"symbol": SYMBOL, **dict.fromkeys(names, 0.5), "event_timestamp": at, "created_timestamp": next(times)}
        store.feast.write_to_online_store("price_features", pd.DataFrame([row]))

    write()
    return quantiles(write, calls)


def now_second() -> int:
    return (time.time_ns() - START_NS) // SECOND_NS


def fresh(store: FeatureStore) -> None:
    """A row of this second and its context, so that no view is too old to be read."""
    second = now_second()
    store.write([OnlineWrite(made_row(second, SYMBOL), made_sequence(second), {})])
    at = START_NS + second * SECOND_NS
    store.write_context(SYMBOL, {CONTEXT: 0.001}, at, at)


def inputs(store: FeatureStore) -> dict[str, Any]:
    """What serving does for each new row."""
    found = store.read(SYMBOL)
    assert found is not None
    assert found.sequence is not None
    return arrays(found.sequence, found.context[CONTEXT])


def sdk_inputs(store: FeatureStore) -> dict[str, Any]:
    found = store.feast.get_online_features(REFS, [{"symbol": SYMBOL}]).to_dict()
    return arrays(_sequence(found["minutes"][0], found["newest"][0]), found[CONTEXT][0])


def server_inputs(server: http.client.HTTPConnection) -> dict[str, Any]:
    body = json.dumps({"features": REFS, "entities": {"symbol": [SYMBOL]}})
    server.request("POST", "/get-online-features", body, {"Content-Type": "application/json"})
    answer = json.loads(server.getresponse().read())
    held = dict(zip(answer["metadata"]["feature_names"], answer["results"], strict=True))
    minutes, newest = (base64.b64decode(held[name]["values"][0]) for name in ("minutes", "newest"))
    return arrays(_sequence(minutes, newest), held[CONTEXT]["values"][0])


def _sequence(minutes: bytes, newest: bytes) -> Any:
    return np.frombuffer(minutes + newest, "<f8").reshape(SEQUENCE_SHAPE)


def arrays(sequence: Any, threshold: float | None) -> dict[str, Any]:
    """The feeds of the ONNX graph."""
    known = np.nan if threshold is None else threshold
    return {
        "sequence": np.ascontiguousarray(sequence, dtype=np.float32)[None],
        "context": np.array([[known]], dtype=np.float32),
    }


def race(folder: Path, port: int, races: int) -> dict[str, dict[str, int]]:
    """Store → way → races lost."""
    server = program()
    assert server is not None
    words = [server, "--port", str(port), "--bind", LOOPBACK, "--save", "", "--appendonly", "no"]
    with serving(words, port, folder):
        return {
            name: race_all(folder / name, port, store, races, WAYS)
            for name, store in (("newest_wins", OURS), ("feast_redis", STOCK))
        }


@contextmanager
def serving(words: list[str], port: int, folder: Path) -> Iterator[None]:
    with subprocess.Popen(words, cwd=folder, stdout=subprocess.DEVNULL) as process:
        try:
            retry = redis.retry.Retry(redis.backoff.ConstantBackoff(0.1), 100)
            with redis.Redis(port=port, retry=retry) as client:
                client.ping()
            yield
        finally:
            process.terminate()


@contextmanager
def feast_server(settings: Settings) -> Iterator[http.client.HTTPConnection]:
    """Our own project behind `feast serve`, one worker."""
    port = settings.ports.feast_ui
    environ = {
        **os.environ, "CANDLEWICK_RUN_DIR": str(settings.run_dir), "CANDLEWICK_REDIS_URL": settings.redis,
        "CANDLEWICK_REDIS_WRITER_URL": settings.redis_writer, "CANDLEWICK_LAKE_URL": settings.lake,
    }
    feast = str(Path(sys.executable).with_name("feast"))
    with subprocess.Popen(
        [feast, "serve", "-p", str(port), "--no-access-log", "--max-requests", "0"], cwd=ROOT / "feature_repo",
        env=environ, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    ) as process:
        try:
            await_server(f"http://{LOOPBACK}:{port}/health", process)
            connection = http.client.HTTPConnection(LOOPBACK, port, timeout=60)
            yield connection
            connection.close()
        finally:
            process.terminate()
