"""Every formula on recorded data: frames → feed → seals → bars → rows, against the naive twin, within 1e-9."""

from __future__ import annotations

import json
from collections import defaultdict
from functools import cache
from pathlib import Path

import pandas as pd
import pytest

from feature_repo.contracts import MINUTE_NS, SECOND_NS, Bar, Message, SecondClosed, Trade
from feature_repo.features import FEATURE_NAMES
from feature_repo.history import BarHistory
from streaming.bars import close_bar
from streaming.feed import Feed
from streaming.ingest_metrics import IngestMetrics
from streaming.recording import read_lines
from streaming.venues.binance import Decoder, DepthFrame, TradeFrame, snapshot
from streaming.venues.binance_rest import Identity
from tests.conftest import Recorded
from tests.feature_repo.naive import Naive

BEGIN_NS = 1_723_161_260 * SECOND_NS  # 2024-08-08 23:54:20, after the recording's first snapshot


def published(frames: tuple[Path, ...]) -> list[Message]:
    """What ingest would publish for the recording; the clock is the newest event time."""
    out: list[Message] = []
    feed, decoder, now = Feed("BTCUSDT", lambda _, message: out.append(message), IngestMetrics()), Decoder(), 0
    for line in read_lines(frames):
        if "lastUpdateId" in line.text:
            feed.on_snapshot(snapshot(json.loads(line.text)), now)
            continue
        frame = decoder.frame(line.text)
        if isinstance(frame, TradeFrame | DepthFrame):
            at = frame.time_ms * 1_000_000 if isinstance(frame, TradeFrame) else frame.ts_event
            if not now:
                feed.connected(Identity("recording", "test"), at, lambda ns: ns)
                feed.filled(feed.hole)  # nothing came before the recording
            now = max(now, at)
        if frame is not None and now:
            feed.on_frame(frame, now)
    return out


def second_bars(messages: list[Message]) -> list[Bar]:
    trades: dict[int, list[Trade]] = defaultdict(list)
    bars: list[Bar] = []
    for message in messages:
        if isinstance(message, Trade):
            trades[message.ts_event // SECOND_NS * SECOND_NS + SECOND_NS].append(message)
        elif isinstance(message, SecondClosed) and (bars or trades[message.close]):
            bars.append(close_bar(message, trades.pop(message.close, []), bars[-1].close if bars else None))
    return bars


def minute_history(path: Path) -> list[Bar]:
    """The official klines up to the minute in which the recording began; quote volume by the mean of open and close."""
    klines = pd.read_parquet(path)
    opened = pd.to_datetime(klines["date"], utc=True).dt.as_unit("ns").astype("int64")
    chosen = klines[(opened < BEGIN_NS) & (opened >= BEGIN_NS - 1511 * MINUTE_NS)]
    return [
        Bar(
            symbol="BTCUSDT", ts_event=at + MINUTE_NS, ts_init=at + MINUTE_NS, source="recording", session="klines",
            interval_s=60, open_time=at, close_time=at + MINUTE_NS, open=k.open, high=k.high, low=k.low, close=k.close,
            volume=k.volume, quote_volume=round(k.volume * (k.open + k.close) / 2, 8), vwap=k.close, trades=1,
            taker_buy_volume=None, created=at + MINUTE_NS + SECOND_NS, provenance="backfill",
        )
        for at, k in zip(opened[chosen.index].tolist(), chosen.itertuples(), strict=True)
    ]


@cache
def market(recorded: Recorded) -> tuple[list[Bar], list[Bar]]:
    return minute_history(recorded.klines_1m), second_bars(published(recorded.frames()))


@pytest.mark.slow
def test_every_feature_equals_its_naive_twin_on_the_recorded_market(recorded: Recorded) -> None:
    minutes, seconds = market(recorded)
    history = BarHistory("BTCUSDT", minutes_kept=2000)
    naive = Naive({b.close_time: b for b in seconds}, {b.close_time: b for b in minutes})
    for bar in [*minutes, *seconds]:
        history.push(bar)
    known = dict.fromkeys(FEATURE_NAMES, 0)
    closes = [b.close_time for b in seconds]
    for t in [*closes[61::37], *(t for t in closes if t % MINUTE_NS == 0)]:
        for name, value in history.row(t)[0].items():
            expected = naive.value(name, t)
            assert (value is None) == (expected is None), (name, t, value, expected)
            if expected is not None:
                assert value == pytest.approx(expected, rel=1e-9, abs=1e-10), (name, t)
                known[name] += 1
    # 15-minute windows are known at whole minutes, from klines; the day's delta from midnight on, which is crossed.
    assert min(known.values()) > 0, {name for name, count in known.items() if not count}


@pytest.mark.slow
def test_the_recorded_book_is_known_in_every_second_after_its_snapshot(recorded: Recorded) -> None:
    _, seconds = market(recorded)
    assert len(seconds) >= 645
    assert sum(bar.book_valid for bar in seconds) >= len(seconds) - 2
    spread = [bar.ask_price - bar.bid_price for bar in seconds if bar.ask_price and bar.bid_price]
    assert min(spread) >= 0.0099
