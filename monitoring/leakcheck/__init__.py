"""Leak check: nothing that a feature, a slow view or a label says may change with what was not known yet.

    candlewick leakcheck --bars bars.parquet --instants 20 --plant

`check` judges; `world` makes the other futures; `paths`, `sets` and `joins` are the product's ways of computing;
`plants` are leaks put in on purpose.
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from feature_repo.contracts import Bar
    from feature_repo.settings import Settings
    from monitoring.leakcheck.check import CheckConfig


def run(settings: Settings, config: CheckConfig, symbol: str, files: Sequence[Path], simulated: bool) -> dict[str, Any]:
    """Check files, else the lake's newest hours, else a made market."""
    from monitoring.leakcheck.bars import made_minutes, minutes_of
    from monitoring.leakcheck.check import check
    from monitoring.leakcheck.sets import SET_DAYS

    bars, given = ([], "made") if simulated else _bars(settings, symbol, files)
    minutes = minutes_of(bars, SET_DAYS) or made_minutes(symbol, SET_DAYS, config.seed)
    with tempfile.TemporaryDirectory(prefix="candlewick-leakcheck-") as folder:
        return check(bars, minutes, config, Path(folder), given)


def _bars(settings: Settings, symbol: str, files: Sequence[Path]) -> tuple[list[Bar], str]:
    from feature_repo.lake_reader import Lake
    from monitoring.leakcheck.bars import from_files, from_lake

    if files:
        return from_files(files, symbol), ", ".join(path.name for path in files)
    return from_lake(Lake.open(settings.lake, settings.s3_endpoint), symbol), "lake"


def text(found: dict[str, Any]) -> str:
    """A result for people."""
    lines = [f"{path}: {count:,} values compared" for path, count in found["compared"].items()]
    lines += [
        f"LEAK {leak['name']} at {leak['instant']} ({leak['path']}, {leak['how']}): {leak['expected']}, {leak['found']}"
        for leak in found["leaks"]
    ]
    lines += [f"planted: {plant['leak']}: {'found at ' + plant['instant'] if plant['found'] else 'NOT FOUND'}"
              for plant in found.get("planted", ())]
    lines += [f"nothing shown of {name}" for name in found["unproven"]]
    names = f"{found['features'] + found.get('slow_features', 0)} features and {found['labels']} labels"
    return "\n".join([*lines, f"{len(found['leaking'])} names leak, of {names}"])
