"""A second is sealed once, when it is complete, with the same trades for any interleaving, repetition or lateness."""

from __future__ import annotations

import random

from hypothesis import given, settings
from hypothesis import strategies as st

from feature_repo.contracts import SECOND_NS, SecondClosed, Trade
from streaming.bars import close_bar
from streaming.seal import GRACE_NS, SILENCE_NS, Missing, Resume, Sealer, Second, example_trade

MS = 1_000_000
START = 1_723_161_300 * SECOND_NS


def at(ms: int) -> int:
    return START + ms * MS


def trade(trade_id: int, ms: int) -> Trade:
    return example_trade(trade_id, at(ms), price=100.0 + trade_id % 7, quantity=1.0 + trade_id % 3)


def closes(seconds: list[Second]) -> list[int]:
    return [(second.close - START) // SECOND_NS for second in seconds]


def sealer(**options: int) -> Sealer:
    return Sealer("BTCUSDT", start=START, **options)


def test_second_is_sealed_when_event_time_passes_close_and_grace() -> None:
    s = sealer()
    s.on_trade(trade(1, 500))
    s.on_event_time(at(1249))
    assert list(s.take()) == []
    s.on_event_time(at(1250))
    [second] = s.take()
    assert (second.n_trades, second.first_trade_id, second.last_trade_id) == (1, 1, 1)
    assert (second.close, second.prev_close, second.recovered) == (at(1000), None, False)


def test_silent_symbol_is_sealed_only_by_proof_that_the_connection_lives() -> None:
    s = sealer()
    s.on_alive(at(1000) + GRACE_NS + SILENCE_NS - 1)
    assert list(s.take()) == []
    s.on_alive(at(1000) + GRACE_NS + SILENCE_NS)
    assert [(x.n_trades, x.first_trade_id) for x in s.take()] == [(0, None)]


def test_trade_after_the_seal_is_late_and_changes_nothing() -> None:
    s = sealer()
    s.on_trade(trade(1, 500))
    s.on_event_time(at(1300))
    list(s.take())
    late = s.on_trade(trade(2, 900))
    assert late is not None
    assert late.late
    assert s.late == 1
    s.on_event_time(at(2300))
    assert [x.n_trades for x in s.take()] == [0]


def test_repeated_trade_is_taken_once() -> None:
    s = sealer()
    assert s.on_trade(trade(1, 500)) == trade(1, 500)
    assert s.on_trade(trade(1, 500)) is None


def test_seal_of_a_silent_second_carries_the_last_trade_id() -> None:
    s = sealer()
    s.on_trade(trade(5, 500))
    s.on_event_time(at(2300))
    assert [(x.n_trades, x.last_trade_id) for x in s.take()] == [(1, 5), (0, 5)]


def test_missing_id_holds_the_seal_until_it_is_fetched() -> None:
    s = sealer()
    s.on_trade(trade(1, 500))
    s.on_trade(trade(4, 1100))
    s.on_event_time(at(1300))
    assert list(s.take()) == []
    assert s.missing() == Missing(2, 3)
    s.on_trade(trade(3, 900))
    assert s.missing() == Missing(2, 2)
    s.on_trade(trade(2, 800))
    assert s.missing() is None
    assert [x.n_trades for x in s.take()] == [3]


def test_missing_id_of_a_later_second_does_not_hold_this_one() -> None:
    s = sealer()
    s.on_trade(trade(1, 500))
    s.on_trade(trade(2, 1050))
    s.on_trade(trade(4, 1100))
    s.on_event_time(at(1300))
    assert closes(list(s.take())) == [1]


def test_unfillable_ids_leave_holes_that_prev_close_tells() -> None:
    s = sealer()
    s.on_trade(trade(1, 500))
    s.on_trade(trade(2, 1500))
    s.on_trade(trade(9, 3200))
    s.on_event_time(at(5300))
    assert closes(list(s.take())) == [1]
    s.on_unfillable(Missing(3, 8))
    assert [(x.close, x.prev_close) for x in s.take()] == [(at(5000), at(1000))]


def test_short_outage_is_recovered_by_ids_before_anything_is_sealed() -> None:
    s = sealer()
    s.on_trade(trade(1, 500))
    s.on_disconnected()
    assert s.on_connected(at(3400))
    s.on_trade(trade(4, 3500))
    s.on_event_time(at(4300))
    assert list(s.take()) == []
    assert s.missing() == Missing(2, None)
    s.on_trade(trade(2, 1700))
    s.on_trade(trade(3, 2700))
    s.on_recovered()
    assert [(x.n_trades, x.recovered) for x in s.take()] == [(1, True), (1, True), (1, True), (1, True)]
    s.on_event_time(at(5300))
    assert [x.recovered for x in s.take()] == [False]


def test_long_recovery_seals_page_by_page_and_never_what_the_next_page_may_hold() -> None:
    s = sealer()
    s.on_trade(trade(1, 500))
    s.on_disconnected()
    s.on_connected(at(600_000))
    s.on_trade(trade(1200, 600_100))
    s.on_event_time(at(600_300))
    s.on_trade(trade(2, 1_700))
    s.on_trade(trade(3, 4_200))
    assert closes(list(s.take())) == [1, 2, 3]  # the grace of the fourth has not been fetched
    s.on_trade(trade(4, 9_400))
    assert closes(list(s.take())) == [4, 5, 6, 7, 8, 9]
    assert s.missing() == Missing(5, None)


def test_trades_left_out_while_older_ones_are_fetched_are_asked_for_once_more() -> None:
    s = sealer()
    s.on_trade(trade(1, 500))
    s.on_disconnected()
    s.on_connected(at(3_400))
    s.on_dropped()
    s.on_recovered()
    assert s.is_recovering
    s.on_recovered()
    assert not s.is_recovering


def test_ids_that_the_venue_lacks_in_a_long_recovery_are_passed_over() -> None:
    s = sealer()
    s.on_trade(trade(1, 500))
    s.on_disconnected()
    s.on_connected(at(60_000))
    for trade_id, ms in ((5, 3_200), (6, 5_400)):
        s.on_trade(trade(trade_id, ms))
    s.on_event_time(at(60_300))
    s.on_unfillable(Missing(2, 4))
    assert [(x.close, x.prev_close) for x in s.take()] == [(at(5_000), None)]
    assert s.missing() == Missing(7, None)


def test_outage_longer_than_the_last_one_whose_ids_were_still_being_fetched_does_not_stop_the_seals() -> None:
    s = sealer(recover_ns=10 * SECOND_NS)
    s.on_trade(trade(1, 500))
    s.on_disconnected()
    assert s.on_connected(at(5_000))
    s.on_disconnected()
    assert not s.on_connected(at(30_000))
    s.on_event_time(at(31_300))
    assert closes(list(s.take())) == [31]


def test_disconnected_symbol_seals_nothing() -> None:
    s = sealer()
    s.on_disconnected()
    s.on_event_time(at(9000))
    s.on_alive(at(9000))
    assert list(s.take()) == []


def test_long_outage_leaves_a_hole_and_sealing_goes_on_after_it() -> None:
    s = sealer(recover_ns=10 * SECOND_NS)
    s.on_trade(trade(1, 500))
    s.on_event_time(at(1300))
    list(s.take())
    s.on_disconnected()
    assert not s.on_connected(at(20_400))
    in_the_hole = s.on_trade(trade(900, 20_500))
    assert in_the_hole is not None
    assert in_the_hole.late
    assert s.late == 0
    s.on_trade(trade(901, 21_500))
    s.on_event_time(at(22_300))
    assert [(x.close, x.prev_close, x.n_trades) for x in s.take()] == [(at(22_000), at(1000), 1)]


def test_first_second_is_the_first_whole_one_after_the_connection() -> None:
    s = Sealer("BTCUSDT")
    s.on_connected(at(400))
    assert s.on_trade(trade(1, 700)) is None
    assert s.on_trade(trade(2, 1700)) is not None
    s.on_event_time(at(2300))
    assert [(x.close, x.n_trades) for x in s.take()] == [(at(2000), 1)]


def test_resumed_sealer_seals_each_second_once_with_the_trades_sent_before() -> None:
    s = Sealer("BTCUSDT")
    s.resume(Resume(at(1000), 2, (trade(3, 1200), trade(4, 1900))))
    assert s.on_connected(at(3100))
    assert s.missing() == Missing(5, None)
    assert s.on_trade(trade(4, 1900)) is None
    s.on_trade(trade(5, 2500))
    s.on_recovered()
    s.on_event_time(at(4300))
    assert [(x.close, x.prev_close, x.n_trades) for x in s.take()] == [
        (at(2000), at(1000), 2), (at(3000), at(2000), 1), (at(4000), at(3000), 0),
    ]


def seal_of(second: Second) -> SecondClosed:
    return SecondClosed(
        symbol="BTCUSDT", ts_event=second.close, ts_init=0, source="simulated", session="s", close=second.close,
        prev_close=second.prev_close, n_trades=second.n_trades, first_trade_id=second.first_trade_id,
        last_trade_id=second.last_trade_id,
    )


def bars_of(frames: list[Trade], until_ms: int) -> list[tuple]:
    """Feed trades as they come, sealing after each; the bars a reader makes of what was published."""
    s, published, seconds = sealer(), [], []
    for frame in frames:
        sent = s.on_trade(frame)
        published += [sent] if sent is not None else []
        seconds += s.take()
    s.on_event_time(at(until_ms))
    seconds += s.take()
    bars = [close_bar(seal_of(second), published, 1.0) for second in seconds]
    return [(b.close_time, b.open, b.high, b.low, b.close, b.volume, b.quote_volume, b.trades) for b in bars]


@settings(max_examples=150, deadline=None)
@given(
    st.lists(st.integers(0, 400), min_size=1, max_size=40), st.randoms(use_true_random=False),
    st.integers(0, 249),
)
def test_any_interleaving_within_the_grace_gives_the_same_bars(
    steps_ms: list[int], rng: random.Random, lateness_ms: int,
) -> None:
    times = [sum(steps_ms[: i + 1]) for i in range(len(steps_ms))]
    trades = [trade(100 + i, ms) for i, ms in enumerate(times)]
    arrivals = [(ms + rng.randint(0, lateness_ms), rng.random(), t) for ms, t in zip(times, trades, strict=True)]
    arrivals += [(ms + rng.randint(0, 2000), rng.random(), t) for ms, t in zip(times, trades, strict=True) if ms % 3]
    # The first id seen begins the count, so the first trade is delivered first.
    shuffled = [trades[0]] + [t for _, _, t in sorted(arrivals, key=lambda a: a[:2])]
    until = times[-1] + 5_000
    assert bars_of(shuffled, until) == bars_of(trades, until)


@settings(max_examples=150, deadline=None)
@given(st.lists(st.integers(0, 400), min_size=2, max_size=40), st.randoms(use_true_random=False))
def test_lost_trades_fetched_whenever_asked_give_the_same_bars(steps_ms: list[int], rng: random.Random) -> None:
    times = [sum(steps_ms[: i + 1]) for i in range(len(steps_ms))]
    trades = {100 + i: trade(100 + i, ms) for i, ms in enumerate(times)}
    lost = {i for i in trades if i not in (100, 100 + len(trades) - 1) and rng.random() < 0.4}
    s, published, seconds = sealer(), [], []

    def deliver(one: Trade) -> None:
        sent = s.on_trade(one)
        published.extend([sent] if sent is not None else [])

    def seal_and_fetch() -> None:
        seconds.extend(s.take())
        while (missing := s.missing()) is not None:
            for j in range(missing.first, (missing.last or 0) + 1):
                deliver(trades[j])
            seconds.extend(s.take())

    for i, one in trades.items():
        if i not in lost:
            deliver(one)
        seal_and_fetch()
    s.on_event_time(at(times[-1] + 5_000))
    seal_and_fetch()
    whole = bars_of(list(trades.values()), times[-1] + 5_000)
    bars = [close_bar(seal_of(second), published, 1.0) for second in seconds]
    assert [(b.close_time, b.trades, b.volume) for b in bars] == [(w[0], w[7], w[5]) for w in whole]


@settings(max_examples=100, deadline=None)
@given(st.lists(st.integers(0, 400), min_size=3, max_size=30), st.data())
def test_restart_at_any_point_seals_each_second_once(steps_ms: list[int], data: st.DataObject) -> None:
    times = [sum(steps_ms[: i + 1]) for i in range(len(steps_ms))]
    trades = [trade(100 + i, ms) for i, ms in enumerate(times)]
    cut = data.draw(st.integers(1, len(trades) - 1))
    first = sealer()
    for one in trades[:cut]:
        first.on_trade(one)
    before = list(first.take())
    if not before:
        return
    after = Sealer("BTCUSDT")
    done = before[-1]
    tail = tuple(t for t in trades[:cut] if t.ts_event >= done.close)
    kept = data.draw(st.integers(0, len(tail)))  # the broker lost what was not acknowledged
    after.resume(Resume(done.close, done.last_trade_id, tail[:kept]))
    after.on_connected(at(times[cut - 1]))
    missing = after.missing()
    assert missing is not None
    for one in trades:
        if one.trade_id >= missing.first:
            after.on_trade(one)
    after.on_recovered()
    after.on_event_time(at(times[-1] + 5_000))
    both = before + list(after.take())
    whole = bars_of(trades, times[-1] + 5_000)
    assert [(x.close, x.n_trades) for x in both] == [(w[0], w[7]) for w in whole]
    assert [x.prev_close for x in both[1:]] == [x.close for x in both[:-1]]


def test_ids_that_begin_anew_leave_a_hole_and_are_counted_from_there() -> None:
    s = sealer(anew_ns=10 * SECOND_NS)
    s.on_trade(trade(5000, 500))
    s.on_event_time(at(1300))
    list(s.take())
    s.on_event_time(at(20_300))
    list(s.take())
    s.on_trade(trade(7, 20_500))
    s.on_trade(trade(8, 21_500))
    s.on_event_time(at(22_300))
    assert [(x.close, x.n_trades, x.last_trade_id) for x in s.take()] == [(at(22_000), 1, 8)]
