"""Simulator: a made-up market that speaks the venue's own frames; the same seed gives the same bytes at the same time.

    >>> lines = list(simulate("BTCUSDT", seed=1, begin_ns=1_704_067_195_000_000_000, seconds=2))
    >>> lines == list(simulate("BTCUSDT", seed=1, begin_ns=1_704_067_195_000_000_000, seconds=2))
    True

One market from 2010 on, without end: every quote, trade and order is a function of seed, symbol and time, so any
minute of it can be made without the others, what is streamed and what REST tells of the past are the same market, and
an exchange started again goes on where it was. The process, its sources and its parameters: `docs/simulator.md`.
It is for running and testing without a recording. Nothing may be learnt about a market from it.

    Days       price at every minute; volatility, jumps, how many trades an hour has
    Hours      best quotes five times a second, every trade
    Ladder     the book behind the quotes
    Minutes    the venue's frames of all that
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from feature_repo.contracts import MINUTE_NS
from streaming.exchange_book import BookKeeper
from streaming.recording import Line
from streaming.simulator_days import FIRST_DAY
from streaming.simulator_hours import Hours
from streaming.simulator_minutes import SymbolMinute, symbol_minute
from streaming.tape import MS

TRADE_RATE = 4.0
"""Mean trades a second and symbol. With ten diffs and the changes of the best quotes it makes some 25 frames."""
MOST_TRADE_RATE = 50.0
SNAPSHOT_AFTER_NS = 300 * MS


def checked(seed: int, trade_rate: float) -> None:
    """Raises `ValueError` for a seed or rate that no market can be made of."""
    if seed < 0:
        raise ValueError(f"--seed: expected 0 or more, found {seed}")
    if not 1 / 60 <= trade_rate <= MOST_TRADE_RATE:
        raise ValueError(f"--trade-rate: expected {1 / 60:.2f} to {MOST_TRADE_RATE:g} a second, found {trade_rate:g}")


def simulate(
    symbol: str, seed: int, begin_ns: int, seconds: float, trade_rate: float = TRADE_RATE,
) -> Iterator[Line]:
    """What a recorder would have written in that time: frames as they are received, a REST snapshot after 0.3 s."""
    checked(seed, trade_rate)
    hours = Hours(symbol, seed, trade_rate)
    end_ns, snapshot_ns = begin_ns + round(seconds * 1e9), begin_ns + SNAPSHOT_AFTER_NS
    for number in range(begin_ns // MINUTE_NS, -(-end_ns // MINUTE_NS)):
        minute = symbol_minute(hours, number)
        for at, frame in enumerate(minute.frames):
            if begin_ns <= frame.emit_ns < end_ns:
                if frame.emit_ns >= snapshot_ns:
                    yield Line(snapshot_ns, _snapshot(minute, at))
                    snapshot_ns = end_ns
                yield Line(frame.emit_ns, frame.text)


def _snapshot(minute: SymbolMinute, frames: int) -> str:
    """The book as REST tells it when so many of the minute's frames have been sent."""
    tape = minute.tape
    book = BookKeeper(tape).after(int((tape.diffs.frame < frames).sum()))
    bids, asks = (
        [[tape.scale.price_text(ticks), tape.scale.quantity_text(steps)] for ticks, steps in side]
        for side in (sorted(book.bids.items(), reverse=True), sorted(book.asks.items()))
    )
    body: dict[str, Any] = {"lastUpdateId": book.last_id, "bids": bids, "asks": asks}
    return json.dumps(body, separators=(",", ":"))


FIRST_MS = FIRST_DAY * 86_400_000
"""Before it there is no market."""
