"""A streaming stack for tests: exchange, ingest and Spark as real processes over one broker, in one folder."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import httpx

from feature_repo import topics
from feature_repo.contracts import InvalidMessage, Message, UnknownSchema
from feature_repo.lake_layout import Zone
from feature_repo.lake_reader import Lake
from feature_repo.settings import LOOPBACK, ROOT, Settings, load_settings
from feature_repo.store import FeatureStore

NEEDED = ("exchange", "ingest", "streaming", "pollers")
SYMBOL = "BTCUSDT"
TRADES = topics.trades_topic(SYMBOL)
# The recording's day and a half: a range of years would list a folder for each of its days.
EVER = (1_722_988_800_000_000_000, 1_723_248_000_000_000_000)


@dataclass
class StreamingStack:
    """Processes by name; what is started here is ended by `close`."""

    settings: Settings
    processes: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)

    @classmethod
    def make(
        cls, folder: Path, bootstrap: str, redis_url: str, free_port: Callable[[], int], **more: Any,
    ) -> StreamingStack:
        """Settings with own ports, folder and database over a shared broker and Redis."""
        settings = load_settings({"CANDLEWICK_SYMBOLS": SYMBOL})
        ports = replace(settings.ports, **{name: free_port() for name in NEEDED})
        return cls(replace(
            settings, run_dir=folder, ports=ports, kafka_bootstrap=bootstrap, redis_url=redis_url,
            data_dir=load_settings().data_dir, **more,
        ))

    @property
    def environment(self) -> dict[str, str]:
        at = self.settings
        ports = {f"CANDLEWICK_PORTS_{name.upper()}": str(getattr(at.ports, name)) for name in NEEDED}
        return {
            **os.environ, **ports, "CANDLEWICK_RUN_DIR": str(at.run_dir), "CANDLEWICK_DATA_DIR": str(at.data_dir),
            "CANDLEWICK_KAFKA_BOOTSTRAP": at.kafka, "CANDLEWICK_REDIS_URL": at.redis, "CANDLEWICK_LAKE_URL": at.lake,
            "CANDLEWICK_S3_ENDPOINT": at.s3_endpoint, "MALLOC_ARENA_MAX": "2",
            "CANDLEWICK_HISTORY_DAYS": "0", "CANDLEWICK_SYMBOLS": ",".join(at.symbols),
            "CANDLEWICK_VENUE_WS": f"ws://{LOOPBACK}:{at.ports.exchange}",
            "CANDLEWICK_VENUE_REST": f"http://{LOOPBACK}:{at.ports.exchange}",
            "CANDLEWICK_VENUE_USDM_REST": f"http://{LOOPBACK}:{at.ports.exchange}",
        }

    def start(self, module: str, *arguments: str) -> subprocess.Popen[bytes]:
        """Start `python -m module` as the leader of its own process group."""
        name = module.rsplit(".", 1)[-1]
        logs = self.settings.run_dir / "logs"
        logs.mkdir(parents=True, exist_ok=True)
        with (logs / f"{name}.log").open("ab") as log:
            self.processes[name] = subprocess.Popen(
                [sys.executable, "-m", module, *arguments], cwd=ROOT, env=self.environment, stdout=log, stderr=log,
                start_new_session=True,
            )
        return self.processes[name]

    def start_exchange(self, *arguments: str) -> subprocess.Popen[bytes]:
        process = self.start("streaming.exchange", "--once", "--original-time", *arguments)
        until(lambda: self.answers(self.settings.ports.exchange), 60, "the exchange answers")
        return process

    def start_job(self, *arguments: str) -> None:
        self.start("streaming.job", *arguments)
        until(lambda: self.answers(self.settings.ports.streaming), 120, "both queries run")

    def verb(self, *words: str) -> dict[str, Any]:
        """Run `candlewick WORDS --json` against this stack; what it printed."""
        command = [sys.executable, "candlewick.py", *words, "--json"]
        done = subprocess.run(
            command, cwd=ROOT, env=self.environment, capture_output=True, text=True, timeout=300, check=False,
        )
        assert done.returncode == 0, done.stderr[-4000:]
        found: dict[str, Any] = json.loads(done.stdout)
        return found

    def answers(self, port: int) -> bool:
        try:
            return httpx.get(f"http://{LOOPBACK}:{port}/healthz", timeout=2).status_code == 200
        except httpx.TransportError:
            return False

    def metrics(self) -> str:
        return httpx.get(f"http://{LOOPBACK}:{self.settings.ports.streaming}/metrics", timeout=5).text

    def kill(self, name: str) -> None:
        """Kill -9: the process and what it started, all at once."""
        process = self.processes.pop(name)
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()

    def stop(self, name: str) -> int:
        """SIGTERM; returns the exit code."""
        process = self.processes.pop(name)
        process.terminate()
        return process.wait(timeout=30)

    def close(self) -> None:
        for name in list(self.processes):
            if self.processes[name].poll() is None:
                self.kill(name)

    @property
    def store(self) -> FeatureStore:
        return FeatureStore.open(self.settings)

    @property
    def lake(self) -> Lake:
        return Lake.open(self.settings.lake, self.settings.s3_endpoint)

    def await_close(self, close: int, seconds: float = 180, symbol: str = SYMBOL) -> None:
        """Wait until the bar and the row of a close are in the lake."""
        until(lambda: self._holds("features", close, symbol), seconds, f"the lake holds the row of {close}", 1.0)
        until(lambda: self._holds("clean", close, symbol), 60, f"the lake holds the bar of {close}", every_s=1.0)

    def _holds(self, zone: Zone, close: int, symbol: str) -> bool:
        return self.lake.rows(zone, [symbol], close, close, ["ts_event"]).num_rows > 0


def until(condition: Callable[[], object], seconds: float, what: str, every_s: float = 0.2) -> None:
    """Wait for a condition; raises `TimeoutError` naming it."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError(f"expected within {seconds:g} s: {what}")
        time.sleep(every_s)


