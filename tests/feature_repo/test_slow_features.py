"""Slow features: a second implementation of each formula, nothing seen before it was known, null only with a reason."""

from __future__ import annotations

import math
from statistics import fmean

import numpy as np
import pytest

from feature_repo.contracts import DAY_NS, HOUR_NS, MINUTE_NS, InvalidMessage, Observation
from feature_repo.slow_features import (
    BETA_WINDOWS,
    SLOW_NAMES,
    SLOW_VIEWS,
    VIEW_OF,
    SlowRow,
    rows,
)
from feature_repo.slow_formulas import LOOK_BACK_NS
from feature_repo.slow_series import PRICES, SERIES, session_close
from feature_repo.views import SLOW_VIEWS as STORED
from feature_repo.views import services
from tests.feature_repo.made_observations import (
    END_NS,
    LAST_DAY,
    everything,
    made_closes,
    made_fear_greed,
    made_funding,
    made_macro,
    made_open_interest,
    naive_beta,
    naive_returns,
    observation,
    sessions,
)


def all_rows(view: str, told: list[Observation], closes: list[Observation] | None = None) -> list[SlowRow]:
    of_view = [o for o in told if o.series in VIEW_OF[view].series]
    return rows(VIEW_OF[view], "BTCUSDT", of_view, of_view, made_closes() if closes is None else closes)


def newest_as_of(made: list[SlowRow], at_ns: int) -> SlowRow | None:
    """The as-of rule, by brute force."""
    known = [row for row in made if row.created <= at_ns]
    return max(known, key=lambda row: (row.ts_event, row.created), default=None)


def close(found: float | None, expected: float | None) -> bool:
    if found is None or expected is None:
        return found is expected
    return math.isclose(found, expected, rel_tol=1e-9, abs_tol=1e-12)


def test_every_beta_and_return_is_that_of_a_naive_implementation_at_every_session() -> None:
    told, closes = made_macro(), made_closes()
    made = all_rows("macro", told, closes)
    assert len(made) > 80
    known = dict.fromkeys(SLOW_NAMES, 0)
    for row in made:
        for name in PRICES:
            returns = naive_returns(told, name, row.ts_event, row.created)
            one = [value for end, (_, value) in returns.items() if session_close(end) == row.ts_event]
            assert close(row.values[f"{name}_return_1d"], one[0] if one else None), (name, row.ts_event)
            for window in BETA_WINDOWS:
                beta = f"beta_{name}_{window}d"
                expected = naive_beta(told, closes, name, row.ts_event, row.created, window)
                assert close(row.values[beta], expected), (beta, row.ts_event, row.reasons)
                known[beta] += row.values[beta] is not None
    assert all(known[f"beta_{name}_{window}d"] > 15 for name in PRICES for window in BETA_WINDOWS)


def test_a_beta_is_one_to_itself_and_two_to_twice_itself() -> None:
    at = sessions(30)
    prices = np.exp(np.cumsum(np.random.default_rng(9).normal(size=30) * 0.01))
    told = [observation("sp500", t, float(p)) for t, p in zip(at, prices, strict=True)]
    ours = [o.model_copy(update={"value": float(p**2)}) for o, p in zip(made_closes(count=30), prices, strict=True)]
    assert all_rows("macro", told, ours)[-1].values["beta_sp500_20d"] == pytest.approx(2.0, rel=1e-9)


def test_levels_and_changes_are_those_of_the_session_and_the_one_before() -> None:
    at = sessions(8)
    told = [observation("vix", t, 20.0 + i**2) for i, t in enumerate(at)]
    told += [observation("gold", t, 100.0 + i) for i, t in enumerate(at)]
    row = all_rows("macro", told)[-1]
    assert (row.values["vix_close_1d"], row.values["vix_change_1d"]) == (69.0, 13.0)
    assert row.values["gold_return_5d"] == pytest.approx(math.log(107 / 102))


