"""Tape: recorded frames of one or more symbols, parsed once into compact arrays with the exact text kept.

    >>> from streaming.recording import Line
    >>> text = ('{"stream":"btcusdt@trade","data":{"e":"trade","E":1000,"s":"BTCUSDT","t":7,"p":"61837.63000000",'
    ...         '"q":"0.02000000","T":999,"m":true,"M":true}}')
    >>> tape = build_tape([[Line(1_000_000_000, text)]])
    >>> tape.text(0) == text, int(tape.symbols["BTCUSDT"].trades.ticks[0])
    (True, 6183763)

Times: `emit_ns` is when a frame left the venue, on the venue's clock. It is the receive time plus one constant
for the whole tape, so that no frame is sent before the events it tells of (the recording clock may be behind).
Prices are integer ticks, quantities integer steps, of the symbol's own decimals: sums are exact.
"""

from __future__ import annotations

import hashlib
import json
from array import array
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
import structlog
from numpy.typing import NDArray

from streaming.recording import Line, read_lines
from streaming.venues.binance_usdm import is_futures

log = structlog.get_logger()

Ints = NDArray[np.int64]
MarketName = Literal["spot", "usdm"]
VENUE_DECIMALS = 8
MS = 1_000_000
MIXED = "a snapshot does not name its symbol: expected one symbol a file, found {}"


@dataclass(frozen=True)
class Scale:
    """A symbol's smallest price and quantity step, as decimals, and how many decimals its market writes."""

    price: int
    quantity: int
    price_written: int = VENUE_DECIMALS
    quantity_written: int = VENUE_DECIMALS

    def price_text(self, ticks: int) -> str:
        return decimal_text(ticks, self.price, self.price_written)

    def quantity_text(self, steps: int) -> str:
        return decimal_text(steps, self.quantity, self.quantity_written)

    def quote_text(self, units: int) -> str:
        """Quote volume summed as ticks × steps."""
        written = min(VENUE_DECIMALS, self.price_written + self.quantity_written)
        return decimal_text(units, self.price + self.quantity, written)


def decimal_text(value: int, decimals: int, written: int = VENUE_DECIMALS) -> str:
    """An integer of `decimals` decimals as the venue writes it: rounded half to even beyond the `written` ones.

    >>> decimal_text(6183763, 2), decimal_text(15, 9), decimal_text(25, 9), decimal_text(618003, 1, 2)
    ('61837.63000000', '0.00000002', '0.00000002', '61800.30')
    """
    if decimals > written:
        unit = 10 ** (decimals - written)
        whole, rest = divmod(value, unit)
        value = whole + (rest * 2 > unit or (rest * 2 == unit and whole % 2 == 1))
        decimals = written
    whole, rest = divmod(value * 10 ** (written - decimals), 10**written)
    return f"{whole}.{rest:0{written}d}"


def decimal_units(text: str) -> int:
    """The venue's decimal text in integer units of 1e-8.

    >>> decimal_units("61837.63000000"), decimal_units("3.5")
    (6183763000000, 350000000)
    """
    whole, _, rest = text.partition(".")
    return int(whole + rest.ljust(VENUE_DECIMALS, "0"))


@dataclass(frozen=True)
class Trades:
    """Trades in the order sent. `frame` indexes the tape; `time_ms` is the venue's trade time."""

    frame: Ints
    time_ms: Ints
    ids: Ints
    ticks: Ints
    steps: Ints
    buyer_is_maker: NDArray[np.bool_]


@dataclass(frozen=True)
class Snapshot:
    """A REST depth snapshot: price ticks → quantity steps."""

    last_id: int
    bids: dict[int, int]
    asks: dict[int, int]


@dataclass(frozen=True)
class Diffs:
    """Depth diffs in the order sent. The levels of diff i are `[offset[i], offset[i + 1])`, bids before `middle[i]`.

    `previous_ids`: the update that a diff goes on from: `pu` of USD-M, the id before its first on spot.
    """

    frame: Ints
    time_ms: Ints
    previous_ids: Ints
    first_ids: Ints
    last_ids: Ints
    offset: Ints
    middle: Ints
    ticks: Ints
    steps: Ints


@dataclass(frozen=True)
class SymbolTape:
    """What one symbol's frames hold."""

    symbol: str
    scale: Scale
    trades: Trades
    diffs: Diffs
    snapshots: tuple[Snapshot, ...]


