"""Routes: HTTP and WebSocket in front of one `Serving`; nothing here knows BentoML.

    POST /predict   GET /latest?symbol=   GET /market   GET /symbols   WS /live?symbol=
    GET /readyz /healthz /livez /metrics /openapi.json /noop

Errors are JSON `{"error": "expected …, found …", "detail": […]}`: 400 what cannot be understood, 404 a symbol
that is not followed, 413 a body over `MAX_BODY_BYTES`, 503 not ready.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from pydantic import ValidationError
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route, WebSocketRoute
from starlette.types import Receive, Scope, Send
from starlette.websockets import WebSocket

from bentos.live_socket import serve_live
from bentos.metrics import CONTENT_TYPE
from bentos.openapi import openapi_document
from bentos.serving import Serving
from feature_repo.contracts import PredictRequest

MAX_BODY_BYTES = 16 * 1024
JSON = "application/json"
Handler = Callable[[Request], Awaitable[Response]]


class BodyTooLarge(ValueError):
    """More than `MAX_BODY_BYTES`."""


def serving(request: Request | WebSocket) -> Serving:
    """The one object behind the routes; set when the service starts."""
    found = request.app.state.serving
    assert isinstance(found, Serving), "the service has started"
    return found


def measured(route: str, handler: Handler) -> Handler:
    """The handler, counted and timed under its own route's name."""

    async def handle(request: Request) -> Response:
        started, status = time.perf_counter(), 500  # what Starlette answers for a mistake of ours
        try:
            response = await handler(request)
            status = response.status_code
            return response
        finally:
            serving(request).metrics.answered(route, status, time.perf_counter() - started)

    return handle


async def predict(request: Request) -> Response:
    """`POST /predict`: PredictRequest in, Prediction out."""
    try:
        wanted = PredictRequest.model_validate_json(await _body(request))
        if refusal := _unknown_symbol(request, wanted.symbol):
            return refusal
        return Response(await serving(request).answers.requested(wanted), media_type=JSON)
    except BodyTooLarge as error:
        return _error(413, str(error))
    except ValidationError as error:
        detail = error.errors(include_url=False, include_context=False, include_input=False)
        return _error(400, f"expected a PredictRequest, found {error.error_count()} error(s)", detail)
    except ValueError as error:
        return _error(400, str(error))


@dataclass(frozen=True)
class Bare:
    """A handler as an ASGI application of its own, without the exit stacks that Starlette puts around a function."""

    handler: Handler

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        response = await self.handler(Request(scope, receive, send))
        await response(scope, receive, send)


async def latest(request: Request) -> Response:
    """`GET /latest`: the last published prediction while it is fresh, else one made now."""
    symbol = request.query_params.get("symbol") or serving(request).symbols[0]
    if refusal := _unknown_symbol(request, symbol):
        return refusal
    return Response(await serving(request).latest(symbol), media_type=JSON)


async def symbols(request: Request) -> Response:
    """`GET /symbols`: the followed instruments and their state."""
    return Response((await serving(request).listed()).model_dump_json(), media_type=JSON)


async def readyz(request: Request) -> Response:
    """`GET /readyz`, `/healthz`: 200, or 503 with the reasons."""
    report = await serving(request).report()
    return JSONResponse(report, status_code=200 if report["ready"] else 503)


async def livez(_: Request) -> Response:
    return JSONResponse({"alive": True})


async def market(request: Request) -> Response:
    """`GET /market`: the table of all followed symbols."""
    return Response(serving(request).market().model_dump_json(), media_type=JSON)


async def noop(_: Request) -> Response:
    """What a route costs here; the benchmark's yardstick."""
    return Response(b"{}", media_type=JSON)


async def metrics(request: Request) -> Response:
    return Response(serving(request).metrics_text(), media_type=CONTENT_TYPE)


async def openapi(_: Request) -> Response:
    return JSONResponse(openapi_document())


async def live(websocket: WebSocket) -> None:
    """`WS /live`: a LiveSnapshot, then LiveUpdates."""
    here = serving(websocket)
    await serve_live(websocket, here.hub, here.origins)


def application() -> Starlette:
    """The routes. `app.state.serving` must be set before the first request."""
    return Starlette(routes=[
        Route("/predict", Bare(measured("/predict", predict)), methods=["POST"]),
        Route("/noop", noop, methods=["GET", "POST"]),
        Route("/latest", measured("/latest", latest), methods=["GET"]),
        Route("/market", measured("/market", market), methods=["GET"]),
        Route("/symbols", measured("/symbols", symbols), methods=["GET"]),
        Route("/readyz", readyz), Route("/healthz", readyz), Route("/livez", livez),
        Route("/metrics", metrics), Route("/openapi.json", openapi),
        WebSocketRoute("/live", live),
    ])


async def _body(request: Request) -> bytes:
    """The body, read no further than the limit."""
    body, is_more = b"", True
    while is_more:
        message = await request.receive()
        body += message.get("body", b"")
        is_more = message.get("more_body", False)
        if len(body) > MAX_BODY_BYTES:
            raise BodyTooLarge(f"body: expected at most {MAX_BODY_BYTES} bytes")
    return body


def _unknown_symbol(request: Request, symbol: str) -> Response | None:
    followed = serving(request).symbols
    if symbol in followed:
        return None
    return _error(404, f"symbol: expected one of {', '.join(followed)}; found {symbol[:40]!r}")


def _error(status: int, error: str, detail: object = None) -> Response:
    return JSONResponse({"error": error} | ({"detail": detail} if detail else {}), status_code=status)
