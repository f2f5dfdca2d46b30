"""Handover: whether what one connection has delivered reaches to where the frames of the next one begin.

    has_come_to(feeds, decoder, held)       # held: the next one's frames so far, as text
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Mapping

from feature_repo.contracts import InvalidMessage
from streaming.feed import Feed
from streaming.venues.binance import STREAMS, Decoder


def has_come_to(feeds: Mapping[str, Feed], decoder: Decoder, held: Iterable[bytes]) -> bool:
    """Whether every feed has come to the first trade and diff of these frames. No frame proves nothing.

    The decoder counts what it meets: it is none that will meet these frames again.
    """
    seen: set[tuple[str, str]] = set()
    for text in held:
        with contextlib.suppress(InvalidMessage):  # judged when it is read
            frame = decoder.frame(text)
            if frame is None or (frame.symbol, frame.stream) in seen:
                continue
            seen.add((frame.symbol, frame.stream))
            feed = feeds.get(frame.symbol)
            if feed is not None and not feed.continues(frame):
                return False
        if len(seen) == len(feeds) * len(STREAMS):
            break
    return bool(seen)
