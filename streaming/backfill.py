"""Backfill: the venue's own klines as bars, for the time before the stream and for holes in it.

    >>> row = [0, "10.0", "12.0", "9.0", "11.0", "3.0", 999, "31.5", 4, "1.0", "10.5", "0"]
    >>> bar = kline_bar("BTCUSDT", row, Identity("recording", "s"))
    >>> bar.interval_s, bar.close_time == SECOND_NS, bar.vwap, bar.created == 2 * SECOND_NS, bar.provenance
    (1, True, 10.5, True, 'backfill')

A backfilled bar is known one second after its close. A kline is a bar only once its interval has ended.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from pydantic import ValidationError

from feature_repo.contracts import MINUTE_NS, SECOND_NS, Bar, InvalidMessage
from streaming.bars import STEP, vwap
from streaming.venues.binance import MILLISECOND_NS, steps
from streaming.venues.binance_rest import Identity, Kline, RestClient

HISTORY_MINUTES = 1_570
"""Minute bars at first start: a day of windows and the sequence of 64 whole minutes before it."""
HISTORY_SECONDS = 1_000
"""Second bars at first start: the longest window of second bars is 15 minutes."""


@dataclass(frozen=True)
class Span:
    """Time to fill: [start_ns, end_ns), whole seconds. `start_ns` None: nothing was sealed before."""

    start_ns: int | None
    end_ns: int


def kline_bar(symbol: str, row: Kline, origin: Identity, tells_taker: bool = False) -> Bar:
    """A kline (the venue's twelve elements) as a backfilled bar. Raises `InvalidMessage` for anything else.

    `tells_taker`: a taker volume of 0 under a positive volume is a true zero, not unknown.
    """
    try:
        opened, close = int(row[0]) * MILLISECOND_NS, (int(row[6]) + 1) * MILLISECOND_NS
        volume, quote, taker, last = steps(row[5]), steps(row[7]), steps(row[9]), float(row[4])
        return Bar(
            symbol=symbol, ts_event=close, ts_init=close + SECOND_NS, source=origin.source, session=origin.session,
            interval_s=1 if close - opened == SECOND_NS else 60, open_time=opened, close_time=close,
            open=float(row[1]), high=float(row[2]), low=float(row[3]), close=last,
            volume=volume / STEP, quote_volume=quote / STEP, vwap=vwap(quote, volume, last), trades=int(row[8]),
            taker_buy_volume=taker / STEP if taker or tells_taker or not volume else None,
            created=close + SECOND_NS, provenance="backfill",
        )
    except (ValidationError, ValueError, TypeError, IndexError, AttributeError) as error:
        raise InvalidMessage(f"expected a kline, found {row!r}: {error}") from error


def closed_bars(symbol: str, rows: Sequence[Kline], end_ns: int, origin: Identity) -> list[Bar]:
    """The bars of klines that had ended at `end_ns`, ascending, each once."""
    tells_taker = _tells_taker(rows)
    bars = (kline_bar(symbol, row, origin, tells_taker) for row in rows)
    closed = {bar.close_time: bar for bar in bars if bar.close_time <= end_ns}
    return [closed[close] for close in sorted(closed)]


def _tells_taker(rows: Sequence[Kline]) -> bool:
    # Sources without taker volumes write 0 everywhere. A second in which nobody bought is common, so among second
    # klines one positive taker volume shows that the zeros are true; a minute of zero is taken as not told.
    seconds = [row for row in rows if int(row[6]) - int(row[0]) < 1_000]
    return any(steps(row[9]) for row in seconds)


async def history(rest: RestClient, symbol: str, span: Span, origin: Identity) -> list[Bar]:
    """Minute bars, then second bars, that end in a span: what the stream's reader must know before the next seal.

    Never reaches further back than first-start history does.
    """
    start = span.start_ns or 0
    first_minute = max(start // MINUTE_NS * MINUTE_NS, _minute(span.end_ns) - HISTORY_MINUTES * MINUTE_NS)
    first_second = max(start, span.end_ns - HISTORY_SECONDS * SECOND_NS)
    minutes = await rest.klines(symbol, "1m", first_minute, _minute(span.end_ns))
    tells_seconds = rest.market.tells_seconds
    seconds = await rest.klines(symbol, "1s", first_second, span.end_ns) if tells_seconds else []
    return [*closed_bars(symbol, minutes, span.end_ns, origin), *closed_bars(symbol, seconds, span.end_ns, origin)]


def _minute(time_ns: int) -> int:
    return time_ns // MINUTE_NS * MINUTE_NS
