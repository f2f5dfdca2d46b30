"""Seconds: trades and seals of one symbol in, closed second bars out, the same however they are batched.

    >>> from feature_repo.contracts import SECOND_NS, SecondClosed
    >>> from feature_repo.contracts import Trade
    >>> common = {"symbol": "BTCUSDT", "ts_init": 1, "source": "recording", "session": "s"}
    >>> trade = Trade(ts_event=7, trade_id=1, price=10.0, quantity=0.5, buyer_is_maker=False, **common)
    >>> seal = SecondClosed(ts_event=SECOND_NS, close=SECOND_NS, prev_close=None, n_trades=1,
    ...                     first_trade_id=1, last_trade_id=1, **common)
    >>> seconds = Seconds("BTCUSDT")
    >>> seconds.take(seal)
    []
    >>> [closed.bar.close for closed in seconds.take(trade)]
    [10.0]
    >>> seconds.take(seal)
    []

A second closes when its seal and its n distinct trades are there. Seals form a chain by `prev_close`: one
that is not next waits, because it may only have come early; when `PATIENCE` younger seals have come it was
a hole, and the stream goes on behind it. Everything depends on the order of the messages alone, never on a clock.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field

from feature_repo.contracts import SECOND_NS, Bar, InvalidMessage, Message, SecondClosed, Trade
from streaming.bars import Tick, close_second, tick_of

PATIENCE = 5
"""Younger seals that may come before a missing seal or trade is given up."""
AHEAD_NS = 10 * SECOND_NS
"""How far a trade's time may lie ahead of the moment we made its message."""


@dataclass(frozen=True)
class Closed:
    """A second that closed, as its bar."""

    bar: Bar


@dataclass(frozen=True)
class History:
    """A bar of the venue's own history, from before the second that closes next."""

    bar: Bar


@dataclass(frozen=True)
class GivenUp:
    """A sealed second whose trades never came: no bar, a hole."""

    seal: SecondClosed
    found: int

    @property
    def detail(self) -> str:
        return f"expected {self.seal.n_trades} trades of the second closing at {self.seal.close}, found {self.found}"


Outcome = Closed | History | GivenUp


@dataclass
class Seconds:
    """What one symbol waits for. A pure function of the messages taken, in order."""

    symbol: str
    last_close: int | None = None
    """Close of the last second that was closed or given up, ns."""
    last_price: float | None = None
    """Price to carry into a second without trades."""
    trades: dict[int, Tick] = field(default_factory=dict)
    """Waiting trades by id."""
    seals: dict[int, SecondClosed] = field(default_factory=dict)
    counts: Counter[str] = field(default_factory=Counter)
    """Messages left out since the counts were last taken: late, resent."""
    _of_second: defaultdict[int, list[Tick]] = field(default_factory=lambda: defaultdict(list), init=False)
    """Close → its waiting trades, so that a backlog of many seconds is looked through once, not once a second."""

    def __post_init__(self) -> None:
        for tick in self.trades.values():
            self._of_second[_close_of(tick)].append(tick)

    def take(self, message: Message) -> Sequence[Outcome]:
        """What becomes certain by one more message. Raises `InvalidMessage` for one that has no place here."""
        if isinstance(message, Trade):
            return self.take_tick(tick_of(message))
        if isinstance(message, SecondClosed):
            self._take_seal(message)
        elif isinstance(message, Bar):
            return self._take_bar(message)
        else:
            raise InvalidMessage(f"expected a Trade, SecondClosed or Bar, found a {type(message).__name__}")
        return self._advance()

    def take_tick(self, tick: Tick) -> Sequence[Outcome]:
        """`take` of a trade that was read in bulk."""
        if tick.ts_event > tick.ts_init + AHEAD_NS:
            ahead_ns = tick.ts_event - tick.ts_init
            raise InvalidMessage(f"trade {tick.trade_id}: its time is {ahead_ns} ns ahead of ours")
        close = _close_of(tick)
        if tick.late:
            self.counts["late"] += 1
        elif self._is_past(close) or tick.trade_id in self.trades:
            self.counts["resent"] += 1
        else:
            self.trades[tick.trade_id] = tick
            self._of_second[close].append(tick)
            # Only a trade of the second that is waited for can make anything certain.
            if self.seals and close == min(self.seals):
                return self._advance()
        return ()

    def _take_seal(self, seal: SecondClosed) -> None:
        if seal.close % SECOND_NS:
            raise InvalidMessage(f"expected a seal of a whole second, found the close {seal.close}")
        if self._is_past(seal.close) or seal.close in self.seals:
            self.counts["resent"] += 1
        else:
            self.seals[seal.close] = seal

    def _take_bar(self, bar: Bar) -> list[Outcome]:
        if bar.close_time % (bar.interval_s * SECOND_NS):
            raise InvalidMessage(f"expected a bar of whole {bar.interval_s} s, found the close {bar.close_time}")
        if self._is_past(bar.close_time):
            self.counts["resent"] += 1
            return []
        self.last_price = bar.close
        return [History(bar)]

    def _is_past(self, close: int) -> bool:
        return self.last_close is not None and close <= self.last_close

    def _advance(self) -> list[Outcome]:
        outcomes: list[Outcome] = []
        while (seal := self._next_seal()) is not None:
            ready = self._trades_of(seal)
            if len(ready) == seal.n_trades:
                outcomes += self._close(seal, ready)
            elif len(self.seals) > PATIENCE:
                outcomes.append(GivenUp(seal, len(ready)))
            else:
                break
            self._move_to(seal.close)
        return outcomes

    def _next_seal(self) -> SecondClosed | None:
        """The oldest waiting seal, if it follows our last close or what lies between is given up."""
        if not self.seals:
            return None
        oldest = self.seals[min(self.seals)]
        follows = self.last_close is None or oldest.prev_close is None or oldest.prev_close <= self.last_close
        return oldest if follows or len(self.seals) > PATIENCE else None

    def _trades_of(self, seal: SecondClosed) -> list[Tick]:
        first, last = seal.first_trade_id, seal.last_trade_id
        return [
            tick for tick in self._of_second.get(seal.close, ())
            if (first is None or tick.trade_id >= first) and (last is None or tick.trade_id <= last)
        ]

    def _close(self, seal: SecondClosed, ready: list[Tick]) -> list[Outcome]:
        if not ready and self.last_price is None:
            return []  # nothing was ever traded here: there is no price to carry, so no bar
        bar = close_second(seal, ready, self.last_price)
        self.last_price = bar.close
        return [Closed(bar)]

    def _move_to(self, close: int) -> None:
        self.last_close = close
        self.seals = {at: seal for at, seal in self.seals.items() if at > close}
        for past in [at for at in self._of_second if at <= close]:
            for tick in self._of_second.pop(past):
                del self.trades[tick.trade_id]


def _close_of(tick: Tick) -> int:
    return tick.ts_event // SECOND_NS * SECOND_NS + SECOND_NS
