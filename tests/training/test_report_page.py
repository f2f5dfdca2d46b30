"""The page needs nothing beside it, is well formed, says its pictures in words, and leaves out what was not given."""

from __future__ import annotations

import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.training.scored_rows import START_NS, forecast_scored
from training.costs import CostModel
from training.drawing import Axis, Series, axis, plot, thinned, time_axis
from training.pnl import compare
from training.report_page import page, stability_of, write
from training.score_table import baselines, score, score_tables
from training.scores import differences, scores

SCORED = forecast_scored()
REPORT: dict[str, Any] = {
    "volatility": {"15": {"qlike": 0.28, "r2_log": 0.5, "interval": {"qlike": {"low": 0.26, "high": 0.3, "days": 6}}}},
    "direction": {"accuracy": {"value": 0.508, "low": 0.5, "high": 0.516}, "auc": None},
    "baselines": {
        "logistic": {"direction": {"accuracy": 0.503}},
        "har": {"volatility": {"15": {"qlike": 0.33}},
                "model_minus_it": {"qlike_ratio_15": {"value": 0.85, "low": 0.8, "high": 0.9}}},
    },
    "pnl": compare(SCORED, {}, CostModel()), "command": "candlewick evaluate --json", "commit": "abc1234",
}
ABLATION = {"calendar": {"value": 0.009, "low": 0.004, "high": 0.013}}
BLOCKS = [{"block": f"2025-0{i}", "against": "gradient boosting",
           "qlike_ratio": {"15": {"value": 0.97, "low": 0.95, "high": 0.99}}} for i in range(1, 7)]
VOID = {"meta", "br", "rect", "path", "circle"}


