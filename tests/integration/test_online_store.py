"""The online store for Feast: the newest row wins on every way in, deleted is gone, and what is no row is refused."""

from __future__ import annotations

import math
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import redis
from feast import Entity, FeatureView, Field, FileSource, RepoConfig, ValueType
from feast.infra.online_stores.redis import RedisOnlineStore
from feast.protos.feast.types.Value_pb2 import Value
from feast.types import Float64, Int64

from feature_repo.newest_wins.online_store import NewestWinsOnlineStore, RefusedRow
from tests.bench.races import OURS, STOCK, race_all
from tests.integration.anyones_store import NOW, There, key, view

pytestmark = pytest.mark.integration


@pytest.mark.parametrize(("first", "second", "stays"), [
    ((1.0, 60), (2.0, 30), 2.0),                       # later event time
    ((2.0, 30), (1.0, 60), 2.0),                       # earlier event time
    ((1.0, 60, 0), (2.0, 60, 5), 2.0),                 # same event time, known later
    ((2.0, 60, 5), (1.0, 60, 0), 2.0),
    ((1.0, 60), (2.0, 60), 1.0),                       # nothing says that it is newer
    ((1.0, 60.000_001), (2.0, 60), 2.0),               # by a microsecond
])
def test_the_later_event_time_wins_then_the_later_created(
    there: There, first: tuple[float, ...], second: tuple[float, ...], stays: float,
) -> None:
    for row in (first, second):
        there.write(view(), (key(driver_id=1), *row))
    assert there.rate(view(), key(driver_id=1)) == stays
    there.client.flushall()
    there.write(view(), (key(driver_id=1), *first), (key(driver_id=1), *second))  # in one batch
    assert there.rate(view(), key(driver_id=1)) == stays


async def test_the_event_loops_way_in_and_out_is_the_same(there: There) -> None:
    told: list[int] = []
    data = [there.row(key(driver_id=driver), rate, age) for driver in range(300) for rate, age in ((2.0, 5), (1.0, 9))]
    await there.store.online_write_batch_async(there.config, view(), data, told.append)
    asked = [key(driver_id=driver) for driver in range(301)]
    found = await there.store.online_read_async(there.config, view(), asked)
    assert [values and values["rate"].double_val for _, values in found] == [2.0] * 300 + [None]
    assert sum(told) == 600
    await there.store.close()


def test_a_script_that_redis_has_forgotten_is_sent_again(there: There) -> None:
    there.write(view(), (key(driver_id=1), 1.0, 9))
    there.client.script_flush()
    there.write(view(), *((key(driver_id=driver), 2.0, 5) for driver in range(3)))
    assert [there.rate(view(), key(driver_id=driver)) for driver in range(3)] == [2.0] * 3


@pytest.mark.parametrize(("age_s", "stays"), [(90, 1.0), (30, 2.0), (60, 2.0)])
def test_a_row_that_feasts_own_store_wrote_counts_by_its_event_time(there: There, age_s: int, stays: float) -> None:
    stock = RepoConfig(
        project="trading", provider="local", registry="none.db", entity_key_serialization_version=3,
        online_store={"type": "redis", "connection_string": there.config.online_store.connection_string},
    )
    RedisOnlineStore().online_write_batch(stock, view(), [there.row(key(driver_id=1), 1.0, 60)], None)
    assert there.rate(view(), key(driver_id=1)) == 1.0
    there.write(view(), (key(driver_id=1), 2.0, age_s))
    assert there.rate(view(), key(driver_id=1)) == stays


def test_feasts_own_store_loses_the_newer_row_where_this_one_cannot(there: There) -> None:
    """The newer row comes between what the older one's writer reads and what it writes."""
    rates = []
    for store, kind in ((RedisOnlineStore(), STOCK), (NewestWinsOnlineStore(), OURS)):
        there.client.flushall()
        config = there.config.model_copy()
        config._online_store = None
        config.online_config = {"type": kind, "connection_string": there.config.online_store.connection_string}
        newer = Interrupted(there.client, lambda: there.write(view(), (key(driver_id=1), 2.0, 5)))
        store._client = newer
        store.online_write_batch(config, view(), [there.row(key(driver_id=d), 1.0, 9) for d in (1, 2)], None)
        newer.now()
        rates.append(there.rate(view(), key(driver_id=1)))
    assert rates == [1.0, 2.0]


