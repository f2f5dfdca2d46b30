"""Load: many made symbols in real time straight into Kafka, as ingest would write them.

    load = Load(bootstrap, symbols, rate=20)
    load.start(); load.burst(400, 10, within_s=120); load.stop()

Trades are written when they happen, seals a quarter of a second after their close.
"""

from __future__ import annotations

import threading
import time
from collections import Counter, deque
from collections.abc import Sequence
from copy import copy
from dataclasses import dataclass, field
from typing import NamedTuple

from feature_repo.contracts import NANOS, SECOND_NS
from infra.drill.batches import Batches, BatchSender, batch
from infra.drill.made_market import GRACE_NS, MadeMarket

SLICE_NS = SECOND_NS // 10


def symbols(count: int) -> tuple[str, ...]:
    """Names of made instruments."""
    return tuple(f"LOAD{number:03d}USDT" for number in range(count))


@dataclass
class Load:
    """A producer of `rate` trades a second and symbol, from whole second to whole second."""

    bootstrap: str
    symbols: Sequence[str]
    rate: int
    sent: Counter[str] = field(default_factory=Counter)
    """Trades by symbol, stored and sealed."""
    seals: Counter[str] = field(default_factory=Counter)
    behind_s: float = 0.0
    """The most by which writing was late: above some tenths the load was not what was asked for."""
    last_close: int = 0
    """Of the last second that was written."""
    error: BaseException | None = None
    """What ended it before it was stopped."""
    _waiting: list[Due] = field(default_factory=list)
    _bursts: deque[tuple[int, int]] = field(default_factory=deque)
    _burst_ended: threading.Event = field(default_factory=threading.Event)
    _stopping: threading.Event = field(default_factory=threading.Event)
    _thread: threading.Thread | None = None

    def start(self) -> None:
        self._thread = threading.Thread(target=self._run, name="load", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """End with a whole second. Raises what ended it before."""
        self._stopping.set()
        assert self._thread is not None, "started first"
        self._thread.join()
        if self.error is not None:
            raise self.error

    def burst(self, rate: int, seconds: int, within_s: float) -> Burst:
        """Write `rate` trades a second and symbol for some seconds; returns when they are written.

        They are made before the first of them is due: meanwhile, for some seconds, nothing is written.
        """
        self._burst_ended.clear()
        self.behind_s = 0.0
        self._bursts.append((rate, seconds))
        if not self._burst_ended.wait(within_s):
            raise TimeoutError(f"expected the burst to be written within {within_s:g} s")
        return Burst(rate * len(self.symbols) * seconds, self.last_close - seconds * SECOND_NS, self.last_close,
                     self.behind_s)

    def _run(self) -> None:
        opened = time.time_ns() // SECOND_NS * SECOND_NS + 2 * SECOND_NS
        markets = [MadeMarket(symbol, seed, opened) for seed, symbol in enumerate(self.symbols)]
        try:
            with BatchSender(self.bootstrap) as sender:
                while not self._stopping.is_set():
                    if self._bursts:
                        opened = self._write_burst(sender, markets, *self._bursts.popleft())
                    self._write(sender, second(markets, opened, self.rate))
                    opened += SECOND_NS
                self._write(sender, [])
        except BaseException as error:  # noqa: BLE001 raised again by `stop`, in the thread that waits for it
            self.error = error

    def _write_burst(self, sender: BatchSender, markets: list[MadeMarket], rate: int, seconds: int) -> int:
        """Returns when the second after the burst opens."""
        self._write(sender, [])
        began = time.monotonic()
        second([copy(market) for market in markets], 0, rate)
        made_s = 1.5 * seconds * (time.monotonic() - began) + 2.0
        first = (time.time_ns() + int(made_s * NANOS)) // SECOND_NS * SECOND_NS
        for made in [second(markets, first + number * SECOND_NS, rate) for number in range(seconds)]:
            self._write(sender, made)
        self._write(sender, [])
        self._burst_ended.set()
        return time.time_ns() // SECOND_NS * SECOND_NS + SECOND_NS

    def _write(self, sender: BatchSender, made: list[Due]) -> None:
        """Send a second and the seals of the one before, each when it is due; this one's seals wait."""
        trades, seals = made[:-1], made[-1:]
        for due in sorted([*self._waiting, *trades]):
            ahead_s = (due.at - time.time_ns()) / NANOS
            time.sleep(max(0.0, ahead_s))
            self.behind_s = max(self.behind_s, -ahead_s)
            sender.send(due.batches)
            if due.closes:
                self._count(due)
        self._waiting = seals

    def _count(self, due: Due) -> None:
        self.last_close = due.closes
        for symbol in self.symbols:
            self.sent[symbol] += due.rate
            self.seals[symbol] += 1


@dataclass(frozen=True)
class Burst:
    """What was written: trades, the open of its first second, the close of its last, by how much it was late."""

    trades: int
    opened: int
    closed: int
    behind_s: float

    @property
    def per_s(self) -> float:
        return self.trades / ((self.closed - self.opened) / NANOS + self.behind_s)


class Due(NamedTuple):
    """Batches and when they are to be sent, ns; of seals, also what they close and how many trades each has."""

    at: int
    batches: Batches
    closes: int = 0
    rate: int = 0


def second(markets: Sequence[MadeMarket], opened: int, rate: int) -> list[Due]:
    """One second of every market: what has happened since goes out every `SLICE_NS`, at last the seals."""
    close = opened + SECOND_NS
    trades = [list(market.trades(opened, rate)) for market in markets]
    slices = SECOND_NS // SLICE_NS
    made: list[Due] = []
    for number in range(slices):
        part = slice(-(-rate * number // slices), -(-rate * (number + 1) // slices))
        batches = [(found[0].topic, batch(found)) for found in (records[part] for records in trades) if found]
        made += [Due(opened + (number + 1) * SLICE_NS, batches)] if batches else []
    seals = [market.seal(close, rate) for market in markets]
    return [*made, Due(close + GRACE_NS, [(seal.topic, batch([seal])) for seal in seals], close, rate)]