@dataclass(frozen=True)
class Tape:
    """Frames of all symbols in one order of sending. Row i: `text(i)`, `emit_ns[i]`, `streams[stream[i]]`.

    All are of one market, which the frames tell: "spot" or "usdm".
    """

    identity: str
    market: MarketName
    emit_ns: Ints
    event_ms: Ints
    stream: NDArray[np.int16]
    streams: tuple[str, ...]
    symbols: Mapping[str, SymbolTape]
    _text: bytes = field(repr=False)
    _offset: Ints = field(repr=False)

    def __len__(self) -> int:
        return len(self.emit_ns)

    def text(self, row: int) -> str:
        """The combined-stream frame exactly as recorded."""
        return self._text[self._offset[row] : self._offset[row + 1]].decode()


def load_tape(paths: Iterable[Path]) -> Tape:
    """Read recorded files, each of one symbol. Raises `ValueError` where they are not recordings of one market."""
    return build_tape(read_lines([path]) for path in paths)


def build_tape(files: Iterable[Iterable[Line]]) -> Tape:
    """Parse lines, file by file, and merge them by receive time."""
    reader = _Reader()
    for lines in files:
        reader.read_file(lines)
    return reader.tape()


def _ints() -> array[int]:
    return array("q")


@dataclass
class _Columns:
    """Growing columns of one symbol, in units of 1e-8 until the scale is known."""

    trades: dict[str, array[int]] = field(default_factory=lambda: {
        name: _ints() for name in ("frame", "time_ms", "ids", "price", "quantity", "maker")})
    diffs: dict[str, array[int]] = field(default_factory=lambda: {
        name: _ints() for name in ("frame", "time_ms", "previous", "first", "last", "end", "middle")})
    price: array[int] = field(default_factory=_ints)
    quantity: array[int] = field(default_factory=_ints)
    snapshots: list[tuple[int, list[tuple[int, int]], list[tuple[int, int]]]] = field(default_factory=list)
    written: tuple[int, int] = (VENUE_DECIMALS, VENUE_DECIMALS)
    """Decimals of the texts of price and quantity."""


class _Reader:
    """One pass over the lines."""

    def __init__(self) -> None:
        self.text = bytearray()
        self.end, self.receive_ns, self.event_ms, self.stream = _ints(), _ints(), _ints(), _ints()
        self.market: MarketName | None = None
        self.streams: dict[str, int] = {}
        self.symbols: dict[str, _Columns] = {}
        self.left_out: Counter[str] = Counter()

    def read_file(self, lines: Iterable[Line]) -> None:
        symbols: set[str] = set()
        snapshots: list[dict[str, Any]] = []
        for line in lines:
            body = json.loads(line.text)
            if "lastUpdateId" in body:
                snapshots.append(body)
            elif symbol := self._frame(line, body):
                symbols.add(symbol)
        if snapshots and len(symbols) != 1:
            raise ValueError(MIXED.format(", ".join(sorted(symbols)) or "none"))
        for body in snapshots:
            _add_snapshot(self.symbols[next(iter(symbols))], body)

    def _frame(self, line: Line, body: dict[str, Any]) -> str | None:
        name, data = str(body.get("stream", "")), body.get("data", {})
        kind = name.partition("@")[2]
        if not (kind in ("trade", "bookTicker") or kind.startswith("depth@")):
            self.left_out[name] += 1
            return None
        market: MarketName = "usdm" if is_futures(line.text) else "spot"
        self.market = self.market or market
        if market != self.market:
            raise ValueError(f"expected frames of one market, found {self.market} and {market}: {line.text[:120]}")
        symbol = str(data["s"])
        if symbol not in self.symbols:
            self.symbols[symbol] = _Columns()
        levels = self.symbols[symbol]
        if kind == "trade":
            self._trade(levels, data)
        elif kind.startswith("depth@"):
            self._diff(levels, data)
        self.text += line.text.encode()
        self.end.append(len(self.text))
        self.receive_ns.append(line.receive_ns)
        self.event_ms.append(data.get("E", 0))
        self.stream.append(self.streams.setdefault(name, len(self.streams)))
        return symbol

    def _trade(self, levels: _Columns, data: dict[str, Any]) -> None:
        price, quantity = decimal_units(data["p"]), decimal_units(data["q"])
        if self.market == "usdm":
            # Spot writes eight decimals of everything, USD-M as many as the contract has.
            levels.written = (len(data["p"].partition(".")[2]), len(data["q"].partition(".")[2]))
        row = (len(self.receive_ns), data["T"], data["t"], price, quantity, data["m"])
        for column, value in zip(levels.trades.values(), row, strict=True):
            column.append(value)

    def _diff(self, levels: _Columns, data: dict[str, Any]) -> None:
        _add_levels(levels, data["b"])
        middle = len(levels.price)
        _add_levels(levels, data["a"])
        previous = data.get("pu", data["U"] - 1)
        row = (len(self.receive_ns), data["E"], previous, data["U"], data["u"], len(levels.price), middle)
        for column, value in zip(levels.diffs.values(), row, strict=True):
            column.append(value)

    def tape(self) -> Tape:
        if self.market is None:
            raise ValueError("expected trade, bookTicker and depth frames, found none")
        if self.left_out:
            log.warning("streams_left_out", frames=dict(self.left_out))
        receive, event = _column(self.receive_ns), _column(self.event_ms)
        order = np.argsort(receive, kind="stable")
        rank = np.empty(len(order), np.int64)
        rank[order] = np.arange(len(order))
        text, offset = self._ordered_text(order)
        timed = event > 0
        skew = max(0, int(np.max(event[timed] * MS - receive[timed], initial=0)))
        return Tape(
            identity=hashlib.sha256(text).hexdigest()[:8], market=self.market, emit_ns=receive[order] + skew,
            event_ms=event[order],
            stream=_column(self.stream)[order].astype(np.int16), streams=tuple(self.streams),
            symbols={name: _symbol(name, levels, rank) for name, levels in self.symbols.items()},
            _text=text, _offset=offset,
        )

    def _ordered_text(self, order: Ints) -> tuple[bytes, Ints]:
        offset = np.concatenate(([0], _column(self.end)))
        if np.array_equal(order, np.arange(len(order))):
            return bytes(self.text), offset
        view = memoryview(self.text)
        text = b"".join(view[offset[row] : offset[row + 1]] for row in order)
        return text, np.concatenate(([0], np.cumsum(np.diff(offset)[order])))


