"""Feast carries the load: real Feast, Redis, Parquet and S3 under the one door."""

from __future__ import annotations

import dataclasses
import os
import shutil
import struct
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import redis

from feature_repo.contracts import SECOND_NS, StoreUnavailable
from feature_repo.features import FEATURE_NAMES
from feature_repo.online_row import SEQUENCE_SHAPE, OnlineWrite
from feature_repo.redis_layout import entity_key, feature_field
from feature_repo.settings import ROOT, Settings
from feature_repo.store import AsyncReader, FeatureStore
from feature_repo.views import ENTITY, PROJECT, ROW_VIEWS, SEQUENCE_VIEW, VIEWS, definitions_hash
from tests.feature_repo.made_rows import (
    CONTEXT,
    START_NS,
    made_context,
    made_row,
    made_sequence,
    made_write,
    write_lake,
)
from tests.integration.conftest import S3, free_port

pytestmark = pytest.mark.integration
ROW_REFS = [f"{view.name}:{name}" for view in ROW_VIEWS for name in view.names]
KEY = entity_key(PROJECT, ENTITY, "BTCUSDT")


@pytest.fixture
def settings(tmp_path: Path, redis_server: str, applied: Path) -> Settings:
    made = Settings(run_dir=tmp_path, redis_url=redis_server)
    made.registry.parent.mkdir(parents=True)
    shutil.copy(applied, made.registry)
    return made


@pytest.fixture
def store(settings: Settings) -> FeatureStore:
    """At a time when the made rows are young."""
    return FeatureStore.open(settings, clock_ns=lambda: START_NS + 300 * SECOND_NS)


def bits(values: dict[str, float | None]) -> dict[str, str | None]:
    """Floats as hex, so that equal means equal to the last bit."""
    return {name: None if pd.isna(value) else float(value).hex() for name, value in values.items()}


def asked_at(*times_ns: int) -> pd.DataFrame:
    return pd.DataFrame({"symbol": "BTCUSDT", "event_timestamp": pd.to_datetime(list(times_ns), utc=True)})


def test_the_same_instants_are_equal_through_feast_online_one_hmget_feast_history_and_the_lake(
    store: FeatureStore,
) -> None:
    writes = [made_write(second) for second in range(0, 300, 23)]
    slow = made_context(0)
    write_lake(store.settings.lake, "features", [write.row for write in writes])
    write_lake(store.settings.lake, "context", [slow])
    store.write_context("BTCUSDT", {CONTEXT: slow.value}, slow.ts_event, slow.created)
    history = store.history(asked_at(*(write.row.created for write in writes)), ROW_REFS)
    for write, (_, known) in zip(writes, history.iterrows(), strict=True):
        assert store.write([write]) == 1
        ours = store.read("BTCUSDT")
        theirs = {name: column[0] for name, column in store.online(["BTCUSDT"], ROW_REFS).items()}
        assert ours is not None
        assert ours.row == write.row
        expected = bits(write.row.values)
        assert bits({name: theirs[name] for name in FEATURE_NAMES}) == expected
        assert bits({name: known[name] for name in FEATURE_NAMES}) == expected
        assert theirs["created"] == known["created"] == write.row.created
        assert theirs["reasons"] == known["reasons"]


def test_the_sequence_and_the_slow_view_read_through_feast_are_ours(store: FeatureStore) -> None:
    store.write([made_write(5)])
    store.write_context("BTCUSDT", {CONTEXT: 0.002}, START_NS, START_NS)
    ours = store.read("BTCUSDT")
    parts = ("forecast_sequence:minutes", "forecast_sequence:newest")
    theirs = store.online(["BTCUSDT"], [*parts, f"volatility_context:{CONTEXT}"])
    assert ours is not None
    assert ours.sequence is not None
    sequence = np.frombuffer(theirs["minutes"][0] + theirs["newest"][0], "<f8").reshape(SEQUENCE_SHAPE)
    assert sequence.tobytes() == ours.sequence.tobytes()
    assert theirs[CONTEXT] == [ours.context[CONTEXT]] == [0.002]


def test_services_serve_training_and_serving_the_same_names(store: FeatureStore) -> None:
    write_lake(store.settings.lake, "features", [made_row(0)])
    store.write([made_write(0)])
    for service in ("forecast_bar_v1", "forecast_micro_v1"):
        offline = store.history(asked_at(made_row(0).created), service)
        assert set(store.online(["BTCUSDT"], service)) == set(offline.columns) - {"event_timestamp"}


