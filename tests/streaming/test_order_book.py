"""The local book equals a dictionary fed with the same changes, and a gap never passes unseen."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from feature_repo.contracts import SECOND_NS, StaleBook
from streaming.order_book import LocalBook, book_state, flow_imbalance, order_book
from streaming.second_books import SecondBooks
from streaming.venues.binance import DepthFrame, Snapshot

UNIT = 10**8


def snapshot(last_update_id: int = 10, full: bool = False) -> Snapshot:
    """Bids 99.99 … 99.70 and asks 100.01 … 100.30 in steps of 0.01, one unit each: 30 bps to either side."""
    bids = tuple((10_000 * UNIT // 100 - i * UNIT // 100, UNIT) for i in range(1, 31))
    asks = tuple((10_000 * UNIT // 100 + i * UNIT // 100, UNIT) for i in range(1, 31))
    return Snapshot(last_update_id, bids, asks, full)


def diff(first: int, last: int, bids: tuple = (), asks: tuple = (), ms: int = 1_000) -> DepthFrame:
    return DepthFrame("BTCUSDT", ms, first, last, bids, asks)


def synced(full: bool = False) -> LocalBook:
    book = LocalBook("BTCUSDT")
    book.on_snapshot(snapshot(full=full))
    return book


levels = st.lists(st.tuples(st.integers(1, 40), st.integers(0, 3)), max_size=6)


@settings(max_examples=100, deadline=None)
@given(st.lists(st.tuples(levels, levels, st.integers(1, 5)), max_size=30), st.integers(0, 30), st.integers(0, 2))
def test_book_of_random_diffs_equals_a_dictionary(
    changes: list[tuple[list, list, int]], behind: int, overlap: int,
) -> None:
    book, bids, asks, update = LocalBook("BTCUSDT"), {30: 1}, {50: 1}, 100
    diffs = []
    for bid_levels, ask_levels, width in changes:
        shifted = [(price + 50, quantity) for price, quantity in ask_levels]
        diffs.append(diff(max(101, update + 1 - overlap), update + width, tuple(bid_levels), tuple(shifted)))
        update += width
    for one in diffs[:behind]:
        book.on_diff(one)  # before the snapshot: kept
    assert not book.synced
    book.on_snapshot(Snapshot(100, ((30, 1),), ((50, 1),), full=True))
    for one in diffs[behind:]:
        book.on_diff(one)
    for one in diffs:
        bids |= dict(one.bids)
        asks |= dict(one.asks)
    assert dict(book.bids) == {price: quantity for price, quantity in bids.items() if quantity}
    assert dict(book.asks) == {price: quantity for price, quantity in asks.items() if quantity}
    assert book.last_update_id == update


@given(st.lists(st.integers(1, 5), min_size=2, max_size=30), st.data())
def test_lost_diff_is_always_noticed(widths: list[int], data: st.DataObject) -> None:
    book, update, diffs = synced(), 10, []
    for width in widths:
        diffs.append(diff(update + 1, update + width))
        update += width
    lost = data.draw(st.integers(0, len(diffs) - 2))
    for one in diffs[:lost]:
        book.on_diff(one)
    with pytest.raises(StaleBook, match="expected a diff that continues"):
        book.on_diff(diffs[lost + 1])
    assert not book.synced
    assert book.best() is None


def test_diffs_before_the_snapshot_are_dropped_and_the_first_kept_must_span_it() -> None:
    book = LocalBook("BTCUSDT")
    book.on_diff(diff(5, 10))
    book.on_diff(diff(11, 14))
    with pytest.raises(StaleBook, match="continues snapshot 3"):
        book.on_snapshot(snapshot(3))
    book.on_snapshot(snapshot(12))
    assert (book.synced, book.last_update_id) == (True, 14)


def test_book_is_synced_again_after_a_gap_by_a_newer_snapshot() -> None:
    book = synced()
    with pytest.raises(StaleBook):
        book.on_diff(diff(20, 22))
    book.on_diff(diff(23, 25))
    with pytest.raises(StaleBook):
        book.on_snapshot(snapshot(15))
    book.on_snapshot(snapshot(21))
    assert book.last_update_id == 25


def test_crossed_book_is_stale() -> None:
    book = synced()
    with pytest.raises(StaleBook, match="expected bid < ask"):
        book.on_diff(diff(11, 11, bids=((101 * UNIT, UNIT),)))


def test_quantity_zero_removes_a_level_and_an_unknown_one_is_no_error() -> None:
    book = synced()
    book.on_diff(diff(11, 12, bids=((9_999 * UNIT // 100, 0), (1, 0))))
    assert book.best() == (9_998 * UNIT // 100, UNIT, 10_001 * UNIT // 100, UNIT)


def test_bins_are_one_basis_point_and_sum_to_the_depths() -> None:
    message = order_book(synced(), ts_event=1, ts_init=2, source="recording", session="s")
    assert message is not None
    assert message.mid_price == 100.0
    # One level in each basis point: the one exactly i bps away begins bin i.
    assert message.bid_bins[:4] == [0.0, 1.0, 1.0, 1.0]
    assert message.bid_bins == message.ask_bins
    assert (message.bid_depth_5bps, message.ask_depth_25bps) == (4.0, 24.0)
    assert len(message.bids.prices) == len(message.asks.prices) == 20
    assert message.bids.prices == sorted(message.bids.prices, reverse=True)
    assert message.asks.prices[0] == 100.01


def test_depth_beyond_the_snapshot_is_unknown_not_zero() -> None:
    book = synced()
    # A far level known by a diff does not make the levels between known.
    book.on_diff(diff(11, 12, bids=((99 * UNIT, UNIT),), asks=((10_001 * UNIT // 100, 0), (10_002 * UNIT // 100, 0))))
    message = order_book(book, ts_event=1, ts_init=2, source="recording", session="s")
    assert message is not None
    assert message.mid_price == 100.01
    assert message.ask_bins[27] is not None
    assert message.ask_bins[28:] == [None, None]
    assert message.bid_bins[29] == 1.0
    assert not book.reaches(30)
    assert book.reaches(25)


def test_whole_book_reaches_everywhere() -> None:
    book = synced(full=True)
    assert book.reaches(5_000)
    assert book.top_quantity("bids", 50) == 30.0


def test_best_levels_beyond_the_reach_are_unknown() -> None:
    book = LocalBook("BTCUSDT")
    book.on_snapshot(Snapshot(10, bids=((100, 5), (99, 5)), asks=((102, 7), (103, 7))))
    book.on_diff(diff(11, 11, bids=((90, 5), (89, 5), (88, 5))))
    state = book_state(book, None)
    assert state.bid_quantity_5 is None
    assert book.top_quantity("bids", 2) == 10 / UNIT


def test_snapshot_taken_later_extends_the_reach_of_a_synced_book() -> None:
    book = synced()
    book.on_diff(diff(11, 12, bids=((9_999 * UNIT // 100, 5 * UNIT),)))
    wider = Snapshot(11, (*snapshot().bids, (50 * UNIT, UNIT)), (*snapshot().asks, (200 * UNIT, UNIT)))
    book.on_snapshot(wider)
    assert book.reaches(1_000)
    assert (book.last_update_id, book.bids[9_999 * UNIT // 100]) == (12, 5 * UNIT)


def test_snapshot_that_does_not_fit_leaves_a_synced_book_as_it_is() -> None:
    book = synced()
    book.on_diff(diff(11, 12))
    with pytest.raises(StaleBook):
        book.on_snapshot(snapshot(5))
    assert (book.synced, book.last_update_id) == (True, 12)


quotes = st.tuples(st.integers(90, 99), st.integers(1, 9), st.integers(100, 109), st.integers(1, 9))


@given(st.lists(quotes, min_size=2, max_size=20))
def test_flow_imbalance_equals_the_papers_indicator_form(steps: list[tuple[int, int, int, int]]) -> None:
    def e_n(before: tuple, after: tuple) -> int:
        (pb0, qb0, pa0, qa0), (pb1, qb1, pa1, qa1) = before, after
        return (pb1 >= pb0) * qb1 - (pb1 <= pb0) * qb0 - (pa1 <= pa0) * qa1 + (pa1 >= pa0) * qa0

    assert [flow_imbalance(a, b) for a, b in pairwise(steps)] == [e_n(a, b) for a, b in pairwise(steps)]


# --- the state in each second ---


def test_state_at_a_close_is_that_after_the_last_diff_before_it() -> None:
    books = SecondBooks(synced())
    best = 9_999 * UNIT // 100
    for update, (ms, quantity) in enumerate(((1_100, 2), (1_999, 3), (2_000, 4)), 11):
        books.on_diff(diff(update, update, bids=((best, quantity * UNIT),), ms=ms))
    assert books.state_at(2 * SECOND_NS).bid_quantity == 3.0
    assert books.state_at(3 * SECOND_NS).bid_quantity == 4.0


def test_flow_imbalance_is_summed_over_the_second_and_null_in_a_second_not_wholly_synced() -> None:
    books = SecondBooks(synced())
    best = 9_999 * UNIT // 100
    changes = ((1_500, 2), (2_100, 5), (2_900, 4), (3_100, 9), (4_200, 9))
    for update, (ms, quantity) in enumerate(changes, 11):
        books.on_diff(diff(update, update, bids=((best, quantity * UNIT),), ms=ms))
    assert books.state_at(2 * SECOND_NS).order_flow_imbalance is None
    assert books.state_at(3 * SECOND_NS).order_flow_imbalance == 2.0
    assert books.state_at(4 * SECOND_NS).order_flow_imbalance == 5.0


def test_second_without_diffs_has_the_state_before_it_and_no_flow() -> None:
    books = SecondBooks(synced())
    books.on_diff(diff(11, 11, ms=1_500))
    books.on_diff(diff(12, 12, ms=4_500))
    assert (books.state_at(4 * SECOND_NS).book_valid, books.state_at(4 * SECOND_NS).order_flow_imbalance) == (
        True, None,
    )
    books.on_diff(diff(13, 13, ms=7_500))
    assert books.state_at(7 * SECOND_NS).order_flow_imbalance == 0.0


def test_seconds_after_a_gap_have_no_book_until_it_is_synced_again() -> None:
    books = SecondBooks(synced())
    books.on_diff(diff(11, 11, ms=1_500))
    books.on_diff(diff(12, 12, ms=2_100))
    with pytest.raises(StaleBook):
        books.on_diff(diff(20, 21, ms=2_500))
    books.on_diff(diff(22, 23, ms=4_500))
    books.on_snapshot(snapshot(21))
    books.on_diff(diff(24, 24, ms=5_500))
    assert [books.state_at(close * SECOND_NS).book_valid for close in (2, 3, 4, 5)] == [True, False, False, True]


def test_second_around_whose_close_a_diff_is_missing_has_no_book() -> None:
    """Nobody can tell on which side of the close the missing one changed the book."""
    books = SecondBooks(synced())
    books.on_diff(diff(11, 11, ms=1_500))
    with pytest.raises(StaleBook):
        books.on_diff(diff(13, 13, ms=2_050))
    assert not books.state_at(2 * SECOND_NS).book_valid


def test_snapshot_newer_than_every_diff_is_no_state_of_a_close() -> None:
    books = SecondBooks(LocalBook("BTCUSDT"))
    books.on_diff(diff(11, 11, ms=1_900))
    books.on_snapshot(snapshot(12))
    books.on_diff(diff(13, 13, ms=2_050))
    books.on_diff(diff(14, 14, ms=3_050))
    assert [books.state_at(close * SECOND_NS).book_valid for close in (2, 3)] == [False, True]
