"""LiveState: what `/live` shows of one symbol, kept as JSON ready to send; pure.

    state = LiveState("BTCUSDT")
    text = state.take("bar", offset, bar)      # the update to send, or None when it is no news

Each message is turned into JSON once, however many clients there are and however often a snapshot is asked for.
Bars are one a close (the newest `created` wins), ascending in the snapshot; books one a second.
"""

from __future__ import annotations

from collections import deque
from typing import Literal

from sortedcontainers import SortedDict

from feature_repo.contracts import SECOND_NS, Bar, FeatureRow, LiveStatus, Market, OrderBook, Prediction

Channel = Literal["bar", "book", "features", "prediction", "status", "market"]
BARS_KEPT, BOOKS_KEPT = 600, 300


def update_json(channel: Channel, sequence: int, data: str) -> str:
    """A `LiveUpdate` around data that is JSON already."""
    return f'{{"type":"{channel}","sequence":{sequence},"data":{data}}}'


class LiveState:
    """Newest bars, books, features and prediction of one symbol."""

    def __init__(self, symbol: str) -> None:
        self.symbol = symbol
        self.sequences: dict[Channel, int] = {}
        self.newest_event_ns: int | None = None
        self.features: FeatureRow | None = None
        self.prediction: Prediction | None = None
        self.book: OrderBook | None = None
        self._bars: SortedDict[int, tuple[int, str]] = SortedDict()
        self._books: deque[tuple[int, str]] = deque(maxlen=BOOKS_KEPT)
        self._features_json = self._prediction_json = "null"

    def take(
        self, channel: Channel, offset: int, message: Bar | OrderBook | FeatureRow | Prediction,
    ) -> str | None:
        """Remember a message; returns the update's JSON, or None when clients need not hear of it."""
        self.sequences[channel] = max(offset, self.sequences.get(channel, 0))
        data = self._remember(message)
        return None if data is None else update_json(channel, offset, data)

    def snapshot(self, status: LiveStatus, market: Market) -> str:
        """A `LiveSnapshot` as JSON."""
        sequences = ",".join(f'"{channel}":{offset}' for channel, offset in self.sequences.items())
        bars = ",".join(text for _, text in self._bars.values())
        books = ",".join(text for _, text in self._books)
        return (
            f'{{"type":"snapshot","sequences":{{{sequences}}},"bars":[{bars}],"books":[{books}],'
            f'"features":{self._features_json},"prediction":{self._prediction_json},'
            f'"status":{status.model_dump_json()},"market":{market.model_dump_json()}}}'
        )

    def _remember(self, message: Bar | OrderBook | FeatureRow | Prediction) -> str | None:
        if isinstance(message, Bar):
            return self._remember_bar(message)
        if isinstance(message, OrderBook):
            return self._remember_book(message)
        if isinstance(message, FeatureRow):
            return self._remember_features(message)
        return self._remember_prediction(message)

    def _remember_bar(self, bar: Bar) -> str | None:
        held = self._bars.get(bar.close_time)
        too_old = len(self._bars) >= BARS_KEPT and bar.close_time < self._bars.peekitem(0)[0]
        if bar.interval_s != 1 or too_old or (held is not None and held[0] >= bar.created):
            return None
        self._see(bar.ts_event)
        text = bar.model_dump_json()
        self._bars[bar.close_time] = (bar.created, text)
        if len(self._bars) > BARS_KEPT:
            self._bars.popitem(0)
        return text

    def _remember_book(self, book: OrderBook) -> str | None:
        if self.book is not None and book.ts_event <= self.book.ts_event:
            return None
        self._see(book.ts_event)
        self.book = book
        text = book.model_dump_json()
        second = book.ts_event // SECOND_NS
        if not self._books or self._books[-1][0] < second:
            self._books.append((second, text))
        return text

    def _remember_features(self, row: FeatureRow) -> str | None:
        newest = self.features
        if newest is not None and (newest.ts_event, newest.created) >= (row.ts_event, row.created):
            return None
        self.features, self._features_json = row, row.model_dump_json()
        return self._features_json

    def _remember_prediction(self, prediction: Prediction) -> str | None:
        newest = self.prediction
        if newest is not None and (newest.ts_event, newest.ts_init) >= (prediction.ts_event, prediction.ts_init):
            return None
        self.prediction, self._prediction_json = prediction, prediction.model_dump_json()
        return self._prediction_json

    def _see(self, ts_event: int) -> None:
        self.newest_event_ns = max(ts_event, self.newest_event_ns or 0)
