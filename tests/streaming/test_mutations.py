"""Broken frames by the thousand leave no trace; wild ones that are well-formed do no lasting harm."""

from __future__ import annotations

import contextlib
import json
import random
from collections import Counter
from itertools import islice

import pytest

from feature_repo.contracts import DeadLetter, InvalidMessage, StaleBook
from feature_repo.topics import MOST_PAYLOAD, dead_letter, decode, encode, header
from streaming.order_book import LocalBook
from streaming.venues.binance import MOST_NAMES, Decoder, OversizedFrame, announces_shutdown, snapshot
from tests.bench.mutate import STRUCTURAL, Case, Subject, cases, passed, run, wild
from tests.streaming.made_ingest import Memory
from tests.streaming.test_binance import DEPTH, TRADE, text
from tests.streaming.test_feed import SNAPSHOT, at, depth, feed_of, trade

FRAMES = 20_000


@pytest.fixture(scope="module")
def report() -> dict:
    return run(FRAMES, seed=5)


def test_every_broken_frame_is_a_dead_letter_with_a_reason_and_leaves_no_trace(report: dict) -> None:
    assert report["crash"] is None
    assert (report["broken"], report["escaped"], report["sound_refused"]) == (FRAMES, {}, 0)
    assert report["reasons"].keys() == {"InvalidMessage", "StrayTime", "OversizedFrame"}
    assert sum(report["reasons"].values()) == FRAMES
    assert report["given"].keys() - {"sound"} == STRUCTURAL.keys()
    assert (report["messages_equal"], report["books_equal"], report["book_synced"]) == (True, True, True)
    assert report["seals"] > 60


def test_memory_does_not_grow_with_broken_frames(report: dict) -> None:
    assert report["rss_growth_mb"] < 50
    assert passed(report)


@pytest.mark.parametrize("spoilt", [
    {"crash": "x"}, {"escaped": {"torn": 1}}, {"sound_refused": 1}, {"messages_equal": False}, {"books_equal": False},
    {"rss_growth_mb": 50.0}, {"book_synced": False},
])
def test_report_with_one_thing_amiss_has_not_passed(report: dict, spoilt: dict) -> None:
    assert not passed(report | spoilt)


def test_same_seed_gives_the_same_frames_and_another_seed_others() -> None:
    first, again, other = ([case.payload for case in islice(cases(500, seed), 400)] for seed in (1, 1, 2))
    assert first == again != other


# --- what a decoder must not believe ---


def test_frame_of_another_symbol_than_its_stream_is_refused() -> None:
    with pytest.raises(InvalidMessage, match="expected a payload of stream 'ethusdt@trade'"):
        Decoder().frame(json.dumps({"stream": "ethusdt@trade", "data": TRADE}))


def test_answer_that_also_is_a_frame_is_a_frame() -> None:
    frame = Decoder().frame(json.dumps({"result": None, "stream": "btcusdt@trade", "data": TRADE}))
    assert frame is not None


def test_notice_of_a_shutdown_is_no_frame_and_no_dead_letter() -> None:
    for notice in ('{"e":"serverShutdown","E":1}', '{"event":{"e":"serverShutdown","E":1}}'):
        assert Decoder().frame(notice) is None
        assert announces_shutdown(notice)


@pytest.mark.parametrize("bad", [
    text("depth@100ms", {**DEPTH, "U": 10, "u": 9}), text("depth@100ms", {**DEPTH, "e": "trade"}),
    text("depth@100ms", {**DEPTH, "b": [["1", "1"], ["1.0", "2"]]}), text("depth@100ms", {**DEPTH, "b": ["12"]}),
    text("depth@100ms", {**DEPTH, "b": [["0.0", "1"]]}), text("trade", {**TRADE, "t": 2**63}),
    text("trade", {**TRADE, "p": "1_000"}), text("trade", {**TRADE, "p": "1" * 40}),
    text("trade", {**TRADE, "E": None}),
    text("bookTicker", {"u": 9, "s": "BTCUSDT", "b": "2", "B": "1", "a": "2", "A": "1"}),
    '{"stream":"btcusdt@trade","data":{"p":"1","p":"2"}}', b"\xff\xfe", b'{"stream":"\xed\xa0\x80"}',
])
def test_what_the_venue_never_says_is_refused(bad: str | bytes) -> None:
    with pytest.raises(InvalidMessage):
        Decoder().frame(bad)


