"""Fallback: how good the features behind an answer are, as a tier from 1 (fresh) to 5 (safe mode).

    >>> decide(Evidence(row_age_s=0.6, masked_share=0.0)).tier
    1
    >>> decide(Evidence(row_age_s=42.0, masked_share=0.0))
    Decision(tier=5, reasons=('features are 42.0 s old; tier 1 allows 3 s',))

A tier is a function from the evidence to its objections; the first tier without an objection answers, and
when all object the answer is tier 5 with the last tier's words. This form knows tier 1; tiers 2 to 4 join
`TIERS` in order, with what they need to know in `Evidence`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from feature_repo.contracts import AHEAD_S

FRESH_S = 3.0
"""A row at most this old is fresh (tier 1)."""
MASKED_SHARE = 0.20
"""Above this share of unknown values a sequence is no basis for tier 1."""
SAFE_MODE = 5


@dataclass(frozen=True, slots=True)
class Evidence:
    """What is known when a prediction is asked for."""

    row_age_s: float | None
    """Venue clock minus the newest row's `ts_event`, seconds; None: no row."""
    masked_share: float | None
    """Unknown values in the stored sequence, 0 to 1; None: no sequence."""
    model_fault: str | None = None
    """Why the model cannot answer, if it cannot."""
    store_fault: str | None = None
    """Why the online store cannot be read, if it cannot."""


@dataclass(frozen=True, slots=True)
class Decision:
    """The tier, and what spoke against a better one."""

    tier: int
    reasons: tuple[str, ...] = ()


def fresh(evidence: Evidence) -> list[str]:
    """Objections to tier 1."""
    faults = [fault for fault in (evidence.store_fault, evidence.model_fault) if fault]
    if evidence.store_fault:
        return faults
    if evidence.row_age_s is None:
        return [*faults, "no feature row in the online store"]
    return [*faults, *_row(evidence.row_age_s), *_sequence(evidence.masked_share)]


TIERS: tuple[tuple[int, Callable[[Evidence], list[str]]], ...] = ((1, fresh),)


def decide(evidence: Evidence) -> Decision:
    """The best tier the evidence allows."""
    objections: list[str] = []
    for tier, object_to in TIERS:
        objections = object_to(evidence)
        if not objections:
            return Decision(tier)
    return Decision(SAFE_MODE, tuple(objections))


def _row(age_s: float) -> list[str]:
    if age_s < -AHEAD_S:
        return [f"features are {-age_s:.1f} s ahead of the venue clock"]
    return [f"features are {age_s:.1f} s old; tier 1 allows {FRESH_S:g} s"] if age_s > FRESH_S else []


def _sequence(masked_share: float | None) -> list[str]:
    if masked_share is None:
        return ["no stored sequence for the model"]
    if masked_share > MASKED_SHARE:
        return [f"{masked_share:.0%} of the sequence is unknown; tier 1 allows {MASKED_SHARE:.0%}"]
    return []
