"""Files of bars, made of a simulated market."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from feature_repo.contracts import MINUTE_NS
from training.klines import MinuteBars


def bar_file(folder: Path, bars: MinuteBars, name: str = "bars.parquet") -> Path:
    """The bars as a venue publishes them, labelled by their open."""
    columns = {field: bars.columns[field] for field in ("open", "high", "low", "close", "volume")}
    path = folder / name
    pd.DataFrame({"date": pd.to_datetime(bars.close_ns - MINUTE_NS, utc=True), **columns}).to_parquet(path)
    return path
