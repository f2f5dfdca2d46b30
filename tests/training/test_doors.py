"""The doors a reviewer uses: train on files up to a time, evaluate by folder or name on later ones, with baselines."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import candlewick
from feature_repo.contracts import DAY_NS, MINUTE_NS, ModelRefused
from feature_repo.progress import silent
from feature_repo.settings import ROOT, Settings
from tests.training.made_files import bar_file
from training import evaluation, train, verbs
from training.bar_files import BarForm, parse_time
from training.dataset import Split
from training.evaluation import Request, _asked, evaluate_bars
from training.klines import KLINES, MinuteBars
from training.lake_rows import Asked
from training.registry import resolve
from training.scores import scores
from training.scoring import Facts, scored_rows
from training.train import TrainConfig, run, until_windows
from training.walkforward import Plan

pytestmark = pytest.mark.filterwarnings("ignore")  # imports of MLflow and torch warn about their dependencies
FORM = BarForm(source="simulated")


def test_nothing_after_until_is_learnt_from_and_what_follows_is_the_test(bars: MinuteBars) -> None:
    until = int(bars.close_ns[0]) // DAY_NS * DAY_NS + 18 * DAY_NS
    windows = until_windows(bars.close_ns, until)
    assert windows.train is not None
    assert windows.calibration is not None
    assert windows.test == (until + DAY_NS + MINUTE_NS, int(bars.close_ns[-1]))
    assert windows.calibration[1] == until - 60 * MINUTE_NS
    assert windows.train[1] + 60 * MINUTE_NS + DAY_NS + MINUTE_NS == windows.calibration[0]
    assert until_windows(bars.close_ns[bars.close_ns <= until], until).test is None
    with pytest.raises(ValueError, match="at least 10 days up to --until"):
        until_windows(bars.close_ns, int(bars.close_ns[0]) + 3 * DAY_NS)
    three_days = bars.close_ns[: 3 * 1440]
    with pytest.raises(ValueError, match=r"at least 10 days up to --until, found \S+ to 2024-01-04T00:00"):
        until_windows(three_days, int(three_days[-1]) + 400 * DAY_NS)
    with pytest.raises(ValueError, match=r"expected bars up to --until .*, found none before"):
        until_windows(bars.close_ns, int(bars.close_ns[0]) - DAY_NS)


@pytest.mark.parametrize("days", [1, 3])
def test_a_day_from_midnight_to_midnight_is_one_day_of_all_its_minutes(bars: MinuteBars, days: int) -> None:
    midnight = int(bars.close_ns[0]) // DAY_NS * DAY_NS + 9 * DAY_NS
    asked = Request("none", [], FORM, midnight, midnight + days * DAY_NS)
    table, at = _asked([bars], asked)
    assert table.close_ns[at][[0, -1]].tolist() == [midnight + MINUTE_NS, midnight + days * DAY_NS]
    assert np.unique(table.days(at), return_counts=True)[1].tolist() == [1440] * days
    risk = np.full(len(at), 0.1)
    scored = scored_rows("made", table, at, {"risk_score": risk}, Facts((1.0, 1.0, 1.0)))
    assert np.unique(scored.days).tolist() == [midnight // DAY_NS + day for day in range(days)]
    assert (scores(scored)["risk"]["interval"]["brier"] is None) == (days == 1), "one day has no interval"


@pytest.mark.parametrize(("start", "end", "said"), [
    (2, 1, "expected --from before --to, found 2024-01-03T.* and 2024-01-02T"),
    (2, 2, "expected --from before --to"),
    (-9, -3, r"between --from and --to \(from 2023-12-23T\S+ to 2023-12-29T\S+\), found BTCUSDT 2024-01-01T00:01"),
    (25, None, r"between --from and --to \(from 2024-01-26T\S+\), found BTCUSDT .* to 2024-01-26T00:00"),
    (None, -1, r"between --from and --to \(to 2023-12-31T\S+\), found BTCUSDT"),
])
def test_a_period_without_bars_is_refused_with_what_there_is(
    bars: MinuteBars, start: int | None, end: int | None, said: str,
) -> None:
    midnight = int(bars.close_ns[0]) // DAY_NS * DAY_NS
    first, last = (None if day is None else midnight + day * DAY_NS for day in (start, end))
    with pytest.raises(ValueError, match=said):
        _asked([bars], Request("none", [], FORM, first, last))


def test_an_artefact_says_which_files_it_is_of_without_their_folder(tmp_path: Path) -> None:
    config = TrainConfig(bars=(f"ETHUSDT={tmp_path}/eth.csv", str(tmp_path / "b.parquet")), model="lstm", seeds=(4,))
    assert verbs._command(config, None, "2025-07-11") == (
        "candlewick train --bars eth.csv b.parquet --until 2025-07-11 --model lstm --seed 4"
    )
    of_lake = TrainConfig(lake=Asked("ETHUSDT", "recording", 1_762_000_000 * 10**9), test_share=0.2, seeds=(0, 1))
    assert verbs._command(of_lake, None, None) == (
        "candlewick train --from-lake --symbol ETHUSDT --source recording --from 2025-11-01T12:26:40+00:00 "
        "--test-share 0.2 --seeds 2"
    )
    form = BarForm(time="ts", label="close", unit="ms", columns={"volume": "v"}, symbol="ETHUSDT", source="recording")
    assert verbs._command(TrainConfig(bars=("a.csv",), seeds=(0,), form=form), None, None) == (
        "candlewick train --bars a.csv --time-column ts --time-means close --time-unit ms --symbol ETHUSDT --source "
        "recording --column volume=v --seeds 1"
    )


def test_the_newest_model_of_a_kind_trained_here_is_found_by_its_kind(tmp_path: Path) -> None:
    settings = Settings(run_dir=tmp_path)
    held = {"20250101-1": "har", "20250102-1": "har", "20250103-1": "reversal", "champion": "har"}
    for name, kind in held.items():
        folder = tmp_path / "models" / name
        folder.mkdir(parents=True)
        version = "20250104-1" if name == "champion" else name
        (folder / "meta.json").write_text(json.dumps({"version": version, "kind": kind}))
    (tmp_path / "models" / "20250105-1").mkdir()
    (tmp_path / "models" / "20250105-1" / "meta.json").write_text("cut of")
    assert resolve(settings, "har").name == "20250102-1"
    assert resolve(settings, "reversal").name == "20250103-1"
    with pytest.raises(ValueError, match=r"trained here: har, reversal; `candlewick train --model KIND` trains one"):
        resolve(settings, "isolation_forest")


def test_a_page_that_cannot_be_written_is_refused_before_the_work(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for page, said in ((tmp_path, "that can be written"), (tmp_path / "file" / "page.html", "in a folder that can be")):
        with pytest.raises(ValueError, match=f"expected --html FILE {said}"):
            verbs.evaluate(None, verbs.Bars(("none.parquet",)), (None, None), False, (), 0, (page, ()))


def test_a_kind_of_model_that_is_none_is_refused_before_any_bar_is_read(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"expected a model of stack, transformer, .*, found oracle"):
        run(Settings(run_dir=tmp_path), TrainConfig(model="oracle", bars=("nowhere.parquet",)), "test")


@pytest.mark.slow
@pytest.mark.integration
@pytest.mark.timeout(600)
def test_a_model_of_files_is_found_by_name_and_scored_beside_baselines_of_its_own_rows(
    tmp_path: Path, bars: MinuteBars, monkeypatch: pytest.MonkeyPatch,
) -> None:
    settings = Settings(run_dir=tmp_path / "run", data_dir=tmp_path / "none")
    path, until = bar_file(tmp_path, bars), int(bars.close_ns[0]) // DAY_NS * DAY_NS + 18 * DAY_NS
    monkeypatch.setattr(train, "GATE_BASELINES", ("har",))
    config = TrainConfig(quick=True, model="har", bars=(str(path),), form=FORM, until_ns=until, seeds=(0,))
    made = run(settings, config, "test")
    meta = json.loads((Path(made["folder"]) / "meta.json").read_text())
    assert (meta["kind"], meta["dataset"]["files"]) == ("har", ["bars.parquet"])
    assert "given as files: bars.parquet. They hold BTCUSDT" in (Path(made["folder"]) / "MODEL_CARD.md").read_text()
    assert resolve(settings, f"{made['registry']['model']}/{made['registry']['version']}").is_dir()
    assert resolve(settings, "har") == Path(made["folder"])
    with pytest.raises(ValueError, match="registered: candlewick-forecast-simulated"):
        resolve(settings, "nobody")

    monkeypatch.setattr(evaluation, "BASELINES", ("har", "logistic", "reversal"))
    asked = Request(made["folder"], [path], FORM, until + DAY_NS, baselines=True, trees=20)
    report, scored, others = evaluate_bars(settings, asked, silent)
    assert set(report) >= {"direction", "volatility", "spike", "risk", "intervals", "pnl", "baselines", "red_flags"}
    assert {*report["direction"]} >= {"accuracy", "auc", "brier", "ece"}
    assert set(report["volatility"]) == set(report["spike"]) == {"5", "15", "60"}
    assert (report["seen_in_training"], report["references_learnt_from"]) == (0, "--bars")
    # The artefact is HAR, fitted on the same rows by the same rule: every other of them.
    assert report["baselines"]["har"]["model_minus_it"]["qlike_15"]["value"] == pytest.approx(0, abs=1e-6)
    assert report["baselines"]["reversal"]["volatility"]["15"]["qlike"] is None
    assert report["baselines"]["har"]["direction"]["auc"] is None
    assert len(scored) == len(others["logistic"]) == report["decisions"]
    assert int(scored.close_ns_N[0]) == until + DAY_NS + MINUTE_NS, "the minute that begins at --from is the first"
    json.dumps(report, allow_nan=False)

    seen, _, _ = evaluate_bars(settings, replace(asked, start_ns=None, end_ns=until, baselines=False), silent)
    assert seen["seen_in_training"] > 10_000
    later = bar_file(tmp_path, replace(bars, close_ns=bars.close_ns + 90 * DAY_NS), "later.parquet")
    with pytest.raises(ValueError, match="give those bars too by --train-bars"):
        evaluate_bars(settings, replace(asked, files=[later], start_ns=None), silent)
    with pytest.raises(ValueError, match="expected bars between --from"):
        evaluate_bars(settings, replace(asked, start_ns=until + 400 * DAY_NS), silent)
    (Path(made["folder"]) / "MODEL_CARD.md").write_text("another")
    with pytest.raises(ModelRefused, match=r"checksum of MODEL_CARD\.md"):
        evaluate_bars(settings, asked, silent)


def asked(monkeypatch: pytest.MonkeyPatch, *words: str) -> int:
    """The exit code of a command line."""
    monkeypatch.setattr(sys, "argv", ["candlewick", *words])
    with pytest.raises(SystemExit) as found:
        candlewick.main()
    return int(found.value.code or 0)


@pytest.mark.parametrize("option", [
    ("--from", "2025-07-11"), ("--to", "2025-07-12"), ("--train-bars", "a.parquet"), ("--time-column", "ts"),
    ("--time-means", "close"), ("--time-unit", "ms"), ("--column", "open=o"), ("--symbol", "ETHUSDT"),
    ("--source", "simulated"),
])
def test_an_option_that_says_something_of_files_is_refused_without_them(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], option: tuple[str, str],
) -> None:
    assert asked(monkeypatch, "evaluate", *option) == 2
    assert f"expected --bars FILE… with {option[0]}, found none" in capsys.readouterr().err


def test_options_that_exclude_each_other_are_refused(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
) -> None:
    assert asked(monkeypatch, "evaluate", "--bars", "a.parquet", "--simulated") == 2
    assert "expected --bars or --simulated, found both" in capsys.readouterr().err
    assert asked(monkeypatch, "train", "--symbol", "ETHUSDT", "--until", "2025-07-11") == 2
    assert "expected --bars FILE… with --until, --symbol, found none" in capsys.readouterr().err


@pytest.mark.parametrize(("words", "told"), [
    (("--from-lake", "--bars", "a.parquet"), "expected --from-lake or --bars, found both"),
    (("--from-lake", "--simulated"), "expected --from-lake or --simulated, found both"),
    (("--from", "2026-11-01"), "expected --from-lake with --from, found none"),
    (("--from-lake", "--until", "2026-11-20", "--test-share", "0.2"), "expected --until or --test-share, found both"),
    (("--from-lake", "--time-unit", "ms"), "expected --bars FILE… with --time-unit, found none"),
    (("--from-lake", "--from", "yesterday"), "expected a time such as"),
])
def test_what_is_said_of_the_lake_is_said_with_it_and_of_nothing_else(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], words: tuple[str, ...], told: str,
) -> None:
    assert asked(monkeypatch, "train", *words) == 2
    assert told in capsys.readouterr().err


def test_a_fifth_of_the_rows_is_the_test_and_the_calibration_lies_inside_the_rest(bars: MinuteBars) -> None:
    windows = Split.testing(0.2).windows(bars.close_ns)
    begin = int(bars.close_ns[0]) // DAY_NS
    days = [[(close // DAY_NS) - begin for close in span] for span in windows.spans() if span is not None]
    assert days == [[0, 16], [18, 19], [21, 25]], "25 days: cut at 17 (68 %) and 20 (80 %), a day left out after each"
    assert Split.testing(0.2) != Split(), "it is part of a set's identity"
    for share in (0.0, -0.1, 0.6, float("nan")):
        with pytest.raises(ValueError, match=r"expected a test share above 0 and up to 0\.5"):
            Split.testing(share)


@pytest.mark.parametrize("bars", [(), ("--bars", "a.parquet")])
def test_a_model_that_nobody_knows_is_refused_in_both_forms(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path, bars: tuple[str, ...],
) -> None:
    monkeypatch.setenv("CANDLEWICK_RUN_DIR", str(tmp_path))
    assert asked(monkeypatch, "evaluate", "--model", "nobody@champion", *bars) == 2
    assert "expected a folder, or a model registered as nobody@champion, found neither" in capsys.readouterr().err


def test_what_the_system_refuses_is_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path,
) -> None:
    (tmp_path / "models" / "theirs" / "meta.json").mkdir(parents=True)  # a folder where a file is expected
    monkeypatch.setenv("CANDLEWICK_RUN_DIR", str(tmp_path))
    assert asked(monkeypatch, "dataset", "list") == 1
    err = capsys.readouterr().err
    assert "candlewick: [Errno 21] Is a directory" in err
    assert "Traceback" not in err


@pytest.mark.parametrize("text", ["{}", "[1]", "not JSON"])
def test_a_model_of_somebody_else_is_named_with_what_to_do(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path, text: str,
) -> None:
    theirs = tmp_path / "models" / "theirs" / "meta.json"
    theirs.parent.mkdir(parents=True)
    theirs.write_text(text)
    monkeypatch.setenv("CANDLEWICK_RUN_DIR", str(tmp_path))
    assert asked(monkeypatch, "dataset", "list") == 2
    err = capsys.readouterr().err
    assert f"{theirs}: expected the meta.json of a model trained by candlewick" in err
    assert "move the folder elsewhere" in err


@pytest.mark.parametrize("verb", ["walkforward", "ablation", "crash"])
def test_a_verb_that_fits_says_which_file_is_not_there(
    verb: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(verbs, "_ready", lambda _component: Settings(run_dir=tmp_path))
    given = verbs.Bars((str(tmp_path / "typo.parquet"),))
    asked: dict[str, Callable[[], object]] = {
        "walkforward": lambda: verbs.walk_forward(Plan(given.files, given.form), None),
        "ablation": lambda: verbs.ablation(given, "har", 0, (2, 20), None, quick=True),
        "crash": lambda: verbs.crash(given, "har", 0, ("2024-08-05", "2024-08-06")),
    }
    with pytest.raises(ValueError, match=r"typo\.parquet: expected a file of bars, found nothing"):
        asked[verb]()


def test_without_bars_a_model_is_asked_about_the_test_part_of_its_own_cut(tmp_path: Path) -> None:
    """The shipped model was cut by --until: the usual shares would ask it about days that it has learnt from."""
    folder, settings = ROOT / "models" / "bootstrap", Settings(data_dir=tmp_path)
    until = parse_time("2025-07-11T00:00Z")
    away = verbs._as_trained(folder, settings)
    assert (away.until_ns, away.bars) == (until, ())
    klines = tmp_path / KLINES
    klines.parent.mkdir()
    klines.write_bytes(b"there")
    here = verbs._as_trained(folder, settings)
    assert (here.until_ns, here.bars, here.form.source) == (until, (str(klines),), "live")
