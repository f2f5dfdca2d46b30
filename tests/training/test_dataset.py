"""A set holds what was known, split by time; the future can be overwritten without changing an input."""

from dataclasses import replace

import numpy as np
import pytest

from feature_repo.contracts import DAY_NS, MINUTE_NS
from feature_repo.features import FORECAST_BAR, SEQUENCE_LENGTH
from feature_repo.history import BarHistory
from training.costs import CostModel
from training.dataset import SEAM, Split, TrainingSet, Windows, assemble, dense_places, kernel_rows, pooled
from training.klines import MinuteBars
from training.pnl import compare
from training.scoring import Facts, scored_rows
from training.targets import HORIZONS


def future_overwritten(bars: MinuteBars, after: int) -> MinuteBars:
    """Every value of every bar after row `after` replaced by nonsense."""
    columns = {name: column.copy() for name, column in bars.columns.items()}
    for name in ("open", "high", "low", "close"):
        columns[name][after + 1 :] *= 1.7 + 0.2 * (np.arange(len(bars.close_ns) - after - 1) % 3)
    columns["volume"][after + 1 :] *= 9.0
    columns["quote_volume"][after + 1 :] *= 15.0
    return replace(bars, columns=columns)


def test_no_input_and_no_context_changes_when_the_future_does(bars: MinuteBars, table: TrainingSet) -> None:
    after = 15_000
    other = assemble(kernel_rows(future_overwritten(bars, after)))
    upto = int(np.flatnonzero(table.close_ns == bars.close_ns[after])[0])
    at = np.arange(SEQUENCE_LENGTH, upto + 1)
    assert np.array_equal(table.sequences(at[-500:]), other.sequences(at[-500:]), equal_nan=True)
    assert np.array_equal(table.context[at], other.context[at], equal_nan=True)
    changed = table.targets["rv_15"][upto] != other.targets["rv_15"][upto]
    assert changed, "the label after it must change, or the test proves nothing"


def test_a_sequence_is_what_the_kernel_gives_the_online_store(bars: MinuteBars, table: TrainingSet) -> None:
    n = 3_000
    history = BarHistory(bars.symbol)
    first = n - 1600
    history.load_minutes(bars.close_ns[first : n + 1], {k: v[first : n + 1] for k, v in bars.columns.items()})
    online = history.sequence(int(bars.close_ns[n])).astype(np.float32)
    at = np.flatnonzero(table.close_ns == bars.close_ns[n])
    assert online.shape == (SEQUENCE_LENGTH, len(FORECAST_BAR))
    assert np.array_equal(table.sequences(at)[0], online, equal_nan=True)


def test_parts_follow_each_other_with_purge_and_embargo(table: TrainingSet) -> None:
    train, calibration, test = (table.window(name) for name in ("train", "calibration", "test"))
    ahead = max(HORIZONS) * MINUTE_NS
    assert train[1] + ahead + DAY_NS <= calibration[0] + DAY_NS
    assert calibration[0] - (train[1] + ahead) >= DAY_NS
    assert test[0] - (calibration[1] + ahead) >= DAY_NS


def test_a_long_hole_is_shortened_but_never_bridged() -> None:
    close_ns = np.array([0, 1, 2, 5000, 5001], dtype=np.int64) * MINUTE_NS
    assert dense_places(close_ns).tolist() == [64, 65, 66, 66 + SEAM, 67 + SEAM]


def test_rows_beside_a_hole_are_left_out_and_counted(bars: MinuteBars) -> None:
    kept = np.ones(len(bars.close_ns), dtype=bool)
    kept[5_000:5_030] = False
    holed = replace(bars, close_ns=bars.close_ns[kept], columns={k: v[kept] for k, v in bars.columns.items()})
    table = assemble(kernel_rows(holed))
    before_hole = np.flatnonzero(table.close_ns == bars.close_ns[4_999])[0]
    assert table.parts[before_hole] == -1, "its label spans the hole"
    assert np.isnan(table.sequences(np.array([before_hole + 31]))[0, -31:-1]).all()
    counts = table.counts
    assert counts["rows"] == counts["train"] + counts["calibration"] + counts["test"] + counts["left_out"]


def test_the_identity_changes_with_data_and_split_and_with_nothing_else(bars: MinuteBars, table: TrainingSet) -> None:
    rows = kernel_rows(bars)
    assert assemble(rows).identity == table.identity
    assert assemble(rows, Split(train=0.6)).identity != table.identity
    touched = replace(bars, columns={**bars.columns, "volume": bars.columns["volume"] + 1e-8})
    assert assemble(kernel_rows(touched)).identity != table.identity


def test_too_little_history_is_refused_with_what_to_do(bars: MinuteBars) -> None:
    short = replace(bars, close_ns=bars.close_ns[:900], columns={k: v[:900] for k, v in bars.columns.items()})
    with pytest.raises(ValueError, match="give more days"):
        assemble(kernel_rows(short))


