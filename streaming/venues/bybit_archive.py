"""Bybit's public trade archive, a CSV a day: inverse contracts (BTCUSD) as trades with integer ids.

    >>> row = {"timestamp": "1569974396.557895", "symbol": "BTCUSD", "side": "Buy", "size": "11668", "price": "8319.5",
    ...        "tickDirection": "PlusTick", "trdMatchID": "656acfd0", "foreignNotional": "1.40248813"}
    >>> trade = to_trade(row, 7, "example")
    >>> trade.symbol, trade.ts_event, trade.quantity, trade.buyer_is_maker
    ('BTCUSD-PERP.BYBIT', 1569974396557895000, 1.40248813, False)

- An inverse contract is worth one US dollar and settles in the base asset: `size` is in contracts. Our quantity is the
  venue's own base value, `foreignNotional` = size ∕ price rounded down to 1e-8 (its column names have the two sides
  exchanged). Quote volume is price × quantity as everywhere, and so short of the contracts by less than 1e-8 of them.
- Its ids are UUIDs. Ours are day × 10⁸ + the place in that day's order, so they are whole, ascending and the same after
  every conversion of the same file; `day` counts from 1970.
- Order: by time; trades of one instant in the file's own order, read from its older end (the files of 2019 begin with
  the newest). The venue's tick directions prove it: `tick_direction_disagrees` counts where they do not fit.
"""

from __future__ import annotations

import csv
import gzip
import itertools
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from decimal import Decimal, InvalidOperation
from pathlib import Path

from pydantic import ValidationError

from feature_repo.contracts import DAY_NS, SECOND_NS, InvalidMessage, Trade
from streaming.venues.archive import Archive

COLUMNS = ("timestamp", "symbol", "side", "size", "price", "tickDirection", "trdMatchID", "foreignNotional")
IDS_A_DAY = 10**8
SIDES = {"Buy": False, "Sell": True}
"""The taker's side → whether the buyer is the maker."""
Row = Mapping[str, str]


def read(path: Path) -> Archive:
    """One file: whole UTC days. Raises `ValueError` when it is no such archive."""
    try:
        with gzip.open(path, "rt", encoding="utf-8", newline="") as file:
            reader = csv.DictReader(file)
            if missing := [name for name in COLUMNS if name not in (reader.fieldnames or ())]:
                raise ValueError(f"{path.name}: expected Bybit's columns, found none of {', '.join(missing)}")
            rows = list(reader)
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise ValueError(f"{path.name}: expected a gzipped CSV, found {error}") from error
    return _archive(rows, path.name)


def _archive(rows: Iterable[Row], session: str) -> Archive:
    refused: Counter[str] = Counter()
    trades: list[Trade] = []
    kept: dict[str, Row] = {}
    places: Counter[int] = Counter()
    for time_ns, row in _in_order(rows, refused):
        day = time_ns // DAY_NS
        try:
            trade = to_trade(row, day * IDS_A_DAY + places[day], session)
        except InvalidMessage:
            refused["InvalidMessage"] += 1
            continue
        if row["trdMatchID"] in kept:
            refused["repeated"] += 1
            continue
        kept[row["trdMatchID"]] = row
        places[day] += 1
        trades.append(trade)
    if not trades:
        raise ValueError(f"{session}: expected trades of an inverse contract, found none that can be read")
    whole = trades[0].ts_event // DAY_NS * DAY_NS, trades[-1].ts_event // DAY_NS * DAY_NS + DAY_NS
    return Archive(trades, whole, refused, {"tick_direction_disagrees": tick_direction_disagrees([*kept.values()])})


def _in_order(rows: Iterable[Row], refused: Counter[str]) -> list[tuple[int, Row]]:
    """Rows with their times, oldest first; those of one instant as the file has them, read from its older end."""
    timed: list[tuple[int, Row]] = []
    for row in rows:
        try:
            timed.append((_time_ns(row), row))
        except InvalidMessage:
            refused["InvalidMessage"] += 1
    if timed and timed[0][0] > timed[-1][0]:
        timed.reverse()
    return sorted(timed, key=lambda item: item[0])


def to_trade(row: Row, trade_id: int, session: str) -> Trade:
    """A row as our message. Raises `InvalidMessage`."""
    try:
        time_ns = _time_ns(row)
        return Trade(
            symbol=_symbol(row["symbol"]), ts_event=time_ns, ts_init=time_ns, source="recording", session=session[:200],
            trade_id=trade_id, price=float(row["price"]), quantity=float(row["foreignNotional"]),
            buyer_is_maker=SIDES[row["side"]],
        )
    except (KeyError, TypeError, ValueError, ValidationError) as error:
        raise InvalidMessage(f"expected a trade of Bybit's archive: {type(error).__name__}: {error}") from error


def tick_direction_disagrees(rows: Sequence[Row]) -> int:
    """How many prices, in order, do not move as the venue says of them (`PlusTick`, `ZeroMinusTick`, …)."""
    wrong = 0
    for before, row in itertools.pairwise(rows):
        moved = Decimal(row["price"]) - Decimal(before["price"])
        said = row["tickDirection"]
        wrong += not (moved == 0 if said.startswith("Zero") else moved > 0 if said == "PlusTick" else moved < 0)
    return wrong


def _time_ns(row: Row) -> int:
    try:
        return int(Decimal(row["timestamp"]) * SECOND_NS)
    except (InvalidOperation, TypeError, ValueError, OverflowError) as error:
        raise InvalidMessage(f"expected seconds since 1970, found {row['timestamp']!r}") from error


def _symbol(name: str) -> str:
    if not name.endswith("USD"):
        raise ValueError(f"expected an inverse contract (…USD), found {name!r}")
    return f"{name}-PERP.BYBIT"
