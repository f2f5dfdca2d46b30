"""A feature that is added becomes usable for the past: what older rows lack is filled in, and nothing else changes."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

from candlewick import app
from feature_repo.contracts import HOUR_NS, SECOND_NS, Bar, FeatureRow
from feature_repo.feast_config import apply
from feature_repo.feature_sets import Declared, Sets
from feature_repo.lake_layout import merge, to_table
from feature_repo.lake_reader import Lake
from feature_repo.proof import row_hash
from feature_repo.settings import Settings
from feature_repo.store import FeatureStore
from feature_repo.views import ROW_VIEWS
from monitoring.parity import Report, check_lake
from monitoring.parity.revised import check_revised
from monitoring.parity.written import as_served, as_written, row_hashes
from streaming.compaction import compact
from streaming.fill import fill
from streaming.lake import LakeWriter
from streaming.lake_owner import owner
from streaming.mend import reconcile, versions
from streaming.revisions import newest, rows_of
from streaming.stretch import Stretch
from tests.feature_repo.made_bars import START_NS, minutes_then_seconds
from tests.streaming.test_mend import EVER, NOW, SECONDS, SPAN, SYMBOL, corrected, history_of, rows, told

ADDED = ("spread_1s", "momentum_60m")
"""Features that the rows' older set lacks: one of the book, one of whole minutes."""
HERE = Declared.here()
OLD = Declared("01d5e7", {name: of for name, of in HERE.features.items() if name not in ADDED}, {})
FOLDER = "features/btc/date=2024-08-08/hour=23"


def as_older(row: FeatureRow) -> FeatureRow:
    """A row as code wrote it that did not declare what was added."""
    return row.model_copy(update={
        "feature_set": OLD.feature_set, "values": {n: None if n in ADDED else x for n, x in row.values.items()},
        "reasons": {name: why for name, why in row.reasons.items() if name not in ADDED}})


def whole_rows(bars: Sequence[Bar]) -> list[FeatureRow]:
    """The rows that this code makes of all bars."""
    return rows_of(history_of(SYMBOL, newest(bars)), [bar for bar in bars if bar.interval_s == 1])


def older_lake(folder: Path, bars: Sequence[Bar], written: Sequence[FeatureRow]) -> tuple[Lake, LakeWriter]:
    """A lake as the stream of older code left it."""
    writer = LakeWriter.open(folder.as_uri())
    writer.upsert("clean", list(bars))
    writer.upsert("features", [as_older(row) for row in written])
    for path in folder.glob("features/**/*.parquet"):
        pq.write_table(pq.read_table(path, partitioning=None).drop_columns(list(ADDED)), path)
    (folder / OLD.path).parent.mkdir(parents=True, exist_ok=True)
    (folder / OLD.path).write_bytes(OLD.body)
    return Lake(writer.filesystem, writer.root), writer


def as_filled(row: FeatureRow) -> FeatureRow:
    """What a filled row is to be: all values and reasons of this code's, and whose it was."""
    return row.model_copy(update={"feature_set": OLD.feature_set})


def test_what_older_rows_lack_is_filled_in_under_their_own_identity_and_all_that_they_said_stays(
    tmp_path: Path,
) -> None:
    bars = minutes_then_seconds(SECONDS)
    expected = whole_rows(bars)
    lake, writer = older_lake(tmp_path, bars, expected)
    before = rows(lake)
    assert {row.values[name] for row in before for name in ADDED} == {None}
    assert fill(lake, writer, SYMBOL, SPAN).as_dict() == {
        "symbol": SYMBOL, "rows": SECONDS, "filled": SECONDS, "left": {}, "first_left": None}
    assert rows(lake) == [as_filled(row) for row in expected]
    assert all(row.values[name] is not None for row in rows(lake) for name in ADDED)
    compact(writer, "features", FOLDER)
    assert len(list(tmp_path.glob("features/**/*.parquet"))) == 1
    assert rows(lake) == [as_filled(row) for row in expected]


