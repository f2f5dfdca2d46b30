"""The skew certificate: one flipped bit is found and named wherever it lies, and what cannot be judged is told apart.

That late trades, messages sent twice, a kill and a reconcile change nothing: `test_skew_hour.py`.
"""

from __future__ import annotations

import json
import math
import shutil
import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from prometheus_client import REGISTRY

from feature_repo.contracts import MINUTE_NS, SECOND_NS, FeatureRow, Prediction
from feature_repo.feature_sets import Declared
from feature_repo.features import FEATURE_SET, FORECAST_BAR
from feature_repo.lake_reader import Lake
from feature_repo.models import models
from feature_repo.online_row import OnlineWrite
from feature_repo.proof import row_hash
from feature_repo.redis_layout import feature_field
from feature_repo.settings import Settings
from feature_repo.store import FeatureStore, _mirror
from monitoring.parity import Report, check
from monitoring.parity.check import Certifier
from monitoring.parity.job import NOT_IN_TIME, SETTLED_S, SkewJob, certificates
from monitoring.parity.report import time_text
from monitoring.parity.summary import text
from streaming.lake import LakeWriter
from streaming.mend import reconcile
from streaming.stretch import Stretch
from tests.bentos.made import made_artefact
from tests.feature_repo.made_bars import START_NS
from tests.integration.skew_market import (
    LATE_EVERY,
    SECONDS,
    SYMBOL,
    Left,
    made_settings,
    predictions,
    settle,
    streamed,
)

pytestmark = pytest.mark.integration
END_NS = START_NS + SECONDS * SECOND_NS
REVISED_NS = END_NS + 10 * MINUTE_NS
LACKED, SWAPPED = "spread_1s", 60
OLD = Declared("0ld0ld0ld0ld", {n: of for n, of in Declared.here().features.items() if n != LACKED}, {})
"""A set of before an edit that brought a feature; its rows end with the 60th second."""
MINUTES = SECONDS // 60 + 8
"""What is certified: the market, and some minutes of its history."""


@pytest.fixture(scope="module")
def left() -> Left:
    return streamed()


@pytest.fixture
def settings(tmp_path: Path, redis_server: str, applied: Path) -> Settings:
    return made_settings(tmp_path, redis_server, applied)


def at_once(_seconds: float) -> None:
    """What the certificate waits for is there."""


def certified(settings: Settings) -> Report:
    return check(settings, SYMBOL, minutes=MINUTES, sleep=at_once)


def parquet(settings: Settings, pattern: str) -> Path:
    return max(Path(settings.lake.removeprefix("file://")).glob(pattern))


def flip(file: Path, column: str, close: int) -> None:
    """Change the last bit of one value of the one row at a close."""
    table = pq.read_table(file, partitioning=None)
    at = table["ts_event"].to_pylist().index(close)
    value = table[column][at].as_py()
    put(file, column, {at: math.nextafter(value, math.inf)})


def put(file: Path, column: str, cells: dict[int, Any]) -> None:
    """Overwrite some cells of a file by their places."""
    table = pq.read_table(file, partitioning=None)
    values = [cells.get(at, value) for at, value in enumerate(table[column].to_pylist())]
    place, field = table.column_names.index(column), table.schema.field(column)
    pq.write_table(table.set_column(place, field, pa.array(values, field.type)), file)


def before_an_edit(left: Left, settings: Settings) -> tuple[Left, list[Prediction]]:
    """The first seconds as a code and a model of the set `OLD` left them, which lacked a feature of this one."""
    definitions = {name: of for name, of in OLD.features.items() if name in FORECAST_BAR}
    made_artefact(settings.run_dir / "models" / "old", version="old", feature_set=OLD.feature_set,
                  feature_definitions=definitions)
    rows = [as_of_old(row) if START_NS < row.ts_event <= START_NS + SWAPPED * SECOND_NS else row for row in left.rows]
    by_close = {row.ts_event: row for row in rows}
    logged = [
        made.model_copy(update={"model_version": "old", "feature_set": OLD.feature_set,
                                "row_hash": row_hash(by_close[made.ts_event], OLD.names)})
        if by_close[made.ts_event].feature_set == OLD.feature_set else made for made in predictions(left, settings)
    ]
    return replace(left, rows=rows), logged