def test_a_return_is_never_between_two_instruments() -> None:
    [before, now] = sessions(2)
    told = [observation("sp500", before, 690.0, instrument="SPY"),
            observation("sp500", now, 6_900.0, instrument="SP500")]
    row = all_rows("macro", told)[-1]
    assert row.values["sp500_return_1d"] is None
    told.append(observation("sp500", before, 6_800.0, instrument="SP500"))
    assert all_rows("macro", told)[-1].values["sp500_return_1d"] == pytest.approx(math.log(6_900 / 6_800))


def test_funding_is_the_newest_settlement_and_the_mean_of_a_week() -> None:
    told = made_funding()
    for i, row in enumerate(all_rows("funding", told)):
        assert row.values["funding_rate_8h"] == told[i].value
        week = [o.value for o in told[max(0, i - 20) : i + 1]]
        assert close(row.values["funding_rate_mean_7d"], fmean(week) if len(week) >= 20 else None)
    assert row.reasons == {}


def test_the_second_source_counts_only_where_the_first_says_nothing() -> None:
    told = made_funding(4)
    other = [o.model_copy(update={"instrument": "BYBIT", "value": 0.01}) for o in told]
    assert all_rows("funding", [*told, *other])[-1].values["funding_rate_8h"] == told[-1].value
    assert all_rows("funding", [*told[:-1], *other])[-1].values["funding_rate_8h"] == 0.01


def test_open_interest_changes_look_back_an_hour_and_a_day() -> None:
    told = made_open_interest()
    made = all_rows("open_interest", told)
    assert made[-1].values["open_interest_5m"] == told[-1].value
    assert made[-1].values["open_interest_change_1h"] == pytest.approx(math.log(told[-1].value / told[-13].value))
    assert made[-1].values["open_interest_change_1d"] == pytest.approx(math.log(told[-1].value / told[-289].value))
    assert made[11].values["open_interest_change_1h"] is None
    assert made[11].reasons["open_interest_change_1h"] == "warmup"
    hour = told[-1].ts_event - HOUR_NS
    holes = [o for o in told if not hour - 15 * MINUTE_NS < o.ts_event <= hour]
    assert all_rows("open_interest", holes)[-1].reasons == {"open_interest_change_1h": "gap"}


def test_fear_and_greed_and_its_change_of_a_week() -> None:
    told = made_fear_greed()
    row = all_rows("fear_greed", told)[-1]
    assert row.values == {"fear_greed_1d": told[-1].value,
                          "fear_greed_change_7d": told[-1].value - told[-8].value}
    assert all_rows("fear_greed", told[:5])[-1].reasons == {"fear_greed_change_7d": "warmup"}


@pytest.mark.parametrize("view", [view.name for view in SLOW_VIEWS])
def test_no_value_is_seen_before_its_moment_and_its_lag(view: str) -> None:
    declared = VIEW_OF[view]
    made = all_rows(view, everything())
    for row in made:
        lag = max(SERIES[name].lag_ns for name in declared.series)
        assert row.created == row.ts_event + lag
        before = newest_as_of(made, row.ts_event + lag - 1)
        assert before is None or before.ts_event < row.ts_event
        assert newest_as_of(made, row.ts_event + lag) == row