class Interrupted:
    """A client that lets something happen once, after the first round trip of a pipeline."""

    def __init__(self, client: redis.Redis, happens: Callable[[], None]) -> None:
        self._client, self._happens = client, happens

    def now(self) -> None:
        happens, self._happens = self._happens, lambda: None
        happens()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._client, name)

    def pipeline(self, **options: Any) -> Any:
        pipe = self._client.pipeline(**options)
        execute = pipe.execute

        def and_then(*args: Any, **kwargs: Any) -> Any:
            answers = execute(*args, **kwargs)
            self.now()
            return answers

        pipe.execute = and_then
        return pipe


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_of_races_through_every_way_of_feast_none_is_lost(tmp_path: Path, redis_port: int) -> None:
    losses = race_all(tmp_path, redis_port, OURS, races=160)
    assert losses == {"write_to_online_store": 0, "push": 0, "materialize": 0, "serve": 0}


def test_a_deleted_view_is_gone_and_takes_older_rows_when_it_comes_back(there: There) -> None:
    other = view("other")
    there.write(view(), (key(driver_id=1), 1.0, 5))
    there.write(other, (key(driver_id=1), 3.0, 5))
    there.store.update(there.config, [view()], [other], [], [], partial=False)
    assert (there.rate(view(), key(driver_id=1)), there.rate(other, key(driver_id=1))) == (None, 3.0)
    there.write(view(), (key(driver_id=1), 2.0, 9))
    assert there.rate(view(), key(driver_id=1)) == 2.0
    there.store.update(there.config, [view(), other], [], [], [], partial=False)
    assert there.client.dbsize() == 0


def test_another_project_keeps_its_rows_even_when_its_name_ends_alike(redis_port: int) -> None:
    mine = There(redis_port, "trading")
    others = [There(redis_port, name) for name in ("day_trading", "trading_two", "x")]
    for project in (mine, *others):
        project.write(view(), *((key(driver_id=driver), 1.0, 5) for driver in range(3)))
        project.write(view(), (key(driver_id=1, city="trading"), 1.0, 5))
    mine.store.delete_table(mine.config, view())
    assert mine.rate(view(), key(driver_id=1)) is None
    assert mine.rate(view(), key(driver_id=1, city="trading")) == 1.0  # of other join keys
    mine.store.teardown(mine.config, [view()], [])
    assert [other.rate(view(), key(driver_id=1)) for other in others] == [1.0] * 3


def test_a_join_key_that_a_pattern_would_misread_is_taken_as_it_is(there: There) -> None:
    odd = "[*?]\\" + "x" * 37  # and 42 long: a length that is an asterisk
    table = FeatureView(
        name="odd", entities=[Entity(name="odd", join_keys=[odd], value_type=ValueType.INT64)],
        source=FileSource(name="odd_source", path="none.parquet"),
        schema=[Field(name=odd, dtype=Int64), Field(name="rate", dtype=Float64)],
    )
    rows = [(key(**{odd: 1}), {"rate": Value(double_val=1.0)}, NOW, None)]
    there.store.online_write_batch(there.config, table, rows, None)
    there.store.delete_table(there.config, table)
    assert there.client.dbsize() == 0


def test_a_key_with_a_time_to_live_is_gone_after_it(redis_port: int) -> None:
    there = There(redis_port, key_ttl_seconds=100)
    there.write(view(), (key(driver_id=1), 1.0, 5))
    [held] = there.client.keys()
    assert 90 < there.client.ttl(held) <= 100


@pytest.mark.parametrize(("values", "age_s", "reason"), [
    ({"rate": Value(double_val=math.nan)}, 5, "rate: expected a finite number, found nan"),
    ({"rate": Value(double_val=-math.inf)}, 5, "rate: expected a finite number, found -inf"),
    ({"rate": Value(string_val="1.0")}, 5, "rate: expected double_val, found string_val"),
    ({"trips": Value(double_val=1.0)}, 5, "trips: expected int64_val, found double_val"),
    ({}, 1.77e9, "expected after 2000-01-01.*another unit"),
    ({}, -11, "expected at most 10 s ahead"),
])
def test_a_row_that_is_none_is_refused_with_its_batch(
    redis_port: int, values: dict[str, Value], age_s: float, reason: str,
) -> None:
    there = There(redis_port, most_ahead_s=10, refuse_not_finite=True)
    entity, good, _, _ = there.row(key(driver_id=2), 1.0, 5)
    bad = (entity, good | values, NOW - timedelta(seconds=age_s), None)
    with pytest.raises(RefusedRow, match=rf"stats, driver_id=2: .*{reason}.*nothing of the batch was stored"):
        there.store.online_write_batch(there.config, view(), [there.row(key(driver_id=1), 1.0, 5), bad], None)
    assert there.client.dbsize() == 0


def test_writing_without_comparing_is_refused(redis_port: int) -> None:
    with pytest.raises(ValueError, match="skip_dedup: expected false"):
        There(redis_port, skip_dedup=True)
