"""The as-of rule against a plain loop over pandas rows: ties, late rows, revisions, many keys, nothing at all."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from feature_repo.feast_asof.columns import comparable, instants, lossless
from feature_repo.feast_asof.join import BEFORE_ALL, NEVER, Times, as_of, latest

ROW = st.tuples(st.sampled_from(["A", "B", None]), st.sampled_from([1, 2]), st.integers(0, 6), st.integers(0, 6))
ASKED = st.tuples(st.sampled_from(["A", "B", "C", None]), st.sampled_from([1, 2, 3]), st.integers(-1, 8))
Row = tuple[str | None, int, int, int]


def brute_force(rows: list[Row], asked: list[tuple[str | None, int, int]]) -> list[int]:
    """The rule as it is written: among the rows known by t the greatest (event, created), of equals the last."""
    found = []
    for name, number, at in asked:
        known = [
            (event, created, i) for i, (symbol, n, event, created) in enumerate(rows)
            if symbol is not None and (symbol, n) == (name, number) and max(event, created) <= at
        ]
        found.append(max(known)[-1] if known else -1)
    return found


def join(rows: list[Row], asked: list[tuple[str | None, int, int]]) -> list[int]:
    event, created = (np.array([row[i] for row in rows], dtype=np.int64) for i in (2, 3))
    keys = [pa.array([row[0] for row in rows], pa.string()), pa.array([row[1] for row in rows], pa.int64())]
    wanted = [pa.array([row[0] for row in asked], pa.string()), pa.array([row[1] for row in asked], pa.int64())]
    at = np.array([row[2] for row in asked], dtype=np.int64)
    return as_of(keys, Times(event, created, np.maximum(event, created)), wanted, at).tolist()


@settings(deadline=None, max_examples=150)  # a DuckDB connection for each example
@given(st.lists(ROW, max_size=30), st.lists(ASKED, max_size=20))
def test_the_join_is_the_rule(rows: list[Row], asked: list[tuple[str | None, int, int]]) -> None:
    assert join(rows, asked) == brute_force(rows, asked)


@pytest.mark.parametrize("symbols", [1, 500])
def test_the_join_is_the_rule_for_many_rows_of_one_and_of_500_symbols(symbols: int) -> None:
    random = np.random.default_rng(symbols)
    event = random.integers(0, 300, 4_000)
    late = np.where(random.random(4_000) < 0.2, random.integers(0, 200, 4_000), random.integers(-2, 3, 4_000))
    names = [f"S{i}" for i in random.integers(0, symbols, 4_000)]
    times = zip(names, event.tolist(), (event + late).tolist(), strict=True)
    rows: list[Row] = [(name, 1, happened, written) for name, happened, written in times]
    asked = [(f"S{i}", 1, at) for i, at in zip(
        random.integers(0, symbols + 1, 300).tolist(), random.integers(-5, 510, 300).tolist(), strict=True,
    )]
    found = join(rows, asked)
    assert found == brute_force(rows, asked)
    assert 0 < sum(i >= 0 for i in found) < len(found)


@settings(deadline=None, max_examples=60)
@given(st.lists(ROW, max_size=30))
def test_the_latest_of_each_key_is_its_greatest_event_and_created(rows: list[Row]) -> None:
    event, created = (np.array([row[i] for row in rows], dtype=np.int64) for i in (2, 3))
    keys = [pa.array([row[0] for row in rows], pa.string()), pa.array([row[1] for row in rows], pa.int64())]
    best: dict[tuple[str | None, int], tuple[int, int, int]] = {}
    for i, (name, number, happened, written) in enumerate(rows):
        best[name, number] = max(best.get((name, number), (-1, -1, -1)), (happened, written, i))
    assert latest(keys, Times(event, created, event)).tolist() == sorted(i for *_, i in best.values())


def test_a_row_without_a_time_is_never_known_and_an_entity_row_without_one_knows_nothing() -> None:
    event, known = np.array([5, NEVER]), np.array([6, NEVER])
    keys = [pa.array(["A", "A"])]
    found = as_of(keys, Times(event, event, known), [pa.array(["A", "A", "A"])], np.array([NEVER - 1, 5, BEFORE_ALL]))
    assert found.tolist() == [0, -1, -1]


def test_without_join_keys_every_entity_row_asks_for_the_same_rows() -> None:
    event = np.array([3, 1, 2])
    assert as_of([], Times(event, event, event), [], np.array([0, 2, 9])).tolist() == [-1, 2, 0]


@pytest.mark.parametrize("columns", [5, 6])
def test_many_keys_do_not_overflow_their_code(columns: int) -> None:
    """10,000 distinct values in each of 5 columns are 10²⁰ combinations, more than an int64 holds."""
    random, rows = np.random.default_rng(0), 10_000
    keys = [pa.array(random.permutation(rows)) for _ in range(columns)]
    event = np.zeros(rows, dtype=np.int64)
    times = Times(event, event, event)
    assert as_of(keys, times, keys, event).tolist() == list(range(rows))
    assert latest(keys, times).tolist() == list(range(rows))
    *same, last = keys
    assert set(as_of(keys, times, [*same, pa.array(np.roll(last.to_numpy(), 1))], event).tolist()) == {-1}


@pytest.mark.parametrize(("held", "asked", "equal"), [
    (pa.array([1, 2], pa.int32()), pa.array([2, 2**40], pa.int64()), [1, -1]),
    (pa.array([1, 2], pa.int64()), pa.array([2.0, None, 1.5, np.nan], pa.float64()), [1, -1, -1, -1]),
    (pa.array([1.5, 2.0], pa.float32()), pa.array([2, 3], pa.int64()), [1, -1]),
    (pa.array(["a", "b"], pa.large_string()), pa.array(["b", "x"]).dictionary_encode(), [1, -1]),
    (pa.array(["a", "b"]), pa.nulls(2), [-1, -1]),
    (pa.array([True, False]), pa.array([False, True]), [1, 0]),
    (pa.array([1, 2], pa.timestamp("s")), pa.array([2_000, 3_000], pa.timestamp("ms")), [1, -1]),
    (pa.array([1, 2], pa.timestamp("s")), pa.array([2_500, 2_000], pa.timestamp("ms", "UTC")), [-1, 1]),
    (pa.array([1_500, 1_000], pa.timestamp("ms")), pa.array([1, 2], pa.timestamp("s")), [1, -1]),
    (pa.array([2**40, 2], pa.timestamp("s")), pa.array([2 * 10**9, 1], pa.timestamp("ns")), [1, -1]),
    (pa.array([0, 1], pa.date32()), pa.array([86_400 + 13 * 3_600, 86_400], pa.timestamp("s")), [-1, 1]),
    (pa.array([0, 1], pa.date32()), pa.array([86_400_000, 0], pa.date64()), [1, 0]),
    (pa.array([1, 2], pa.time32("s")), pa.array([2_000_001, 2_000_000], pa.time64("us")), [-1, 1]),
    (pa.array([1, 2], pa.duration("s")), pa.array([2_001, 2_000], pa.duration("ms")), [-1, 1]),
    (pa.array([2.0**53, 2.0]), pa.array([2**53 + 1, 2**53], pa.int64()), [-1, 0]),
    (pa.array([-(2.0**63), 2.0**63]), pa.array([-(2**63), 2**63 - 1], pa.int64()), [0, -1]),
])
def test_keys_of_one_family_are_equal_whatever_their_width(held: pa.Array, asked: pa.Array, equal: list[int]) -> None:
    left, right = comparable(pa.chunked_array([held]), pa.chunked_array([asked]), "id")
    event = np.zeros(len(left), dtype=np.int64)
    assert as_of([left], Times(event, event, event), [right], np.zeros(len(right), dtype=np.int64)).tolist() == equal


def test_a_number_is_no_text_and_the_error_says_what_to_do() -> None:
    with pytest.raises(ValueError, match="expected the join key 'id' as string, as its source has it, found int64"):
        comparable(pa.chunked_array([["1"]]), pa.chunked_array([[1]]), "id")


def test_a_time_of_day_is_no_instant() -> None:
    held, asked = pa.array([1], pa.time32("s")), pa.array([1], pa.timestamp("s"))
    with pytest.raises(ValueError, match="expected the join key 'id' as time32"):
        comparable(pa.chunked_array([held]), pa.chunked_array([asked]), "id")


@pytest.mark.parametrize(("column", "expected"), [
    (pa.array([1, None], pa.timestamp("s")), [10**9, -1]),
    (pa.array([1], pa.timestamp("us", "Europe/Berlin")), [1_000]),
    (pa.array([1], pa.timestamp("ns", "UTC")), [1]),
    (pa.array([1], pa.date32()), [86_400 * 10**9]),
    (pa.array(["1970-01-01 00:00:01", "1970-01-01T01:00:00+01:00", None]), [10**9, 0, -1]),
])
def test_times_of_every_unit_and_zone_are_nanoseconds_utc(column: pa.Array, expected: list[int]) -> None:
    assert instants(pa.chunked_array([column]), "t", -1).tolist() == expected


def test_an_integer_is_no_time_and_a_time_beyond_nanoseconds_is_said() -> None:
    with pytest.raises(ValueError, match=r"expected times in 't', found int64; write the column as a timestamp"):
        instants(pa.chunked_array([[1]]), "t", -1)
    with pytest.raises(ValueError, match=r"expected times between 1677 and 2262 in 't'"):
        instants(pa.chunked_array([pa.array([2**40], pa.timestamp("s"))]), "t", -1)


def test_large_integers_beside_nulls_keep_every_digit_in_pandas() -> None:
    frame = lossless(pa.table({"ns": [2**60 + 1, None], "count": [3, None], "whole": [1, 2]}))
    assert frame["ns"].tolist() == [2**60 + 1, None]
    assert frame.dtypes[["count", "whole"]].astype(str).tolist() == ["float64", "int64"]
    assert pd.isna(frame["count"][1])
