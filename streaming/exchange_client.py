"""Client: one WebSocket connection of the local exchange: what it wants, how far it is served, how it is broken.

    client = Client(ws, lap, transport, Subscriptions(combined=True))
    client.break_down(parse({"fault": "reset"}), now_s)
"""

from __future__ import annotations

import asyncio
import json
import socket
import struct
from collections import deque
from collections.abc import Callable, Coroutine, Mapping
from dataclasses import dataclass, field
from typing import Any

import structlog
from aiohttp import WSCloseCode, WSMsgType, web

from streaming.exchange_clock import Lap
from streaming.exchange_faults import LASTING, ConnectionFaults, Fault
from streaming.exchange_mutations import Payload
from streaming.exchange_requests import Subscriptions

log = structlog.get_logger()

INBOUND_PER_SECOND = 5
# The venue announces a shutdown some minutes ahead.
SHUTDOWN_S = 600.0
RST_AT_CLOSE = struct.pack("ii", 1, 0)


@dataclass(eq=False)
class Client:
    """One connection."""

    ws: web.WebSocketResponse
    lap: Lap
    transport: asyncio.Transport
    wanted: Subscriptions
    faults: ConnectionFaults = field(default_factory=ConnectionFaults)
    position: int = 0
    sent: int = 0
    sending: bool = False
    ponged_at: float = 0.0
    inbound: deque[float] = field(default_factory=lambda: deque(maxlen=INBOUND_PER_SECOND))
    tasks: list[asyncio.Task[None]] = field(default_factory=list)
    playing: bool = False
    silent: bool = False
    """Connected to a route of which the venue acknowledges everything and sends nothing."""
    farewell: asyncio.Task[None] | None = None
    muted: bool = False
    """Half-open: nothing is read and nothing is sent, but the connection stays."""

    async def send(self, payload: Payload) -> None:
        """Send a text frame; bytes go out as text though they need not be."""
        if isinstance(payload, str):
            await self.ws.send_str(payload)
        else:
            await self.ws.send_frame(payload, WSMsgType.TEXT)

    async def close(self, code: int, reason: str) -> None:
        """Say goodbye; a half-open connection is dropped without a word."""
        log.info("client_closed", reason=reason, session=self.lap.session, sent=self.sent)
        if self.muted:
            self.transport.abort()
        else:
            await self.ws.close(code=code, message=reason.encode())

    def break_down(self, fault: Fault, now_s: float) -> None:
        """Begin a fault of this connection."""
        if fault.fault in LASTING:
            self.faults.add(fault, now_s)
        if fault.fault in DEEDS:
            self.tasks.append(asyncio.create_task(DEEDS[fault.fault](self, fault)))

    def mend(self) -> None:
        """End every fault that lasts."""
        self.faults.clear()
        self._speak()

    async def half_open(self, fault: Fault) -> None:
        self.muted = True
        self.transport.pause_reading()
        if fault.seconds is not None:
            await asyncio.sleep(fault.seconds)
            self._speak()

    def _speak(self) -> None:
        if self.muted:
            self.muted = False
            self.transport.resume_reading()

    async def reset(self, _fault: Fault) -> None:
        """End the connection by RST, without a word."""
        self.transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RST_AT_CLOSE)
        self.transport.abort()

    async def cut(self, _fault: Fault) -> None:
        """What the venue does to a connection of 24 hours."""
        await self.close(WSCloseCode.GOING_AWAY, "24 hours")

    async def shut_down(self, fault: Fault) -> None:
        """Announce the shutdown, then go."""
        now_ms = self.lap.sent_ns(self.position) // 1_000_000
        await self.ws.send_str(json.dumps({"e": "serverShutdown", "E": now_ms}, separators=(",", ":")))
        await asyncio.sleep(fault.seconds or SHUTDOWN_S)
        await self.close(WSCloseCode.SERVICE_RESTART, "server shutdown")


DEEDS: Mapping[str, Callable[[Client, Fault], Coroutine[Any, Any, None]]] = {
    "half_open": Client.half_open, "reset": Client.reset, "cut": Client.cut, "server_shutdown": Client.shut_down,
}
"""What is done at once to a connection that is broken."""
