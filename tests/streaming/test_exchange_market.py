"""At every moment the exchange knows what it has streamed and nothing later; laps join without a seam in the ids."""

from __future__ import annotations

import json
from collections import defaultdict
from decimal import Decimal
from itertools import pairwise
from typing import Any

import pytest

from streaming.exchange_clock import Lap
from streaming.exchange_market import Market
from streaming.recording import Line
from streaming.tape import Tape
from tests.streaming.made_exchange import Wall, ask, market_of, no_history, tape_of

SECOND = 1_000_000_000
MINUTE = 60 * SECOND
ANCHOR = 1_795_000_020 * SECOND + 17 * SECOND + 123_456_789  # some wall time, 17 s into a minute
LAP = 2 * MINUTE
START = ANCHOR // MINUTE * MINUTE
BTC = {"symbol": "BTCUSDT"}


@pytest.fixture(scope="module")
def tape(simulated_frames: list[Line]) -> Tape:
    return tape_of(simulated_frames)


RENDERED: dict[tuple[str, int], list[dict[str, Any]]] = {}


def frames_of(market: Market, lap: Lap, keep: bool = True) -> list[dict[str, Any]]:
    """A lap's frames as streamed; kept, since many tests read the same laps."""
    key = (lap.session, lap.number)
    if key not in RENDERED or not keep:
        RENDERED[key] = [json.loads(market.frames.combined(lap, i)) for i in range(len(lap.section))]
    return RENDERED[key]


def sent(market: Market, kind: str, until_ns: int) -> list[dict[str, Any]]:
    """Every payload of that kind streamed from the first lap of history until that time."""
    moment = market.timeline.moment(until_ns)
    found = []
    for number in range(market.timeline.first_lap_number, moment.lap.number + 1):
        lap = market.timeline.lap(number)
        frames = frames_of(market, lap)[: moment.position if number == moment.lap.number else None]
        found += [frame["data"] for frame in frames if frame["stream"].endswith(f"@{kind}")]
    return found


def naive_kline(trades: list[dict[str, Any]], open_ms: int, interval_ms: int) -> list[Any]:
    prices = [Decimal(t["p"]) for t in trades]
    volume = sum((Decimal(t["q"]) for t in trades), Decimal(0))
    quote = sum((Decimal(t["q"]) * Decimal(t["p"]) for t in trades), Decimal(0))
    taken = [t for t in trades if not t["m"]]
    taker = sum((Decimal(t["q"]) for t in taken), Decimal(0))
    taker_quote = sum((Decimal(t["q"]) * Decimal(t["p"]) for t in taken), Decimal(0))
    numbers = [f"{value:.8f}" for value in (prices[0], max(prices), min(prices), prices[-1], volume)]
    end = [f"{quote:.8f}", len(trades), f"{taker:.8f}", f"{taker_quote:.8f}", "0"]
    return [open_ms, *numbers, open_ms + interval_ms - 1, *end]


def test_event_time_is_the_wall_clock_and_the_shift_whole_minutes(tape: Tape) -> None:
    market = market_of(tape, Wall(ANCHOR), anchor_ns=ANCHOR)
    moment = market.moment()
    assert moment.venue_ns == ANCHOR
    assert moment.lap.number == 0
    assert moment.lap.shift_ns % MINUTE == 0
    assert moment.lap.start_ns == START
    # Every frame leaves at or after its event, and within the recorder's few milliseconds.
    for position in range(0, len(moment.lap.section), 7):
        data = json.loads(market.frames.combined(moment.lap, position))["data"]
        if "E" in data:
            assert 0 <= moment.lap.sent_ns(position) - data["E"] * 1_000_000 < 50_000_000


def test_ids_are_contiguous_from_history_over_every_seam(tape: Tape) -> None:
    market = market_of(tape, Wall(ANCHOR), anchor_ns=ANCHOR)
    until = START + 3 * LAP
    trades, diffs = sent(market, "trade", until), sent(market, "depth@100ms", until)
    assert len(trades) > 3_000
    assert all(b["t"] == a["t"] + 1 and b["T"] >= a["T"] for a, b in pairwise(trades))
    assert all(b["U"] == a["u"] + 1 and b["E"] >= a["E"] for a, b in pairwise(diffs))