def as_of_old(row: FeatureRow) -> FeatureRow:
    return row.model_copy(update={
        "feature_set": OLD.feature_set,
        "values": {name: value for name, value in row.values.items() if name != LACKED},
        "reasons": {name: why for name, why in row.reasons.items() if name != LACKED},
    })


def put_declared(writer: LakeWriter, declared: Declared) -> None:
    writer.store(f"{writer.root}/{declared.path}", pa.py_buffer(declared.body), own_name=False)


def ratio(view: str) -> float | None:
    labels = {"symbol": SYMBOL, "feature_view": view}
    return REGISTRY.get_sample_value("candlewick_skew_mismatch_ratio", labels)


def test_one_flipped_bit_in_the_lake_is_named_with_its_raw_events(left: Left, settings: Settings) -> None:
    settle(left, settings)
    close = START_NS + 5 * LATE_EVERY * SECOND_NS
    flip(parquet(settings, "features/**/features.parquet"), "trade_imbalance_1m", close)
    report = certified(settings)
    assert not report.passed
    # Feast's history shows the same row where one of its instants falls on it.
    assert report.mismatches == 1 + sum(example.where == "feast history" for example in report.examples)
    tally = report.features["trade_imbalance_1m"]
    assert tally.worst is not None
    assert tally.raw is not None
    assert (tally.worst.where, tally.worst.second, tally.worst.ulp) == ("lake", time_text(close), 1)
    assert 0 < (tally.worst.relative or 0) < 1e-15
    assert {name for name, one in report.features.items() if one.mismatches} == {"trade_imbalance_1m"}
    # The minute that the value reads: every trade of it by id, the one that came late too.
    read = [trade for trade in left.trades if close - 60 * SECOND_NS <= trade.ts_event < close]
    late = sum(trade.late for trade in read)
    assert (tally.raw["seconds"], tally.raw["trades"], tally.raw["late_trades"]) == (60, len(read), late)
    assert late == 3
    newest = tally.raw["newest"][-1]
    assert newest["trade_ids"] == sorted(t.trade_id for t in read if t.ts_event >= close - SECOND_NS)
    assert left.raw[newest["seal"]["offset"]].schema.startswith("SecondClosed")
    shown = text(report.as_dict())
    assert "NOT CERTIFIED" in shown
    assert f"trade_imbalance_1m: {tally.mismatches} of {tally.compared}" in shown


def test_one_flipped_bit_in_redis_turns_the_ratio_positive(left: Left, settings: Settings) -> None:
    settle(left, settings)
    store = FeatureStore.open(settings)
    held = store.read(SYMBOL)
    assert held is not None
    job = SkewJob(settings, lambda: (SYMBOL,), lambda: REVISED_NS)
    job.certify_all(at_once)
    assert {ratio("volatility_features"), ratio("price_features"), ratio("predictions")} == {0.0}
    value = held.row.values["realized_vol_1m"]
    assert value is not None
    flipped = held.row.values | {"realized_vol_1m": math.nextafter(value, math.inf)}
    store.client.flushall()
    store.write([OnlineWrite(held.row.model_copy(update={"values": flipped}), held.sequence, {})])
    SkewJob(settings, lambda: (SYMBOL,), lambda: REVISED_NS).certify_all(at_once)
    assert (ratio("volatility_features") or 0) > 0
    assert ratio("price_features") == 0.0
    written = json.loads((certificates(settings) / "certificate.json").read_text())
    wrong = [f for f in written["symbols"][SYMBOL]["features"] if f["mismatches"]]
    assert [(f["name"], f["mismatches"], f["worst"]["where"]) for f in wrong] == [("realized_vol_1m", 1, "online")]
    assert wrong[0]["worst"]["second"] == time_text(END_NS)
    assert "realized_vol_1m" in (certificates(settings) / "certificate.html").read_text()