class Tags(HTMLParser):
    """Checks that what is opened is closed in order, and keeps the attributes of every tag."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.seen: list[tuple[str, dict[str, str | None]]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


@pytest.fixture(scope="module")
def whole() -> str:
    return page(REPORT, SCORED, START_NS, ABLATION, BLOCKS)


def tags(html: str) -> Tags:
    found = Tags()
    found.feed(html)
    found.close()
    assert found.open == []
    return found


def titles(html: str) -> list[str]:
    return re.findall(r"<h2>(.*?)</h2>", html)


def test_every_part_is_there_in_order_and_every_tag_is_closed(whole: str) -> None:
    tags(whole)
    assert titles(whole) == [
        "Scores", "Volatility over time", "Do the chances mean what they say?", "Do the intervals hold, calm or wild?",
        "Risk over time", "Does it pay?", "Does it hold over time?", "What is each feature family worth?", "Worst days",
    ]


def test_nothing_is_asked_of_the_network(whole: str) -> None:
    assert not re.search(r"https?:|//|@import|url\(|<script|<link|<img|<iframe|\bsrc=", whole)


def test_it_is_dark_or_light_as_its_reader_s_machine(whole: str) -> None:
    assert "color-scheme: light dark" in whole
    colors = re.findall(r"(?:fill|stroke)=\"#", whole)
    assert colors == []  # pictures take the page's colours


def test_every_picture_is_told_in_words_and_every_table_has_headings(whole: str) -> None:
    found = tags(whole)
    charts = [attributes for tag, attributes in found.seen if tag == "svg" and attributes.get("aria-hidden") != "true"]
    assert len(charts) >= 15
    assert all(chart["role"] == "img" and len(chart["aria-label"] or "") > 20 for chart in charts)
    assert whole.count("<table>") == whole.count('<thead><tr><th scope="col">')
    assert [attributes["lang"] for tag, attributes in found.seen if tag == "html"] == ["en"]
    assert not re.search(r">(nan|None|inf)<", whole)
    assert "nan" not in re.sub(r"<style>.*?</style>", "", whole, flags=re.DOTALL).lower().replace("finance", "")


def test_one_position_at_a_time_is_a_table_and_15_minutes_have_their_curve(whole: str) -> None:
    assert "One position at a time, 15 min" in whole
    assert "One position at a time, 1 min" not in whole
    assert "should_trade, 15 min" not in whole, "the model expects nothing of 15 minutes"
    of_15 = replace(SCORED, edge_bps={**SCORED.edge_bps, 15: 9 * SCORED.edge_bps[1]})
    found = page({"pnl": compare(of_15, {}, CostModel())}, of_15, START_NS)
    tags(found)
    assert "should_trade, 15 min" in found


def test_parts_that_were_not_given_are_left_out() -> None:
    bare = titles(page({}, SCORED, START_NS))
    assert "Scores" not in bare
    assert "Does it pay?" not in bare
    assert "Does it hold over time?" not in bare
    assert "Worst days" in bare


def test_a_forecaster_without_volatility_or_chances_still_has_a_page() -> None:
    nothing = {name: np.full_like(getattr(SCORED, name), np.nan) for name in (
        "p_up_N", "p_flat_N", "rv_hat_NK", "spike_prob_NK", "risk_score_N", "return_bound_NK", "rv_low_N", "rv_high_N")}
    found = page({}, replace(SCORED, **nothing), START_NS)
    tags(found)
    assert titles(found) == []


def test_nothing_scored_is_refused() -> None:
    with pytest.raises(ValueError, match="expected scored decisions"):
        page({}, SCORED.only(np.zeros(len(SCORED), dtype=bool)), START_NS)


def test_a_leak_is_told_at_the_top() -> None:
    leaked = replace(SCORED, p_up_N=np.where(SCORED.returns[1] > 0, 0.9, 0.1))
    found = page({}, leaked, START_NS)
    assert "Suspicious: too good to be true" in found
    assert found.index("direction accuracy") < found.index('class="tiles"')
    assert "No red flag" in page({}, SCORED, START_NS)


def test_rows_that_the_model_has_learnt_from_are_told() -> None:
    found = page({"seen_in_training": len(SCORED) // 2, "red_flags": []}, SCORED, START_NS)
    assert "<b>share of these minutes seen in training</b>: 0.500" in found
    assert "No red flag" not in found


def test_a_walk_s_blocks_become_the_page_s_stability() -> None:
    ratio = {"value": 0.95, "low": 0.9, "high": 1.0, "days": 20}
    walk = {"blocks": [{"block": i, "from": f"2025-0{5 + i}-01T00:01:00+00:00"} for i in range(2)],
            "ratios": {"stack/gradient_boosting": {"15": {"by_block": [ratio, {**ratio, "value": 1.02}]}}}}
    blocks = stability_of(walk, "stack", "gradient_boosting")
    assert [block["block"] for block in blocks] == ["2025-05-01", "2025-06-01"]
    found = page({"red_flags": []}, SCORED, START_NS, stability=blocks)
    assert "15 minutes, over gradient boosting <span>better in 1 of 2</span>" in found
    with pytest.raises(ValueError, match="expected stack/har among the walk's ratios"):
        stability_of(walk, "stack", "har")


def test_what_evaluate_judges_is_what_the_page_shows() -> None:
    other = replace(SCORED, model="har", rv_hat_NK=SCORED.rv_har_NK)
    beside = {"har": {**scores(other), "model_minus_it": differences(SCORED, other)}}
    found = page({**scores(SCORED), "baselines": beside}, SCORED, START_NS, others={"har": other})
    tags(found)
    assert titles(found)[0] == "Scores"
    for name in ("Volatility", "Spikes", "Risk", "Direction, one minute", "80 % intervals"):
        assert f'aria-label="{name}"' in found
    assert "Model against it, paired by day" in found


def test_names_are_text_and_not_markup() -> None:
    named = replace(SCORED, model="<b>best</b>", symbol_N=np.full(len(SCORED), "A&B"))
    found = page({"baselines": {"<i>x": {"direction": {"auc": 0.5}}}, "direction": {"auc": 0.5}}, named, START_NS)
    tags(found)
    assert "&lt;b&gt;best&lt;/b&gt;" in found
    assert "A&amp;B" in found
    assert "<i>x" not in found


def test_the_same_scores_make_the_same_page(whole: str) -> None:
    assert page(REPORT, SCORED, START_NS, ABLATION, BLOCKS) == whole


def test_a_reader_never_sees_half_a_page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    at = tmp_path / "made" / "report.html"
    write(at, "old")

    def full(*_: object, **__: object) -> None:
        raise OSError("no space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(Path, "write_text", full)
        with pytest.raises(OSError, match="no space"):
            write(at, "new")
    assert at.read_text() == "old"
    write(at, "new")
    assert [path.name for path in at.parent.iterdir()] == ["report.html"]
    assert at.read_text() == "new"


def test_scores_stand_with_their_intervals_beside_those_of_baselines() -> None:
    assert baselines(REPORT) == ["logistic", "har"]
    assert score(REPORT, "model", ("volatility", "15", "qlike")) == {"value": 0.28, "low": 0.26, "high": 0.3, "days": 6}
    assert score(REPORT, "har", ("volatility", "15", "qlike")) == 0.33
    assert score(REPORT, "logistic", ("volatility", "15", "qlike")) is None
    volatility, direction, paired = score_tables(REPORT)
    assert '<span class="good">0.8500</span><small>[0.800, 0.900]</small>' in paired
    assert "logistic" not in paired
    assert "<b>0.2800</b><small>[0.260, 0.300]</small>" in volatility
    assert "logistic" not in volatility  # it says nothing of volatility
    assert "AUC" not in direction  # not a number: not shown
    assert "<b>50.8%</b>" in direction


def test_an_axis_holds_its_values_between_round_ticks() -> None:
    for values in ([0.123, 0.47], [-3.0, 12_345.0], [5.0, 5.0], [float("nan")], [1e-6, 2e-6]):
        found = axis(values)
        known = [value for value in values if np.isfinite(value)]
        assert all(found.low <= value <= found.high for value in known)
        assert 2 <= len(found.ticks) <= 12
        assert len({label for _, label in found.ticks}) == len(found.ticks)


@pytest.mark.parametrize("days", [0.2, 2, 20, 400, 2000])
def test_a_time_axis_names_a_handful_of_days(days: float) -> None:
    last = START_NS + int(days * 86_400e9)
    found = time_axis(START_NS, last)
    assert 2 <= len(found.ticks) <= 7
    assert all(START_NS <= at <= last for at, _ in found.ticks)


def test_an_unknown_value_interrupts_a_line() -> None:
    x = np.arange(4.0)
    found = plot("t", "told", Axis(0, 3, ()), Axis(0, 1, ()), [Series("s", x, np.array([0, 1, np.nan, 1.0]), "c1")])
    line = re.search(r'class="line c1" d="([^"]*)"', found)
    assert line is not None
    assert re.sub(r"[\d. ]", "", line[1]) == "MLM"


def test_a_thinned_line_keeps_its_ends_and_its_peaks() -> None:
    x = np.arange(10_000.0)
    y = np.sin(x / 500)
    y[[1234, 7777]] = 9.0, -9.0
    thin_x, thin_y = thinned(x, y)
    assert len(thin_x) < 400
    assert (thin_x[0], thin_x[-1]) == (0, 9999)
    assert {9.0, -9.0} <= set(thin_y.tolist())
    np.testing.assert_array_equal(y[thin_x.astype(int)], thin_y)
