"""KafkaSink: publishes in order from a thread of its own; bounded, never blocks the caller, loses nothing it took.

    sink = KafkaSink(lambda: topics.producer(bootstrap, "ingest"))
    sink.publish("crypto.btc.trades", trade)
    sink.close(timeout_s=5)

A message is let go only when the broker has acknowledged it. While the broker is away messages wait here; `full` says
that the caller must stop taking in more (it leaves the venue and later recovers by trade ids). A message whose delivery
failed is sent again, so a reader may meet it twice and out of order: every reader upserts by identity.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable
from typing import Any, Protocol

import structlog

from feature_repo.contracts import Message
from feature_repo.topics import send

log = structlog.get_logger()

LIMIT = 50_000
"""Messages waiting for the broker before the caller must stop: about 25 minutes of one symbol, 100 MB."""
RETRY_S = 0.5
Item = tuple[str, Message]


class Publisher(Protocol):
    """Where messages go. `publish` never blocks; `waiting` counts what is not acknowledged."""

    def publish(self, topic: str, message: Message) -> None: ...
    @property
    def waiting(self) -> int: ...
    @property
    def full(self) -> bool: ...
    def close(self, timeout_s: float) -> int: ...


class KafkaSink:
    """`producer` makes a kafka-python producer; it is made anew when one can no longer be used."""

    def __init__(
        self, producer: Callable[[], Any], limit: int = LIMIT, on_delivered: Callable[[Message], None] | None = None,
    ) -> None:
        self._make = producer
        self._limit = limit
        self._on_delivered = on_delivered
        self._queue: deque[Item] = deque()
        self._waiting = 0
        self._changed = threading.Condition()
        self._closing = False
        self._thread = threading.Thread(target=self._run, name="kafka-sink", daemon=True)
        self._thread.start()

    def publish(self, topic: str, message: Message) -> None:
        """Queue a message. It is sent after all that were queued before."""
        with self._changed:
            self._queue.append((topic, message))
            self._waiting += 1
            self._changed.notify_all()

    @property
    def waiting(self) -> int:
        return self._waiting

    @property
    def full(self) -> bool:
        return self._waiting >= self._limit

    def close(self, timeout_s: float) -> int:
        """Send and flush what waits, then stop. Returns how many messages the broker has not acknowledged."""
        with self._changed:
            self._changed.wait_for(lambda: self._waiting == 0, timeout_s)
            self._closing = True
            self._changed.notify_all()
        self._thread.join(timeout=2.0)
        return self._waiting

    def _run(self) -> None:
        producer = None
        while (item := self._next()) is not None:
            producer = self._send(producer, item)
        if producer is not None:
            producer.close(timeout=1.0)

    def _next(self) -> Item | None:
        with self._changed:
            self._changed.wait_for(lambda: self._queue or self._closing)
            return self._queue.popleft() if self._queue and not self._closing else None

    def _send(self, producer: Any, item: Item) -> Any:
        """Hand one message to the producer, for as long as it takes. Returns the producer to go on with."""
        while not self._closing:
            try:
                producer = producer or self._make()
                future = send(producer, *item)
            except Exception as error:  # noqa: BLE001 - whatever kafka-python raises, the message must not be lost
                log.warning("kafka_send_failed", topic=item[0], error=repr(error), waiting=self._waiting)
                self._drop(producer)
                producer = None
                time.sleep(RETRY_S)
                continue
            future.add_callback(lambda _metadata: self._delivered(item[1]))
            future.add_errback(lambda error: self._failed(item, error))
            return producer
        return producer

    def _drop(self, producer: Any) -> None:
        if producer is None:
            return
        try:
            producer.close(timeout=0)  # what it still holds fails, and comes back through `_failed`
        except Exception as error:  # noqa: BLE001 - a broken producer may refuse to close; a new one is made anyway
            log.warning("kafka_close_failed", error=repr(error))

    def _delivered(self, message: Message) -> None:
        with self._changed:
            self._waiting -= 1
            self._changed.notify_all()
        if self._on_delivered is not None:
            self._on_delivered(message)

    def _failed(self, item: Item, error: BaseException) -> None:
        log.warning("kafka_delivery_failed", topic=item[0], error=repr(error))
        with self._changed:
            self._queue.appendleft(item)
            self._changed.notify_all()
