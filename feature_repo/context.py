"""Context: the slow view `volatility_context`, what counts as high volatility, renewed hourly from minute bars.

    >>> import numpy as np
    >>> minute = 60_000_000_000
    >>> times = np.arange(1, 12 * 1440 + 1, dtype=np.int64) * minute
    >>> closes = 50_000 * np.exp(0.001 * (np.arange(len(times)) % 2))
    >>> round(trailing_percentile(times, closes, int(times[-1])), 6)
    0.001
    >>> trailing_percentile(times[:1440], closes[:1440], int(times[1439])) is None
    True

`realized_vol_15m_p90_30d` at a whole hour H is the 90th percentile of RV_15 (the root mean square of 15
one-minute log returns) at every whole minute of (H − 30 d, H]. It is known `CONTEXT_LAG_NS` later. Below
seven days of values (5 % may be missing, as in every window) it is unknown, never a guess.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from feature_repo.contracts import DAY_NS, HOUR_NS, MINUTE_NS

CONTEXT_FEATURE = "realized_vol_15m_p90_30d"
CONTEXT_LAG_NS = MINUTE_NS
"""From the hour a value describes to when it counts as known: the declared lag of the slow view."""
PERCENTILE = 0.90
WINDOW_NS = 30 * DAY_NS
MINIMUM_VALUES = int(7 * 1440 * 0.95)
RV_MINUTES = 15

Floats = NDArray[np.float64]
Times = NDArray[np.int64]


def realized_vol_15m(close_times: Times, closes: Floats) -> Floats:
    """RV_15 ending at each bar, per square-root minute; NaN where one of its 16 closes is missing.

    `close_times` in ns, strictly ascending whole minutes; gaps allowed.
    """
    values = np.full(len(closes), np.nan)
    if len(closes) > RV_MINUTES:
        squares = np.lib.stride_tricks.sliding_window_view(np.diff(np.log(closes)) ** 2, RV_MINUTES)
        whole = close_times[RV_MINUTES:] - close_times[:-RV_MINUTES] == RV_MINUTES * MINUTE_NS
        values[RV_MINUTES:] = np.where(whole, np.sqrt(squares.sum(axis=1) / RV_MINUTES), np.nan)
    return values


def percentile_at(close_times: Times, rv_15: Floats, at_ns: int) -> float | None:
    """The 90th percentile of `rv_15` over the 30 days up to `at_ns` (inclusive); None below seven days of values."""
    first, last = np.searchsorted(close_times, [at_ns - WINDOW_NS, at_ns], side="right")
    known = rv_15[first:last]
    known = known[np.isfinite(known)]
    return float(np.quantile(known, PERCENTILE)) if len(known) >= MINIMUM_VALUES else None


def trailing_percentile(close_times: Times, closes: Floats, at_ns: int) -> float | None:
    """`realized_vol_15m_p90_30d` at `at_ns` from minute bars' close times (ns) and closes; later bars are ignored."""
    return percentile_at(close_times, realized_vol_15m(close_times, closes), at_ns)


def hourly_percentiles(close_times: Times, closes: Floats) -> tuple[Times, Floats]:
    """The slow view over a whole history: whole hours (ns) within it and their value, NaN where unknown."""
    rv_15 = realized_vol_15m(close_times, closes)
    first, last = -(-int(close_times[0]) // HOUR_NS), int(close_times[-1]) // HOUR_NS
    hours = np.arange(first, last + 1, dtype=np.int64) * HOUR_NS
    values = [percentile_at(close_times, rv_15, int(hour)) for hour in hours]
    return hours, np.array([np.nan if value is None else value for value in values], dtype=np.float64)
