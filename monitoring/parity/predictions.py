"""Predictions: whether each logged forecast was made of the row, the sequence and the feature set that raw gives.

A prediction names the bits of its inputs by hashes (`feature_repo.proof`), so that they can be compared without having
been kept. One that was made while the store was already in the next minute lacks the oldest line of its sequence
(`bentos.sequence`): it was masked, so its hash is that of the sequence with the line masked. Each is judged under the
feature set that it was logged with; one whose features this code does not declare as they were is counted, and left.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Protocol

import numpy as np

from bentos.predictor import NO_MODEL, is_nowcast
from feature_repo.contracts import FeatureRow, Prediction
from feature_repo.feature_sets import Sets
from feature_repo.features import FEATURE_SET, SEQUENCE_FEATURES
from feature_repo.grid import Floats
from feature_repo.models import Model, objections
from feature_repo.proof import sequence_hash
from monitoring.parity.report import PREDICTION, Report, foreign
from monitoring.parity.written import as_stored, row_hashes

PLACE, MASKED = "predictions", "predictions, oldest line masked"


class Expected(Protocol):
    """Sequences made again from raw records."""

    def sequences(self, closes_ns: list[int]) -> Iterable[Floats]: ...


@dataclass(frozen=True)
class Judged:
    """What predictions are judged by."""

    rows: Mapping[int, FeatureRow]
    """Close → the row made again, as its own feature set wrote it."""
    others: Mapping[int, str]
    """Close → the feature set of a row that this code cannot judge."""
    held: Mapping[str, Model]
    """This deployment's models by version."""
    sets: Sets

    @cached_property
    def unread(self) -> Mapping[str, str]:
        """Version → why its predictions cannot be judged, of the models that read what is not declared as it was."""
        return {
            version: foreign(model.feature_set) for version, model in self.held.items()
            if objections(model) or not set(model.features) <= set(SEQUENCE_FEATURES)
        }

    def reason_against(self, made: Prediction) -> str | None:
        """Why a prediction cannot be judged; null when it can."""
        if made.ts_event in self.others:
            return foreign(self.others[made.ts_event])
        if made.model_version in self.held:
            return self.unread.get(made.model_version)
        if not self.sets.of(made.feature_set):
            return foreign(made.feature_set)
        if made.model != NO_MODEL and made.feature_set != FEATURE_SET:
            return f"model {made.model_version} of feature set {made.feature_set} is gone"
        return None


def check_predictions(report: Report, expected: Expected, logged: Iterable[Prediction], by: Judged) -> None:
    """Each logged prediction of the window."""
    named = []
    for made in logged:
        if made.row_hash is None:
            # Written before predictions carried hashes, or a notice that there is no row to forecast from.
            _leave_unproven(report, "no forecast" if made.p_up is None else "no hash")
        elif (reason := by.reason_against(made)) is not None:
            report.leave(PLACE, reason)
        elif made.ts_event not in by.rows:
            report.differs(PLACE, "row", made.ts_event, "no row", f"a prediction of {made.model_version}")
        else:
            named.append(made)
    closes = sorted({made.ts_event for made in named})
    sequences = dict(zip(closes, expected.sequences(closes), strict=True)) if closes else {}
    for made in named:
        _check(report, made, sequences[made.ts_event], by)


def _leave_unproven(report: Report, reason: str) -> None:
    report.unproven_predictions[reason] = report.unproven_predictions.get(reason, 0) + 1


def _check(report: Report, made: Prediction, whole: Floats, by: Judged) -> None:
    row, model = by.rows[made.ts_event], by.held.get(made.model_version)
    columns = [SEQUENCE_FEATURES.index(name) for name in (model.features if model else SEQUENCE_FEATURES)]
    sequence = as_stored(whole, row)[:, columns]
    hashes = {sequence_hash(sequence): PLACE, sequence_hash(oldest_masked(sequence)): MASKED}
    of_row, lacking = row_hashes(row, by.sets)
    if made.row_hash not in of_row and lacking:
        report.leave(PLACE, foreign(row.feature_set))
        return
    # Without a stored sequence nothing was forecast, and there is no input to compare.
    without = made.sequence_hash is None and made.p_up is None
    is_held = model is not None or made.model == NO_MODEL
    expected = {
        "row_hash": made.row_hash if made.row_hash in of_row else of_row[0],
        "created": row.created, "price": row.price,
        "feature_set": model.feature_set if model else row.feature_set,
        "source": row.source, "session": row.session, "nowcast": is_nowcast(row.ts_event),
        "sequence_hash": made.sequence_hash if without or made.sequence_hash in hashes else next(iter(hashes)),
        "model_version": made.model_version if is_held else f"one of {', '.join(sorted(by.held))}",
    }
    found = {f"{PREDICTION}.{name}": getattr(made, name) for name in expected}
    place = hashes.get(made.sequence_hash or "", PLACE)
    report.under(made.feature_set, "predictions")
    report.compare(place, made.ts_event, {f"{PREDICTION}.{name}": value for name, value in expected.items()}, found)


def oldest_masked(sequence: Floats) -> Floats:
    """The same sequence whose first line was not known."""
    masked = sequence.copy()
    masked[0] = np.nan
    return masked
