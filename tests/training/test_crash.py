"""The crash is judged by a model that has learnt nothing of it, hour by hour, with its bars."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from feature_repo.contracts import DAY_NS, HOUR_NS, MINUTE_NS
from feature_repo.progress import silent
from tests.training.made_files import bar_file
from tests.training.scored_rows import START_NS, forecast_scored
from training.bar_files import BarForm, parse_time
from training.crash import FIRST, LAST, Crash, hour_by_hour, judged, judged_span, precision_above, run, text
from training.fitting import FitConfig
from training.klines import MinuteBars

FORM = BarForm(source="simulated")
SCORED = forecast_scored()


def minutes_of(days: range) -> np.ndarray:
    return np.concatenate([day * DAY_NS + MINUTE_NS * np.arange(1, 1441) for day in days])


def test_the_crash_is_that_of_august_2024() -> None:
    asked = Crash([])
    assert (asked.first_ns, asked.last_ns) == (parse_time(FIRST), parse_time(LAST))
    assert asked.last_ns - asked.first_ns == DAY_NS
    with pytest.raises(ValueError, match="expected a crash that ends after it began"):
        Crash([], first_ns=asked.last_ns, last_ns=asked.first_ns)


def test_the_stretch_around_the_crash_is_judged_and_no_further_than_forty_days() -> None:
    close_ns = np.concatenate([minutes_of(range(100, 150)), minutes_of(range(200, 230)), minutes_of(range(300, 400))])
    crash = Crash([], first_ns=210 * DAY_NS, last_ns=211 * DAY_NS)
    assert judged_span(close_ns, crash) == (200 * DAY_NS, 230 * DAY_NS)
    late = Crash([], first_ns=390 * DAY_NS, last_ns=391 * DAY_NS)
    assert judged_span(close_ns, late) == (350 * DAY_NS, 400 * DAY_NS)
    for first in (160, 229):
        with pytest.raises(ValueError, match="without a hole of a day, found"):
            judged_span(close_ns, Crash([], first_ns=first * DAY_NS + 1, last_ns=(first + 2) * DAY_NS))


def test_hours_show_the_median_the_least_and_what_came() -> None:
    score, risky = np.full(len(SCORED), 0.2), np.zeros(len(SCORED))
    inside = SCORED.close_ns_N <= START_NS + HOUR_NS
    score[inside], risky[inside] = 0.9, 1.0
    score[0], risky[1] = 0.1, 0.0
    found = hour_by_hour(replace(SCORED, risk_score_N=score, risky_N=risky), (START_NS, START_NS + 2 * HOUR_NS))
    first, second = found["hours"]
    assert (first["hour"], first["median"], first["least"]) == ("2025-06-01T00:00", 0.9, 0.1)
    assert first["turned_out_risky"] == pytest.approx(59 / 60)
    assert (second["median"], second["turned_out_risky"]) == (0.2, 0.0)
    assert (found["minutes"], found["risky_hours"]) == (120, 1)
    assert found["above_0.7"] == found["above_0.5"] == pytest.approx(59 / 120)
    assert (found["least_hourly_median"], found["least_hourly_median_of_risky_hours"]) == (0.2, 0.9)
    assert found["risky_minutes_above_0.5"] == pytest.approx(58 / 59)
    with pytest.raises(ValueError, match="expected decisions with a known risk"):
        hour_by_hour(SCORED, (START_NS - DAY_NS, START_NS - HOUR_NS))


def test_the_bars_are_met_by_a_score_that_knows_and_by_no_other() -> None:
    span = (START_NS, START_NS + HOUR_NS)
    knows = replace(SCORED, risk_score_N=np.where(SCORED.risky_N > 0, 0.9, 0.1))
    assert judged(knows, span)["passed"]
    loose = replace(SCORED, risk_score_N=np.where(SCORED.risky_N > 0, 0.9, np.where(SCORED.days % 2, 0.8, 0.1)))
    found = judged(loose, span)
    assert found["risk"]["precision"] < 0.85
    assert not found["passed"]
    assert found["precision_interval"]["low"] <= found["risk"]["precision"] <= found["precision_interval"]["high"]
    quiet = replace(SCORED, risk_score_N=np.minimum(SCORED.risk_score_N, 0.6))
    assert precision_above(quiet, 0.7) is None
    assert not judged(quiet, span)["passed"], "an alert that never comes is no alert"


@pytest.mark.slow
def test_nothing_of_the_stretch_is_learnt_from_and_har_stands_beside(tmp_path: Path, bars: MinuteBars) -> None:
    gap = np.where(np.arange(len(bars.close_ns)) < 14 * 1440, 0, 5 * DAY_NS)
    path = bar_file(tmp_path, replace(bars, close_ns=bars.close_ns + gap))
    at = int(bars.close_ns[0]) - MINUTE_NS + 28 * DAY_NS
    found = run(Crash([str(path)], FORM, at, at + DAY_NS), "logistic", FitConfig(), silent)
    assert parse_time(found["windows"]["calibration"][1]) < at - 9 * DAY_NS, "the stretch begins nine days before"
    assert parse_time(found["windows"]["test"][0]) > at - 9 * DAY_NS
    assert len(found["crash"]["hours"]) == 24
    assert set(found["har"]["model_minus_it"]) == {"auc_risk", "brier_risk", "log_loss_risk"}
    assert text(found).count("\n") == 1 + 24
    assert "har" not in run(Crash([str(path)], FORM, at, at + DAY_NS), "har", FitConfig(), silent)