def test_one_sided_market_has_a_best_quote_of_nothing_on_the_other_side() -> None:
    quote = {"u": 9, "s": "BTCUSDT", "b": "0.00000000", "B": "0.00000000", "a": "2", "A": "1"}
    assert Decoder().frame(text("bookTicker", quote)) is not None


def test_unknown_fields_are_told_apart_only_so_far() -> None:
    decoder = Decoder()
    for i in range(3 * MOST_NAMES):
        decoder.frame(text("trade", {**TRADE, f"z{i}": 1}))
    assert len(decoder.unknown) == MOST_NAMES + 1
    assert decoder.unknown["others"] == 2 * MOST_NAMES


@pytest.mark.parametrize("side", [[["1", "0"]], [["1", "1"], ["1", "2"]], [["0", "1"]], "12", None])
def test_snapshot_with_levels_that_are_none_is_refused(side: object) -> None:
    with pytest.raises(InvalidMessage):
        snapshot({"lastUpdateId": 1, "bids": side, "asks": [["2", "1"]]})


def test_large_payload_is_kept_in_part_and_its_size_is_told() -> None:
    letter = dead_letter(b"x" * (MOST_PAYLOAD + 9), OversizedFrame("too large"), component="ingest", ts_init=1)
    assert len(letter.payload) == MOST_PAYLOAD
    assert letter.detail == f"[the first {MOST_PAYLOAD} of {MOST_PAYLOAD + 9} bytes] too large"


def test_reason_that_is_no_text_is_written_down_all_the_same() -> None:
    letter = dead_letter(b"x", InvalidMessage("found \ud800"), component="ingest", ts_init=1)
    assert decode(encode(letter), header(DeadLetter)) == letter
    assert letter.detail == "found \\ud800"


# --- well-formed, but wild ---


def test_wild_trade_id_is_refused_and_does_not_make_later_ones_look_old() -> None:
    memory = Memory()
    feed = feed_of(memory)
    feed.on_frame(trade(7, 100), at(100))
    for far in (2**62, 2**62 + 40_000, 2**63 - 1):
        with pytest.raises(InvalidMessage, match="expected a trade id soon after 7"):
            feed.on_frame(trade(far, 150), at(150))
    feed.on_frame(trade(8, 200), at(200))
    feed.on_frame(trade(9, 300), at(300))
    assert (feed.sealer.known_id, feed.sealer.missing()) == (9, None)


def test_ids_that_really_go_on_elsewhere_are_believed_at_the_second_trade() -> None:
    feed = feed_of(Memory())
    feed.on_frame(trade(7, 100), at(100))
    with pytest.raises(InvalidMessage):
        feed.on_frame(trade(10**9, 200), at(200))
    feed.on_frame(trade(10**9 + 1, 300), at(300))
    feed.on_frame(trade(10**9 + 2, 3_000), at(3_000))
    missing = feed.sealer.missing()
    assert missing is not None
    assert (missing.first, missing.last) == (8, 10**9)


