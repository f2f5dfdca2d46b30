"""Logs: one JSON object a line on stderr, the same keys in every process.

    >>> configure("ingest")
    >>> structlog.get_logger().info("connected", host="stream.example")     # doctest: +SKIP
    {"event": "connected", "host": "stream.example", "component": "ingest", "level": "info", "ts": "…Z"}

Lines of libraries that use the standard `logging` module come out in the same form.
"""

from __future__ import annotations

import logging
import sys
from typing import Any, TextIO

import structlog

LEVELS = {"debug": logging.DEBUG, "info": logging.INFO, "warning": logging.WARNING, "error": logging.ERROR}
# Tracebacks as data, without the values of local variables: those may hold keys.
TRACEBACKS = structlog.processors.ExceptionRenderer(structlog.tracebacks.ExceptionDictTransformer(show_locals=False))
# Libraries that say at `info` what only their authors need.
CHATTY = ("kafka", "httpx", "httpcore", "websockets", "botocore", "urllib3", "s3transfer", "py4j", "aiohttp.access")


def configure(component: str, level: str = "info") -> None:
    """Set up logging of this process. `level` is one of `LEVELS`; raises `ValueError` for another."""
    if level not in LEVELS:
        raise ValueError(f"log level: expected one of {', '.join(LEVELS)}; found {level!r}")
    shared = _shared(component)
    structlog.configure(
        processors=[*shared, TRACEBACKS, structlog.processors.JSONRenderer()],
        wrapper_class=structlog.make_filtering_bound_logger(LEVELS[level]),
        # Whatever stderr is at that moment: a verb may be called by a program that changes its own.
        logger_factory=lambda *_: structlog.PrintLogger(sys.stderr),
        cache_logger_on_first_use=False,
    )
    logging.basicConfig(level=LEVELS[level], handlers=[_handler(shared)], force=True)
    # It warns of 0.1 s of a busy machine as of a fault.
    logging.getLogger("kafka.net.selector").setLevel(logging.ERROR)
    for name in CHATTY:
        logging.getLogger(name).setLevel(max(LEVELS[level], logging.WARNING))


def _shared(component: str) -> list[Any]:
    def stamp(_logger: Any, _method: str, event: dict[str, Any]) -> dict[str, Any]:
        return {"component": component, **event}

    return [
        structlog.contextvars.merge_contextvars, stamp, structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True, key="ts"),
    ]


class _Stderr(logging.StreamHandler[TextIO]):
    """What stderr is when a line is written."""

    @property
    def stream(self) -> TextIO:
        return sys.stderr

    @stream.setter
    def stream(self, _: TextIO) -> None:
        """The base class sets it once, at the beginning."""


def _handler(shared: list[Any]) -> logging.Handler:
    handler = _Stderr()
    handler.setFormatter(structlog.stdlib.ProcessorFormatter(
        foreign_pre_chain=[*shared, structlog.stdlib.ExtraAdder()],
        processors=[
            structlog.stdlib.ProcessorFormatter.remove_processors_meta,
            TRACEBACKS, structlog.processors.JSONRenderer(),
        ],
    ))
    return handler
