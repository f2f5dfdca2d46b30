"""Symbol stream: one symbol's trades, seals and history in, bars and feature rows out; pure, and saved in chunks.

    stream = SymbolStream.new("BTCUSDT")
    outputs = stream.apply(events)                    # messages for topics, and the newest row for the online store
    again = load("BTCUSDT", stream.position, dump(stream), chunks)

What it gives depends on the records of the trades topic and their order alone: not on batches, restarts or clocks.
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

from feature_repo import topics
from feature_repo.contracts import (
    HOUR_NS,
    MINUTE_NS,
    SECOND_NS,
    Bar,
    FeatureRow,
    InvalidMessage,
    Message,
    SecondClosed,
    Trade,
    UnknownSchema,
)
from feature_repo.history import RETIRED_NAMES, ROWS_NS, SECONDS_READ, BarHistory, feature_rows
from feature_repo.windows import MINUTE_FIELDS, SECOND_FIELDS
from streaming.analytics import Watch, analyse
from streaming.bars import Tick, tick_of
from streaming.seconds import Closed, GivenUp, Outcome, Seconds
from streaming.ticks import TRADE, read_ticks

ONLINE, COUNTS = "online", "counts"
"""`topic` of outputs that are no messages: the newest row for the online store, and counts as JSON in `mirrors`."""
COMPONENT = "streaming"
STATE_LAYOUT = 2
"""Raised when what `dump` writes is another thing than before."""
# First start sends 1,570 minutes: all of them must be held until their rows are made.
MINUTES_KEPT = 2 * 1_440
KEPT_NS = {MINUTE_NS: SECONDS_READ * SECOND_NS + MINUTE_NS, HOUR_NS: MINUTES_KEPT * MINUTE_NS + HOUR_NS}
"""Length of a chunk → how long after its start no window reads it any more."""
Position = tuple[int, int]
Chunk = tuple[int, int]  # length and start in ns: it holds the closes in (start, start + length]


class Event(NamedTuple):
    """One record of the trades topic. `timestamp_ns` is the broker's."""

    partition: int
    offset: int
    timestamp_ns: int
    topic: str
    schema: str | None
    body: bytes


class Output(NamedTuple):
    """One row of `OUTPUT`: a message for a topic, or `ONLINE` or `COUNTS`."""

    topic: str
    key: str
    schema: str
    body: bytes
    sequence: bytes | None = None
    mirrors: str | None = None


class Outputs(list[Output]):
    """Outputs in their order. Rows are computed many at once: until then each has its place here."""

    def __init__(self) -> None:
        super().__init__()
        self._awaited: list[tuple[int, Bar]] = []
        self.newest: tuple[FeatureRow, Output] | None = None
        """The newest row there has been, and its message."""

    def await_row(self, bar: Bar) -> None:
        """Keep places for the row of a bar that has been pushed, for its line in the table and for an alert."""
        self._awaited.append((len(self), bar))
        self += [_EMPTY] * 3

    def may_wait_for(self, bar: Bar) -> bool:
        """Whether the rows awaited come out the same when `bar` has been pushed."""
        if not self._awaited:
            return True
        first, last = self._awaited[0][1].close_time, self._awaited[-1][1].close_time
        return last < bar.close_time <= first + ROWS_NS

    def take_awaited(self) -> list[tuple[int, Bar]]:
        """The places that wait for a row, and whose it is; they wait no longer."""
        awaited, self._awaited = self._awaited, []
        return awaited

    def without_empty(self) -> list[Output]:
        return [output for output in self if output is not _EMPTY]


_EMPTY = Output("", "", "", b"")


