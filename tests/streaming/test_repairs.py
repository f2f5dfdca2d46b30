"""Repairs ask the venue no more often than it allows, whatever it answers, and bring every trade of an outage."""

from __future__ import annotations

import asyncio
from collections import Counter
from dataclasses import replace
from itertools import pairwise
from typing import Any, cast

import pytest

from feature_repo.contracts import MINUTE_NS, SECOND_NS, MissingTrades, SecondClosed, Trade, VenueRefused
from streaming import repairs as repairs_module
from streaming.clock import VenueClock
from streaming.feed import Feed
from streaming.ingest_metrics import IngestMetrics
from streaming.repairs import SNAPSHOTS_PER_MINUTE, Repairs
from streaming.seal import Resume
from streaming.tail import LastSeal, find_last_seal
from streaming.venues.binance import Snapshot, TradeFrame
from streaming.venues.binance_rest import PAGE, Identity, TradesPage
from streaming.venues.market import SPOT
from tests.streaming.made_ingest import Memory
from tests.streaming.test_feed import START, at, depth, feed_of, trade


class Venue:
    """A venue whose time passes only while somebody waits, and whose snapshots fit nothing.

    Trade i happened i × 300 ms after the start; the newest is that of now.
    """

    market = SPOT

    def __init__(self, refuses: bool = False) -> None:
        self.now = START
        self.asked: list[int] = []
        self.pages: Counter[str] = Counter()
        self.refuses = refuses
        self.lacks: set[int] = set()

    async def sleep(self, seconds: float) -> None:
        self.now += round(seconds * SECOND_NS)
        await asyncio.sleep(0)

    async def wait(self, seconds: float) -> None:
        """Until somebody else's sleep has brought the time."""
        until = self.now + round(seconds * SECOND_NS)
        while self.now < until:  # noqa: ASYNC110 - time is a number here, which nobody signals
            await asyncio.sleep(0)

    async def depth(self, _symbol: str, **_asked: Any) -> Snapshot:
        self.asked.append(self.now)
        if self.refuses:
            raise VenueRefused("503")
        return Snapshot(5, ((1, 1),), ((2, 1),))

    async def klines(self, *_asked: Any) -> list[Any]:
        return []

    @property
    def newest(self) -> int:
        return (self.now - START) // (300 * 1_000_000)

    def frame(self, symbol: str, trade_id: int) -> TradeFrame:
        return replace(trade(trade_id, trade_id * 300), symbol=symbol)

    async def newest_trade_id(self, _symbol: str) -> int:
        return self.newest

    async def trades_page(
        self, symbol: str, first: int, last: int | None, since_ns: int | None, share: float = 1.0,
    ) -> TradesPage:
        assert since_ns is None or self.now - since_ns <= MINUTE_NS
        assert share <= 1.0
        self.pages[symbol] += 1
        await self.wait(0.1)
        if self.refuses:
            raise VenueRefused("503")
        end = self.newest if last is None else last
        ids = [i for i in range(first, min(first + PAGE + len(self.lacks), end + 1)) if i not in self.lacks][:PAGE]
        return TradesPage([self.frame(symbol, i) for i in ids], is_last=len(ids) < PAGE or ids[-1] == last)


async def asked_within(venue: Venue, rounds: int) -> list[int]:
    clock = VenueClock(lambda: venue.now, START, 0)
    repairs = Repairs(cast(Any, venue), lambda: clock, venue.sleep)
    feed = feed_of(Memory())
    assert feed.hole is not None
    feed.filled(feed.hole)
    feed.on_frame(depth(100, 0), at(0))
    for _ in range(rounds):
        repairs.look_after(feed)
        await asyncio.gather(*repairs._running.values())
        await venue.sleep(0.05)
    return venue.asked


async def test_snapshots_are_asked_for_five_times_in_any_minute_at_most() -> None:
    for refuses in (False, True):
        asked = await asked_within(Venue(refuses), rounds=30)
        fullest = max(sum(first <= other < first + MINUTE_NS for other in asked) for first in asked)
        assert fullest == SNAPSHOTS_PER_MINUTE == 5
        assert asked[-1] - asked[0] > 10 * MINUTE_NS


def returned(
    venue: Venue, memory: Memory, away_s: int, symbol: str = "BTCUSDT", has_room: Any = lambda: True,
    last: LastSeal | None = None, session: str = "s-loop0",
) -> Feed:
    """A feed that sealed its first second, was away, and has just been connected again."""
    last = last or LastSeal("recording", "s-loop0", Resume(at(1_000), 3))
    venue.now = max(venue.now, last.resume.close + away_s * SECOND_NS)
    feed = Feed(symbol, memory.publish, IngestMetrics(), last, has_room)
    feed.connected(Identity("recording", session), venue.now, lambda ns: ns)
    feed.wants_snapshot = False
    return feed


