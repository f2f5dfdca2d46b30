"""Every request is counted under its route and status, one that ended in a mistake of ours too."""

from __future__ import annotations

from typing import Any

import httpx
import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from bentos.metrics import ServiceMetrics
from bentos.routes import measured
from bentos.serving import Serving


def bare() -> Serving:
    """A Serving with nothing behind it: what is counted needs no store and no broker."""
    return object.__new__(Serving)


async def fine(_: Request) -> Response:
    return Response(b"")


async def mistaken(_: Request) -> Response:
    raise ZeroDivisionError


@pytest.mark.parametrize(("handler", "status"), [(fine, 200), (mistaken, 500)])
async def test_a_request_is_counted_once_with_the_status_that_was_answered(handler: Any, status: int) -> None:
    app, serving, metrics = Starlette(routes=[Route("/x", measured("/x", handler))]), bare(), ServiceMetrics()
    serving.metrics = metrics
    app.state.serving = serving
    transport = httpx.ASGITransport(app=app, raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="http://service") as client:
        assert (await client.get("/x")).status_code == status
    counted = {
        told: metrics.registry.get_sample_value("candlewick_http_requests_total", {"route": "/x", "status": told})
        for told in ("200", "500")
    }
    assert {told for told, count in counted.items() if count} == {str(status)}
    assert counted[str(status)] == 1.0
