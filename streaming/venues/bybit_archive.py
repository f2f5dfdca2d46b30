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

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
from pyarrow import csv as pacsv
from pydantic import ValidationError

from feature_repo.contracts import DAY_NS, SECOND_NS, InvalidMessage, Trade
from streaming.trade_columns import TradeColumns
from streaming.venues.archive import Archive

COLUMNS = ("timestamp", "symbol", "side", "size", "price", "tickDirection", "trdMatchID", "foreignNotional")
IDS_A_DAY = 10**8
SIDES = {"Buy": False, "Sell": True}
"""The taker's side → whether the buyer is the maker."""
Row = Mapping[str, str]
Ints = npt.NDArray[np.int64]


def read(path: Path) -> Archive:
    """One file: whole UTC days. Raises `ValueError` when it is no such archive.

    A file of sound rows alone is read by columns; one row that is not sends all of it the way row by row, which says
    what is wrong with each.
    """
    return _by_columns(path) or _by_rows(path)


def _by_columns(path: Path) -> Archive | None:
    """The archive if every row of it is a trade of one symbol, each once; else null."""
    table = _table(path)
    if table is None or not table.num_rows:
        return None
    try:
        at_ns = _nanoseconds(table["timestamp"])
        price, quantity = (table[name].cast("float64").to_numpy() for name in ("price", "foreignNotional"))
        first = {name: table[name][0].as_py() for name in COLUMNS}
        trade = to_trade(first, int(at_ns.min()) // DAY_NS * IDS_A_DAY, path.name)
        symbols, sides, directions = (_coded(table[name]) for name in ("symbol", "side", "tickDirection"))
        is_sound = len(symbols[1]) == 1 and set(sides[1]) <= set(SIDES)
        if not is_sound or pc.count_distinct(table["trdMatchID"]).as_py() != table.num_rows:
            return None
        order = _order(at_ns)
        at_ns, price = at_ns[order], price[order]
        days = at_ns // DAY_NS
        trades = TradeColumns(
            trade, days * IDS_A_DAY + np.arange(at_ns.size) - np.searchsorted(days, days), at_ns, price,
            quantity[order], np.array([SIDES[word] for word in sides[1]])[sides[0][order]],
        )
    except (pa.ArrowInvalid, InvalidMessage, ValueError):
        return None  # the way row by row tells which and why
    whole = int(days[0]) * DAY_NS, int(days[-1]) * DAY_NS + DAY_NS
    codes, words = directions
    return Archive(trades, whole, Counter(), {"tick_direction_disagrees": _disagrees(price, codes[order], words)})


def _table(path: Path) -> pa.Table | None:
    """The columns as text, of few words as codes; null where Arrow finds no such CSV."""
    words = dict.fromkeys(("symbol", "side", "tickDirection"), pa.dictionary(pa.int32(), pa.string()))
    options = pacsv.ConvertOptions(column_types=dict.fromkeys(COLUMNS, pa.string()) | words, include_columns=COLUMNS)
    try:
        with gzip.open(path, "rb") as file:
            return pacsv.read_csv(file, convert_options=options).unify_dictionaries()
    except (OSError, EOFError, pa.ArrowInvalid, pa.ArrowKeyError):
        return None  # the way row by row says what is wrong with it


def _nanoseconds(texts: pa.ChunkedArray) -> Ints:
    """Decimal seconds as whole nanoseconds, exactly. Raises `ArrowInvalid` for a text that is no such number."""
    exact = texts.cast(pa.decimal128(28, 9)).combine_chunks()
    # A decimal is stored as a 128-bit whole number of its last digit: below 2**63 ns it is the lower half.
    return np.frombuffer(exact.buffers()[1], dtype="<i8")[2 * exact.offset :: 2][: len(exact)].copy()


def _order(at_ns: Ints) -> npt.NDArray[np.intp]:
    """As `_in_order`: by time; rows of one instant from the file's older end."""
    places = np.arange(at_ns.size)
    if at_ns[0] > at_ns[-1]:
        places = places[::-1]
    return places[np.argsort(at_ns[places], kind="stable")]


def _coded(texts: pa.ChunkedArray) -> tuple[Ints, list[str]]:
    """The code of each text and what the codes stand for. Raises `ValueError` where a text lacks."""
    whole = texts.combine_chunks()
    if whole.null_count:
        raise ValueError(f"expected a text in each row, found {whole.null_count} without")
    return whole.indices.to_numpy().astype(np.int64), whole.dictionary.to_pylist()


def _disagrees(price: npt.NDArray[np.float64], codes: Ints, words: Sequence[str]) -> int:
    """`tick_direction_disagrees`, by columns: the sign of each move beside the one that its word says."""
    said = np.array([0 if word.startswith("Zero") else 1 if word == "PlusTick" else -1 for word in words])
    return int((np.sign(np.diff(price)) != said[codes[1:]]).sum())


def _by_rows(path: Path) -> Archive:
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
