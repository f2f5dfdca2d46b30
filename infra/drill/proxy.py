"""Proxy: a TCP proxy on loopback that holds back each request of a client, so that its server seems slow.

    with slow_proxy(port_of_redis) as proxy:
        proxy.delay_s = 0.5                      # from now on every request is answered half a second later
        connect(f"redis://127.0.0.1:{proxy.port}/0")

A request is what a client sends from the server's last word to its next, however many packets it is: held back once.
It reads on only when what it read is on its way: a slow server's sockets fill up, as they would.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from feature_repo.settings import LOOPBACK

CHUNK = 1 << 20
CLOSED = (ConnectionError, asyncio.IncompleteReadError, TimeoutError, OSError)


class SlowProxy:
    """Forwards connections to a loopback port. `delay_s` may be changed at any time, from any thread.

    `held_back` counts requests.
    """

    def __init__(self, target: int) -> None:
        self.target, self.port, self.delay_s = target, 0, 0.0
        self.held_back = 0
        self._ready = threading.Event()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_until_complete, args=(self._serve(),), name="slow-proxy")
        self._stop: asyncio.Event | None = None

    def start(self) -> None:
        """Listen on a free port; returns when clients may come."""
        self._thread.start()
        self._ready.wait()

    def stop(self) -> None:
        """Close every connection and the port."""
        assert self._stop is not None, "started first"
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join()
        self._loop.close()

    async def _serve(self) -> None:
        self._stop, clients = asyncio.Event(), set[asyncio.Task[None]]()

        def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            clients.add(task := asyncio.create_task(self._forward(reader, writer)))
            task.add_done_callback(clients.discard)

        server = await asyncio.start_server(accept, LOOPBACK, 0, limit=CHUNK)
        self.port = server.sockets[0].getsockname()[1]
        self._ready.set()
        await self._stop.wait()
        server.close()
        for task in clients:
            task.cancel()
        await asyncio.gather(*clients, return_exceptions=True)

    async def _forward(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One client until either side ends."""
        writers = [writer]
        try:
            back, forth = await asyncio.open_connection(LOOPBACK, self.target)
            writers.append(forth)
            asked = asyncio.Event()
            pumps = [asyncio.create_task(self._ask(reader, forth, asked)),
                     asyncio.create_task(self._answer(back, writer, asked))]
            try:
                await asyncio.wait(pumps, return_when=asyncio.FIRST_COMPLETED)
            finally:
                for pump in pumps:
                    pump.cancel()
                await asyncio.gather(*pumps, return_exceptions=True)
        except CLOSED:
            return  # the server is away: the client sees a closed connection, as it would without us
        finally:
            for one in writers:
                one.close()
                with contextlib.suppress(*CLOSED):
                    await one.wait_closed()

    async def _ask(self, client: asyncio.StreamReader, server: asyncio.StreamWriter, asked: asyncio.Event) -> None:
        with contextlib.suppress(*CLOSED):
            while chunk := await client.read(CHUNK):
                if self.delay_s and not asked.is_set():
                    self.held_back += 1
                    await asyncio.sleep(self.delay_s)
                asked.set()
                server.write(chunk)
                await server.drain()

    async def _answer(self, server: asyncio.StreamReader, client: asyncio.StreamWriter, asked: asyncio.Event) -> None:
        with contextlib.suppress(*CLOSED):
            while chunk := await server.read(CHUNK):
                asked.clear()
                client.write(chunk)
                await client.drain()


@contextmanager
def slow_proxy(target: int) -> Iterator[SlowProxy]:
    """A proxy to a loopback port until the block ends; without a delay at first."""
    proxy = SlowProxy(target)
    proxy.start()
    try:
        yield proxy
    finally:
        proxy.stop()
