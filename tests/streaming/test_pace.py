"""A batch is held up until a seal is there, and never behind a backlog or for ever."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

import pytest

from feature_repo import topics
from feature_repo.contracts import SECOND_NS, Message, SecondClosed, Trade
from streaming.pace import GATHER_S, LONGEST_S, Pace
from streaming.symbol_stream import ONLINE, Output

COMMON = {"ts_init": 0, "source": "recording", "session": "s"}


def seal(second: int, symbol: str = "BTCUSDT") -> SecondClosed:
    close = second * SECOND_NS
    return SecondClosed(
        **COMMON, symbol=symbol, ts_event=close, close=close, prev_close=None, n_trades=0, first_trade_id=None,
        last_trade_id=None,
    )


def delivered(second: int, symbol: str = "BTCUSDT") -> list[Output]:
    """What a batch that closed this second gave, as far as the pace looks."""
    at = seal(second)
    message: Message = Trade(
        **COMMON, symbol=symbol, ts_event=at.close, trade_id=1, price=1.0, quantity=1.0, buyer_is_maker=False,
    )
    body = (topics.header(message), topics.encode(message))
    return [Output(topics.CLEAN, symbol, *body), Output(ONLINE, symbol, *body)]


@dataclass
class Tail:
    """A topic's tail on a made clock: what arrives, and when."""

    arrivals: list[tuple[float, SecondClosed]]
    now: float = 0.0
    waits: list[float] = field(default_factory=list)

    def watch(self, seconds: float) -> Iterable[SecondClosed]:
        self.waits.append(seconds)
        if self.arrivals and self.arrivals[0][0] <= self.now + seconds:
            self.now, arrived = max(self.now, self.arrivals[0][0]), self.arrivals.pop(0)[1]
            return [arrived]
        self.now += seconds
        return []


def test_the_next_batch_begins_with_the_next_seal() -> None:
    tail = Tail([(0.1, seal(1)), (0.7, seal(2))])
    pace = Pace(tail.watch, clock=lambda: tail.now)
    pace(delivered(1))
    assert tail.now == 0.7


def test_a_seal_that_came_during_the_batch_is_not_waited_for() -> None:
    tail = Tail([(0.1, seal(1)), (0.2, seal(3))])
    pace = Pace(tail.watch, clock=lambda: tail.now)
    pace([])
    pace(delivered(1))
    before = tail.now
    pace(delivered(2))
    assert tail.now == before


def test_without_a_seal_it_waits_no_longer_than_it_may() -> None:
    tail = Tail([])
    Pace(tail.watch, clock=lambda: tail.now)(delivered(1))
    assert tail.now == LONGEST_S


def test_behind_a_backlog_it_does_not_wait() -> None:
    tail = Tail([])
    Pace(tail.watch, clock=lambda: tail.now)([*delivered(1), *delivered(2)])
    assert tail.waits == []


def test_one_batch_takes_the_seals_of_every_symbol_that_keeps_up() -> None:
    tail = Tail([(0.50, seal(2)), (0.53, seal(2, "ETHUSDT")), (0.55, seal(2, "SOLUSDT"))])
    pace = Pace(tail.watch, clock=lambda: tail.now)
    pace([*delivered(1), *delivered(1, "ETHUSDT")])
    assert tail.now == 0.53, "of the third nothing was ever delivered: it is not waited for"


def test_a_symbol_that_has_fallen_silent_holds_nobody_up_for_long() -> None:
    tail = Tail([(0.5, seal(2))])
    pace = Pace(tail.watch, clock=lambda: tail.now)
    pace([*delivered(1), *delivered(1, "ETHUSDT")])
    assert tail.now == pytest.approx(0.5 + GATHER_S)
    tail.arrivals = [(1.5, seal(3))]
    pace(delivered(2))
    assert tail.now == pytest.approx(1.5 + GATHER_S)
    tail.arrivals = [(2.5, seal(4))]
    pace(delivered(3))
    assert tail.now == 2.5


def test_a_last_seal_that_never_became_a_bar_begins_no_batch_for_ever() -> None:
    """A removed symbol's, for one: without this every record of the others would begin a batch."""
    tail = Tail([(0.1, seal(2, "ETHUSDT")), (0.2, seal(20))])
    pace = Pace(tail.watch, clock=lambda: tail.now)
    pace(delivered(1))
    pace(delivered(1))
    tail.arrivals, before = [(0.9, seal(21))], tail.now
    pace(delivered(20))
    assert (before, tail.now) == (0.2, 0.9)