def test_an_online_row_that_nobody_can_read_is_named_and_everything_else_is_judged(
    left: Left, settings: Settings,
) -> None:
    settle(left, settings)
    store = FeatureStore.open(settings)
    store.client.hset(store._key(SYMBOL), feature_field("price_features", "return_1m"), b"\x29torn")
    store.client.set("features:BTCUSDT:5m", b"\xff{")
    job = SkewJob(settings, lambda: (SYMBOL,), lambda: REVISED_NS)
    job.certify_all(at_once)
    found = job.newest[SYMBOL]
    assert not found["passed"]
    [row, mirror] = found["unreadable"]
    assert row == {"where": "online", "key": store.place(SYMBOL), "name": "price_features:return_1m",
                   "expected": "a double value", "found": repr(b"\x29torn")}
    assert (mirror["where"], mirror["key"]) == ("mirror keys", "features:BTCUSDT:5m")
    # Lake, predictions and the other mirror keys are judged all the same, and are right.
    assert {"lake", "predictions", "mirror keys"} <= set(found["places"])
    wrong = {(e["where"], e["feature"]) for e in found["examples"]}
    assert {each for each in wrong if not each[1].startswith("mirror.5m.")} == {("online", "row")}
    assert (ratio("row_state") or 0) > 0
    assert ratio("price_features") == 0.0
    assert "price_features:return_1m" in (certificates(settings) / "certificate.html").read_text()
    assert "UNREADABLE  online, price_features:return_1m of" in text(found)


def test_a_key_of_another_type_is_a_row_that_nobody_can_read(left: Left, settings: Settings) -> None:
    settle(left, settings)
    store = FeatureStore.open(settings)
    store.client.set(store._key(SYMBOL), "no hash")
    job = SkewJob(settings, lambda: (SYMBOL,), lambda: REVISED_NS)
    report = job.certify(SYMBOL, at_once)
    assert report is not None
    assert {each.where for each in report.unreadable} == {"online", "online slow rows"}
    assert report.places["lake"] > 0


def test_a_row_of_the_lake_and_a_prediction_that_nobody_can_read_are_named(left: Left, settings: Settings) -> None:
    settle(left, settings)
    put(parquet(settings, "features/**/features.parquet"), "reasons", {-1 % SECONDS: "no JSON"})
    put(parquet(settings, "predictions/**/predictions.parquet"), "model", {3: ""})
    put(parquet(settings, "predictions/**/predictions.parquet"), "source", {3: "nowhere"})
    report = certified(settings)
    assert [(each.where, each.name) for each in report.unreadable] == [
        ("lake", "the row"), ("predictions", "the row")]
    assert report.unreadable[0].key.startswith("features symbol=BTCUSDT ts_event=")
    assert report.places["lake"] > SECONDS
    assert not report.passed


def test_an_online_row_of_a_time_to_come_is_judged_and_not_waited_for(left: Left, settings: Settings) -> None:
    settle(left, settings)
    newest = left.online[-1].row
    ahead = newest.model_copy(update={"ts_event": END_NS + 3600 * SECOND_NS, "created": END_NS + 3601 * SECOND_NS})
    FeatureStore.open(settings, lambda: END_NS + 3600 * SECOND_NS).write([OnlineWrite(ahead, None, {})])
    job = SkewJob(settings, lambda: (SYMBOL,), lambda: REVISED_NS)
    job._certifiers[SYMBOL] = Certifier.open(settings, SYMBOL, 900)
    job._certifiers[SYMBOL].store = job._certifiers[SYMBOL].store.with_clock(lambda: END_NS)
    waited: list[float] = []
    report = job.certify(SYMBOL, waited.append)
    assert report is not None
    assert [(e.where, e.feature, e.expected, e.found) for e in report.examples] == [
        ("online", "row", "no row", "a row")]
    assert waited == []


