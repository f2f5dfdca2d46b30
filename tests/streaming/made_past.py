"""A lake as the stream leaves it, a raw zone, and what a witness tells of them: five minutes of BTCUSDT."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

import pyarrow as pa

from feature_repo import topics
from feature_repo.contracts import HOUR_NS, MINUTE_NS, SECOND_NS, Bar, FeatureRow, Message, SecondClosed, Trade
from feature_repo.history import MINUTES_KEPT, SECONDS_KEPT, BarHistory
from feature_repo.lake_layout import RAW_SCHEMA, unflatten
from feature_repo.lake_reader import Lake
from streaming.lake import LakeWriter
from streaming.past import Past
from streaming.revisions import Bars, newest, push, rows_of
from streaming.stretch import Stretch
from tests.feature_repo.made_bars import START_NS

SYMBOL = "BTCUSDT"
SECONDS = 300
SPAN = Stretch(START_NS, START_NS + SECONDS * SECOND_NS, (SYMBOL,))
NOW = START_NS + HOUR_NS
EVER = (START_NS - 30 * HOUR_NS, START_NS + 30 * HOUR_NS)


def history_of(symbol: str, bars: Bars) -> BarHistory:
    """All bars as the kernel holds them."""
    closes = [close for _, close in bars]
    span = max(closes, default=0) - min(closes, default=0)
    history = BarHistory(symbol, span // SECOND_NS + SECONDS_KEPT, span // MINUTE_NS + MINUTES_KEPT)
    push(history, bars)
    return history


def streamed(folder: Path, bars: Sequence[Bar]) -> tuple[Lake, LakeWriter]:
    """A lake as the stream leaves it: all bars, a row of each second."""
    writer = LakeWriter.open(folder.as_uri())
    writer.upsert("clean", list(bars))
    seconds = [bar for bar in bars if bar.interval_s == 1]
    writer.upsert("features", rows_of(history_of(SYMBOL, newest(bars)), seconds))
    return Lake(writer.filesystem, writer.root), writer


def rows(lake: Lake) -> list[FeatureRow]:
    found = [unflatten("features", record) for record in lake.read("features", SYMBOL, *EVER).to_pylist()]
    return [row for row in found if isinstance(row, FeatureRow)]


def revised_rows_of(lake: Lake) -> list[FeatureRow]:
    return [row for row in rows(lake) if row.provenance == "reconcile"]


def told(bars: Sequence[Bar], **tells: tuple[str, ...]) -> Past:
    last = {(bar.interval_s, bar.close_time): bar for bar in bars if SPAN.start_ns < bar.close_time <= SPAN.end_ns}
    return Past("klines", tuple(last.values()), **tells)


def corrected(bar: Bar) -> Bar:
    """The same second with a late trade in it."""
    return bar.model_copy(update={"volume": bar.volume + 1.0, "trades": bar.trades + 1, "high": bar.high + 5.0})


def raw_lake(folder: Path, trades: Sequence[Trade]) -> tuple[Lake, LakeWriter]:
    """A raw zone with the trades of some seconds and their seals."""
    messages: list[Message] = []
    for second in range(1, 121):
        close, before = START_NS + second * SECOND_NS, START_NS + (second - 1) * SECOND_NS
        inside = [trade for trade in trades if before <= trade.ts_event < close]
        messages += [*inside, SecondClosed(
            symbol=SYMBOL, ts_event=close, ts_init=close + 250_000_000, source="simulated", session="made", close=close,
            prev_close=before if second > 1 else None, n_trades=len(inside),
            first_trade_id=inside[0].trade_id if inside else None,
            last_trade_id=inside[-1].trade_id if inside else None)]
    writer = LakeWriter.open(folder.as_uri())
    writer.write_batch(pa.Table.from_pylist([
        {"topic": topics.trades_topic(SYMBOL), "partition": 0, "offset": number,
         "kafka_timestamp": datetime.fromtimestamp(START_NS / 1e9, UTC), "key": SYMBOL,
         "schema": topics.header(message), "value": topics.encode(message)}
        for number, message in enumerate(messages)], RAW_SCHEMA))
    return Lake(writer.filesystem, writer.root), writer


def made_trades() -> list[Trade]:
    return [
        Trade(symbol=SYMBOL, ts_event=START_NS + i * 700_000_000, ts_init=START_NS + i * 700_000_000 + 1,
              source="simulated", session="made", trade_id=i + 1, price=60_000.0 + i, quantity=0.1,
              buyer_is_maker=i % 2 == 0)
        for i in range(170)
    ]
