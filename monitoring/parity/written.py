"""Written: a row made again as the code of its own feature set wrote it, so that a swap of sets is no difference.

    row = as_written(expected, found, sets)       # null: the set that wrote it cannot be judged by this code
    as_stored(sequence, row)                      # its model input, what the row lacks masked

While features change, rows of two sets follow one another, and each says by its `feature_set` whose it is. What a
backfill has filled in since (`streaming.fill`) is there beside it: it is made again like everything else.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np

from feature_repo.contracts import FeatureRow
from feature_repo.feature_sets import Declared, Sets
from feature_repo.features import FEATURE_NAMES, SEQUENCE_FEATURES
from feature_repo.grid import Floats
from feature_repo.history import RETIRED_NAMES, RETIRED_REASON
from feature_repo.proof import row_hash


def as_written(expected: FeatureRow, found: FeatureRow | None, sets: Sets) -> FeatureRow | None:
    """`expected` with what rows of the set of `found` hold; null where this code cannot judge that set.

    Whether a retired feature was still computed then is known to no raw record: the row says it.
    """
    if found is None:
        return expected
    codes = sets.of(found.feature_set)
    if not codes:
        return None
    always = frozenset.intersection(*(frozenset(code.retired) for code in codes))
    # Those that this code has retired, and those that the row's had, of which some may be declared again.
    once = dict.fromkeys((*RETIRED_NAMES, *(name for code in codes for name in code.retired if name in FEATURE_NAMES)))
    retired = (name for name in once if name in always or _says(found, name))
    held = {*codes[0].features, *retired, *filled_in(found, codes)}
    unread = unread_in(found)
    # One that this code has deleted was said to be retired by the code before it.
    gone = {name for code in codes for name in code.retired
            if name not in FEATURE_NAMES and found.reasons.get(name) == RETIRED_REASON}
    reasons = {name: why for name, why in expected.reasons.items() if name in held}
    return expected.model_copy(update={
        "feature_set": found.feature_set,
        "values": {name: None if name in unread else expected.values[name] for name in FEATURE_NAMES if name in held},
        "reasons": {**reasons, **dict.fromkeys((*unread, *gone), RETIRED_REASON)},
    })


def _says(row: FeatureRow, name: str) -> bool:
    """Whether a row says something of a feature: a value, or why there is none."""
    return row.values.get(name) is not None or name in row.reasons


def filled_in(row: FeatureRow, codes: Sequence[Declared]) -> frozenset[str]:
    """The features that a row says something of and that its set, as some codes declared it, lacks."""
    return frozenset(
        name for name in FEATURE_NAMES if name not in RETIRED_NAMES and name not in codes[0].features
        and not any(name in code.retired for code in codes)
        and _says(row, name) and row.reasons.get(name) != RETIRED_REASON
    )


def as_served(row: FeatureRow, sets: Sets) -> FeatureRow:
    """A row as whoever read it online knew it: without what was filled in later."""
    codes = sets.of(row.feature_set)
    later = filled_in(row, codes) if codes else frozenset()
    if not later:
        return row
    return row.model_copy(update={
        "values": {name: value for name, value in row.values.items() if name not in later},
        "reasons": {name: why for name, why in row.reasons.items() if name not in later},
    })


def unread_in(row: FeatureRow) -> frozenset[str]:
    """The retired features that a row was written without."""
    return frozenset(name for name in FEATURE_NAMES if row.reasons.get(name) == RETIRED_REASON)


def as_stored(sequence: Floats, row: FeatureRow) -> Floats:
    """A sequence, (64, len(SEQUENCE_FEATURES)), as the code that wrote `row` stored it: what it lacked is masked."""
    unread = unread_in(row)
    lacked = [name not in row.values or name in unread for name in SEQUENCE_FEATURES]
    if not any(lacked):
        return sequence
    stored = sequence.copy()
    stored[:, lacked] = np.nan
    return stored


def row_hashes(row: FeatureRow, sets: Sets) -> tuple[list[str], bool]:
    """The hash of a row for each code that may have read it, and whether one reads what this code has deleted.

    A hash goes over the features that the reader declares. Its code and the writer's need not be the same.
    """
    found, lacking = [], False
    for declared in sets.judged:
        gone = [name for name in declared.retired if name not in FEATURE_NAMES]
        if any(row.reasons.get(name) != RETIRED_REASON for name in gone):
            lacking = True
        else:
            found.append(row_hash(row, declared.names))
    return found, lacking


def beyond(row: FeatureRow, names: Iterable[str]) -> dict[str, None]:
    """Features that a row has a value of and its set lacks: each is to be null."""
    held = set(names)
    return {name: None for name, value in row.values.items() if value is not None and name not in held}
