"""Binance spot on the wire: frames of its combined streams as frozen structs, and what they mean here.

    >>> decoder = Decoder()
    >>> frame = decoder.frame('{"stream":"btcusdt@trade","data":{"e":"trade","E":1700000000001,"s":"BTCUSDT","t":7,'
    ...                       '"p":"61837.63","q":"0.02","T":1700000000000,"m":true,"M":true,"new":1}}')
    >>> frame.to_trade(ts_init=1, source="recording", session="s").price
    61837.63
    >>> decoder.unknown
    Counter({'trade.new': 1})

The venue's words stop here, its names of instruments too (`canonical`, `venue_word`). It adds fields without notice,
so unknown ones are ignored and counted; anything else that is not as documented is refused (`InvalidMessage`): a wrong
type, a repeated field or level, a number that is none or beyond every market, a payload of another symbol or kind than
its stream. Times of the venue are milliseconds; ours nanoseconds.
https://developers.binance.com/docs/binance-spot-api-docs/web-socket-streams
"""

from __future__ import annotations

import contextlib
import json
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal, Protocol

from pydantic import ValidationError

from feature_repo.contracts import InvalidMessage, Source, Trade

MILLISECOND_NS = 1_000_000
DECIMALS = 8
LONGEST = 20
"""Characters of the longest name the venue gives an instrument."""
WHOLE_DIGITS = 13
"""Digits before the point: more than any price or quantity that a venue quotes."""
MOST_BYTES = 512 * 1024
"""Of one frame: thousands of changed levels, ten times what the wildest 100 ms have had."""
MOST_COUNT = 2**63
MOST_NAMES = 100
"""Unknown fields that are told apart."""
STREAMS = ("trade", "depth@100ms", "bookTicker")
"""The streams followed for each symbol, as the venue names them."""

Stream = Literal["trade", "depth", "bookTicker"]
Level = tuple[int, int]
"""(price, quantity) in integer steps of 1e-8."""


class Frame(Protocol):
    """What every decoded market frame tells: its symbol and stream."""

    symbol: str
    stream: Stream


@dataclass(frozen=True, slots=True)
class TradeFrame:
    """One trade as the venue sent it; `time_ms` is the trade time `T`."""

    symbol: str
    trade_id: int
    price: str
    quantity: str
    time_ms: int
    buyer_is_maker: bool
    stream: Stream = "trade"
    counts: bool = True
    """False: an id that the venue gave to a fill outside its market (insurance fund, deleveraging)."""

    def to_trade(self, *, ts_init: int, source: Source, session: str, late: bool = False) -> Trade:
        """The trade as our message. Raises `InvalidMessage` for a price or quantity that is no positive number."""
        try:
            return Trade(
                symbol=self.symbol, ts_event=self.time_ms * MILLISECOND_NS, ts_init=ts_init, source=source,
                session=session, trade_id=self.trade_id, price=float(self.price), quantity=float(self.quantity),
                buyer_is_maker=self.buyer_is_maker, late=late,
            )
        except (ValidationError, ValueError) as error:
            raise InvalidMessage(f"trade {self.trade_id}: {error}") from error


@dataclass(frozen=True, slots=True)
class DepthFrame:
    """Changes of the book between update ids `first_id` (U) and `last_id` (u); quantity 0 removes a level.

    `previous_id` (pu) is the last id of the diff before, where a venue's ids are not contiguous.
    """

    symbol: str
    time_ms: int
    first_id: int
    last_id: int
    bids: tuple[Level, ...]
    asks: tuple[Level, ...]
    stream: Stream = "depth"
    previous_id: int | None = None

    @property
    def ts_event(self) -> int:
        return self.time_ms * MILLISECOND_NS


