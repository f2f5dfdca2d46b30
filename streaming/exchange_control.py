"""Control endpoint of the local exchange: faults declared, listed and cleared, from this machine only.

    curl -H 'Content-Type: application/json' -d '{"fault": "gap", "stream": "depth"}' 127.0.0.1:18080/control/faults
    curl 127.0.0.1:18080/control/faults                 # what is active, and every fault with its parameters
    curl -X DELETE 127.0.0.1:18080/control/faults

It breaks the market on purpose, so beside the loopback address it wants a loopback name in Host (a page of another
site cannot give one) and JSON in the body (a form cannot send that).
"""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from urllib.parse import urlsplit

from aiohttp import web

from streaming.exchange_faults import PARAMETERS, ServerFaults, parse, plain
from streaming.exchange_ws import Streams

PATH = "/control/faults"
OURS = frozenset({"127.0.0.1", "::1", "localhost"})
MOST_BYTES = 4_096
Handler = Callable[[web.Request], Awaitable[web.Response]]


class Control:
    """The control endpoint of one exchange."""

    def __init__(self, streams: Streams, server: ServerFaults) -> None:
        self._streams, self._server = streams, server

    def routes(self) -> list[web.RouteDef]:
        return [
            web.post(PATH, _ours(self._declare)), web.get(PATH, _ours(self._list)),
            web.delete(PATH, _ours(self._clear)),
        ]

    async def _declare(self, request: web.Request) -> web.Response:
        if request.content_type != "application/json":
            return _refused(415, f"Content-Type: expected application/json, found {request.content_type}")
        body = await request.content.read(MOST_BYTES + 1)
        if len(body) > MOST_BYTES:
            return _refused(413, f"body: expected at most {MOST_BYTES} bytes, found more")
        try:
            fault = parse(json.loads(body))
        except (ValueError, RecursionError) as error:
            return _refused(400, str(error))
        hit = self._streams.break_down(fault)
        return web.json_response({"fault": plain(fault), "connections": hit}, status=201)

    async def _list(self, _request: web.Request) -> web.Response:
        return web.json_response({
            "connections": [[plain(fault) for fault in faults] for faults in self._streams.faults()],
            "server": [plain(fault) for fault in self._server.active()],
            "known": {name: sorted(parameters) for name, parameters in sorted(PARAMETERS.items())},
        })

    async def _clear(self, _request: web.Request) -> web.Response:
        self._server.clear()
        self._streams.mend()
        return web.json_response({"cleared": True})


def _ours(handler: Handler) -> Handler:
    async def handle(request: web.Request) -> web.Response:
        name = urlsplit(f"//{request.host}").hostname
        if request.remote not in OURS or name not in OURS:
            return _refused(403, f"expected this machine by its loopback name, found {name} from {request.remote}")
        return await handler(request)

    return handle


def _refused(status: int, message: str) -> web.Response:
    return web.json_response({"error": message}, status=status)

