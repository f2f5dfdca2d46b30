"""The hub sends each client a snapshot and then every change, typed and numbered, and waits for nobody."""

from __future__ import annotations

import asyncio
import json

import pytest

from bentos.live import Hub, NotFollowed, Outbox, Received, TooManyClients
from bentos.live_socket import Budget, InboundLimit, allowed_origins, origin_objection
from bentos.live_state import BARS_KEPT, BOOKS_KEPT, LiveState
from bentos.market import MarketBoard
from feature_repo.contracts import (
    SECOND_NS,
    Bar,
    LiveSnapshot,
    LiveStatus,
    LiveUpdate,
    OrderBook,
    PriceLevels,
)
from feature_repo.settings import Settings
from tests.bentos.made import MINUTE, made_row
from tests.feature_repo.made_bars import Walk

STATUS = LiveStatus(
    ts=MINUTE, source="simulated", session="made", symbol="BTCUSDT", last_event_age_ms=1.0, feature_age_ms=None,
    tier=5, model_version=None, feature_ages_ms={},
)

MARKET = MarketBoard(()).view(MINUTE)


def bar(second: int, created: int = 1) -> Bar:
    made = Walk(second).bar(MINUTE + second * SECOND_NS, 1)
    return made.model_copy(update={"created": made.close_time + created})


def book(millisecond: int) -> OrderBook:
    levels = PriceLevels(prices=[100.0], quantities=[1.0])
    depths = {f"{side}_depth_{bps}bps": None for side in ("bid", "ask") for bps in (5, 10, 25)}
    return OrderBook(
        symbol="BTCUSDT", ts_event=MINUTE + millisecond * 1_000_000, ts_init=MINUTE, source="simulated", session="made",
        last_update_id=millisecond, mid_price=100.0, bids=levels, asks=levels, bid_bins=[None] * 30,
        ask_bins=[1.0] * 30, **depths,
    )


def snapshot(state: LiveState) -> LiveSnapshot:
    return LiveSnapshot.model_validate_json(state.snapshot(STATUS, MARKET))


def test_a_snapshot_has_its_type_and_its_bars_ascending_whatever_their_order() -> None:
    state = LiveState("BTCUSDT")
    for offset, second in enumerate([3, 1, 2, 5, 4]):
        state.take("bar", offset, bar(second))
    made = snapshot(state)
    assert [b.close_time for b in made.bars] == [MINUTE + s * SECOND_NS for s in (1, 2, 3, 4, 5)]
    assert made.sequences == {"bar": 4}


def test_a_repeated_bar_is_no_news_and_a_revision_is() -> None:
    state = LiveState("BTCUSDT")
    assert state.take("bar", 0, bar(1)) is not None
    assert state.take("bar", 1, bar(1)) is None
    assert state.take("bar", 2, bar(1, created=2)) is not None
    assert [b.created for b in snapshot(state).bars] == [bar(1, created=2).created]
    assert state.sequences["bar"] == 2


def test_only_the_last_ten_minutes_of_second_bars_are_kept() -> None:
    state = LiveState("BTCUSDT")
    for second in range(1, BARS_KEPT + 11):
        state.take("bar", second, bar(second))
    assert state.take("bar", 0, bar(3)) is None
    assert state.take("bar", 0, bar(1).model_copy(update={"interval_s": 60})) is None
    bars = snapshot(state).bars
    assert (len(bars), bars[0].close_time) == (BARS_KEPT, MINUTE + 11 * SECOND_NS)


def test_a_snapshot_has_one_book_a_second_and_a_client_hears_every_one() -> None:
    state = LiveState("BTCUSDT")
    heard = [state.take("book", i, book(i * 250)) for i in range(4 * (BOOKS_KEPT + 5))]
    assert None not in heard
    books = snapshot(state).books
    assert len(books) == BOOKS_KEPT
    assert {b.ts_event % SECOND_NS for b in books} == {0}


def test_an_update_is_typed_and_numbered_by_its_offset() -> None:
    state = LiveState("BTCUSDT")
    made = [state.take("bar", 17, bar(1)), state.take("book", 4, book(0)), state.take("features", 9, made_row())]
    updates = [LiveUpdate.model_validate_json(text or "") for text in made]
    assert [(u.type, u.sequence, type(u.data).__name__) for u in updates] == [
        ("bar", 17, "Bar"), ("book", 4, "OrderBook"), ("features", 9, "FeatureRow"),
    ]


def test_an_older_feature_row_is_no_news() -> None:
    state = LiveState("BTCUSDT")
    assert state.take("features", 1, made_row(MINUTE + SECOND_NS)) is not None
    assert state.take("features", 2, made_row(MINUTE)) is None
    features = snapshot(state).features
    assert features is not None
    assert features.ts_event == MINUTE + SECOND_NS


async def test_a_slow_reader_jumps_to_the_newest_of_each_channel() -> None:
    outbox = Outbox(limit=10)
    outbox.put(None, "snapshot")
    for i in range(200):
        outbox.put("bar", f"bar {i}")
        if i % 50 == 0:
            outbox.put("prediction", f"prediction {i}")
    texts = await outbox.get()
    assert len(texts) <= 10
    assert texts[0] == "snapshot"
    assert texts[-1] == "bar 199"
    assert "prediction 150" in texts
    assert outbox.dropped == 205 - len(texts)
    outbox.put("bar", "bar 200")
    assert await outbox.get() == ["bar 200"]


