"""Recorded feed: recorded frames through ingest's own rules, in the recording's time: the same messages every time.

    for topic, message in messages(files, "BTCUSDT", source="recording", session="tuesday"): ...

The feed is the one that ingest runs; time is when each frame was received, put forward by one constant so that none was
received before the events it tells of (the recorder's clock may have been behind). No venue can be asked here: trade
ids that the files lack are holes, and a lost book waits for the next snapshot in them.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import structlog

from feature_repo.contracts import InvalidMessage, Message, Source, StaleBook
from streaming.feed import STRAY_NS, Feed
from streaming.ingest_metrics import IngestMetrics
from streaming.recording import Line, read_lines
from streaming.recordings import SNAPSHOT
from streaming.venues.binance import MILLISECOND_NS, DepthFrame, MarketFrame, TradeFrame, snapshot
from streaming.venues.binance_rest import Identity
from streaming.venues.market import market_of

log = structlog.get_logger()


@dataclass
class RecordedFeed:
    """One symbol's frames in, what ingest would have published out. `refused` counts frames by reason."""

    symbol: str
    source: Source
    session: str
    skew_ns: int = 0
    """Added to every receive time."""
    refused: Counter[str] = field(default_factory=Counter)
    _out: list[tuple[str, Message]] = field(default_factory=list)
    _feed: Feed | None = None

    def __post_init__(self) -> None:
        self._decoder = market_of(self.symbol).decoder()

    def take(self, line: Line) -> list[tuple[str, Message]]:
        """What one more line makes known: (topic, message), in order."""
        now = line.receive_ns + self.skew_ns
        feed = self._feed = self._feed or self._connected(now)
        try:
            self._apply(feed, line.text, now)
        except (ValueError, StaleBook) as error:
            self.refused[type(error).__name__] += 1
        self._go_on_behind_holes(feed, now)
        out, self._out = self._out, []
        return out

    def _connected(self, now: int) -> Feed:
        feed = Feed(self.symbol, lambda topic, message: self._out.append((topic, message)), IngestMetrics())
        feed.connected(Identity(self.source, self.session), now, lambda margin_ns: margin_ns)
        return feed

    def _apply(self, feed: Feed, text: str, now: int) -> None:
        if text.startswith(SNAPSHOT):
            feed.on_snapshot(snapshot(json.loads(text)), now)
            return
        frame = self._decoder.frame(text)
        if frame is not None and frame.symbol == self.symbol:
            feed.on_frame(frame, now)

    def _go_on_behind_holes(self, feed: Feed, now: int) -> None:
        while (missing := feed.sealer.missing()) is not None:
            feed.unfillable(missing)
        if feed.hole is not None:
            feed.filled(feed.hole)
            feed.seal(now)


def messages(files: Sequence[Path], symbol: str, source: Source, session: str) -> Iterator[tuple[str, Message]]:
    """Every message that one symbol's files, in order, come to. Raises `ValueError` when none of them can be used."""
    feed = RecordedFeed(symbol, source, session, skew_ns(symbol, read_lines(files)))
    lines = 0
    for line in read_lines(files):
        lines += 1
        yield from feed.take(line)
    if feed.refused:
        log.warning("recorded_frames_refused", symbol=symbol, frames=lines, refused=dict(feed.refused))
    if feed.refused.total() == lines:
        raise ValueError(f"expected combined-stream frames of {symbol} in {files[0].name}, found none that can be read")


def skew_ns(symbol: str, lines: Iterable[Line]) -> int:
    """How far the recorder's clock was behind the venue's at most, ns; 0 when it never was."""
    decoder, behind = market_of(symbol).decoder(), 0
    for line in lines:
        try:
            at = 0 if line.text.startswith(SNAPSHOT) else _event_ns(decoder.frame(line.text))
        except InvalidMessage:
            continue
        if at - line.receive_ns <= STRAY_NS:
            behind = max(behind, at - line.receive_ns)
    return behind


def _event_ns(frame: MarketFrame | None) -> int:
    return frame.time_ms * MILLISECOND_NS if isinstance(frame, TradeFrame | DepthFrame) else 0
