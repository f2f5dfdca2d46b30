"""Callers who ask at the same time share one call, its answer and its error, and do not depend on one another."""

from __future__ import annotations

import asyncio

import pytest

from bentos.shared_call import SharedCall


class Counter:
    """A call that answers with its number when told to."""

    def __init__(self) -> None:
        self.calls = 0
        self.go = asyncio.Event()
        self.error: Exception | None = None

    async def __call__(self, key: str) -> str:
        self.calls += 1
        number = self.calls
        await self.go.wait()
        if self.error:
            raise self.error
        return f"{key} {number}"


async def test_those_who_ask_at_once_share_one_call() -> None:
    counter = Counter()
    shared = SharedCall(counter)
    asked = [asyncio.create_task(shared("a")) for _ in range(8)] + [asyncio.create_task(shared("b"))]
    await asyncio.sleep(0)
    counter.go.set()
    assert await asyncio.gather(*asked) == ["a 1"] * 8 + ["b 2"]


async def test_who_asks_later_gets_a_new_answer() -> None:
    counter = Counter()
    counter.go.set()
    shared = SharedCall(counter)
    assert [await shared("a"), await shared("a")] == ["a 1", "a 2"]


async def test_an_error_is_everybodys() -> None:
    counter = Counter()
    counter.error = LookupError("gone")
    shared = SharedCall(counter)
    asked = [asyncio.create_task(shared("a")) for _ in range(3)]
    await asyncio.sleep(0)
    counter.go.set()
    found = await asyncio.gather(*asked, return_exceptions=True)
    assert [type(error) for error in found] == [LookupError] * 3
    assert counter.calls == 1


async def test_when_the_first_goes_away_the_others_ask_anew() -> None:
    counter = Counter()
    shared = SharedCall(counter)
    first, *others = [asyncio.create_task(shared("a")) for _ in range(3)]
    await asyncio.sleep(0)
    first.cancel()
    for _ in range(3):
        await asyncio.sleep(0)
    counter.go.set()
    assert await asyncio.gather(*others) == ["a 2", "a 2"]
    with pytest.raises(asyncio.CancelledError):
        await first


async def test_a_waiter_that_goes_away_harms_nobody() -> None:
    counter = Counter()
    shared = SharedCall(counter)
    first, second, third = [asyncio.create_task(shared("a")) for _ in range(3)]
    await asyncio.sleep(0)
    second.cancel()
    await asyncio.sleep(0)
    counter.go.set()
    assert await asyncio.gather(first, third) == ["a 1", "a 1"]