@dataclass
class SymbolStream:
    """Everything known of one symbol. `apply` is pure but for the state it advances."""

    symbol: str
    seconds: Seconds
    history: BarHistory
    position: Position = (-1, -1)
    """Partition and offset of the last record applied."""
    owed: list[Bar] = field(default_factory=list)
    """Backfilled minutes whose feature rows wait for the end of the history."""
    changed: set[Chunk] = field(default_factory=set)
    """The chunks of history that are not yet saved."""
    watch: Watch | None = None
    """The alert on the price that is firing."""

    @classmethod
    def new(cls, symbol: str, retired: Collection[str] = RETIRED_NAMES) -> SymbolStream:
        """A stream that has seen nothing. Of the retired features it computes those named."""
        return cls(symbol, Seconds(symbol), _new_history(symbol, retired))

    def apply(self, events: Iterable[Event]) -> list[Output]:
        """Everything that becomes certain by these events, in order; the newest row also as the online row."""
        batch, outputs = list(events), Outputs()
        for event, tick in zip(batch, self._ticks(batch), strict=True):
            try:
                outcomes = self._take(event) if tick is None else self.seconds.take_tick(tick)
            except (InvalidMessage, UnknownSchema) as error:
                outputs.append(self._dead(event.body, error, event))
                continue
            for outcome in outcomes:
                self._emit(outcome, event, outputs)
        if batch:
            self.position = (batch[-1].partition, batch[-1].offset)
        self._fill_rows(outputs)
        if outputs.newest is not None:
            outputs.append(self._online(*outputs.newest))
        if self.seconds.counts:
            outputs.append(Output(COUNTS, self.symbol, "", b"", mirrors=json.dumps(self.seconds.counts)))
            self.seconds.counts.clear()
        return outputs.without_empty()

    def _ticks(self, events: Sequence[Event]) -> list[Tick | None]:
        """The trades among events that can be read in bulk, at their places."""
        places = [i for i, event in enumerate(events) if event.schema == TRADE]
        found: list[Tick | None] = [None] * len(events)
        for place, tick in zip(places, read_ticks([events[i].body for i in places], self.symbol), strict=True):
            found[place] = tick
        return found

    def _take(self, event: Event) -> Sequence[Outcome]:
        message = topics.decode(event.body, event.schema)
        if getattr(message, "symbol", None) != self.symbol:
            raise InvalidMessage(f"expected a message of its key {self.symbol!r}, found {message!r:.200}")
        if isinstance(message, Trade):
            return self.seconds.take_tick(tick_of(message, event.body))
        return self.seconds.take(message)

    def _emit(self, outcome: Outcome, event: Event, outputs: Outputs) -> None:
        if isinstance(outcome, GivenUp):
            error = InvalidMessage(outcome.detail)
            outputs.append(self._dead(topics.encode(outcome.seal), error, event, "IncompleteSecond"))
            return
        outputs.append(_message(topics.CLEAN, outcome.bar))
        if isinstance(outcome, Closed):
            self._settle_history(outputs)
        elif outcome.bar.interval_s == 60:
            self.owed.append(outcome.bar)
        if not outputs.may_wait_for(outcome.bar):
            self._fill_rows(outputs)
        self._push(outcome.bar)
        if isinstance(outcome, Closed):
            outputs.await_row(outcome.bar)

    def _settle_history(self, outputs: Outputs) -> None:
        """The rows of backfilled minutes, when the first second closes behind them."""
        history = sorted(self.owed, key=lambda owed: owed.close_time)
        self.owed.clear()
        if history:
            self._fill_rows(outputs)
            outputs += [_message(topics.FEATURES, row) for row in feature_rows(history, self.history)]

    def _fill_rows(self, outputs: Outputs) -> None:
        """Put what follows from the awaited bars in its places."""
        awaited = outputs.take_awaited()
        if not awaited:
            return
        bars = [bar for _, bar in awaited]
        rows = feature_rows(bars, self.history)
        windows = self.history.windows(np.array([bar.close_time for bar in bars], dtype=np.int64))
        for at, ((place, bar), row) in enumerate(zip(awaited, rows, strict=True)):
            summary, self.watch, alert = analyse(bar, row, windows, self.watch, at)
            outputs[place : place + 2] = _message(topics.FEATURES, row), _message(topics.ANALYTICS, summary)
            if alert is not None:
                outputs[place + 2] = _message(topics.ALERTS, alert)
        outputs.newest = rows[-1], outputs[awaited[-1][0]]

    def _push(self, bar: Bar) -> None:
        before = self.history.last_close or bar.close_time
        self.history.push(bar)
        self.changed |= set(_chunks_of(bar, before))

    def _online(self, row: FeatureRow, message: Output) -> Output:
        # Its message is already among the outputs: this one goes to the online store only.
        sequence = self.history.sequence(row.ts_event).astype("<f8").tobytes()
        mirrors = json.dumps(self.history.mirrors(row))
        return message._replace(topic=ONLINE, sequence=sequence, mirrors=mirrors)

    def _dead(self, body: bytes, error: Exception, event: Event, reason: str | None = None) -> Output:
        letter = topics.dead_letter(
            body, error, component=COMPONENT, ts_init=event.timestamp_ns, topic=event.topic, symbol=self.symbol[:200],
        )
        letter = letter.model_copy(update={"reason": reason}) if reason else letter
        return _message(topics.DEAD_LETTERS, letter, self.symbol)


