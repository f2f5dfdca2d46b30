"""Trades read in bulk are the trades read one at a time; what is not plainly right is left to the strict way."""

from __future__ import annotations

import io
import random
import struct

import fastavro
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from feature_repo import topics
from feature_repo.contracts import SECOND_NS, InvalidMessage, Trade
from streaming.bars import Tick, tick_of
from streaming.ticks import FIELDS, TRADE, read_ticks

NOW = 1_723_161_300 * SECOND_NS


def trade(trade_id: int = 7, **changes: object) -> Trade:
    return Trade(**{
        "symbol": "BTCUSDT", "ts_event": NOW, "ts_init": NOW + 5, "source": "recording", "session": "a session",
        "trade_id": trade_id, "price": 61_837.63, "quantity": 0.00021, "buyer_is_maker": False, **changes,
    })


def strictly(body: bytes) -> Tick | None:
    try:
        message = topics.decode(body, TRADE)
    except InvalidMessage:
        return None
    assert isinstance(message, Trade)
    return tick_of(message, body)


times = st.one_of(st.integers(0, 2**63 - 1), st.just(NOW))
positive = st.floats(min_value=0, exclude_min=True, allow_infinity=False)
trades = st.builds(
    trade, trade_id=st.integers(0, 2**63 - 1),
    ts_event=times, ts_init=times,
    source=st.sampled_from(["live", "recording"]), session=st.sampled_from(["s", "ein längerer Name", "x" * 150]),
    price=st.one_of(positive, st.integers(1, 10**9).map(lambda n: n / 100)), quantity=positive,
    buyer_is_maker=st.booleans(), late=st.booleans(),
)


def test_the_layout_read_here_is_the_contracts() -> None:
    assert tuple(Trade.model_fields) == FIELDS


@settings(deadline=None)
@given(st.lists(trades, max_size=12))
def test_a_tick_read_in_bulk_is_the_trade_read_alone(found: list[Trade]) -> None:
    bodies = [topics.encode(one) for one in found]
    for body, tick in zip(bodies, read_ticks(bodies, "BTCUSDT"), strict=True):
        assert tick is None or tick == strictly(body)


def test_ordinary_trades_are_all_read_in_bulk_in_their_places() -> None:
    rng = random.Random(3)
    found = [
        trade(rng.randrange(10**rng.randrange(1, 12)), price=rng.randrange(1, 10**9) / 100,
              ts_event=NOW + rng.randrange(10**12), quantity=rng.randrange(1, 10**9) / 1e5,
              buyer_is_maker=rng.random() < 0.5, late=rng.random() < 0.1)
        for _ in range(500)
    ]
    assert read_ticks([topics.encode(one) for one in found], "BTCUSDT") == [
        tick_of(one, topics.encode(one)) for one in found
    ]


@settings(deadline=None, max_examples=300)
@given(st.integers(0, 2**32 - 1))
def test_no_damaged_body_is_read_as_another_trade(seed: int) -> None:
    rng = random.Random(seed)
    bodies = [topics.encode(trade(n)) for n in range(100, 108)]
    for _ in range(rng.randrange(1, 6)):
        place = rng.randrange(len(bodies))
        damaged = bytearray(bodies[place])
        if damaged:
            damaged[rng.randrange(len(damaged))] = rng.randrange(256)
        bodies[place] = bytes(damaged[: rng.choice([len(damaged), rng.randrange(len(damaged) + 1)])])
    for body, tick in zip(bodies, read_ticks(bodies, "BTCUSDT"), strict=True):
        assert tick is None or tick == strictly(body)


@pytest.mark.parametrize("bad", [
    {"price": float("nan")}, {"price": float("inf")}, {"price": -1.0}, {"quantity": 0.0}, {"ts_event": -1},
    {"trade_id": -5},
])
def test_numbers_against_the_contract_are_left_to_the_strict_way(bad: dict[str, float]) -> None:
    out = io.BytesIO()
    fastavro.schemaless_writer(out, topics.parsed_schema(Trade), trade().model_dump() | bad)
    good = topics.encode(trade())
    assert [tick is None for tick in read_ticks([good, out.getvalue(), good], "BTCUSDT")] == [False, True, False]
    assert strictly(out.getvalue()) is None


def test_a_trade_of_another_symbol_and_a_flag_that_is_no_flag_are_left_to_the_strict_way() -> None:
    other, odd = topics.encode(trade(symbol="ETHUSDT")), topics.encode(trade())[:-1] + struct.pack("B", 2)
    assert read_ticks([other, odd, topics.encode(trade())], "BTCUSDT")[:2] == [None, None]
