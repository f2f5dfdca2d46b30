"""Short forms of the drills: processes killed -9, slow stores and a broken broker, on real components."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import NamedTuple

import pytest

from feature_repo.lake_reader import Lake
from feature_repo.settings import LOOPBACK, ROOT, load_settings
from feature_repo.store import FeatureStore
from infra.drill.kill import Kill, is_fresh, kill, read_out
from infra.drill.proxy import SlowProxy, slow_proxy
from infra.drill.remains import Remains, clean, judge
from infra.drill.s3 import LAKE_URL, s3_server
from infra.drill.stack import Drill, own_stack, until
from infra.stack.trial import offline_source

pytestmark = [pytest.mark.integration, pytest.mark.alone, pytest.mark.slow, pytest.mark.timeout(600)]
STREAM = ("redis", "kafka", "topics", "exchange", "ingest", "streaming")
START_S, BACK_S = 240.0, 120.0


class Stack(NamedTuple):
    """A running stream and the proxies before its two stores."""

    drill: Drill
    redis: SlowProxy
    s3: SlowProxy


class Disturbed(NamedTuple):
    """Three kills, how many rows came into Redis while each store was slow, and what is left of it all."""

    kills: tuple[Kill, ...]
    rows_with_slow_redis: int
    rows_with_slow_s3: int
    remains: Remains


@pytest.fixture(scope="module")
def stack() -> Iterator[Stack]:
    """The stream from exchange to Redis and a lake on S3, each behind a proxy, with a first row in Redis."""
    def arguments(name: str) -> tuple[str, ...]:
        return ("--original-time",) if name == "exchange" else ()

    with s3_server() as port, slow_proxy(port) as s3, slow_proxy(0) as redis, own_stack(
        STREAM, offline_source(load_settings()), time.time_ns(), arguments, symbols=("BTCUSDT",),
        redis_url=f"redis://{LOOPBACK}:{redis.port}/0", redis_writer_url=load_settings().writer_at(redis.port),
        lake_url=LAKE_URL, s3_endpoint=f"http://{LOOPBACK}:{s3.port}",
    ) as drill:
        redis.target = drill.settings.ports.redis
        drill.await_ready(START_S)
        until(lambda: is_fresh(drill), START_S, "a fresh row in Redis")
        yield Stack(drill, redis, s3)


@pytest.fixture(scope="module")
def disturbed(stack: Stack) -> Disturbed:
    drill = stack.drill
    first = drill.newest()
    kills = tuple(kill(drill, name) for name in ("streaming", "ingest", "kafka"))
    with_slow_redis = rows_while_slow(drill, stack.redis, lambda rows: rows > 3)
    lake = Lake.open(LAKE_URL, f"http://{LOOPBACK}:{stack.s3.target}")
    before = lake.newest("clean", "BTCUSDT") or 0
    with_slow_s3 = rows_while_slow(
        drill, stack.s3, lambda rows: rows > 3 and (lake.newest("clean", "BTCUSDT") or 0) > before)
    return Disturbed(kills, with_slow_redis, with_slow_s3, read_out(drill, first)["BTCUSDT"])


def rows_while_slow(drill: Drill, proxy: SlowProxy, is_enough: Callable[[int], bool]) -> int:
    """How many rows came into Redis until it was enough, each request of a store answered half a second later."""
    direct = FeatureStore.open(replace(drill.settings, redis_url=""))
    rows = set[tuple[int, int] | None]()
    proxy.delay_s = 0.5
    until(lambda: rows.add(direct.version("BTCUSDT")) or is_enough(len(rows)), BACK_S, "rows come past a slow store")
    proxy.delay_s = 0.0
    until(lambda: is_fresh(drill), BACK_S, "rows are fresh again")
    return len(rows)


def test_the_stack_recovers_from_every_kill_by_itself(disturbed: Disturbed) -> None:
    assert [(one.service, one.processes > 0, one.recovery_s is not None) for one in disturbed.kills] == [
        (name, True, True) for name in ("streaming", "ingest", "kafka")
    ]


def test_a_slow_redis_holds_nothing_up(disturbed: Disturbed) -> None:
    assert disturbed.rows_with_slow_redis > 3


def test_a_slow_s3_holds_up_the_lake_alone_and_not_for_ever(disturbed: Disturbed) -> None:
    """Rows go on into Redis while the lake's files come slowly; the next claim is that they all came."""
    assert disturbed.rows_with_slow_s3 > 3


def test_lake_and_redis_are_as_if_nothing_had_been(disturbed: Disturbed) -> None:
    """Equal to the venue's own klines, and to a recomputation from raw to the last bit."""
    judged = judge(disturbed.remains)
    assert clean(judged), judged
    assert judged["seconds"] > 20


def test_no_acknowledged_message_is_lost_when_the_broker_is_killed_and_frozen() -> None:
    """In a process of its own: kafka-python leaves the sockets of refused connections to the garbage collector."""
    words = [sys.executable, "candlewick.py", "chaos", "broker", "--pause", "3", "--no-disk", "--json"]
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=False, timeout=300)
    assert done.stdout, done.stderr[-3000:]
    found = json.loads(done.stdout)
    assert (found["lost"], found["unacknowledged"]) == (0, 0)
    assert found["acknowledged"] == found["written"] - found["refused"] > 0
    assert found["kill"]["said"] == ["ended by signal 9"]