@dataclass(frozen=True, slots=True)
class TickerFrame:
    """Best bid and ask at one update id. Spot sends no event time: it only shows whether the book is stale."""

    symbol: str
    update_id: int
    bid: Level
    ask: Level
    stream: Stream = "bookTicker"
    time_ms: int | None = None


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The REST book at `last_update_id`, best levels first. `full` when the venue has no level beyond it."""

    last_update_id: int
    bids: tuple[Level, ...]
    asks: tuple[Level, ...]
    full: bool = False


MarketFrame = TradeFrame | DepthFrame | TickerFrame
KNOWN: Mapping[Stream, frozenset[str]] = {
    "trade": frozenset("eEstpqTmM"),
    "depth": frozenset("eEsUuba"),
    "bookTicker": frozenset("usbBaA"),
}


class OversizedFrame(InvalidMessage):
    """A frame larger than any that the venue has reason to send."""


@dataclass
class Decoder:
    """Text of the socket → frames; counts the fields nobody here knows."""

    unknown: Counter[str] = field(default_factory=Counter)
    known: ClassVar[Mapping[Stream, frozenset[str]]] = KNOWN
    """Stream → the fields of its payload."""
    _named: set[str] = field(default_factory=set)

    def frame(self, text: str | bytes) -> MarketFrame | None:
        """The frame in a text; None for the venue's answer to a command or its notice of a shutdown.

        Raises `InvalidMessage`.
        """
        if len(text) > MOST_BYTES:
            raise OversizedFrame(f"expected at most {MOST_BYTES} bytes, found {len(text)}")
        try:
            message = _json(text)
            if "stream" not in message:
                _check_word(message)
                return None
            name, data = message["stream"], message["data"]
            word, _, stream = name.partition("@")
            frame = self.read(stream, data)
            if word != frame.symbol.lower():
                raise InvalidMessage(f"expected a payload of stream {name!r:.60}, found one of {frame.symbol!r:.40}")
            frame = self.own(frame, data)
        except (LookupError, TypeError, ValueError, AttributeError, RecursionError) as error:
            if isinstance(error, InvalidMessage):
                raise
            raise InvalidMessage(f"expected a combined-stream frame: {type(error).__name__}: {error}") from error
        known = self.known[frame.stream]
        if len(data) > len(known) or not data.keys() <= known:
            self.unknown.update(self._name(f"{frame.stream}.{name:.40}") for name in data.keys() - known)
        return frame

    def read(self, stream: str, data: dict[str, Any]) -> MarketFrame:
        """The frame in a payload, in the venue's own words. Raises `InvalidMessage` and what a wrong payload raises."""
        if stream == "trade":
            return _trade(data)
        if stream.startswith("depth"):
            return _depth(data)
        if stream == "bookTicker":
            return _ticker(data)
        raise InvalidMessage(f"expected a stream of {', '.join(STREAMS)}; found {stream!r:.60}")

    def own(self, frame: MarketFrame, data: dict[str, Any]) -> MarketFrame:
        """The frame with what only this market says. Raises `InvalidMessage` for the other market's."""
        if isinstance(frame, DepthFrame) and "pu" in data:
            raise InvalidMessage("expected a spot depth diff, found a USD-M one (it carries `pu`)")
        return frame

    def _name(self, name: str) -> str:
        # Names come from outside and become labels: only so many are told apart.
        if len(self._named) < MOST_NAMES:
            self._named.add(name)
        return name if name in self._named else "others"


def canonical(word: str) -> str:
    """Our id of a spot instrument, from the venue's word for it. Raises `ValueError` for what is no such word.

    Binance spot is where our ids come from, so they are the same word; other venues' ids carry their venue.

    >>> canonical("BTCUSDT"), venue_word(canonical("1000SATSUSDT"))
    ('BTCUSDT', '1000SATSUSDT')
    """
    if not (isinstance(word, str) and word.isascii() and word.isalnum() and word.isupper() and len(word) <= LONGEST):
        raise ValueError(f"expected a spot symbol such as BTCUSDT, found {word!r:.60}")
    return word


