"""The sink keeps order, never blocks, and lets a message go only when the broker has it."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any

from kafka.errors import KafkaTimeoutError

from feature_repo.contracts import Message
from feature_repo.topics import decode, record_schema
from streaming.seal import example_trade
from streaming.sink import KafkaSink


class Future:
    """A delivery whose end the test decides; who asks after its end is told at once, as kafka-python's does."""

    def __init__(self) -> None:
        self.lock, self.delivered = threading.Lock(), False
        self.told: Callable[[Any], None] = lambda _: None
        self.bad: Callable[[Any], None] = lambda _: None

    def good(self, metadata: Any) -> None:
        with self.lock:
            self.delivered, told = True, self.told
        told(metadata)

    def add_callback(self, call: Callable[[Any], None]) -> None:
        with self.lock:
            self.told, late = call, self.delivered
        if late:
            call(None)

    def add_errback(self, call: Callable[[Any], None]) -> None:
        self.bad = call


class Producer:
    """A producer in memory: refuses the first `refuse` sends; `hold` leaves deliveries open."""

    def __init__(self, refuse: int = 0, hold: bool = False) -> None:
        self.taken: list[int] = []
        self.open: list[Future] = []
        self.refuse, self.hold = refuse, hold

    def send(self, _topic: str, key: bytes, value: bytes, headers: list) -> Future:
        assert key == b"BTCUSDT"
        if self.refuse:
            self.refuse -= 1
            raise KafkaTimeoutError("no metadata")
        trade: Any = decode(value, record_schema(headers))
        self.taken.append(trade.trade_id)
        future = Future()
        if self.hold:
            self.open.append(future)
        else:
            threading.Timer(0.01, lambda: future.good(None)).start()
        return future

    def close(self, timeout: float = 0) -> None:
        del timeout


def until(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + 5
    while not condition():
        assert time.monotonic() < deadline, "waited for 5 s"
        time.sleep(0.005)


def test_messages_are_sent_in_order_and_let_go_when_acknowledged() -> None:
    producer, delivered = Producer(), list[Message]()
    sink = KafkaSink(lambda: producer, on_delivered=delivered.append)
    for i in range(50):
        sink.publish("t", example_trade(i, at=i))
    assert sink.close(5.0) == 0
    assert producer.taken == list(range(50))
    assert len(delivered) == 50


def test_message_the_producer_refuses_is_sent_by_a_new_one_before_the_next() -> None:
    broken, good = Producer(refuse=1), Producer()
    made = iter([broken, good])
    sink = KafkaSink(lambda: next(made))
    sink.publish("t", example_trade(1, at=1))
    sink.publish("t", example_trade(2, at=2))
    assert sink.close(5.0) == 0
    assert (broken.taken, good.taken) == ([], [1, 2])


def test_failed_delivery_is_sent_again() -> None:
    producer = Producer(hold=True)
    sink = KafkaSink(lambda: producer)
    sink.publish("t", example_trade(1, at=1))
    until(lambda: producer.open)
    producer.open.pop().bad(KafkaTimeoutError("delivery timed out"))
    until(lambda: producer.open)
    producer.open.pop().good(None)
    assert sink.close(5.0) == 0
    assert producer.taken == [1, 1]


def test_sink_is_full_until_the_broker_has_taken_enough_and_publishing_never_blocks() -> None:
    producer = Producer(hold=True)
    sink = KafkaSink(lambda: producer, limit=3)
    for i in range(5):
        sink.publish("t", example_trade(i, at=i))
    assert sink.full
    until(lambda: len(producer.open) == 5)
    for future in producer.open[:3]:
        future.good(None)
    assert (sink.full, sink.waiting) == (False, 2)
    assert sink.close(0.05) == 2
