"""Sampled: what the online store shows of a symbol, now and then each second: its row, its mirror keys, its slow rows.

    samples = sample(store, "BTCUSDT", watch_s=5, sleep=time.sleep)
    samples.newest                                # the latest close that was seen; the lake is waited for until then

The online store keeps the newest of each alone, so that it is looked at first, and judged when the lake has it too.
What cannot be read is seen as well, and keeps nothing else from being looked at.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar

from feature_repo.contracts import SECOND_NS, InvalidMessage
from feature_repo.online_row import OnlineContext
from feature_repo.slow_features import VIEW_OF, SlowRow
from feature_repo.store import FeatureStore, OnlineRow
from feature_repo.unreadable import UnreadableRow
from monitoring.parity.report import CONTEXT_ROW, ROW, Unreadable

T = TypeVar("T")
Sleep = Callable[[float], object]
NEAR_NS = 60 * SECOND_NS
ONLINE, ONLINE_SLOW = "online", "online slow rows"


@dataclass(frozen=True)
class Mirrors:
    """The mirror keys of one moment."""

    at_ns: int
    """When they were read, by the store's clock."""
    row_close: int
    """Close of the online row that was read before them; 0 where there was none."""
    texts: Mapping[str, str | None]
    """Window → what its key holds."""

    @property
    def torn(self) -> dict[str, str]:
        """Window → its text where that is no JSON object."""
        return {window: text for window, text in self.texts.items() if text is not None and _object(text) is None}

    @property
    def values(self) -> dict[str, dict[str, Any]]:
        """Window → what its text says; nothing where that is no JSON object."""
        return {window: _object(text) or {} for window, text in self.texts.items() if text is not None}

    @property
    def close(self) -> int:
        """The latest close that one of them names, ns; 0 where none does."""
        told = (values.get("timestamp") for values in self.values.values())
        return max((at * SECOND_NS for at in told if type(at) is int), default=0)

    @property
    def follows(self) -> bool:
        """Whether it may be of a second that came while it was read: one to wait for, not one that is made up."""
        return self.close - (self.row_close or self.at_ns) <= NEAR_NS


@dataclass
class Samples:
    """What was seen, each thing once."""

    rows: dict[int, OnlineRow | None] = field(default_factory=dict)
    """Close → the online row; null under 0 when there was none."""
    mirrors: list[Mirrors] = field(default_factory=list)
    slow: dict[tuple[str, int, int], tuple[int, SlowRow | None]] = field(default_factory=dict)
    """View, `ts_event` and `created` (0 where there is no row) → when it was last seen, ns, and the row."""
    context: dict[tuple[int, int], tuple[int, OnlineContext | None]] = field(default_factory=dict)
    """The same of `volatility_context`, by `ts_event` and `created`."""
    unreadable: dict[tuple[Unreadable, str], int] = field(default_factory=dict)
    """What could not be read, and the name it is counted by → when that was first seen, ns."""
    at_ns: int = 0
    """When the store was last looked at, by its clock; 0: it never was."""

    @property
    def newest(self) -> int:
        """The latest close seen, ns, of those that may yet come into the lake; 0 where there was none."""
        closes = (at for at in self.rows if not self._is_made_up(at))
        return max([0, *closes, *(seen.close for seen in self.mirrors if seen.follows)])

    def until(self, close: int) -> Samples:
        """Without rows and mirror keys of later closes; what claims to be of a time to come is not waited for."""
        return replace(
            self, rows={at: row for at, row in self.rows.items() if at <= close or self._is_made_up(at)},
            mirrors=[seen for seen in self.mirrors if seen.row_close <= close
                     and (seen.close <= close or not seen.follows)],
        )

    def _is_made_up(self, close: int) -> bool:
        return 0 < self.at_ns < close - NEAR_NS


def sample(store: FeatureStore, symbol: str, watch_s: float, sleep: Sleep) -> Samples:
    """What the store shows now, and then each second for `watch_s`. Raises `StoreUnavailable`."""
    found = Samples()
    for n in range(int(watch_s) + 1):
        if n:
            sleep(1.0)
        _look(_Reader(store, symbol, found, store.clock_ns()), found)
    return found


def _look(reader: _Reader, found: Samples) -> None:
    at_ns = found.at_ns = reader.at_ns
    read, row = reader.read(reader.store.read, ONLINE, ROW)
    close = row.row.ts_event if row else 0
    if read:
        found.rows[close] = row
    seen = Mirrors(at_ns, close, reader.store.read_mirrors(reader.symbol))
    if not found.mirrors or found.mirrors[-1].texts != seen.texts:
        found.mirrors.append(seen)
    read, views = reader.read(reader.store.read_slow, ONLINE_SLOW, ROW)
    for view, slow in (views or {}).items():
        if isinstance(slow, UnreadableRow):
            reader.cannot(slow, ONLINE_SLOW, VIEW_OF[view].state("row"))
        else:
            found.slow[view, slow.ts_event if slow else 0, slow.created if slow else 0] = at_ns, slow
    read, context = reader.read(reader.store.read_context, ONLINE_SLOW, CONTEXT_ROW)
    if read:
        found.context[(context.ts_event, context.created) if context else (0, 0)] = at_ns, context


@dataclass(frozen=True)
class _Reader:
    """Reads of one symbol at one moment; what cannot be read goes to `found`."""

    store: FeatureStore
    symbol: str
    found: Samples
    at_ns: int

    def read(self, ask: Callable[[str], T], where: str, feature: str) -> tuple[bool, T | None]:
        """Whether it could be read, and what was."""
        try:
            return True, ask(self.symbol)
        except InvalidMessage as error:
            self.cannot(error, where, feature)
            return False, None

    def cannot(self, error: InvalidMessage, where: str, feature: str) -> None:
        named = error if isinstance(error, UnreadableRow) else UnreadableRow("", "the key", "a row's hash", str(error))
        what = Unreadable(where, self.store.place(self.symbol), named.name, named.expected, named.found)
        self.found.unreadable.setdefault((what, feature), self.at_ns)


def _object(text: str) -> dict[str, Any] | None:
    try:
        told = json.loads(text)
    except (ValueError, RecursionError):
        return None
    return told if isinstance(told, dict) else None