def _message(topic: str, message: Message, key: str | None = None) -> Output:
    return Output(topic, key or message.symbol, topics.header(message), topics.encode(message))  # type: ignore[attr-defined]


def layout_hash() -> str:
    """Names the state's layout: state written under another one is not read but made again from the topic.

    >>> len(layout_hash())
    8
    """
    layout = json.dumps([STATE_LAYOUT, SECOND_FIELDS, MINUTE_FIELDS])
    return hashlib.sha256(layout.encode()).hexdigest()[:8]


def dump(stream: SymbolStream) -> bytes:
    """Everything of a stream but its history chunks, as JSON."""
    trades = [_packed(TRADE, tick.body) for tick in stream.seconds.trades.values()]
    waiting = [_pack(message) for message in (*stream.seconds.seals.values(), *stream.owed)]
    return json.dumps({
        "last_close": stream.seconds.last_close, "last_price": stream.seconds.last_price,
        "waiting": trades + waiting,
        "watch": stream.watch._asdict() if stream.watch else None,
    }).encode()


def load(
    symbol: str, position: Position, body: bytes, chunks: Mapping[Chunk, bytes],
    retired: Collection[str] = RETIRED_NAMES,
) -> SymbolStream:
    """The stream that `dump` and its chunks describe; they hold bars, so that any set of features goes on from them."""
    held = json.loads(body)
    waiting = [(_unpack(packed), _body(packed)) for packed in held["waiting"]]
    ticks = [tick_of(message, body) for message, body in waiting if isinstance(message, Trade)]
    seconds = Seconds(
        symbol, held["last_close"], held["last_price"],
        trades={tick.trade_id: tick for tick in ticks},
        seals={message.close: message for message, _ in waiting if isinstance(message, SecondClosed)},
    )
    owed = [message for message, _ in waiting if isinstance(message, Bar)]
    # State of before there were alerts has no watch: none was firing.
    watch = Watch(**held["watch"]) if held.get("watch") else None
    stream = SymbolStream(symbol, seconds, _new_history(symbol, retired), position, owed, watch=watch)
    for (span, start), chunk in sorted(chunks.items()):
        (stream.history.load_second_chunk if span == MINUTE_NS else stream.history.load_minute_chunk)(start, chunk)
    return stream


def chunk_bytes(stream: SymbolStream, chunk: Chunk) -> bytes:
    """A chunk's bars as they are saved."""
    span, start = chunk
    return stream.history.second_chunk(start) if span == MINUTE_NS else stream.history.minute_chunk(start)


def _new_history(symbol: str, retired: Collection[str]) -> BarHistory:
    return BarHistory(symbol, minutes_kept=MINUTES_KEPT, retired=retired)


def _chunks_of(bar: Bar, before: int) -> Iterator[Chunk]:
    """The chunks that a bar changes; `before` is the close of the newest second bar before it."""
    if bar.interval_s == 60:
        yield HOUR_NS, _start(bar.close_time, HOUR_NS)
        return
    yield MINUTE_NS, _start(bar.close_time, MINUTE_NS)
    # The second may have completed the minutes that ended since the second before it.
    first = max(before, bar.close_time - SECONDS_READ * SECOND_NS) // MINUTE_NS + 1
    for minute in range(first, bar.close_time // MINUTE_NS + 1):
        yield HOUR_NS, _start(minute * MINUTE_NS, HOUR_NS)


def _start(close_ns: int, span_ns: int) -> int:
    """Start of the chunk that a close belongs to: chunks hold closes in (start, start + span]."""
    return (close_ns - 1) // span_ns * span_ns


def _pack(message: Message) -> list[str]:
    return _packed(topics.header(message), topics.encode(message))


def _packed(header: str, body: bytes) -> list[str]:
    return [header, base64.b64encode(body).decode()]


def _body(packed: list[str]) -> bytes:
    return base64.b64decode(packed[1])


def _unpack(packed: list[str]) -> Message:
    return topics.decode(_body(packed), packed[0])
