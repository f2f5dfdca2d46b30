"""A planted leak is reported as suspicious, honest forecasts are not; what does not mean what it says is warned of."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from tests.training.scored_rows import forecast_scored
from training.red_flags import red_flags
from training.scored import Scored

SCORED = forecast_scored()
RNG = np.random.default_rng(8)


def broken(scored: Scored) -> set[tuple[str, str]]:
    return {(flag["rule"], flag["level"]) for flag in red_flags(scored)}


def test_honest_forecasts_raise_no_flag() -> None:
    assert red_flags(SCORED) == []


LEAKS: list[tuple[dict[str, Any], set[str]]] = [
    ({"p_up_N": np.where(SCORED.returns[1] > 0, 0.6, 0.4)},
     {"direction accuracy", "direction AUC", "gross bps a minute"}),
    ({"rv_hat_NK": SCORED.rv_NK * np.exp(0.05 * RNG.standard_normal(SCORED.rv_NK.shape))},
     {f"volatility {h} min, QLIKE over HAR's" for h in (5, 15, 60)}),
    ({"risk_score_N": np.where(SCORED.risky_N > 0, 0.95, 0.02)}, {"risk AUC"}),
    ({"spike_prob_NK": np.where(SCORED.spiked_NK > 0, 0.95, 0.02)}, {f"spike {h} min AUC" for h in (5, 15, 60)}),
]


@pytest.mark.parametrize(("leak", "expected"), LEAKS)
def test_a_planted_leak_is_suspicious(leak: dict[str, Any], expected: set[str]) -> None:
    found = {rule for rule, level in broken(replace(SCORED, **leak)) if level == "suspicious"}
    assert found == expected


def test_shuffled_outcomes_are_not_suspicious() -> None:
    order = RNG.permutation(len(SCORED))
    mixed = replace(SCORED, p_up_N=SCORED.p_up_N[order], risk_score_N=SCORED.risk_score_N[order])
    assert not [flag for flag in red_flags(mixed) if flag["level"] == "suspicious"]


def test_bold_chances_and_narrow_intervals_are_warned_of() -> None:
    bold = replace(SCORED, risk_score_N=np.minimum(3 * SCORED.risk_score_N, 1.0),
                   return_bound_NK=SCORED.return_bound_NK * [1.0, 0.5, 1.0])
    assert broken(bold) == {("risk calibration", "warning"), ("80 % interval, 15 min", "warning")}


def test_two_days_prove_nothing() -> None:
    leaked = replace(SCORED, p_up_N=np.where(SCORED.returns[1] > 0, 0.9, 0.1))
    assert red_flags(leaked.only(leaked.days < leaked.days[0] + 2)) == []
    assert red_flags(leaked.only(leaked.days < leaked.days[0] + 3))


def test_a_forecaster_that_says_nothing_breaks_no_rule() -> None:
    nothing = {name: np.full_like(getattr(SCORED, name), np.nan)
               for name in ("p_up_N", "rv_hat_NK", "spike_prob_NK", "risk_score_N", "return_bound_NK")}
    assert red_flags(replace(SCORED, **nothing)) == []
