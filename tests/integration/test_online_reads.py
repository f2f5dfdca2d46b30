"""What the online store for Feast gives back: age is judged on read, missing is missing, a value is as it was."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from feast.protos.feast.serving.ServingService_pb2 import FieldStatus
from feast.protos.feast.types.Value_pb2 import DoubleList, Int64List, Map, StringList, StringSet, Value
from feast.types import (
    Array,
    Bool,
    Bytes,
    Float32,
    Float64,
    Int32,
    Int64,
    Set,
    String,
    UnixTimestamp,
)
from feast.types import Map as MapType

from tests.bench.races import OURS, Stranger
from tests.integration.anyones_store import NOW, There, key, view

pytestmark = pytest.mark.integration
TYPES = {
    "bool": (Bool, Value(bool_val=True)), "bytes": (Bytes, Value(bytes_val=b"\x00\xff")),
    "string": (String, Value(string_val="é")), "int32": (Int32, Value(int32_val=-1)),
    "int64": (Int64, Value(int64_val=-(2**63))), "float32": (Float32, Value(float_val=0.5)),
    "float64": (Float64, Value(double_val=1e-300)), "time": (UnixTimestamp, Value(unix_timestamp_val=1)),
    "strings": (Array(String), Value(string_list_val=StringList(val=["a", ""]))),
    "int64s": (Array(Int64), Value(int64_list_val=Int64List(val=[1, -1]))),
    "doubles": (Array(Float64), Value(double_list_val=DoubleList(val=[]))),
    "set": (Set(String), Value(string_set_val=StringSet(val=["a"]))),
    "map": (MapType, Value(map_val=Map(val={"k": Value(int64_val=1)}))),
    "nothing": (Float64, Value()),
}


@pytest.fixture
def stranger(tmp_path: Path, redis_port: int) -> Stranger:
    made = Stranger(tmp_path, redis_port, OURS)
    made.apply(views=2, entities=3)
    return made


def statuses(response: Any, feature: str) -> list[int]:
    proto = response.proto
    return list(proto.results[list(proto.metadata.feature_names.val).index(feature)].statuses)


async def test_through_the_sdk_too_old_is_told_from_missing_and_from_null(stranger: Stranger) -> None:
    store = stranger.open()
    online, table = store._get_provider().online_store, store.get_feature_view("driver_stats_0")
    now = datetime.now(UTC)
    rows = [
        (key(driver_id=0), {"conv_rate": Value(double_val=0.5), "acc_rate": Value()}, now, None),
        (key(driver_id=1), {"conv_rate": Value(double_val=0.5)}, now - timedelta(days=1, seconds=1), None),
    ]
    online.online_write_batch(store.config, table, rows, None)
    asked = {
        "features": ["driver_stats_0:conv_rate", "driver_stats_0:acc_rate", "driver_stats_1:conv_rate"],
        "entity_rows": [{"driver_id": driver} for driver in (1, 0, 2, 0)], "full_feature_names": True,
    }
    for found in (store.get_online_features(**asked), await store.get_online_features_async(**asked)):
        values = found.to_dict()
        assert values["driver_stats_0__conv_rate"] == [None, 0.5, None, 0.5]
        assert values["driver_stats_0__acc_rate"] == [None] * 4
        assert values["driver_stats_1__conv_rate"] == [None] * 4
        present, missing, too_old = FieldStatus.PRESENT, FieldStatus.NOT_FOUND, FieldStatus.OUTSIDE_MAX_AGE
        assert statuses(found, "driver_stats_0__conv_rate") == [too_old, present, missing, present]
        assert statuses(found, "driver_stats_0__acc_rate") == [too_old, present, missing, present]
        assert statuses(found, "driver_stats_1__conv_rate") == [missing] * 4
        assert "_ts:driver_stats_0" not in values
    await online.close()


@pytest.mark.parametrize(("ttl", "judge_age", "age_s", "is_there"), [
    (timedelta(seconds=60), True, 60, True), (timedelta(seconds=60), True, 61, False),
    (timedelta(seconds=60), False, 61, True), (timedelta(0), True, 10**8, True), (None, True, 10**8, True),
])
def test_a_row_older_than_its_views_ttl_is_not_read(
    redis_port: int, ttl: timedelta | None, judge_age: bool, age_s: int, is_there: bool,
) -> None:
    there = There(redis_port, judge_age=judge_age)
    there.write(view(ttl=ttl), (key(driver_id=1), 1.0, age_s))
    [(at, values)] = there.store.online_read(there.config, view(ttl=ttl), [key(driver_id=1)])
    assert at == NOW - timedelta(seconds=age_s)
    assert (values is not None) == is_there


def test_the_list_of_features_asked_for_is_left_as_it_was(there: There) -> None:
    there.write(view(), (key(driver_id=1), 1.5, 5))
    asked = ["trips"]
    [(_, values)] = there.store.online_read(there.config, view(), [key(driver_id=1)], asked)
    assert (asked, values) == (["trips"], {"trips": Value(int64_val=1)})


def test_every_type_comes_back_as_it_was(there: There) -> None:
    table = view(features={name: kind for name, (kind, _) in TYPES.items()})
    values = {name: value for name, (_, value) in TYPES.items()}
    there.store.online_write_batch(there.config, table, [(key(driver_id=1), values, NOW, None)], None)
    assert there.store.online_read(there.config, table, [key(driver_id=1)]) == [(NOW, values)]


def test_a_feature_that_came_later_is_missing_and_one_that_a_row_lacks_is_null(there: There) -> None:
    there.write(view(), (key(driver_id=1), 1.0, 60))
    grown = view(features={"rate": Float64, "trips": Int64, "tips": Float64})
    [(_, values)] = there.store.online_read(there.config, grown, [key(driver_id=1)])
    assert values is not None
    assert sorted(values) == ["rate", "trips"]
    rate = {"rate": Value(double_val=2.0)}
    there.store.online_write_batch(there.config, grown, [(key(driver_id=1), rate, NOW, None)], None)
    [(_, values)] = there.store.online_read(there.config, grown, [key(driver_id=1)])
    assert values == {**rate, "trips": Value(), "tips": Value()}


def test_several_join_keys_are_one_entity_in_any_order(there: There) -> None:
    there.write(view(), (key(city="Graz", driver_id=7), 1.0, 5), (key(city="Linz", driver_id=7), 2.0, 5))
    assert there.rate(view(), key(driver_id=7, city="Graz")) == 1.0
    assert there.rate(view(), key(driver_id=7, city="Linz")) == 2.0
    assert there.rate(view(), key(driver_id=7)) is None


def test_a_view_of_thousands_of_features_is_written_in_one_step(there: There) -> None:
    names = [f"f{i}" for i in range(9_000)]
    table = view(features=dict.fromkeys(names, Float64))
    row = {name: Value(double_val=i) for i, name in enumerate(names)}
    there.store.online_write_batch(there.config, table, [(key(driver_id=1), row, NOW, None)], None)
    assert there.store.online_read(there.config, table, [key(driver_id=1)]) == [(NOW, row)]


def test_views_of_an_entity_are_read_in_one_moment(stranger: Stranger) -> None:
    store = stranger.open()
    online = store._get_provider().online_store
    commands: list[Any] = []
    read = online._read_hash_fields
    online._read_hash_fields = lambda config, asked: read(config, commands.extend(asked) or asked)
    asked = ["driver_stats_0:conv_rate", "driver_stats_1:acc_rate"]
    store.get_online_features(asked, [{"driver_id": driver} for driver in (0, 1, 0)])
    assert [len(fields) for _, fields in commands] == [4, 4]


def test_each_version_of_a_view_has_rows_of_its_own(there: There) -> None:
    there.config.registry.enable_online_feature_view_versioning = True
    first, second = view(), view()
    first.current_version_number, second.current_version_number = 1, 2
    there.write(first, (key(driver_id=1), 1.0, 5))
    there.write(second, (key(driver_id=1), 2.0, 9))
    assert (there.rate(first, key(driver_id=1)), there.rate(second, key(driver_id=1))) == (1.0, 2.0)
    there.store.delete_table(there.config, first)
    assert (there.rate(first, key(driver_id=1)), there.rate(second, key(driver_id=1))) == (None, 2.0)
