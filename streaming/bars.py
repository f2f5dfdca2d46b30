"""Bars: seals and trades in, second and minute bars out; pure, exact, and blind to the order of arrival.

    >>> from feature_repo.contracts import Trade
    >>> def trade(i, price, quantity):
    ...     return Trade(symbol="BTCUSDT", ts_event=i, ts_init=i, source="recording", session="s",
    ...                  trade_id=i, price=price, quantity=quantity, buyer_is_maker=False)
    >>> [bar] = bars_from_trades([trade(2, 11.0, 0.2), trade(1, 10.0, 0.1)], 0, SECOND_NS)
    >>> bar.open, bar.close, bar.volume, bar.quote_volume, bar.trades
    (10.0, 11.0, 0.3, 3.2, 2)

Quantities and prices become integers (`STEP` = 1e-8) before they are summed and are divided once, so that a
sum is the float nearest to the exact decimal: the same as parsing the venue's own kline text.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple, TypeVar

from feature_repo.contracts import (
    BOOK_FIELDS,
    MINUTE_NS,
    SECOND_NS,
    Bar,
    InvalidMessage,
    Provenance,
    SecondClosed,
    Trade,
)

STEP = 10**8
"""Integer steps in one unit of price or quantity: the venues quote at most 8 decimals."""
SECONDS_PER_MINUTE = 60


def to_steps(value: float) -> int:
    """A price or quantity in integer steps of 1e-8, exact for every 8-decimal value a float can hold.

    >>> to_steps(0.1), to_steps(61837.63), to_steps(3e12)
    (10000000, 6183763000000, 300000000000000000000)
    """
    whole = int(value)
    return whole * STEP + round((value - whole) * STEP)


class Tick(NamedTuple):
    """What bars need of a trade, prices and quantities also in steps. Made of a valid `Trade`, or in bulk (`ticks`)."""

    trade_id: int
    ts_event: int
    ts_init: int
    price: float
    price_steps: int
    quantity_steps: int
    buyer_is_maker: bool
    late: bool
    body: bytes
    """The message as it came, so that it can be kept as it is; empty when nobody keeps it."""


Traded = TypeVar("Traded", Trade, Tick)


def tick_of(trade: Trade, body: bytes = b"") -> Tick:
    """The tick of one trade."""
    return Tick(
        trade.trade_id, trade.ts_event, trade.ts_init, trade.price, to_steps(trade.price), to_steps(trade.quantity),
        trade.buyer_is_maker, trade.late, body,
    )


@dataclass(frozen=True)
class Sums:
    """OHLCV of distinct trades: prices and quantities in steps, quote volume in steps of quote currency."""

    open: float
    high: float
    low: float
    close: float
    volume: int
    quote_volume: int
    taker_buy_volume: int
    trades: int
    first_trade_id: int | None
    last_trade_id: int | None


def close_bar(seal: SecondClosed, trades: Iterable[Trade], previous_close: float | None) -> Bar:
    """`close_second` of whole messages."""
    return close_second(seal, map(tick_of, trades), previous_close)


def close_second(seal: SecondClosed, ticks: Iterable[Tick], previous_close: float | None) -> Bar:
    """The second bar of a seal, the same for any order and repetition of `ticks`.

    Late trades and those of other seconds are left out. `previous_close` is the close of the bar before;
    it is the price of a second without trades. Raises `InvalidMessage` when the seal's n distinct trades
    are not all there, or when there is neither a trade nor a price to carry.
    """
    opened = seal.close - SECOND_NS
    known = distinct([t for t in ticks if not t.late and opened <= t.ts_event < seal.close])
    if len(known) != seal.n_trades:
        raise InvalidMessage(f"{seal.symbol} {seal.close}: expected {seal.n_trades} trades, found {len(known)}")
    sums = _sums(known) if known else _silence(seal.symbol, seal.close, previous_close)
    book = {name: getattr(seal, name) for name in BOOK_FIELDS}
    return _bar(
        sums, SECOND_NS, seal.close, symbol=seal.symbol, ts_init=seal.ts_init, source=seal.source,
        session=seal.session, created=seal.ts_init, **book,
    )


def bars_from_trades(
    trades: Iterable[Trade], start_ns: int, end_ns: int, previous_close: float | None = None,
    provenance: Provenance = "reconcile",
) -> list[Bar]:
    """Dense second bars of [start_ns, end_ns) (whole seconds) from all its trades, without a book.

    For history and repair, where no seal exists: known one second after the close. Seconds before the
    first trade are left out unless `previous_close` gives the price to carry.
    """
    known = distinct(t for t in trades if start_ns <= t.ts_event < end_ns)
    if not known:
        return []
    by_close: dict[int, list[Tick]] = defaultdict(list)
    for trade in known:
        by_close[trade.ts_event // SECOND_NS * SECOND_NS + SECOND_NS].append(tick_of(trade))
    sums = {close: _sums(ticks) for close, ticks in by_close.items()}
    return dense_bars(sums, known[0], start_ns, end_ns, previous_close, provenance)


def dense_bars(
    sums: Mapping[int, Sums], origin: Trade, start_ns: int, end_ns: int, previous_close: float | None = None,
    provenance: Provenance = "reconcile",
) -> list[Bar]:
    """`bars_from_trades` of seconds that are summed already, by close; `origin` is one of the trades."""
    bars: list[Bar] = []
    for close in range(start_ns + SECOND_NS, end_ns + SECOND_NS, SECOND_NS):
        if close not in sums and not previous_close:
            continue
        second = sums[close] if close in sums else _silence(origin.symbol, close, previous_close)
        bars.append(_bar(
            second, SECOND_NS, close, symbol=origin.symbol, ts_init=close + SECOND_NS, source=origin.source,
            session=origin.session, created=close + SECOND_NS, provenance=provenance,
        ))
        previous_close = second.close
    return bars


def minute_bars(bars: Iterable[Bar]) -> list[Bar]:
    """Whole minutes from second bars, ascending; a minute that lacks one of its 60 seconds is left out.

    Of several bars of one second the newest `created` counts.
    """
    seconds: dict[int, Bar] = {}
    for bar in sorted((b for b in bars if b.interval_s == 1), key=lambda b: b.created):
        seconds[bar.close_time] = bar
    minutes: dict[int, list[Bar]] = defaultdict(list)
    for close in sorted(seconds):
        minutes[(close - 1) // MINUTE_NS * MINUTE_NS + MINUTE_NS].append(seconds[close])
    return [_minute(close, parts) for close, parts in minutes.items() if len(parts) == SECONDS_PER_MINUTE]


def distinct(trades: Iterable[Traded]) -> list[Traded]:
    """Each trade id once (the first to come wins), in trade-id order."""
    by_id = {trade.trade_id: trade for trade in reversed(list(trades))}
    return [by_id[trade_id] for trade_id in sorted(by_id)]


def vwap(quote_volume: int, volume: int, close: float) -> float:
    """Volume-weighted price from integer steps, divided once; the close where nothing traded."""
    return quote_volume / volume if volume else close


def _sums(known: Sequence[Tick]) -> Sums:
    prices = [tick.price for tick in known]
    notional = sum([tick.price_steps * tick.quantity_steps for tick in known])
    return Sums(
        open=prices[0], high=max(prices), low=min(prices), close=prices[-1],
        volume=sum([tick.quantity_steps for tick in known]), quote_volume=round_half_even(notional, STEP),
        taker_buy_volume=sum([tick.quantity_steps for tick in known if not tick.buyer_is_maker]),
        trades=len(known), first_trade_id=known[0].trade_id, last_trade_id=known[-1].trade_id,
    )


def _silence(symbol: str, close: int, price: float | None) -> Sums:
    if price is None:
        raise InvalidMessage(f"{symbol} {close}: expected a trade or a previous close to carry, found neither")
    return Sums(price, price, price, price, 0, 0, 0, 0, None, None)


def _minute(close: int, seconds: Sequence[Bar]) -> Bar:
    traded = [bar for bar in seconds if bar.trades]
    newest = max(seconds, key=lambda bar: bar.created)
    book = {name: getattr(seconds[-1], name) for name in BOOK_FIELDS}
    book["order_flow_imbalance"] = _total(bar.order_flow_imbalance for bar in seconds)
    return _bar(
        _minute_sums(traded) if traded else _silence(newest.symbol, close, seconds[-1].close), MINUTE_NS, close,
        taker_buy_known=all(bar.taker_buy_volume is not None for bar in traded),
        symbol=newest.symbol, ts_init=newest.ts_init, source=newest.source, session=seconds[-1].session,
        created=newest.created, provenance=_provenance(seconds), **book,
    )


def _minute_sums(traded: Sequence[Bar]) -> Sums:
    # Only seconds with trades: a carried price is not a trade of this minute, and the venue's klines know only trades.
    first_ids = [bar.first_trade_id for bar in traded if bar.first_trade_id is not None]
    last_ids = [bar.last_trade_id for bar in traded if bar.last_trade_id is not None]
    return Sums(
        open=traded[0].open, high=max(bar.high for bar in traded), low=min(bar.low for bar in traded),
        close=traded[-1].close, volume=sum(to_steps(bar.volume) for bar in traded),
        quote_volume=sum(to_steps(bar.quote_volume) for bar in traded),
        taker_buy_volume=sum(to_steps(bar.taker_buy_volume or 0.0) for bar in traded),
        trades=sum(bar.trades for bar in traded),
        first_trade_id=min(first_ids, default=None), last_trade_id=max(last_ids, default=None),
    )


def _bar(
    sums: Sums, length_ns: int, close: int, *, taker_buy_known: bool = True, **fields: object,
) -> Bar:
    return Bar.model_validate({
        **fields,
        "ts_event": close, "interval_s": length_ns // SECOND_NS, "open_time": close - length_ns, "close_time": close,
        "open": sums.open, "high": sums.high, "low": sums.low, "close": sums.close,
        "volume": sums.volume / STEP, "quote_volume": sums.quote_volume / STEP,
        "vwap": vwap(sums.quote_volume, sums.volume, sums.close), "trades": sums.trades,
        "taker_buy_volume": sums.taker_buy_volume / STEP if taker_buy_known else None,
        "first_trade_id": sums.first_trade_id, "last_trade_id": sums.last_trade_id,
    })


def round_half_even(value: int, unit: int) -> int:
    whole, rest = divmod(value, unit)
    return whole + (2 * rest > unit or (2 * rest == unit and whole % 2 == 1))


def _total(parts: Iterable[float | None]) -> float | None:
    known = list(parts)
    return sum(x for x in known if x is not None) if all(x is not None for x in known) else None


def _provenance(bars: Sequence[Bar]) -> Provenance:
    kinds = {bar.provenance for bar in bars}
    return "reconcile" if "reconcile" in kinds else "backfill" if "backfill" in kinds else "live"