def test_models_that_are_gone_are_held_while_a_window_may_name_them(left: Left, settings: Settings) -> None:
    settle(left, settings)
    folder = settings.run_dir / "models"
    certifier = Certifier.open(settings, SYMBOL, 900)
    logged = predictions(left, settings)
    for n in range(5):
        made = made_artefact(folder / f"v{n}", version=f"v{n}")
        assert f"v{n}" in certifier._models(logged)
        shutil.rmtree(made)
    named = [logged[-1].model_copy(update={"model_version": "v4"})]
    assert "v4" in certifier._models(named), "removed since the certificate before"
    assert "v4" in certifier._models(logged), "its last forecast may be of the next window"
    assert {*certifier._held} == {model.version for model in models(settings)}


def test_seconds_that_no_certificate_reached_in_time_are_counted(left: Left, settings: Settings) -> None:
    settle(left, settings)
    job = SkewJob(settings, lambda: (SYMBOL,), lambda: REVISED_NS)
    job._ends[SYMBOL] = END_NS - 2_000 * SECOND_NS
    report = job.certify(SYMBOL, at_once)
    assert report is not None
    assert report.not_judged[("seconds", NOT_IN_TIME)] == 2_000 - 900 - SETTLED_S


def test_a_prediction_of_other_bits_or_of_a_model_nobody_has_is_named(left: Left, settings: Settings) -> None:
    settle(left, settings)
    file = parquet(settings, "predictions/**/predictions.parquet")
    last = pq.read_table(file, partitioning=None)["ts_event"].to_pylist().index(END_NS)
    put(file, "sequence_hash", {last: "0" * 32})
    put(file, "model_version", {last: "another"})
    report = certified(settings)
    found = {(example.feature, example.second, example.found) for example in report.examples}
    assert found == {
        ("prediction.sequence_hash", time_text(END_NS), repr("0" * 32)),
        ("prediction.model_version", time_text(END_NS), repr("another")),
    }


def test_mirror_keys_are_made_again_from_raw_value_by_value(left: Left, settings: Settings) -> None:
    settle(left, settings)
    report = certified(settings)
    cells = {name: tally for name, tally in report.features.items() if name.startswith("mirror.")}
    assert set(cells) == {f"mirror.{window}.{name}" for window in ("1m", "5m", "15m")
                          for name in ("vwap", "volatility", "imbalance", "timestamp", "ttl")}
    assert {tally.matched for tally in cells.values()} == {1}
    assert (report.by_view()["mirror_keys"], report.passed) == ((15, 0), True)
    assert cells["mirror.1m.vwap"].known == cells["mirror.1m.imbalance"].known == 1


@pytest.mark.parametrize("name", ["vwap", "volatility", "imbalance"])
def test_a_mirror_key_of_another_value_is_named_with_its_raw_events(
    left: Left, settings: Settings, name: str,
) -> None:
    settle(left, settings)
    client, key = FeatureStore.open(settings).client, "features:BTCUSDT:1m"
    held = json.loads(client.get(key))
    client.set(key, json.dumps({**held, name: math.nextafter(held[name], math.inf)}))
    report = certified(settings)
    assert [(e.where, e.feature, e.ulp, e.second) for e in report.examples] == [
        ("mirror keys", f"mirror.1m.{name}", 1, time_text(END_NS))]
    raw = report.features[f"mirror.1m.{name}"].raw
    assert raw is not None
    assert raw["seconds"] == 60


def test_mirror_keys_of_an_older_second_of_none_and_of_no_json_are_named(left: Left, settings: Settings) -> None:
    settle(left, settings)
    store = FeatureStore.open(settings)
    older = left.online[-11].row.ts_event
    for window, values in left.mirrors[older].items():
        store.client.set(f"features:BTCUSDT:{window}", _mirror(values, older))
    behind = certified(settings)
    assert [(e.feature, e.expected, e.found) for e in behind.examples] == [
        ("mirror.row", f"of {time_text(END_NS)} or later, as the row read before them", f"of {time_text(older)}")]
    store.client.set("features:BTCUSDT:5m", "no JSON")
    assert {e.feature for e in certified(settings).examples} >= {"mirror.5m.timestamp", "mirror.5m.ttl"}
    store.client.delete("features:BTCUSDT:1m")
    assert "mirror.1m.timestamp" in {e.feature for e in certified(settings).examples}
    for window in left.mirrors[older]:
        store.client.set(f"features:BTCUSDT:{window}", "no JSON")
    assert [e.expected for e in certified(settings).examples] == ["JSON with a timestamp"]