def test_a_repeat_writes_nothing_and_a_batch_of_the_older_stream_that_comes_again_takes_nothing_away(
    tmp_path: Path,
) -> None:
    bars = minutes_then_seconds(SECONDS)
    expected = whole_rows(bars)
    lake, writer = older_lake(tmp_path, bars, expected)
    fill(lake, writer, SYMBOL, SPAN)
    files = sorted(tmp_path.rglob("*.parquet"))
    assert fill(lake, writer, SYMBOL, SPAN).as_dict()["rows"] == 0
    assert sorted(tmp_path.rglob("*.parquet")) == files
    for _ in range(2):
        writer.upsert("features", [as_older(row) for row in expected])
        assert rows(lake) == [as_filled(row) for row in expected]


def test_every_column_asked_for_is_the_filled_rows_while_both_tellings_lie_there(tmp_path: Path) -> None:
    bars = minutes_then_seconds(SECONDS)
    lake, writer = older_lake(tmp_path, bars, whole_rows(bars))
    fill(lake, writer, SYMBOL, SPAN)
    assert len(list(tmp_path.glob("features/**/*.parquet"))) == 2
    found = lake.rows("features", [SYMBOL], *EVER, ["ts_event", "spread_1s"])
    assert (found.num_rows, found["spread_1s"].null_count) == (SECONDS, 0)


def test_only_the_span_and_only_rows_of_another_set_are_touched(tmp_path: Path) -> None:
    bars = minutes_then_seconds(SECONDS)
    expected = whole_rows(bars)
    lake, writer = older_lake(tmp_path, bars, expected[:200])
    writer.upsert("features", expected[200:])
    span = Stretch(START_NS + 50 * SECOND_NS, SPAN.end_ns, (SYMBOL,))
    assert fill(lake, writer, SYMBOL, span).as_dict()["filled"] == 150
    assert rows(lake) == [*map(as_older, expected[:50]), *map(as_filled, expected[50:200]), *expected[200:]]


