"""The online store for Feast: the newest row wins on every way in, age is judged on read, and missing is missing."""

from __future__ import annotations

import asyncio
import math
import secrets
import socket
import subprocess
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import redis
import redis.asyncio
from feast import Entity, FeatureView, Field, FileSource, RepoConfig, ValueType
from feast.infra.online_stores.redis import RedisOnlineStore, RedisOnlineStoreConfig
from feast.protos.feast.serving.ServingService_pb2 import FieldStatus
from feast.protos.feast.types.EntityKey_pb2 import EntityKey
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

from bentos.lease import Lease
from feature_repo.contracts import StoreUnavailable
from feature_repo.newest_wins.online_store import NewestWinsOnlineStore, RefusedRow
from feature_repo.newest_wins.roles import reader, writer
from feature_repo.row_watch import RowWatch
from feature_repo.settings import WRITER, Settings
from feature_repo.store import FeatureStore
from infra.stack.redis import command, program
from tests.bench.races import OURS, STOCK, Stranger, race_all
from tests.feature_repo.made_rows import CONTEXT, START_NS, made_write
from tests.integration.conftest import free_port
from tests.integration.streaming_stack import until as await_answer

pytestmark = pytest.mark.integration
SECRET = "s3cret"  # noqa: S105  of a server that lives as long as its test
NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
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
DRIVER = Entity(name="driver", join_keys=["driver_id"], value_type=ValueType.INT64)


def key(**values: int | str) -> EntityKey:
    made = [Value(int64_val=v) if isinstance(v, int) else Value(string_val=v) for v in values.values()]
    return EntityKey(join_keys=list(values), entity_values=made)


def view(name: str = "stats", features: dict[str, Any] | None = None, ttl: timedelta | None = None) -> FeatureView:
    return FeatureView(
        name=name, entities=[DRIVER], ttl=ttl, source=FileSource(name=f"{name}_source", path="none.parquet"),
        schema=[Field(name="driver_id", dtype=Int64)]
        + [Field(name=f, dtype=t) for f, t in (features or {"rate": Float64, "trips": Int64}).items()],
    )


class There:
    """A store, its configuration and a clock that stands still."""

    def __init__(self, port: int, project: str = "trading", **config: Any) -> None:
        self.config = RepoConfig(
            project=project, provider="local", registry="none.db", entity_key_serialization_version=3,
            online_store={"type": OURS, "connection_string": f"127.0.0.1:{port}", **config},
        )
        self.store = NewestWinsOnlineStore()
        self.store.now = lambda: NOW
        self.client = redis.Redis(port=port)

    def write(self, table: FeatureView, *rows: tuple[Any, ...]) -> None:
        """Rows of entity key, rate, age in seconds, and created after the event time, seconds."""
        self.store.online_write_batch(self.config, table, [self.row(*row) for row in rows], None)

    def row(self, entity: EntityKey, rate: float, age_s: float, created_s: float | None = None) -> Any:
        at = NOW - timedelta(seconds=age_s)
        known = None if created_s is None else at + timedelta(seconds=created_s)
        return entity, {"rate": Value(double_val=rate), "trips": Value(int64_val=int(rate))}, at, known

    def rate(self, table: FeatureView, entity: EntityKey) -> float | None:
        [(_, values)] = self.store.online_read(self.config, table, [entity], ["rate"])
        return None if values is None else values["rate"].double_val


@pytest.fixture
def port(redis_server: str) -> int:
    return int(redis_server.rsplit(":", 1)[1].split("/", maxsplit=1)[0])


@pytest.fixture
def there(port: int) -> There:
    return There(port)


# --- the newest wins ------------------------------------------------------------------------------------------------


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
def test_of_races_through_every_way_of_feast_none_is_lost(tmp_path: Path, port: int) -> None:
    losses = race_all(tmp_path, port, OURS, races=160)
    assert losses == {"write_to_online_store": 0, "push": 0, "materialize": 0, "serve": 0}


