"""Explicit fields are a what-if on the newest row: what the kernel would have said had the bars been so."""

from __future__ import annotations

import pytest

from bentos.explicit import MOMENTUM, is_explicit, override
from feature_repo.contracts import SECOND_NS, PredictRequest
from feature_repo.features import FORECAST_BAR
from feature_repo.history import BarHistory, feature_row
from tests.bentos.made import made_row
from tests.feature_repo.made_bars import minutes_then_seconds


def request(**fields: object) -> PredictRequest:
    return PredictRequest.model_validate({"symbol": "BTCUSDT", **fields})


def test_a_plain_request_is_not_explicit() -> None:
    assert not is_explicit(request(timestamp=SECOND_NS))
    assert not is_explicit(request(momentum={}))
    assert is_explicit(request(imbalance=0.0))


def test_a_price_moves_the_close_as_the_kernel_would() -> None:
    *before, last = minutes_then_seconds(1_100)
    held, moved = BarHistory("BTCUSDT"), BarHistory("BTCUSDT")
    for bar in before:
        held.push(bar)
        moved.push(bar)
    price = last.close * 1.0002
    other = last.model_copy(update={"close": price, "high": max(last.high, price)})
    held.push(last)
    moved.push(other)
    asked, wanted = override(feature_row(last, held), request(price=price)), feature_row(other, moved)
    for name in ("return_1m", "return_5m", "return_15m", "sma_distance_5m", "sma_distance_15m", "vwap_distance_15m"):
        assert asked.row.values[name] == pytest.approx(wanted.values[name], rel=1e-9), name
    assert asked.row.price == price


def test_each_field_lands_in_its_feature_and_is_named() -> None:
    made = override(made_row(price=100.0), request(vwap=80.0, volatility=0.002, momentum={"1m": 0.01, "4h": -0.03}))
    assert made.row.values["vwap_distance_15m"] == pytest.approx(0.25)
    assert made.row.values["realized_vol_15m"] == 0.002
    assert (made.row.values["return_1m"], made.row.values["momentum_4h"]) == (0.01, -0.03)
    assert made.reasons == ("explicit input set vwap_distance_15m, realized_vol_15m, return_1m, momentum_4h",)


def test_what_is_said_outright_beats_what_follows_from_the_price() -> None:
    made = override(made_row(price=100.0), request(price=110.0, vwap=100.0, momentum={"1m": 0.5}))
    assert made.row.values["return_1m"] == 0.5
    assert made.row.values["vwap_distance_15m"] == pytest.approx(0.1)


def test_an_imbalance_changes_nothing_and_says_so() -> None:
    row = made_row()
    made = override(row, request(imbalance=0.9))
    assert made.row == row
    assert made.reasons == ("imbalance ignored: the model reads no order book",)


def test_an_unknown_window_is_refused_with_those_that_exist() -> None:
    with pytest.raises(ValueError, match=r"momentum: expected windows among 1m, 5m, 15m, 60m, 4h; found 2m, 7d"):
        override(made_row(), request(momentum={"7d": 0.0, "2m": 0.0, "1m": 0.0}))


def test_an_unknown_value_stays_unknown() -> None:
    made = override(made_row(return_5m=None, vwap_distance_15m=None), request(price=61_000.0))
    assert made.row.values["return_5m"] is None
    assert made.row.values["vwap_distance_15m"] is None


def test_every_momentum_window_is_an_input_of_the_model() -> None:
    assert set(MOMENTUM.values()) <= set(FORECAST_BAR)