@pytest.mark.parametrize("view", [view.name for view in SLOW_VIEWS])
def test_what_is_not_known_yet_changes_no_row(view: str) -> None:
    told, rng = everything(), np.random.default_rng(7)
    known = sorted(o.created for o in told if o.series in VIEW_OF[view].series)
    for cut in known[len(known) // 2 :: max(1, len(known) // 6)]:
        other = [o if o.created <= cut else o.model_copy(update={"value": o.value * float(rng.uniform(0.5, 1.5))})
                 for o in told]
        late = [o.model_copy(update={"created": cut + 1, "value": o.value * 1.01})
                for o in told if o.created <= cut and rng.random() < 0.2]
        for world in (other, [o for o in told if o.created <= cut], [*told, *late]):
            ours, theirs = (
                [row for row in all_rows(view, each) if row.created <= cut] for each in (told, world)
            )
            assert ours == theirs
        assert all_rows(view, told) != all_rows(view, [*told, *late])


def test_a_correction_makes_another_version_and_leaves_the_first() -> None:
    told = made_fear_greed(9)
    revised = told[-1].model_copy(update={"value": 1.0, "created": told[-1].created + HOUR_NS})
    first, second = all_rows("fear_greed", [*told, revised])[-2:]
    assert (first.ts_event, first.values["fear_greed_1d"]) == (told[-1].ts_event, told[-1].value)
    assert (second.ts_event, second.values["fear_greed_1d"]) == (told[-1].ts_event, 1.0)
    assert second.created == revised.created


def test_simulated_values_never_meet_live_ones() -> None:
    told = made_funding(40)
    simulated = [o.model_copy(update={"source": "simulated"}) for o in told[-3:]]
    made = all_rows("funding", [*told[:-3], *simulated])
    assert {row.source for row in made} == {"live", "simulated"}
    last = made[-1]
    assert (last.source, last.reasons) == ("simulated", {"funding_rate_mean_7d": "warmup"})


def test_without_closes_of_the_symbol_a_beta_says_so() -> None:
    assert set(all_rows("macro", made_macro(), [])[-1].reasons) == {
        f"beta_{name}_{window}d" for name in PRICES for window in BETA_WINDOWS}
    assert set(all_rows("macro", made_macro(), [])[-1].reasons.values()) == {"requires closes"}


def test_every_null_has_a_reason_and_every_row_looks_no_further_back_than_declared() -> None:
    told = everything()
    for view in SLOW_VIEWS:
        made = all_rows(view.name, told)
        for row in made[:3] + made[-3:]:
            assert {name for name, value in row.values.items() if value is None} == set(row.reasons)
        near = [o for o in told if o.ts_event > made[-1].ts_event - LOOK_BACK_NS[view.name]]
        again = all_rows(view.name, near)[-1]
        assert {n: v for n, v in again.values.items() if v is not None} == {
            n: v for n, v in made[-1].values.items() if v is not None}


def test_a_series_refuses_what_it_does_not_believe() -> None:
    with pytest.raises(InvalidMessage, match="fear_greed: expected 0 to 100 index, 0 to 100, found 140"):
        SERIES["fear_greed"].check(observation("fear_greed", END_NS, 140.0))
    with pytest.raises(InvalidMessage, match="expected an instrument of SPY, SP500; found DIA"):
        SERIES["sp500"].check(observation("sp500", END_NS, 400.0, instrument="DIA"))


def test_every_view_of_the_store_and_its_service_come_from_the_declarations() -> None:
    assert {view.name: view.zone for view in STORED} == {f"{v.name}_features": v.name for v in SLOW_VIEWS}
    assert [name for taken in services()["context_v1"].values() for name in taken] == list(SLOW_NAMES)
    assert not set(SLOW_NAMES) & {n for taken in services()["forecast_bar_v1"].values() for n in taken}
    for view in SLOW_VIEWS:
        assert view.ttl_ns >= min(SERIES[name].stale_ns for name in view.series)
        assert view.ttl_ns > DAY_NS or view.lag_ns < HOUR_NS, "a value is known before it is too old"


def test_sessions_close_at_four_in_new_york() -> None:
    assert sessions(1) == [session_close(LAST_DAY)]
    assert session_close(LAST_DAY) % DAY_NS == 20 * HOUR_NS


def test_what_a_backfill_files_is_part_of_news_that_come_after_it_and_of_its_own_rows() -> None:
    *older, last = made_fear_greed(9)
    filed = [o.model_copy(update={"provenance": "backfill", "ts_init": last.ts_init + MINUTE_NS}) for o in older]
    after = last.model_copy(update={"ts_init": last.ts_init + MINUTE_NS, "created": last.created + MINUTE_NS})
    made = rows(VIEW_OF["fear_greed"], "BTCUSDT", [*filed, last, after], [*filed, last, after])
    assert [row.created for row in made] == [o.created for o in (*older, last, after)]
    change = [row.values["fear_greed_change_7d"] is not None for row in made]
    # The file's own rows hold what it holds; the poller's before its stamp does not, the one at its stamp does.
    assert change == [False] * 7 + [True] + [False, True]
