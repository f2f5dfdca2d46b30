"""Sequence: the models' input for one row, from what the online store holds; pure.

The stored sequence is the 63 whole minutes before its newest row, then that row (`BarHistory.sequence`).
So the sequence of another row of the same minute is the stored one with its last line replaced, bit for
bit; of a row in the minute just gone it lacks only the oldest line, which is masked.

    >>> second = 1_000_000_000
    >>> stored = np.zeros((64, len(SEQUENCE_FEATURES)))
    >>> sequence_at(stored, 90 * second, 61 * second, {"return_1m": 0.5})[-1, SEQUENCE_FEATURES.index("return_1m")]
    np.float64(0.5)
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from feature_repo.contracts import MINUTE_NS
from feature_repo.features import SEQUENCE_FEATURES

Floats = NDArray[np.float64]


def sequence_at(
    stored: Floats, stored_close: int, close: int, values: Mapping[str, float | None],
) -> Floats | None:
    """The sequence of the row at `close` with `values`, from the one stored for `stored_close` (both ns).

    Shape (64, len(SEQUENCE_FEATURES)).

    None when the store is more than one minute ahead or is behind by a minute or more.
    """
    ahead = _minute_of(stored_close) - _minute_of(close)
    if ahead == 0:
        return stored if stored_close == close else with_newest(stored, values)
    if ahead == 1:
        earlier = np.full_like(stored, np.nan)
        earlier[1:-1] = stored[:-2]
        return with_newest(earlier, values)
    return None


def with_newest(sequence: Floats, values: Mapping[str, float | None]) -> Floats:
    """A copy whose newest line is `values` (null → NaN)."""
    changed = sequence.copy()
    changed[-1] = [np.nan if (value := values.get(name)) is None else value for name in SEQUENCE_FEATURES]
    return changed


def masked_share(sequence: Floats, columns: Sequence[int]) -> float:
    """Share of unknown values among the columns that a model reads, 0 to 1."""
    return float(np.isnan(sequence[:, columns]).mean())


def _minute_of(close: int) -> int:
    """Number of the clock minute whose seconds close in (start, end]."""
    return (close - 1) // MINUTE_NS
