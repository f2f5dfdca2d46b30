"""A prediction is a pure function of row, model numbers and tier; its bounds hold whatever the model says."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bentos.distribution import Bounds
from bentos.fallback import Decision
from bentos.predictor import LATER_OUTPUT_NAMES, OUTPUT_NAMES, Costs, ModelFacts, Outputs, forecast, safe_mode
from feature_repo.contracts import MINUTE_NS, SECOND_NS, Prediction
from feature_repo.features import FEATURE_SET
from tests.bentos.made import MINUTE, made_row

COSTS = Costs(fee_bps=1.0, half_spread_bps=0.5, slippage_bps=0.5)
BOUNDS = Bounds(("return_1m",), (0.0,), (0.01,), (-0.01,), (0.01,), max_distance=5.0, max_outside=0)
FACTS = ModelFacts("made", "7", FEATURE_SET, 60, COSTS, ((0.0, 1.0), (60.0, 0.8), (300.0, 0.5)), BOUNDS)
OUTPUTS = Outputs(
    p_up=0.6, p_flat=0.04, volatility_5m=0.0004, volatility_15m=0.0005, volatility_60m=0.0006,
    volatility_15m_low=0.0004, volatility_15m_high=0.0007, spike_prob=0.1, risk_score=0.3, expected_edge_bps=9.0,
    expected_edge_15m_bps=99.0,
)
NOW = MINUTE + 600_000_000


def predict(row=None, outputs=OUTPUTS, tier=1, facts=FACTS) -> Prediction:  # type: ignore[no-untyped-def]
    return forecast(row or made_row(spread_1s=1.0), outputs, facts, Decision(tier), NOW)


def test_signal_and_confidence_come_from_the_recalibrated_chance() -> None:
    made = predict()
    assert (made.p_up, made.signal, made.confidence) == pytest.approx((0.6, 0.2, 0.6))
    half_a_minute_old = forecast(made_row(), OUTPUTS, FACTS, Decision(2), MINUTE + 30 * SECOND_NS)
    assert (half_a_minute_old.p_up, half_a_minute_old.signal) == pytest.approx((0.59, 0.18))


@pytest.mark.parametrize(("tier", "age_s", "wanted"), [
    (1, 0.6, 1.0), (1, 3.0, 1.0), (2, 0.0, 1.0), (2, 60.0, 0.8), (3, 180.0, 0.65), (3, 300.0, 0.5), (3, 301.0, 0.0),
    (5, 0.0, 0.0),
])
def test_what_an_older_row_is_worth_was_measured_and_ends(tier: int, age_s: float, wanted: float) -> None:
    assert FACTS.tier_lambda(tier, age_s) == pytest.approx(wanted)


def test_a_downward_chance_has_a_negative_signal_and_a_confidence_above_half() -> None:
    made = predict(outputs=replace(OUTPUTS, p_up=0.3))
    assert (made.signal, made.confidence) == pytest.approx((-0.4, 0.7))


def test_identity_and_times_come_from_the_row() -> None:
    row = made_row()
    made = predict(row)
    assert (made.ts_event, made.created, made.ts_init) == (row.ts_event, row.created, NOW)
    assert (made.symbol, made.source, made.session) == (row.symbol, row.source, row.session)
    assert (made.model, made.model_version, made.feature_set, made.horizon_s) == ("made", "7", FEATURE_SET, 60)


@pytest.mark.parametrize(("offset_ns", "nowcast"), [(0, False), (MINUTE_NS, False), (SECOND_NS, True)])
def test_only_a_whole_minute_is_the_record(offset_ns: int, nowcast: bool) -> None:
    assert predict(made_row(MINUTE + offset_ns)).nowcast is nowcast


@pytest.mark.parametrize(("row", "outputs", "tier", "objection"), [
    ({}, {}, 1, None),
    ({}, {"expected_edge_bps": -9.0}, 1, None),
    ({}, {"expected_edge_bps": 4.0}, 1, "no trade: expected edge 4.00 bps is not above 2 x cost 2.00 bps"),
    ({"spread_1s": 12.0}, {}, 1, "no trade: expected edge 9.00 bps is not above 2 x cost 7.50 bps"),
    ({"ts_event": MINUTE + SECOND_NS}, {}, 1, "no trade: between whole minutes"),
    ({"return_1m": 0.02}, {}, 1, "no trade: out of distribution: return_1m beyond the training range"),
    ({}, {}, 2, None),
    ({}, {}, 3, "no trade: tier 3"),
])
def test_it_would_trade_only_when_every_condition_holds_and_names_the_one_that_fails(
    row: dict[str, float], outputs: dict[str, float], tier: int, objection: str | None,
) -> None:
    made = predict(made_row(**({"spread_1s": 1.0} | row)), replace(OUTPUTS, **outputs), tier)  # type: ignore[arg-type]
    assert made.should_trade is (objection is None)
    assert made.should_trade_15m is (objection is None or "expected edge" in objection)
    assert made.reasons == ([] if objection is None else [objection])


@pytest.mark.parametrize(("bps", "shown", "objection"), [
    (4.01, 4.01, None), (-4.01, -4.01, None),
    (4.0, 4.0, "no trade at 15 min: expected edge 4.00 bps is not above 2 x cost 2.00 bps"),
    (0.0, 0.0, "no trade at 15 min: expected edge 0.00 bps is not above 2 x cost 2.00 bps"),
    (None, None, "no trade at 15 min: the model gives no expected edge"),
])
def test_at_15_minutes_it_trades_by_that_edge_alone_and_says_what_is_against_it(
    bps: float | None, shown: float | None, objection: str | None,
) -> None:
    made = predict(outputs=replace(OUTPUTS, expected_edge_15m_bps=bps))
    assert made.should_trade
    assert (made.expected_edge_15m_bps, made.should_trade_15m) == (shown, objection is None)
    assert made.reasons == ([] if objection is None else [objection])
    neither = predict(outputs=replace(OUTPUTS, expected_edge_bps=0.0, expected_edge_15m_bps=bps))
    assert (neither.should_trade, neither.should_trade_15m) == (False, objection is None)


def test_costs_are_per_side_with_the_rows_own_spread_when_it_is_known() -> None:
    assert predict(made_row(spread_1s=3.0)).cost_bps == pytest.approx(1.0 + 1.5 + 0.5)
    assert predict(made_row(spread_1s=None)).cost_bps == pytest.approx(1.0 + 0.5 + 0.5)


def test_an_unknown_risk_is_null_with_its_reason() -> None:
    made = predict(outputs=replace(OUTPUTS, risk_score=math.nan))
    assert made.risk_score is None
    assert "risk unknown: no 30-day volatility percentile" in made.reasons
    assert made.p_up is not None


@pytest.mark.parametrize("name", [name for name in (*OUTPUT_NAMES, *LATER_OUTPUT_NAMES) if name != "risk_score"])
def test_a_number_that_is_none_is_never_shown(name: str) -> None:
    made = predict(outputs=replace(OUTPUTS, **{name: math.nan}))
    assert (made.tier, made.signal, made.should_trade, made.should_trade_15m) == (5, None, False, False)
    assert made.reasons == [f"model answered nonsense in {name}"]


def test_safe_mode_without_a_row_is_as_of_the_whole_second_and_says_why() -> None:
    made = safe_mode("BTCUSDT", None, None, Decision(5, ("no feature row",)), NOW)
    assert (made.ts_event, made.created) == (MINUTE, MINUTE)
    assert (made.tier, made.signal, made.confidence, made.should_trade) == (5, None, None, False)
    assert made.reasons == ["no feature row"]


finite = st.floats(allow_nan=True, allow_infinity=True)


@given(
    st.builds(Outputs, *[finite] * len(OUTPUT_NAMES), st.none() | finite), st.sampled_from([1, 2, 3, 5]),
    st.integers(0, 120),
)
def test_whatever_the_model_says_the_answer_keeps_its_bounds(outputs: Outputs, tier: int, second: int) -> None:
    made = forecast(made_row(MINUTE + second * SECOND_NS), outputs, FACTS, Decision(tier), NOW)
    if made.tier == 5:
        assert {made.should_trade, made.should_trade_15m} == {False}
    if made.signal is not None:
        assert -1 <= made.signal <= 1
        assert made.confidence is not None
        assert 0.5 <= made.confidence <= 1
    assert not ((made.should_trade or made.should_trade_15m) and (made.nowcast or made.tier > 2))
    assert Prediction.model_validate_json(made.model_dump_json()) == made


@given(st.floats(0, 1), st.floats(0, 400))
def test_a_worse_tier_never_makes_the_model_surer(p_up: float, age_s: float) -> None:
    outputs, now = replace(OUTPUTS, p_up=p_up), MINUTE + int(age_s * SECOND_NS)
    sure, unsure = (forecast(made_row(), outputs, FACTS, Decision(tier), now) for tier in (1, 2))
    assert sure.confidence is not None
    assert unsure.confidence is not None
    assert unsure.confidence <= sure.confidence + 1e-12
