"""Scored decisions in a file: what a long run keeps of each model, and several runs of decisions as one.

    keep(path, scored)
    together = joined([read(path) for path in blocks])

Forecasts and outcomes are kept in single precision, times and prices whole.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np

from training.scored import Scored

WHOLE = ("price_N", "entry_N")


def keep(path: Path, scored: Scored) -> None:
    """Write the whole file or nothing."""
    columns: dict[str, Any] = {}
    for field in fields(Scored):
        value = getattr(scored, field.name)
        parts = {f"{field.name}/{h}": column for h, column in value.items()} if isinstance(value, dict) else {
            field.name: np.asarray(value)}
        columns |= {name: _single(name, column) for name, column in parts.items()}
    made = path.with_suffix(".tmp.npz")
    np.savez_compressed(made, **columns)
    made.rename(path)


def _single(name: str, column: Any) -> Any:
    return column.astype(np.float32) if column.dtype == np.float64 and name not in WHOLE else column


def read(path: Path) -> Scored:
    """As kept."""
    with np.load(path, allow_pickle=False) as held:
        columns = {name: _double(held[name]) for name in held.files}
    found: dict[str, Any] = {}
    for field in fields(Scored):
        if field.name in columns:
            value = columns[field.name]
            found[field.name] = str(value) if value.ndim == 0 else value
        else:
            start = f"{field.name}/"
            found[field.name] = {int(n[len(start):]): c for n, c in columns.items() if n.startswith(start)}
    return Scored(**found)


def _double(column: Any) -> Any:
    return column.astype(np.float64) if column.dtype == np.float32 else column


def joined(parts: Sequence[Scored]) -> Scored:
    """One model's decisions, part after part. Raises `ValueError` for those of several models.

    A horizon that one part does not speak of (decisions kept before it was forecast), the whole does not.
    """
    if len(names := {part.model for part in parts}) != 1:
        raise ValueError(f"expected decisions of one model, found {', '.join(sorted(names)) or 'none'}")
    found: dict[str, Any] = {"model": parts[0].model}
    for field in fields(Scored)[1:]:
        values = [getattr(part, field.name) for part in parts]
        found[field.name] = (
            {h: np.concatenate([value[h] for value in values]) for h in values[0] if all(h in each for each in values)}
            if isinstance(values[0], dict)
            else np.concatenate(values)
        )
    return Scored(**found)
