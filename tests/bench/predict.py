"""Bench: what a prediction over HTTP costs beside a route that does nothing, in the same run.

    candlewick bench predict --json                      # against the running stack's service
    candlewick bench predict --json --self-contained     # starts Redis and the service with made rows

`/noop` and `/predict` take turns in short rounds on the same keep-alive connections, so that both meet the same
machine. The client is a raw socket with a fixed request: it adds as little as a client can.
"""

from __future__ import annotations

import asyncio
import json
import os
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from feature_repo.settings import LOOPBACK, ROOT, Settings, load_settings

REQUESTS = 2_000
ROUNDS = 10
CONCURRENCIES = (1, 8)
WARM_UP = 200
P50_BAR_MS, RATE_BAR = 2.0, 0.7
START_TIMEOUT_S = 60.0


@dataclass
class Tally:
    """Latencies in seconds and the time the rounds took."""

    latencies_s: list[float] = field(default_factory=list)
    rate_by_round: list[float] = field(default_factory=list)

    def report(self) -> dict[str, float]:
        cuts = statistics.quantiles(self.latencies_s, n=100, method="inclusive")
        return {
            "requests": len(self.latencies_s), "p50_ms": round(cuts[49] * 1e3, 3), "p95_ms": round(cuts[94] * 1e3, 3),
            "p99_ms": round(cuts[98] * 1e3, 3), "rate_per_s": round(statistics.median(self.rate_by_round), 1),
        }


def request_bytes(path: str, body: bytes) -> bytes:
    lines = [
        f"POST {path} HTTP/1.1", f"Host: {LOOPBACK}", "Content-Type: application/json", f"Content-Length: {len(body)}",
    ]
    return "\r\n".join([*lines, "", ""]).encode() + body


async def ask(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, request: bytes) -> tuple[int, bytes]:
    """One request on an open connection: status and body."""
    writer.write(request)
    head = await reader.readuntil(b"\r\n\r\n")
    at = head.lower().index(b"content-length:") + 15
    size = int(head[at : head.index(b"\r\n", at)])
    return int(head[9:12]), await reader.readexactly(size)


async def one_round(connections: list[Any], request: bytes, each: int, tally: Tally | None) -> None:
    """`each` requests on every connection at once."""

    async def client(connection: Any) -> None:
        for _ in range(each):
            started = time.perf_counter()
            status, body = await ask(connection[0], connection[1], request)
            if status != 200:
                raise ValueError(f"expected 200, found {status} {body[:200].decode('utf-8', 'replace')}")
            if tally:
                tally.latencies_s.append(time.perf_counter() - started)

    started = time.perf_counter()
    await asyncio.gather(*map(client, connections))
    if tally:
        tally.rate_by_round.append(each * len(connections) / (time.perf_counter() - started))


