"""The day that is scaled and backfilled in bulk has the bars and the rows that the stream makes of its trades."""

from __future__ import annotations

import csv
import gzip
from pathlib import Path
from typing import Any

import pytest

from feature_repo import topics
from feature_repo.contracts import SECOND_NS, Bar, FeatureRow, Message, SecondClosed, Trade
from feature_repo.lake_layout import unflatten
from feature_repo.lake_reader import Lake
from streaming.lake import LakeWriter
from streaming.mend import backfill
from streaming.past import of_files
from streaming.stretch import Stretch
from streaming.symbol_stream import Event, SymbolStream
from streaming.trade_columns import TradeColumns
from streaming.venues import bybit_archive
from tests.bench import day

DAY = 18_170
BEGIN_NS = DAY * 86_400 * SECOND_NS
SECONDS = 120
AS_THE_STREAM = ("open", "high", "low", "close", "volume", "quote_volume", "vwap", "trades", "taker_buy_volume",
                 "first_trade_id", "last_trade_id")


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two minutes of a recorded day, some seconds silent, told three times and a few more."""
    folder = tmp_path_factory.mktemp("day")
    rows, price = [], 8_000.0
    for n in range(3 * SECONDS):
        if n % 11 in (4, 5, 6):
            continue
        moved, price = (n % 5 - 2) * 0.5, price + (n % 5 - 2) * 0.5
        direction = "ZeroPlusTick" if moved == 0 else "PlusTick" if moved > 0 else "MinusTick"
        rows.append({
            "timestamp": f"{DAY * 86_400 + n / 3:.6f}", "symbol": "BTCUSD", "side": ("Buy", "Sell")[n % 2],
            "size": str(1_000 + n), "price": str(price), "tickDirection": direction, "trdMatchID": f"{n:08d}",
            "grossValue": "1", "homeNotional": str(1_000 + n), "foreignNotional": f"{(1_000 + n) / price:.8f}",
        })
    recorded = folder / "recorded.csv.gz"
    with gzip.open(recorded, "wt", newline="") as target:
        writer = csv.DictWriter(target, list(rows[0]))
        writer.writeheader()
        writer.writerows(reversed(rows))
    return day.scale(recorded, folder / "scaled.csv.gz", 3 * len(rows) + 7)


def streamed(trades: list[Trade]) -> list[Message]:
    """What the stream makes of trades and of the seals of their seconds."""
    events: list[Message] = []
    for close in range(BEGIN_NS + SECOND_NS, BEGIN_NS + (SECONDS + 1) * SECOND_NS, SECOND_NS):
        inside = [trade for trade in trades if close - SECOND_NS <= trade.ts_event < close]
        ids = [trade.trade_id for trade in inside]
        events += inside
        events.append(SecondClosed(
            symbol=day.SYMBOL, ts_event=close, ts_init=close + SECOND_NS, source="recording", session="s", close=close,
            prev_close=None if close == BEGIN_NS + SECOND_NS else close - SECOND_NS, n_trades=len(ids),
            first_trade_id=min(ids, default=None), last_trade_id=max(ids, default=None),
        ))
    made = SymbolStream.new(day.SYMBOL).apply(
        Event(0, i, 1, "crypto.btc.trades", topics.header(m), topics.encode(m)) for i, m in enumerate(events)
    )
    return [topics.decode(o.body, o.schema) for o in made if o.topic in (topics.CLEAN, topics.FEATURES)]


def test_the_scaled_day_has_so_many_trades_and_no_move_that_the_venue_did_not_tell(file: Path) -> None:
    archive = bybit_archive.read(file)
    assert isinstance(archive.trades, TradeColumns)
    assert len(archive.trades) % 3 == 1
    assert archive.facts == {"tick_direction_disagrees": 0}
    assert day.scan(file)["trades"] == len(archive.trades)


def test_columns_are_the_trades_that_are_read_row_by_row(file: Path) -> None:
    columns, rows = bybit_archive.read(file), bybit_archive._by_rows(file)
    assert list(columns.trades) == rows.trades
    assert (columns.trades[5], columns.trades[-1]) == (rows.trades[5], rows.trades[-1])
    assert (columns.whole, columns.facts) == (rows.whole, rows.facts)


def test_bars_and_rows_in_bulk_are_the_streams(file: Path, tmp_path: Path) -> None:
    writer = LakeWriter.open(tmp_path.as_uri())
    lake = Lake(writer.filesystem, writer.root)
    span = Stretch(BEGIN_NS, BEGIN_NS + SECONDS * SECOND_NS, (day.SYMBOL,))
    done = backfill(lake, writer, day.SYMBOL, of_files([file], day.SYMBOL, span))
    messages = streamed(list(bybit_archive.read(file).trades))
    bars = {m.close_time: m for m in messages if isinstance(m, Bar)}
    rows = {m.ts_event: m for m in messages if isinstance(m, FeatureRow)}
    assert (done["bars"], done["rows"]) == (len(bars), len(rows)) == (SECONDS, SECONDS)
    for bar in held(lake, "clean"):
        assert [getattr(bar, name) for name in AS_THE_STREAM] == [
            getattr(bars[bar.close_time], name) for name in AS_THE_STREAM]
    for row in held(lake, "features"):
        assert (row.values, row.reasons) == (rows[row.ts_event].values, rows[row.ts_event].reasons)


def held(lake: Lake, zone: Any) -> list[Any]:
    return [unflatten(zone, record) for record in lake.read(zone, day.SYMBOL, 0, 2**62).to_pylist()]
