"""Made market: what ingest would write for a symbol, made quickly, for loads that no recording has.

    market = MadeMarket("AAAUSDT", seed=1, begin_ns=0)
    records = [*market.history(1570), *market.second(30)]     # 30 trades and their seal

A random walk with a book around it; times, ids and seals are as ingest writes them.
"""

from __future__ import annotations

import io
import random
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import fastavro

from feature_repo import topics
from feature_repo.contracts import MINUTE_NS, SECOND_NS, Bar, Message, SecondClosed, Trade

GRACE_NS = SECOND_NS // 4
TICK = 0.01
_TRADE = topics.header(Trade).encode()


class Record(NamedTuple):
    """One Kafka record."""

    topic: str
    key: bytes
    schema: bytes
    value: bytes


@dataclass
class MadeMarket:
    """One symbol. `begin_ns` is a whole minute: the first second opens there, history ends there."""

    symbol: str
    seed: int
    begin_ns: int
    price: float = 60_000.0
    trade_id: int = 0
    sealed: int | None = None
    """Close of the last second."""
    _random: random.Random = field(init=False)

    def __post_init__(self) -> None:
        self._random = random.Random(self.seed)

    def history(self, minutes: int) -> Iterator[Record]:
        """The minute bars before the market begins, oldest first."""
        for close in range(self.begin_ns - (minutes - 1) * MINUTE_NS, self.begin_ns + 1, MINUTE_NS):
            opened, self.price = self.price, self._step()
            yield self._record(Bar(
                **self._common(close, close + SECOND_NS), interval_s=60, open_time=close - MINUTE_NS, close_time=close,
                open=opened, high=max(opened, self.price) + 1.0, low=min(opened, self.price) - 1.0, close=self.price,
                volume=5.0, quote_volume=5.0 * self.price, vwap=self.price, trades=900, taker_buy_volume=2.5,
                created=close + SECOND_NS, provenance="backfill",
            ))

    def second(self, n: int) -> Iterator[Record]:
        """The next second: `n` trades in order, then its seal."""
        opened = self.begin_ns if self.sealed is None else self.sealed
        yield from self.trades(opened, n)
        yield self.seal(opened + SECOND_NS, n)

    def trades(self, opened: int, n: int) -> Iterator[Record]:
        """`n` trades spread over the second that opens then."""
        for number in range(n):
            at = opened + SECOND_NS * number // n
            yield self._trade(at, at + 2_000_000)

    def seal(self, close: int, n: int) -> Record:
        """The seal of the last `n` trades."""
        seal = SecondClosed(
            **self._common(close, close + GRACE_NS), close=close, prev_close=self.sealed, n_trades=n,
            first_trade_id=self.trade_id - n + 1 if n else None, last_trade_id=self.trade_id if n else None,
            book_valid=True, bid_price=self.price - TICK, ask_price=self.price + TICK, bid_quantity=1.5,
            ask_quantity=0.5, bid_quantity_5=3.0, ask_quantity_5=4.0, bid_quantity_10=6.0, ask_quantity_10=5.0,
            bid_quantity_20=11.0, ask_quantity_20=12.0, bid_depth_10bps=40.0, ask_depth_10bps=41.0,
            bid_depth_25bps=90.0, ask_depth_25bps=80.0, order_flow_imbalance=self._random.random() - 0.5,
        )
        self.sealed = close
        return self._record(seal)

    def _trade(self, at: int, made: int) -> Record:
        self.trade_id += 1
        self.price = self._step()
        body = io.BytesIO()
        fastavro.schemaless_writer(body, topics.parsed_schema(Trade), {
            **self._common(at, made), "trade_id": self.trade_id, "price": self.price,
            "quantity": self._random.randrange(1, 100_000) / 1e5, "buyer_is_maker": self._random.random() < 0.5,
            "late": False,
        })
        return Record(topics.trades_topic(self.symbol), self.symbol.encode(), _TRADE, body.getvalue())

    def _step(self) -> float:
        return round(max(1.0, self.price + self._random.choice((-TICK, 0.0, TICK))), 2)

    def _common(self, at: int, made: int) -> dict[str, Any]:
        return {"symbol": self.symbol, "ts_event": at, "ts_init": made, "source": "simulated", "session": "load"}

    def _record(self, message: Message) -> Record:
        schema = topics.header(message).encode()
        return Record(topics.trades_topic(self.symbol), self.symbol.encode(), schema, topics.encode(message))
