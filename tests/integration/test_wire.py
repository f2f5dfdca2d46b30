"""A wire loses no command and mixes up no answers, whatever becomes of its connections."""

import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
import redis
from redis.exceptions import MasterDownError, ReadOnlyError, ResponseError, TimeoutError  # noqa: A004

from feature_repo.contracts import SECOND_NS, StoreUnavailable
from feature_repo.redis_client import Wire, available, connect
from feature_repo.redis_layout import packed
from feature_repo.settings import Settings
from feature_repo.store import FeatureStore
from tests.feature_repo.made_rows import START_NS, made_write

pytestmark = pytest.mark.integration


@pytest.fixture
def operator(redis_server: str) -> Iterator[redis.Redis]:
    with redis.Redis.from_url(redis_server) as client:
        yield client


@pytest.fixture
def wire(redis_server: str) -> Wire:
    return Wire(connect(redis_server))


def cut_all(operator: redis.Redis) -> None:
    operator.execute_command("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")


def test_a_connection_that_was_closed_while_it_idled_is_replaced(operator: redis.Redis, wire: Wire) -> None:
    assert wire.ask(packed("SET", "a", "1")) == b"OK"
    cut_all(operator)
    assert wire.ask(packed("GET", "a")) == b"1"


def test_an_error_that_redis_answers_with_leaves_the_connection_in_step(wire: Wire) -> None:
    number = wire.ask(packed("CLIENT", "ID"))
    with pytest.raises(ResponseError, match="unknown command"):
        wire.ask(packed("NOSUCH"))
    ok, refused, after = wire.ask_all([packed("SET", "a", "1"), packed("INCR", "a", "2"), packed("CLIENT", "ID")])
    assert (ok, type(refused), after) == (b"OK", ResponseError, number)


def test_an_answer_that_came_too_late_is_nobody_elses(operator: redis.Redis, wire: Wire) -> None:
    wire.ask_all([packed("SET", "a", "1"), packed("SET", "b", "2")])
    operator.client_pause(2_500)
    with pytest.raises(TimeoutError):
        wire.ask(packed("GET", "a"))
    operator.client_unpause()
    assert wire.ask(packed("GET", "b")) == b"2"


def test_threads_get_their_own_answers(wire: Wire) -> None:
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda number: wire.ask(packed("ECHO", number)), range(2_000)))
    assert found == [str(number).encode() for number in range(2_000)]


def test_a_fork_has_connections_of_its_own(wire: Wire) -> None:
    number = wire.ask(packed("CLIENT", "ID"))
    read, write = os.pipe()
    if (child := os.fork()) == 0:
        os.write(write, b"%d" % wire.ask(packed("CLIENT", "ID")))
        os._exit(0)
    os.waitpid(child, 0)
    assert int(os.read(read, 20)) != number
    assert wire.ask(packed("CLIENT", "ID")) == number
    for end in (read, write):
        os.close(end)


def test_rows_are_written_although_redis_lost_the_script_and_the_connections(
    operator: redis.Redis, redis_server: str,
) -> None:
    store = FeatureStore.open(Settings(redis_url=redis_server), clock_ns=lambda: START_NS + 300 * SECOND_NS)
    symbols = [f"R{i}USDT" for i in range(250)]
    for second in (1, 2):
        operator.script_flush()
        cut_all(operator)
        assert store.write([made_write(second, symbol) for symbol in symbols]) == len(symbols)
        assert store.write([made_write(0, symbol) for symbol in symbols]) == 0
    assert store.versions(symbols) == dict.fromkeys(symbols, (made_write(2).row.ts_event, made_write(2).row.created))


def test_what_cannot_be_served_now_is_unavailable_and_a_wrong_command_is_not() -> None:
    for answer in (ResponseError("MISCONF Errors writing to the AOF file: No space left on device"),
                   ResponseError("NOREPLICAS Not enough good replicas to write."), MasterDownError("Link is down")):
        with pytest.raises(StoreUnavailable, match="expected"), available("redis://somewhere:1/0"):
            raise answer
    with pytest.raises(ResponseError, match="unknown command"), available("redis://somewhere:1/0"):
        raise ResponseError("unknown command")


def test_a_primary_that_became_a_replica_is_left(operator: redis.Redis, wire: Wire) -> None:
    assert wire.ask(packed("SET", "a", "1")) == b"OK"
    first = {client["id"] for client in operator.client_list()}
    operator.execute_command("REPLICAOF", "127.0.0.1", "1")
    try:
        with pytest.raises(ReadOnlyError):
            wire.ask(packed("SET", "a", "2"))
    finally:
        operator.execute_command("REPLICAOF", "NO", "ONE")
    assert wire.ask(packed("SET", "a", "3")) == b"OK"
    assert {client["id"] for client in operator.client_list()} - first, "another connection"
