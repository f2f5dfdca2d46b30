"""Ticks: the trades of a batch read at once from their Avro bodies, the same as reading them one at a time.

    >>> from feature_repo import topics
    >>> from feature_repo.contracts import Trade
    >>> body = topics.encode(Trade(symbol="BTCUSDT", ts_event=2**60, ts_init=2**60, source="live", session="s",
    ...                            trade_id=7, price=0.5, quantity=2.0, buyer_is_maker=True))
    >>> tick, damaged = read_ticks([body, body[:-1]], "BTCUSDT")
    >>> tick.trade_id, tick.price_steps, tick.late, damaged
    (7, 50000000, False, None)

Bodies of one length that share symbol, source and session hold every field at the same place, so a batch is a table
of bytes and its fields are columns of it. One body of each such group goes the strict way (`topics.decode`); another
counts as read only if its fixed bytes equal that one's and its numbers obey the contract. What is not plainly right is
null: its reader takes the strict way, and so a message is refused by one rule, with one reason.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from feature_repo import topics
from feature_repo.contracts import InvalidMessage, Trade
from streaming.bars import Tick
from streaming.trade_columns import LARGEST, to_steps

FIELDS: Final = (
    "symbol", "ts_event", "ts_init", "source", "session", "trade_id", "price", "quantity", "buyer_is_maker", "late",
)
"""The order on the wire that is read here; another one makes every body go the strict way."""
TRADE: Final = topics.header(Trade)
_TIME: Final = 9
"""Bytes of a time from 1971 to 2116 on the wire."""
_TAIL: Final = 8 + 8 + 1 + 1
_GROUPS: Final = 4
"""Groups of one length that are worth a table of their own; the rest goes the strict way."""
_WEIGHTS: Final = 1 << 7 * np.arange(_TIME, dtype=np.int64)
"""Of the digits of a number."""
Bytes = npt.NDArray[np.uint8]


@dataclass(frozen=True)
class Layout:
    """Where a group's fields are, and the bytes that its bodies share."""

    head: bytes
    origin: bytes
    length: int

    @property
    def trade_id(self) -> slice:
        return slice(len(self.head) + 2 * _TIME + len(self.origin), self.length - _TAIL)

    def matches(self, rows: Bytes) -> npt.NDArray[np.bool_]:
        """Which rows hold the shared bytes, [N]."""
        at = len(self.head) + 2 * _TIME
        same = rows[:, : len(self.head)] == np.frombuffer(self.head, np.uint8)
        origin = rows[:, at : at + len(self.origin)] == np.frombuffer(self.origin, np.uint8)
        return np.asarray(same.all(axis=1) & origin.all(axis=1))


def read_ticks(bodies: Sequence[bytes], symbol: str) -> list[Tick | None]:
    """The trades of `symbol` in `bodies`; null for what must be read alone."""
    found: list[Tick | None] = [None] * len(bodies)
    if tuple(Trade.model_fields) != FIELDS:
        return found
    lengths = np.fromiter(map(len, bodies), np.int64, len(bodies))
    for length in np.unique(lengths).tolist():
        places = np.flatnonzero(lengths == length)
        for _ in range(_GROUPS):
            if not places.size:
                break
            places = _read_group(bodies, symbol, places, found)
    return found


def _read_group(
    bodies: Sequence[bytes], symbol: str, places: npt.NDArray[np.int64], found: list[Tick | None],
) -> npt.NDArray[np.int64]:
    """Read the bodies that are laid out as the first; the places of those that are not."""
    group = [bodies[place] for place in places.tolist()]
    # Batch after batch is laid out alike: the strict way is taken again only where the shared bytes are other ones.
    layout = _LAYOUTS.get((symbol, len(group[0])))
    if layout is None or not _fits(layout, group[0]):
        layout = _layout(group[0], symbol)
    if layout is None:
        return places[1:]
    _LAYOUTS[symbol, layout.length] = layout
    rows = np.frombuffer(b"".join(group), np.uint8).reshape(len(group), layout.length)
    same = layout.matches(rows)
    good, columns = _columns(rows, layout)
    good &= same
    kept = [body for body, right in zip(group, good.tolist(), strict=True) if right]
    ticks = map(Tick, *(column[good].tolist() for column in columns), kept)
    for place, tick in zip(places[good].tolist(), ticks, strict=True):
        found[place] = tick
    return places[~same]


def _layout(body: bytes, symbol: str) -> Layout | None:
    try:
        trade = topics.decode(body, TRADE)
    except InvalidMessage:
        return None
    assert isinstance(trade, Trade)
    head, origin = _text(trade.symbol), _text(trade.source) + _text(trade.session)
    layout = Layout(head, origin, len(body))
    fits = 0 < layout.trade_id.stop - layout.trade_id.start <= _TIME and trade.symbol == symbol
    return layout if fits and _fits(layout, body) else None


_LAYOUTS: dict[tuple[str, int], Layout] = {}
"""Symbol and length → how the last such bodies were laid out. A symbol's bodies have few lengths."""


def _fits(layout: Layout, body: bytes) -> bool:
    """Whether a body of the layout's length holds the shared bytes."""
    return body.startswith(layout.head) and body.startswith(layout.origin, len(layout.head) + 2 * _TIME)


def _columns(rows: Bytes, layout: Layout) -> tuple[npt.NDArray[np.bool_], tuple[npt.NDArray[Any], ...]]:
    """Which rows obey the contract, [N], and the fields of `Tick` but the body, each [N]."""
    at, ids = len(layout.head), layout.trade_id
    whole = [_whole(rows[:, start:stop]) for start, stop in (
        (at, at + _TIME), (at + _TIME, at + 2 * _TIME), (ids.start, ids.stop))]
    prices, quantities = (_doubles(rows[:, start : start + 8]) for start in (ids.stop, ids.stop + 8))
    maker, late = rows[:, -2], rows[:, -1]
    good = (maker <= 1) & (late <= 1) & _positive(prices) & _positive(quantities)
    for right, _ in whole:
        good &= right
    (_, events), (_, inits), (_, trade_ids) = whole
    steps = [to_steps(np.where(good, values, 1.0)) for values in (prices, quantities)]
    return good, (trade_ids, events, inits, prices, *steps, maker.astype(bool), late.astype(bool))


def _whole(digits: Bytes) -> tuple[npt.NDArray[np.bool_], npt.NDArray[np.int64]]:
    """Avro's zigzag numbers of exactly so many bytes: which are that, and not negative; and the numbers."""
    right = (digits[:, :-1] >= 0x80).all(axis=1) & (digits[:, -1] < 0x80) & (digits[:, 0] & 1 == 0)
    number = (digits & 0x7F).astype(np.int64) @ _WEIGHTS[: digits.shape[1]]
    return right, number >> 1


def _doubles(eights: Bytes) -> npt.NDArray[np.float64]:
    return np.ascontiguousarray(eights).view("<f8")[:, 0]


def _positive(values: npt.NDArray[np.float64]) -> npt.NDArray[np.bool_]:
    return np.asarray((values > 0) & (values <= LARGEST))


def _text(text: str) -> bytes:
    """An Avro string."""
    body = text.encode()
    size, digits = 2 * len(body), bytearray()
    while size > 0x7F:
        digits.append(size & 0x7F | 0x80)
        size >>= 7
    return bytes([*digits, size]) + body
