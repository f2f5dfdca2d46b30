"""A family is worth what is lost without it: nothing of a withheld column is left, and what matters is missed."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from feature_repo.features import FORECAST_BAR
from feature_repo.progress import silent
from tests.training.made_files import bar_file
from training.ablation import WHOLE, Ablation, families, run, text, withheld
from training.bar_files import BarForm
from training.baselines import HAR_LAGS
from training.dataset import TrainingSet
from training.klines import MinuteBars

pytestmark = pytest.mark.timeout(600)
FORM = BarForm(source="simulated")


def test_every_column_that_the_model_reads_is_of_one_family() -> None:
    columns = [column for family in families().values() for column in family]
    assert sorted(columns) == sorted(FORECAST_BAR)
    assert set(families()) == {"price", "volatility", "volume", "anomaly", "calendar"}


@pytest.mark.parametrize("family", families())
def test_nothing_of_a_withheld_family_is_left_and_nothing_else_changes(table: TrainingSet, family: str) -> None:
    bare, columns = withheld(table, families()[family]), families()[family]
    for i, name in enumerate(FORECAST_BAR):
        found, whole = bare.values_MF[:, i], table.values_MF[:, i]
        if name not in columns:
            assert np.array_equal(found, whole, equal_nan=True), name
        elif name in HAR_LAGS:
            assert len(np.unique(found[np.isfinite(found)])) == 1, name
            assert np.array_equal(np.isnan(found), np.isnan(whole)), name
        else:
            assert np.isnan(found).all(), name
    assert bare.parts is table.parts
    assert bare.targets is table.targets


@pytest.mark.slow
@pytest.mark.parametrize("model", ["gradient_boosting", "transformer"])
def test_the_volatilities_are_worth_most_and_a_stopped_run_goes_on(
    tmp_path: Path, bars: MinuteBars, model: str,
) -> None:
    plan = Ablation([str(bar_file(tmp_path, bars))], FORM, model, blocks=1, days=6, quick=True)
    said: list[str] = []
    found = run(plan, tmp_path / "out", said.append)
    assert len(said) == 1 + len(families())
    worth = found["families"]["volatility"]["without_minus_with"]
    assert worth["qlike_15"]["low"] > 0
    assert worth["qlike_ratio_15"]["low"] > 1
    assert max(found["ablation"], key=lambda name: found["ablation"][name]["value"]) == "volatility"
    assert set(found["ablation"]) == set(families())
    assert all(each["low"] <= each["value"] <= each["high"] for each in found["ablation"].values())
    assert len(text(found).splitlines()) == 1 + len(families())

    kept = sorted(Path(found["folder"]).iterdir())
    assert [path.name for path in kept] == sorted(f"block0-without-{name}.npz" for name in (WHOLE, *families()))
    kept[0].unlink()
    again: list[str] = []
    assert run(plan, tmp_path / "out", again.append) == found
    assert len(again) == 1


def test_a_model_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"expected a model of stack, .*, found oracle"):
        run(Ablation([], FORM, "oracle"), tmp_path, silent)
