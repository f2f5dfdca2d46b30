"""Table: the stack's state as people read it.

    >>> print(render({"phase": "ready", "source": "recording", "page": "http://localhost:1", "services": []}))
    no services
    <BLANKLINE>
    stack ready, market: recording
    page  http://localhost:1
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from infra.stack.service import SATISFIED

MIB = 1024 * 1024
HEADINGS = ("COMPONENT", "STATE", "ADDRESS", "MEMORY", "LOG")


def render(status: Mapping[str, Any]) -> str:
    """Component, state, address, memory and log of each service, then the page's address."""
    rows = [_cells(service) for service in status["services"]]
    lines = _columns([HEADINGS, *rows]) if rows else ["no services"]
    notes = [f"  {s['name']}: {s['message']}" for s in status["services"] if s.get("message")]
    total = status.get("memory_bytes")
    memory = f", memory {total / MIB:.0f} MiB" if total else ""
    stack = f"stack {_phase(status)}, market: {status.get('source', '?')}{memory}"
    sets = [_sets(status)] if "feature_sets" in status else []
    return "\n".join([*lines, *notes, "", stack, *sets, f"page  {status.get('page', '')}"])


def _phase(status: Mapping[str, Any]) -> str:
    """A stack that was ready is not while one of its processes is starting again.

    >>> _phase({"phase": "ready", "services": [{"name": "redis", "state": "starting", "awaited": True}]})
    'not ready (redis)'
    """
    absent = away(status)
    return f"not ready ({', '.join(absent)})" if status["phase"] == "ready" and absent else str(status["phase"])


def away(status: Mapping[str, Any]) -> list[str]:
    """Services that the stack waits for and that are not ready."""
    return [service["name"] for service in status["services"]
            if service["awaited"] and service["state"] not in SATISFIED]


def _sets(status: Mapping[str, Any]) -> str:
    from feature_repo.models import live_text

    return live_text(status["feature_sets"], status["unread_features"])


def _cells(service: Mapping[str, Any]) -> tuple[str, ...]:
    state = str(service["state"])
    if service.get("restarts"):
        state += f" (restarted {service['restarts']}×)"
    memory = f"{service['memory_bytes'] / MIB:.0f} MiB" if service.get("memory_bytes") else ""
    return service["name"], state, service.get("address") or "", memory, short(service["log"])


def short(path: str) -> str:
    """A path as seen from where the reader stands, when it is below."""
    try:
        return str(Path(path).relative_to(Path.cwd()))
    except ValueError:
        return path


def _columns(rows: Sequence[Sequence[str]]) -> list[str]:
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    return ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]


def progress(service: Mapping[str, Any], after_s: float) -> str:
    """One line about a change: seconds since the start, the component, its state, and why.

    >>> progress({"name": "kafka", "state": "ready", "message": ""}, after_s=2.5)
    '   2.5 s  kafka        ready'
    """
    why = f"  {service['message']}" if service.get("message") else ""
    return f"{after_s:6.1f} s  {service['name']:<12} {service['state']}{why}"