def fresh_topics(bootstrap: str, names: Sequence[str], symbols: tuple[str, ...] = (SYMBOL,)) -> None:
    """Empty these topics by making them again, with the other topics of the symbols."""
    from kafka.admin import KafkaAdminClient

    admin = KafkaAdminClient(bootstrap_servers=bootstrap)
    try:
        held = set(names) & set(admin.list_topics())
        if held:
            admin.delete_topics(sorted(held))
        until(lambda: not held & set(admin.list_topics()), 30, "the topics are gone")
    finally:
        admin.close()
    topics.create_topics(bootstrap, topics.topics(symbols))


def records(bootstrap: str, topic: str) -> list[Any]:
    """Every record of a topic of one partition, in order."""
    from kafka import KafkaConsumer, TopicPartition

    consumer = KafkaConsumer(bootstrap_servers=bootstrap, group_id=None, auto_offset_reset="earliest")
    try:
        at = TopicPartition(topic, 0)
        consumer.assign([at])
        consumer.seek_to_beginning(at)
        end, found = consumer.end_offsets([at])[at], []
        while consumer.position(at) < end:
            found += consumer.poll(timeout_ms=1000).get(at, [])
        return found
    finally:
        consumer.close()


def length(bootstrap: str, topic: str) -> int:
    """The end offset of a topic of one partition."""
    from kafka import KafkaConsumer, TopicPartition

    consumer = KafkaConsumer(bootstrap_servers=bootstrap, group_id=None)
    try:
        at = TopicPartition(topic, 0)
        return int(consumer.end_offsets([at])[at])
    finally:
        consumer.close()


def decoded(found: Sequence[Any]) -> list[Message]:
    """The messages of those records that hold one."""
    messages = []
    for record in found:
        try:
            messages.append(topics.decode(record.value, topics.record_schema(record.headers)))
        except (InvalidMessage, UnknownSchema):
            continue
    return messages
