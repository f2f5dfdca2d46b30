"""A row is judged as the code of its own feature set wrote it, and not at all where that code is gone."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from feature_repo.contracts import SECOND_NS, FeatureRow, StoreUnavailable
from feature_repo.feature_sets import FOLDER, Declared, Sets
from feature_repo.features import FEATURE_NAMES, FEATURE_SET, SEQUENCE_FEATURES, SEQUENCE_LENGTH
from feature_repo.lake_reader import Lake
from feature_repo.online_row import OnlineRow
from feature_repo.proof import row_hash
from monitoring.parity import Report, check_lake, check_online
from monitoring.parity.check import OF_BEFORE
from monitoring.parity.mirrors import check_mirrors
from monitoring.parity.sampled import Mirrors, Samples
from monitoring.parity.written import as_stored, as_written, row_hashes
from streaming.lake import LakeWriter
from streaming.recompute import Recomputation
from tests.bentos.made import MINUTE, made_row

HERE = Declared.here()
OLD = Declared("0ld", {name: of for name, of in HERE.features.items() if name != "spread_1s"}, {})
LATER = Declared(FEATURE_SET, HERE.features, {"gone_1m": "0" * 12})
"""This set by a code that still had a retired feature which this one has deleted."""


def of_set(declared: Declared, **reasons: str) -> FeatureRow:
    """A row as some code wrote it and this one reads it."""
    row = made_row()
    values = {name: row.values[name] if name in declared.features else None for name in FEATURE_NAMES}
    return row.model_copy(update={"feature_set": declared.feature_set, "values": values, "reasons": reasons})


def lake_with(folder: Path, *declared: Declared) -> Lake:
    writer = LakeWriter.open(folder.as_uri())
    for each in declared:
        writer.store(f"{writer.root}/{each.path}", pa.py_buffer(each.body))
    return Lake(writer.filesystem, writer.root)


def test_what_a_writer_declares_is_read_back_once(tmp_path: Path) -> None:
    writer = LakeWriter.open(tmp_path.as_uri())
    writer.declare()
    [path] = (tmp_path / FOLDER).iterdir()
    before = path.stat().st_mtime_ns
    writer.declare()
    assert [path.stat().st_mtime_ns for path in (tmp_path / FOLDER).iterdir()] == [before]
    assert Declared.read(path.read_bytes()) == HERE
    assert Sets.open(Lake(writer.filesystem, writer.root)).judged == (HERE,)


def test_a_set_is_judged_while_each_of_its_features_is_declared_as_it_was(tmp_path: Path) -> None:
    edited = Declared("edited", {**HERE.features, "return_1m": "0" * 12}, {})
    gone = Declared("gone", {**HERE.features, "gone_1m": "0" * 12}, {})
    sets = Sets.open(lake_with(tmp_path, OLD, edited, gone, LATER))
    assert [bool(sets.of(name)) for name in ("0ld", "edited", "gone", "never told")] == [True, False, False, False]
    assert sets.of(FEATURE_SET) == (HERE, LATER)
    assert Sets.open(lake_with(tmp_path / "none")).judged == (HERE,)


def test_what_cannot_be_read_is_no_reason_to_judge_less(tmp_path: Path) -> None:
    lake = lake_with(tmp_path, OLD)
    next((tmp_path / FOLDER).iterdir()).write_text('{"feature_set": "0ld"}')
    with pytest.raises(StoreUnavailable, match="expected feature_set, features and retired"):
        Sets.open(lake)


def test_a_row_of_this_set_is_expected_whole() -> None:
    row = made_row(spread_1s=None)
    assert as_written(row, of_set(HERE), Sets.here()) == row
    assert as_written(row, None, Sets.here()) is row


def test_a_row_of_another_set_is_expected_with_what_that_had() -> None:
    sets = Sets((HERE, OLD))
    expected = made_row().model_copy(update={"reasons": {"spread_1s": "gap", "return_1m": "warmup"}})
    row = as_written(expected, of_set(OLD), sets)
    assert row is not None
    assert (row.feature_set, row.reasons) == ("0ld", {"return_1m": "warmup"})
    assert list(row.values) == [name for name in FEATURE_NAMES if name != "spread_1s"]
    assert row_hash(row, OLD.names) in row_hashes(row, sets)[0]
    assert as_written(expected, of_set(OLD), Sets.here()) is None


def test_a_retired_feature_that_this_code_has_deleted_is_left_where_it_was_said_to_be_retired() -> None:
    sets = Sets((HERE, LATER))
    silent, computed = (as_written(made_row(), of_set(LATER, **why), sets) for why in ({"gone_1m": "retired"}, {}))
    assert silent is not None
    assert computed is not None
    assert silent.reasons == {"gone_1m": "retired"}
    as_then = silent.model_copy(update={"values": {**silent.values, "gone_1m": None}})
    assert row_hash(as_then, LATER.names) in row_hashes(silent, sets)[0]
    assert row_hashes(silent, sets)[1] is False
    # It was still computed, and its value is in no column of this code's: a hash over it cannot be made.
    assert row_hashes(computed, sets) == ([row_hash(computed)], True)


def test_a_sequence_lacks_the_columns_that_its_row_does() -> None:
    lacked = SEQUENCE_FEATURES[3]
    row = made_row()
    short = row.model_copy(update={"values": {name: x for name, x in row.values.items() if name != lacked}})
    whole = np.ones((SEQUENCE_LENGTH, len(SEQUENCE_FEATURES)))
    assert as_stored(whole, row) is whole
    assert np.flatnonzero(np.isnan(as_stored(whole, short)).all(axis=0)).tolist() == [3]


def test_rows_of_two_sets_are_counted_each_under_its_own_and_a_third_is_left() -> None:
    rows = {MINUTE + n * SECOND_NS: declared for n, declared in enumerate((OLD, HERE, HERE))}
    sets = Sets((HERE, OLD))
    found = [of_set(declared).model_copy(update={"ts_event": at}) for at, declared in rows.items()]
    expected = {row.ts_event: as_written(made_row(row.ts_event).model_copy(update={
        "ts_init": row.ts_init, "created": row.created}), row, sets) for row in found}
    unknown = of_set(Declared("never told", {}, {})).model_copy(update={"ts_event": MINUTE - SECOND_NS})
    report = Report("BTCUSDT")
    check_lake(report, [unknown, *found], {at: row for at, row in expected.items() if row is not None}, sets)
    assert (report.examples, report.passed, report.places) == ([], True, {"lake": 3})
    assert report.feature_sets == {"0ld": {"rows": 1, "predictions": 0}, FEATURE_SET: {"rows": 2, "predictions": 0}}
    assert report.not_judged == {("lake", "feature set never told is not this code's"): 1}
    assert report.features["spread_1s"].compared == 2


def test_an_online_row_older_than_what_is_held_is_left_and_one_of_a_hole_is_named() -> None:
    expected = Recomputation("BTCUSDT")
    expected.closes = dict.fromkeys((MINUTE, MINUTE + 2 * SECOND_NS))  # type: ignore[assignment]
    report = Report("BTCUSDT")
    online = OnlineRow(made_row(), None, {}, None)
    check_online(report, expected, {MINUTE - SECOND_NS: online, MINUTE + SECOND_NS: online})
    assert report.not_judged == {(OF_BEFORE, "raw of its second is held no longer"): 1}
    assert [(e.where, e.expected, e.found) for e in report.examples] == [("online", "no row", "a row")]


def test_mirror_keys_are_asked_for_while_a_row_is_younger_than_they_live() -> None:
    for age_s, expected in ((294, 1), (295, 0)):
        report = Report("BTCUSDT")
        seen = Mirrors(MINUTE + age_s * SECOND_NS, MINUTE, dict.fromkeys(("1m", "5m", "15m")))
        check_mirrors(report, Recomputation("BTCUSDT"), [seen])
        assert report.mismatches == expected
    assert Samples({}, [seen]).until(MINUTE - 1).mirrors == []


def test_a_mirror_key_of_a_second_to_come_is_waited_for_and_one_of_the_far_future_is_judged() -> None:
    def seen(ahead_s: int) -> Mirrors:
        text = f'{{"timestamp": {MINUTE // SECOND_NS + ahead_s}}}'
        return Mirrors(MINUTE, MINUTE, {"1m": text})

    near, far = Samples({MINUTE: None}, [seen(2)]), Samples({MINUTE: None}, [seen(61)])
    assert (near.newest, far.newest) == (MINUTE + 2 * SECOND_NS, MINUTE)
    assert (len(near.until(MINUTE).mirrors), len(far.until(MINUTE).mirrors)) == (0, 1)


def test_mirror_keys_of_a_second_that_raw_does_not_know_are_named() -> None:
    report = Report("BTCUSDT")
    text = f'{{"vwap": 1.0, "timestamp": {MINUTE // SECOND_NS}, "ttl": 300}}'
    check_mirrors(report, Recomputation("BTCUSDT"), [Mirrors(MINUTE, MINUTE, dict.fromkeys(("1m",), text))])
    assert [(e.feature, e.expected, e.found) for e in report.examples] == [("mirror.row", "no mirror keys", "some")]
