"""Gate: what a model must pass on rows that it has not seen before it is promoted.

    verdict = judge(report, "live", beside)          # `report`: of `training.evaluation`, as every evaluation's

Under the default name only a model of live data may become champion; a simulated one registers as `<name>-simulated`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

MODEL_NAME = "candlewick-forecast"
MAX_CALIBRATION_ERROR = 0.03
BAND_TOLERANCE = 0.05
CERTAIN_HORIZON = "15"
"""Minutes ahead at which better than HAR must be more than chance."""


@dataclass(frozen=True)
class Check:
    """One condition of the gate."""

    name: str
    passed: bool
    found: str
    blocks: bool = True
    """Whether a model that fails it is kept out; else the failure is told, no more."""


@dataclass(frozen=True)
class Beside:
    """What is known of a model beside the present champion."""

    differences: Mapping[str, Any] | None
    """`training.scores.differences` of the two on the same rows; None: the champion cannot be asked for these rows."""
    how: str
    """On which rows, or why not."""
    lacking: tuple[str, ...] = ()
    """Symbols that the champion has learnt and the model has not."""


@dataclass(frozen=True)
class Verdict:
    """The gate's answer and why."""

    name: str
    """Registered name: the default, or `<default>-simulated` when the data are not live."""
    promoted: bool
    checks: tuple[Check, ...]

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


def registered_name(kind: str, name: str = MODEL_NAME) -> str:
    """Other than `live` (a simulated market, a quick rehearsal) never enters the default registry.

    >>> registered_name("simulated")
    'candlewick-forecast-simulated'
    """
    return name if kind == "live" else f"{name}-{kind}"


def judge(report: Mapping[str, Any], kind: str, champion: Beside | None = None) -> Verdict:
    """The promotion gate on an evaluation's report.

    The model's QLIKE must be below HAR's at every horizon (upper end of the paired interval < 0 at 15 minutes), with an
    answer to every row and, in the default registry, on enough of them; direction must not lose to the base rate, risk
    must be calibrated, the band must cover, and on the same rows the model must not be worse than the present champion,
    where there is one. A champion that cannot be asked (it reads what is declared no longer) fails
    `champion_comparable`, which is told and keeps nobody out: nothing could ever follow it otherwise.
    """
    against_har = report["baselines"]["har"]["model_minus_it"]
    checks = [_below(f"qlike_{h}m_minus_har", against_har.get(f"qlike_{h}"), certain=h == CERTAIN_HORIZON)
              for h in report["volatility"]]
    checks += [_direction_check(report["direction"]), _risk_check(report["risk"]),
               _band_check(report["intervals"]["band_15"]), _answers_check(report["volatility"])]
    if kind == "live":
        checks.append(_evidence_check(report["volatility"][CERTAIN_HORIZON]))
    if champion is not None:
        checks += _champion_checks(champion)
    return Verdict(registered_name(kind), all(c.passed or not c.blocks for c in checks), tuple(checks))


def _champion_checks(champion: Beside) -> list[Check]:
    lacking, differences = champion.lacking, champion.differences
    checks = [Check("champion_comparable", differences is not None, champion.how, blocks=False)]
    if differences is not None:
        checks.append(_not_above("qlike_15m_against_champion", differences.get("qlike_15")))
    return [*checks, Check("knows_the_champions_symbols", not lacking, f"without {', '.join(lacking) or 'none'}")]


def unjudged(kind: str) -> Verdict:
    """Of a model without rows that it has not seen: registered, never promoted."""
    return Verdict(registered_name(kind), promoted=False, checks=(
        Check("scored_on_unseen_rows", passed=False, found="no bars after --until; see `candlewick evaluate`"),
    ))


def _answers_check(volatility: Mapping[str, Any]) -> Check:
    """A model may not pass by saying nothing of the hard rows."""
    silent = sum(each.get("unanswered", 0) for each in volatility.values())
    return Check("every_row_answered", silent == 0, f"{silent} without a forecast")


def _evidence_check(volatility: Mapping[str, Any]) -> Check:
    """An interval of few days says "certain" of what is not."""
    enough = "evidence" not in volatility and volatility["n"] > 0
    return Check("enough_rows", enough, f"n_eff {volatility.get('n_eff', 0)}")


def _below(name: str, difference: Mapping[str, Any] | None, certain: bool) -> Check:
    """A paired difference of losses that is below 0; `certain`: so is the upper end of its interval."""
    if difference is None:
        return Check(name, passed=False, found="no volatility is forecast")
    bound = difference["high"] if certain else difference["value"]
    return Check(name, bound is not None and bound < 0, _shown(difference["value"], difference))


def _not_above(name: str, difference: Mapping[str, Any] | None) -> Check:
    """A paired difference of losses that is not above 0: the champion's equal may follow it."""
    if difference is None:
        return Check(name, passed=False, found="no volatility is forecast")
    return Check(name, difference["value"] <= 0, _shown(difference["value"], difference))


def _direction_check(direction: Mapping[str, Any]) -> Check:
    """Where direction is forecast, the Brier skill over the base rate is not certainly below 0."""
    name, skill, ends = "direction_not_worse_than_constant", direction["brier_skill"], direction["interval"]
    if skill is None:
        return Check(name, passed=direction["n"] == 0, found="no direction is forecast" if not direction["n"] else
                     "minutes of one direction alone")
    held = ends["brier_skill"]
    return Check(name, held is not None and held["high"] >= 0, f"Brier skill {_shown(skill, held)}")


def _shown(value: float, ends: Mapping[str, Any] | None) -> str:
    if ends is None or ends["low"] is None:
        return f"{value:+.4f}, less than two days: no interval"
    return f"{value:+.4f} [{ends['low']:+.4f}, {ends['high']:+.4f}]"


def _risk_check(risk: Mapping[str, Any]) -> Check:
    error = risk["ece"]
    if error is None:
        return Check("risk_calibrated", passed=False, found="no risk is forecast")
    return Check("risk_calibrated", error <= MAX_CALIBRATION_ERROR, f"calibration error {error:.4f}")


def _band_check(band: Mapping[str, Any]) -> Check:
    coverage = band["coverage"]
    if coverage is None:
        return Check("band_covers", passed=False, found="no band is forecast")
    return Check("band_covers", abs(coverage - band["level"]) <= BAND_TOLERANCE, f"coverage {coverage:.3f}")