def test_two_symbols_in_one_set_share_the_parts_times_and_nothing_reaches_across(bars: MinuteBars) -> None:
    other = replace(bars, symbol="ETHUSDT", columns={k: v * 1.5 for k, v in bars.columns.items()})
    alone, both = kernel_rows(bars), pooled([kernel_rows(bars), kernel_rows(other)])
    one, two = assemble(alone), assemble(both)
    n = len(one.close_ns)
    assert two.rows.symbol == "BTCUSDT+ETHUSDT"
    assert set(two.symbol_M[: n]) == {"", "BTCUSDT"}
    assert np.array_equal(two.parts[:n], one.parts), "the first symbol's parts are what they were"
    assert two.window("test") == one.window("test")
    first = int(two.place[len(alone.close_ns)])
    assert first - (n - 1) == SEAM, "as far apart as a long hole"
    assert np.isnan(two.targets["rv_5"][n - 3])
    eth = np.flatnonzero(two.symbol_M == "ETHUSDT")
    assert np.allclose(two.targets["rv_15"][eth], one.targets["rv_15"][one.place], equal_nan=True)


def test_a_symbol_that_begins_where_another_ends_is_as_far_away() -> None:
    close_ns = np.arange(6) * MINUTE_NS
    assert dense_places(close_ns, (2, 4)).tolist() == [64, 65, 65 + SEAM, 66 + SEAM, 67 + SEAM, 68 + SEAM]


def test_parts_by_time_are_purged_and_may_be_left_out_on_purpose(bars: MinuteBars) -> None:
    first, last = int(bars.close_ns[0]), int(bars.close_ns[-1])
    cut = first // DAY_NS * DAY_NS + 12 * DAY_NS
    found = assemble(kernel_rows(bars), Windows.between((first, cut, cut + 5 * DAY_NS, cut + 5 * DAY_NS)))
    assert found.counts["test"] == 0
    assert found.window("train")[1] == cut - max(HORIZONS) * MINUTE_NS
    assert found.window("calibration")[0] == cut + DAY_NS + MINUTE_NS, "the close at midnight is the embargo's"
    with pytest.raises(ValueError, match=r"none in test\); give more days"):
        assemble(kernel_rows(bars), Windows.between((first, cut, last + DAY_NS, last + 9 * DAY_NS)))


def stood_still(bars: MinuteBars, first: int, count: int = 30) -> MinuteBars:
    """The same bars but for minutes without a move."""
    columns = {name: column.copy() for name, column in bars.columns.items()}
    for name in ("open", "high", "low", "close"):
        columns[name][first : first + count] = columns["close"][first]
    return replace(bars, columns=columns)


def test_minutes_before_a_market_that_stands_still_are_judged_and_not_fitted_on(bars: MinuteBars) -> None:
    fitted, judged = 5_000, 34_000
    found = assemble(kernel_rows(stood_still(stood_still(bars, fitted), judged)))
    before = {first: found.place[first : first + 25] for first in (fitted, judged)}
    assert all(np.isnan(found.targets["rv_5"][at]).all() for at in before.values())
    assert not np.isin(before[fitted], found.part("train")).any(), "a fit takes the logarithm of each volatility"
    at = found.part("test")
    assert np.isin(before[judged], at).all()
    scored = scored_rows("made", found, at, {"risk_score": np.full(len(at), 0.1)}, Facts((1.0, 1.0, 1.0)))
    assert np.isfinite(scored.spiked_NK).all()
    assert np.isfinite(scored.risky_N).all()
    assert scored.flat.sum() >= 25
    money = compare(scored, {}, CostModel())["1"]
    long = money["strategies"]["always_long"]["at_settings"]
    assert (money["decisions"], long["trades"], long["left_out"]) == (len(at), len(at), 0)


def test_days_that_stop_a_fit_weigh_no_member(table: TrainingSet) -> None:
    stop, weigh = table.stopping(), table.weighing()
    assert len(np.unique(table.days(stop))) >= 2
    assert not set(table.days(stop)) & set(table.days(weigh))
    assert sorted([*stop, *weigh]) == table.part("calibration").tolist()
    # Of the first day one minute is left, which no stride but the first takes: the others keep their places.
    first = int(table.days(stop)[0])
    alone = int(stop[np.flatnonzero((table.close_ns[stop] // 60_000_000_000) % 30 == 1)[0]])
    stub = replace(table, parts=np.where((table.parts == 1) & (table.days(np.arange(len(table.parts))) == first)
                                         & (np.arange(len(table.parts)) != alone), -1, table.parts))
    assert alone in stub.stopping()
    for stride in (2, 3, 5, 10):
        assert set(stub.days(stub.stopping(stride))) == set(stub.days(stub.stopping())) - {first}
        assert set(stub.days(stub.weighing(stride))) == set(stub.days(stub.weighing()))
    first = int(table.days(stop)[0])
    short = replace(table, parts=np.where((table.parts == 1) & (table.close_ns <= (first + 1) * DAY_NS), 1, -1))
    assert short.stopping().tolist() == short.weighing().tolist() == short.part("calibration").tolist(), "of one day"