def test_a_prediction_and_a_row_are_judged_under_the_set_they_were_logged_with(
    left: Left, settings: Settings,
) -> None:
    swapped, logged = before_an_edit(left, settings)
    writer = settle(swapped, settings, logged)
    put_declared(writer, OLD)
    report = certified(settings)
    assert (report.examples, report.not_judged, report.passed) == ([], {}, True)
    counts = report.feature_sets
    assert (counts[OLD.feature_set]["rows"], counts[OLD.feature_set]["predictions"]) == (SWAPPED, SWAPPED)
    assert counts[FEATURE_SET]["predictions"] == SECONDS - SWAPPED
    # What the old set lacks is not compared there: everywhere else it is.
    assert report.features[LACKED].compared <= report.features["return_1m"].compared - SWAPPED
    assert f"{OLD.feature_set}: {SWAPPED} rows and {SWAPPED} predictions" in text(report.as_dict())


@pytest.mark.parametrize("column", ["return_1m", LACKED])
def test_a_wrong_cell_under_the_old_set_and_one_that_it_lacks_are_mismatches(
    left: Left, settings: Settings, column: str,
) -> None:
    writer = settle(before_an_edit(left, settings)[0], settings, [])
    put_declared(writer, OLD)
    file = parquet(settings, "features/**/features.parquet")
    at = pq.read_table(file, partitioning=None)["ts_event"].to_pylist().index(START_NS + 20 * SECOND_NS)
    put(file, column, {at: 0.125})
    wrong = {(e.where, e.feature) for e in certified(settings).examples}
    # Feast's history shows the same row where one of its instants falls on it.
    assert {("lake", column)} <= wrong <= {("lake", column), ("feast history", column)}


def test_rows_and_predictions_of_a_set_that_is_not_this_codes_are_counted_and_not_judged(
    left: Left, settings: Settings,
) -> None:
    swapped, logged = before_an_edit(left, settings)
    writer = settle(swapped, settings, logged)
    put_declared(writer, replace(OLD, features={**OLD.features, "gone_1m": "0" * 12}))
    job = SkewJob(settings, lambda: (SYMBOL,), lambda: REVISED_NS)
    job._ends[SYMBOL] = START_NS
    job.certify_all(at_once)
    reason = f"feature set {OLD.feature_set} is not this code's"
    found = job.newest[SYMBOL]
    assert found["passed"]
    assert found["not_judged"] == [
        {"where": "lake", "reason": reason, "count": SWAPPED},
        {"where": "predictions", "reason": reason, "count": SWAPPED},
    ]
    assert set(found["feature_sets"]) == {FEATURE_SET}
    labels = {"symbol": SYMBOL, "where": "lake", "reason": reason}
    assert REGISTRY.get_sample_value("candlewick_skew_not_judged", labels) == SWAPPED
    assert ratio("price_features") == 0.0
    html = (certificates(settings) / "certificate.html").read_text()
    assert f"feature set {OLD.feature_set} is not this code&#x27;s" in html
    assert reason in text(found)


def test_a_revised_row_that_does_not_follow_from_its_bars_is_a_mismatch_of_its_own(
    left: Left, settings: Settings,
) -> None:
    writer = settle(left, settings)
    lake = Lake(writer.filesystem, writer.root)
    done = reconcile(lake, writer, SYMBOL, left.past(), Stretch(START_NS, END_NS, (SYMBOL,)), lambda: REVISED_NS)
    file = parquet(settings, "features/**/rev-reconcile-*.parquet")
    first = done.rows[0]
    flip(file, first.features[0], first.row.ts_event)
    pq.write_table(pq.read_table(file, partitioning=None).slice(0, len(done.rows) - 1), file)
    report = certified(settings)
    assert (report.mismatches, report.revised.mismatches, report.passed) == (0, 2, False)
    assert [(one.feature, one.ulp) for one in report.revised.examples] == [(first.features[0], 1), ("row", None)]
    assert report.revised.rows == len(done.rows) - 1


