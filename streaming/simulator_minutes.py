"""Minutes of the simulated market: one symbol's frames as the venue sends them.

    minute = symbol_minute(Hours("BTCUSDT", seed=1, trade_rate=4.0), 28_401_120)
    minute.frames[0].text                    # '{"stream":"btcusdt@bookTicker","data":{"u":2840112000021,…

Changes of a level within 100 ms are told as one, the last. No frame leaves before what it tells of, and everything of
a minute is sent within it.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable
from dataclasses import replace
from typing import NamedTuple

import numpy as np

from streaming.simulator_book import (
    ASK,
    BID,
    QUOTED,
    TRADED,
    UPDATES_PER_MINUTE,
    Changes,
    Part,
    book_at_end,
    changes_of,
    part_of,
)
from streaming.simulator_days import Ints
from streaming.simulator_hours import HOUR_MS, MINUTE_MS, TRADED_MS, Hours
from streaming.tape import MS, Diffs, Scale, Snapshot, SymbolTape, Trades

DIFF_MS = 100
LATENCY_MS, DIFF_LATENCY_MS = 2, 4
APART_NS = 10_000
"""Between frames of what happens in one millisecond."""
STREAMS = ("trade", "bookTicker", "depth@100ms")
TRADE, TICKER, DIFF = 0, 1, 2


class Frame(NamedTuple):
    """A combined-stream frame. `stream` indexes `STREAMS`; `event_ms` is 0 where the venue tells none."""

    emit_ns: int
    stream: int
    event_ms: int
    text: str


class SymbolMinute(NamedTuple):
    """One symbol's frames in the order sent, and what they hold; the tape's `frame` counts these frames."""

    frames: list[Frame]
    tape: SymbolTape


def symbol_minute(hours: Hours, minute: int) -> SymbolMinute:
    """Everything that a symbol's streams say in that minute since 1970."""
    part, opening = part_of(hours, minute), book_at_end(hours, minute - 1)
    told_ms = TRADED_MS + 40 + zlib.crc32(hours.symbol.encode()) % 54
    ladder = hours.ladder(minute // 1_440)
    changes = changes_of(part, ladder, opening, told_ms)
    return _written(hours.symbol, hours.instrument.scale, part, changes, opening, told_ms)


def _written(
    symbol: str, scale: Scale, part: Part, changes: Changes, opening: Snapshot, told_ms: int,
) -> SymbolMinute:
    """The frames, in the order sent, and the columns that point at them."""
    begin_ms = part.minute * MINUTE_MS
    diffs = _diffs(changes, told_ms % DIFF_MS, begin_ms, opening.last_id)
    texts = [
        _trade_frames(symbol, scale, part, begin_ms),
        _ticker_frames(symbol, scale, _tops(part, told_ms), changes, begin_ms, opening.last_id),
        _diff_frames(symbol, scale, diffs),
    ]
    frames = [frame for kind in texts for frame in kind]
    order = sorted(range(len(frames)), key=lambda i: frames[i].emit_ns)
    rank = np.empty(len(frames), np.int64)
    rank[order] = np.arange(len(frames))
    hour, rows = part.hour, part.trades
    trades = Trades(
        rank[: len(texts[0])], hour.number * HOUR_MS + hour.time_ms[rows],
        hour.first_id + np.arange(rows.start, rows.stop), hour.ticks[rows], hour.steps[rows],
        hour.buyer_is_maker[rows],
    )
    tape = SymbolTape(symbol, scale, trades, replace(diffs, frame=rank[-len(texts[2]) :]), (opening,))
    return SymbolMinute([frames[i] for i in order], tape)


def _diffs(changes: Changes, phase_ms: int, begin_ms: int, last_id: int) -> Diffs:
    """The last state of every level that changed within each 100 ms; `frame` is filled in later."""
    at = np.maximum(0, -((phase_ms - changes.key // 4) // DIFF_MS))
    price = np.where(changes.side == BID, -changes.ticks, changes.ticks)
    order = np.lexsort((np.arange(len(at)), price, changes.side, at))
    one = np.stack((at, changes.side, price))[:, order]
    last = np.append((np.diff(one) != 0).any(axis=0), True)
    kept = order[last]
    told, first = np.unique(at[kept], return_index=True)
    last_ids = last_id + np.searchsorted(at, told, side="right")
    last_ids[-1] = last_id + UPDATES_PER_MINUTE
    offset = np.append(first, len(kept))
    bids = np.concatenate(([0], np.cumsum(changes.side[kept] == BID)))
    previous_ids = np.concatenate(([last_id], last_ids[:-1]))
    return Diffs(
        np.empty(0, np.int64), begin_ms + told * DIFF_MS + phase_ms, previous_ids, previous_ids + 1, last_ids,
        offset, offset[:-1] + np.diff(bids[offset]), changes.ticks[kept], changes.steps[kept],
    )


def _diff_frames(symbol: str, scale: Scale, diffs: Diffs) -> list[Frame]:
    prices, quantities = _texts(scale.price_text, diffs.ticks), _texts(scale.quantity_text, diffs.steps)
    told = [f'["{price}","{quantity}"]' for price, quantity in zip(prices, quantities, strict=True)]
    columns = (diffs.time_ms, diffs.first_ids, diffs.last_ids, diffs.offset[:-1], diffs.middle, diffs.offset[1:])
    return [
        _frame(symbol, DIFF, (time_ms + DIFF_LATENCY_MS) * MS, time_ms,
               f'"e":"depthUpdate","E":{time_ms},"s":"{symbol}","U":{first},"u":{last},'
               f'"b":[{",".join(told[begin:middle])}],"a":[{",".join(told[middle:end])}]')
        for time_ms, first, last, begin, middle, end in zip(*(column.tolist() for column in columns), strict=True)
    ]


def _texts(text: Callable[[int], str], values: Ints) -> list[str]:
    """Each value as text; the same few come again and again."""
    some, at = np.unique(values, return_inverse=True)
    texts = [text(value) for value in some.tolist()]
    return [texts[i] for i in at.tolist()]


def _trade_frames(symbol: str, scale: Scale, part: Part, begin_ms: int) -> list[Frame]:
    hour, rows = part.hour, part.trades
    columns = (begin_ms + part.time_ms, hour.ticks[rows], hour.steps[rows], hour.buyer_is_maker[rows])
    return [
        _frame(symbol, TRADE, (time_ms + LATENCY_MS) * MS + TRADED * APART_NS, time_ms,
               f'"e":"trade","E":{time_ms},"s":"{symbol}","t":{trade_id},"p":"{scale.price_text(ticks)}",'
               f'"q":"{scale.quantity_text(steps)}","T":{time_ms},"m":{"true" if maker else "false"},"M":true')
        for trade_id, (time_ms, ticks, steps, maker) in enumerate(
            zip(*(column.tolist() for column in columns), strict=True), hour.first_id + rows.start)
    ]


Best = tuple[int, int]
"""Price and quantity."""


def _tops(part: Part, told_ms: int) -> list[tuple[int, tuple[Best, Best]]]:
    """(key, best bid and ask) whenever one of them may have changed."""
    found: list[tuple[int, int, Best]] = []
    renewed = (4 * np.append(part.step_ms, told_ms) + QUOTED).tolist()
    for side in (BID, ASK):
        price, steps, _ = (column.tolist() for column in part.quotes(side))
        best = zip([*price, price[-1]], [*steps, steps[-1]], strict=True)
        found += zip(renewed, [side] * len(renewed), best, strict=True)
    hour, rows = part.hour, part.trades
    sides = np.where(hour.buyer_is_maker[rows], BID, ASK).tolist()
    left = zip(hour.ticks[rows].tolist(), hour.left[rows].tolist(), strict=True)
    found += zip((4 * part.time_ms + TRADED).tolist(), sides, left, strict=True)
    tops: dict[int, tuple[Best, Best]] = {}
    best_of: dict[int, Best] = {}
    for key, side, one in sorted(found, key=lambda change: change[0]):
        best_of[side] = one
        # What happens in one ms is told once: of a sweep's trades, what it has left in the end.
        if len(best_of) == 2:
            tops[key] = (best_of[BID], best_of[ASK])
    return list(tops.items())


def _ticker_frames(
    symbol: str, scale: Scale, tops: list[tuple[int, tuple[Best, Best]]], changes: Changes, begin_ms: int, last_id: int,
) -> list[Frame]:
    updates = last_id + np.searchsorted(changes.key, [key for key, _ in tops], side="right")
    frames, seen = [], None
    for (key, top), update in zip(tops, updates.tolist(), strict=True):
        if top != seen:
            (bid, bid_steps), (ask, ask_steps) = top
            frames.append(_frame(
                symbol, TICKER, (begin_ms + key // 4 + LATENCY_MS) * MS + key % 4 * APART_NS + APART_NS // 2, 0,
                f'"u":{update},"s":"{symbol}","b":"{scale.price_text(bid)}","B":"{scale.quantity_text(bid_steps)}",'
                f'"a":"{scale.price_text(ask)}","A":"{scale.quantity_text(ask_steps)}"'))
        seen = top
    return frames


def _frame(symbol: str, stream: int, emit_ns: int, event_ms: int, payload: str) -> Frame:
    text = f'{{"stream":"{symbol.lower()}@{STREAMS[stream]}","data":{{{payload}}}}}'
    return Frame(emit_ns, stream, event_ms, text)
