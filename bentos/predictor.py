"""Predictor: from a feature row, the model's numbers and a tier to one `Prediction`; pure.

    prediction = forecast(row, outputs, facts, Decision(1), now_ns)     # with a signal
    prediction = safe_mode("BTCUSDT", row, facts, Decision(5, (…,)), now_ns)   # says why there is none

`p' = ½ + λ(tier, age)·(p − ½)`, `signal = 2p' − 1`, `confidence = max(p', 1 − p')`. `should_trade` (exit after a
minute) and `should_trade_15m` (after 15) need a whole minute, a row inside the training range, tier 1 or 2 and each its
own expected edge beyond twice the cost. What is missing is named in `reasons`: "no trade: …" speaks of both horizons
or, of an edge, of one minute; "no trade at 15 min: …" of 15.
"""

from __future__ import annotations

import math
from dataclasses import MISSING, dataclass, fields

from bentos.distribution import Bounds
from bentos.fallback import SAFE_MODE, Decision
from feature_repo.contracts import MINUTE_NS, SECOND_NS, FeatureRow, Prediction, Source

EDGE_OVER_COST = 2.0
FRESH = 1
TRADING_TIERS = (FRESH, 2)
ANOMALY_FEATURE = "anomaly_score_60m"
SPREAD_FEATURE = "spread_1s"
NO_MODEL = "none"


@dataclass(frozen=True, slots=True)
class Outputs:
    """The graph's numbers for one row, calibrated; volatilities per square-root minute, edges in basis points."""

    p_up: float
    p_flat: float
    volatility_5m: float
    volatility_15m: float
    volatility_60m: float
    volatility_15m_low: float
    volatility_15m_high: float
    spike_prob: float
    risk_score: float
    expected_edge_bps: float
    expected_edge_15m_bps: float | None = None
    """None: the artefact is of before it was forecast, and never trades at 15 minutes."""

    def faults(self) -> list[str]:
        """Names of the outputs that break their own definition. An unknown risk (NaN) is no fault."""
        chances = {"p_up": self.p_up, "p_flat": self.p_flat, "spike_prob": self.spike_prob}
        if not math.isnan(self.risk_score):
            chances["risk_score"] = self.risk_score
        wrong = [name for name, value in chances.items() if not 0.0 <= value <= 1.0]
        volatilities = [name for name in OUTPUT_NAMES if name.startswith("volatility_")]
        wrong += [name for name in volatilities if not 0.0 < getattr(self, name) < math.inf]
        edges = {name: getattr(self, name) for name in ("expected_edge_bps", "expected_edge_15m_bps")}
        return wrong + [name for name, bps in edges.items() if bps is not None and not math.isfinite(bps)]


OUTPUT_NAMES: tuple[str, ...] = tuple(f.name for f in fields(Outputs) if f.default is MISSING)
"""What every graph must answer."""
LATER_OUTPUT_NAMES: tuple[str, ...] = tuple(f.name for f in fields(Outputs) if f.default is not MISSING)
"""What artefacts made before it was forecast do not answer."""


@dataclass(frozen=True, slots=True)
class Costs:
    """Cost of one side of a trade, basis points of the price."""

    fee_bps: float
    half_spread_bps: float
    """Taken where the row's own spread is unknown."""
    slippage_bps: float

    def per_side(self, spread_bps: float | None) -> float:
        half_spread = self.half_spread_bps if spread_bps is None else spread_bps / 2.0
        return self.fee_bps + half_spread + self.slippage_bps


@dataclass(frozen=True, slots=True)
class ModelFacts:
    """What `meta.json` says that a prediction needs."""

    name: str
    version: str
    feature_set: str
    horizon_s: int
    costs: Costs
    decay: tuple[tuple[float, float], ...]
    """(age of the row in seconds, λ), ascending by age: what a forecast from an older row is still worth."""
    bounds: Bounds
    """Where the model was trained."""

    def tier_lambda(self, tier: int, age_s: float) -> float:
        """λ: 1 for a fresh row (tier 1), linear between the measured ages, 0 beyond the last and in safe mode."""
        if tier == FRESH:
            return self.decay[0][1]
        if tier == SAFE_MODE or age_s > self.decay[-1][0]:
            return 0.0
        (left_s, left), (right_s, right) = next(
            pair for pair in zip(self.decay, self.decay[1:], strict=False) if age_s <= pair[1][0]
        )
        return left + (right - left) * (max(age_s, left_s) - left_s) / (right_s - left_s)