async def measure(port: int, symbol: str, requests: int = REQUESTS) -> dict[str, Any]:
    """Every figure of the bench. Raises `ConnectionError` when nobody answers at the port."""
    body = json.dumps({"symbol": symbol}).encode()
    paths = {"noop": request_bytes("/noop", body), "predict": request_bytes("/predict", body)}
    results: dict[str, Any] = {}
    for concurrency in CONCURRENCIES:
        connections = [await asyncio.open_connection(LOOPBACK, port) for _ in range(concurrency)]
        tallies = {name: Tally() for name in paths}
        for request in paths.values():
            await one_round(connections, request, WARM_UP // concurrency, None)
        for _ in range(ROUNDS):
            for name, request in paths.items():
                await one_round(connections, request, requests // ROUNDS // concurrency, tallies[name])
        if concurrency == 1:
            results["answer"] = json.loads((await ask(*connections[0], paths["predict"]))[1])
        for _, writer in connections:
            writer.close()
            await writer.wait_closed()
        results[f"c{concurrency}"] = {name: tally.report() for name, tally in tallies.items()}
    return results


def verdict(results: dict[str, Any]) -> dict[str, Any]:
    """The figures with the bars of the issue applied."""
    answer = results.pop("answer")
    ratio = results["c8"]["predict"]["rate_per_s"] / results["c8"]["noop"]["rate_per_s"]
    p50_ms = results["c1"]["predict"]["p50_ms"]
    return {
        **results, "p50_ms": p50_ms, "p50_bar_ms": P50_BAR_MS, "rate_to_noop": round(ratio, 3), "rate_bar": RATE_BAR,
        "tier": answer["tier"], "model_version": answer["model_version"],
        "passed": p50_ms <= P50_BAR_MS and ratio >= RATE_BAR,
    }


def run(self_contained: bool = False, settings: Settings | None = None) -> dict[str, Any]:
    """Measure. Raises `ConnectionError` with what to do when the service is not up."""
    settings = settings or load_settings()
    if self_contained:
        with stack(settings) as made:
            return verdict(asyncio.run(measure(made.ports.service, made.symbols[0])))
    try:
        return verdict(asyncio.run(measure(settings.ports.service, settings.symbols[0])))
    except (ConnectionError, asyncio.IncompleteReadError) as error:
        raise ConnectionError(
            f"service expected at {LOOPBACK}:{settings.ports.service}, found {type(error).__name__}; "
            "do `make up`, or use --self-contained",
        ) from error


@contextmanager
def stack(settings: Settings) -> Iterator[Settings]:
    """Redis with a made row renewed every second, and the service, on free ports and a folder of their own."""
    from dataclasses import replace

    from infra.stack import redis

    with tempfile.TemporaryDirectory(prefix="candlewick-bench-") as folder:
        ports = replace(settings.ports, redis=free_port(), service=free_port(), kafka=free_port())
        made = replace(
            settings, run_dir=Path(folder), ports=ports, redis_url="", redis_writer_url="", kafka_bootstrap="",
        )
        environment = {
            **os.environ, "CANDLEWICK_RUN_DIR": folder, "BENTOML_DO_NOT_TRACK": "True", "DO_NOT_TRACK": "1",
            "CANDLEWICK_MODEL_DIR": str(made.model_dir), "CANDLEWICK_LOG_LEVEL": "warning", "REDIS_URL": "",
            "CANDLEWICK_REDIS_WRITER_URL": "",
            **{f"CANDLEWICK_PORTS_{name.upper()}": str(getattr(ports, name)) for name in ("redis", "service", "kafka")},
        }
        stop, processes = threading.Event(), []
        try:
            processes.append(start(redis.command(made), environment, Path(folder) / "redis.log"))
            until_open(ports.redis)
            processes.append(start([sys.executable, "-m", "bentos.service"], environment, Path(folder) / "service.log"))
            writer = threading.Thread(target=keep_writing, args=(made, stop), daemon=True)
            writer.start()
            until_open(ports.service)
            yield made
        finally:
            stop.set()
            for process in reversed(processes):
                process.terminate()
                process.wait(10)


def keep_writing(settings: Settings, stop: threading.Event) -> None:
    """A made row every second, as the hot query would write it."""
    import numpy as np

    from feature_repo.contracts import SECOND_NS, FeatureRow
    from feature_repo.features import FEATURE_NAMES, FEATURE_SET, FORECAST_BAR, SEQUENCE_LENGTH
    from feature_repo.store import FeatureStore, OnlineWrite

    store, random = FeatureStore.open(settings), np.random.default_rng(7)
    while not stop.wait(1.0 - time.time() % 1.0):
        close_ns = time.time_ns() // SECOND_NS * SECOND_NS
        values = dict(zip(FEATURE_NAMES, random.uniform(1e-4, 1e-3, len(FEATURE_NAMES)).tolist(), strict=True))
        row = FeatureRow(
            symbol=settings.symbols[0], ts_event=close_ns, ts_init=close_ns, source="simulated", session="bench",
            created=close_ns, feature_set=FEATURE_SET, price=60_000.0, values=values, reasons={},
        )
        store.write([OnlineWrite(row, random.uniform(1e-4, 1e-3, (SEQUENCE_LENGTH, len(FORECAST_BAR))), {})])


def start(command: list[str], environment: dict[str, str], log: Path) -> subprocess.Popen[bytes]:
    with log.open("wb") as out:
        return subprocess.Popen(command, cwd=ROOT, env=environment, stdout=out, stderr=out)


def free_port() -> int:
    import socket

    with socket.socket() as probe:
        probe.bind((LOOPBACK, 0))
        return int(probe.getsockname()[1])


def until_open(port: int) -> None:
    """Wait until somebody listens."""
    import socket

    deadline = time.monotonic() + START_TIMEOUT_S
    while time.monotonic() < deadline:
        with socket.socket() as probe:
            probe.settimeout(0.5)
            if probe.connect_ex((LOOPBACK, port)) == 0:
                return
        time.sleep(0.05)
    raise TimeoutError(f"expected a listener at {LOOPBACK}:{port} within {START_TIMEOUT_S:g} s, found none")
