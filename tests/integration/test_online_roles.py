"""Who may write to the online store: one user, and everyone else on the machine reads."""

from __future__ import annotations

import asyncio
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest
import redis
from feast.infra.online_stores.redis import RedisOnlineStore, RedisOnlineStoreConfig

from bentos.lease import Lease
from feature_repo.contracts import StoreUnavailable
from feature_repo.newest_wins.roles import reader, writer
from feature_repo.row_watch import RowWatch
from feature_repo.settings import WRITER, Settings
from feature_repo.store import FeatureStore
from infra.stack.redis import command, program
from tests.feature_repo.made_rows import CONTEXT, START_NS, made_write
from tests.integration.anyones_store import There, key, view
from tests.integration.conftest import await_redis, free_port
from tests.integration.streaming_stack import until as await_answer

pytestmark = pytest.mark.integration
SECRET = "s3cret"  # noqa: S105  of a server that lives as long as its test
FORBIDDEN = (
    ("SET", "k", "v"), ("HSET", "k", "f", "v"), ("DEL", "k"), ("FLUSHALL",), ("EVAL", "return 1", "0"),
    ("EVALSHA", "0" * 40, "0"), ("SCRIPT", "FLUSH"), ("CONFIG", "GET", "*"), ("ACL", "LIST"), ("SHUTDOWN", "NOSAVE"),
    ("KEYS", "*"), ("FUNCTION", "LIST"), ("EXPIRE", "k", "1"), ("RENAME", "k", "l"), ("CLIENT", "KILL", "ID", "1"),
)
FOR_NOBODY = tuple(words for words in FORBIDDEN if words[0] not in {"SET", "HSET", "DEL", "EVAL", "EVALSHA", "EXPIRE"})


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
