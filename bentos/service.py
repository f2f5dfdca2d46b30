"""Service: Candlewick under BentoML, on loopback.

    bentoml serve bentos.service:Candlewick --host 127.0.0.1 --port 18300
    python -m bentos.service          # the same application in one process: no supervisor beside the runner's own

Our routes are mounted with `bentoml.asgi_app`; BentoML answers `/livez`, `/readyz` and `/healthz` itself before it
looks at mounted ones, and its `/healthz` never fails, so `TruthfulProbes` hands these paths to ours.
"""

from __future__ import annotations

import signal
import sys
from typing import Any

import bentoml

from bentos.routes import application
from bentos.serving import Serving
from feature_repo.logs import configure
from feature_repo.settings import LOOPBACK, Settings, load_settings

MAX_SOCKET_MESSAGE_BYTES = 4_096
GRACE_S = 5
api = application()


class TruthfulProbes:
    """Answers the probes from our routes, whatever BentoML would say."""

    PATHS = frozenset({"/livez", "/readyz", "/healthz"})

    def __init__(self, app: Any) -> None:
        self._app = app

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        is_probe = scope["type"] == "http" and scope["path"] in self.PATHS
        await (api if is_probe else self._app)(scope, receive, send)


# One worker: measured enough, and each more would follow Kafka again. BentoML's own metrics are off because they
# take every unknown path for a label value; ours are at /metrics. Its spans go nowhere without an exporter and cost
# half of the rate (no-op at c=8: 1,690 against 4,060 a second), so they are off too.
@bentoml.service(
    name="candlewick", workers=1, metrics={"enabled": False}, logging={"access": {"enabled": False}},
    http={"host": LOOPBACK}, traffic={"timeout": 30}, tracing={"excluded_urls": ".*"},
)
@bentoml.asgi_app(api)
class Candlewick:
    """Forecasts from the feature store, and the market as it happens."""

    def __init__(self) -> None:
        settings = load_settings()
        configure("service", settings.log_level)
        api.state.serving = Serving.open(settings)

    @bentoml.on_startup  # type: ignore[untyped-decorator]
    async def start(self) -> None:
        await api.state.serving.start()

    @bentoml.on_shutdown  # type: ignore[untyped-decorator]
    async def stop(self) -> None:
        await api.state.serving.stop()


service: Any = Candlewick  # BentoML's decorator makes a Service of the class, which its types do not say
service.add_asgi_middleware(TruthfulProbes)


def main(settings: Settings) -> None:
    """Serve in this process until SIGTERM."""
    import uvicorn

    config = uvicorn.Config(
        service.to_asgi(is_main=True), host=LOOPBACK, port=settings.ports.service, log_config=None,
        access_log=False, server_header=False, ws_max_size=MAX_SOCKET_MESSAGE_BYTES, ws_per_message_deflate=False,
        timeout_graceful_shutdown=GRACE_S,
    )
    # uvicorn stops gracefully and then raises the signal again: a stop that was asked for is no failure.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    uvicorn.Server(config).run()


if __name__ == "__main__":
    main(load_settings())
