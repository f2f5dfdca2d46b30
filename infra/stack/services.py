"""Services: the one table of what runs on this machine, in which order and on which port.

    >>> from feature_repo.settings import load_settings
    >>> [s.name for s in table(load_settings({}), "recording", on_path=lambda _: None)][:4]
    ['redis', 'kafka', 'topics', 'exchange']

Ports come from the settings. Everything listens on the loopback address only.
"""

from __future__ import annotations

import shutil
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

from feature_repo.settings import LOOPBACK, ROOT, Settings
from infra.stack.probes import Probe
from infra.stack.service import Service
from infra.stack.venue import Source

TELEMETRY_OFF = {
    "BENTOML_DO_NOT_TRACK": "True", "MLFLOW_DISABLE_TELEMETRY": "true", "DO_NOT_TRACK": "1",
    "NEXT_TELEMETRY_DISABLED": "1", "FEAST_USAGE": "False",
}
Which = Callable[[str], str | None]


def table(
    settings: Settings, source: Source, anchor_ns: int | None = None, on_path: Which = shutil.which
) -> tuple[Service, ...]:
    """Every service of the stack fed by `source`.

    The local exchange runs only when no venue is in reach; its looping began at wall time `anchor_ns`, so that
    a restarted one goes on where it would have been.
    """
    venue = () if source == "live" else (_exchange(settings, source, anchor_ns),)
    watch = (_prometheus(settings),) if on_path("prometheus") else ()
    stream = (*venue, *_stream(settings, source))
    return (*_core(settings), *stream, *_serve(settings), *_page(settings), _monitoring(settings), *watch, _extras())


def environment(settings: Settings, source: Source) -> dict[str, str]:
    """What every child finds in its environment: the settings of this stack, quiet libraries, small arenas."""
    # glibc gives each thread its own heap arena, which in Spark and Next costs hundreds of megabytes.
    env = {**TELEMETRY_OFF, "PYTHONUNBUFFERED": "1", "MALLOC_ARENA_MAX": "2"}
    env["CANDLEWICK_RUN_DIR"] = str(settings.run_dir)
    if source != "live":
        local = f"{LOOPBACK}:{settings.ports.exchange}"
        env |= {"CANDLEWICK_VENUE_WS": f"ws://{local}", "CANDLEWICK_VENUE_REST": f"http://{local}",
                "CANDLEWICK_VENUE_USDM_REST": f"http://{local}"}
    return env


def page(settings: Settings) -> str:
    """The address a person opens."""
    return f"http://localhost:{settings.ports.frontend}"


def ports(services: tuple[Service, ...]) -> Mapping[str, int]:
    """Service → port, of those that listen."""
    return {service.name: service.port for service in services if service.port}


def _python(module: str, *arguments: str) -> tuple[str, ...]:
    return (sys.executable, "-m", module, *arguments)


def _http(port: int) -> str:
    return f"http://{LOOPBACK}:{port}"


def _core(settings: Settings) -> tuple[Service, ...]:
    at = settings.ports
    return (
        Service(
            "redis", _python("infra.stack.launch", "redis"), at.redis, Probe("redis", at.redis),
            address=settings.redis, ready_within_s=60,
        ),
        Service(
            "kafka", _python("infra.stack.launch", "kafka"), at.kafka, Probe("kafka", at.kafka),
            address=settings.kafka, grace_s=20,
        ),
        Service("topics", (sys.executable, "candlewick.py", "topics"), depends_on=("kafka",), once=True),
    )


def _exchange(settings: Settings, source: Source, anchor_ns: int | None) -> Service:
    port = settings.ports.exchange
    played = ("--simulate",) if source == "simulated" else ()
    anchor = ("--anchor", str(anchor_ns)) if anchor_ns is not None else ()
    return Service(
        "exchange", _python("streaming.exchange", *played, *anchor), port, Probe("http", port, "/api/v3/time"),
        group="stream", address=_http(port),
    )


def _stream(settings: Settings, source: Source) -> tuple[Service, ...]:
    at = settings.ports
    market = () if source == "live" else ("exchange",)
    return (
        Service(
            "ingest", _python("streaming.ingest"), at.ingest, Probe("http", at.ingest), ("topics", *market), "stream",
            address=_http(at.ingest),
        ),
        Service(
            "streaming", _python("streaming.job"), at.streaming, Probe("http", at.streaming), ("topics", "redis"),
            "stream", address=_http(at.streaming), grace_s=20,
        ),
        Service(
            "pollers", _python("streaming.pollers", *(() if source == "live" else ("--local",))), at.pollers,
            Probe("http", at.pollers), ("topics", *market), "stream", address=_http(at.pollers), awaited=False,
        ),
    )


def _serve(settings: Settings) -> tuple[Service, ...]:
    at = settings.ports
    return (
        Service(
            "publisher", _python("bentos.publisher"), at.publisher, Probe("http", at.publisher), ("topics", "redis"),
            "serve", address=_http(at.publisher), env={"OMP_NUM_THREADS": "1"},
        ),
        Service(
            "service", _python("bentos.service"), at.service, Probe("http", at.service, "/readyz"),
            ("topics", "redis"), "serve", address=_http(at.service), env={"OMP_NUM_THREADS": "1"},
        ),
        # Feast's import alone takes seconds of a core; the first forecast does not need its registry.
        Service(
            "feast", (str(Path(sys.executable).with_name("feast")), "apply"), depends_on=("service",), group="serve",
            once=True, awaited=False, tries=5, cwd="feature_repo",
        ),
    )


def _next() -> tuple[str, ...]:
    # What `npm run start` runs, without npm staying beside it. The page's server needs little memory.
    return ("node", "--max-old-space-size=192", "node_modules/next/dist/bin/next", "start", "-H", LOOPBACK)


def _page(settings: Settings) -> tuple[Service, ...]:
    at = settings.ports
    env = {
        "PORT": str(at.frontend), "HOSTNAME": LOOPBACK, "CANDLEWICK_SERVICE_URL": _http(at.service),
        "NODE_ENV": "production",
    }
    return (
        Service("page-build", (sys.executable, "infra/page.py"), group="page", once=True, tries=3),
        Service(
            "frontend", _next(), at.frontend, Probe("http", at.frontend, "/"), ("page-build",),
            "page", cwd="frontend", env=env, address=page(settings),
        ),
    )


def _monitoring(settings: Settings) -> Service:
    # After the stream: at a start it would only take the processor from what the first forecast waits for.
    port = settings.ports.monitoring
    return Service(
        "monitoring", _python("monitoring.exporter"), port, Probe("http", port), ("streaming",), "watch",
        address=_http(port), env={"ARROW_DEFAULT_MEMORY_POOL": "system"},  # Arrow's own keeps 60 MB of what it has read
    )


def _prometheus(settings: Settings) -> Service:
    port = settings.ports.prometheus
    return Service(
        "prometheus", _python("infra.stack.launch", "prometheus"), port, Probe("http", port, "/-/ready"),
        group="watch", address=_http(port), awaited=False,
    )


def _extras() -> Service:
    """Packages that only training, reports and tests need: installed when the page is there."""
    return Service(
        "extras", (sys.executable, str(ROOT / "infra" / "setup.py"), "all"), depends_on=("frontend", "service"),
        group="background", once=True, awaited=False, tries=5, nice=15,
    )