def test_the_job_goes_on_where_its_last_certificate_ended_and_reads_each_record_once(
    left: Left, settings: Settings,
) -> None:
    half = START_NS + 100 * SECOND_NS
    settle(left.until(half), settings)
    job = SkewJob(settings, lambda: (SYMBOL,), lambda: REVISED_NS)
    first = job.certify(SYMBOL, at_once)
    settle(left, settings)
    second = job.certify(SYMBOL, at_once)
    assert first is not None
    assert second is not None
    assert (first.passed, second.passed, second.examples) == (True, True, [])
    assert first.end == time_text(half - 15 * SECOND_NS)
    assert (second.start, second.end) == (time_text(half - 14 * SECOND_NS), time_text(END_NS - 15 * SECOND_NS))
    assert job._certifiers[SYMBOL].tail.taken == {0: left.raw[-1].offset}
    assert job._certifiers[SYMBOL].expected.bars == []


def test_a_lake_that_is_behind_says_nothing_against_the_online_row(left: Left, settings: Settings) -> None:
    settle(left.until(START_NS + 100 * SECOND_NS), settings)
    newest = left.online[-1]
    FeatureStore.open(settings).write([OnlineWrite(newest.row, newest.sequence, {})])
    report = SkewJob(settings, lambda: (SYMBOL,), lambda: REVISED_NS).certify(SYMBOL, at_once)
    assert report is not None
    assert report.passed
    assert set(report.places) == {"lake", "predictions", "predictions, oldest line masked"}


def test_a_store_out_of_reach_is_counted_and_the_job_goes_on(settings: Settings) -> None:
    away = replace(settings, redis_url="redis://127.0.0.1:1/0")
    labels = {"symbol": SYMBOL}
    before = REGISTRY.get_sample_value("candlewick_skew_certificate_failures_total", labels) or 0.0
    SkewJob(away, lambda: (SYMBOL,), lambda: REVISED_NS).certify_all(at_once)
    assert REGISTRY.get_sample_value("candlewick_skew_certificate_failures_total", labels) == before + 1
    assert not certificates(settings).exists()


def test_rows_that_no_code_can_read_are_counted_and_the_job_goes_on(
    left: Left, settings: Settings, monkeypatch: pytest.MonkeyPatch,
) -> None:
    settle(left, settings)
    labels = {"symbol": SYMBOL}
    before = REGISTRY.get_sample_value("candlewick_skew_certificate_failures_total", labels) or 0.0

    def torn(*_: object) -> None:
        raise TypeError("the JSON object must be str, not NoneType")

    job = SkewJob(settings, lambda: (SYMBOL,), lambda: REVISED_NS)
    with monkeypatch.context() as during:
        during.setattr(Certifier, "certify", torn)
        job.certify_all(at_once)
    assert job.newest == {}
    assert REGISTRY.get_sample_value("candlewick_skew_certificate_failures_total", labels) == before + 1
    job.certify_all(at_once)
    assert job.newest[SYMBOL]["passed"]


def test_a_certificate_of_no_row_of_the_lake_does_not_pass() -> None:
    report = Report(SYMBOL)
    report.compare("mirror keys", START_NS, {"1m.price": 1.0}, {"1m.price": 1.0})
    report.leave("lake", "feature set a is not this code's")
    assert (report.mismatches, report.passed) == (0, False)
    report.compare("lake", START_NS, {"return_1m": 1.0}, {"return_1m": 1.0})
    assert report.passed


def test_the_job_ends_when_it_is_told_to(settings: Settings) -> None:
    stop = threading.Event()
    stop.set()
    SkewJob(settings, lambda: pytest.fail("nothing is certified any more"), lambda: 0).run(stop)
