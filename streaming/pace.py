"""Pace: let a hot batch begin when a seal is there, not when any trade is.

    pace = Pace(seal_watcher(bootstrap))
    pace(outputs)                    # at the end of a batch: returns when the next one is worth its while

Only a seal closes a second. A batch begun for trades alone costs a fifth of a second of a core, and the seal that
comes meanwhile waits for its end. So the driver looks at the topics' tail itself and lets the batch end when it has
seen a seal that was not yet delivered. It changes when batches begin, never what they give: behind a backlog, or when
nothing comes, it does not hold them up.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

from feature_repo import topics
from feature_repo.contracts import SECOND_NS, SecondClosed
from streaming.symbol_stream import ONLINE, Output

LONGEST_S = 1.2
"""A batch is held up no longer than this: a seal a second, and a little."""
GATHER_S = 0.12
"""Seals of one second's symbols come within a depth interval of 100 ms: one batch for all of them, not one each."""
GIVEN_UP_NS = 10 * SECOND_NS
"""A seal so far behind the newest lacks its trades, or its symbol was removed: it begins no batch any more."""
ACTIVE_NS = 2 * SECOND_NS
"""A symbol whose newest delivered close is further behind the newest of all is waited for no longer."""
_SEAL = topics.header(SecondClosed).encode()
Watch = Callable[[float], Iterable[SecondClosed]]
"""Seconds to wait at most → the seals that arrived by then; returns as soon as there is one record."""


@dataclass
class Pace:
    """Holds the end of a batch until a seal is there. `clock` is monotonic, seconds."""

    watch: Watch
    clock: Callable[[], float] = time.monotonic
    _delivered: dict[str, int] = field(default_factory=dict)
    _sealed: dict[str, int] = field(default_factory=dict)

    def __call__(self, outputs: Iterable[Output]) -> None:
        """Wait after a batch that gave `outputs`."""
        rows = list(outputs)
        self._delivered |= {row.key: _close(row) for row in rows if row.topic == ONLINE}
        bars = Counter(row.key for row in rows if row.topic == topics.CLEAN)
        if max(bars.values(), default=0) > 1:
            return  # more than one bar at once: there is a backlog
        deadline = self.clock() + LONGEST_S
        while not self._is_due() and (left := deadline - self.clock()) > 0:
            self._look(left)
        gathered = min(deadline, self.clock() + GATHER_S)
        while self._is_more_expected() and (left := gathered - self.clock()) > 0:
            self._look(left)

    def _look(self, seconds: float) -> None:
        for seal in self.watch(seconds):
            self._sealed[seal.symbol] = max(seal.close, self._sealed.get(seal.symbol, 0))

    def _is_due(self) -> bool:
        newest = max(self._sealed.values(), default=0)
        return any(
            close > self._delivered.get(symbol, 0) and newest - close < GIVEN_UP_NS
            for symbol, close in self._sealed.items()
        )

    def _is_more_expected(self) -> bool:
        """Whether a symbol that keeps up with the others has no seal waiting yet, while another has."""
        newest = max(self._delivered.values(), default=0)
        return self._is_due() and any(
            self._sealed.get(symbol, 0) <= close and newest - close < ACTIVE_NS
            for symbol, close in self._delivered.items()
        )


def seal_watcher(bootstrap: str, pattern: str) -> Watch:
    """Watches the topics' tail, from now on, without a consumer group."""
    from kafka import KafkaConsumer

    consumer = KafkaConsumer(
        bootstrap_servers=bootstrap.split(","), client_id="candlewick-pace", group_id=None,
        auto_offset_reset="latest", enable_auto_commit=False, metadata_max_age_ms=30_000,
    )
    consumer.subscribe(pattern=pattern)

    def watch(seconds: float) -> Iterator[SecondClosed]:
        polled: dict[Any, list[Any]] = consumer.poll(timeout_ms=max(1, int(seconds * 1000)))
        for record in (record for records in polled.values() for record in records):
            if topics.record_schema(record.headers) == _SEAL:
                seal = topics.decode(record.value, _SEAL)
                assert isinstance(seal, SecondClosed)
                yield seal

    return watch


def _close(row: Output) -> int:
    return topics.decode(bytes(row.body), row.schema).ts_event  # type: ignore[attr-defined, no-any-return]
