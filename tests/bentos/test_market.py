"""The table of all markets: the newest line of each, who moves most, and one message a second to every client."""

from __future__ import annotations

import asyncio
import json

from hypothesis import given
from hypothesis import strategies as st

from bentos.live import Hub, Received
from bentos.market import FRESH_NS, MOST_MOVERS, MarketBoard, movers
from feature_repo.contracts import SECOND_NS, LiveSnapshot, LiveUpdate, Market, MarketSummary
from tests.bentos.made import MINUTE, made_summary
from tests.bentos.test_live import STATUS

SYMBOLS = ("BTCUSDT", "ETHUSDT")


def board(*lines: MarketSummary) -> MarketBoard:
    made = MarketBoard(SYMBOLS)
    for offset, line in enumerate(lines):
        made.take(0, offset, line)
    return made


def test_each_symbol_has_its_newest_line_whatever_the_order() -> None:
    old, new, eth = made_summary(), made_summary(ts_event=MINUTE + SECOND_NS, price=101.0), made_summary("ETHUSDT")
    table = board(eth, new, old, new).view(MINUTE + SECOND_NS)
    assert [(line.symbol, line.price) for line in table.summaries] == [("BTCUSDT", 101.0), ("ETHUSDT", 100.0)]


def test_a_revision_known_later_replaces_the_line() -> None:
    revised = made_summary(price=99.0, created=MINUTE + SECOND_NS)
    assert [line.price for line in board(revised, made_summary()).view(MINUTE).summaries] == [99.0]


def test_a_symbol_that_is_not_followed_is_not_shown() -> None:
    assert board(made_summary("XRPUSDT")).view(MINUTE).summaries == []


def test_the_source_is_told_only_when_it_is_one() -> None:
    assert board(made_summary()).view(MINUTE).source == "simulated"
    assert board(made_summary(), made_summary("ETHUSDT", source="live")).view(MINUTE).source is None
    assert board().view(MINUTE).source is None


def test_movers_are_ordered_by_change_and_an_unknown_change_is_none() -> None:
    changes = {"A1": 0.01, "B1": -0.03, "C1": 0.02, "D1": None, "E1": 0.0, "F1": -0.01}
    found = movers([made_summary(symbol, change_1h=change) for symbol, change in changes.items()], "1h")
    assert (found.up, found.down) == (["C1", "A1"], ["B1", "F1"])


@given(st.lists(st.floats(-1, 1) | st.none(), max_size=20), st.randoms())
def test_movers_do_not_depend_on_the_order_of_the_lines(changes: list[float | None], random: object) -> None:
    lines = [made_summary(f"S{n}", change_10s=change) for n, change in enumerate(changes)]
    shuffled = list(lines)
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    found = movers(lines, "10s")
    assert found == movers(shuffled, "10s")
    assert len(found.up) <= MOST_MOVERS
    assert len(found.down) <= MOST_MOVERS
    assert not set(found.up) & set(found.down)


def test_a_symbol_gone_silent_stays_in_the_table_and_leaves_the_movers() -> None:
    made = board(made_summary(change_1m=0.05))
    assert made.view(MINUTE + FRESH_NS).movers[1].up == ["BTCUSDT"]
    late = made.view(MINUTE + FRESH_NS + 1)
    assert (late.movers[1].up, len(late.summaries)) == ([], 1)


def test_the_sequence_grows_with_every_record_of_every_partition_and_not_with_a_repeat() -> None:
    made, seen = MarketBoard(SYMBOLS), []
    for partition, offset in [(0, 0), (1, 0), (1, 1), (0, 1), (0, 1)]:
        made.take(partition, offset, made_summary())
        seen.append(made.sequence)
    assert seen == [1, 2, 3, 4, 4]


def test_every_client_hears_of_every_symbol_at_most_once_a_tick() -> None:
    async def run() -> list[list[str]]:
        hub = Hub(SYMBOLS, lambda symbol: STATUS.model_copy(update={"symbol": symbol}))
        outboxes = [hub.join(symbol) for symbol in SYMBOLS]
        for second in range(3):
            at = MINUTE + second * SECOND_NS
            hub.take([
                Received("market", symbol, 2 * second + n, made_summary(symbol, at)) for n, symbol in enumerate(SYMBOLS)
            ])
        hub.tick(MINUTE)
        hub.tick(MINUTE)
        return [await outbox.get() for outbox in outboxes]

    for snapshot, *updates in asyncio.run(run()):
        assert LiveSnapshot.model_validate_json(snapshot).market.summaries == []
        heard = [json.loads(text) for text in updates]
        assert [(m["type"], m["sequence"]) for m in heard] == [("market", 6), ("status", 1), ("status", 2)]
        table = LiveUpdate.model_validate_json(updates[0]).data
        assert isinstance(table, Market)
        assert [line.ts_event for line in table.summaries] == [MINUTE + 2 * SECOND_NS] * 2


def test_a_client_that_comes_later_has_the_table_in_its_snapshot() -> None:
    hub = Hub(SYMBOLS, lambda _: STATUS)
    hub.take([Received("market", "ETHUSDT", 41, made_summary("ETHUSDT"), partition=2)])
    outbox = hub.join("BTCUSDT")
    snapshot = LiveSnapshot.model_validate_json(asyncio.run(outbox.get())[0])
    assert [line.symbol for line in snapshot.market.summaries] == ["ETHUSDT"]
    assert snapshot.sequences["market"] == 42
