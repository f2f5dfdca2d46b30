"""A card says where the data come from, shows every score with its interval, and leaves out what is not forecast."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from tests.training.scored_rows import forecast_scored
from training.card import model_card, statement, unscored
from training.costs import CostModel
from training.evaluation import judged
from training.headline import headline
from training.reliability_text import plot
from training.scored import Scored

SCORED = forecast_scored()
HAR = replace(SCORED, model="har", rv_hat_NK=SCORED.rv_har_NK, p_up_N=np.full(len(SCORED), np.nan),
              p_flat_N=np.full(len(SCORED), np.nan), edge_bps={})
ABOUT = {"decisions": len(SCORED), "days": 6, "from": "2025-06-01T00:01:00+00:00", "to": "2025-06-06T23:00:00+00:00"}


def report(scored: Scored = SCORED) -> dict[str, Any]:
    boosted = replace(SCORED, model="gradient_boosting")
    return {**ABOUT, **judged(scored, {"har": HAR, "gradient_boosting": boosted}, CostModel(fee_bps=1.0))}


def meta(**changes: Any) -> dict[str, Any]:
    dataset = {
        "identity": "abc", "files": [], "span": ["2024-01-01T00:01:00+00:00", "2025-07-31T23:59:00+00:00"],
        "counts": {"left_out": 60, "train": 1000, "calibration": 100, "test": 200},
        "windows": {"train": ["2024-01-01T00:01:00+00:00", "2024-06-30T23:00:00+00:00"],
                    "calibration": ["2024-07-02T00:00:00+00:00", "2025-05-30T23:00:00+00:00"],
                    "test": ["2025-06-01T00:01:00+00:00", "2025-06-06T23:00:00+00:00"]},
    }
    return {
        "name": "candlewick-forecast", "version": "v1", "kind": "transformer", "source": "live", "symbol": "BTCUSDT",
        "command": "candlewick train", "commit": "abc1234", "feature_set": "f" * 12, "seconds": 12.0,
        "fit": {"parameters": 66_803, "seeds": [0]}, "tier_lambda": {"age_s": [0, 60], "lambda": [1.0, 0.5]},
        "metrics": REPORT, **changes, "dataset": {**dataset, **changes.get("dataset", {})},
    }


REPORT = report()


def test_every_table_and_plot_is_there_with_intervals() -> None:
    found = model_card(meta())
    for title in ("## Data", "## Scores on the test part", "## Do the chances mean what they say?", "## Does it pay?",
                  "## What it cannot do", "## How it was made"):
        assert title in found
    qlike = REPORT["volatility"]["15"]
    ends = qlike["interval"]["qlike"]
    assert f"| **model** | {qlike['qlike']:.4f} [{ends['low']:.4f}, {ends['high']:.4f}] |" in found
    assert found.count("```text") == 6, "direction, flat, three spikes, risk"
    assert "nan" not in found.lower().replace("finance", "")
    assert "None" not in found
    tables = [line for line in found.splitlines() if line.startswith("|")]
    widths = {line.count("|") for line in tables}
    assert widths <= {5, 6, 7, 8, 9}
    assert "at 2.05 bps a side" in found, "the deployment's costs, not the default's"


def test_the_card_tells_what_15_minutes_bring_where_the_model_expects_something_of_them() -> None:
    assert "one position at a time" not in model_card(meta())
    assert "bps over 15 min" not in model_card(meta())
    found = model_card(meta(metrics=report(replace(SCORED, edge_bps={**SCORED.edge_bps, 15: 9 * SCORED.edge_bps[1]}))))
    assert "| 15 min | model |" in found
    assert "| 15 min | model, one position at a time |" in found
    largest = np.nanmax(np.abs(SCORED.edge_bps[1]))
    assert f"The largest expected edge was {largest:.2f} bps over 1 min and {9 * largest:.2f} bps over 15 min" in found


def test_a_plot_shows_what_was_said_beside_how_often_it_came() -> None:
    points = REPORT["risk"]["reliability"]
    lines = plot(points).splitlines()
    assert len(lines) == len(points) + 1 == 11
    assert all(("○" in line and "●" in line) or "◉" in line for line in lines[1:])
    same = [{**p, "frequency": p["forecast"], "interval": {"frequency": None}} for p in points]
    assert all("◉" in line for line in plot(same).splitlines()[1:])


@pytest.mark.parametrize(("changes", "said", "unsaid"), [
    ({}, "collected by third parties", "were given as files"),
    ({"dataset": {"files": ["perp.csv", "eth.parquet"]}, "symbol": "BTC-USD-PERP.STANDX+ETHUSDT"},
     "perp.csv, eth.parquet. They hold BTC-USD-PERP.STANDX, ETHUSDT, source\n`live`, 2024-01-01 00:01 to 2025-07-31",
     "third parties"),
    ({"source": "simulated"}, "Trained on a simulated market", "third parties"),
    ({"source": "simulated", "dataset": {"files": ["made.csv"]}}, "given as files: made.csv", "third parties"),
    ({"source": "recording", "dataset": {"files": ["rec.csv"]}}, "Recorded data, not a live history", "third parties"),
])
def test_the_card_says_whose_data_it_was_trained_on(changes: dict[str, Any], said: str, unsaid: str) -> None:
    for text in (statement(meta(**changes)), model_card(meta(**changes)), unscored(meta(**changes))):
        assert said in text
        assert unsaid not in text


def test_the_demonstration_is_spoken_of_only_where_it_was_learnt_from() -> None:
    told = "recording used for demonstration (2024-08-08/09) lie in the calibration part"
    assert told in model_card(meta())
    windows = {"train": ["2025-01-01T00:01:00+00:00", "2025-03-01T00:00:00+00:00"]}
    for changes in ({"symbol": "ETHUSDT"}, {"source": "simulated"}, {"dataset": {"windows": windows,
                    "counts": {"left_out": 0, "train": 5}}}):
        assert "recording used for demonstration" not in model_card(meta(**changes))


def test_a_model_that_forecasts_no_direction_or_nothing_but_direction_has_a_card() -> None:
    found = model_card(meta(metrics=report(HAR), kind="har"))
    assert "up, if it moves" not in found
    assert "Do not trade on it" not in found
    nothing = {name: np.full_like(getattr(SCORED, name), np.nan) for name in (
        "rv_hat_NK", "spike_prob_NK", "risk_score_N", "return_bound_NK", "rv_low_N", "rv_high_N")}
    found = model_card(meta(metrics=report(replace(SCORED, **nothing)), kind="reversal"))
    assert "It forecasts no volatility of its own." in found
    assert "It gives no intervals." in found
    assert "None" not in found


def test_the_headline_keeps_the_names_that_runs_have_had_from_the_first() -> None:
    found = headline(REPORT)
    assert set(found) >= {
        "rows", "days", "qlike_5m", "qlike_15m", "qlike_60m", "r2_log_15m", "qlike_15m_har", "auc_up", "auc_spike",
        "auc_risk", "calibration_error_risk", "accuracy_up", "coverage_band_15m", "net_bps_per_trade_1m",
    }
    assert found["qlike_15m"] == REPORT["volatility"]["15"]["qlike"]
    silent = headline(report(HAR))
    assert "auc_up" not in silent
    assert all(isinstance(value, float) for value in silent.values())