def venue_word(symbol: str) -> str:
    """The venue's word for one of our ids. Raises `ValueError` for an id of another venue or market.

    >>> venue_word("BTCUSDT-PERP.BINANCE")
    Traceback (most recent call last):
    ValueError: expected a spot symbol such as BTCUSDT, found 'BTCUSDT-PERP.BINANCE'
    """
    return canonical(symbol)


def announces_shutdown(text: str | bytes) -> bool:
    """Whether a text that is no frame says that the server is about to go.

    >>> announces_shutdown('{"e":"serverShutdown","E":1770123456789}'), announces_shutdown('{"result":null,"id":1}')
    (True, False)
    """
    return _is_shutdown(_json(text))


def subscription(symbols: Iterable[str], streams: Iterable[str] = STREAMS) -> list[str]:
    """Stream names of symbols, as the combined-stream URL and SUBSCRIBE take them.

    >>> subscription(["BTCUSDT"], ["trade"])
    ['btcusdt@trade']
    """
    streams = tuple(streams)
    return [f"{venue_word(symbol).lower()}@{stream}" for symbol in symbols for stream in streams]


def snapshot(message: Mapping[str, Any], limit: int | None = None) -> Snapshot:
    """The REST `depth` answer. With fewer levels than `limit` on a side the venue has no more there."""
    try:
        bids, asks = _levels(message["bids"]), _levels(message["asks"])
        if not all(quantity for _, quantity in (*bids, *asks)):
            raise ValueError("expected levels with a quantity, found one without")
        full = limit is not None and max(len(bids), len(asks)) < limit
        return Snapshot(_count(message["lastUpdateId"]), bids, asks, full)
    except (LookupError, TypeError, ValueError, AttributeError) as error:
        raise InvalidMessage(f"expected a depth snapshot: {type(error).__name__}: {error}") from error


def steps(text: str) -> int:
    """A non-negative venue decimal in integer steps of 1e-8. Raises `ValueError` for anything else.

    >>> steps("61837.63000000"), steps("0.1"), steps("7")
    (6183763000000, 10000000, 700000000)
    """
    whole, _, part = text.partition(".")
    digits = whole + part
    if not (digits.isascii() and digits.isdigit()) or len(part) > DECIMALS or len(whole) > WHOLE_DIGITS:
        raise ValueError(f"expected a decimal of at most {DECIMALS} places, found {text!r:.60}")
    return int(digits.ljust(len(whole) + DECIMALS, "0"))


def _amount(text: Any) -> str:
    """The text of a positive decimal, as it is."""
    if not steps(text):
        raise ValueError(f"expected more than 0, found {text!r:.60}")
    return str(text)


@dataclass(frozen=True, slots=True)
class Instrument:
    """An instrument as the venue lists it."""

    symbol: str
    status: str
    """`TRADING`, or why not."""


def instruments(message: Mapping[str, Any], canonical: Callable[[str], str] = canonical) -> list[Instrument]:
    """The instruments of a REST `exchangeInfo` answer; those whose names have no canonical id are left out."""
    try:
        rows = [(str(row["symbol"]), str(row["status"])) for row in message["symbols"]]
    except (LookupError, TypeError) as error:
        raise InvalidMessage(f"expected an exchangeInfo: {type(error).__name__}: {error}") from error
    found = []
    for word, status in rows:
        with contextlib.suppress(ValueError):  # a name in another alphabet, a contract with a date
            found.append(Instrument(canonical(word), status))
    return found


def rest_trade(symbol: str, row: Mapping[str, Any]) -> TradeFrame:
    """A row of REST `trades` or `historicalTrades`."""
    try:
        return TradeFrame(
            symbol, _count(row["id"]), _amount(row["price"]), _amount(row["qty"]), _count(row["time"]),
            _flag(row["isBuyerMaker"]),
        )
    except (LookupError, TypeError, ValueError, AttributeError) as error:
        raise InvalidMessage(f"expected a REST trade: {type(error).__name__}: {error}") from error


