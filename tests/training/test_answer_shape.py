"""What `evaluate --json` answers has one shape, whatever the bars and the model: null with a reason where it must."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from bentos.predictor import LATER_OUTPUT_NAMES, OUTPUT_NAMES
from feature_repo.contracts import DAY_NS, MINUTE_NS
from feature_repo.features import FORECAST_BAR
from feature_repo.progress import silent
from feature_repo.settings import Settings
from tests.bentos.made import made_artefact
from tests.training.made_files import bar_file
from tests.training.made_meta import LEARNT
from training.bar_files import BarForm
from training.evaluation import Request, evaluate_bars
from training.klines import MinuteBars, simulated_klines
from training.models import MODELS

DAYS = 9
CHANCE = {"accuracy", "auc", "brier", "ece"}
NOT_FORECAST = "the model does not forecast it"
Change = Callable[[pd.DataFrame], pd.DataFrame]


@dataclass(frozen=True)
class Case:
    """Bars that a file may hold, and which families are null in the answer, each with the beginning of its reason."""

    change: Change = lambda table: table
    form: BarForm = field(default_factory=BarForm)
    nulls: dict[str, str] = field(default_factory=dict)
    last_day: int = DAYS


def still(table: pd.DataFrame) -> pd.DataFrame:
    """A market in which nothing moves and nothing trades."""
    return table.assign(**dict.fromkeys(("open", "high", "low", "close"), 100.0), volume=0.0)


CASES = {
    "another venue": Case(lambda t: t.assign(symbol="BTC-USD-PERP.STANDX", trades=1)),
    "with taker and quote volume": Case(lambda t: t.assign(taker_buy_volume=t["volume"] / 2, quote_volume=t["volume"])),
    "without volumes": Case(lambda t: t.drop(columns="volume"), BarForm(columns={"volume": ""})),
    "volumes of 0": Case(lambda t: t.assign(volume=0.0)),
    "two symbols": Case(lambda t: pd.concat([t.assign(symbol="ETHUSDT"), t.assign(symbol="SOLUSDT")])),
    "holes": Case(lambda t: t[np.random.default_rng(0).random(len(t)) > 0.0005]),
    "three days": Case(
        last_day=3, nulls={"risk": "no outcome is known on these minutes: the percentile of the last 30 days"}),
    "nothing moves": Case(still, nulls={
        "direction": "no outcome is known on these minutes: nothing moved", "volatility": "no outcome is known",
        "risk": NOT_FORECAST}),  # the made graph divides by the percentile, which is 0
}


@pytest.fixture(scope="module")
def market() -> MinuteBars:
    return replace(simulated_klines(days=DAYS, seed=5), source="live")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return made_artefact(tmp_path / "made", kind="transformer", outputs=[*OUTPUT_NAMES, *LATER_OUTPUT_NAMES], **LEARNT)


def evaluated(folder: Path, path: Path, form: BarForm, end_ns: int) -> dict[str, Any]:
    """The answer for the last day up to a midnight, as JSON tells it."""
    settings = Settings(run_dir=path.parent / "run", data_dir=path.parent / "none")
    asked = Request(str(folder), [path], form, end_ns - DAY_NS, end_ns)
    report, _, _ = evaluate_bars(settings, asked, silent)
    told: dict[str, Any] = json.loads(json.dumps(report, allow_nan=False))
    return told


def families(report: dict[str, Any]) -> dict[str, list[dict[str, Any]]]:
    """Every block of scores by its family; the shape is asserted on the way."""
    assert set(report["volatility"]) == set(report["spike"]) == {"5", "15", "60"}
    assert set(report["intervals"]) == {"5", "15", "60", "band_15"}
    assert set(report["pnl"]) == {"1", "15"}
    found = {"direction": [report["direction"]], "risk": [report["risk"]], "flat": [report["flat"]],
             **{name: list(report[name].values()) for name in ("volatility", "spike", "intervals")}}
    wanted = {"direction": CHANCE, "risk": {*CHANCE, "precision", "recall"}, "flat": CHANCE, "spike": CHANCE,
              "volatility": {"qlike", "r2_log", "qlike_over_har"}, "intervals": {"level", "coverage"}}
    for name, blocks in found.items():
        for block in blocks:
            assert {*wanted[name], "interval", "n"} <= set(block), name
            silent_block = block[min(wanted[name] - {"level", "qlike_over_har", "precision", "recall"})] is None
            assert silent_block == ("reason" in block), (name, block)
    return found


@pytest.mark.parametrize("name", CASES)
def test_whatever_the_bars_the_answer_has_its_shape(
    tmp_path: Path, market: MinuteBars, folder: Path, name: str,
) -> None:
    case, path = CASES[name], tmp_path / "bars.parquet"
    case.change(pd.read_parquet(bar_file(tmp_path, market))).to_parquet(path)
    end_ns = int(market.close_ns[0]) - MINUTE_NS + case.last_day * DAY_NS
    report = evaluated(folder, path, case.form, end_ns)
    assert (report["days"], report["references_learnt_from"]) == (1, None)
    found = families(report)
    for family, reason in case.nulls.items():
        assert all(block["reason"].startswith(reason) for block in found[family]), family
    for family in {"direction", "volatility", "risk"} - set(case.nulls):
        assert all("reason" not in block for block in found[family]), family
    without = "vwap_distance_15m" in report.get("null_features", {})
    assert without == (name in ("without volumes", "volumes of 0", "nothing moves")), report.get("null_features")
    assert set(report.get("null_features", {})) < set(FORECAST_BAR)


@pytest.mark.parametrize("kind", MODELS)
def test_whatever_the_model_the_answer_has_its_shape(tmp_path: Path, market: MinuteBars, kind: str) -> None:
    folder = made_artefact(tmp_path / "made", kind=kind, outputs=[*OUTPUT_NAMES, *LATER_OUTPUT_NAMES], **LEARNT)
    end_ns = int(market.close_ns[-1])
    found = families(evaluated(folder, bar_file(tmp_path, market), BarForm(), end_ns))
    for family in ("direction", "volatility", "risk"):
        speaks = family in MODELS[kind].speaks_of
        assert all(block.get("reason") == (None if speaks else NOT_FORECAST) for block in found[family]), family
    _, quarter, _ = found["spike"]  # the made graph is as old as those that know a spike of 15 minutes alone
    assert ("reason" in quarter) == ("spike" not in MODELS[kind].speaks_of)
