"""Sampled: what the online store shows of a symbol, now and then each second: its row, its mirror keys, its slow rows.

    samples = sample(store, "BTCUSDT", watch_s=5, sleep=time.sleep)
    samples.newest                                # the latest close that was seen; the lake is waited for until then

The online store keeps the newest of each alone, so that it is looked at first, and judged when the lake has it too.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from feature_repo.contracts import SECOND_NS
from feature_repo.slow_features import SlowRow
from feature_repo.store import FeatureStore, OnlineRow

Sleep = Callable[[float], object]
NEAR_NS = 60 * SECOND_NS


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
    def values(self) -> dict[str, dict[str, Any]]:
        """Window → what its text says; nothing where that is no JSON object."""
        return {window: _object(text) for window, text in self.texts.items() if text is not None}

    @property
    def close(self) -> int:
        """The latest close that one of them names, ns; 0 where none does."""
        told = (values.get("timestamp") for values in self.values.values())
        return max((at * SECOND_NS for at in told if type(at) is int), default=0)

    @property
    def follows(self) -> bool:
        """Whether it may be of a second that came while it was read: one to wait for, not one that is made up."""
        return self.close - self.row_close <= NEAR_NS


@dataclass
class Samples:
    """What was seen, each thing once."""

    rows: dict[int, OnlineRow | None] = field(default_factory=dict)
    """Close → the online row; null under 0 when there was none."""
    mirrors: list[Mirrors] = field(default_factory=list)
    slow: dict[tuple[str, int, int], tuple[int, SlowRow | None]] = field(default_factory=dict)
    """View, `ts_event` and `created` (0 where there is no row) → when it was last seen, ns, and the row."""

    @property
    def newest(self) -> int:
        """The latest close seen, ns; 0 where there was none."""
        return max([0, *self.rows, *(seen.close for seen in self.mirrors if seen.follows)])

    def until(self, close: int) -> Samples:
        """Without rows and mirror keys of later closes."""
        return Samples({at: row for at, row in self.rows.items() if at <= close},
                       [seen for seen in self.mirrors if seen.row_close <= close
                        and (seen.close <= close or not seen.follows)], self.slow)


def sample(store: FeatureStore, symbol: str, watch_s: float, sleep: Sleep) -> Samples:
    """What the store shows now, and then each second for `watch_s`."""
    found = Samples()
    for n in range(int(watch_s) + 1):
        if n:
            sleep(1.0)
        at_ns = store.clock_ns()
        row = store.read(symbol)
        close = row.row.ts_event if row else 0
        found.rows[close] = row
        seen = Mirrors(at_ns, close, store.read_mirrors(symbol))
        if not found.mirrors or found.mirrors[-1].texts != seen.texts:
            found.mirrors.append(seen)
        for view, slow in store.read_slow(symbol).items():
            found.slow[view, slow.ts_event if slow else 0, slow.created if slow else 0] = at_ns, slow
    return found


def _object(text: str) -> dict[str, Any]:
    try:
        told = json.loads(text)
    except ValueError:
        return {}
    return told if isinstance(told, dict) else {}
