"""The simulated market is the same for the same seed, and keeps every rule that the venue keeps."""

from __future__ import annotations

import json
from itertools import pairwise
from typing import Any

import numpy as np
import pytest

from streaming.exchange_book import BookKeeper
from streaming.recording import Line
from streaming.simulator import simulate
from streaming.simulator_days import REFERENCE_DAY
from streaming.simulator_hours import Hours
from streaming.simulator_instruments import instrument
from streaming.simulator_minutes import symbol_minute

BEGIN_NS = 1_704_067_195 * 1_000_000_000


def payloads(lines: list[Line], kind: str) -> list[dict[str, Any]]:
    frames = (json.loads(line.text) for line in lines)
    return [frame["data"] for frame in frames if frame.get("stream", "").endswith(f"@{kind}")]


def test_the_same_seed_gives_the_same_bytes_and_another_does_not() -> None:
    first, again, other = (list(simulate("BTCUSDT", seed, BEGIN_NS, 20)) for seed in (1, 1, 2))
    assert first == again
    assert first != other


def test_a_longer_simulation_begins_as_the_shorter_one(simulated_frames: list[Line]) -> None:
    short = list(simulate("BTCUSDT", 7, BEGIN_NS, 20, trade_rate=10.0))
    assert simulated_frames[: len(short)] == short


def test_trade_ids_and_update_ids_are_contiguous(simulated_frames: list[Line]) -> None:
    trades, diffs = payloads(simulated_frames, "trade"), payloads(simulated_frames, "depth@100ms")
    assert len(trades) > 500
    assert len(diffs) > 1_000
    assert all(b["t"] == a["t"] + 1 for a, b in pairwise(trades))
    assert all(b["U"] == a["u"] + 1 for a, b in pairwise(diffs))
    assert all(b["T"] >= a["T"] for a, b in pairwise(trades))


def test_nothing_is_received_before_it_happened(simulated_frames: list[Line]) -> None:
    stamps = [line.receive_ns for line in simulated_frames]
    assert stamps == sorted(stamps)
    for line in simulated_frames:
        event_ms = json.loads(line.text).get("data", {}).get("E", 0)
        assert line.receive_ns >= event_ms * 1_000_000


def test_the_book_by_the_venues_rules_never_crosses_and_shows_the_quoted_best(simulated_frames: list[Line]) -> None:
    book: dict[str, dict[str, str]] = {}
    last_id, pending = 0, []
    shown: dict[int, tuple[str, str, str, str]] = {
        t["u"]: (t["b"], t["B"], t["a"], t["A"]) for t in payloads(simulated_frames, "bookTicker")}
    checked = 0
    for line in simulated_frames:
        frame = json.loads(line.text)
        if "lastUpdateId" in frame:
            book = {side: dict(frame[name]) for side, name in (("b", "bids"), ("a", "asks"))}
            last_id = frame["lastUpdateId"]
        elif frame["stream"].endswith("@depth@100ms"):
            pending.append(frame["data"])
        for diff in pending if book else ():
            if diff["u"] <= last_id:
                continue
            assert diff["U"] <= last_id + 1 <= diff["u"]
            last_id = diff["u"]
            for side in "ba":
                for price, quantity in diff[side]:
                    if float(quantity):
                        book[side][price] = quantity
                    else:
                        book[side].pop(price, None)
            bid, ask = max(book["b"], key=float), min(book["a"], key=float)
            assert float(bid) < float(ask)
            if last_id in shown:
                assert shown[last_id] == (bid, book["b"][bid], ask, book["a"][ask])
                checked += 1
        pending = [] if book else pending
    assert checked > 100


def test_the_book_reaches_fifty_basis_points_on_both_sides(simulated_frames: list[Line]) -> None:
    snapshot = next(body for line in simulated_frames if "lastUpdateId" in (body := json.loads(line.text)))
    mid = (float(snapshot["bids"][0][0]) + float(snapshot["asks"][0][0])) / 2
    assert float(snapshot["bids"][-1][0]) < mid * 0.995
    assert float(snapshot["asks"][-1][0]) > mid * 1.005
    assert min(len(snapshot["bids"]), len(snapshot["asks"])) >= 300


@pytest.mark.parametrize("symbol", ["ETHUSDT", "SOLUSDT"])
def test_other_symbols_have_markets_of_their_own(symbol: str) -> None:
    lines = list(simulate(symbol, 1, BEGIN_NS, 5))
    tickers = payloads(lines, "bookTicker")
    assert all(float(ticker["b"]) < float(ticker["a"]) for ticker in tickers)
    assert float(tickers[0]["b"]) == pytest.approx(instrument(symbol).price, rel=0.01)