async def test_a_slow_client_does_not_delay_another_and_what_it_missed_is_counted() -> None:
    dropped: list[int] = []
    hub = Hub(["BTCUSDT"], lambda _: STATUS, dropped.append)
    slow, quick = hub.join("BTCUSDT"), hub.join("BTCUSDT")
    heard = len(await quick.get())
    for second in range(1, 301):
        hub.take([Received("bar", "BTCUSDT", second, bar(second))])
        heard += len(await quick.get())
    assert heard == 301
    assert slow.dropped > 200
    assert sum(dropped) == slow.dropped
    assert json.loads((await slow.get())[-1])["sequence"] == 300


async def test_the_snapshot_and_the_updates_leave_no_gap() -> None:
    hub = Hub(["BTCUSDT"], lambda _: STATUS)
    hub.take([Received("bar", "BTCUSDT", i, bar(i)) for i in range(1, 4)])
    outbox = hub.join("BTCUSDT")
    hub.take([Received("bar", "BTCUSDT", i, bar(i)) for i in range(4, 6)])
    first, *rest = await outbox.get()
    assert LiveSnapshot.model_validate_json(first).sequences["bar"] == 3
    assert [LiveUpdate.model_validate_json(text).sequence for text in rest] == [4, 5]


async def test_a_tick_sends_the_status_with_a_counter_and_who_left_hears_nothing() -> None:
    hub = Hub(["BTCUSDT"], lambda _: STATUS)
    stays, leaves = hub.join("BTCUSDT"), hub.join("BTCUSDT")
    hub.leave("BTCUSDT", leaves)
    hub.tick(MINUTE)
    hub.tick(MINUTE)
    updates = [LiveUpdate.model_validate_json(text) for text in (await stays.get())[1:]]
    assert [(u.type, u.sequence) for u in updates] == [("status", 1), ("status", 2)]
    assert len(await leaves.get()) == 1


def test_the_hub_has_room_for_so_many() -> None:
    async def fill() -> None:
        hub = Hub(["BTCUSDT"], lambda _: STATUS, max_clients=2)
        hub.join("BTCUSDT")
        hub.join("BTCUSDT")
        with pytest.raises(TooManyClients, match="at most 2"):
            hub.join("BTCUSDT")

    asyncio.run(fill())


PAGE = allowed_origins(Settings(allowed_origins=("https://candlewick.example/",)))


@pytest.mark.parametrize(("origin", "peer", "objection"), [
    ("http://localhost:13000", "127.0.0.1", None),
    ("http://127.0.0.1:13000", "127.0.0.1", None),
    ("https://candlewick.example", "203.0.113.9", None),
    ("HTTPS://Candlewick.Example", "203.0.113.9", None),
    (None, "127.0.0.1", None),
    (None, "::1", None),
    (None, "203.0.113.9", "an Origin header is expected from another machine"),
    ("null", "127.0.0.1", "origin null is not allowed"),
    ("http://localhost:13001", "127.0.0.1", "origin http://localhost:13001 is not allowed"),
    ("http://localhost:13000.evil.example", "127.0.0.1", "origin http://localhost:13000.evil.example is not allowed"),
    ("https://evil.example", "127.0.0.1", "origin https://evil.example is not allowed"),
])
def test_who_may_open_a_socket(origin: str | None, peer: str, objection: str | None) -> None:
    assert origin_objection(origin, peer, PAGE) == objection


def test_a_second_may_bring_five_small_messages() -> None:
    limit = InboundLimit()
    assert [limit.objection(10, 0.1 * i) for i in range(6)] == [None] * 5 + [1008]
    assert limit.objection(10, 2.0) is None
    assert limit.objection(1_025, 9.0) == 1009


def test_a_budget_lets_a_burst_out_and_then_holds_the_rate() -> None:
    budget = Budget(100.0, now_s=0.0)
    assert [budget.spend(50, 0.0) for _ in range(4)] == [0.0, 0.0, 0.5, 1.0]
    assert budget.spend(50, 10.0) == 0.0


async def test_a_symbol_that_is_added_has_a_state_and_one_that_is_removed_lets_its_clients_go() -> None:
    hub = Hub(["BTCUSDT"], lambda _: STATUS)
    stays = hub.join("BTCUSDT")
    hub.follow(["BTCUSDT", "ETHUSDT"])
    goes = hub.join("ETHUSDT")
    assert len(await goes.get()) == 1
    hub.follow(["BTCUSDT"])
    with pytest.raises(NotFollowed):
        await goes.get()
    with pytest.raises(KeyError):
        hub.join("ETHUSDT")
    hub.leave("ETHUSDT", goes)
    hub.take([Received("bar", "ETHUSDT", 1, bar(1)), Received("bar", "BTCUSDT", 2, bar(1))])
    assert [json.loads(text).get("sequence") for text in (await stays.get())[1:]] == [2]
    assert (hub.clients, list(hub.states)) == (1, ["BTCUSDT"])
