"""Closes: what slow rows read of a symbol's own closes, each looked at once in a run, and whether they have moved.

    closes = Closes(lake, "BTCUSDT", settings.data_dir)
    closes.of_lake(sessions), closes.of_files(sessions)
    closes.have_moved(sessions, made_ns)

A beta reads a hundred hours of bars, and the rows of one window read the same ones.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from feature_repo.contracts import HOUR_NS, MINUTE_NS, Observation
from feature_repo.lake_reader import Lake
from feature_repo.topics import base
from streaming.slow_history import file_closes
from streaming.slow_rows import lake_closes

HOUR_OVER_NS = HOUR_NS + 10 * MINUTE_NS
"""From an hour's start to when the stream has written its bars."""


@dataclass
class Closes:
    """The closes of one symbol as they are while a certificate is made."""

    lake: Lake
    symbol: str
    data_dir: Path
    """Where a backfilled beta's closes come from."""
    _of_lake: dict[int, list[Observation]] = field(default_factory=dict)
    _of_files: dict[int, list[Observation]] = field(default_factory=dict)
    _changed: dict[int, int] = field(default_factory=dict)

    def of_lake(self, times_ns: Sequence[int]) -> list[Observation]:
        """Every version of the closes at some whole minutes. Raises `StoreUnavailable`."""
        return _once(self._of_lake, times_ns, lambda asked: lake_closes(self.lake, self.symbol, asked))

    def of_files(self, times_ns: Sequence[int]) -> list[Observation]:
        """Those of the data folder's klines; none where it has none of the symbol."""
        return _once(self._of_files, times_ns, lambda asked: file_closes(self.data_dir, self.symbol, asked))

    def have_moved(self, times_ns: Iterable[int], made_ns: int) -> bool:
        """Whether a file with one of these closes was written after something was made of them.

        A bar that is filled in claims to have been known one second after its close; its file's time betrays it. Raises
        `StoreUnavailable`.
        """
        hours = sorted({at // HOUR_NS * HOUR_NS for at in times_ns})
        return any(self._changed_ns(hour) > max(made_ns, hour + HOUR_OVER_NS) for hour in hours)

    def _changed_ns(self, hour: int) -> int:
        if hour not in self._changed:
            self._changed[hour] = self.lake.changed_ns("clean", base(self.symbol), hour)
        return self._changed[hour]


def _once(
    held: dict[int, list[Observation]], times_ns: Sequence[int], read: Callable[[list[int]], list[Observation]],
) -> list[Observation]:
    """What `held` has of some times, after those that it lacks were read."""
    if asked := [at for at in times_ns if at not in held]:
        held.update({at: [] for at in asked})
        for close in read(asked):
            held[close.ts_event].append(close)
    return [close for at in times_ns for close in held[at]]