def test_of_300_concurrent_races_none_is_lost(store: FeatureStore) -> None:
    symbols = [f"R{i}USDT" for i in range(300)]
    for_each = {symbol: [made_write(second, symbol) for second in (3, 1, 2)] for symbol in symbols}
    with ThreadPoolExecutor(12) as pool:
        list(pool.map(lambda write: store.write([write]), (w for writes in for_each.values() for w in writes)))
    newest = {symbol: store.version(symbol) for symbol in symbols}
    assert newest == {symbol: (w[0].row.ts_event, w[0].row.created) for symbol, w in for_each.items()}


def in_one_minute(second: int, minute: int = 0) -> OnlineWrite:
    """A row whose sequence has the minutes of its minute and a newest row of its own."""
    sequence = made_sequence(minute)
    sequence[-1] = made_sequence(second)[0]
    return dataclasses.replace(made_write(second), sequence=sequence)


def held(store: FeatureStore) -> tuple[int, bytes | None]:
    found = store.read("BTCUSDT")
    assert found is not None
    return found.row.ts_event, None if found.sequence is None else found.sequence.tobytes()


def told(write: OnlineWrite) -> tuple[int, bytes]:
    assert write.sequence is not None
    return write.row.ts_event, write.sequence.tobytes()


def sent(store: FeatureStore) -> int:
    """Bytes that Redis has been sent."""
    return int(store.client.info("stats")["total_net_input_bytes"])