def test_a_row_that_does_not_come_out_again_or_has_no_bar_is_left_and_counted(tmp_path: Path) -> None:
    bars = minutes_then_seconds(SECONDS)
    seconds = [bar for bar in bars if bar.interval_s == 1]
    expected = whole_rows(bars)
    # Made while ten seconds had not come; these were filled in afterwards. And a bar that retention took.
    late = seconds[250:260]
    live = [*whole_rows([bar for bar in bars if bar not in late])]
    lake, writer = older_lake(tmp_path, bars, live)
    writer.remove([str(path) for path in tmp_path.glob("clean/**/bars.parquet")])
    writer.upsert("clean", [bar for bar in bars if bar is not seconds[100]])
    found = fill(lake, writer, SYMBOL, SPAN).as_dict()
    assert found["left"]["no bar held"] == 1
    assert found["left"]["made of other bars"] > 0
    assert found["rows"] == found["filled"] + sum(found["left"].values()) == SECONDS - len(late)
    of = {row.ts_event: row for row in rows(lake)}
    for row in live:
        assert of[row.ts_event] in (as_older(row), as_filled(expected[(row.ts_event - START_NS) // SECOND_NS - 1]))
    assert of[seconds[100].close_time] == as_older(live[100])


def test_a_revised_row_is_filled_with_what_was_known_by_its_reconcile(tmp_path: Path) -> None:
    bars = minutes_then_seconds(SECONDS)
    truth, truth_writer = older_lake(tmp_path / "truth", bars, [])
    truth_writer.upsert("features", whole_rows(bars))
    wrong = [bar for bar in bars if bar.interval_s == 1][120]
    past = told([*bars[:-1], corrected(wrong)])
    reconcile(truth, truth_writer, SYMBOL, past, SPAN, lambda: NOW)
    expected = rows(truth)
    assert {row.provenance for row in expected} == {"live", "reconcile"}

    lake, writer = older_lake(tmp_path / "older", bars, expected)
    writer.add_revision("clean", [bar for bar in newest(
        bar for bar in versions(truth, SYMBOL, *EVER)).values() if bar.provenance == "reconcile"], "reconcile")
    found = fill(lake, writer, SYMBOL, SPAN).as_dict()
    assert (found["filled"], found["left"]) == (len(expected), {})
    assert rows(lake) == [as_filled(row) for row in expected]

    sets, revised = Sets((HERE, OLD)), [row for row in rows(lake) if row.provenance == "reconcile"]
    known = {row.ts_event: row for row in rows(lake) if row.provenance != "reconcile"}
    report = Report(SYMBOL)
    check_revised(report, lake, (SPAN.start_ns, SPAN.end_ns), known, revised, sets)
    assert (report.revised.rows, report.revised.mismatches) == (len(revised), 0)


def test_the_certificate_judges_what_was_filled_in_to_the_last_bit_and_predictions_by_what_was_served(
    tmp_path: Path,
) -> None:
    bars = minutes_then_seconds(SECONDS)
    expected = whole_rows(bars)
    lake, writer = older_lake(tmp_path, bars, expected)
    fill(lake, writer, SYMBOL, SPAN)
    sets, found = Sets((HERE, OLD)), rows(lake)

    def judged(held: list[FeatureRow]) -> Report:
        report, made = Report(SYMBOL), {}
        for row, raw in zip(held, expected, strict=True):
            again = as_written(raw, row, sets)
            assert again is not None
            made[row.ts_event] = again
        check_lake(report, held, made, sets)
        return report

    assert (judged(found).mismatches, judged(found).features["spread_1s"].compared) == (0, SECONDS)
    values = {**found[7].values, "spread_1s": np.nextafter(found[7].values["spread_1s"] or 0.0, 9.0)}
    bent = judged([*found[:7], found[7].model_copy(update={"values": values}), *found[8:]])
    assert [(one.where, one.feature) for one in bent.examples] == [("lake", "spread_1s")]

    again = as_written(expected[7], found[7], sets)
    assert again is not None
    served = as_served(again, sets)
    online = as_older(expected[7])
    # By the older service, and by one of this code that read the older stream's row.
    for names in (OLD.names, HERE.names):
        assert row_hash(online, names) in row_hashes(served, sets)[0]
    assert row_hash(online, HERE.names) not in row_hashes(again, sets)[0]


def made_settings(folder: Path) -> Settings:
    return Settings(run_dir=folder, lake_url=(folder / "lake").as_uri())


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_feast_s_history_knows_an_added_feature_after_the_backfill_and_the_old_ones_as_before(tmp_path: Path) -> None:
    bars = minutes_then_seconds(SECONDS)
    expected = whole_rows(bars)
    lake, writer = older_lake(tmp_path / "lake", bars, expected)
    settings = made_settings(tmp_path)
    settings.registry.parent.mkdir(parents=True, exist_ok=True)
    apply(settings)
    # At the rows' own decision times and between them.
    times = [row.created + lag for row in expected[5::40] for lag in (0, 400_000_000, 900_000_000)]
    entities = pd.DataFrame({"symbol": SYMBOL, "event_timestamp": pd.to_datetime(times, utc=True)})
    refs = [f"{view.name}:{name}" for view in ROW_VIEWS for name in view.names]
    before = FeatureStore.open(settings).history(entities, refs)
    assert before[list(ADDED)].isna().to_numpy().all()
    fill(lake, writer, SYMBOL, SPAN)
    after = FeatureStore.open(settings).history(entities, refs)
    old = [name for name in before.columns if name not in (*ADDED, "reasons")]
    pd.testing.assert_frame_equal(after[old], before[old], check_exact=True)
    wanted = {row.created: row.values for row in expected}
    for at, created in zip(after.to_dict("records"), after["created"].tolist(), strict=True):
        assert {name: at[name] for name in ADDED} == {name: wanted[created][name] for name in ADDED}


# --- the verb -------------------------------------------------------------------------------------------------------


@pytest.fixture
def stage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name, value in {
        "RUN_DIR": tmp_path, "LAKE_URL": (tmp_path / "lake").as_uri(), "KAFKA_BOOTSTRAP": "127.0.0.1:1",
        "VENUE_REST": "http://127.0.0.1:1", "VENUE_WS": "ws://127.0.0.1:1",
    }.items():
        monkeypatch.setenv(f"CANDLEWICK_{name}", str(value))
    return tmp_path


def verb(*words: str) -> tuple[int, str]:
    done = CliRunner().invoke(app, ["backfill", "--features", *words, "--symbol", SYMBOL])
    return done.exit_code, done.output if done.exception is None or done.exit_code == 0 else str(done.exception)


def test_the_verb_fills_a_span_of_days_and_declares_its_set(stage: Path) -> None:
    bars = minutes_then_seconds(SECONDS)
    lake, _ = older_lake(stage / "lake", bars, whole_rows(bars))
    span = ("--from", str(START_NS - 40 * HOUR_NS), "--to", str(START_NS + 30 * HOUR_NS), "--json")
    code, output = verb(*span)
    assert code == 0, output
    assert json.loads(output)["symbols"][0]["filled"] == SECONDS
    assert Sets.open(lake).of(HERE.feature_set) == (HERE,)
    assert json.loads(verb(*span)[1])["symbols"][0]["rows"] == 0


def test_beside_a_stream_of_older_code_nothing_is_filled_in(stage: Path) -> None:
    bars = minutes_then_seconds(SECONDS)
    expected = whole_rows(bars)
    _, writer = older_lake(stage / "lake", bars, expected[:-1])
    span = ("--from", str(SPAN.start_ns), "--to", str(SPAN.end_ns))
    settings = made_settings(stage)
    with owner(settings):
        code, output = verb(*span)
        assert code == 1
        assert "restart the stack first" in output
        assert not list(stage.rglob("rev-*"))
        writer.upsert("features", expected[-1:])
        assert verb(*span)[0] == 0
    assert len(list(stage.rglob("rev-*"))) == 1


@pytest.mark.parametrize(("words", "reason"), [
    ([], "--features: expected --from and --to"),
    (["--from", "2024-01-01"], "--features: expected --from and --to"),
    (["--from", "2024-01-01", "--to", "2024-01-02", "--source", "raw"], "expected none of --source, --frames, --days"),
    (["--from", "2024-01-01", "--to", "2024-01-02", "--days", "30"], "expected none of --source, --frames, --days"),
    (["--from", "2024-01-01", "--to", "2024-01-02", "--interval", "5m"], "expected none of --source, --frames, --days"),
    (["--from", "2024-01-01", "--to", "2999-01-01"], "--to: expected a time at least 120 s ago"),
])
def test_words_that_cannot_be_followed_are_refused(stage: Path, words: list[str], reason: str) -> None:
    code, output = verb(*words)
    assert code == 1
    assert reason in output
    assert not (stage / "lake").exists()


def test_rows_of_a_set_that_is_not_known_here_are_left_and_counted(tmp_path: Path) -> None:
    bars = minutes_then_seconds(SECONDS)
    lake, writer = older_lake(tmp_path, bars, whole_rows(bars))
    before = {path: path.read_bytes() for path in tmp_path.glob("features/**/*.parquet")}
    (tmp_path / OLD.path).write_bytes(Declared(OLD.feature_set, {**OLD.features, "gone_1m": "0"}, {}).body)
    found = fill(lake, writer, SYMBOL, SPAN).as_dict()
    assert (found["filled"], found["left"]) == (0, {"its set is not known here": found["rows"]})
    assert found["rows"] > 0
    assert {path: path.read_bytes() for path in tmp_path.glob("features/**/*.parquet")} == before


def test_another_word_for_a_row_is_no_fuller_one() -> None:
    """A batch made again of richer state has a value where the row that was served had a reason: it does not count."""
    served = as_older(whole_rows(minutes_then_seconds(SECONDS))[-1])
    name = next(name for name, value in served.values.items() if value is not None)
    shy = served.model_copy(update={
        "values": {**served.values, name: None}, "reasons": {**served.reasons, name: "gap"}})
    for first, later in ((shy, served), (served, served.model_copy(update={
        "values": {**served.values, name: 1.0 + (served.values[name] or 0.0), ADDED[0]: 1.0}}))):
        merged = merge("features", [to_table("features", [first]), to_table("features", [later])])
        assert merged.to_pylist() == to_table("features", [first]).to_pylist()
