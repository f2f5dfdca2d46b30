"""Recorded frames give the same messages every time: sealed, with a book, and with holes where trades are missing."""

from __future__ import annotations

import json
from itertools import pairwise

from feature_repo.contracts import SECOND_NS, Message, OrderBook, SecondClosed, Trade
from streaming.recorded_feed import RecordedFeed, messages, skew_ns
from streaming.recording import Line
from tests.conftest import Recorded


def run(lines: list[Line], skew: int = 0) -> tuple[list[Message], RecordedFeed]:
    feed = RecordedFeed("BTCUSDT", "simulated", "s", skew)
    return [message for line in lines for _, message in feed.take(line)], feed


def test_frames_are_sealed_second_by_second_and_the_same_every_time(simulated_frames: list[Line]) -> None:
    once, feed = run(simulated_frames)
    again, _ = run(simulated_frames)
    assert once == again
    seals = [m for m in once if isinstance(m, SecondClosed)]
    trades = [m for m in once if isinstance(m, Trade)]
    assert not feed.refused
    assert len(seals) >= 120
    assert all(b.prev_close == a.close for a, b in pairwise(seals))
    assert sum(seal.n_trades for seal in seals) == sum(t.ts_event < seals[-1].close for t in trades)
    assert sum(seal.book_valid for seal in seals) > 100
    assert any(isinstance(m, OrderBook) for m in once)
    assert {m.source for m in seals} == {"simulated"}


def test_trades_that_the_files_lack_leave_a_hole_and_the_feed_goes_on_behind_it(simulated_frames: list[Line]) -> None:
    trades = [line for line in simulated_frames if "@trade" in line.text]
    lost = set(trades[len(trades) // 2 : len(trades) // 2 + 3])
    found, _ = run([line for line in simulated_frames if line not in lost])
    whole, _ = run(simulated_frames)
    seals = {m.close: m.n_trades for m in found if isinstance(m, SecondClosed)}
    all_seals = {m.close: m.n_trades for m in whole if isinstance(m, SecondClosed)}
    touched = {json.loads(line.text)["data"]["T"] // 1000 * SECOND_NS + SECOND_NS for line in lost}
    assert touched
    assert not touched & seals.keys()
    assert max(seals) == max(all_seals)
    assert all(all_seals[close] == count for close, count in seals.items())


def test_what_is_no_frame_is_counted_and_changes_nothing(simulated_frames: list[Line]) -> None:
    at = simulated_frames[100].receive_ns
    strange = [Line(at, text) for text in ("{", '{"stream":"btcusdt@trade","data":{}}', '{"lastUpdateId":"x"}')]
    found, feed = run([*simulated_frames[:100], *strange, *simulated_frames[100:]])
    assert found == run(simulated_frames)[0]
    assert feed.refused.total() == 3


def test_a_futures_recording_is_read_by_its_own_markets_rules(recorded: Recorded) -> None:
    path = recorded.folder / "ws_raw_binance" / "usdm_btcusdt_20220811.gz"
    found = [message for _, message in messages([path], "BTCUSDT-PERP.BINANCE", "recording", "s")]
    seals = [m for m in found if isinstance(m, SecondClosed)]
    assert [seal.book_valid for seal in seals] == [True] * 6
    assert {m.symbol for m in seals} == {"BTCUSDT-PERP.BINANCE"}


def test_a_recorders_clock_that_was_behind_is_put_forward_and_a_mad_event_is_not_believed(
    simulated_frames: list[Line],
) -> None:
    behind = [Line(line.receive_ns - 2 * SECOND_NS, line.text) for line in simulated_frames]
    skew = skew_ns("BTCUSDT", behind)
    assert SECOND_NS < skew <= 2 * SECOND_NS
    mad = json.loads(next(line.text for line in simulated_frames if "@trade" in line.text))
    mad["data"]["T"] += 3_600_000
    assert skew_ns("BTCUSDT", [*behind, Line(behind[-1].receive_ns, json.dumps(mad))]) == skew
    found, _ = run(behind, skew)
    assert all(m.ts_init >= m.ts_event for m in found if isinstance(m, Trade))
