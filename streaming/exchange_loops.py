"""Looped minutes: history before a recording that has no official klines: the recording itself, played over and over.

    minutes = looped_minutes(tape, "ETHUSDT", until_ms, days=45)

Every other lap is mirrored, as in the laps that are streamed, so that laps join to the tick. It is no more than that
loop: windows longer than the recording see its minutes again and again, as they will when it has played for a while.
"""

from __future__ import annotations

import numpy as np

from streaming.exchange_clock import Timeline
from streaming.exchange_history import Minutes
from streaming.exchange_klines import MINUTE_MS, BarRows, bars_of_trades, dense, joined
from streaming.exchange_trades import lap_trades
from streaming.tape import MS, Tape

DAY_MINUTES = 1_440


def looped_minutes(tape: Tape, symbol: str, until_ms: int, days: int) -> Minutes | None:
    """Minutes of whole days before `until_ms`, on the tape's own time axis; None for a tape without a whole minute."""
    timeline = Timeline(tape, shift_ns=0, once=False, history_laps=1)
    try:
        laps = [_lap_minutes(timeline, symbol, number) for number in (0, -1)]
    except ValueError:
        return None
    each = len(laps[0].open_ms)
    count = -(-days * DAY_MINUTES // each)
    # The newest one is mirrored: it ends with the price at which the streamed laps begin.
    parts = [
        laps[number % 2].moved(until_ms - number * each * MINUTE_MS - int(laps[number % 2].open_ms[0]))
        for number in range(count, 0, -1)
    ]
    return _minutes(joined(parts), timeline, symbol)


def _lap_minutes(timeline: Timeline, symbol: str, number: int) -> BarRows:
    lap = timeline.lap(number)
    trades = lap_trades(lap, symbol)
    begin_ms, end_ms = lap.start_ns // MS, lap.end_ns // MS
    return dense(bars_of_trades(trades, MINUTE_MS), begin_ms, end_ms, MINUTE_MS, int(trades.ticks[0]))


def _minutes(bars: BarRows, timeline: Timeline, symbol: str) -> Minutes:
    scale = timeline.first.symbols[symbol].tape.scale
    prices = (column / 10.0**scale.price for column in (bars.open, bars.high, bars.low, bars.close))
    volume, taker = (np.asarray(column / 10.0**scale.quantity) for column in (bars.volume, bars.taker_volume))
    opened, high, low, close = prices
    return Minutes(bars.open_ms, opened, high, low, close, volume, taker)