def test_prices_join_to_the_tick_and_do_not_drift(tape: Tape) -> None:
    market = market_of(tape, Wall(ANCHOR), anchor_ns=ANCHOR)
    laps = [sent_in_lap(market, number) for number in range(-2, 3)]
    for before, after in pairwise(laps):
        assert before[-1]["p"] == after[0]["p"]
    assert [t["p"] for t in laps[0]] == [t["p"] for t in laps[2]] == [t["p"] for t in laps[4]]
    assert [t["q"] for t in laps[1]] == [t["q"] for t in laps[2]]
    assert [t["m"] for t in laps[1]] == [not t["m"] for t in laps[2]]


def sent_in_lap(market: Market, number: int) -> list[dict[str, Any]]:
    frames = frames_of(market, market.timeline.lap(number))
    return [frame["data"] for frame in frames if frame["stream"].endswith("@trade")]


def test_an_exchange_started_again_with_its_anchor_plays_the_same_frames_at_the_same_instants(tape: Tape) -> None:
    first = market_of(tape, Wall(ANCHOR), anchor_ns=ANCHOR)
    later = market_of(tape, Wall(ANCHOR + 5 * LAP + 3 * SECOND), anchor_ns=ANCHOR)
    instant = START + 5 * LAP + 30 * SECOND
    a, b = first.timeline.moment(instant), later.timeline.moment(instant)
    assert (a.lap.session, a.position) == (b.lap.session, b.position)
    assert frames_of(first, a.lap, keep=False) == frames_of(later, b.lap, keep=False)


@pytest.mark.parametrize("minutes_later", [1, 2, 3, 10, 1_000])
def test_another_anchor_never_reuses_ids_for_other_frames(tape: Tape, minutes_later: int) -> None:
    first = market_of(tape, Wall(ANCHOR), anchor_ns=ANCHOR)
    second = market_of(tape, Wall(ANCHOR), anchor_ns=ANCHOR + minutes_later * MINUTE)
    newest = sent(first, "trade", ANCHOR + minutes_later * MINUTE)[-1]["t"] if minutes_later < 20 else 0
    assert sent(second, "trade", ANCHOR + minutes_later * MINUTE)[0]["t"] > newest


@pytest.mark.parametrize("after_s", [0.0, 0.05, 41.3, 119.99, 120.0, 120.01, 163.7, 299.9])
def test_rest_trades_are_exactly_those_streamed(tape: Tape, after_s: float) -> None:
    wall = Wall(ANCHOR)
    market = market_of(tape, wall, anchor_ns=ANCHOR)
    wall.now_ns = START + int(after_s * SECOND) if after_s else ANCHOR
    expected = sent(market, "trade", wall.now_ns)
    rows = ask(market, "trades", BTC | {"limit": 1000})
    assert [(r["id"], r["price"], r["qty"], r["time"], r["isBuyerMaker"]) for r in rows] == [
        (t["t"], t["p"], t["q"], t["T"], t["m"]) for t in expected[-1000:]]
    middle = expected[-700]["t"]
    rows = ask(market, "historicalTrades", BTC | {"limit": 1000, "fromId": middle})
    assert [r["id"] for r in rows] == list(range(middle, expected[-1]["t"] + 1))


