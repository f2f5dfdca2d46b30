"""Health: `/healthz` and `/metrics` of a process, on one loopback port, in a thread of their own.

    server = serve("127.0.0.1", 18103, lambda: {})      # {} is healthy; else reason → detail, answered with 503
    server.shutdown()

`notes` are told beside: name → what a person should know of a process that is well.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from prometheus_client import CONTENT_TYPE_LATEST, REGISTRY, CollectorRegistry, generate_latest

Reasons = Callable[[], Mapping[str, str]]


def serve(
    host: str, port: int, reasons: Reasons, registry: CollectorRegistry = REGISTRY, notes: Reasons = dict,
) -> ThreadingHTTPServer:
    """Start answering; the caller ends it with `shutdown()`. Raises `OSError` when the port is taken."""
    server = ThreadingHTTPServer((host, port), _handler(reasons, registry, notes))
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, name="health", daemon=True).start()
    return server


def _handler(reasons: Reasons, registry: CollectorRegistry, notes: Reasons) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            if self.path == "/metrics":
                self._answer(200, CONTENT_TYPE_LATEST, generate_latest(registry))
            elif self.path in ("/healthz", "/livez", "/readyz"):
                found = {} if self.path == "/livez" else dict(reasons())
                body = {"status": "unhealthy" if found else "ok", "reasons": found, "notes": dict(notes())}
                self._answer(503 if found else 200, "application/json", json.dumps(body).encode())
            else:
                self._answer(404, "text/plain; charset=utf-8", b"expected /healthz or /metrics\n")

        def _answer(self, status: int, kind: str, body: bytes) -> None:
            self.send_response(status)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the name is the base class's
            """A line for each scrape is no news."""

    return Handler
