"""Crash: the risk score in a crash that the model has learnt nothing of, nor of anything after it: August 2024.

    found = run(Crash(["spot.parquet"]), "gradient_boosting", FitConfig(seed=0), on_stderr())
    found["risk"]["auc"], found["crash"]["least_hourly_median"]

The model and HAR, its reference, are fitted and calibrated on all before the stretch of bars in which the crash lies,
and forecast that stretch. The risk is relative to the trailing 30 days: after a hole it is unknown for a week, and
those minutes are not scored. What the alert is for is shown hour by hour: a median of all its minutes, the least of
them, and how many turned out to be risky.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from feature_repo.contracts import DAY_NS, HOUR_NS
from feature_repo.grid import Floats, Ints
from feature_repo.progress import Say
from training.bar_files import BarForm, parse_time, read_bars
from training.card_scores import figure
from training.dataset import PARTS, TrainingSet, assemble, kernel_rows, pooled
from training.datasets import Keep
from training.day_blocks import DayBlocks
from training.evaluation import calibrated_facts, iso
from training.fitting import FitConfig
from training.klines import stretches
from training.models import fit_model, refuse_unknown
from training.scored import Scored
from training.scores import RISK_ALERT, differences, scores
from training.scoring import model_answers, scored_rows
from training.walkforward import windows_before

FIRST, LAST = "2024-08-05T00:00Z", "2024-08-06T00:00Z"
"""Bitcoin fell from 58,300 to 49,000 on that day, and rose to 54,000 again."""
ALERT_CLEAR = 0.5
LEAST_AUC, LEAST_PRECISION = 0.90, 0.85
AROUND_NS = 40 * DAY_NS
"""Judged before and after the crash, where the bars reach that far without a hole."""
Found = dict[str, Any]


@dataclass(frozen=True)
class Crash:
    """Bars with a crash in them, and when it was."""

    files: Sequence[str]
    form: BarForm = field(default_factory=BarForm)
    first_ns: int = parse_time(FIRST)
    last_ns: int = parse_time(LAST)
    """Decisions whose minute closes within (first, last]."""

    def __post_init__(self) -> None:
        if not self.first_ns < self.last_ns:
            raise ValueError(f"expected a crash that ends after it began, found {iso(self.first_ns)} to "
                             f"{iso(self.last_ns)}")


def run(crash: Crash, model: str, config: FitConfig, say: Say, keep: Keep | None = None) -> Found:
    """Fit on what came before, judge the stretch. Raises `ValueError` for bars without the crash or a past.

    `keep`: what to do with the set before it is fitted on.
    """
    refuse_unknown(model)
    say(f"reading {len(crash.files)} files of bars")
    rows = pooled([kernel_rows(bars) for bars in read_bars(crash.files, crash.form)])
    table = assemble(rows, windows_before(np.sort(rows.close_ns), judged_span(np.sort(rows.close_ns), crash)))
    if keep is not None:
        keep(table)
    say(f"{table.counts['train']:,} rows to learn from, {table.counts['test']:,} to judge")
    scored = {name: _scored(name, table, config, say) for name in dict.fromkeys((model, "har"))}
    found = {"model": model, "seed": config.seed, "set": table.identity,
             "windows": {part: [iso(ns) for ns in table.window(part)] for part in PARTS},
             **judged(scored[model], (crash.first_ns, crash.last_ns))}
    if model != "har":
        pairs = differences(scored[model], scored["har"])
        found["har"] = {**judged(scored["har"], (crash.first_ns, crash.last_ns)),
                        "model_minus_it": {name: pairs[name] for name in pairs if name.endswith("_risk")}}
    return found


def judged_span(close_ns: Ints, crash: Crash) -> tuple[int, int]:
    """[midnight, midnight) around the crash: the stretch of bars that it lies in, `AROUND_NS` each way at most."""
    for part in stretches(close_ns):
        first, last = int(close_ns[part][0]), int(close_ns[part][-1])
        if first <= crash.first_ns and last >= crash.last_ns:
            begin = max(first, crash.first_ns - AROUND_NS) // DAY_NS * DAY_NS
            return begin, -(-min(last, crash.last_ns + AROUND_NS) // DAY_NS) * DAY_NS
    spans = ", ".join(f"{iso(int(close_ns[part.start]))} to {iso(int(close_ns[part.stop - 1]))}"
                      for part in stretches(close_ns))
    raise ValueError(f"expected bars from {iso(crash.first_ns)} to {iso(crash.last_ns)} without a hole of a day, found "
                     f"{spans}")


def _scored(name: str, table: TrainingSet, config: FitConfig, say: Say) -> Scored:
    say(f"fitting {name}")
    fitted = fit_model(name, table, config)
    facts, at = calibrated_facts(name, fitted.model, table), table.part("test")
    return scored_rows(name, table, at, model_answers(fitted.model, table, at), facts)


def judged(scored: Scored, span_ns: tuple[int, int]) -> Found:
    """Scores of the risk over all decisions, the crash hour by hour, and whether the bars are met."""
    risk, precision = scores(scored)["risk"], precision_above(scored, RISK_ALERT)
    return {
        "risk": {name: risk.get(name) for name in (
            "auc", "precision", "recall", "share_fired", "base_rate", "brier_skill", "ece", "interval", "n", "n_eff")},
        "precision_interval": precision, "crash": hour_by_hour(scored, span_ns),
        "bar": {"auc": LEAST_AUC, "precision": LEAST_PRECISION},
        "passed": risk["auc"] is not None and risk["auc"] >= LEAST_AUC and precision is not None
        and precision["value"] >= LEAST_PRECISION,
    }


def precision_above(scored: Scored, threshold: float) -> Found | None:
    """How often a minute above it turned out risky, with a day-block interval; None where it never was above."""
    known = np.isfinite(scored.risky_N) & np.isfinite(scored.risk_score_N)
    fired = known & (scored.risk_score_N > threshold)
    if not fired.any():
        return None
    risky, blocks = scored.risky_N[fired], DayBlocks.of(scored.days[fired])
    return {"value": float(risky.mean()), **(blocks.mean(risky) or {"low": None, "high": None, "days": blocks.days})}


def hour_by_hour(scored: Scored, span_ns: tuple[int, int]) -> Found:
    """The risk score from hour to hour of the crash. `risky_hours`: at least half of whose minutes turned out risky."""
    inside = (scored.close_ns_N > span_ns[0]) & (scored.close_ns_N <= span_ns[1])
    known = inside & np.isfinite(scored.risky_N) & np.isfinite(scored.risk_score_N)
    if not known.any():
        raise ValueError(f"expected decisions with a known risk from {iso(span_ns[0])} to {iso(span_ns[1])}, found "
                         "none; the 30 days before want at least 7 days of bars")
    score, risky = scored.risk_score_N[known], scored.risky_N[known]
    hour = (scored.close_ns_N[known] - 1) // HOUR_NS
    hours = [_hour(int(name) * HOUR_NS, score[hour == name], risky[hour == name]) for name in np.unique(hour)]
    wild = [each for each in hours if each["turned_out_risky"] >= 0.5]
    return {
        "from": iso(span_ns[0]), "to": iso(span_ns[1]), "minutes": int(known.sum()),
        "turned_out_risky": float(risky.mean()), f"above_{RISK_ALERT}": float((score > RISK_ALERT).mean()),
        f"above_{ALERT_CLEAR}": float((score > ALERT_CLEAR).mean()),
        "risky_minutes_above_0.5": float((score[risky > 0.5] > ALERT_CLEAR).mean()) if (risky > 0.5).any() else None,
        "least_hourly_median": min(each["median"] for each in hours), "risky_hours": len(wild),
        "least_hourly_median_of_risky_hours": min((each["median"] for each in wild), default=None), "hours": hours,
    }


def _hour(start_ns: int, score: Floats, risky: Floats) -> Found:
    return {"hour": iso(start_ns)[:16], "median": float(np.median(score)), "least": float(score.min()),
            "turned_out_risky": float(risky.mean())}


def text(found: Found) -> str:
    """For people: the scores on one line, then a line an hour."""
    risk, crash = found["risk"], found["crash"]
    precision = found["precision_interval"]
    shown = {"precision": precision and precision["value"], "interval": {"precision": precision}}
    told = "never above" if precision is None else f"{figure(shown, 'precision', 3)} above"
    head = (f"{found['model']}: risk AUC {figure(risk, 'auc', 3)}, precision {told} {RISK_ALERT}, {risk['n']:,} "
            f"minutes; {'passed' if found['passed'] else 'failed'}")
    share = (f"crash: {crash['above_0.7']:.0%} of minutes above 0.7, {crash['above_0.5']:.0%} above 0.5, "
             f"{crash['turned_out_risky']:.0%} turned out risky")
    hours = [f"{h['hour']}  median {h['median']:.2f}  least {h['least']:.2f}  risky {h['turned_out_risky']:.0%}"
             for h in crash["hours"]]
    return "\n".join([head, share, *hours])