def test_minutes_of_a_sequence_are_sent_when_they_are_news_and_the_sequence_is_whole_each_second(
    store: FeatureStore,
) -> None:
    sizes = []
    for second in range(50, 70):
        write, before = in_one_minute(second, second // 60), sent(store)
        assert store.write([write]) == 1
        sizes.append(sent(store) - before)
        assert held(store) == told(write)
    assert [size > 12_000 for size in sizes] == [second in (50, 60) for second in range(50, 70)]


def test_a_sequence_that_was_one_value_goes_with_the_first_minutes_that_come(store: FeatureStore) -> None:
    old = feature_field("forecast_sequence", "values")
    store.write([in_one_minute(1, minute=0)])
    store.client.hset(KEY, old, b"as code of before wrote it")
    store.write([in_one_minute(2, minute=0)])
    assert store.client.hexists(KEY, old), "these minutes are held: nothing but the newest row was sent"
    FeatureStore.open(store.settings, store.clock_ns).write([in_one_minute(3, minute=0)])
    assert not store.client.hexists(KEY, old)
    assert held(store) == told(in_one_minute(3, minute=0))


def test_a_sequence_is_whole_whoever_wrote_in_between_or_lost_what_was_held(store: FeatureStore) -> None:
    other = FeatureStore.open(store.settings, store.clock_ns)
    for second in (1, 2, 3, 4):
        by, write = (store, other)[second % 2], in_one_minute(second, minute=second % 2)
        assert by.write([write]) == 1
        assert held(store) == told(write)
    lost = in_one_minute(5, minute=0)  # as this store wrote last
    store.client.flushall()
    assert store.write([lost]) == 1
    assert held(store) == told(lost)
    assert store.write([in_one_minute(6, minute=2), in_one_minute(7, minute=2), in_one_minute(4)]) == 2
    assert held(store) == told(in_one_minute(7, minute=2))
    view = store.feast.get_feature_view(SEQUENCE_VIEW.name)
    store.feast._get_provider().online_store.delete_table(store.feast.config, view)
    assert held(store) == (made_row(7).ts_event, None)
    assert store.write([in_one_minute(8, minute=2)]) == 1
    assert held(store) == told(in_one_minute(8, minute=2))


def test_a_sequence_that_came_through_feast_is_not_taken_for_the_minutes_that_were_held(store: FeatureStore) -> None:
    store.write([in_one_minute(1)])
    at = pd.Timestamp(made_row(2).ts_event, tz="UTC")
    strange = {"symbol": "BTCUSDT", "newest": b"n", "minutes": b"m", "columns": "c", "event_timestamp": at}
    store.feast.write_to_online_store(SEQUENCE_VIEW.name, pd.DataFrame([strange | {"created_timestamp": at}]))
    assert held(store) == (made_row(1).ts_event, None)
    assert store.write([in_one_minute(3)]) == 1
    assert held(store) == told(in_one_minute(3))


def test_of_concurrent_writers_of_a_symbol_the_newest_row_and_its_own_sequence_stay(store: FeatureStore) -> None:
    stores = [FeatureStore.open(store.settings, store.clock_ns) for _ in range(4)]
    writes = [in_one_minute(second, second % 3) for second in range(200)]
    random = np.random.default_rng(1)
    with ThreadPoolExecutor(4) as pool:
        orders = [random.permutation(200).tolist() for _ in stores]
        list(pool.map(lambda by, order: [by.write([writes[at]]) for at in order], stores, orders))
    assert held(store) == told(writes[-1])


def test_an_older_row_changes_nothing_and_a_revision_wins(store: FeatureStore) -> None:
    revised = made_write(1, lag_ns=60 * SECOND_NS)
    assert [store.write([w]) for w in (made_write(1), made_write(0), made_write(1), revised)] == [1, 0, 0, 1]
    found = store.read("BTCUSDT")
    assert found is not None
    assert found.row == revised.row


def test_mirror_keys_follow_the_newest_row_and_expire(store: FeatureStore) -> None:
    store.write([made_write(61), made_write(60)])
    mirror = store.client.get("features:BTCUSDT:5m")
    assert b'"timestamp": %d' % (made_row(61).ts_event // SECOND_NS) in mirror
    assert 290 <= store.client.ttl("features:BTCUSDT:5m") <= 300


def test_a_missing_entity_is_missing_not_a_row_of_1970(store: FeatureStore) -> None:
    found = store.online(["NOSUCH"], ["row_state:created", "price_features:return_1m"])
    assert (found["created"], found["return_1m"]) == ([None], [None])
    assert store.read("NOSUCH") is None


def materialize(store: FeatureStore, start_ns: int, end_ns: int) -> None:
    start, end = (datetime.fromtimestamp(at // SECOND_NS, UTC) for at in (start_ns, end_ns))
    store.feast.materialize(start, end, feature_views=[view.name for view in VIEWS])


def test_materialize_writes_the_bytes_that_the_stream_writes(store: FeatureStore) -> None:
    row, slow = made_row(7), made_context(0)
    store.write([OnlineWrite(row, None, {})])
    store.write_context("BTCUSDT", {CONTEXT: slow.value}, slow.ts_event, slow.created)
    streamed = store.client.hgetall(KEY)
    store.client.flushall()
    write_lake(store.settings.lake, "features", [made_row(6), row])
    write_lake(store.settings.lake, "context", [slow])
    materialize(store, START_NS, START_NS + 60 * SECOND_NS)
    assert store.client.hgetall(KEY) == streamed


def test_materialize_and_push_never_put_an_older_row_over_a_newer(store: FeatureStore) -> None:
    store.write([made_write(30)])
    before = store.client.hgetall(KEY)
    older = made_row(20)
    write_lake(store.settings.lake, "features", [older])
    materialize(store, START_NS, START_NS + 60 * SECOND_NS)
    values = pd.DataFrame([{
        "symbol": "BTCUSDT", **{f.name: 1.0 for f in store.feast.get_feature_view("price_features").features},
        "event_timestamp": pd.Timestamp(older.ts_event, tz="UTC"),
        "created_timestamp": pd.Timestamp(older.created, tz="UTC").ceil("us"),
    }])
    store.feast.write_to_online_store("price_features", values)
    assert store.client.hgetall(KEY) == before


def test_a_view_that_was_removed_and_comes_back_takes_rows_again(store: FeatureStore) -> None:
    store.write([made_write(30)])
    online, view = store.feast._get_provider().online_store, store.feast.get_feature_view("price_features")
    online.delete_table(store.feast.config, view)
    assert store.read("BTCUSDT") is None
    assert store.write([made_write(30)]) == 1
    assert store.read("BTCUSDT") is not None


def test_feast_history_reads_the_lake_over_s3(settings: Settings, moto_s3: S3) -> None:
    remote = dataclasses.replace(settings, lake_url=moto_s3.lake_url, s3_endpoint=moto_s3.endpoint)
    revised = made_row(1, lag_ns=30 * SECOND_NS, provenance="reconcile", seed=1)
    rows = [made_row(0), made_row(1), made_row(70), revised]
    write_lake(remote.lake, "features", rows, remote.s3_endpoint)
    found = FeatureStore.open(remote).history(asked_at(*(row.created for row in rows)), ROW_REFS)
    assert found["created"].tolist() == [row.created for row in rows]
    for row, (_, known) in zip(rows, found.iterrows(), strict=True):
        assert bits({name: known[name] for name in FEATURE_NAMES}) == bits(row.values)


def test_history_of_the_sequence_says_that_it_is_rebuilt(store: FeatureStore) -> None:
    with pytest.raises(ValueError, match="online only"):
        store.history(asked_at(START_NS), [f"{SEQUENCE_VIEW.name}:minutes"])


async def test_the_service_reads_the_same_row(store: FeatureStore) -> None:
    store.write([made_write(9)])
    reader = AsyncReader.open(store.settings)
    found, version = await reader.read("BTCUSDT"), await reader.version("BTCUSDT")
    await reader.close()
    assert found is not None
    assert (found.row, version) == (made_row(9), store.version("BTCUSDT"))


def test_a_redis_that_is_down_is_said_at_once_without_its_password(settings: Settings) -> None:
    down = dataclasses.replace(settings, redis_url=f"redis://:secret@127.0.0.1:{free_port()}/0")
    store = FeatureStore.open(down)
    calls: list[Any] = [
        lambda: store.read("BTCUSDT"), lambda: store.version("BTCUSDT"), lambda: store.write([made_write(0)]),
        lambda: store.online(["BTCUSDT"], ["row_state:price"]),
    ]
    for call in calls:
        started = time.monotonic()
        with pytest.raises(StoreUnavailable, match=r"Redis expected at 127\.0\.0\.1") as caught:
            call()
        assert time.monotonic() - started < 10
        assert "secret" not in str(caught.value)


def test_a_redis_that_does_not_answer_is_given_up_within_seconds(store: FeatureStore, redis_server: str) -> None:
    with redis.Redis.from_url(redis_server) as operator:
        operator.client_pause(5000)
        started = time.monotonic()
        with pytest.raises(StoreUnavailable):
            store.read("BTCUSDT")
        assert time.monotonic() - started < 4
        operator.client_unpause()


def test_before_feast_apply_the_store_says_what_to_run(tmp_path: Path) -> None:
    with pytest.raises(StoreUnavailable, match="feast apply"):
        FeatureStore.open(Settings(run_dir=tmp_path)).history(asked_at(START_NS), "forecast_bar_v1")


@pytest.mark.slow
@pytest.mark.timeout(600)  # three commands, each importing Feast
def test_feasts_own_commands_work_in_the_folder(tmp_path: Path, redis_server: str) -> None:
    now = time.time_ns() // SECOND_NS * SECOND_NS
    newest = made_row((now - START_NS) // SECOND_NS - 5)
    run = Settings(run_dir=tmp_path, redis_url=redis_server)
    write_lake(run.lake, "features", [newest])
    environ = {**os.environ, "CANDLEWICK_RUN_DIR": str(tmp_path), "CANDLEWICK_REDIS_URL": redis_server}

    def feast(*arguments: str) -> str:
        command, folder = [str(Path(sys.executable).with_name("feast")), *arguments], ROOT / "feature_repo"
        done = subprocess.run(command, cwd=folder, env=environ, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    assert "Deploying infrastructure for price_features" in feast("apply")
    assert definitions_hash().encode() in run.registry.read_bytes()
    listed = feast("feature-views", "list")
    assert all(view.name in listed for view in VIEWS)
    feast("materialize-incremental", f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%S}")
    found = FeatureStore.open(run).read("BTCUSDT")
    assert found is not None
    assert found.row == newest


def test_a_float_is_eight_little_endian_bytes_in_the_sequence(store: FeatureStore) -> None:
    write = made_write(3)
    store.write([write])
    [data] = store.online(["BTCUSDT"], ["forecast_sequence:minutes"])["minutes"]
    assert write.sequence is not None
    assert struct.unpack_from("<d", data, 8 * 5)[0] == write.sequence[0, 5]
