"""Batches: records made into Kafka's own batches beforehand, so that one core can send tens of thousands a second.

    with BatchSender("127.0.0.1:19092") as sender:
        sender.send([(topic, batch(records))])                 # returns when the broker has stored them

A load that is made while it is sent measures its own maker. Only for topics of one partition on one broker; what is
sent is Produce version 3 with acks=all. https://kafka.apache.org/protocol
"""

from __future__ import annotations

import socket
import struct
import time
from collections.abc import Sequence
from types import TracebackType
from typing import Self

from kafka.record.default_records import DefaultRecordBatchBuilder

from feature_repo.topics import SCHEMA_HEADER
from infra.drill.made_market import Record

PRODUCE, VERSION, CLIENT = 0, 3, b"load"
ALL, TIMEOUT_MS = -1, 30_000
LARGEST = 16 * 1024 * 1024
Batches = Sequence[tuple[str, bytes]]
"""Topic and batch."""


def batch(records: Sequence[Record]) -> bytes:
    """Records of one topic as a batch, without a producer's identity."""
    builder = DefaultRecordBatchBuilder(2, 0, 0, -1, -1, -1, LARGEST)
    made_ms = time.time_ns() // 1_000_000
    for offset, record in enumerate(records):
        builder.append(offset, made_ms, record.key, record.value, [(SCHEMA_HEADER, record.schema)])
    return bytes(builder.build())


def request(batches: Batches) -> bytes:
    """A whole request, its length before it: batches by topic, each for partition 0."""
    body = [
        struct.pack(">hhih", PRODUCE, VERSION, 0, len(CLIENT)), CLIENT,
        struct.pack(">hhii", -1, ALL, TIMEOUT_MS, len(batches)),
    ]
    for topic, records in batches:
        name = topic.encode()
        body += [struct.pack(">h", len(name)), name, struct.pack(">iii", 1, 0, len(records)), records]
    whole = b"".join(body)
    return struct.pack(">i", len(whole)) + whole


NOT_YET = frozenset({3, 5, 6})
"""Errors of a topic that was made a moment ago: unknown, without a leader, with another leader."""
RETRY_S, RETRIES = 0.1, 100


class BatchSender:
    """One connection; a request is sent when the one before is stored."""

    def __init__(self, bootstrap: str) -> None:
        host, port = bootstrap.split(",", maxsplit=1)[0].rsplit(":", 1)
        self._socket = socket.create_connection((host, int(port)), timeout=TIMEOUT_MS / 1e3)

    def send(self, batches: Batches) -> None:
        """Store batches by topic. Raises `OSError` when the broker refuses one or is gone."""
        left = list(batches)
        for _ in range(RETRIES):
            refused = self._send(request(left))
            if not refused:
                return
            if wrong := set(refused.values()) - NOT_YET:
                raise OSError(f"expected the broker to store a batch, found error {', '.join(map(str, wrong))}")
            left = [(topic, records) for topic, records in left if topic in refused]
            time.sleep(RETRY_S)
        raise OSError(f"expected {', '.join(topic for topic, _ in left)} to have a leader, found none")

    def _send(self, whole: bytes) -> dict[str, int]:
        """Topic → error, of those that were refused."""
        self._socket.sendall(whole)
        (length,) = struct.unpack(">i", self._take(4))
        answer, found = self._take(length), dict[str, int]()
        (topics,), at = struct.unpack_from(">i", answer, 4), 8
        for _ in range(topics):
            (name,) = struct.unpack_from(">h", answer, at)
            topic = answer[at + 2 : at + 2 + name].decode()
            _, _, error, _, _ = struct.unpack_from(">iihqq", answer, at + 2 + name)
            found |= {topic: error} if error else {}
            at += 2 + name + struct.calcsize(">iihqq")
        return found

    def _take(self, size: int) -> bytes:
        found = bytearray()
        while len(found) < size:
            part = self._socket.recv(size - len(found))
            if not part:
                raise OSError("the broker closed the connection")
            found += part
        return bytes(found)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        self._socket.close()
