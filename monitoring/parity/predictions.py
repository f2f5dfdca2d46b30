"""Predictions: whether each logged forecast was made of the row, the sequence and the feature set that raw gives.

A prediction names the bits of its inputs by hashes (`feature_repo.proof`), so that they can be compared without having
been kept. One that was made while the store was already in the next minute lacks the oldest line of its sequence
(`bentos.sequence`): it was masked, so its hash is that of the sequence with the line masked.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from typing import Any, Protocol

import numpy as np

from bentos.predictor import NO_MODEL, is_nowcast
from feature_repo.contracts import FeatureRow, Prediction
from feature_repo.grid import Floats
from feature_repo.proof import row_hash, sequence_hash
from monitoring.parity.report import PREDICTION, Report

PLACE, MASKED = "predictions", "predictions, oldest line masked"


class Expected(Protocol):
    """Rows and sequences made again from raw records."""

    @property
    def closes(self) -> Mapping[int, Any]: ...
    def rows(self, closes_ns: list[int]) -> list[FeatureRow]: ...
    def sequences(self, closes_ns: list[int]) -> Iterable[Floats]: ...


def check_predictions(
    report: Report, expected: Expected, logged: Iterable[Prediction], versions: Collection[str],
) -> None:
    """Each logged prediction of the window. `versions`: the model versions that this deployment has."""
    named = []
    for made in logged:
        if made.row_hash is None:
            # Written before predictions carried hashes, or a notice that there is no row to forecast from.
            reason = "no forecast" if made.p_up is None else "no hash"
            report.unproven_predictions[reason] = report.unproven_predictions.get(reason, 0) + 1
        elif made.ts_event not in expected.closes:
            report.differs(PLACE, "row", made.ts_event, "no row", f"a prediction of {made.model_version}")
        else:
            named.append(made)
    closes = sorted({made.ts_event for made in named})
    rows = dict(zip(closes, expected.rows(closes), strict=True))
    sequences = dict(zip(closes, expected.sequences(closes), strict=True)) if closes else {}
    for made in named:
        _check(report, made, rows[made.ts_event], sequences[made.ts_event], versions)


def _check(
    report: Report, made: Prediction, row: FeatureRow, sequence: Floats, versions: Collection[str],
) -> None:
    hashes = {sequence_hash(sequence): PLACE, sequence_hash(oldest_masked(sequence)): MASKED}
    # Without a stored sequence nothing was forecast, and there is no input to compare.
    without = made.sequence_hash is None and made.p_up is None
    is_held = made.model_version in versions or made.model == NO_MODEL
    expected = {
        "row_hash": row_hash(row), "feature_set": row.feature_set, "created": row.created, "price": row.price,
        "source": row.source, "session": row.session, "nowcast": is_nowcast(row.ts_event),
        "sequence_hash": made.sequence_hash if without or made.sequence_hash in hashes else next(iter(hashes)),
        "model_version": made.model_version if is_held else f"one of {', '.join(sorted(versions))}",
    }
    found = {f"{PREDICTION}.{name}": getattr(made, name) for name in expected}
    place = hashes.get(made.sequence_hash or "", PLACE)
    report.compare(place, made.ts_event, {f"{PREDICTION}.{name}": value for name, value in expected.items()}, found)


def oldest_masked(sequence: Floats) -> Floats:
    """The same sequence whose first line was not known."""
    masked = sequence.copy()
    masked[0] = np.nan
    return masked