def _add_snapshot(levels: _Columns, body: dict[str, Any]) -> None:
    bids, asks = ([(decimal_units(p), decimal_units(q)) for p, q in body[side]] for side in ("bids", "asks"))
    levels.snapshots.append((body["lastUpdateId"], bids, asks))


def _add_levels(levels: _Columns, side: list[list[str]]) -> None:
    levels.price.extend([decimal_units(price) for price, _ in side])
    levels.quantity.extend([decimal_units(quantity) for _, quantity in side])


def _column(values: array[int]) -> Ints:
    return np.array(values, np.int64)


def _symbol(symbol: str, levels: _Columns, rank: Ints) -> SymbolTape:
    trades = {name: _column(values) for name, values in levels.trades.items()}
    diffs = {name: _column(values) for name, values in levels.diffs.items()}
    price, quantity = _column(levels.price), _column(levels.quantity)
    resting = np.array([level for _, *sides in levels.snapshots for side in sides for level in side], np.int64)
    prices, quantities = resting.reshape(-1, 2).T
    scale = Scale(
        _decimals(price, trades["price"], prices), _decimals(quantity, trades["quantity"], quantities), *levels.written)
    tick, step = (10 ** (VENUE_DECIMALS - decimals) for decimals in (scale.price, scale.quantity))
    return SymbolTape(
        symbol, scale,
        Trades(rank[trades["frame"]], trades["time_ms"], trades["ids"], trades["price"] // tick,
               trades["quantity"] // step, trades["maker"].astype(bool)),
        Diffs(rank[diffs["frame"]], diffs["time_ms"], diffs["previous"], diffs["first"], diffs["last"],
              np.concatenate(([0], diffs["end"])), diffs["middle"], price // tick, quantity // step),
        tuple(
            Snapshot(last_id, *({p // tick: q // step for p, q in side} for side in (bids, asks)))
            for last_id, bids, asks in levels.snapshots
        ),
    )


def _decimals(*columns: Ints) -> int:
    """The fewest decimals that write every value exactly."""
    for decimals in range(VENUE_DECIMALS):
        if not any(np.any(column % 10 ** (VENUE_DECIMALS - decimals)) for column in columns):
            return decimals
    return VENUE_DECIMALS
