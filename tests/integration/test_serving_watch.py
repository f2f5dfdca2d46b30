"""Redis tells the watch of a write in its moment, and a watch that hears nothing trusts nothing."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import suppress
from dataclasses import replace

import pytest

from feature_repo.contracts import SECOND_NS
from feature_repo.row_watch import RowWatch
from feature_repo.settings import load_settings
from feature_repo.store import FeatureStore
from tests.bentos.made import CONTEXT, MINUTE, made_row, made_write

pytestmark = pytest.mark.integration


@pytest.fixture
def store(redis_server: str) -> FeatureStore:
    return FeatureStore.open(replace(load_settings({}), redis_url=redis_server))


@pytest.fixture
async def watch(redis_server: str) -> AsyncIterator[RowWatch]:
    made = RowWatch(redis_server, ("BTCUSDT", "ETHUSDT"))
    task = asyncio.create_task(made.run())
    await until_unchanged(made)
    yield made
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task


async def until_unchanged(watch: RowWatch) -> None:
    """Read until the watch listens and agrees."""
    async with asyncio.timeout(5):
        while not (watch.is_unchanged("BTCUSDT") and watch.is_unchanged("ETHUSDT")):
            for symbol in ("BTCUSDT", "ETHUSDT"):
                watch.has_read(symbol, watch.change(symbol))
            await asyncio.sleep(0.01)


async def until_changed(watch: RowWatch, symbol: str = "BTCUSDT") -> None:
    async with asyncio.timeout(5):
        while watch.is_unchanged(symbol):  # noqa: ASYNC110  another process changes it
            await asyncio.sleep(0.005)


async def test_a_write_is_told_to_its_own_symbol_only(watch: RowWatch, store: FeatureStore) -> None:
    store.write([made_write(made_row())])
    await until_changed(watch)
    assert watch.is_unchanged("ETHUSDT")


async def test_a_row_that_is_no_news_is_not_told(watch: RowWatch, store: FeatureStore) -> None:
    store.write([made_write(made_row())])
    await until_changed(watch)
    await until_unchanged(watch)
    store.write([made_write(made_row(MINUTE - SECOND_NS))])
    await asyncio.sleep(0.2)
    assert watch.is_unchanged("BTCUSDT")


async def test_a_write_during_a_read_is_not_missed(watch: RowWatch, store: FeatureStore) -> None:
    change = watch.change("BTCUSDT")
    store.write([made_write(made_row())])
    await until_changed(watch)
    watch.has_read("BTCUSDT", change)
    assert not watch.is_unchanged("BTCUSDT")


async def test_the_context_and_an_emptied_store_are_changes_too(watch: RowWatch, store: FeatureStore) -> None:
    store.write_context("BTCUSDT", CONTEXT, MINUTE, MINUTE)
    await until_changed(watch)
    await until_unchanged(watch)
    store.client.flushall()
    await until_changed(watch)


async def test_a_cut_connection_means_that_everything_may_have_changed(watch: RowWatch, store: FeatureStore) -> None:
    store.client.execute_command("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
    await until_changed(watch)
    await until_unchanged(watch)
    store.write([made_write(made_row())])
    await until_changed(watch)


async def test_other_symbols_are_watched_from_the_moment_they_are_followed(
    watch: RowWatch, store: FeatureStore,
) -> None:
    watch.follow(("BTCUSDT", "SOLUSDT"))
    async with asyncio.timeout(5):
        while not watch.is_unchanged("SOLUSDT"):
            watch.has_read("SOLUSDT", watch.change("SOLUSDT"))
            await asyncio.sleep(0.01)
    store.write([made_write(made_row().model_copy(update={"symbol": "SOLUSDT"}))])
    await until_changed(watch, "SOLUSDT")
    assert not watch.is_unchanged("ETHUSDT")


async def test_where_redis_is_away_nothing_is_trusted() -> None:
    watch = RowWatch("redis://127.0.0.1:1/0", ("BTCUSDT",))
    task = asyncio.create_task(watch.run())
    await asyncio.sleep(0.1)
    watch.has_read("BTCUSDT", watch.change("BTCUSDT"))
    assert not watch.is_unchanged("BTCUSDT")
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
