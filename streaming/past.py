"""Past: the bars of a span of time as another witness tells them: the venue's klines, trade files, or the raw zone.

    past = of_files([Path("BTCUSD2019-10-01.csv.gz")], "BTCUSD-PERP.BYBIT", span)
    past = of_raw(lake, "BTCUSDT", span)
    past = await klines(rest, "BTCUSDT", span, "1m", origin)

A span is the closes in (start, end]. What a witness cannot tell (an archive of aggregates the number of trades) is not
in `tells` and is never compared.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from feature_repo import topics
from feature_repo.contracts import DAY_NS, HOUR_NS, MINUTE_NS, SECOND_NS, Bar
from feature_repo.lake_reader import Lake
from streaming.backfill import closed_bars
from streaming.frame_bars import read_bars
from streaming.recompute import recompute
from streaming.stretch import Stretch, topic_records, within
from streaming.venues.binance_rest import Identity, RestClient

Witness = Literal["klines", "files", "raw"]
AMOUNTS = ("open", "high", "low", "close", "volume", "quote_volume", "taker_buy_volume")
LEAD_NS = 10 * MINUTE_NS
"""Raw records before a span: a silent second at its start carries a price from there."""


class NothingTold(ValueError):
    """A witness knows nothing of a span."""


@dataclass(frozen=True)
class Past:
    """Bars of one symbol, ascending by (interval, close), each once, and what of them is known."""

    witness: Witness
    bars: tuple[Bar, ...]
    tells: tuple[str, ...] = (*AMOUNTS, "trades")

    def by_hour(self) -> Iterator[tuple[int, Past]]:
        """Start of each hour of which it tells, ascending, and the past of its closes in (start, start + 1 h]."""
        hours: dict[int, list[Bar]] = defaultdict(list)
        for bar in self.bars:
            hours[(bar.close_time - 1) // HOUR_NS * HOUR_NS].append(bar)
        for start in sorted(hours):
            yield start, Past(self.witness, tuple(hours[start]), self.tells)


async def klines(rest: RestClient, symbol: str, span: Stretch, interval: str, origin: Identity) -> Past:
    """The venue's klines of `1m` or `1s`. Raises `ValueError` where the market has none of that length."""
    length = {"1m": MINUTE_NS, "1s": SECOND_NS}.get(interval)
    if length is None or (interval == "1s" and not rest.market.tells_seconds):
        raise ValueError(f"--interval: expected 1m{' or 1s' if rest.market.tells_seconds else ''}, found {interval!r}")
    bars: list[Bar] = []
    # A kline opens its length before its close; a day at a time is some pages of minutes, ninety of seconds.
    for start in range(span.start_ns // length * length, span.end_ns, DAY_NS):
        end = min(start + DAY_NS, span.end_ns)
        bars += closed_bars(symbol, await rest.klines(symbol, interval, start, end), span.end_ns, origin)
    return _past("klines", bars, span)


def of_files(paths: Sequence[Path], symbol: str, span: Stretch) -> Past:
    """Second bars of trade archives and recorded frames. Raises `ValueError` when they hold none of the symbol."""
    found = read_bars(list(paths))
    if symbol not in found.bars:
        raise ValueError(f"--frames: expected files of {symbol}, found {', '.join(sorted(found.bars)) or 'no bars'}")
    tells = AMOUNTS if "fills" in found.facts else (*AMOUNTS, "trades")
    return _past("files", map(_as_backfilled, found.bars[symbol]), span, tells)


def of_raw(lake: Lake, symbol: str, span: Stretch) -> Past:
    """The bars that the stream should have made of the raw zone's records, as they were known.

    Raises `NothingTold` when the hours around the span hold no record that makes one.
    """
    wider = Stretch(max(span.start_ns - LEAD_NS, 0), span.end_ns, (symbol,))
    records = within(wider, topic_records(lake, wider, topics.trades_topic(symbol), anywhere=False))
    again = recompute(symbol, ({"schema": record.schema, "value": record.value} for record in records))
    past = _past("raw", again.bars, span)
    if not past.bars:
        raise NothingTold(f"--source raw: expected records of {symbol} in the raw zone, closes in "
                         f"({span.start_ns}, {span.end_ns}] ns; found none, as after retention: take --source klines, "
                         "or --frames")
    return past


def _as_backfilled(bar: Bar) -> Bar:
    """Known one second after its close."""
    if bar.provenance == "backfill":
        return bar
    known_ns = bar.close_time + SECOND_NS
    return bar.model_copy(update={"created": known_ns, "ts_init": known_ns, "provenance": "backfill"})


def _past(witness: Witness, bars: Iterable[Bar], span: Stretch, tells: tuple[str, ...] = Past.tells) -> Past:
    inside = {(bar.interval_s, bar.close_time): bar for bar in bars if span.start_ns < bar.close_time <= span.end_ns}
    return Past(witness, tuple(inside[at] for at in sorted(inside)), tells)
