"""How a verb prints: its result once, as text or JSON, and its process's logs."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import typer


def show(result: Mapping[str, Any], as_json: bool, text: str | None = None) -> None:
    """Print a result once: as one JSON object, or as `text` (default: one `name: value` line each)."""
    if as_json:
        typer.echo(json.dumps(result, default=str))
    else:
        typer.echo(text if text is not None else "\n".join(f"{name}: {value}" for name, value in result.items()))


def warnings_only() -> None:
    """Logs of a measuring or drilling process: its own stack's comings and goings are in its result."""
    from feature_repo.logs import configure

    configure("drill", "warning")
