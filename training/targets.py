"""Targets: what happened after a decision, from the closes of the minutes that follow it.

    >>> import numpy as np
    >>> closes = np.array([100.0, 101.0, 101.0, np.nan, 102.0])
    >>> next_return(closes).round(5).tolist()
    [0.00995, 0.0, nan, nan, nan]
    >>> realised_after(closes, 2).round(5).tolist()
    [0.00704, nan, nan, nan, nan]

All arrays are dense: one entry a minute, NaN where the minute has no bar. Row i is decided at the close of minute i
and looks only at minutes after it. A window with a missing minute has no label: it is null, left out and counted.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from training.metrics import RV_FLOOR

Floats = NDArray[np.float64]

HORIZONS = (5, 15, 60)
"""Minutes ahead of the three volatility targets."""
SPIKE_HORIZON = 15
SPIKE_FACTOR = 2.0
LABELS = "up,flat,rv_5,rv_15,rv_60,spike(5m,15m,60m>2*rv_60),risk(15m>p90_30d)/close-to-close-1m/v3"
"""Names the definition of every target; part of the identity of a set."""

AHEAD: Mapping[str, int] = {
    "return_1": 1, "return_15": 15, "had_1": 1, "had_15": 15, "up": 1, "flat": 1, **{f"rv_{h}": h for h in HORIZONS},
    "spike": SPIKE_HORIZON, "risk": 15, "spike_5": 5, "spike_60": 60,
}
"""Target → minutes ahead that it looks at: minute t + 1 to t + h, and the close at t, against which a return is."""
BEHIND: Mapping[str, int] = {"spike": 60, "spike_5": 60, "spike_60": 60}
"""Target → minutes of the past that its threshold is made of. That of `risk` is the slow view as known at t."""


def next_return(closes: Floats) -> Floats:
    """Log return of the next minute, close to close."""
    after = np.full(len(closes), np.nan)
    after[:-1] = np.diff(np.log(closes))
    return after


def realised_after(closes: Floats, minutes: int) -> Floats:
    """RV_h = sqrt(Σ r² / h) over the h minutes after each row, per square-root minute."""
    return _shift(_realised(closes, minutes), minutes)


def realised_before(closes: Floats, minutes: int) -> Floats:
    """RV_h over the h minutes up to and including each row."""
    return _realised(closes, minutes)


def _realised(closes: Floats, minutes: int) -> Floats:
    values = np.full(len(closes), np.nan)
    if len(closes) > minutes:
        squares = np.lib.stride_tricks.sliding_window_view(np.diff(np.log(closes)) ** 2, minutes)
        values[minutes:] = np.sqrt(squares.sum(axis=1) / minutes)
    return values


def _shift(values: Floats, minutes: int) -> Floats:
    after = np.full(len(values), np.nan)
    after[:-minutes] = values[minutes:]
    return after


def targets(closes: Floats, opens: Floats, context: Floats) -> dict[str, Floats]:
    """Every target of every minute; NaN where it cannot be known.

    `context` is `realized_vol_15m_p90_30d` as known at each minute (NaN unknown). Outcomes are 0.0 or 1.0;
    `up` is null on flat minutes (it is conditional on a move); volatilities below 1e-7 are null, but minutes that stand
    still are neither a spike nor a risk, and known not to be. Nothing is twice an hour that stood still. `return_h`
    scores forecasts (close to close), `had_h` scores money (from the next open).
    """
    after = next_return(closes)
    realised = {h: realised_after(closes, h) for h in HORIZONS}
    threshold = SPIKE_FACTOR * _above_floor(realised_before(closes, 60))
    return {
        "return_1": after,
        "return_15": _shift(_log_change(closes, 15), 15),
        "had_1": _had(opens, closes, 1),
        "had_15": _had(opens, closes, 15),
        "up": np.where(after == 0, np.nan, _outcome(after, 0.0)),
        "flat": np.where(np.isnan(after), np.nan, (after == 0).astype(np.float64)),
        **{f"rv_{h}": _above_floor(volatility) for h, volatility in realised.items()},
        "spike": _outcome(realised[SPIKE_HORIZON], threshold),
        "risk": _outcome(realised[15], context),
        **{f"spike_{h}": _outcome(realised[h], threshold) for h in (5, 60)},
    }


def _above_floor(volatility: Floats) -> Floats:
    return np.where(volatility >= RV_FLOOR, volatility, np.nan)


def _log_change(closes: Floats, minutes: int) -> Floats:
    change = np.full(len(closes), np.nan)
    change[minutes:] = np.log(closes[minutes:]) - np.log(closes[:-minutes])
    return change


def _had(opens: Floats, closes: Floats, minutes: int) -> Floats:
    """Log return from the next minute's open, the first price to be had after the decision, to the horizon's close."""
    after = np.full(len(closes), np.nan)
    after[:-minutes] = np.log(closes[minutes:]) - np.log(opens[1 : len(opens) - minutes + 1])
    return after


def _outcome(value: Floats, threshold: Floats | float) -> Floats:
    known = np.isfinite(value) & np.isfinite(threshold)
    return np.where(known, (value > threshold).astype(np.float64), np.nan)
