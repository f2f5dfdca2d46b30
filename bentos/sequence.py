"""Sequence: the model's input for one row, from what the online store holds; pure.

The stored sequence is the 63 whole minutes before its newest row, then that row (`BarHistory.sequence`).
So the sequence of another row of the same minute is the stored one with its last line replaced, bit for
bit; of a row in the minute just gone it lacks only the oldest line, which is masked.

    >>> second = 1_000_000_000
    >>> stored = np.zeros((64, len(FORECAST_BAR)))
    >>> sequence_at(stored, 90 * second, 61 * second, {"return_1m": 0.5})[-1, FORECAST_BAR.index("return_1m")]
    np.float64(0.5)
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from feature_repo.contracts import MINUTE_NS
from feature_repo.features import FORECAST_BAR

Floats = NDArray[np.float64]


def sequence_at(
    stored: Floats, stored_close: int, close: int, values: Mapping[str, float | None],
) -> Floats | None:
    """The sequence (64, F) of the row at `close` with `values`, from the one stored for `stored_close` (both ns).

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
    changed[-1] = [np.nan if (value := values.get(name)) is None else value for name in FORECAST_BAR]
    return changed


def masked_share(sequence: Floats) -> float:
    """Share of unknown values, 0 to 1."""
    return float(np.isnan(sequence).mean())


def _minute_of(close: int) -> int:
    """Number of the clock minute whose seconds close in (start, end]."""
    return (close - 1) // MINUTE_NS