async def looked_after(venue: Venue, repairs: Repairs, *feeds: Feed, seconds: float) -> None:
    """The stream goes on for so long: every trade from the connection on, and what time makes due."""
    streamed, until = venue.newest, venue.now + round(seconds * SECOND_NS)
    while venue.now < until:
        await venue.sleep(0.05)
        for trade_id in range(streamed + 1, venue.newest + 1):
            for feed in feeds:
                feed.on_frame(venue.frame(feed.symbol, trade_id), venue.now)
        streamed = max(streamed, venue.newest)
        for feed in feeds:
            feed.on_tick(venue.now, 0)
            feed.wants_snapshot = False
            repairs.look_after(feed)
    await repairs.cancel()


def of(memory: Memory, symbol: str, kind: Any) -> list[Any]:
    return [message for message in memory.of(kind) if message.symbol == symbol]


def repairs_of(venue: Venue, has_room: Any = lambda: True) -> Repairs:
    clock = VenueClock(lambda: venue.now, START, 0)
    return Repairs(cast(Any, venue), lambda: clock, venue.wait, has_room)


def is_whole(memory: Memory, symbol: str = "BTCUSDT") -> bool:
    """Every second after the first is sealed once with its trades, and every id was published once, none late."""
    seals, trades = of(memory, symbol, SecondClosed), of(memory, symbol, Trade)
    ids = sorted(sent.trade_id for sent in trades)
    counted = Counter(sent.ts_event // SECOND_NS * SECOND_NS + SECOND_NS for sent in trades)
    return (
        [seal.prev_close for seal in seals] == [at(1_000), *(seal.close for seal in seals[:-1])]
        and all(seal.n_trades == counted[seal.close] for seal in seals)
        and ids == list(range(4, ids[-1] + 1)) and not any(sent.late for sent in trades)
    )


def holes_of(memory: Memory, symbol: str, first: int | None = None) -> list[tuple[int, int]]:
    """From and until when there are no seals, after the first seal or `first`."""
    closes = [*([first] if first else []), *(seal.close for seal in of(memory, symbol, SecondClosed))]
    return [(a, b - SECOND_NS) for a, b in pairwise(closes) if b - a > SECOND_NS]


@pytest.mark.parametrize("away_s", [50, 700, 3_500])
async def test_outage_is_recovered_by_ids_page_by_page_and_sealed_without_a_hole(away_s: int) -> None:
    venue, memory = Venue(), Memory()
    feed = returned(venue, memory, away_s)
    await looked_after(venue, repairs_of(venue), feed, seconds=30)
    assert is_whole(memory)
    assert len(memory.of(SecondClosed)) > away_s
    assert venue.pages["BTCUSDT"] <= 2 + away_s * 10 // 3 // PAGE + 1
    sent = [message for _, message in memory.sent if isinstance(message, Trade | SecondClosed)]
    waiting = [0, *(1 if isinstance(message, Trade) else -message.n_trades for message in sent)]
    assert max(sum(waiting[:i]) for i in range(0, len(waiting), 50)) < PAGE + 400  # a page, and the stream's own


async def test_trades_of_the_stream_beyond_what_is_kept_are_fetched_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("streaming.feed.MOST_KEPT_AHEAD", 3)
    venue, memory = Venue(), Memory()
    feed = returned(venue, memory, 2_000)
    await looked_after(venue, repairs_of(venue), feed, seconds=30)
    assert is_whole(memory)


async def test_ids_that_the_venue_does_not_have_leave_a_hole_of_their_seconds_alone() -> None:
    venue, memory = Venue(), Memory()
    venue.lacks = set(range(1_500, 1_510))
    feed = returned(venue, memory, 1_500)
    await looked_after(venue, repairs_of(venue), feed, seconds=10)
    assert holes_of(memory, "BTCUSDT") == [(at(449_000), at(454_000))]
    assert {sent.trade_id for sent in memory.of(Trade)} >= set(range(4, 5_000)) - venue.lacks


async def test_more_ids_than_may_be_waited_for_leave_a_hole_and_the_other_symbol_is_recovered(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(repairs_module, "MOST_RECOVERED", 3_000)
    venue, memory = Venue(), Memory()
    feeds = [returned(venue, memory, 900, symbol) for symbol in ("BTCUSDT", "ETHUSDT")]
    await looked_after(venue, repairs_of(venue), *feeds, seconds=5)
    [(left, hole)] = [(feed.symbol, hole) for feed in feeds for hole in holes_of(memory, feed.symbol)]
    assert at(300_000) <= hole[0] < at(310_000)
    assert hole[1] >= at(901_000)
    assert is_whole(memory, "ETHUSDT" if left == "BTCUSDT" else "BTCUSDT")


async def test_venue_that_refuses_leaves_a_hole_after_a_few_tries() -> None:
    venue, memory = Venue(refuses=True), Memory()
    feed = returned(venue, memory, 700)
    await looked_after(venue, repairs_of(venue), feed, seconds=15)
    assert venue.pages["BTCUSDT"] == 4 + 4  # for the seals; for the raw history, which is tried again a minute later
    [(_, end)] = holes_of(memory, "BTCUSDT", at(1_000))
    assert end >= at(701_000)


def published(memory: Memory, late: bool) -> list[int]:
    return [sent.trade_id for sent in memory.of(Trade) if sent.late == late]


async def test_trades_of_a_longer_outage_are_fetched_later_while_the_stream_goes_on() -> None:
    venue, memory = Venue(), Memory()
    feed = returned(venue, memory, 7_000)
    repairs, first = repairs_of(venue), venue.newest + 1
    await looked_after(venue, repairs, feed, seconds=5)
    assert holes_of(memory, "BTCUSDT", at(1_000)) == [(at(1_000), at(7_001_000))]
    assert len(memory.of(SecondClosed)) >= 3
    assert memory.of(MissingTrades)[-1].last_ids == [first - 1]
    await looked_after(venue, repairs, feed, seconds=30)
    # Those of the second that was connected only at its end are late too.
    assert published(memory, late=True)[-(first - 4):] == list(range(4, first))
    assert sorted(sent.trade_id for sent in memory.of(Trade)) == list(range(4, venue.newest + 1))
    assert memory.of(MissingTrades)[-1].first_ids == []
    assert feed.sealer.late == 0


@pytest.mark.parametrize("unacknowledged", [0, 700])
async def test_what_is_owed_survives_a_restart(unacknowledged: int) -> None:
    venue, memory = Venue(), Memory()
    await looked_after(venue, repairs_of(venue), returned(venue, memory, 7_000), seconds=10)
    del memory.sent[len(memory.sent) - unacknowledged :]
    last = find_last_seal(memory.records("BTCUSDT"), "BTCUSDT")
    assert last is not None
    assert last.missing is not None
    assert last.missing.first_ids
    feed = returned(venue, memory, 20, last=last)
    await looked_after(venue, repairs_of(venue), feed, seconds=30)
    ids = Counter(sent.trade_id for sent in memory.of(Trade))
    assert sorted(ids) == list(range(4, venue.newest + 1))
    # A page that the broker had, but not what was said of it, is sent again: known by its ids.
    assert sum(ids.values()) - len(ids) <= (PAGE if unacknowledged else 0)
    assert len(holes_of(memory, "BTCUSDT")) == 0


async def test_a_run_that_ended_before_it_sealed_behind_its_hole_leaves_that_to_the_next() -> None:
    """The next run loses the hole again and owes it itself: owed twice it would be fetched twice."""
    venue, memory = Venue(), Memory()
    left = MissingTrades(
        symbol="BTCUSDT", ts_event=at(1_000), ts_init=at(1_000), source="recording", session="s-loop0",
        first_ids=[1, 4], last_ids=[2, 20_000])
    last = LastSeal("recording", "s-loop0", Resume(at(1_000), 3), left)
    feed = returned(venue, memory, 7_000, last=last)
    assert (feed.arrears.next, feed.arrears.count) == ((1, 2), 2)
    [said] = memory.of(MissingTrades)
    assert (said.first_ids, said.last_ids) == ([1], [2])
    await looked_after(venue, repairs_of(venue), feed, seconds=60)
    ids = Counter(sent.trade_id for sent in memory.of(Trade))
    assert set(ids) == {1, 2, *range(4, venue.newest + 1)}
    assert set(ids.values()) == {1}


async def test_trades_that_the_venue_refused_are_fetched_when_it_answers_again() -> None:
    venue, memory = Venue(refuses=True), Memory()
    feed = returned(venue, memory, 700)
    repairs = repairs_of(venue)
    await looked_after(venue, repairs, feed, seconds=20)
    venue.refuses = False
    await looked_after(venue, repairs, feed, seconds=20)
    assert sorted(published(memory, late=True) + published(memory, late=False)) == list(range(4, venue.newest + 1))


async def test_ids_of_another_series_are_not_owed() -> None:
    venue, memory = Venue(), Memory()
    await looked_after(venue, repairs_of(venue), returned(venue, memory, 7_000), seconds=5)
    last = find_last_seal(memory.records("BTCUSDT"), "BTCUSDT")
    feed = returned(venue, memory, 20, last=last, session="other-loop0")
    assert feed.arrears.next is None
    sent = len(memory.sent)
    await looked_after(venue, repairs_of(venue), feed, seconds=10)
    assert not [m for _, m in memory.sent[sent:] if isinstance(m, MissingTrades) or (isinstance(m, Trade) and m.late
                and m.ts_event < at(7_000_000))]


async def test_nothing_is_fetched_or_sealed_while_there_is_no_room() -> None:
    venue, memory, room = Venue(), Memory(), [False]
    feed = returned(venue, memory, 700, has_room=lambda: room[0])
    repairs = repairs_of(venue, lambda: room[0])
    running = asyncio.create_task(looked_after(venue, repairs, feed, seconds=30))
    while venue.now < at(715_000):  # noqa: ASYNC110 - the venue's time passes only in the other task
        await asyncio.sleep(0)
    assert (venue.pages["BTCUSDT"], memory.of(SecondClosed)) == (0, [])
    room[0] = True
    await running
    assert is_whole(memory)
