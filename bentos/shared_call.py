"""SharedCall: one call for everybody who asks at the same time.

    version = SharedCall(reader.version)
    await version("BTCUSDT")        # eight requests at once: one look at Redis

The first to ask makes the call itself, so that one who is alone pays for no task; the others wait for its answer
or its error. If the first is cancelled, those who waited ask anew.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Generic, TypeVar

T = TypeVar("T")


class FirstLeft(Exception):
    """The caller who was asking for others was cancelled."""


class SharedCall(Generic[T]):
    """`call`, shared by key. Lives in one event loop."""

    def __init__(self, call: Callable[[str], Awaitable[T]]) -> None:
        self._call = call
        self._waiting: dict[str, list[asyncio.Future[T]]] = {}

    async def __call__(self, key: str) -> T:
        while (waiting := self._waiting.get(key)) is not None:
            place: asyncio.Future[T] = asyncio.get_running_loop().create_future()
            waiting.append(place)
            with suppress(FirstLeft):
                return await place
        return await self._ask(key)

    async def _ask(self, key: str) -> T:
        waiting = self._waiting[key] = []
        failure: Exception = FirstLeft()
        try:
            answer = await self._call(key)
        except Exception as error:
            failure = error
            raise
        else:
            for place in waiting:
                if not place.done():
                    place.set_result(answer)
            return answer
        finally:
            del self._waiting[key]
            for place in waiting:
                if not place.done():
                    place.set_exception(failure)
