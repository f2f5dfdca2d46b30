"""Readiness: whether this service can give a forecast now, and if not, why; pure.

    >>> readiness(model_fault=None, store_fault=None, ages_s={"BTCUSDT": 71.0})
    Readiness(ready=False, reasons=['features of BTCUSDT are 71 s old; ready up to 60 s'])

One symbol that the venue halted must not take the forecasts of all others away: the service is ready as long as one
symbol's features are fresh. Which are not is told by symbol (`feature_age_s`, `GET /symbols`, the tier of each answer).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

READY_S = 60.0


@dataclass(frozen=True)
class Readiness:
    """The truth, for probes and people."""

    ready: bool
    reasons: list[str]


def readiness(
    model_fault: str | None, store_fault: str | None, ages_s: Mapping[str, float | None],
) -> Readiness:
    """Ready: a verified model, a store that answers, and features of some symbol at most `READY_S` old."""
    reasons = [fault for fault in (model_fault, store_fault) if fault]
    objections = [objection for symbol, age_s in ages_s.items() if (objection := _too_old(symbol, age_s))]
    if store_fault is None and len(objections) == len(ages_s):
        reasons += objections
    return Readiness(not reasons, reasons)


def _too_old(symbol: str, age_s: float | None) -> str | None:
    if age_s is None:
        return f"no features of {symbol} in the online store"
    return f"features of {symbol} are {age_s:.0f} s old; ready up to {READY_S:g} s" if age_s > READY_S else None
