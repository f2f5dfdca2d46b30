"""An edit of FEATURES while the old model serves: both sets are written, both models answer, then the old set goes.

The code after the edit runs as a process of its own on the Redis and the lake of this one, as in a rolling restart.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from feature_repo.settings import ROOT, Settings
from tests.integration import swap_side

pytestmark = [pytest.mark.integration, pytest.mark.slow, pytest.mark.timeout(300)]
RANGE = """    Feature("range_15m", "price", "log return", 900, "ohlcv_1m",
            "ln(max high / min low)", _sixty("log_high", 15), _range, _upto(0.8)),
"""
# First among the inputs: a model that took columns by place would read everything one place off.
EDITED = """    Feature("range_15m_v2", "price", "log return", 900, "ohlcv_1m",
            "ln(max high / min low) / 2", _sixty("log_high", 15), lambda w: _range(w) / 2.0, _upto(0.4)),
"""


def edited_copy(to: Path) -> Path:
    """This tree with `range_15m` edited: the new formula under a name of its own, the old one retired."""
    for package in ("feature_repo", "streaming", "bentos", "monitoring", "tests", "config"):
        shutil.copytree(ROOT / package, to / package, ignore=shutil.ignore_patterns("__pycache__"))
    path = to / "feature_repo" / "features.py"
    source = path.read_text()
    for before, after in (
        (RANGE, ""),
        ("FEATURES: tuple[Feature, ...] = (\n", f"FEATURES: tuple[Feature, ...] = (\n{EDITED}"),
        ("RETIRED: tuple[Feature, ...] = ()\n", f"RETIRED: tuple[Feature, ...] = (\n{RANGE})\n"),
    ):
        assert source.count(before) == 1, before
        source = source.replace(before, after)
    path.write_text(source)
    return to


@dataclass(frozen=True)
class Edited:
    """The edited code as a process of its own, on the same deployment as this one."""

    process: subprocess.Popen[str]

    def __call__(self, *words: Any) -> dict[str, Any]:
        assert self.process.stdin
        assert self.process.stdout
        print(json.dumps(words), file=self.process.stdin, flush=True)
        line = self.process.stdout.readline()
        assert line, "the edited code ended: see its traceback on stderr"
        found: dict[str, Any] = json.loads(line)
        return found


@pytest.fixture
def settings(tmp_path: Path, redis_server: str) -> Settings:
    return swap_side.settings_of(tmp_path / "run", redis_server, tmp_path / "run" / "shipped")


@pytest.fixture
def edited(tmp_path: Path, settings: Settings) -> Iterator[Edited]:
    root = edited_copy(tmp_path / "edited")
    where = [str(settings.run_dir), settings.redis, str(settings.model_dir)]
    with subprocess.Popen(
        [sys.executable, "-m", "tests.integration.swap_side", *where], cwd=root, text=True,
        env={**os.environ, "PYTHONPATH": str(root)}, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
    ) as process:
        yield Edited(process)
        assert process.stdin
        process.stdin.close()
        assert process.wait(timeout=30) == 0


def said(answers: list[dict[str, Any]], slot: str) -> set[tuple[str, int]]:
    """Version and tier of all answers of a slot."""
    return {(answer[slot]["model_version"], answer[slot]["tier"]) for answer in answers}


def test_both_models_answer_throughout_a_swap_and_then_the_old_set_goes(
    tmp_path: Path, settings: Settings, edited: Edited,
) -> None:
    champion, shadow = (settings.run_dir / "models" / slot for slot in ("champion", "shadow"))
    sets = swap_side.train(tmp_path / "old"), edited("train", str(tmp_path / "new"))
    assert sets[0]["feature_set"] != sets[1]["feature_set"]
    for slot in (champion, settings.model_dir):
        shutil.copytree(tmp_path / "old", slot)
    before = swap_side.go_on(settings, 1, 40)
    assert said(before["answers"], "champion") == {("old", 1)}

    # The edited code takes over; the old model is still champion, the new one is in shadow.
    shutil.copytree(tmp_path / "new", shadow)
    during = edited("stream", 41, 80)
    assert during["found"]["champion"] == before["answers"][-1]["champion"], "an old row is read by the new code"
    assert said(during["answers"], "champion") == {("old", 1)}
    assert said(during["answers"], "shadow") == {("new", 1)}
    assert (during["retired"], during["unread"]) == (["range_15m"], [])
    assert [(each["feature_set"], each["declared"], each["retired"]) for each in during["sets"]] == [
        (sets[1]["feature_set"], True, []), (sets[0]["feature_set"], False, ["range_15m"]),
    ]
    # The certificate judges each row and prediction under the set it was logged with: here by the code that knows both,
    old, new = sets[0]["feature_set"], sets[1]["feature_set"]
    both = edited("parity", 1, 80)
    assert (both["examples"], both["not_judged"], both["passed"]) == ([], [], True)
    # (the old model made every prediction; the online row is a row of the new set too)
    assert both["feature_sets"] == {old: {"rows": 40, "predictions": 80}, new: {"rows": 41, "predictions": 0}}
    # and here by that of before the edit, which does not know the new one.
    early = swap_side.parity(settings, 1, 80)
    assert (early["examples"], early["passed"], list(early["feature_sets"])) == ([], True, [old])
    assert {each["where"]: each["count"] for each in early["not_judged"]} == {
        "lake": 40, "online": 1, "predictions": 40}
    assert {each["reason"] for each in early["not_judged"]} == {f"feature set {new} is not this code's"}

    shutil.rmtree(shadow)
    behind = swap_side.answer(settings, 80)
    assert behind["champion"] == during["answers"][-1]["champion"], "a new row is read by the old code"

    # Every value of the old set is what the old code would have written without a swap, and so is every answer.
    alone = swap_side.settings_of(tmp_path / "alone", f"{settings.redis.rsplit('/', 1)[0]}/1", tmp_path / "old")
    undisturbed = swap_side.go_on(alone, 1, 80)
    for wanted, row in zip(undisturbed["rows"], before["rows"] + during["rows"], strict=True):
        assert {name: row["values"][name] for name in wanted["values"]} == wanted["values"]
    answers = [(a["bootstrap"], b["champion"]) for a, b in zip(
        undisturbed["answers"], before["answers"] + during["answers"], strict=True)]
    assert all(a == b for a, b in answers)
    assert all(row["values"]["range_15m_v2"] == row["values"]["range_15m"] / 2.0 for row in during["rows"])

    # Feast holds a service for each version, online and for what was known.
    shutil.copytree(tmp_path / "new", settings.run_dir / "models" / "later")
    asked = edited("features", "made-old", "made-new")
    newest = during["rows"][-1]["values"]
    for service, names in (("made-old", sets[0]["features"]), ("made-new", sets[1]["features"])):
        for place in ("online", "history"):
            assert {name: asked[service][place][name] for name in names} == {name: newest[name] for name in names}

    # The new model is promoted and shipped: the old set goes.
    for slot in (champion, settings.model_dir):
        shutil.rmtree(slot)
        shutil.copytree(tmp_path / "new", slot)
    after = edited("stream", 81, 85)
    assert said([after["found"], *after["answers"]], "champion") == {("new", 1)}
    assert (after["retired"], after["unread"], len(after["sets"])) == ([], ["range_15m"], 1)
    assert {row["values"]["range_15m"] for row in after["rows"]} == {None}
    assert {row["reasons"]["range_15m"] for row in after["rows"]} == {"retired"}
    assert all(row["values"]["range_15m_v2"] is not None for row in after["rows"])

    left = edited("parity", 1, 85)
    assert (left["examples"], left["passed"]) == ([], True)
    assert left["feature_sets"] == {old: {"rows": 40, "predictions": 0}, new: {"rows": 46, "predictions": 5}}
    assert left["not_judged"] == [
        {"where": "predictions", "reason": f"model old of feature set {old} is gone", "count": 80}]
