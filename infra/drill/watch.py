"""Watch: notes when each second's row can first be read where the stream puts it, and counts what came out at last.

    watch = Watch(FeatureStore.open(settings).versions, symbols)      # a thread; Redis by default every 20 ms
    watch.start(); …; watch.stop()
    quantiles(watch.ages_ms())                                        # how old rows were when they could be read
"""

from __future__ import annotations

import statistics
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from feature_repo import topics
from feature_repo.contracts import HOUR_NS, NANOS, SECOND_NS, Bar, StoreUnavailable
from feature_repo.lake_reader import Lake

LOOK_EVERY_S = 0.02
Versions = Callable[[Sequence[str]], Mapping[str, tuple[int, ...] | None]]
"""Symbols → what begins with the close of each one's newest row; null before the first."""


@dataclass
class Watch:
    """Notes when each row of each symbol can first be read."""

    versions: Versions
    symbols: Sequence[str]
    look_every_s: float = LOOK_EVERY_S
    now: Callable[[], int] = time.time_ns
    seen: dict[str, dict[int, int]] = field(default_factory=dict)
    """Symbol → close → when it could be read, ns."""
    _stopping: threading.Event = field(default_factory=threading.Event)
    _thread: threading.Thread | None = None

    def start(self) -> None:
        self.seen = {symbol: {} for symbol in self.symbols}
        self._thread = threading.Thread(target=self._run, name="watch", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        self._stopping.set()
        assert self._thread is not None, "started first"
        self._thread.join()

    def newest(self) -> dict[str, int]:
        """Symbol → its newest close seen; 0 before the first."""
        return {symbol: max(closes, default=0) for symbol, closes in self.seen.items()}

    def lag_s(self) -> float:
        """Age of the oldest of the symbols' newest rows, seconds."""
        return (self.now() - min(self.newest().values())) / NANOS

    def ages_ms(self, since_ns: int = 0, until_ns: int = 2**63) -> list[float]:
        """How old rows were when they, or a newer one in their place, could be read; of closes in [since, until)."""
        found: list[float] = []
        for closes in self.seen.values():
            newer = sorted(closes)
            for before, close in zip([newer[0] - SECOND_NS, *newer], newer, strict=False) if newer else ():
                found += [
                    (closes[close] - passed) / 1e6 for passed in range(before + SECOND_NS, close + 1, SECOND_NS)
                    if since_ns <= passed < until_ns
                ]
        return found

    def _run(self) -> None:
        while not self._stopping.wait(self.look_every_s):
            try:
                found = self.versions(self.symbols)
            except (StoreUnavailable, OSError):
                continue
            at = self.now()
            for symbol, version in found.items():
                if version is not None:
                    self.seen[symbol].setdefault(version[0], at)


def lake_versions(lake: Lake, now: Callable[[], int] = time.time_ns) -> Versions:
    """The newest second bar of each symbol in the lake, of this hour and the one before."""
    def versions(symbols: Sequence[str]) -> dict[str, tuple[int, ...] | None]:
        rows = lake.rows("clean", symbols, now() - HOUR_NS, now(), ["symbol", "close_time"])
        newest = rows.group_by("symbol").aggregate([("close_time", "max")]).to_pydict()
        found = dict(zip(newest["symbol"], newest["close_time_max"], strict=True))
        return {symbol: (int(found[symbol]),) if symbol in found else None for symbol in symbols}

    return versions


def quantiles(ages_ms: Sequence[float]) -> dict[str, float]:
    """p50, p95, p99 and the largest, ms."""
    cuts = statistics.quantiles(ages_ms, n=100, method="inclusive")
    return {name: round(value, 1) for name, value in zip(
        ("p50", "p95", "p99", "max"), (cuts[49], cuts[94], cuts[98], max(ages_ms)), strict=True)}


def bars_in_lake(lake: Lake, symbols: Sequence[str], since_ns: int, until_ns: int) -> tuple[Counter[str], Counter[str]]:
    """Bars and their trades by symbol, each second once, as the lake's files hold them."""
    rows = lake.rows("clean", symbols, since_ns, until_ns, ["symbol", "close_time", "trades"]).to_pylist()
    return _by_symbol({(row["symbol"], row["close_time"]): row["trades"] for row in rows})


def bars_of(bootstrap: str, partitions: int = 1) -> tuple[Counter[str], Counter[str]]:
    """Bars and their trades by symbol, each second once, as `crypto_clean` holds them."""
    from kafka import KafkaConsumer, TopicPartition

    consumer = KafkaConsumer(bootstrap_servers=bootstrap.split(","), group_id=None, auto_offset_reset="earliest")
    try:
        places = [TopicPartition(topics.CLEAN, number) for number in range(partitions)]
        consumer.assign(places)
        consumer.seek_to_beginning(*places)
        ends, found = consumer.end_offsets(places), dict[tuple[str, int], int]()
        while any(consumer.position(place) < ends[place] for place in places):
            for records in consumer.poll(timeout_ms=1000).values():
                for record in records:
                    bar = topics.decode(record.value, topics.record_schema(record.headers))
                    assert isinstance(bar, Bar)
                    found[bar.symbol, bar.close_time] = bar.trades
    finally:
        consumer.close()
    return _by_symbol(found)


def _by_symbol(trades_of: Mapping[tuple[str, int], int]) -> tuple[Counter[str], Counter[str]]:
    bars, trades = Counter[str](), Counter[str]()
    for (symbol, _), count in trades_of.items():
        bars[symbol] += 1
        trades[symbol] += count
    return bars, trades
