"""Sealer: when a second of one symbol is complete, and how many trades it has. A pure state machine.

    >>> sealer = Sealer("BTCUSDT", start=0)
    >>> _ = sealer.on_trade(example_trade(7, at=SECOND_NS // 2))
    >>> sealer.on_event_time(SECOND_NS + GRACE_NS)
    >>> [(second.close == SECOND_NS, second.n_trades, second.last_trade_id) for second in sealer.take()]
    [(True, 1, 7)]

A second is due when the symbol's event time has passed its close by the grace, or, when the symbol is silent, when
the connection has proved to be alive (`on_alive`) later than close + grace + silence. It is complete when no trade id
that could lie in it is missing; `missing()` names the ids that hold it up. After a disconnect (`on_connected`)
seconds are sealed only as far as the ids after the last known one were fetched, until all were (`on_recovered`); when
ids cannot be had (`on_unfillable`, or an outage longer than `recover_ns`) the seconds they touch are holes: no seal,
and the next seal's `prev_close` tells. Seconds that were not wholly connected are `recovered`: exact trades, no book.

`start` None begins with the first whole second after the connection.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import pairwise

from feature_repo.contracts import SECOND_NS, Trade

GRACE_NS = 250_000_000
"""No trade of 19,904 recorded ones was later than 150 ms."""
SILENCE_NS = SECOND_NS
"""How much longer than the grace a silent symbol waits for proof that the connection lives."""
RECOVER_NS = 3_600 * SECOND_NS
"""Outages up to this long are recovered by trade ids; longer ones leave holes that klines fill."""
ANEW_NS = 60 * SECOND_NS
"""A known id with a time so much later than its own is of another count."""


@dataclass(frozen=True, slots=True)
class Missing:
    """Trade ids `first`…`last` are not known; `last` None: everything from `first` on until now."""

    first: int
    last: int | None


@dataclass(frozen=True, slots=True)
class Second:
    """A complete second [close − 1 s, close): its seal but for the book. `recovered`: it was not wholly connected.

    `last_trade_id` of a second without trades is the last one before it, so that ids can be continued from any seal.
    """

    close: int
    prev_close: int | None
    n_trades: int
    first_trade_id: int | None
    last_trade_id: int | None
    recovered: bool


@dataclass(frozen=True)
class Resume:
    """Where an earlier run stopped: its last seal, the highest id sealed or before, and the trades sent after it."""

    close: int
    last_trade_id: int | None
    trades: tuple[Trade, ...] = ()


class Sealer:
    """Trades and times in, complete seconds out; the same seconds for any interleaving that keeps to the grace."""

    def __init__(
        self, symbol: str, start: int | None = None, *, grace_ns: int = GRACE_NS, silence_ns: int = SILENCE_NS,
        recover_ns: int = RECOVER_NS, anew_ns: int = ANEW_NS,
    ) -> None:
        self.symbol = symbol
        self.next_open = start
        self.prev_close: int | None = None
        self.grace_ns, self.silence_ns, self.recover_ns, self.anew_ns = grace_ns, silence_ns, recover_ns, anew_ns
        self.late = 0
        self._event_time = self._alive = 0
        self._connected_from: int | None = 0 if start is not None else None
        self._recovering = self._dropped = False
        self._pending: dict[int, Trade] = {}
        self._ahead: dict[int, int] = {}
        self._contiguous: int | None = None
        self._newest: int | None = None
        self._contiguous_time = 0
        self._last_sealed_id: int | None = None
        self._lost: list[tuple[int, int]] = []
        self._lost_from: int | None = None

    def resume(self, resume: Resume) -> None:
        """Go on after an earlier run; call before anything else, then `on_connected`."""
        self.next_open = self.prev_close = resume.close
        self._contiguous = self._last_sealed_id = resume.last_trade_id
        self._contiguous_time = resume.close - 1
        for trade in resume.trades:
            self.on_trade(trade)
        self.late = 0

    @property
    def known_until(self) -> int:
        """Event time up to which no trade id is missing."""
        return self._contiguous_time

    def knows_before(self, trade_id: int) -> bool:
        """Whether no id between the first one known and this one is missing."""
        return self._contiguous is None or trade_id <= self._contiguous + 1

    @property
    def known_id(self) -> int | None:
        """The newest trade id up to which none is missing; None before the first."""
        return self._contiguous

    @property
    def newest_id(self) -> int | None:
        """The newest trade id that has come; None before the first."""
        return self._contiguous if self._newest is None else self._newest

    @property
    def ahead(self) -> int:
        """How many trade ids have come behind those that are missing."""
        return len(self._ahead)

    @property
    def is_recovering(self) -> bool:
        """Whether everything after the last known id is being fetched."""
        return self._recovering

    def on_trade(self, trade: Trade) -> Trade | None:
        """Take a trade. Returns it as it is to be published (late or not); None for a repetition.

        `late` marks every trade that no later seal will count: of a sealed second, or of a hole. `self.late` counts
        only the first kind.
        """
        if self.next_open is None:
            return None
        if self._ids_began_anew(trade):
            self._forget_ids(trade.ts_event)
        if not self._note(trade.trade_id, trade.ts_event):
            return None
        self.on_event_time(trade.ts_event)
        if trade.ts_event < self.next_open:
            return self._after_the_seal(trade)
        self._pending[trade.trade_id] = trade
        return trade

    def on_uncounted(self, trade_id: int, ts_event: int) -> None:
        """An id that is no trade of the market: it is not missing, and no seal counts it."""
        if self.next_open is not None and self._note(trade_id, ts_event):
            self.on_event_time(ts_event)

    def on_event_time(self, ts_event: int) -> None:
        """The symbol's event time (a trade's or a depth diff's) has come to `ts_event`."""
        self._event_time = max(self._event_time, ts_event)

    def on_alive(self, now: int) -> None:
        """Everything the venue sent before venue time `now` has arrived: another stream or a pong says so."""
        self._alive = max(self._alive, now)

    def on_disconnected(self) -> None:
        """Nothing more can be complete until `on_connected`."""
        self._connected_from = None

    def on_connected(self, now: int, ids_go_on: bool = True) -> bool:
        """All trades from venue time `now` on will come. Returns whether earlier ones must be fetched (`missing`).

        `ids_go_on` False: the ids are another count than before, so nothing can be recovered by them.
        """
        self._connected_from = now
        first_whole = -(-now // SECOND_NS) * SECOND_NS
        if self.next_open is None:
            self.next_open = first_whole
        elif self._contiguous is None or not ids_go_on or now - self.next_open > self.recover_ns:
            self._skip_to(max(self.next_open, first_whole))
            self._lose_known()
            if not ids_go_on:
                self._lost, self._lost_from = [], None
        else:
            self._recovering = True
        return self._recovering

    def on_recovered(self) -> None:
        """Everything asked for by an open-ended `missing()` was fetched and given to `on_trade`.

        Not yet the end where trades were left out meanwhile: the newest of them may not have been told.
        """
        self._recovering, self._dropped = self._dropped, False

    def on_dropped(self) -> None:
        """A trade of the stream was left out: it is fetched in its turn."""
        self._dropped = True

    def on_unfillable(self, missing: Missing) -> None:
        """Ids that nobody can tell: the seconds in which they may lie become holes.

        Open-ended, nothing more is fetched before the oldest id that came since; else fetching goes on behind them.
        """
        if self._contiguous is None or missing.first != self._contiguous + 1:
            return
        self._recovering = self._recovering and missing.last is not None
        if not self._ahead:
            self._skip_to(max(self.next_open or 0, self._second_after(self._connected_from or self._event_time)))
            self._lose_known()
            return
        after = min(self._ahead)
        touched = self._ahead[after]
        self._lost.append((self._contiguous + 1, after - 1))
        self._contiguous = self._last_sealed_id = after - 1
        self._skip_to(max(self.next_open or 0, self._second_after(touched)))
        self._advance()

    def missing(self) -> Missing | None:
        """The ids that hold up a due second, or all since the last known one after a reconnect."""
        if self._contiguous is None:
            return None
        if self._recovering:
            return Missing(self._contiguous + 1, None)
        if self._ahead and self._is_due() and self._contiguous_time < self._close():
            return Missing(self._contiguous + 1, min(self._ahead) - 1)
        return None

    def take_lost(self) -> list[tuple[int, int]]:
        """Ids, first to last, that lie in holes and were not given to `on_trade`; each is told once."""
        lost, self._lost = self._lost, []
        return lost

    def take(self) -> Iterable[Second]:
        """The seconds that are due and complete, in order; each is given once."""
        while self._is_due() and not self._is_held_up():
            yield self._seal()

    def _after_the_seal(self, trade: Trade) -> Trade | None:
        if self.prev_close is None:
            return None  # before the first seal: the backfilled bars hold it
        self.late += trade.ts_event < self.prev_close
        return trade.model_copy(update={"late": True})

    def _close(self) -> int:
        assert self.next_open is not None
        return self.next_open + SECOND_NS

    def _is_due(self) -> bool:
        if self.next_open is None or self._connected_from is None:
            return False
        wait = self._close() + self.grace_ns
        return self._event_time >= wait or self._alive >= wait + self.silence_ns

    def _is_held_up(self) -> bool:
        # A missing id lies between its neighbours in time: it can touch this second only if the id before it does.
        if self._recovering:
            return self._contiguous_time < self._close() + self.grace_ns
        return bool(self._ahead) and self._contiguous_time < self._close()

    def _seal(self) -> Second:
        assert self.next_open is not None
        opened, close = self.next_open, self._close()
        ids = sorted(i for i, trade in self._pending.items() if trade.ts_event < close)
        for trade_id in ids:
            del self._pending[trade_id]
        self._last_sealed_id = ids[-1] if ids else self._last_sealed_id
        second = Second(
            close, self.prev_close, len(ids), ids[0] if ids else None, self._last_sealed_id,
            recovered=opened < (self._connected_from or 0),
        )
        self.next_open = self.prev_close = close
        return second

    def _note(self, trade_id: int, ts_event: int) -> bool:
        """Remember that an id is known; False when it was."""
        known = self._begin_with(trade_id) if self._contiguous is None else self._contiguous
        if trade_id <= known or trade_id in self._ahead:
            return False
        self._newest = max(trade_id, self._newest or trade_id)
        self._ahead[trade_id] = ts_event
        self._advance()
        return True

    def _begin_with(self, trade_id: int) -> int:
        known = self._contiguous = trade_id - 1
        if self._lost_from is not None and self._lost_from <= known:
            self._lost.append((self._lost_from, known))
            self._last_sealed_id = known
        self._lost_from = None
        return known

    def _lose_known(self) -> None:
        """Wait for no id after the last known one: those between it and the next one that comes are lost."""
        if self._contiguous is not None:
            known = [self._contiguous, *sorted(self._ahead)]
            self._lost += [(before + 1, after - 1) for before, after in pairwise(known) if before + 1 < after]
            self._lost_from = known[-1] + 1
        self._forget_known()

    def _advance(self) -> None:
        while self._contiguous is not None and self._contiguous + 1 in self._ahead:
            self._contiguous += 1
            self._contiguous_time = max(self._contiguous_time, self._ahead.pop(self._contiguous))

    def _ids_began_anew(self, trade: Trade) -> bool:
        # Ids and times rise together; a known id with a new time is another count (another recording, a reset venue).
        return (
            self._contiguous is not None and trade.trade_id <= self._contiguous
            and trade.ts_event > self._contiguous_time + self.anew_ns
        )

    def _forget_ids(self, time: int) -> None:
        self._skip_to(max(self.next_open or 0, self._second_after(time)))
        self._forget_known()
        self._lost, self._lost_from = [], None

    def _forget_known(self) -> None:
        self._contiguous = self._newest = None
        self._ahead.clear()
        self._recovering = self._dropped = False

    def _skip_to(self, opened: int) -> None:
        """Leave a hole: seal nothing before `opened`."""
        self.next_open = opened
        self._pending = {i: trade for i, trade in self._pending.items() if trade.ts_event >= opened}

    @staticmethod
    def _second_after(time: int) -> int:
        return time // SECOND_NS * SECOND_NS + SECOND_NS


def example_trade(trade_id: int, at: int, price: float = 10.0, quantity: float = 1.0) -> Trade:
    """A trade at event time `at`, for examples."""
    return Trade(
        symbol="BTCUSDT", ts_event=at, ts_init=at, source="simulated", session="example", trade_id=trade_id,
        price=price, quantity=quantity, buyer_is_maker=False,
    )
