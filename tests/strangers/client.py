"""A stranger's client at an exchange: its own order book, told once a second; run by the strangers' Python.

    .run/strangers/bin/python tests/strangers/client.py python-binance http://127.0.0.1:18080 10 BTCUSDT ETHUSDT

Published libraries, unchanged: only the address is given; two for `unicorn-…-futures`, which asks the spot market for
the time: `http://127.0.0.1:18090,http://127.0.0.1:18080`. Each line of output is one book:
`{"symbol", "update_id", "bids": [[price, quantity], …], "asks": …}`, best first, in steps of 1e-8.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections.abc import Callable, Iterable
from decimal import Decimal
from functools import partial
from typing import Any, ClassVar

STEP = Decimal("1e-8")
EVERY_S = 1.0
LEAST_BOOKS = 3
"""However slow the machine is."""
SETTLED_S = 0.02
"""A book that stayed the same for so long is whole: the library changes it in another thread."""
SYNC_TIMEOUT_S = 60.0
Levels = list[list[int]]


def tell(symbol: str, update_id: int, bids: Iterable[Any], asks: Iterable[Any]) -> None:
    """Print one book."""
    line = {"symbol": symbol, "update_id": update_id, "bids": steps(bids), "asks": steps(asks)}
    sys.stdout.write(json.dumps(line) + "\n")
    sys.stdout.flush()


def steps(levels: Iterable[Any]) -> Levels:
    """Prices and quantities in integer steps."""
    return [[round(Decimal(str(value)) / STEP) for value in level] for level in levels]


def python_binance(url: str, symbols: list[str], seconds: float) -> None:
    """python-binance's `DepthCacheManager`, one socket a symbol."""
    from binance import AsyncClient, BinanceSocketManager, DepthCacheManager

    AsyncClient.API_URL = f"{url}/api"
    BinanceSocketManager.STREAM_URL = f"{url.replace('http', 'ws', 1)}/"

    class Client(AsyncClient):  # type: ignore[misc]
        """Remembers which snapshot was the last.

        At a gap the library takes a snapshot, puts the diff that came before it on top and goes on from that diff: its
        book is of no update at all until it has come to that snapshot.
        """

        snapshots: ClassVar[dict[str, int]] = {}

        async def get_order_book(self, **params: Any) -> Any:
            found = await super().get_order_book(**params)
            self.snapshots[params["symbol"]] = found["lastUpdateId"]
            return found

    async def follow(client: Client, symbol: str) -> None:
        manager = DepthCacheManager(client, symbol, limit=5000, conv_type=Decimal, ws_interval=100)
        async with manager:
            told, began, books = time.monotonic(), time.monotonic(), 0
            while time.monotonic() - began < seconds or books < LEAST_BOOKS:
                cache = await manager.recv()
                is_whole = manager._last_update_id >= client.snapshots[symbol]
                if is_whole and time.monotonic() - told >= EVERY_S:
                    told, books = time.monotonic(), books + 1
                    tell(symbol, manager._last_update_id, cache.get_bids(), cache.get_asks())

    async def run() -> None:
        client = await Client.create()
        try:
            info = await client.get_exchange_info()
            missing = set(symbols) - {symbol["symbol"] for symbol in info["symbols"]}
            assert not missing, f"exchangeInfo lacks {missing}"
            for symbol in symbols:
                price, day = await client.get_symbol_ticker(symbol=symbol), await client.get_ticker(symbol=symbol)
                assert Decimal(day["lowPrice"]) <= Decimal(price["price"]) <= Decimal(day["highPrice"])
            await asyncio.gather(*(follow(client, symbol) for symbol in symbols))
        finally:
            await client.close_connection()

    asyncio.run(run())


def unicorn(url: str, symbols: list[str], seconds: float, exchange: str = "binance.com") -> None:
    """unicorn-binance-local-depth-cache: threads of its own, all symbols on one socket."""
    from unicorn_binance_local_depth_cache import BinanceLocalDepthCacheManager
    from unicorn_binance_rest_api import BinanceRestApiManager

    url, _, spot_url = url.partition(",")

    class Rest(BinanceRestApiManager):  # type: ignore[misc]
        """Its constructor writes the address itself and asks the time there."""

        API_URL = property(lambda _: f"{spot_url or url}/api", lambda _, __: None)
        FUTURES_URL = property(lambda _: f"{url}/fapi", lambda _, __: None)

    manager = BinanceLocalDepthCacheManager(
        exchange=exchange, ubra_manager=Rest(exchange=exchange, warn_on_update=False),
        depth_cache_update_interval=100, warn_on_update=False)
    manager.ubwa.websocket_base_uri = f"{url.replace('http', 'ws', 1)}/"
    try:
        manager.create_depthcache(markets=symbols)
        wait(lambda: all(manager.is_depth_cache_synchronized(symbol) for symbol in symbols))
        began, books = time.monotonic(), 0
        while time.monotonic() - began < seconds or books < LEAST_BOOKS:
            time.sleep(EVERY_S)
            books += 1
            for symbol in symbols:
                tell(symbol, *settled(lambda symbol=symbol: (  # type: ignore[misc]
                    manager.depth_caches[symbol.lower()]["last_update_id"],
                    manager.get_bids(symbol), manager.get_asks(symbol))))
    finally:
        manager.stop_manager()


def settled(read: Callable[[], tuple[int, Levels, Levels]]) -> tuple[int, Levels, Levels]:
    """What two readings in a row agree about."""
    before = read()
    while True:
        time.sleep(SETTLED_S)
        now = read()
        if now == before:
            return now
        before = now


def wait(until: Callable[[], bool]) -> None:
    """Look again and again; raises `TimeoutError`."""
    began = time.monotonic()
    while not until():
        if time.monotonic() - began > SYNC_TIMEOUT_S:
            raise TimeoutError(f"no book within {SYNC_TIMEOUT_S:g} s")
        time.sleep(0.05)


CLIENTS: dict[str, Callable[[str, list[str], float], None]] = {
    "python-binance": python_binance, "unicorn-binance-local-depth-cache": unicorn,
    "unicorn-binance-local-depth-cache-futures": partial(unicorn, exchange="binance.com-futures"),
}

if __name__ == "__main__":
    name, address, duration, *names = sys.argv[1:]
    CLIENTS[name](address, names, float(duration))