# --- what is read ---------------------------------------------------------------------------------------------------


@pytest.fixture
def stranger(tmp_path: Path, port: int) -> Stranger:
    made = Stranger(tmp_path, port, OURS)
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
    port: int, ttl: timedelta | None, judge_age: bool, age_s: int, is_there: bool,
) -> None:
    there = There(port, judge_age=judge_age)
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


# --- what is deleted ------------------------------------------------------------------------------------------------


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


def test_another_project_keeps_its_rows_even_when_its_name_ends_alike(port: int) -> None:
    mine, others = There(port, "trading"), [There(port, name) for name in ("day_trading", "trading_two", "x")]
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


def test_a_key_with_a_time_to_live_is_gone_after_it(port: int) -> None:
    there = There(port, key_ttl_seconds=100)
    there.write(view(), (key(driver_id=1), 1.0, 5))
    [held] = there.client.keys()
    assert 90 < there.client.ttl(held) <= 100


# --- what is refused ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("values", "age_s", "reason"), [
    ({"rate": Value(double_val=math.nan)}, 5, "rate: expected a finite number, found nan"),
    ({"rate": Value(double_val=-math.inf)}, 5, "rate: expected a finite number, found -inf"),
    ({"rate": Value(string_val="1.0")}, 5, "rate: expected double_val, found string_val"),
    ({"trips": Value(double_val=1.0)}, 5, "trips: expected int64_val, found double_val"),
    ({}, 1.77e9, "expected after 2000-01-01.*another unit"),
    ({}, -11, "expected at most 10 s ahead"),
])
def test_a_row_that_is_none_is_refused_with_its_batch(
    port: int, values: dict[str, Value], age_s: float, reason: str,
) -> None:
    there = There(port, most_ahead_s=10, refuse_not_finite=True)
    entity, good, _, _ = there.row(key(driver_id=2), 1.0, 5)
    bad = (entity, good | values, NOW - timedelta(seconds=age_s), None)
    with pytest.raises(RefusedRow, match=rf"stats, driver_id=2: .*{reason}.*nothing of the batch was stored"):
        there.store.online_write_batch(there.config, view(), [there.row(key(driver_id=1), 1.0, 5), bad], None)
    assert there.client.dbsize() == 0


def test_writing_without_comparing_is_refused(port: int) -> None:
    with pytest.raises(ValueError, match="skip_dedup: expected false"):
        There(port, skip_dedup=True)


# --- who may write --------------------------------------------------------------------------------------------------


@contextmanager
def own_redis(folder: Path) -> Iterator[Settings]:
    """The local stack's Redis as it starts it."""
    ports = replace(Settings().ports, redis=free_port())
    settings = replace(Settings(run_dir=folder), ports=ports, redis_writer_password=SECRET)
    with subprocess.Popen(command(settings), stdout=subprocess.DEVNULL) as process:
        try:
            await_redis(settings.ports.redis)
            yield settings
        finally:
            process.terminate()


@pytest.fixture
def guarded(tmp_path: Path) -> Iterator[Settings]:
    """A Redis of the test's own."""
    with own_redis(tmp_path) as settings:
        yield settings


@pytest.fixture(scope="module")
def refusing(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Settings]:
    """One for all commands that are refused, and so leave nothing."""
    with own_redis(tmp_path_factory.mktemp("refusing")) as settings:
        yield settings


def await_redis(port: int) -> None:
    with redis.Redis(port=port, retry=redis.retry.Retry(redis.backoff.ConstantBackoff(0.1), 100)) as client:
        client.ping()


