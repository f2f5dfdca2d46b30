"""Walk-forward: blocks of days that have bars, nothing learnt from a block or after it, resumable to the byte."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from weakref import ref

import numpy as np
import pytest

from feature_repo.contracts import DAY_NS, MINUTE_NS
from feature_repo.progress import silent
from tests.training.conftest import Calibrated
from tests.training.made_files import bar_file
from tests.training.scored_rows import START_NS, forecast_scored
from training import scored_file, walkforward
from training.bar_files import BarForm
from training.costs import CostModel
from training.dataset import TrainingSet
from training.day_blocks import day_of
from training.kept import keep, read
from training.klines import MinuteBars
from training.models import STACKED
from training.scored import Scored
from training.scores import differences
from training.scoring import Facts, model_answers
from training.walkforward import (
    Plan,
    blocks_of,
    identity_of,
    qlike_of,
    result,
    run,
    summary,
    windows_before,
)


def minutes_of(days: list[int]) -> np.ndarray:
    return np.concatenate([day * DAY_NS + MINUTE_NS * np.arange(1, 1441) for day in days])


def test_blocks_are_the_last_days_that_have_bars_whatever_lies_between_them() -> None:
    close_ns = minutes_of([100, 101, 102, 103, 110, 111, 120, 121])
    assert blocks_of(close_ns, 2, 2) == [(110 * DAY_NS, 112 * DAY_NS), (120 * DAY_NS, 122 * DAY_NS)]
    with pytest.raises(ValueError, match="at least 12 days for 3 blocks of 2, found 8; ask for fewer"):
        blocks_of(close_ns, 3, 2)


def test_a_block_is_forecast_from_what_came_a_day_and_a_label_before_it() -> None:
    close_ns = minutes_of(list(range(100, 140)))
    block = blocks_of(close_ns, 2, 5)[1]
    windows = windows_before(close_ns, block)
    assert windows.train is not None
    assert windows.calibration is not None
    assert windows.train[1] + 60 * MINUTE_NS + DAY_NS <= windows.calibration[0]
    assert windows.calibration[1] + 60 * MINUTE_NS + DAY_NS <= block[0]
    assert windows.test is not None
    test = close_ns[(close_ns >= windows.test[0]) & (close_ns <= windows.test[1])]
    assert np.unique(day_of(test), return_counts=True)[1].tolist() == [1440] * 5, "whole days, all of them"
    assert test[-1] == block[1], "the close at midnight is the day's that it ends"
    with pytest.raises(ValueError, match=r"expected bars before 1970.* to learn from, found none"):
        windows_before(close_ns, (DAY_NS, 2 * DAY_NS))


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_stopped_run_goes_on_with_what_is_missing_and_says_the_same(tmp_path: Path, bars: MinuteBars) -> None:
    plan = Plan([bar_file(tmp_path, bars)], BarForm(source="simulated"), ("har", "logistic"), (0,), 2, 3, quick=True)
    whole = run(plan, tmp_path / "out", silent)
    place = Path(whole["folder"])
    held = sorted(place.iterdir())
    assert [path.name for path in held if path.suffix == ".json"] == [
        f"block{b}-{name}-0.json" for b in (0, 1) for name in ("har", "logistic")
    ]
    kept, lost = place / "block0-har-0.json", place / "block1-logistic-0.json"
    before, written = json.loads(lost.read_text()), kept.stat().st_mtime_ns
    lost.unlink()
    said: list[str] = []
    assert run(plan, tmp_path / "out", said.append) == whole
    assert len(said) == 1
    assert "logistic" in said[0]
    assert kept.stat().st_mtime_ns == written
    after = json.loads(lost.read_text())
    assert {k: v for k, v in after.items() if k != "seconds"} == {k: v for k, v in before.items() if k != "seconds"}
    ratio = whole["ratios"]["logistic/har"]["60"]
    assert ratio["low"] <= ratio["value"] <= ratio["high"]
    assert ratio["better_in"] == sum(block["value"] < 1 for block in ratio["by_block"])
    assert set(whole["models"]) == {"har", "logistic"}
    assert whole["differences"]["logistic/har"]["qlike_60"]["value"] < 0 or ratio["value"] >= 1


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_stack_is_made_of_the_members_that_are_kept(tmp_path: Path, bars: MinuteBars) -> None:
    names = ("stack", "gradient_boosting", "transformer")
    plan = Plan([bar_file(tmp_path, bars)], BarForm(source="simulated"), names, (0,), 1, 3, quick=True)
    found = run(plan, tmp_path / "out", silent)
    members = [path.name for path in (Path(found["folder"]) / "members").iterdir()]
    kept_beside = ("har", 0)  # what the red flags hold a forecast against
    assert sorted(members) == sorted(f"block0-{name}-{seed}.npz" for name, seed in (
        kept_beside, *((member.model, member.after) for member in STACKED.values())))
    assert found["seeds"] == dict.fromkeys(plan.names(), 1)
    for head, shares in found["stack_weights"].items():
        assert set(shares) == set(STACKED), head
        assert sum(median for median, _, _ in shares.values()) == pytest.approx(1, abs=1e-5)
    ratio = found["ratios"]["stack/gradient_boosting"]["15"]
    assert ratio["by_seed"] == [ratio["value"]]


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_two_processes_say_what_one_does_and_nothing_on_standard_output(
    tmp_path: Path, bars: MinuteBars, capfd: pytest.CaptureFixture[str],
) -> None:
    names = ("har", "isolation_forest", "transformer")
    plan = Plan([bar_file(tmp_path, bars)], BarForm(source="simulated"), names, (0,), 2, 3, quick=True)
    one = run(plan, tmp_path / "one", silent)
    capfd.readouterr()
    two = run(replace(plan, jobs=2), tmp_path / "two", silent)
    assert capfd.readouterr().out == "", "it is the answer's"
    assert {k: v for k, v in two.items() if k != "folder"} == {k: v for k, v in one.items() if k != "folder"}
    assert one["seeds"] == dict.fromkeys(names, 1)
    assert set(one["ratios"]) == {"transformer/har"}, "an isolation forest forecasts no volatility"
    assert "auc_risk" in one["differences"]["isolation_forest/har"]


def test_a_model_that_is_kept_answers_as_before_bit_for_bit(
    table: TrainingSet, calibrated: Calibrated, tmp_path: Path,
) -> None:
    at = table.part("test", 11)
    for name in ("gradient_boosting", "logistic", "har", "transformer"):
        model, facts = calibrated(name), Facts((1.0, 2.0, float("nan")), None, ("volatility",))
        keep(tmp_path / "model.npz", name, model, facts)
        again, told = read(tmp_path / "model.npz")
        before, after = (model_answers(each, table, at) for each in (model, again))
        assert all(np.array_equal(before[output], after[output], equal_nan=True) for output in before), name
        assert told.speaks_of == facts.speaks_of
        assert np.array_equal(told.return_bounds, facts.return_bounds, equal_nan=True)


def test_kept_decisions_are_the_decisions_and_several_blocks_are_one(tmp_path: Path) -> None:
    first, second = forecast_scored(1, seed=1), forecast_scored(1, seed=2)
    for name, scored in (("a", first), ("b", second)):
        scored_file.keep(tmp_path / f"{name}.npz", scored)
    read_again = [scored_file.read(tmp_path / f"{name}.npz") for name in ("a", "b")]
    assert np.array_equal(read_again[0].close_ns_N, first.close_ns_N)
    assert np.allclose(read_again[0].rv_hat_NK, first.rv_hat_NK, rtol=1e-6, equal_nan=True)
    assert np.allclose(read_again[1].returns[15], second.returns[15], rtol=1e-6, equal_nan=True)
    whole = scored_file.joined(read_again)
    assert len(whole) == len(first) + len(second)
    assert np.array_equal(whole.edge_bps[1], np.concatenate([each.edge_bps[1] for each in read_again]))
    of_15 = replace(first, edge_bps={**first.edge_bps, 15: 2 * first.edge_bps[1]})
    scored_file.keep(tmp_path / "c.npz", of_15)
    newer = scored_file.read(tmp_path / "c.npz")
    assert np.allclose(newer.edge_bps[15], of_15.edge_bps[15], rtol=1e-6)
    assert set(scored_file.joined([newer, newer]).edge_bps) == {1, 15}
    assert set(scored_file.joined([newer, read_again[1]]).edge_bps) == {1}, "of before it was forecast"
    assert set(scored_file.joined([read_again[1], newer]).edge_bps) == {1}
    with pytest.raises(ValueError, match="decisions of one model, found one, other"):
        scored_file.joined([replace(first, model="one"), replace(second, model="other")])


def test_other_rows_or_another_plan_have_another_folder(table: TrainingSet) -> None:
    rows = table.rows
    plan = {"blocks": 6}
    assert identity_of(rows, plan) == identity_of(rows, plan)
    values = rows.values.copy()
    values[-1, 0] += 1
    others = (identity_of(replace(rows, values=values), plan), identity_of(replace(rows, symbol="ETHUSDT"), plan),
              identity_of(rows, {"blocks": 5}))
    assert len({identity_of(rows, plan), *others}) == 4


@pytest.fixture
def walked(tmp_path: Path) -> tuple[Path, dict[str, list[list[Scored]]]]:
    """Two blocks of two models of one seed and two of three, kept as a walk keeps them; and the decisions."""
    held: dict[str, list[list[Scored]]] = {}
    for name, seeds in (("har", 1), ("gradient_boosting", 1), ("transformer", 3), ("isolation_forest", 3)):
        held[name] = [[_block(name, seed, b) for b in range(2)] for seed in range(seeds)]
        for seed, blocks in enumerate(held[name]):
            for b, scored in enumerate(blocks):
                path = result(tmp_path, b, name, seed)
                scored_file.keep(path, scored)
                path.with_suffix(".json").write_text("{}")
    return tmp_path, held


def _block(name: str, seed: int, b: int) -> Scored:
    """Two days, the same market for all; forecasts that err by model and seed."""
    plain = forecast_scored(2, seed=b)
    noise = np.exp((0.1 + 0.05 * (3 * seed % 4)) * np.random.default_rng([seed, b, len(name)]).standard_normal((3,)))
    hat = np.full_like(plain.rv_hat_NK, np.nan) if name == "isolation_forest" else plain.rv_hat_NK * noise
    later = 2 * b * DAY_NS
    return replace(plain, model=name, rv_hat_NK=hat, close_ns_N=plain.close_ns_N + later, t_ns_N=plain.t_ns_N + later)


SPANS = [(START_NS, START_NS + 2 * DAY_NS), (START_NS + 2 * DAY_NS, START_NS + 4 * DAY_NS)]
WALKED = Plan([], BarForm(), ("har", "gradient_boosting", "transformer", "isolation_forest"), (0, 1, 2), 2, 2)


def test_a_table_is_what_its_decisions_say_of_the_median_seed(
    walked: tuple[Path, dict[str, list[list[Scored]]]],
) -> None:
    place, held = walked
    found = summary(place, SPANS, WALKED, CostModel())
    loss = [np.mean([qlike_of(block, 15) for block in seed]) for seed in held["transformer"]]
    median = held["transformer"][int(np.argsort(loss)[1])]
    whole, har = (scored_file.joined(blocks) for blocks in (median, held["har"][0]))
    assert found["seeds"] == {"har": 1, "gradient_boosting": 1, "transformer": 3, "isolation_forest": 3}
    told = found["differences"]["transformer/har"]["qlike_15"]
    assert told["value"] == pytest.approx(differences(whole, har)["qlike_15"]["value"], rel=1e-4)
    assert told["days"] == 4
    assert found["models"]["transformer"]["volatility"]["60"]["qlike"] == pytest.approx(qlike_of(whole, 60), rel=1e-4)
    ratios = [qlike_of(scored_file.joined(seed), 15) / qlike_of(har, 15) for seed in held["transformer"]]
    assert found["ratios"]["transformer/har"]["15"]["by_seed"] == pytest.approx(ratios, rel=1e-4)
    assert found["ratios"]["transformer/har"]["15"]["value"] == pytest.approx(np.median(ratios), rel=1e-4)
    assert set(found["ratios"]) == {
        f"{a}/{b}" for b in ("har", "gradient_boosting") for a in ("har", "gradient_boosting", "transformer") if a != b}
    for b, block in enumerate(found["blocks"]):
        wanted = np.median([qlike_of(seed[b], 5) for seed in held["transformer"]])
        assert block["qlike"]["transformer"]["5"] == pytest.approx(wanted, rel=1e-4)
        assert set(block["qlike"]) == {"har", "gradient_boosting", "transformer"}


def test_a_table_is_made_with_the_references_and_one_seed_in_memory(
    walked: tuple[Path, dict[str, list[list[Scored]]]], monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Eight seeds of two blocks lie there; the references are two of them."""
    place, held = walked
    held.clear()
    read_whole, held_once, most = scored_file.read, list[ref[Scored]](), 0

    def read_counted(path: Path) -> Scored:
        nonlocal most
        scored = read_whole(path)
        held_once.append(ref(scored))
        most = max(most, sum(each() is not None for each in held_once))
        return scored

    monkeypatch.setattr(scored_file, "read", read_counted)
    monkeypatch.setattr(walkforward, "judged", lambda *_: {})
    summary(place, SPANS, WALKED, CostModel())
    assert 2 <= most <= 2 * (2 + 1)
