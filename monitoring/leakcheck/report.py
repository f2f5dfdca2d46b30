"""Report: what was compared, which name leaked at which instant, and what nothing could be said of."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from typing import Any

import numpy as np
from numpy.typing import NDArray

from feature_repo.contracts import NANOS
from monitoring.leakcheck.world import Table

EXAMPLES = 20
MADE_ROWS = "history through Feast"
ROW = "row"


@dataclass(frozen=True)
class Leak:
    """One value that changed with something not known when it was decided. Values as hex: the last bit is seen."""

    name: str
    instant: str
    """When the row was decided that changed."""
    cut: str
    """Up to when both worlds agree."""
    path: str
    how: str
    expected: str
    found: str


@dataclass
class Report:
    """What was compared. Leaks are counted by name; the first of each name and path is kept."""

    compared: dict[str, int] = field(default_factory=dict)
    """Path → values that had to stay and were looked at."""
    leaks: list[Leak] = field(default_factory=list)
    counts: dict[str, int] = field(default_factory=dict)
    """Name → values that changed."""
    known: set[str] = field(default_factory=set)
    """Names that had a value at some instant."""
    moved: set[str] = field(default_factory=set)
    """Names that changed after the cut: the difference between the worlds reaches them."""

    @property
    def passed(self) -> bool:
        return not self.counts and bool(self.compared)

    def compare(self, path: str, how: str, cut_ns: int, tables: tuple[Table, Table], judged: Any = None) -> None:
        """Of two tables over worlds that agree up to the cut: what is decided by then must be equal, bit for bit.

        `judged` (N, F): which values of the first table must stay; by default those of rows decided by the cut.
        """
        base, other = tables
        must = np.broadcast_to((base.decided_ns <= cut_ns)[:, None], base.values.shape) if judged is None else judged
        at, missing = _places(base.decided_ns, other.decided_ns)
        twin = np.where(missing[:, None], np.nan, other.values[at] if len(other.values) else np.nan)
        same = (base.values == twin) | (np.isnan(base.values) & np.isnan(twin))
        self.compared[path] = self.compared.get(path, 0) + int(must.sum())
        for row in np.flatnonzero(missing & must.any(axis=1)):
            self._add(Leak(ROW, _time(base.decided_ns[row]), _time(cut_ns), path, how, "a row", "none"))
        for row, column in zip(*np.nonzero(must & ~same & ~missing[:, None]), strict=True):
            self._add(Leak(
                base.names[column], _time(base.decided_ns[row]), _time(cut_ns), path, how,
                _bits(base.values[row, column]), _bits(twin[row, column]),
            ))
        if path == MADE_ROWS:
            return  # nothing is shown of a formula by rows that no formula made
        held, free = must & ~np.isnan(base.values), ~must & ~same & ~missing[:, None]
        self.known |= {base.names[i] for i in np.flatnonzero(held.any(axis=0))}
        self.moved |= {base.names[i] for i in np.flatnonzero(free.any(axis=0))}

    def found(self, name: str, at_ns: int, cut_ns: int, path: str, how: str, expected: str, found: str) -> None:
        """A leak that is no difference of two tables."""
        self._add(Leak(name, _time(at_ns), _time(cut_ns), path, how, expected, found))

    def _add(self, leak: Leak) -> None:
        self.counts[leak.name] = self.counts.get(leak.name, 0) + 1
        if not any((kept.name, kept.path) == (leak.name, leak.path) for kept in self.leaks):
            self.leaks.append(leak)

    def unproven(self, names: Iterable[str], constant: Iterable[str] = ()) -> list[str]:
        """Names of which nothing was shown: never a value before a cut, or never another one after it."""
        still = set(constant)
        return [name for name in names if name not in self.known or (name not in self.moved and name not in still)]

    def as_dict(self) -> Mapping[str, Any]:
        return {
            "passed": self.passed, "compared": self.compared, "leaking": dict(sorted(self.counts.items())),
            "leaks": [asdict(leak) for leak in self.leaks[:EXAMPLES]],
        }


def _places(wanted: NDArray[np.int64], held: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """Place of each wanted time among those held (ascending), and which are not there."""
    at = np.minimum(np.searchsorted(held, wanted), max(len(held) - 1, 0))
    missing = held[at] != wanted if len(held) else np.ones(len(wanted), dtype=bool)
    return at, missing


def _bits(value: float) -> str:
    return "null" if np.isnan(value) else float(value).hex()


def _time(at_ns: int) -> str:
    return datetime.fromtimestamp(int(at_ns) / NANOS, UTC).isoformat(timespec="milliseconds")