def test_wild_update_id_is_seen_by_the_diffs_that_come_after_it() -> None:
    feed = feed_of(Memory())
    feed.on_snapshot(SNAPSHOT, at(0))
    feed.on_frame(depth(11, 100), at(100))
    wild = depth(12, 200)
    feed.on_frame(type(wild)(wild.symbol, wild.time_ms, 12, 2**62, wild.bids, wild.asks), at(200))
    assert feed.book.synced
    ms = 300
    while feed.book.synced and ms < 2_000:
        feed.on_frame(depth(11 + ms // 100, ms), at(ms))
        ms += 100
    assert ms <= 700
    assert feed.wants_snapshot


def test_wild_update_id_kept_for_a_snapshot_is_dropped_when_sane_ones_follow() -> None:
    feed = feed_of(Memory())
    wild = depth(9, 0)
    feed.on_frame(type(wild)(wild.symbol, wild.time_ms, 12, 2**62, wild.bids, wild.asks), at(0))
    feed.on_frame(depth(10, 100), at(100))
    with pytest.raises(StaleBook):
        feed.on_snapshot(SNAPSHOT, at(150))
    feed.on_frame(depth(11, 400), at(400))
    feed.on_snapshot(SNAPSHOT, at(450))
    assert feed.book.synced
    assert feed.book.last_update_id == 11


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_absurd_values_are_refused_or_believed_and_the_book_comes_back(seed: int) -> None:
    dice, subject, snapshot_text = random.Random(seed), Subject(), b""
    sound = [case for case in cases(12_000, seed) if case.broken is None]
    for case in sound:
        is_snapshot = case.payload.startswith(b'{"lastUpdateId"')
        snapshot_text = case.payload if is_snapshot else snapshot_text
        if not is_snapshot and dice.random() < 0.3:
            subject.give(Case(wild(dice, json.loads(case.payload)), None, case.now))
        subject.give(case)
        subject.feed.on_tick(subject.now, subject.now - 10**9)
    for ms in range(0, 2_000, 100):  # the venue is sane again: diffs that go on, and a snapshot that fits them
        now = subject.now + ms * 10**6
        if not subject.feed.book.synced and subject.feed.book.last_diff is not None:
            body = json.loads(snapshot_text) | {"lastUpdateId": subject.feed.book.last_diff.last_id}
            with contextlib.suppress(StaleBook):
                subject.feed.on_snapshot(snapshot(body), now)
        frame = depth(2**40 + ms, 0)
        subject.feed.on_frame(type(frame)("BTCUSDT", now // 10**6, 2**40 + ms, 2**40 + ms + 99, (), ()), now)
    assert subject.feed.book.synced
    assert subject.digest.seals > 20


def test_repeated_diffs_of_two_connections_are_no_step_back() -> None:
    book = LocalBook("BTCUSDT")
    book.on_snapshot(SNAPSHOT)
    for update in range(11, 30):
        for _ in range(2):
            book.on_diff(depth(update, 100 * update))
    assert (book.synced, book.last_update_id) == (True, 29)


def test_diff_by_the_other_markets_rules_is_seen_at_once() -> None:
    """Futures number updates over all symbols and name the one before: `pu`; spot has none."""
    with pytest.raises(InvalidMessage, match="USD-M"):
        Decoder().frame(text("depth@100ms", {**DEPTH, "pu": 4}))
    book = LocalBook("BTCUSDT")
    book.on_snapshot(SNAPSHOT)
    book.on_diff(depth(11, 100))
    with pytest.raises(StaleBook):
        book.on_diff(depth(15, 200))
    assert not book.synced


# --- the depth stream against the others ---


def test_trade_that_no_diff_follows_shows_that_the_diffs_stalled() -> None:
    feed = feed_of(Memory())
    feed.on_snapshot(SNAPSHOT, at(0))
    feed.on_frame(depth(11, 100), at(100))
    feed.on_frame(trade(1, 200), at(200))
    feed.on_tick(at(2_200), 0)
    assert feed.book.synced
    feed.on_tick(at(2_201), 0)
    assert (feed.book.synced, feed.depth_stalled, feed.wants_snapshot) == (False, True, True)


def test_trade_that_a_diff_follows_is_no_stall() -> None:
    feed = feed_of(Memory())
    feed.on_snapshot(SNAPSHOT, at(0))
    feed.on_frame(trade(1, 200), at(200))
    feed.on_frame(depth(11, 300), at(300))
    feed.on_tick(at(9_000), 0)
    assert (feed.book.synced, feed.depth_stalled) == (True, False)


def test_snapshot_is_asked_for_when_a_diff_has_come_that_it_can_be_joined_to() -> None:
    feed = feed_of(Memory())
    assert not feed.snapshot_is_due(at(100))
    feed.on_frame(depth(11, 100), at(100))
    assert feed.snapshot_is_due(at(100))
    assert feed_of(Memory()).snapshot_is_due(at(3_000))


def test_broken_frames_of_the_bench_are_spread_over_their_kinds() -> None:
    kinds = Counter(case.broken for case in cases(5_000, seed=3))
    assert min(kinds[name] for name, (weight, _) in STRUCTURAL.items() if weight > 1) > 50