def forecast(row: FeatureRow, outputs: Outputs, facts: ModelFacts, decision: Decision, now_ns: int) -> Prediction:
    """The prediction of a row whose features are good enough. `now_ns` on the venue clock becomes `ts_init`."""
    if faults := outputs.faults():
        nonsense = Decision(SAFE_MODE, (f"model answered nonsense in {', '.join(faults)}",))
        return safe_mode(row.symbol, row, facts, nonsense, now_ns)
    age_s = (now_ns - row.ts_event) / SECOND_NS
    p_up = recalibrated(outputs.p_up, facts.tier_lambda(decision.tier, age_s))
    cost_bps = facts.costs.per_side(row.values.get(SPREAD_FEATURE))
    against = objections_to_trade(row, facts, decision.tier)
    against_1m = objections_to_edge(outputs.expected_edge_bps, cost_bps)
    against_15m = objections_to_edge(outputs.expected_edge_15m_bps, cost_bps)
    unknown_risk = math.isnan(outputs.risk_score)
    return Prediction(
        symbol=row.symbol, ts_event=row.ts_event, ts_init=now_ns, source=row.source, session=row.session,
        created=row.created, model=facts.name, model_version=facts.version, feature_set=facts.feature_set,
        horizon_s=facts.horizon_s, price=row.price, p_up=p_up, p_flat=outputs.p_flat, signal=2.0 * p_up - 1.0,
        confidence=max(p_up, 1.0 - p_up), volatility_5m=outputs.volatility_5m, volatility_15m=outputs.volatility_15m,
        volatility_60m=outputs.volatility_60m, volatility_15m_low=outputs.volatility_15m_low,
        volatility_15m_high=outputs.volatility_15m_high, spike_prob=outputs.spike_prob,
        risk_score=None if unknown_risk else outputs.risk_score, anomaly_score=row.values.get(ANOMALY_FEATURE),
        expected_edge_bps=outputs.expected_edge_bps, cost_bps=cost_bps, should_trade=not (against or against_1m),
        nowcast=is_nowcast(row.ts_event), tier=decision.tier,
        reasons=[
            *decision.reasons,
            *(["risk unknown: no 30-day volatility percentile"] if unknown_risk else []),
            *(f"no trade: {objection}" for objection in (*against, *against_1m)),
            *(f"no trade at 15 min: {objection}" for objection in against_15m),
        ],
        expected_edge_15m_bps=outputs.expected_edge_15m_bps, should_trade_15m=not (against or against_15m),
    )


def safe_mode(
    symbol: str, row: FeatureRow | None, facts: ModelFacts | None, decision: Decision, now_ns: int,
    *, source: Source = "simulated", session: str = "",
) -> Prediction:
    """Tier 5: nothing forecast, and why. Without a row it is as of the current whole second of the venue clock."""
    as_of = row.ts_event if row else now_ns // SECOND_NS * SECOND_NS
    return Prediction(
        symbol=symbol, ts_event=as_of, ts_init=now_ns, source=row.source if row else source,
        session=row.session if row else session, created=row.created if row else as_of,
        model=facts.name if facts else NO_MODEL, model_version=facts.version if facts else NO_MODEL,
        feature_set=facts.feature_set if facts else (row.feature_set if row else NO_MODEL),
        horizon_s=facts.horizon_s if facts else 60, price=row.price if row else None,
        p_up=None, p_flat=None, signal=None, confidence=None, volatility_5m=None, volatility_15m=None,
        volatility_60m=None, volatility_15m_low=None, volatility_15m_high=None, spike_prob=None, risk_score=None,
        anomaly_score=row.values.get(ANOMALY_FEATURE) if row else None, expected_edge_bps=None, cost_bps=None,
        should_trade=False, nowcast=is_nowcast(as_of), tier=decision.tier, reasons=list(decision.reasons),
    )


def recalibrated(p: float, tier_lambda: float) -> float:
    """p' = ½ + λ(p − ½).

    >>> recalibrated(0.7, 0.5)
    0.6
    """
    return 0.5 + tier_lambda * (p - 0.5)


def objections_to_trade(row: FeatureRow, facts: ModelFacts, tier: int) -> list[str]:
    """Every condition that holds for trades of any horizon and is not met, in words."""
    objections = []
    if is_nowcast(row.ts_event):
        objections.append("between whole minutes")
    if outside := facts.bounds.objection(row.values):
        objections.append(outside)
    if tier not in TRADING_TIERS:
        objections.append(f"tier {tier}")
    return objections


def objections_to_edge(edge_bps: float | None, cost_bps: float) -> list[str]:
    """Why the edge of a horizon does not pay, if it does not. It is signed: short is as good as long.

    >>> objections_to_edge(-9.0, 2.0), objections_to_edge(None, 2.0)
    ([], ['the model gives no expected edge'])
    """
    if edge_bps is None:
        return ["the model gives no expected edge"]
    edge = abs(edge_bps)
    if edge > EDGE_OVER_COST * cost_bps:
        return []
    return [f"expected edge {edge:.2f} bps is not above {EDGE_OVER_COST:g} x cost {cost_bps:.2f} bps"]


def is_nowcast(ts_event: int) -> bool:
    """True between whole minutes: a prediction there is shown, never scored as the record.

    >>> is_nowcast(120_000_000_000), is_nowcast(121_000_000_000)
    (False, True)
    """
    return ts_event % MINUTE_NS != 0
