"""Races: an older and a newer row of one entity, written at the same time by 8 threads through one of Feast's ways.

    losses = race_all(folder, port, OURS, races=10_000)      # way → how many races the older row won

Every way in that Feast has: `push`, `write_to_online_store`, `materialize` and the feature server's `/push`. A race is
lost when, with both written, the store gives the older row.
"""

from __future__ import annotations

import contextlib
import io
import shutil
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from random import Random
from typing import Any

import redis

from feature_repo.progress import step
from infra.drill.stack import free_ports
from tests.bench.stranger import AT, NEWER, OLDER, Stranger, post, rows

OURS = "feature_repo.newest_wins.online_store.NewestWinsOnlineStore"
STOCK = "redis"
THREADS = 8
CHUNK = 25
"""Entities in one call: the shorter a call, the more of them begin together."""
PAIR_S = 120.0
"""How long one of a pair waits for the other."""
WAYS = ("write_to_online_store", "push", "materialize", "serve")


def race_all(folder: Path, port: int, store: str, races: int, ways: Sequence[str] = WAYS) -> dict[str, int]:
    """Way → races lost, of `races` each. The Redis at `port` is emptied before each."""
    views = max(4, races // 100)
    there = Stranger(folder, port, store)
    there.apply(views, races // views)
    losses = {}
    for done, way in enumerate(ways):
        step(f"races through {way}, {store.rsplit('.', 1)[-1]}", done, len(ways))
        with redis.Redis(port=port) as client:
            client.flushall()
        with _quiet(), _doing(there, way, views) as do:
            _run(do, way, views, races // views)
        losses[way] = lost(there, views, races // views)
    shutil.rmtree(folder, ignore_errors=True)
    return losses


Do = Callable[[int, range, float], None]
"""Writes the older (1.0) or the newer (2.0) rows of a view's drivers."""


@contextmanager
def _doing(there: Stranger, way: str, views: int) -> Iterator[Do]:
    own = threading.local()
    pairs = [threading.Barrier(2) for _ in range(views)]

    def store() -> Any:
        if not hasattr(own, "store"):
            with _OPENING:
                own.store = there.open(f"{threading.get_ident()}")
        return own.store

    def write(view: int, drivers: range, value: float) -> None:
        store().write_to_online_store(f"driver_stats_{view}", rows(drivers, value))

    def push(view: int, drivers: range, value: float) -> None:
        store().push(f"driver_stats_push_{view}", rows(drivers, value))

    def materialize(view: int, _drivers: range, value: float) -> None:
        middle = OLDER + (NEWER - OLDER) / 2
        own.pair = pairs[view]
        window = (OLDER - timedelta(minutes=1), middle) if value == 1.0 else (middle, NEWER + timedelta(minutes=1))
        store().materialize(*window, feature_views=[f"driver_stats_{view}"])

    if way == "materialize":
        with _reading_in_turn(lambda: own.pair.wait(PAIR_S)):
            yield materialize
        return
    if way != "serve":
        yield {"write_to_online_store": write, "push": push}[way]
        return
    with there.serve(free_ports().feast_ui) as url:
        def serve(view: int, drivers: range, value: float) -> None:
            frame = rows(drivers, value).astype({"event_timestamp": str, "created": str})
            body = {"push_source_name": f"driver_stats_push_{view}", "df": frame.to_dict("list"), "to": "online"}
            status, said = post(f"{url}/push", body)
            assert status == 200, said

        yield serve


@contextmanager
def _reading_in_turn(then: Callable[[], object]) -> Iterator[None]:
    """Files are read by one thread at a time, as dask's cached properties lock each other out on Python 3.11.

    `then` is done between reading and writing: the two of a race begin to write together.
    """
    from feast.infra.offline_stores.dask import DaskRetrievalJob

    read, turn = DaskRetrievalJob.to_arrow, threading.Lock()

    def in_turn(job: Any, *args: Any, **kwargs: Any) -> Any:
        with turn:
            found = read(job, *args, **kwargs)
        then()
        return found

    DaskRetrievalJob.to_arrow = in_turn
    try:
        yield
    finally:
        DaskRetrievalJob.to_arrow = read


def _run(do: Do, way: str, views: int, entities: int) -> None:
    """Both rows of each chunk are handed to the threads next to each other, which first by chance."""
    size = entities if way == "materialize" else CHUNK
    chunks = [(view, range(at, min(at + size, entities))) for view in range(views) for at in range(0, entities, size)]
    random = Random(1)
    with ThreadPoolExecutor(THREADS) as pool:
        running = [
            pool.submit(do, view, drivers, value)
            for view, drivers in chunks for value in random.sample(tuple(AT), 2)
        ]
        for each in running:
            each.result()


def lost(there: Stranger, views: int, entities: int) -> int:
    """How many drivers' rows are not the newer one."""
    store, wrong = there.open(), 0
    for view in range(views):
        found = store.get_online_features(
            [f"driver_stats_{view}:conv_rate"], [{"driver_id": driver} for driver in range(entities)],
        ).to_dict()
        wrong += sum(value != 2.0 for value in found["conv_rate"])
    return wrong


@contextmanager
def _quiet() -> Iterator[None]:
    """Feast prints each materialisation."""
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        yield


_OPENING = threading.Lock()
