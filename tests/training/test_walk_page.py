"""The walk's page shows every pair over all blocks and block by block; its answer feeds the report page."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from tests.training.scored_rows import START_NS, forecast_scored
from tests.training.test_report_page import tags, titles
from training.report_page import page as report_page
from training.walk_page import answers, page, page_parts

ABLATION = {"calendar": {"value": 0.009, "low": 0.004, "high": 0.013},
            "volume": {"value": 0.0, "low": -0.1, "high": 0.1}}


def ratio(value: float) -> dict[str, float]:
    return {"value": value, "low": value - 0.02, "high": value + 0.02, "days": 20}


def over(value: float) -> dict[str, Any]:
    return {h: {**ratio(value), "by_block": [ratio(value - 0.01), ratio(value + 0.05)], "better_in": 1, "blocks": 2}
            for h in ("5", "15", "60")}


WALK: dict[str, Any] = {
    "folder": "somewhere/0123456789abcdef",
    "blocks": [
        {"block": b, "from": f"2025-0{5 + b}-01T00:00:00+00:00", "to": f"2025-0{5 + b}-21T00:00:00+00:00",
         "qlike": {name: dict.fromkeys(("5", "15", "60"), 0.3 + 0.01 * i + 0.1 * b)
                   for i, name in enumerate(("stack", "gradient_boosting", "har"))}} for b in range(2)
    ],
    "ratios": {"stack/har": over(0.9), "gradient_boosting/har": over(0.95), "stack/gradient_boosting": over(0.98)},
}


def test_every_pair_is_shown_over_all_blocks_and_block_by_block() -> None:
    found = page(WALK, START_NS, ABLATION)
    tags(found)
    assert titles(found) == [
        "Over all blocks", "QLIKE by block", "Block by block, over HAR", "Block by block, over gradient boosting",
        "What is each feature family worth?",
    ]
    assert found.count("better in 2 of 2") == 3, "0.89 and 0.95; the others have 0.94 and 1.00, 0.97 and 1.03"
    assert found.count("better in 1 of 2") == 6
    assert "15 minutes, over HAR <span>2 of 2 certainly better</span>" in found
    assert "15 minutes, over gradient boosting <span>0 of 1 certainly better</span>" in found, "0.98 + 0.02 is 1"
    assert "<b>0.3000</b>" in found, "the best of the first block"
    assert "What is each feature family worth?" not in titles(page(WALK, START_NS))


def test_nothing_is_asked_of_the_network_and_nobody_s_folders_are_told() -> None:
    found = page(WALK, START_NS, ABLATION)
    assert not re.search(r"https?:|//|@import|url\(|<script|<link|<img|<iframe|\bsrc=", found)
    assert "somewhere" not in found
    assert page(WALK, START_NS, ABLATION) == found


def test_a_walk_of_one_model_has_its_scores_alone() -> None:
    alone = {**WALK, "ratios": {}}
    assert titles(page(alone, START_NS)) == ["QLIKE by block"]
    with pytest.raises(ValueError, match="expected the blocks of a walk-forward, found none"):
        page({"blocks": [], "ratios": {}}, START_NS)


def test_kept_answers_are_shown_on_the_report_page(tmp_path: Path) -> None:
    walk, ablation = tmp_path / "walk.json", tmp_path / "ablation.json"
    walk.write_text(json.dumps(WALK))
    ablation.write_text(json.dumps({"model": "stack", "ablation": ABLATION}))
    beside = page_parts(answers([walk, ablation]), "stack")
    found = report_page({"red_flags": []}, forecast_scored(), START_NS, **beside)
    tags(found)
    assert "15 minutes, over gradient boosting <span>better in 1 of 2</span>" in found
    assert "What is each feature family worth?" in titles(found)
    assert page_parts({"walk.json": WALK}, "gradient_boosting")["stability"][0]["against"] == "har"
    assert page_parts(answers([]), "stack") == {}


@pytest.mark.parametrize(("held", "said"), [
    ('{"model": "lstm", "ablation": {}}', "expected the ablation of stack, found that of lstm"),
    ('{"rows": 1}', "expected an answer of walkforward or ablation"),
    ('{"ratios": {}, "blocks": []}', "expected stack/gradient_boosting among the walk's ratios"),
    ("[]", "expected an answer of walkforward or ablation"),
    ("not json", "expected an answer of walkforward or ablation"),
])
def test_a_file_that_is_something_else_is_refused(tmp_path: Path, held: str, said: str) -> None:
    path = tmp_path / "held.json"
    path.write_text(held)
    with pytest.raises(ValueError, match=said):
        page_parts(answers([path]), "stack")
    with pytest.raises(ValueError, match="nowhere"):
        answers([tmp_path / "nowhere.json"])
