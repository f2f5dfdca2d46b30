"""The feed reads the shared topics again for a symbol that is added, and tells nothing twice of the others."""

from __future__ import annotations

from typing import Any, NamedTuple

from bentos.live import Received
from bentos.live_feed import LiveFeed
from feature_repo.topics import FEATURES, encode, headers, order_book_topic
from tests.bentos.made import MINUTE, made_row


class At(NamedTuple):
    """A partition, as the consumer names it."""

    topic: str
    partition: int


class Record(NamedTuple):
    topic: str
    partition: int
    offset: int
    key: bytes
    value: bytes
    headers: list[tuple[str, bytes]]
    timestamp: int = MINUTE // 1_000_000


def rows(*symbols: str) -> dict[Any, list[Any]]:
    """One row of each symbol, in order, as polled from the beginning of the topic."""
    made = [made_row().model_copy(update={"symbol": symbol}) for symbol in symbols]
    return {At(FEATURES, 0): [
        Record(FEATURES, 0, offset, row.symbol.encode(), encode(row), headers(row)) for offset, row in enumerate(made)
    ]}


def test_a_symbol_that_is_added_is_read_from_before_and_the_others_are_not_told_again() -> None:
    told: list[Received] = []
    feed = LiveFeed("unused:1", ["BTCUSDT"], told.extend, lambda _reason: None)
    feed._deliver(rows("BTCUSDT", "ETHUSDT", "BTCUSDT"))
    feed._next_offset[At(order_book_topic("BTCUSDT"), 0)] = 900
    assert [(item.symbol, item.offset) for item in told] == [("BTCUSDT", 0), ("BTCUSDT", 2)]

    feed.follow(["BTCUSDT", "ETHUSDT"])
    feed._change()
    assert feed._next_offset == {At(order_book_topic("BTCUSDT"), 0): 900}, "its own topic goes on where it was"
    told.clear()
    feed._deliver(rows("BTCUSDT", "ETHUSDT", "BTCUSDT", "BTCUSDT", "ETHUSDT"))
    assert [(item.symbol, item.offset) for item in told] == [("ETHUSDT", 1), ("BTCUSDT", 3), ("ETHUSDT", 4)]

    feed.follow(["ETHUSDT"])
    feed._change()
    told.clear()
    feed._deliver(rows("BTCUSDT", "ETHUSDT"))
    assert {item.symbol for item in told} <= {"ETHUSDT"}
    assert order_book_topic("BTCUSDT") not in feed._channels
