"""Delivery to the online store: a row that is refused holds no other back, a store that is away loses none."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from prometheus_client import CollectorRegistry

from feature_repo.contracts import InvalidMessage, StoreUnavailable
from feature_repo.online_row import OnlineWrite
from streaming.delivery import Delivery, StreamMetrics
from tests.feature_repo.made_rows import made_write

GOOD, BAD = made_write(1, "BTCUSDT"), made_write(1, "ETHUSDT")


class Store:
    """Takes what is not of ETHUSDT; is away for the first `away` calls."""

    def __init__(self, away: int = 0) -> None:
        self.taken: list[str] = []
        self.away = away

    def write(self, writes: Sequence[OnlineWrite]) -> int:
        if self.away:
            self.away -= 1
            raise StoreUnavailable("away")
        if any(write.row.symbol == "ETHUSDT" for write in writes):
            raise InvalidMessage("ETHUSDT: expected otherwise")
        self.taken += [write.row.symbol for write in writes]
        return len(writes)


def delivery(store: Store) -> tuple[Delivery, CollectorRegistry]:
    registry = CollectorRegistry()
    return Delivery(None, store.write, StreamMetrics(registry), now=lambda: GOOD.row.ts_event), registry


@pytest.mark.parametrize("away", [0, 1])
def test_a_refused_row_is_counted_and_the_others_are_written(away: int) -> None:
    store = Store(away)
    deliver, registry = delivery(store)
    for _ in range(1 + away):
        deliver._write({write.row.symbol: write for write in (GOOD, BAD)})
    labels = {"component": "streaming", "reason": "online row refused"}
    assert store.taken == ["BTCUSDT"]
    assert registry.get_sample_value("candlewick_dead_letters_total", labels) == 1
    deliver._write({})
    assert store.taken == ["BTCUSDT"]  # it waits no longer
