"""Broker: Kafka killed, frozen, and out of disk, while ingest's own sink writes; nothing acknowledged may be lost.

    candlewick chaos broker --pause 30 --json

Messages are numbered. After each disturbance the sink must go on by itself; at the end every number that it was told
is stored must be in the topic. For the full disk the broker's folder is a small file system in memory, which only root
can make: without that the part is left out, and the result says so.
"""

from __future__ import annotations

import os
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from feature_repo import topics
from feature_repo.contracts import Message, Trade
from feature_repo.settings import Settings
from infra.drill.load import symbols
from infra.drill.stack import Drill, own_stack, until
from infra.stack import kafka
from infra.stack.service import State
from streaming.sink import KafkaSink

PARTS = ("kafka", "topics")
SYMBOL = symbols(1)[0]
RATE = 200
TICK_S = 0.05
DISK_MB = 192
START_S, BACK_S, BACK_BAR_S = 120.0, 180.0, 60.0
CLOSE_S = 30.0


@dataclass
class Numbers:
    """Writes numbered trades at `RATE` a second through ingest's sink, and knows which were acknowledged."""

    bootstrap: str
    written: int = 0
    acknowledged: set[int] = field(default_factory=set)
    highest: int = 0
    """The highest number acknowledged."""
    most_waiting: int = 0
    refused: int = 0
    """Numbers not given to the sink because it said that it is full, as ingest then leaves the venue."""
    _stopping: threading.Event = field(default_factory=threading.Event)

    def __post_init__(self) -> None:
        self.sink = KafkaSink(lambda: topics.producer(self.bootstrap, "drill"), on_delivered=self._delivered)
        self._thread = threading.Thread(target=self._run, name="numbers")
        self._thread.start()

    def caught_up(self, number: int) -> bool:
        """Whether everything up to a number is acknowledged."""
        return self.sink.waiting < RATE and self.highest >= number

    def stop(self) -> int:
        """Returns how many the broker has not acknowledged."""
        self._stopping.set()
        self._thread.join()
        return self.sink.close(CLOSE_S)

    def _run(self) -> None:
        while not self._stopping.wait(TICK_S):
            for _ in range(int(RATE * TICK_S)):
                self.written += 1
                if self.sink.full:
                    self.refused += 1
                    continue
                self.sink.publish(topics.trades_topic(SYMBOL), _numbered(self.written))
            self.most_waiting = max(self.most_waiting, self.sink.waiting)

    def _delivered(self, message: Message) -> None:
        assert isinstance(message, Trade)
        self.acknowledged.add(message.trade_id)
        self.highest = max(self.highest, message.trade_id)


def run(pause_s: float = 30.0, disk: bool = True) -> dict[str, Any]:
    """Every disturbance in turn, and what the topic holds at the end."""
    disk = disk and os.geteuid() == 0
    with own_stack(PARTS, symbols=(SYMBOL,), within=_small_disk if disk else nullcontext) as drill:
        drill.await_ready(START_S)
        numbers = Numbers(drill.settings.kafka)
        try:
            until(lambda: numbers.caught_up(1), START_S, "the first message is stored")
            found = {"kill": disturb(drill, numbers, killed), "pause": disturb(drill, numbers, paused(pause_s))}
            if disk:
                found["disk_full"] = disturb(drill, numbers, full)
        finally:
            unacknowledged = numbers.stop()
        stored = _stored(drill.settings.kafka)
    lost = numbers.acknowledged - stored
    return {
        **found, "written": numbers.written, "acknowledged": len(numbers.acknowledged), "lost": len(lost),
        "unacknowledged": unacknowledged, "refused": numbers.refused, "most_waiting": numbers.most_waiting,
        "left_out": [] if disk else ["disk_full: needs root, to make a small file system"],
        "passed": not lost and not unacknowledged and bool(numbers.acknowledged) and all(
            part["back_s"] <= BACK_BAR_S and part["said"] for part in found.values()),
    }


Disturbance = Callable[[Drill], list[str]]
"""Disturbs the broker, and returns what was said about it, when the disturbance has ended."""


def disturb(drill: Drill, numbers: Numbers, disturbance: Disturbance) -> dict[str, Any]:
    """One disturbance, and how long after its end the sink had caught up."""
    said = disturbance(drill)
    number = numbers.written
    back_s = until(lambda: drill.ready() and numbers.caught_up(number), BACK_S, "the sink goes on")
    return {"back_s": round(back_s, 1), "said": said}


def killed(drill: Drill) -> list[str]:
    """SIGKILL; returns when its supervisor has started it again."""
    starts = drill.starts("kafka")
    drill.kill("kafka")
    said: list[str] = []

    def noticed() -> bool:
        unit = drill.supervisor.units["kafka"]
        said.extend([unit.message] if "signal" in unit.message and unit.message not in said else [])
        return drill.starts("kafka") > starts

    until(noticed, BACK_S, "the broker is started again", every_s=0.02)
    return said


def paused(seconds: float) -> Disturbance:
    """Frozen for some seconds, as on a machine that swaps or a virtual machine that migrates."""
    def pause(drill: Drill) -> list[str]:
        unit, said = drill.supervisor.units["kafka"], list[str]()
        drill.signal("kafka", signal.SIGSTOP)
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            said += [unit.message] if unit.message and unit.message not in said else []
            time.sleep(TICK_S)
        drill.signal("kafka", signal.SIGCONT)
        return said

    return pause


def full(drill: Drill) -> list[str]:
    """The disk fills up to its last byte; there is room again when the broker has failed and was refused a start."""
    unit, filler = drill.supervisor.units["kafka"], kafka.home(drill.settings) / "filler"
    _fill(filler)
    until(lambda: unit.state is State.BACKOFF and any("MB free" in line for line in drill.tail("kafka")), BACK_S,
          "the broker is refused a start")
    said = [unit.message, *(line for line in drill.tail("kafka") if "MB free" in line)][:2]
    filler.unlink()
    return said


def _fill(path: Path) -> None:
    with path.open("wb", buffering=0) as file:
        for size in (1 << 20, 1 << 12, 1):
            try:
                while True:
                    file.write(bytes(size))
            except OSError:
                continue  # no room for a piece of this size: try smaller ones


@contextmanager
def _small_disk(settings: Settings) -> Iterator[None]:
    """The broker's folder as a file system of `DISK_MB` in memory."""
    folder = kafka.home(settings)
    folder.mkdir(parents=True)
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={DISK_MB}m", "tmpfs", str(folder)], check=True)
    try:
        yield
    finally:
        subprocess.run(["umount", str(folder)], check=True)


def _numbered(number: int) -> Trade:
    now = time.time_ns()
    return Trade(
        symbol=SYMBOL, ts_event=now, ts_init=now, source="simulated", session="drill", trade_id=number, price=1.0,
        quantity=1.0, buyer_is_maker=False,
    )


def _stored(bootstrap: str) -> set[int]:
    """The numbers in the topic."""
    from kafka import KafkaConsumer, TopicPartition

    consumer = KafkaConsumer(bootstrap_servers=bootstrap.split(","), group_id=None, auto_offset_reset="earliest")
    try:
        place = TopicPartition(topics.trades_topic(SYMBOL), 0)
        consumer.assign([place])
        consumer.seek_to_beginning(place)
        end, found = consumer.end_offsets([place])[place], set[int]()
        while consumer.position(place) < end:
            for record in consumer.poll(timeout_ms=1000).get(place, []):
                trade = topics.decode(record.value, topics.record_schema(record.headers))
                assert isinstance(trade, Trade)
                found.add(trade.trade_id)
    finally:
        consumer.close()
    return found
