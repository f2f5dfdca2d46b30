"""A serving stack for tests: real Redis, Kafka, service and publisher, each on a free port in one folder."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Self

import httpx

from feature_repo.contracts import SECOND_NS, FeatureRow
from feature_repo.settings import LOOPBACK, ROOT, Settings, load_settings
from feature_repo.store import FeatureStore
from feature_repo.topics import FEATURES, create_topics, producer, send, topics
from infra.stack import kafka, redis
from infra.stack.probes import Health, Probe, examine
from tests.bentos.made import CONTEXT, made_artefact, made_row, made_write

NEEDED = ("redis", "kafka", "kafka_controller", "service", "publisher", "frontend")


@dataclass
class ServingStack:
    """Processes by name; what is started here is ended by `close`."""

    settings: Settings
    processes: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)

    @classmethod
    def make(cls, folder: Path, free_port: Callable[[], int]) -> ServingStack:
        """Settings on free ports, with a made model as the bootstrap."""
        settings = load_settings({"CANDLEWICK_SYMBOLS": "BTCUSDT"})
        ports = replace(settings.ports, **{name: free_port() for name in NEEDED})
        model = made_artefact(folder / "bootstrap")
        return cls(replace(settings, run_dir=folder / "run", ports=ports, model_dir=model))

    @property
    def store(self) -> FeatureStore:
        return FeatureStore.open(self.settings)

    def empty_store(self) -> None:
        """Delete all that Redis holds, as its writer: nobody may flush."""
        writer = self.store.writer
        if keys := list(writer.scan_iter()):
            writer.delete(*keys)

    @property
    def url(self) -> str:
        return f"http://{LOOPBACK}:{self.settings.ports.service}"

    @property
    def environment(self) -> dict[str, str]:
        ports = {f"CANDLEWICK_PORTS_{name.upper()}": str(getattr(self.settings.ports, name)) for name in NEEDED}
        return {
            **os.environ, **ports, "CANDLEWICK_RUN_DIR": str(self.settings.run_dir), "REDIS_URL": "",
            "CANDLEWICK_SYMBOLS": ",".join(self.settings.symbols),
            "CANDLEWICK_MODEL_DIR": str(self.settings.model_dir), "BENTOML_DO_NOT_TRACK": "True", "DO_NOT_TRACK": "1",
        }

    def start(self, name: str, command: list[str]) -> None:
        folder = self.settings.run_dir / "logs"
        folder.mkdir(parents=True, exist_ok=True)
        with (folder / f"{name}.log").open("ab") as log:
            self.processes[name] = subprocess.Popen(
                command, cwd=ROOT, env=self.environment, stdout=log, stderr=log,
            )

    def start_redis(self) -> None:
        self.start("redis", redis.command(self.settings))
        until(self.store.client.ping)

    def start_kafka(self) -> None:
        kafka.prepare(self.settings)
        self.start("kafka", kafka.command(self.settings))
        probe = Probe("kafka", self.settings.ports.kafka)
        until(lambda: examine(probe)[0] is Health.READY, 60)
        create_topics(self.settings.kafka, topics(self.settings.symbols))

    def start_service(self) -> None:
        self.start("service", [sys.executable, "-m", "bentos.service"])
        until(lambda: httpx.get(f"{self.url}/livez").status_code == 200, 60)

    def start_publisher(self, name: str = "publisher") -> None:
        self.start(name, [sys.executable, "-m", "bentos.publisher"])

    def stop(self, name: str, signum: int = signal.SIGTERM) -> int:
        """End one process and wait; returns its exit status."""
        process = self.processes.pop(name)
        process.send_signal(signum)
        return process.wait(15)

    def log(self, name: str) -> str:
        return (self.settings.run_dir / "logs" / f"{name}.log").read_text()

    def close(self) -> None:
        for name in reversed(list(self.processes)):
            self.stop(name, signal.SIGTERM if name == "kafka" else signal.SIGKILL)

    def post(self, path: str = "/predict", **body: Any) -> httpx.Response:
        return httpx.post(f"{self.url}{path}", json=body)

    def predicted(self, **body: Any) -> dict[str, Any]:
        """The body of a successful prediction."""
        response = self.post(symbol="BTCUSDT", **body)
        assert response.status_code == 200, response.text
        found: dict[str, Any] = response.json()
        return found

    def write_row(self, row: FeatureRow | None = None) -> FeatureRow:
        """A fresh row, with its context, in the online store."""
        written = row or made_row(now_second(), return_1m=0.002, spread_1s=0.01)
        self.store.write([made_write(written)])
        self.store.write_context(written.symbol, CONTEXT, written.ts_event, written.created)
        return written


@dataclass
class LiveRows:
    """Every second a made row to Kafka and then to Redis, as the hot query does."""

    stack: ServingStack
    symbol: str = "BTCUSDT"
    rows: list[FeatureRow] = field(default_factory=list)
    _stop: threading.Event = field(default_factory=threading.Event)

    def __enter__(self) -> Self:
        self._out = producer(self.stack.settings.kafka, "test")
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join(5)
        self._out.close(timeout=5)

    def _run(self) -> None:
        while not self._stop.wait(1.0 - time.time() % 1.0):
            row = made_row(now_second(), return_1m=0.001 * (1 if len(self.rows) % 2 else -1))
            row = row.model_copy(update={"symbol": self.symbol})
            send(self._out, FEATURES, row).get(timeout=5)
            self.stack.write_row(row)
            self.rows.append(row)


def now_second() -> int:
    return time.time_ns() // SECOND_NS * SECOND_NS


def until(found: Callable[[], Any], seconds: float = 20.0) -> Any:
    """The first true answer; an error counts as none. Raises `TimeoutError` with the last error."""
    deadline, last = time.monotonic() + seconds, None
    while time.monotonic() < deadline:
        try:
            if answer := found():
                return answer
        except Exception as error:  # noqa: BLE001  a process that is still starting answers with anything
            last = error
        time.sleep(0.05)
    raise TimeoutError(f"not within {seconds:g} s; last error {last!r}")
