"""A feed refuses stray times, publishes in order, notices a stalled book and asks for what it lacks."""

from __future__ import annotations

import pytest

from feature_repo.contracts import SECOND_NS, OrderBook, SecondClosed, Trade
from streaming.backfill import Span
from streaming.clock import ClockSample, VenueClock, measured
from streaming.feed import Feed, StrayTime
from streaming.ingest_metrics import IngestMetrics
from streaming.seal import Resume
from streaming.seconds import Seconds
from streaming.tail import LastSeal
from streaming.venues.binance import DepthFrame, Snapshot, TickerFrame, TradeFrame
from streaming.venues.binance_rest import Identity
from tests.streaming.made_ingest import Memory

START = 1_723_161_300 * SECOND_NS
MS = 1_000_000
UNIT = 10**8


def at(ms: int) -> int:
    return START + ms * MS


def feed_of(memory: Memory, last: LastSeal | None = None, session: str = "s-loop0") -> Feed:
    feed = Feed("BTCUSDT", memory.publish, IngestMetrics(), last)
    feed.connected(Identity("recording", session), at(0), lambda ns: ns)
    return feed


def trade(trade_id: int, ms: int) -> TradeFrame:
    return TradeFrame("BTCUSDT", trade_id, "100.0", "1.0", at(ms) // MS, buyer_is_maker=False)


def depth(update: int, ms: int, quantity: int = 1) -> DepthFrame:
    return DepthFrame("BTCUSDT", at(ms) // MS, update, update, ((100 * UNIT, quantity * UNIT),), ())


def ticker(update: int) -> TickerFrame:
    return TickerFrame("BTCUSDT", update, (100 * UNIT, UNIT), (101 * UNIT, UNIT))


SNAPSHOT = Snapshot(10, ((100 * UNIT, UNIT),), ((101 * UNIT, UNIT),))


@pytest.mark.parametrize("ms", [-10_001, 10_001])
def test_event_far_from_the_venues_clock_is_refused_before_it_moves_anything(ms: int) -> None:
    memory = Memory()
    feed = feed_of(memory)
    for frame in (trade(1, ms), depth(11, ms)):
        with pytest.raises(StrayTime):
            feed.on_frame(frame, at(0))
    assert (memory.sent, feed.last_event_ns) == ([], None)


def test_nothing_is_sealed_before_the_history_of_the_time_before() -> None:
    memory = Memory()
    feed = feed_of(memory)
    for i in range(5):
        feed.on_frame(trade(i, i * 500), at(i * 500))
    assert feed.hole == Span(None, START)
    assert memory.of(SecondClosed) == []
    feed.filled(Span(None, START))
    feed.seal(at(2500))
    assert [(seal.close, seal.prev_close, seal.ts_init) for seal in memory.of(SecondClosed)] == [
        (at(1000), None, at(2500)),
    ]


def test_seal_follows_its_trades_and_carries_the_book_at_its_close() -> None:
    memory = Memory()
    feed = feed_of(memory)
    feed.filled(Span(None, START))
    feed.on_snapshot(SNAPSHOT, at(0))
    for update, (ms, quantity) in enumerate(((100, 2), (900, 3), (1050, 4), (1300, 5)), 11):
        feed.on_frame(depth(update, ms, quantity), at(ms))
        feed.on_frame(trade(update, ms), at(ms))
    [seal] = memory.of(SecondClosed)
    kinds = [type(message) for _, message in memory.sent if not isinstance(message, OrderBook)]
    assert kinds == [Trade, Trade, Trade, SecondClosed, Trade]
    assert (seal.n_trades, seal.book_valid, seal.bid_quantity, seal.ask_price) == (2, True, 3.0, 101.0)


def test_trade_of_a_fast_replay_that_runs_ahead_of_our_clock_is_known_when_it_happened_and_counts() -> None:
    memory, stream = Memory(), Seconds("BTCUSDT")
    feed = Feed("BTCUSDT", memory.publish, IngestMetrics())
    feed.connected(Identity("recording", "s-loop0"), at(0), lambda ns: 15 * ns)
    feed.filled(Span(None, START))
    for i, ms in enumerate((500, 12_300, 13_700)):
        feed.on_frame(trade(i + 1, ms), at(200))  # a busy machine: our clock stands while 13 s are played
    assert [message.ts_init for message in memory.of(Trade)] == [at(500), at(12_300), at(13_700)]
    closed = [done.bar.close_time for _, message in memory.sent if not isinstance(message, OrderBook)
              for done in stream.take(message)]
    assert closed == [seal.close for seal in memory.of(SecondClosed)] == [at(1_000 * n) for n in range(1, 14)]


def test_seal_is_never_known_before_its_close() -> None:
    memory = Memory()
    feed = feed_of(memory)
    feed.filled(Span(None, START))
    feed.on_frame(trade(1, 1300), at(200))  # our clock is 1.1 s behind the venue's
    assert [seal.ts_init for seal in memory.of(SecondClosed)] == [at(1000)]


def test_book_whose_diffs_stall_while_the_best_quotes_move_is_stale() -> None:
    feed = feed_of(Memory())
    feed.on_snapshot(SNAPSHOT, at(0))
    feed.on_frame(depth(11, 100), at(100))
    feed.on_frame(ticker(12), at(150))
    feed.on_tick(at(2100), 0)
    assert feed.book.synced
    feed.on_tick(at(2200), 0)
    assert (feed.book.synced, feed.wants_snapshot) == (False, True)


def test_best_quotes_ahead_for_a_moment_are_no_stall() -> None:
    feed = feed_of(Memory())
    feed.on_snapshot(SNAPSHOT, at(0))
    feed.on_frame(ticker(12), at(150))
    feed.on_frame(depth(11, 200), at(200))
    feed.on_frame(depth(12, 300), at(300))
    feed.on_tick(at(5000), 0)
    assert feed.book.synced


@pytest.mark.parametrize("repeated", [trade(1, 100), depth(11, 150)])
@pytest.mark.parametrize("has_book", [True, False])
def test_what_the_next_connection_repeats_dates_no_quote(repeated: TradeFrame | DepthFrame, has_book: bool) -> None:
    memory = Memory()
    feed = feed_of(memory)
    feed.filled(Span(None, START))
    feed.on_snapshot(SNAPSHOT, at(0))
    frames = [trade(1, 100), depth(11, 150), trade(2, 950), depth(12, 1_100), ticker(13), repeated]
    frames += [trade(3, 1_200 if has_book else 990), trade(4, 1_300)]
    for frame in frames:
        feed.on_frame(frame, at(1_200))
    assert [(seal.close, seal.book_valid) for seal in memory.of(SecondClosed)] == [(at(1_000), has_book)]


def test_gap_in_the_diffs_makes_the_feed_ask_for_a_snapshot_and_publish_no_book() -> None:
    memory = Memory()
    feed = feed_of(memory)
    feed.on_snapshot(SNAPSHOT, at(0))
    feed.on_frame(depth(11, 100), at(100))
    assert not feed.wants_snapshot
    count = len(memory.of(OrderBook))
    feed.on_frame(depth(14, 400), at(400))
    feed.on_tick(at(2000), 0)
    assert feed.wants_snapshot
    assert len(memory.of(OrderBook)) == count


def test_quiet_book_is_published_again_four_times_a_second() -> None:
    memory = Memory()
    feed = feed_of(memory)
    feed.on_snapshot(SNAPSHOT, at(0))
    for ms in range(0, 1000, 50):
        feed.on_tick(at(ms), 0)
    assert len(memory.of(OrderBook)) == 4


def last(session: str, close: int) -> LastSeal:
    return LastSeal("recording", session, Resume(close, 41))


def test_next_loop_of_the_same_recording_goes_on_by_ids() -> None:
    feed = feed_of(Memory(), last("s-loop7", at(-3000)))
    missing = feed.sealer.missing()
    assert missing is not None
    assert (missing.first, missing.last, feed.hole) == (42, None, None)


def test_another_recording_begins_its_own_ids_behind_a_hole() -> None:
    feed = feed_of(Memory(), last("other-loop7", at(-3000)))
    assert (feed.sealer.missing(), feed.hole) == (None, Span(at(-3000), START))


def test_last_seal_in_the_future_is_of_another_time_and_left_alone() -> None:
    assert feed_of(Memory(), last("s-loop7", at(60_000))).hole == Span(None, START)


def test_clock_is_of_the_shortest_round_trip() -> None:
    samples = [ClockSample(0, 100, 1_050), ClockSample(200, 210, 1_305), ClockSample(300, 390, 1_000)]
    clock = measured(lambda: 1_000, samples)
    assert (clock.offset_ns, clock.now()) == (1_100, 2_100)


def test_clock_at_full_speed_follows_the_events() -> None:
    clock = VenueClock(lambda: 10**18, 0, 5, rate=0)
    clock.saw(70)
    clock.saw(60)
    assert clock.now() == 70


def test_second_whose_trades_were_fetched_ahead_of_the_stream_has_no_book() -> None:
    memory = Memory()
    feed = feed_of(memory)
    feed.filled(Span(None, START))
    feed.on_snapshot(SNAPSHOT, at(0))
    feed.on_frame(trade(1, 100), at(100))
    feed.on_frame(depth(11, 150), at(150))
    feed.on_recovered([trade(i, 500 * i) for i in range(2, 8)], at(3_500))
    assert [(seal.close, seal.book_valid) for seal in memory.of(SecondClosed)] == [
        (at(1_000), False), (at(2_000), False), (at(3_000), False)]
    feed.on_frame(depth(12, 3_900), at(3_900))
    feed.on_frame(depth(13, 4_300), at(4_300))
    assert memory.of(SecondClosed)[-1].book_valid
