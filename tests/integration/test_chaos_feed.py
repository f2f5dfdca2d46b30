"""Faults at the venue, over real sockets: ingest loses no trade, shows no false book, and is soon whole again."""

from __future__ import annotations

import json
import time
from dataclasses import replace
from pathlib import Path

import pytest
from typer.testing import CliRunner

from candlewick import app
from streaming.chaos import run_scenarios, text
from streaming.exchange_market import Market
from streaming.recording import Line
from streaming.scenario import Scenario, find, names, parse_scenario
from streaming.simulator import simulate
from tests.conftest import SIMULATED_BEGIN_NS
from tests.streaming.made_exchange import market_of, tape_of

pytestmark = [pytest.mark.integration, pytest.mark.slow, pytest.mark.timeout(400)]
SECONDS = 311
WRONG = {
    "name": "wrong", "shows": "nothing", "steps": [{"fault": "gap", "symbol": "BTCUSDT", "stream": "depth"}],
    "expect": {"resyncs": 0, "connects": {"at_least": 2}},
}
NAMES = ("dropped_trades", "repeated_frames", "silent_depth", "hostile_trades", "crossed_book", "reconnects")
"""Enough to meet every kind of fault; `candlewick chaos feed all` runs them all, with their times."""


def market() -> Market:
    # In a sparser market a trade that comes after the next one may be later than the grace: late, and rightly so.
    lines: list[Line] = list(simulate("BTCUSDT", 1, SIMULATED_BEGIN_NS, SECONDS, 20.0))
    return market_of(tape_of(lines), time.time_ns)


def shortened(scenario: Scenario) -> Scenario:
    """Two of each fault, and nothing expected of times: the machine may be busy with other things."""
    steps = tuple(replace(step, repeat=min(step.repeat, 2), every_s=min(step.every_s, 5.5)) for step in scenario.steps)
    expect = {name: wanted for name, wanted in scenario.expect.items() if not name.endswith("_s")}
    return replace(scenario, steps=steps, expect=expect, settle_s=150.0)


async def test_scenarios_meet_their_expectations_and_a_wrong_one_is_told() -> None:
    scenarios = [shortened(find(name)[0]) for name in NAMES]
    *reports, wrong = await run_scenarios([*scenarios, parse_scenario(WRONG)], market(), time.time_ns)
    assert {report["scenario"]: report["unmet"] for report in reports} == {made.name: [] for made in scenarios}
    assert wrong["unmet"] == ["resyncs: expected 0, found 1", "connects: expected at_least 2, found 1"]
    assert not wrong["passed"]
    assert "FAILED  wrong" in text({"scenarios": [wrong]})
    reconnects = next(report for report in reports if report["scenario"] == "reconnects")
    assert reconnects["reconnects_timed"] == 8
    assert all(report["trades"] > 20 and report["books"] > 10 for report in reports)


def test_verb_runs_a_file_and_says_what_it_found(tmp_path: Path) -> None:
    path = tmp_path / "mine.json"
    path.write_text(json.dumps({"name": "mine", "shows": "x", "steps": [{"fault": "gap", "stream": "trade"}]}))
    found = CliRunner().invoke(app, ["chaos", "feed", str(path), "--json"])
    report = json.loads(found.output)
    assert (found.exit_code, report["passed"], report["scenarios"][0]["missing_ids"]) == (0, True, 0)


def test_every_fault_is_part_of_a_scenario() -> None:
    from streaming.exchange_faults import PARAMETERS

    shown = {fault.fault for name in names() for _, fault in find(name)[0].schedule()}
    assert shown == PARAMETERS.keys()