def test_aggregates_hold_every_trade_once_and_page_by_id(tape: Tape) -> None:
    wall = Wall(START + LAP + 70 * SECOND)
    market = market_of(tape, wall, anchor_ns=ANCHOR)
    expected = sent(market, "trade", wall.now_ns)
    pages = ask(market, "aggTrades", BTC | {"startTime": expected[0]["T"], "limit": 1000})
    while len(page := ask(market, "aggTrades", BTC | {"fromId": pages[-1]["a"] + 1, "limit": 1000})):
        pages += page
    assert all(b["a"] == a["a"] + 1 and b["f"] == a["l"] + 1 for a, b in pairwise(pages))
    assert (pages[0]["f"], pages[-1]["l"]) == (expected[0]["t"], expected[-1]["t"])
    assert sum(Decimal(a["q"]) for a in pages) == sum(Decimal(t["q"]) for t in expected)
    assert ask(market, "aggTrades", BTC | {"limit": 7}) == pages[-7:]
    some = pages[len(pages) // 2]
    within = [a for a in pages if some["T"] <= a["T"] <= some["T"] + 2_000]
    assert ask(market, "aggTrades", BTC | {"startTime": some["T"], "endTime": some["T"] + 2_000}) == within


@pytest.mark.parametrize("after_s", [17.2, 60.0, 119.999, 120.0, 120.03, 187.6])
@pytest.mark.parametrize(("interval", "interval_ms"), [("1s", 1_000), ("1m", 60_000)])
def test_klines_are_the_bars_of_the_streamed_trades(
    tape: Tape, after_s: float, interval: str, interval_ms: int,
) -> None:
    wall = Wall(START + int(after_s * SECOND))
    market = market_of(tape, wall, anchor_ns=ANCHOR, history=no_history)
    trades: dict[int, list[dict[str, Any]]] = defaultdict(list)
    for trade in sent(market, "trade", wall.now_ns):
        trades[trade["T"] // interval_ms * interval_ms].append(trade)
    klines = ask(market, "klines", BTC | {"interval": interval, "limit": 1000})
    opens = [kline[0] for kline in klines]
    first = (START - 2 * LAP) // 1_000_000
    assert opens == list(range(first, wall.now_ns // 1_000_000 // interval_ms * interval_ms + 1, interval_ms))
    for kline, before in zip(klines, [None, *klines], strict=False):
        if kline[0] in trades:
            assert kline == naive_kline(trades[kline[0]], kline[0], interval_ms)
        elif before is not None:
            assert kline[1:5] == [before[4]] * 4
            assert (kline[5], kline[8]) == ("0.00000000", 0)


def test_klines_never_change_once_closed_and_never_show_the_future(tape: Tape) -> None:
    wall = Wall(START + 20 * SECOND)
    market = market_of(tape, wall, anchor_ns=ANCHOR)
    seen: dict[int, list[Any]] = {}
    for _ in range(25):
        wall.now_ns += int(7.31 * SECOND)
        klines = ask(market, "klines", BTC | {"interval": "1s", "limit": 1000})
        now_ms = wall.now_ns // 1_000_000
        assert klines[-1][0] == now_ms // 1_000 * 1_000
        # A second is whole when its last trade has come in, some ms after its end.
        for kline in klines:
            if kline[6] + 100 < now_ms:
                assert seen.setdefault(kline[0], kline) == kline
    future = ask(market, "klines", BTC | {"interval": "1s", "startTime": now_ms + 1_000})
    assert future == []


@pytest.mark.parametrize("interval", ["1m", "5m", "15m", "1h"])
def test_history_joins_the_first_lap_and_longer_intervals_are_sums_of_minutes(tape: Tape, interval: str) -> None:
    market = market_of(tape, Wall(ANCHOR), anchor_ns=ANCHOR)
    minutes = ask(market, "klines", BTC | {"interval": "1m", "limit": 1000})
    assert [b[0] - a[0] for a, b in pairwise(minutes)] == [60_000] * 999
    joint = next(i for i, kline in enumerate(minutes) if kline[8] > 0)  # history has no trade counts
    assert minutes[joint][0] == (START - 2 * LAP) // 1_000_000
    assert float(minutes[joint - 1][4]) == pytest.approx(float(minutes[joint][1]), rel=1e-6)
    interval_ms = {"1m": 60_000, "5m": 300_000, "15m": 900_000, "1h": 3_600_000}[interval]
    for kline in ask(market, "klines", BTC | {"interval": interval, "limit": 6}):
        parts = [m for m in minutes if kline[0] <= m[0] < kline[0] + interval_ms]
        assert kline[1:5] == [
            parts[0][1], max((m[2] for m in parts), key=float), min((m[3] for m in parts), key=float), parts[-1][4]]
        assert Decimal(kline[5]) == sum(Decimal(m[5]) for m in parts)
        assert kline[6] == kline[0] + interval_ms - 1


def test_klines_take_start_end_and_limit_as_the_venue_does(tape: Tape) -> None:
    market = market_of(tape, Wall(ANCHOR), anchor_ns=ANCHOR)
    minute = ANCHOR // 1_000_000 // 60_000 * 60_000
    query = BTC | {"interval": "1m"}

    def opens(**more: int) -> list[int]:
        return [(kline[0] - minute) // 60_000 for kline in ask(market, "klines", query | more)]

    assert opens(limit=3) == [-2, -1, 0]
    assert opens(startTime=minute - 600_000, limit=3) == [-10, -9, -8]
    assert opens(startTime=minute - 599_999, limit=2) == [-9, -8]
    assert opens(endTime=minute - 1, limit=2) == [-2, -1]
    assert opens(startTime=minute - 120_000, endTime=minute - 60_000) == [-2, -1]
    assert len(opens(limit=5000)) == 1000
    assert len(opens()) == 500


@pytest.mark.parametrize("after_s", [17.13, 100.0, 119.99, 120.0, 120.2, 250.7])
def test_a_book_kept_by_the_venues_rules_equals_the_next_snapshot(tape: Tape, after_s: float) -> None:
    """Snapshot, then diffs bridged by U ≤ lastUpdateId + 1 ≤ u, give the book that the exchange says later."""
    wall = Wall(START + int(after_s * SECOND))
    market = market_of(tape, wall, anchor_ns=ANCHOR)
    lap = market.moment().lap
    snapshot = ask(market, "depth", BTC | {"limit": 5000})
    book = {side: dict(snapshot[name]) for side, name in (("b", "bids"), ("a", "asks"))}
    last_id = snapshot["lastUpdateId"]
    assert float(snapshot["bids"][0][0]) < float(snapshot["asks"][0][0])
    diffs = [frame["data"] for frame in frames_of(market, lap) if "@depth" in frame["stream"]]
    wall.now_ns = min(wall.now_ns + 20 * SECOND, lap.end_ns - 1)
    later = ask(market, "depth", BTC | {"limit": 5000})
    for diff in (d for d in diffs if last_id < d["u"] <= later["lastUpdateId"]):
        assert diff["U"] <= last_id + 1 <= diff["u"]
        last_id = diff["u"]
        for side in "ba":
            for price, quantity in diff[side]:
                book[side] |= {price: quantity}
    assert last_id == later["lastUpdateId"]
    for side, name in (("b", "bids"), ("a", "asks")):
        kept = {price: quantity for price, quantity in book[side].items() if float(quantity)}
        assert kept == dict(later[name])
    assert [float(p) for p, _ in later["bids"]] == sorted((float(p) for p, _ in later["bids"]), reverse=True)
    assert [float(p) for p, _ in later["asks"]] == sorted(float(p) for p, _ in later["asks"])


def test_depth_holds_no_diff_that_has_not_been_streamed(tape: Tape) -> None:
    wall = Wall(START)
    market = market_of(tape, wall, anchor_ns=ANCHOR)
    for _ in range(40):
        wall.now_ns += int(3.77 * SECOND)
        streamed = sent(market, "depth@100ms", wall.now_ns)
        assert ask(market, "depth", BTC)["lastUpdateId"] == streamed[-1]["u"]


def test_the_exchange_info_gives_the_smallest_steps(tape: Tape) -> None:
    market = market_of(tape, Wall(ANCHOR), anchor_ns=ANCHOR)
    [symbol] = ask(market, "exchangeInfo", BTC)["symbols"]
    filters = {f["filterType"]: f for f in symbol["filters"]}
    assert (symbol["baseAsset"], symbol["quoteAsset"], symbol["status"]) == ("BTC", "USDT", "TRADING")
    assert filters["PRICE_FILTER"]["tickSize"] == "0.01000000"
    assert filters["LOT_SIZE"]["stepSize"] == "0.00001000"


def test_a_shifted_replay_has_second_bars_before_it_and_only_its_own_trades_after(tape: Tape) -> None:
    market = market_of(tape, Wall(ANCHOR), once=True)
    first = market.timeline.lap(0)
    before = ask(market, "klines", BTC | {"interval": "1s", "limit": 1000})
    minute_ms = first.start_ns // MINUTE * 60_000
    assert len(before) == 240  # two virtual laps of two minutes
    assert before[-1][0] == minute_ms - 1_000
    assert first.shift_ns % MINUTE == 0
    market.clock.move_to(first.start_ns + 90 * SECOND)
    trades = [t for t in sent(market, "trade", market.clock.now()) if t["T"] >= minute_ms]
    klines = ask(market, "klines", BTC | {"interval": "1m", "startTime": minute_ms})
    assert sum(kline[8] for kline in klines) == len(trades)
    assert ask(market, "historicalTrades", BTC | {"fromId": trades[0]["t"] - 1, "limit": 2})[0]["time"] < minute_ms
