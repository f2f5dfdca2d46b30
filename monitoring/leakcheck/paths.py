"""Paths: the ways by which the product computes a feature row, each as a function of a world.

    records = tell(world)          trades, seals and history, in the order in which they became known
    stream(world, records)         through `SymbolStream`, many rows at once as behind a backlog
    recomputed(world, records)     through `recompute`, every bar first: what parity and the time machine use
    planted(feature)               the same of one declaration as if it stood in `FEATURES`

Nothing is computed here: a second is only told again as the venue and ingest would have told it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from itertools import count
from typing import Any

import numpy as np

from feature_repo import topics
from feature_repo.contracts import BOOK_FIELDS, MINUTE_NS, SECOND_NS, Bar, FeatureRow, Message, SecondClosed, Trade
from feature_repo.features import FEATURE_NAMES, Feature, compute
from feature_repo.history import BarHistory
from monitoring.leakcheck.world import Table, World
from streaming.bars import STEP, to_steps
from streaming.recompute import recompute
from streaming.symbol_stream import Event, SymbolStream

SEQUENCE = "forecast_sequence"
PARTS = 4


Records = list[tuple[str, bytes]]
Path = Callable[[World, Records], Table]


def tell(world: World) -> Records:
    """A world as the trades topic holds it: schema and body of each record."""
    return [(topics.header(message), topics.encode(message)) for message in messages(world)]


def stream(world: World, records: Records) -> Table:
    """Feature rows as the stream sends them, all from one batch."""
    trades = topics.trades_topic(world.symbol)
    events = [Event(0, offset, 0, trades, schema, body) for offset, (schema, body) in enumerate(records)]
    sent = (out for out in SymbolStream.new(world.symbol).apply(events) if out.topic == topics.FEATURES)
    rows = [row for out in sent if isinstance(row := topics.decode(out.body, out.schema), FeatureRow)]
    asked = set(world.asked)
    return _table([row for row in rows if row.ts_event in asked])


def recomputed(world: World, records: Records) -> Table:
    """The rows that parity makes again from raw, and the model's sequence at each, as one number of its bits."""
    again = recompute(world.symbol, [{"schema": schema, "value": body} for schema, body in records])
    closes = [close for close in world.asked if close in again.closes]
    table = _table(again.rows(closes))
    bits = np.array([_digest(again.sequence(close)) for close in closes])
    return Table((*table.names, SEQUENCE), table.decided_ns, np.column_stack([table.values, bits]))


def planted(feature: Feature, ahead_ns: int = 0) -> Path:
    """The path of a declaration as if it stood in `FEATURES`, over the whole history.

    `ahead_ns`: how far ahead of a row's close its windows end; what is not 0 is a leak.
    """

    def path(world: World, records: Records) -> Table:  # noqa: ARG001 - a path's signature
        history = BarHistory(world.symbol, seconds_kept=4_000, minutes_kept=4_000)
        for bar in world.bars:
            history.push(bar)
        created = {bar.close_time: bar.created for bar in world.bars}
        closes = np.array([close for close in world.asked if close in created], dtype=np.int64)
        decided = np.array([created[close] for close in closes.tolist()], dtype=np.int64)
        return Table((feature.name,), decided, compute(history.windows(closes + ahead_ns), (feature,)))

    return path


def _table(rows: Sequence[FeatureRow]) -> Table:
    decided = np.array([row.created for row in rows], dtype=np.int64)
    values = [[math.nan if (x := row.values[name]) is None else x for name in FEATURE_NAMES] for row in rows]
    return Table(FEATURE_NAMES, decided, np.array(values, dtype=np.float64).reshape(len(rows), len(FEATURE_NAMES)))


def _digest(sequence: Any) -> float:
    """A number that differs when a bit of a sequence does; 48 bits fit a float."""
    import hashlib

    return float(int.from_bytes(hashlib.sha256(sequence.tobytes()).digest()[:6], "little"))


def messages(world: World) -> Iterator[Message]:
    """A world as the records of the trades topic: history as bars, then seconds as trades and a seal.

    A seal closes the last minute where there is no second at all: history is settled when the first second closes.
    """
    ids, previous, settled = count(1), None, False
    for bar in world.bars:
        if bar.interval_s == 60 or bar.close_time <= world.live_from:
            yield bar
            continue
        yield from _second(bar, ids, previous)
        previous, settled = bar.close_time, True
    if not settled and world.bars:
        last = world.bars[-1]
        close = (max(bar.close_time for bar in world.bars) // MINUTE_NS + 1) * MINUTE_NS + SECOND_NS
        closing = {"interval_s": 1, "close_time": close, "created": close + SECOND_NS, "ts_init": close + SECOND_NS,
                   "volume": 1.0, "trades": PARTS}
        yield from _second(last.model_copy(update=closing), ids, None)


def _second(bar: Bar, ids: Iterator[int], previous: int | None) -> Iterator[Message]:
    trades = list(_trades(bar, ids)) if bar.trades else []
    yield from trades
    book = {name: getattr(bar, name) for name in BOOK_FIELDS}
    yield SecondClosed(
        symbol=bar.symbol, ts_event=bar.close_time, ts_init=bar.created, source=bar.source, session=bar.session,
        close=bar.close_time, prev_close=previous, n_trades=len(trades),
        first_trade_id=trades[0].trade_id if trades else None, last_trade_id=trades[-1].trade_id if trades else None,
        **book,
    )


def _trades(bar: Bar, ids: Iterator[int]) -> Iterator[Trade]:
    """Four trades that make the bar's open, low, high and close, its volume and about its taker volume."""
    steps = max(to_steps(bar.volume), PARTS)
    sizes = [steps // PARTS] * (PARTS - 1)
    sizes.append(steps - sum(sizes))
    bought = 0.5 if bar.taker_buy_volume is None or not bar.volume else bar.taker_buy_volume / bar.volume
    opened = bar.close_time - SECOND_NS
    for n, (price, size) in enumerate(zip((bar.open, bar.low, bar.high, bar.close), sizes, strict=True)):
        yield Trade(
            symbol=bar.symbol, ts_event=opened + n + 1, ts_init=bar.created, source=bar.source, session=bar.session,
            trade_id=next(ids), price=price, quantity=size / STEP, buyer_is_maker=n >= round(PARTS * bought),
        )
