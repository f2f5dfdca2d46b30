"""LiveSocket: the `/live` WebSocket; who may open it, how much may come in, how fast it goes out.

A browser sends its page's `Origin`, which must be one we serve; without one the peer must be on this machine (a
script, not a page). The socket is one way: inbound messages are only counted and limited. `Budget` keeps a
client to `BYTES_PER_S` after its snapshot; what waits meanwhile is coalesced in its outbox.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable
from contextlib import suppress

from starlette.responses import JSONResponse
from starlette.websockets import WebSocket, WebSocketDisconnect

from bentos.live import Hub, NotFollowed, Outbox, TooManyClients
from feature_repo.settings import Settings

LOOPBACK_HOSTS = frozenset({"127.0.0.1", "::1", "localhost"})
MAX_INBOUND_BYTES, MAX_INBOUND_PER_S = 1_024, 5
BYTES_PER_S = 100_000
SEND_TIMEOUT_S = 30.0
"""A client that takes nothing for so long is gone."""
TOO_BIG, POLICY, GOING_AWAY = 1009, 1008, 1001


def allowed_origins(settings: Settings) -> frozenset[str]:
    """The page's own origins and those of the settings, lower case, without a trailing slash."""
    page = [f"http://{host}:{settings.ports.frontend}" for host in ("localhost", "127.0.0.1")]
    return frozenset(origin.rstrip("/").lower() for origin in (*page, *settings.allowed_origins))


def origin_objection(origin: str | None, peer: str | None, allowed: Iterable[str]) -> str | None:
    """Why a socket may not be opened, or None.

    >>> origin_objection("http://localhost:13000", "10.0.0.9", {"http://localhost:13000"})
    >>> origin_objection("https://evil.example", "127.0.0.1", {"http://localhost:13000"})
    'origin https://evil.example is not allowed'
    """
    if origin is None:
        return None if peer in LOOPBACK_HOSTS else "an Origin header is expected from another machine"
    return None if origin.rstrip("/").lower() in allowed else f"origin {origin} is not allowed"


class Budget:
    """A token bucket of bytes: one second's worth may go out at once."""

    def __init__(self, bytes_per_s: float, now_s: float) -> None:
        self._rate = self._left = bytes_per_s
        self._at_s = now_s

    def spend(self, size: int, now_s: float) -> float:
        """Take `size` bytes; returns how many seconds to wait before the next."""
        self._left = min(self._rate, self._left + (now_s - self._at_s) * self._rate) - size
        self._at_s = now_s
        return max(0.0, -self._left / self._rate)


class InboundLimit:
    """At most `MAX_INBOUND_PER_S` messages in any second, each of at most `MAX_INBOUND_BYTES`."""

    def __init__(self) -> None:
        self._times_s: list[float] = []

    def objection(self, size: int, now_s: float) -> int | None:
        """The close code for a message that breaks a limit, or None."""
        self._times_s = [at for at in self._times_s if now_s - at < 1.0] + [now_s]
        if size > MAX_INBOUND_BYTES:
            return TOO_BIG
        return POLICY if len(self._times_s) > MAX_INBOUND_PER_S else None


async def serve_live(
    websocket: WebSocket, hub: Hub, origins: frozenset[str], monotonic_s: Callable[[], float] = time.monotonic,
) -> None:
    """One client from handshake to goodbye."""
    symbol = websocket.query_params.get("symbol") or next(iter(hub.states))
    peer = websocket.client.host if websocket.client else None
    if objection := origin_objection(websocket.headers.get("origin"), peer, origins):
        return await _refuse(websocket, 403, objection)
    if symbol not in hub.states:
        return await _refuse(websocket, 404, f"symbol: expected one of {', '.join(hub.states)}; found {symbol[:40]!r}")
    try:
        outbox = hub.join(symbol)
    except TooManyClients as error:
        return await _refuse(websocket, 503, str(error))
    try:
        await websocket.accept()
        await _converse(websocket, outbox, monotonic_s)
    finally:
        hub.leave(symbol, outbox)


async def _refuse(websocket: WebSocket, status: int, reason: str) -> None:
    await websocket.send_denial_response(JSONResponse({"error": reason}, status_code=status))


async def _converse(websocket: WebSocket, outbox: Outbox, monotonic_s: Callable[[], float]) -> None:
    """Send and listen until either ends."""
    tasks = {
        asyncio.create_task(_send(websocket, outbox, monotonic_s)),
        asyncio.create_task(_listen(websocket, monotonic_s)),
    }
    done, rest = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    for task in rest:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task
    for task in done:
        with suppress(WebSocketDisconnect, TimeoutError, ConnectionError):
            try:
                task.result()
            except NotFollowed:
                await websocket.close(GOING_AWAY, "the symbol is followed no longer")


async def _send(websocket: WebSocket, outbox: Outbox, monotonic_s: Callable[[], float]) -> None:
    budget = Budget(BYTES_PER_S, monotonic_s())
    is_snapshot = True
    while True:
        for text in await outbox.get():
            async with asyncio.timeout(SEND_TIMEOUT_S):
                await websocket.send_text(text)
            pause_s = 0.0 if is_snapshot else budget.spend(len(text), monotonic_s())
            is_snapshot = False
            if pause_s:
                await asyncio.sleep(pause_s)


async def _listen(websocket: WebSocket, monotonic_s: Callable[[], float]) -> None:
    """Read and forget; close the socket of a client that says too much."""
    limit = InboundLimit()
    while True:
        message = await websocket.receive()
        if message["type"] == "websocket.disconnect":
            return
        size = len(message.get("text") or message.get("bytes") or "")
        if code := limit.objection(size, monotonic_s()):
            await websocket.close(code)
            return