FORBIDDEN = (
    ("SET", "k", "v"), ("HSET", "k", "f", "v"), ("DEL", "k"), ("FLUSHALL",), ("EVAL", "return 1", "0"),
    ("EVALSHA", "0" * 40, "0"), ("SCRIPT", "FLUSH"), ("CONFIG", "GET", "*"), ("ACL", "LIST"), ("SHUTDOWN", "NOSAVE"),
    ("KEYS", "*"), ("FUNCTION", "LIST"), ("EXPIRE", "k", "1"), ("RENAME", "k", "l"), ("CLIENT", "KILL", "ID", "1"),
)
FOR_NOBODY = tuple(words for words in FORBIDDEN if words[0] not in {"SET", "HSET", "DEL", "EVAL", "EVALSHA", "EXPIRE"})


@pytest.mark.parametrize("words", FORBIDDEN, ids=" ".join)
def test_on_one_machine_everyone_reads_and_nobody_writes(refusing: Settings, words: tuple[str, ...]) -> None:
    with redis.Redis.from_url(refusing.redis) as client, pytest.raises(redis.exceptions.NoPermissionError):
        client.execute_command(*words)


@pytest.mark.parametrize("words", FOR_NOBODY, ids=" ".join)
def test_the_writer_writes_and_administers_nothing(refusing: Settings, words: tuple[str, ...]) -> None:
    with redis.Redis.from_url(refusing.redis_writer) as client, pytest.raises(redis.exceptions.NoPermissionError):
        client.execute_command(*words)


def test_the_stacks_own_processes_do_all_they_do_as_these_two(guarded: Settings) -> None:
    store = FeatureStore.open(guarded)
    assert store.write([made_write(1), made_write(1, "ETHUSDT")]) == 2
    assert store.write_context("BTCUSDT", {CONTEXT: 0.1}, START_NS, START_NS)
    found = store.read("BTCUSDT")
    assert found is not None
    assert found.row == made_write(1).row
    assert Lease(store.writer, "publisher", "me").hold(0.0)
    store.writer.delete("features:BTCUSDT:1m")
    replayed = FeatureStore.open(replace(guarded, namespace="tuesday"))
    replayed.write([made_write(1)])
    assert replayed.forget(["BTCUSDT"]) == 4


def test_a_reader_who_writes_is_told_what_is_missing(guarded: Settings) -> None:
    reading = FeatureStore.open(replace(guarded, redis_url=guarded.redis))
    with pytest.raises(StoreUnavailable, match=r"a user who may do it expected .* found default.*REDIS_WRITER_URL"):
        reading.write([made_write(1)])
    assert not Lease(reading.client, "publisher", "me").hold(0.0)


async def test_a_reader_is_told_of_new_rows(guarded: Settings) -> None:
    watch = RowWatch(guarded.redis, ("BTCUSDT",))
    task = asyncio.create_task(watch.run())
    try:
        await until(lambda: watch._is_told)
        watch.has_read("BTCUSDT", watch.change("BTCUSDT"))
        assert watch.is_unchanged("BTCUSDT")
        FeatureStore.open(guarded).write([made_write(1)])
        await until(lambda: not watch.is_unchanged("BTCUSDT"))
    finally:
        task.cancel()


async def until(condition: Callable[[], bool]) -> None:
    for _ in range(500):
        if condition():
            return
        await asyncio.sleep(0.02)
    raise TimeoutError


def test_the_secret_is_not_on_disk_nor_in_the_list_of_processes(guarded: Settings) -> None:
    users = guarded.run_dir / "redis" / "users.acl"
    assert users.stat().st_mode & 0o777 == 0o600
    assert SECRET not in users.read_text() + " ".join(command(guarded))


