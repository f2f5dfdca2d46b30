"""Report: the drift of the last hours against the model's training reference, as HTML and JSON (Evidently).

    candlewick drift --report .run/drift.html
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from bentos.champion import served_folder
from feature_repo.contracts import HOUR_NS, MINUTE_NS
from feature_repo.grid import Floats
from feature_repo.settings import Settings
from monitoring.drift import MINIMUM_ROWS, MONITORED, Histogram, drift, references
from streaming.lake import read_zone

if TYPE_CHECKING:
    import pandas as pd

REFERENCE_ROWS = 2000
WATCH, DRIFTED = 0.10, 0.25


def measure(settings: Settings, symbol: str, now_ns: int, hours: int) -> tuple[dict[str, Any], pd.DataFrame]:
    """PSI and KS of whole-minute rows of the last `hours` in the lake, worst first, and those rows.

    Raises `ValueError` when the lake has fewer than 120 of them.
    """
    rows = whole_minutes(settings, symbol, now_ns, hours)
    if len(rows) < MINIMUM_ROWS:
        raise ValueError(
            f"expected at least {MINIMUM_ROWS} whole-minute rows of {symbol} in {settings.lake} over {hours} h, "
            f"found {len(rows)}; let the stack run or give more --hours"
        )
    columns: dict[str, Floats] = {name: rows[name].to_numpy(dtype=np.float64) for name in MONITORED}
    found = drift(histograms(settings), columns)
    worst = dict(sorted(found.items(), key=lambda item: -item[1]["psi"]))
    states = {name: state(values["psi"]) for name, values in worst.items()}
    return {"symbol": symbol, "hours": hours, "rows": len(rows), "features": worst, "states": states}, rows


def state(value: float) -> str:
    """ok | watch | drift, by the conventional bands of the index."""
    return "drift" if value > DRIFTED else "watch" if value > WATCH else "ok"


def whole_minutes(settings: Settings, symbol: str, now_ns: int, hours: int) -> pd.DataFrame:
    """Feature rows at whole minutes of the last `hours`, ascending."""
    start = now_ns - hours * HOUR_NS
    rows: pd.DataFrame = read_zone(settings.lake, "features", symbol, start, now_ns, settings.s3_endpoint).to_pandas()
    return rows[rows["ts_event"] % MINUTE_NS == 0].sort_values("ts_event")


def histograms(settings: Settings) -> dict[str, Histogram]:
    """The reference of the model that the service is set to serve."""
    return references(json.loads((served_folder(settings) / "meta.json").read_text()))


def write_report(reference: Mapping[str, Histogram], rows: pd.DataFrame, to: Path) -> list[Path]:
    """Write Evidently's data-drift report as `to` (HTML) and beside it as JSON; returns both paths.

    The reference values are spread evenly through the training histograms' quantiles.
    """
    import pandas as pd
    from evidently import DataDefinition, Dataset, Report
    from evidently.presets import DataDriftPreset

    current = rows[list(reference)].dropna(axis=1, how="all")
    names = list(current.columns)
    expected = pd.DataFrame({name: reference[name].sample(REFERENCE_ROWS) for name in names})
    definition = DataDefinition(numerical_columns=names)
    report = Report([DataDriftPreset(num_method="psi", num_threshold=DRIFTED)])
    result = report.run(
        Dataset.from_pandas(current, data_definition=definition),
        Dataset.from_pandas(expected, data_definition=definition),
    )
    to.parent.mkdir(parents=True, exist_ok=True)
    result.save_html(str(to))
    result.save_json(str(to.with_suffix(".json")))
    return [to, to.with_suffix(".json")]
