"""The sequence of a row can be had from what the store holds for a neighbour, and is the kernel's own, bit for bit."""

from __future__ import annotations

import numpy as np
import pytest

from bentos.sequence import masked_share, sequence_at, with_newest
from feature_repo.contracts import MINUTE_NS, SECOND_NS
from feature_repo.features import FORECAST_BAR
from feature_repo.history import BarHistory
from tests.feature_repo.made_bars import START_NS, minutes_then_seconds


@pytest.fixture(scope="module")
def history() -> BarHistory:
    made = BarHistory("BTCUSDT")
    for bar in minutes_then_seconds(1_100):
        made.push(bar)
    return made


@pytest.mark.parametrize(("stored_s", "wanted_s"), [
    (1_080, 1_080),          # the same row
    (1_079, 1_080),          # Redis one second behind, the whole minute not yet there
    (1_030, 1_025),          # Redis ahead within the minute
    (1_080, 1_021),          # from the minute's last second to its first
])
def test_within_a_minute_the_rebuilt_sequence_is_the_kernels(
    history: BarHistory, stored_s: int, wanted_s: int,
) -> None:
    stored_at, wanted_at = START_NS + stored_s * SECOND_NS, START_NS + wanted_s * SECOND_NS
    values, _ = history.row(wanted_at)
    rebuilt = sequence_at(history.sequence(stored_at), stored_at, wanted_at, values)
    assert rebuilt is not None
    np.testing.assert_array_equal(rebuilt, history.sequence(wanted_at))


def test_a_minute_just_gone_lacks_only_its_oldest_line(history: BarHistory) -> None:
    stored_at, wanted_at = START_NS + 1_085 * SECOND_NS, START_NS + 1_080 * SECOND_NS
    values, _ = history.row(wanted_at)
    rebuilt = sequence_at(history.sequence(stored_at), stored_at, wanted_at, values)
    assert rebuilt is not None
    assert np.isnan(rebuilt[0]).all()
    np.testing.assert_array_equal(rebuilt[1:], history.sequence(wanted_at)[1:])


@pytest.mark.parametrize("apart_ns", [-MINUTE_NS, 2 * MINUTE_NS])
def test_further_away_nothing_is_invented(history: BarHistory, apart_ns: int) -> None:
    stored_at = START_NS + 1_020 * SECOND_NS
    assert sequence_at(history.sequence(stored_at), stored_at, stored_at - apart_ns, {}) is None


def test_a_null_becomes_a_mask_and_the_stored_sequence_stays_as_it_was() -> None:
    stored = np.zeros((64, len(FORECAST_BAR)))
    stored.setflags(write=False)
    changed = with_newest(stored, {"return_1m": 0.5, "range_15m": None})
    assert changed[-1, FORECAST_BAR.index("return_1m")] == 0.5
    assert np.isnan(changed[-1, FORECAST_BAR.index("range_15m")])
    assert masked_share(changed, range(len(FORECAST_BAR))) == pytest.approx((len(FORECAST_BAR) - 1) / changed.size)
