"""backfill and reconcile as verbs: what they fill, what they say, and which words they refuse."""

from __future__ import annotations

import json
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

from candlewick import app
from feature_repo.contracts import HOUR_NS, SECOND_NS
from feature_repo.lake_reader import Lake
from streaming.bars import bars_from_trades
from streaming.mend import held_bars, joined
from streaming.past import Past, of_raw
from streaming.stretch import Stretch
from tests.feature_repo.made_bars import START_NS
from tests.streaming.made_past import EVER, SYMBOL, corrected, made_trades, raw_lake


@pytest.fixture
def stage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A lake in the environment, with an exchange's address that nobody answers."""
    for name, value in {
        "RUN_DIR": tmp_path, "LAKE_URL": (tmp_path / "lake").as_uri(), "KAFKA_BOOTSTRAP": "127.0.0.1:1",
        "VENUE_REST": "http://127.0.0.1:1", "VENUE_WS": "ws://127.0.0.1:1",
    }.items():
        monkeypatch.setenv(f"CANDLEWICK_{name}", str(value))
    return tmp_path / "lake"


def verb(*words: str) -> tuple[int, str]:
    done = CliRunner().invoke(app, [*words, "--symbol", SYMBOL])
    return done.exit_code, done.output if done.exception is None or done.exit_code == 0 else str(done.exception)


def test_the_verbs_fill_from_raw_and_explain_a_planted_difference(stage: Path) -> None:
    lake, writer = raw_lake(stage, made_trades())
    span = ("--from", str(START_NS + 10 * SECOND_NS), "--to", str(START_NS + 110 * SECOND_NS), "--source", "raw")
    code, output = verb("backfill", *span, "--json")
    assert (code, json.loads(output)["symbols"]) == (
        0, [{"symbol": SYMBOL, "told": 100, "bars": 100, "rows": 100}])
    planted = held_bars(lake, SYMBOL, *EVER)[1, START_NS + 50 * SECOND_NS]
    writer.upsert("clean", [planted.model_copy(update={"volume": 9.0, "created": planted.created + 1})])
    code, output = verb("reconcile", *span, "--dry-run")
    assert code == 0
    assert output.splitlines()[0] == (
        f"BTCUSDT 2024-08-08T23:40:50Z 1 s: volume 9.0 → {planted.volume}, told by raw")
    assert "100 bars compared with raw, 1 bars and " in output
    shown = json.loads(verb("reconcile", *span, "--json", "--lines", "1")[1])["symbols"][0]
    assert (shown["revised_bars"], len(shown["lines"])) == (1, 1)
    assert shown["lines_left_out"] == shown["revised_rows"] > 0
    frame = pd.read_parquet(stage / "clean" / "btc")
    assert np.isin(frame["provenance"], ["live", "reconcile"]).all()


def test_a_span_of_days_is_filled_a_day_at_a_time_and_days_without_records_are_passed_over(stage: Path) -> None:
    lake, writer = raw_lake(stage, made_trades())
    end, earlier = ("--to", str(START_NS + 110 * SECOND_NS)), ("--from", str(START_NS - 40 * HOUR_NS))
    code, output = verb("backfill", *earlier, *end, "--source", "raw", "--json")
    assert (code, json.loads(output)["symbols"]) == (
        0, [{"symbol": SYMBOL, "told": 110, "bars": 110, "rows": 110}])
    planted = held_bars(lake, SYMBOL, *EVER)[1, START_NS + 50 * SECOND_NS]
    writer.upsert("clean", [planted.model_copy(update={"volume": 9.0, "created": planted.created + 1})])
    found = json.loads(verb("reconcile", *earlier, *end, "--source", "raw", "--dry-run", "--json")[1])["symbols"][0]
    assert (found["compared"], found["revised_bars"]) == (110, 1)
    code, output = verb("backfill", *earlier, "--to", str(START_NS - 20 * HOUR_NS), "--source", "raw")
    assert code == 1
    assert "expected records of BTCUSDT in the raw zone" in output


def test_what_two_parts_of_a_span_told_is_one_report() -> None:
    part = {"symbol": SYMBOL, "created": 1, "compared": 5, "revised_bars": 1, "revised_rows": 2,
            "lines": ["a", "b"], "lines_left_out": 1}
    assert joined(None, part, 3) == part
    assert joined(part, {**part, "created": 2, "lines": ["c", "d"]}, 3) == {
        "symbol": SYMBOL, "created": 2, "compared": 10, "revised_bars": 2, "revised_rows": 4,
        "lines": ["a", "b", "c"], "lines_left_out": 3,
    }


def test_a_revision_is_no_older_than_what_its_witness_told(stage: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _, writer = raw_lake(stage, made_trades())
    span = ("--from", str(START_NS + 10 * SECOND_NS), "--to", str(START_NS + 110 * SECOND_NS), "--source", "raw")
    planted = bars_from_trades(made_trades(), START_NS, START_NS + 120 * SECOND_NS)[50]
    writer.upsert("clean", [corrected(planted).model_copy(update={"provenance": "live"})])
    told_ns: list[int] = []

    def timed(lake: Lake, symbol: str, span: Stretch) -> Past:
        past = of_raw(lake, symbol, span)
        told_ns.append(time.time_ns())
        return past

    monkeypatch.setattr("streaming.mend_verbs.of_raw", timed)
    code, output = verb("reconcile", *span, "--json")
    assert code == 0, output
    revised = [row["created"] for zone in ("clean", "features")
               for row in Lake(writer.filesystem, writer.root).read(zone, SYMBOL, *EVER).to_pylist()
               if row["provenance"] == "reconcile"]
    assert revised
    assert min(revised) >= told_ns[0]


@pytest.mark.parametrize(("words", "reason"), [
    (["reconcile"], "expected --from and --to; found neither"),
    (["backfill", "--from", "2024-01-01"], "expected both --from and --to"),
    (["backfill", "--source", "raw"], "--source raw: expected --from and --to"),
    (["backfill", "--source", "gossip"], "--source: expected klines, files, raw"),
    (["reconcile", "--from", "2024-01-01", "--to", "2999-01-01"], "--to: expected a time at least 120 s ago"),
    (["reconcile", "--from", "2024-01-01", "--to", "2024-01-02", "--source", "files"], "expected --frames"),
])
def test_words_that_cannot_be_followed_are_refused(stage: Path, words: list[str], reason: str) -> None:
    code, output = verb(*words)
    assert code == 1
    assert reason in output
    assert not stage.exists()
