"""A recomputation that goes on gives what one of everything gives, whatever is asked for in between."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import pytest

from feature_repo import topics
from feature_repo.contracts import SECOND_NS, SecondClosed
from infra.drill.made_market import MadeMarket, Record
from streaming.recompute import Recomputation, Running, recompute

SYMBOL, BEGIN_NS, SECONDS = "BTCUSDT", 1_723_161_600 * SECOND_NS, 90
Raw = Mapping[str, Any]


def raw(records: Iterator[Record]) -> list[Raw]:
    return [{"schema": record.schema.decode(), "value": record.value} for record in records]


@pytest.fixture(scope="module")
def parts() -> list[list[Raw]]:
    """History, then a part for each second; every seventh is silent."""
    market = MadeMarket(SYMBOL, 3, BEGIN_NS)
    return [raw(market.history(100)), *(raw(market.second(5 if n % 7 else 0)) for n in range(1, SECONDS + 1))]


def closes_of(again: Recomputation) -> list[int]:
    return [close for close in sorted(again.closes) if close > BEGIN_NS]


def test_going_on_gives_the_rows_and_sequences_of_all_at_once(parts: list[list[Raw]]) -> None:
    whole = recompute(SYMBOL, [record for part in parts for record in part])
    running = Running(SYMBOL, SECONDS)
    for n, part in enumerate(parts):
        running.take(part)
        if n % 30 == 29:
            running.rows(closes_of(running)[-5:])
    closes = closes_of(whole)
    assert closes == closes_of(running) == list(range(BEGIN_NS + SECOND_NS, BEGIN_NS + 91 * SECOND_NS, SECOND_NS))
    assert running.rows(closes) == whole.rows(closes)
    for ours, theirs in zip(running.sequences(closes), whole.sequences(closes), strict=True):
        np.testing.assert_array_equal(ours, theirs)
    assert running.bars == []


def test_rows_can_be_asked_for_in_the_room_alone(parts: list[list[Raw]]) -> None:
    running = Running(SYMBOL, 20)
    for part in parts:
        running.take(part)
    assert sorted(running.closes) == list(
        range(BEGIN_NS + (SECONDS - 19) * SECOND_NS, BEGIN_NS + (SECONDS + 1) * SECOND_NS, SECOND_NS))


def test_what_the_stream_refuses_changes_nothing(parts: list[list[Raw]]) -> None:
    records = [record for part in parts for record in part]
    trade = next(record for record in records if record["schema"].startswith("Trade"))
    other = raw(MadeMarket("ETHUSDT", 4, BEGIN_NS).second(5))
    broken = [
        {"schema": None, "value": None}, {"schema": trade["schema"], "value": trade["value"][:-3]},
        {"schema": "Trade:0", "value": trade["value"]}, trade, *other,
    ]
    dirty = [one for record in records for one in (record, *broken)]
    closes = closes_of(recompute(SYMBOL, records))
    assert recompute(SYMBOL, dirty).rows(closes) == recompute(SYMBOL, records).rows(closes)


def test_a_row_made_of_what_became_known_after_it_is_told() -> None:
    market = MadeMarket(SYMBOL, 3, BEGIN_NS)
    records = [*raw(market.history(3)), *raw(market.second(5)), *raw(market.second(5))]
    assert recompute(SYMBOL, records).known_later == {}
    seal = topics.decode(records[-1]["value"], records[-1]["schema"])
    assert isinstance(seal, SecondClosed)
    early = seal.model_copy(update={"ts_init": seal.ts_init - 5 * SECOND_NS})
    again = recompute(SYMBOL, [*records[:-1], {"schema": records[-1]["schema"], "value": topics.encode(early)}])
    assert again.known_later == {seal.close: seal.ts_init - SECOND_NS}
