"""The tier is decided by evidence alone, and tier 5 always says why."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bentos.fallback import Decision, Evidence, decide

FINE = Evidence(row_age_s=0.6, masked_share=0.0)


@pytest.mark.parametrize(("evidence", "tier", "word"), [
    (FINE, 1, ""),
    (Evidence(3.0, 0.20), 1, ""),
    (Evidence(-0.4, 0.0), 1, ""),
    (Evidence(3.001, 0.0), 5, "3.0 s old"),
    (Evidence(42.0, 0.0), 5, "42.0 s old; tier 1 allows 3 s"),
    (Evidence(-11.0, 0.0), 5, "11.0 s ahead of the venue clock"),
    (Evidence(0.5, 0.21), 5, "21% of the sequence is unknown"),
    (Evidence(0.5, None), 5, "no stored sequence"),
    (Evidence(None, None), 5, "no feature row"),
    (Evidence(0.5, 0.0, model_fault="bootstrap model refused: x"), 5, "bootstrap model refused: x"),
    (Evidence(0.5, 0.0, store_fault="Redis expected at 127.0.0.1:1"), 5, "Redis expected"),
])
def test_the_tier_and_its_reason(evidence: Evidence, tier: int, word: str) -> None:
    decision = decide(evidence)
    assert decision.tier == tier
    assert word in "; ".join(decision.reasons)


def test_every_objection_is_named() -> None:
    decision = decide(Evidence(9.0, 0.5, model_fault="no model"))
    assert decision.reasons == (
        "no model", "features are 9.0 s old; tier 1 allows 3 s", "50% of the sequence is unknown; tier 1 allows 20%",
    )


def test_a_store_that_is_away_says_nothing_about_the_age_of_rows() -> None:
    assert decide(Evidence(9.0, None, store_fault="away")).reasons == ("away",)


ages = st.none() | st.floats(-1e6, 1e6)
shares = st.none() | st.floats(0, 1)
faults = st.none() | st.just("fault")


@given(ages, shares, faults, faults)
def test_a_tier_is_one_or_five_and_five_has_a_reason(
    age_s: float | None, share: float | None, model: str | None, store: str | None,
) -> None:
    decision = decide(Evidence(age_s, share, model, store))
    assert decision == Decision(1) or (decision.tier == 5 and decision.reasons)


@given(st.floats(0, 1e6), st.floats(0, 1e6))
def test_an_older_row_never_has_a_better_tier(one_s: float, other_s: float) -> None:
    younger, older = sorted((one_s, other_s))
    assert decide(Evidence(younger, 0.0)).tier <= decide(Evidence(older, 0.0)).tier
