"""Service: what the supervisor must know of one program, as a frozen value."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum

from infra.stack.probes import Probe


@dataclass(frozen=True)
class Service:
    """One program of the stack."""

    name: str
    """Its name in the table, in `depends_on` and of its log."""
    command: tuple[str, ...]
    """Program and arguments, no shell. It stays in the foreground."""
    port: int | None = None
    """The loopback port it listens on; it is not started while someone else holds it."""
    probe: Probe | None = None
    """How to ask whether it is ready; without one it is ready while it runs."""
    depends_on: tuple[str, ...] = ()
    """It starts when all of these are ready (or done)."""
    group: str = "core"
    """Heading under which people look for it: core | stream | serve | page | watch | background."""
    once: bool = False
    """Runs to its end; exit 0 means done, anything else is tried again."""
    awaited: bool = True
    """Whether `up` waits for it."""
    tries: int = 0
    """Give up after this many failures in a row; 0 never does."""
    cwd: str = "."
    """Where it runs, relative to the repository."""
    env: Mapping[str, str] = field(default_factory=dict)
    """Added to the environment."""
    grace_s: float = 10.0
    """Time between SIGTERM and SIGKILL."""
    ready_within_s: float = 180.0
    """Started again when it is not ready by then."""
    nice: int = 0
    """Added to its scheduling priority number: work that may wait."""
    address: str = ""
    """Where a person finds it."""


class State(StrEnum):
    """Where a service stands."""

    WAITING = "waiting"
    """for its dependencies"""
    STARTING = "starting"
    """its process runs, its probe has not said ready yet"""
    READY = "ready"
    UNREADY = "unready"
    """was ready, now alive or silent without being ready"""
    DONE = "done"
    """ran to its end, as it should"""
    BACKOFF = "backoff"
    """ended or could not start; tried again soon"""
    FAILED = "failed"
    """failed too often; not tried again"""
    STOPPING = "stopping"
    STOPPED = "stopped"


SATISFIED = frozenset({State.READY, State.DONE})


def in_order(services: Sequence[Service]) -> tuple[tuple[Service, ...], ...]:
    """Levels of a dependency graph: each level needs only earlier ones.

    Raises `ValueError` for an unknown name or a circle.

    >>> table = [Service("b", ("true",), depends_on=("a",)), Service("a", ("true",))]
    >>> [[s.name for s in level] for level in in_order(table)]
    [['a'], ['b']]
    """
    known = {service.name for service in services}
    for service in services:
        if unknown := set(service.depends_on) - known:
            raise ValueError(f"{service.name}: depends on unknown service(s) {', '.join(sorted(unknown))}")
    levels: list[tuple[Service, ...]] = []
    placed: set[str] = set()
    rest = list(services)
    while rest:
        level = tuple(service for service in rest if placed.issuperset(service.depends_on))
        if not level:
            raise ValueError(f"services depend on each other in a circle: {', '.join(s.name for s in rest)}")
        levels.append(level)
        placed |= {service.name for service in level}
        rest = [service for service in rest if service.name not in placed]
    return tuple(levels)