def test_trades_happen_at_quoted_prices_on_both_sides(simulated_frames: list[Line]) -> None:
    trades = payloads(simulated_frames, "trade")
    makers = [trade["m"] for trade in trades]
    assert 0.3 < sum(makers) / len(makers) < 0.7


def test_each_trade_takes_what_stands_at_the_best_quote_shown_before_it(simulated_frames: list[Line]) -> None:
    """A trade is at the best shown by the bookTicker before it, of no more than that; a sweep goes on behind it."""
    shown: dict[str, Any] | None = None
    sweeps = trades = 0
    last: dict[str, Any] = {}
    for frame in (json.loads(line.text) for line in simulated_frames):
        data = frame.get("data", {})
        if frame.get("stream", "").endswith("@bookTicker"):
            shown = data
        if frame.get("stream", "").endswith("@trade") and shown:
            price, quantity = (shown["b"], shown["B"]) if data["m"] else (shown["a"], shown["A"])
            trades += 1
            if (data["T"], data["m"]) == (last.get("T"), last.get("m")):
                sweeps += 1
                assert float(data["p"]) < float(last["p"]) if data["m"] else float(data["p"]) > float(last["p"])
            else:
                assert data["p"] == price
                assert float(data["q"]) <= float(quantity)
            last = data
    assert trades > 500
    assert sweeps > 5


def test_a_sweep_empties_the_levels_it_takes_and_the_book_refills() -> None:
    hour = Hours("BTCUSDT", 3, 10.0).hour(REFERENCE_DAY * 24)
    swept = np.flatnonzero((hour.depth == 1) & ~hour.buyer_is_maker)
    before, after = hour.ask_quarters[hour.step[swept]], hour.ask_quarters[hour.step[swept] + 1]
    assert len(swept) > 100
    assert (after < 4).all()
    # A sweep of step s weighs on step s + 1 and is 0.9 of that a step later: full depth again within 6 s (30 steps)
    # wherever no other sweep came in between.
    free = [s for s in hour.step[swept] if not np.isin(hour.step[swept], np.arange(s + 1, s + 31)).any() and s < 17_900]
    assert len(free) > 10
    assert (hour.ask_quarters[np.array(free) + 31] == 4).all()
    assert (before >= 1).all()
    taken = hour.left[swept - 1][hour.depth[swept - 1] == 0]
    assert (taken == 0).all()
    assert (hour.left[hour.depth == 0] >= 0).all()


@pytest.mark.parametrize("symbol", ["BTCUSDT", "XRPUSDT", "DOGEUSDT"])
def test_minutes_made_in_any_order_join_book_and_ids(symbol: str) -> None:
    """Each minute's opening book is the book its predecessor leaves, also over midnight, where the cells change."""
    midnight = (REFERENCE_DAY + 60) * 1_440
    late = symbol_minute(Hours(symbol, 5, 3.0), midnight).tape
    early = [symbol_minute(Hours(symbol, 5, 3.0), midnight - back).tape for back in (2, 1)]
    for before, after in pairwise([*early, late]):
        left = BookKeeper(before).after(len(before.diffs.last_ids))
        assert (left.bids, left.asks) == (after.snapshots[0].bids, after.snapshots[0].asks)
        assert left.last_id == after.snapshots[0].last_id == after.diffs.first_ids[0] - 1
        assert before.trades.ids[-1] + 1 == after.trades.ids[0]
        assert max(left.bids) < min(left.asks)


@pytest.mark.parametrize("rate", [1 / 60, 50.0])
def test_the_slowest_and_the_fastest_market_keep_the_rules(rate: float) -> None:
    hour = Hours("ETHUSDT", 2, rate).hour(REFERENCE_DAY * 24 + 9)
    assert (np.diff(hour.time_ms)[np.diff(hour.depth) <= 0] > 0).all()
    assert (hour.left >= 0).all()
    assert (hour.steps > 0).all()
    assert (hour.bid < hour.ask).all()
    assert (hour.time_ms % 60_000 < 59_900).all()


@pytest.mark.parametrize(("seed", "rate", "named"), [(-1, 4.0, "--seed"), (1, 0.0, "--trade-rate"), (1, 51.0, "51")])
def test_a_market_that_cannot_be_is_refused(seed: int, rate: float, named: str) -> None:
    with pytest.raises(ValueError, match=named):
        next(simulate("BTCUSDT", seed, BEGIN_NS, 1, rate))
