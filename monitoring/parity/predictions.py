"""Predictions: whether each logged forecast was made of the row, the sequence and the feature set that raw gives.

A prediction names the bits of its inputs by hashes (`feature_repo.proof`), so that they can be compared without having
been kept. One that was made while the store was already in the next minute lacks the oldest line of its sequence
(`bentos.sequence`): it was masked, so its hash is that of the sequence with the line masked.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Protocol

import numpy as np

from bentos.predictor import NO_MODEL, is_nowcast
from feature_repo.contracts import FeatureRow, Prediction
from feature_repo.features import SEQUENCE_FEATURES
from feature_repo.grid import Floats
from feature_repo.models import Model
from feature_repo.proof import row_hash, sequence_hash
from monitoring.parity.report import PREDICTION, Report

PLACE, MASKED = "predictions", "predictions, oldest line masked"


class Expected(Protocol):
    """Sequences made again from raw records."""

    def sequences(self, closes_ns: list[int]) -> Iterable[Floats]: ...


def check_predictions(
    report: Report, expected: Expected, rows: Mapping[int, FeatureRow], logged: Iterable[Prediction],
    held: Mapping[str, Model],
) -> None:
    """Each logged prediction of the window, `rows` by close. `held`: this deployment's models by version."""
    named = []
    for made in logged:
        if made.row_hash is None:
            # Written before predictions carried hashes, or a notice that there is no row to forecast from.
            reason = "no forecast" if made.p_up is None else "no hash"
            _leave(report, reason)
        elif made.ts_event not in rows:
            report.differs(PLACE, "row", made.ts_event, "no row", f"a prediction of {made.model_version}")
        else:
            named.append(made)
    closes = sorted({made.ts_event for made in named})
    sequences = dict(zip(closes, expected.sequences(closes), strict=True)) if closes else {}
    for made in named:
        model = held.get(made.model_version)
        names = model.features if model else SEQUENCE_FEATURES
        if set(names) <= set(SEQUENCE_FEATURES):
            columns = [SEQUENCE_FEATURES.index(name) for name in names]
            _check(report, made, rows[made.ts_event], sequences[made.ts_event][:, columns], held)
        else:
            _leave(report, "a feature of its model is not declared any more")


def _leave(report: Report, reason: str) -> None:
    report.unproven_predictions[reason] = report.unproven_predictions.get(reason, 0) + 1


def _check(
    report: Report, made: Prediction, row: FeatureRow, sequence: Floats, held: Mapping[str, Model],
) -> None:
    hashes = {sequence_hash(sequence): PLACE, sequence_hash(oldest_masked(sequence)): MASKED}
    # Without a stored sequence nothing was forecast, and there is no input to compare.
    without = made.sequence_hash is None and made.p_up is None
    model = held.get(made.model_version)
    is_held = model is not None or made.model == NO_MODEL
    expected = {
        "row_hash": row_hash(row), "created": row.created, "price": row.price,
        "feature_set": model.feature_set if model else row.feature_set,
        "source": row.source, "session": row.session, "nowcast": is_nowcast(row.ts_event),
        "sequence_hash": made.sequence_hash if without or made.sequence_hash in hashes else next(iter(hashes)),
        "model_version": made.model_version if is_held else f"one of {', '.join(sorted(held))}",
    }
    found = {f"{PREDICTION}.{name}": getattr(made, name) for name in expected}
    place = hashes.get(made.sequence_hash or "", PLACE)
    report.compare(place, made.ts_event, {f"{PREDICTION}.{name}": value for name, value in expected.items()}, found)


def oldest_masked(sequence: Floats) -> Floats:
    """The same sequence whose first line was not known."""
    masked = sequence.copy()
    masked[0] = np.nan
    return masked