def rest_aggregate(symbol: str, row: Mapping[str, Any]) -> TradeFrame | None:
    """The trade in a row of REST `aggTrades`; None when it joins several, whose quantities nobody can tell apart."""
    try:
        if row["f"] != row["l"]:
            return None
        return TradeFrame(
            symbol, _count(row["f"]), _amount(row["p"]), _amount(row["q"]), _count(row["T"]), _flag(row["m"]),
        )
    except (LookupError, TypeError, ValueError, AttributeError) as error:
        raise InvalidMessage(f"expected a REST aggregate trade: {type(error).__name__}: {error}") from error


def _no_repeats(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError(f"expected each field once, found one repeated among {', '.join(name for name, _ in pairs)}")
    return found


def _no_constant(name: str) -> None:
    raise ValueError(f"expected JSON, found the word {name}")


_DECODER = json.JSONDecoder(object_pairs_hook=_no_repeats, parse_constant=_no_constant)


def _json(text: str | bytes) -> Any:
    return _DECODER.decode(text if isinstance(text, str) else text.decode())


def _check_word(message: Mapping[str, Any]) -> None:
    """A message that is no frame: an answer to a command, or a notice."""
    if _is_shutdown(message):
        return
    if not message.keys() & {"result", "error"}:
        raise InvalidMessage(f"expected a combined-stream frame, found {json.dumps(message):.500}")
    if message.get("error") is not None or message.get("result") is not None:
        raise InvalidMessage(f"the venue refused a command: {json.dumps(message):.500}")


def _is_shutdown(message: Mapping[str, Any]) -> bool:
    inside = message.get("event", message)
    return isinstance(inside, dict) and inside.get("e") == "serverShutdown"


def _check_event(data: dict[str, Any], kind: str) -> None:
    if data["e"] != kind:
        raise ValueError(f"expected an event {kind}, found {data['e']!r:.60}")
    _count(data["E"])


def _trade(data: dict[str, Any]) -> TradeFrame:
    _check_event(data, "trade")
    return TradeFrame(
        canonical(data["s"]), _count(data["t"]), _amount(data["p"]), _amount(data["q"]), _count(data["T"]),
        _flag(data["m"]),
    )


def _depth(data: dict[str, Any]) -> DepthFrame:
    _check_event(data, "depthUpdate")
    first, last = _count(data["U"]), _count(data["u"])
    if first > last:
        raise ValueError(f"expected U <= u, found {first} and {last}")
    return DepthFrame(canonical(data["s"]), data["E"], first, last, _levels(data["b"]), _levels(data["a"]))


def _ticker(data: dict[str, Any]) -> TickerFrame:
    bid, ask = (steps(data["b"]), steps(data["B"])), (steps(data["a"]), steps(data["A"]))
    # An empty side is 0 at 0.
    if any((price == 0) != (quantity == 0) for price, quantity in (bid, ask)) or bid[0] >= ask[0] > 0:
        raise ValueError(f"expected bid < ask, found {data['b']} × {data['B']} and {data['a']} × {data['A']}")
    return TickerFrame(canonical(data["s"]), _count(data["u"]), bid, ask)


def _levels(rows: Any) -> tuple[Level, ...]:
    if type(rows) is not list:
        raise ValueError(f"expected a list of levels, found {rows!r:.60}")
    levels = tuple([_level(row) for row in rows])
    if len({price for price, _ in levels}) < len(levels):
        raise ValueError("expected each price once among the levels of a side, found one repeated")
    return levels


def _level(row: Any) -> Level:
    if type(row) is not list:
        raise ValueError(f"expected a level [price, quantity], found {row!r:.60}")
    price, quantity = row
    level = steps(price), steps(quantity)
    if not level[0]:
        raise ValueError("expected a price of more than 0, found 0")
    return level


def _count(value: Any) -> int:
    if type(value) is not int or not 0 <= value < MOST_COUNT:
        raise ValueError(f"expected an integer of 0 to 2^63 - 1, found {value!r:.60}")
    return value


def _flag(value: Any) -> bool:
    if type(value) is not bool:
        raise ValueError(f"expected true or false, found {value!r:.60}")
    return value
