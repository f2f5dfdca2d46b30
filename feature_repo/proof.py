"""Proof: hashes by which a logged prediction names the very bits that it was made from.

    >>> sequence_hash(np.zeros((2, 3))) == sequence_hash(np.zeros((2, 3)) + 0.0)
    True
    >>> sequence_hash(np.zeros((2, 3))) == sequence_hash(np.full((2, 3), 5e-324))     # one bit in each
    False

SHA-256, the first 128 bits in hex. A value is its eight IEEE 754 bytes, what is unknown one NaN, so that equal hashes
mean equal bits, whoever made them: stream, store, lake or a recomputation.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import numpy as np

from feature_repo.contracts import FeatureRow
from feature_repo.features import FEATURE_NAMES
from feature_repo.grid import Floats

_HEX = 32


def row_hash(row: FeatureRow, names: Sequence[str] = FEATURE_NAMES) -> str:
    """Of what a row says and of when: symbol, `ts_event`, `created`, feature set, price, every feature in order.

    `names`: the features that the code which read the row declared, which may be another one's than this.
    """
    said = f"{row.symbol}|{row.ts_event}|{row.created}|{row.feature_set}|".encode()
    known = (row.values.get(name) for name in names)
    numbers = np.array([row.price, *(np.nan if value is None else value for value in known)], dtype="<f8")
    return hashlib.sha256(said + numbers.tobytes()).hexdigest()[:_HEX]


def sequence_hash(sequence: Floats) -> str:
    """Of the model's input, (L, F), NaN = masked."""
    # NaN has many bit patterns, and which one arithmetic leaves is no one's choice.
    numbers = np.where(np.isnan(sequence), np.nan, sequence).astype("<f8")
    return hashlib.sha256(repr(numbers.shape).encode() + numbers.tobytes()).hexdigest()[:_HEX]
