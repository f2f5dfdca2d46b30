"""Bars of recorded frames and of trade archives: decoded, sealed and closed by the functions that the stream uses.

    candlewick bars --frames spot_btcusdt.zst --interval 1m --output bars.parquet
    candlewick bars --frames BTCUSD2019-10-01.csv.gz --output bars.parquet

What a file holds (spot frames, USD-M frames, an archive) is told by the file. Time is the venue's own event time. A bar
is written only when all of it is there: the part of a second or minute at either end, and every one that a missing
trade id touches, is left out. `close_time` is exclusive.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from feature_repo.contracts import SECOND_NS, Bar, InvalidMessage, SecondClosed, Trade
from streaming.bars import bars_from_trades, close_bar, minute_bars
from streaming.recording import Line, read_lines
from streaming.seal import Sealer, Second
from streaming.trade_columns import TradeColumns
from streaming.venues import binance_usdm
from streaming.venues.archive import Archive, is_archive, read_archive
from streaming.venues.binance import Decoder, DepthFrame, MarketFrame, TradeFrame

COLUMNS = (
    "symbol", "open_time", "close_time", "open", "high", "low", "close", "volume", "quote_volume", "vwap", "trades",
    "taker_buy_volume", "first_trade_id", "last_trade_id",
)


@dataclass
class SymbolBars:
    """One symbol's way from trades to second bars."""

    sealer: Sealer
    bars: list[Bar] = field(default_factory=list)
    pending: dict[int, list[Trade]] = field(default_factory=lambda: defaultdict(list))

    def on_frame(self, frame: MarketFrame, receive_ns: int) -> None:
        """Take a frame and close what is complete."""
        if isinstance(frame, TradeFrame) and frame.counts:
            self.on_trade(frame.to_trade(ts_init=receive_ns, source="recording", session="frames"))
        elif isinstance(frame, TradeFrame):
            self.sealer.on_uncounted(frame.trade_id, frame.time_ms * 1_000_000)
        elif isinstance(frame, DepthFrame):
            self._begin(frame.ts_event)
            self.sealer.on_event_time(frame.ts_event)
        self._close_complete()

    def on_trade(self, trade: Trade) -> None:
        """Take a trade and close what is complete."""
        self._begin(trade.ts_event)
        published = self.sealer.on_trade(trade)
        if published is not None:
            self.pending[published.ts_event // SECOND_NS * SECOND_NS + SECOND_NS].append(published)
        self._close_complete()

    def _close_complete(self) -> None:
        # No venue can be asked here: what is missing stays missing.
        while (missing := self.sealer.missing()) is not None:
            self.sealer.on_unfillable(missing)
        for second in self.sealer.take():
            self._close(second)

    def _begin(self, ts_event: int) -> None:
        if self.sealer.next_open is None:
            self.sealer.on_connected(ts_event)

    def _close(self, second: Second) -> None:
        trades = self.pending.pop(second.close, [])
        previous = self.bars[-1].close if self.bars else None
        if trades or previous is not None:
            self.bars.append(close_bar(_seal(self.sealer.symbol, second), trades, previous))


@dataclass(frozen=True)
class FrameBars:
    """What frames gave: second bars by symbol, and how many frames (or rows) could not be used, by reason."""

    bars: Mapping[str, list[Bar]]
    refused: Counter[str]
    frames: int
    late: int
    facts: Mapping[str, int] = field(default_factory=dict)


def second_bars(lines: Iterable[Line]) -> FrameBars:
    """Second bars of recorded lines. A frame that cannot be read is counted, never fatal."""
    spot, futures = Decoder(), binance_usdm.Decoder()
    symbols, refused, frames = dict[str, SymbolBars](), Counter[str](), 0
    for line in lines:
        if line.text.startswith('{"lastUpdateId"'):
            continue
        frames += 1
        try:
            frame = (futures if binance_usdm.is_futures(line.text) else spot).frame(line.text)
            if frame is not None:
                feed = symbols.setdefault(frame.symbol, SymbolBars(Sealer(frame.symbol)))
                feed.on_frame(frame, line.receive_ns)
        except InvalidMessage as error:
            refused[type(error).__name__] += 1
    late = sum(feed.sealer.late for feed in symbols.values())
    return FrameBars({symbol: feed.bars for symbol, feed in symbols.items()}, refused, frames, late)


def archive_bars(archive: Archive) -> FrameBars:
    """Second bars of an archive: of all the time that it holds whole, else as far as its ids go without a gap."""
    symbol, late = archive.trades[0].symbol, 0
    if archive.whole is not None:
        trades, whole = archive.trades, archive.whole
        if isinstance(trades, TradeColumns):
            bars = trades.bars(*whole, "backfill")
        else:
            bars = bars_from_trades(trades, *whole, provenance="backfill")
    else:
        feed = SymbolBars(Sealer(symbol))
        for trade in archive.trades:
            feed.on_trade(trade)
        bars, late = feed.bars, feed.sealer.late
    return FrameBars(
        {symbol: bars}, archive.refused, len(archive.trades) + archive.refused.total(), late, archive.facts)


def read_bars(paths: list[Path]) -> FrameBars:
    """Second bars of recordings and archives. Raises `ValueError` when none of it could be used."""
    found = [archive_bars(read_archive(path)) for path in paths if is_archive(path)]
    recordings = [path for path in paths if not is_archive(path)]
    if recordings:
        found.append(second_bars(read_lines(recordings)))
        if found[-1].refused.total() == found[-1].frames:
            raise ValueError(f"{recordings[0].name}: expected frames of combined streams, found none that can be read")
    bars: dict[str, list[Bar]] = defaultdict(list)
    facts: Counter[str] = Counter()
    for part in found:
        facts.update(part.facts)
        for symbol, rows in part.bars.items():
            bars[symbol] += rows
    refused = sum((part.refused for part in found), Counter[str]())
    return FrameBars(bars, refused, sum(part.frames for part in found), sum(part.late for part in found), facts)


def write_bars(paths: list[Path], interval: str, output: Path) -> dict[str, object]:
    """Bars of files as Parquet; returns a summary. Raises `ValueError` when nothing could be used."""
    if interval not in ("1s", "1m"):
        raise ValueError(f"interval: expected 1s or 1m, found {interval!r}")
    found = read_bars(paths)
    by_symbol = found.bars if interval == "1s" else {s: minute_bars(bars) for s, bars in found.bars.items()}
    bars = [bar for symbol in sorted(by_symbol) for bar in by_symbol[symbol]]
    _write_parquet(bars, output)
    return {
        "output": str(output), "interval": interval, "bars": len(bars), "frames": found.frames,
        "symbols": {symbol: len(rows) for symbol, rows in sorted(by_symbol.items())},
        "refused": dict(found.refused), "late": found.late, **found.facts,
    }


def _write_parquet(bars: Iterable[Bar], output: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    time = pa.timestamp("us", tz="UTC")
    kinds = {
        "symbol": pa.string(), "open_time": time, "close_time": time, "trades": pa.int64(),
        "first_trade_id": pa.int64(), "last_trade_id": pa.int64(),
    }
    schema = pa.schema([(name, kinds.get(name, pa.float64())) for name in COLUMNS])
    rows = [
        {**{name: getattr(bar, name) for name in COLUMNS},
         "open_time": bar.open_time // 1000, "close_time": bar.close_time // 1000}
        for bar in bars
    ]
    output.parent.mkdir(parents=True, exist_ok=True)
    partial = output.with_name(output.name + ".tmp")
    pq.write_table(pa.Table.from_pylist(rows, schema=schema), partial)
    partial.replace(output)


def _seal(symbol: str, second: Second) -> SecondClosed:
    return SecondClosed(
        symbol=symbol, ts_event=second.close, ts_init=second.close, source="recording", session="frames",
        close=second.close, prev_close=second.prev_close, n_trades=second.n_trades,
        first_trade_id=second.first_trade_id, last_trade_id=second.last_trade_id,
    )