def test_a_reader_reads_what_the_writer_wrote(tmp_path: Path) -> None:
    port = free_port()
    (tmp_path / "users.acl").write_text(
        "\n".join(("user default off", reader("reader", "r"), writer("writer", "w"))) + "\n",
    )
    server = program()
    assert server is not None
    with subprocess.Popen(
        [server, "--port", str(port), "--bind", "127.0.0.1", "--save", "", "--aclfile", "users.acl"], cwd=tmp_path,
        stdout=subprocess.DEVNULL,
    ) as process:
        try:
            until_up(port)
            at = f"127.0.0.1:{port}"
            both = There(
                port, connection_string=f"{at},username=reader,password=r",
                writer_connection_string=f"{at},username=writer,password=w",
            )
            both.write(view(), *((key(driver_id=driver), 1.0, 5) for driver in range(3)))
            assert both.rate(view(), key(driver_id=1)) == 1.0
            both.store.delete_table(both.config, view())
            assert both.rate(view(), key(driver_id=1)) is None
            alone = There(port, connection_string=f"{at},username=reader,password=r")
            with pytest.raises(redis.exceptions.NoPermissionError):
                alone.write(view(), (key(driver_id=1), 1.0, 5))
            stock = RedisOnlineStore()
            config = RedisOnlineStoreConfig(connection_string=f"{at},username=reader,password=r")
            with pytest.raises(redis.exceptions.NoPermissionError):
                stock._get_client(config).hset("k", "f", "v")
        finally:
            process.terminate()


def test_a_writer_without_a_password_is_refused() -> None:
    with pytest.raises(ValueError, match="expected a password for writer"):
        writer(WRITER, "")


def until_up(port: int) -> None:
    """Wait until the server asks for a password. To redis-py that is a lost connection, which it would try a while."""
    at_once = redis.retry.Retry(redis.backoff.NoBackoff(), 0)

    def asks() -> bool:
        with redis.Redis(port=port, retry=at_once) as client:
            try:
                client.ping()
            except redis.exceptions.AuthenticationError:
                return True
            except redis.exceptions.ConnectionError:
                return False
        raise AssertionError("expected a server that asks for a password, found one that answers")

    await_answer(asks, 30, "Redis asks for a password")


# --- many nodes -----------------------------------------------------------------------------------------------------


def port_with_a_bus() -> int:
    """A free port below 55,536 whose bus, 10,000 above it, is free too."""
    for _ in range(100):
        with closing(socket.socket()) as client, closing(socket.socket()) as bus, suppress(OSError, OverflowError):
            client.bind(("127.0.0.1", secrets.randbelow(20_000) + 20_000))
            port: int = client.getsockname()[1]
            bus.bind(("127.0.0.1", port + 10_000))
            return port
    raise RuntimeError("expected two free ports 10,000 apart, found none in 100 tries")


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[int]:
    """The port of a cluster of one node. The bus takes the port 10,000 above it."""
    port, server = port_with_a_bus(), program()
    assert server is not None
    options = ["--port", str(port), "--save", "", "--cluster-enabled", "yes", "--bind", "127.0.0.1"]
    with subprocess.Popen([server, *options], cwd=tmp_path, stdout=subprocess.DEVNULL) as process:
        try:
            await_redis(port)
            with redis.Redis(port=port) as client:
                client.execute_command("CLUSTER", "ADDSLOTSRANGE", 0, 16383)
                await_answer(lambda: b"cluster_state:ok" in client.execute_command("CLUSTER", "INFO"), 60, "a cluster")
            yield port
        finally:
            process.terminate()


async def test_a_cluster_is_written_and_read(cluster: int) -> None:
    there = There(cluster, redis_type="redis_cluster")
    there.write(view(), *((key(driver_id=driver), 1.0, 5) for driver in range(5)))
    there.write(view(), *((key(driver_id=driver), 2.0, 9) for driver in range(5)))
    assert [there.rate(view(), key(driver_id=driver)) for driver in range(6)] == [1.0] * 5 + [None]
    row = there.row(key(driver_id=1), 3.0, 1)
    await there.store.online_write_batch_async(there.config, view(), [row], None)
    [(_, values)] = await there.store.online_read_async(there.config, view(), [key(driver_id=1)], ["rate"])
    assert values == {"rate": Value(double_val=3.0)}
    there.store.delete_table(there.config, view())
    assert there.rate(view(), key(driver_id=1)) is None
    await there.store.close()
    there.store._client.close()
