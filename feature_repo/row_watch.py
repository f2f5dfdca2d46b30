"""RowWatch: knows when an online row changes, because Redis says so, so that readers need not ask each time.

    watch = RowWatch("redis://127.0.0.1:16379/0", ("BTCUSDT",))
    task = asyncio.create_task(watch.run())
    if not watch.is_unchanged("BTCUSDT"):      # changed, or nobody is telling us
        change = watch.change("BTCUSDT")       # before the read, so that a change during it counts
        row = await reader.read("BTCUSDT")
        watch.has_read("BTCUSDT", change)

Redis' client-side caching (`CLIENT TRACKING … BCAST`, RESP3) pushes one message for each write of a watched key, in
the moment of the write. While the connection is away, or where Redis does not know the command, every row counts as
changed: readers then ask Redis at each request, which is slower and as right.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import Any

import redis.asyncio
import structlog
from redis import exceptions

from feature_repo.redis_client import CONNECT_TIMEOUT_S
from feature_repo.redis_layout import entity_key
from feature_repo.views import ENTITY, PROJECT

RETRY_S = 1.0
log = structlog.get_logger()


class RowWatch:
    """Which symbols' rows have not changed since they were last read. Lives in one event loop."""

    def __init__(self, url: str, symbols: Iterable[str]) -> None:
        self._url = url
        self._symbols = {entity_key(PROJECT, ENTITY, symbol): symbol for symbol in symbols}
        self._changes = dict.fromkeys(self._symbols.values(), 0)
        self._read_at = dict.fromkeys(self._symbols.values(), -1)
        self._is_told = False
        self._anew = asyncio.Event()
        """Set when other symbols are to be watched than those that Redis was asked to tell of."""

    def follow(self, symbols: Iterable[str]) -> None:
        """Watch these symbols from now on: the connection is made anew, and until then every row counts as changed."""
        self._symbols = {entity_key(PROJECT, ENTITY, symbol): symbol for symbol in symbols}
        self._changes = {symbol: self._changes.get(symbol, 0) for symbol in self._symbols.values()}
        self._read_at = {symbol: self._read_at.get(symbol, -1) for symbol in self._symbols.values()}
        self._is_told = False
        self._anew.set()

    def is_unchanged(self, symbol: str) -> bool:
        """Whether what was read last is still what Redis holds; never so of a symbol that is not watched."""
        return self._is_told and self._read_at.get(symbol) == self._changes.get(symbol, 0)

    def change(self, symbol: str) -> int:
        """The number of the newest change known of."""
        return self._changes.get(symbol, 0)

    def has_read(self, symbol: str, change: int) -> None:
        """A read that began at `change` succeeded."""
        if symbol in self._read_at:
            self._read_at[symbol] = max(change, self._read_at[symbol])

    async def run(self) -> None:
        """Listen until cancelled; reconnects for ever."""
        while True:
            self._anew.clear()
            listening = asyncio.create_task(self._listen())
            changing = asyncio.create_task(self._anew.wait())
            try:
                await asyncio.wait({listening, changing}, return_when=asyncio.FIRST_COMPLETED)
                if listening.done():
                    listening.result()
            except (exceptions.RedisError, OSError) as error:
                log.info("row watch away", error=f"{type(error).__name__}: {error}")
            finally:
                self._is_told = False
                for task in (listening, changing):
                    task.cancel()
                await asyncio.gather(listening, changing, return_exceptions=True)
            if not self._anew.is_set():
                await asyncio.sleep(RETRY_S)

    async def _listen(self) -> None:
        client = redis.asyncio.Redis.from_url(
            self._url, protocol=3, socket_connect_timeout=CONNECT_TIMEOUT_S, socket_timeout=None, socket_keepalive=True,
        )
        connection: Any = client.connection_pool.make_connection()  # type: ignore[no-untyped-call]
        try:
            await connection.connect()
            # redis-py hands these messages out by its parser only.
            connection._parser.set_invalidation_push_handler(self._pushed)  # noqa: SLF001
            prefixes = [word for key in self._symbols for word in ("PREFIX", key)]
            await connection.send_command("CLIENT", "TRACKING", "ON", "BCAST", *prefixes)
            await connection.read_response()
            self._missed_everything()
            self._is_told = True
            while True:
                await connection.read_response(push_request=True)
        finally:
            await connection.disconnect()
            await client.aclose()

    async def _pushed(self, message: Any) -> None:
        """`[b"invalidate", keys]`; no keys means that the whole database was emptied."""
        if message[1] is None:
            self._missed_everything()
        for key in message[1] or ():
            if key in self._symbols:
                self._changes[self._symbols[key]] += 1

    def _missed_everything(self) -> None:
        for symbol in self._changes:
            self._changes[symbol] += 1
