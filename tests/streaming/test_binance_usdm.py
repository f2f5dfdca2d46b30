"""USD-M frames mean what the venue says they mean, and their book follows `pu`."""

from __future__ import annotations

import gzip
import json
from collections import Counter
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from feature_repo.contracts import MINUTE_NS, InvalidMessage, StaleBook
from streaming.bars import STEP, minute_bars, to_steps
from streaming.frame_bars import second_bars
from streaming.order_book import SPOT, USDM, BookRule, LocalBook
from streaming.recording import Line, read_lines
from streaming.venues import binance
from streaming.venues.binance import DepthFrame, Snapshot, TickerFrame, TradeFrame, snapshot
from streaming.venues.binance_usdm import Decoder, is_futures

SYMBOL = "BTCUSDT-PERP.BINANCE"
MS = 1_000_000
TRADE = {"e": "trade", "E": 1_002, "T": 1_000, "s": "BTCUSDT", "t": 7, "p": "61800.30", "q": "0.006", "X": "MARKET",
         "m": False}
DEPTH = {"e": "depthUpdate", "E": 1_002, "T": 1_000, "s": "BTCUSDT", "U": 20, "u": 29, "pu": 11,
         "b": [["61800.20", "0.500"]], "a": []}
TICKER = {"e": "bookTicker", "u": 29, "s": "BTCUSDT", "b": "61800.20", "B": "2.5", "a": "61800.30", "A": "1.0",
          "T": 1_000, "E": 1_001}


def text(stream: str, data: dict[str, Any]) -> str:
    return json.dumps({"stream": f"btcusdt@{stream}", "data": data}, separators=(",", ":"))


def diff(first: int, last: int, previous: int | None) -> DepthFrame:
    return DepthFrame(SYMBOL, 1, first, last, ((100, 5),), ((102, 5),), previous_id=previous)


def test_frames_carry_the_canonical_id_and_what_only_futures_have() -> None:
    decoder = Decoder()
    trade, depth, ticker = (
        decoder.frame(text(stream, data))
        for stream, data in (("trade", TRADE), ("depth@0ms", DEPTH), ("bookTicker", TICKER)))
    assert trade == TradeFrame(SYMBOL, 7, "61800.30", "0.006", 1_000, buyer_is_maker=False)
    assert isinstance(depth, DepthFrame)
    assert (depth.symbol, depth.time_ms, depth.previous_id) == (SYMBOL, 1_002, 11)
    assert (depth.first_id, depth.last_id) == (20, 29)
    assert isinstance(ticker, TickerFrame)
    assert (ticker.symbol, ticker.time_ms) == (SYMBOL, 1_001)
    assert not decoder.unknown
    assert isinstance(trade, TradeFrame)
    assert trade.to_trade(ts_init=1, source="recording", session="s").symbol == SYMBOL


@pytest.mark.parametrize(("stream", "data"), [
    ("depth@0ms", {name: value for name, value in DEPTH.items() if name != "pu"}),
    ("depth@0ms", DEPTH | {"pu": "11"}),
    ("trade", {name: value for name, value in TRADE.items() if name != "X"} | {"M": True}),
    ("bookTicker", {name: value for name, value in TICKER.items() if name != "E"}),
    ("trade", TRADE | {"s": "BTCUSDT_240927"}),
])
def test_a_spot_frame_and_a_dated_contract_are_refused(stream: str, data: dict[str, Any]) -> None:
    with pytest.raises(InvalidMessage):
        Decoder().frame(text(stream, data))


def test_each_decoder_refuses_the_others_depth_and_every_frame_tells_its_market() -> None:
    with pytest.raises(InvalidMessage, match="found a USD-M one"):
        binance.Decoder().frame(text("depth@0ms", DEPTH))
    assert all(is_futures(text(*of)) for of in (("trade", TRADE), ("depth@0ms", DEPTH), ("bookTicker", TICKER)))


def test_the_futures_rule_follows_pu_and_drops_what_the_snapshot_has() -> None:
    book = LocalBook(SYMBOL, USDM)
    for change in (diff(5, 9, 2), diff(20, 29, 9), diff(40, 41, 29)):
        book.on_diff(change)
    # Ids between 29 and 40 belong to other symbols: the snapshot stands among them.
    book.on_snapshot(Snapshot(33, ((90, 1),), ((110, 1),)))
    assert (book.synced, book.last_update_id) == (True, 41)
    book.on_diff(diff(60, 61, 41))
    with pytest.raises(StaleBook):
        book.on_diff(diff(62, 63, 60))
    assert book.best() is None


def test_a_snapshot_older_than_the_first_diff_kept_does_not_fit() -> None:
    book = LocalBook(SYMBOL, USDM)
    book.on_diff(diff(20, 29, 11))
    with pytest.raises(StaleBook):
        book.on_snapshot(Snapshot(10, ((90, 1),), ((110, 1),)))


@pytest.mark.parametrize(("rule", "second"), [(SPOT, diff(40, 41, 29)), (USDM, diff(30, 31, None))])
def test_swapped_rules_are_seen_at_the_next_diff(rule: BookRule, second: DepthFrame) -> None:
    book = LocalBook(SYMBOL, rule)
    book.on_snapshot(Snapshot(29, ((90, 1),), ((110, 1),)))
    with pytest.raises(StaleBook):
        book.on_diff(second)
    assert not book.synced


def test_a_fill_outside_the_market_holds_nothing_up_and_is_in_no_bar() -> None:
    at = [100, 1_100, 1_200, 1_900, 2_500]
    kinds = ["MARKET", "MARKET", "INSURANCE_FUND", "MARKET", "MARKET"]
    frames = [TRADE | {"t": i, "T": ms, "E": ms, "X": kind} for i, (ms, kind) in enumerate(zip(at, kinds, strict=True))]
    frames[2] |= {"p": "0", "q": "0"}
    found = second_bars([Line(frame["T"] * MS, text("trade", frame)) for frame in frames])
    bar, = found.bars[SYMBOL]
    assert (bar.close_time, bar.trades, to_steps(bar.volume)) == (2_000 * MS, 2, 2 * to_steps(0.006))


# --- the recorded sessions ---


@pytest.fixture(scope="module")
def session_2024(data_dir: Path) -> Path:
    return _there(data_dir / "ws_raw_binance" / "usdm_btcusdt_20240808.gz")


def _there(path: Path) -> Path:
    if not path.is_file():
        pytest.skip(f"left out: no recorded USD-M session at {path}")
    return path


def _replayed(path: Path, rule: BookRule) -> tuple[LocalBook, Counter[str]]:
    """The book after a session, and what was seen: tickers at exactly its update id, equal to it or not."""
    book, decoder, seen = LocalBook(SYMBOL, rule), Decoder(), Counter[str]()
    for line in read_lines([path]):
        if line.text.startswith('{"lastUpdateId"'):
            book.on_snapshot(snapshot(json.loads(line.text)))
            continue
        frame = decoder.frame(line.text)
        if isinstance(frame, DepthFrame):
            seen["diffs"] += 1
            book.on_diff(frame)
        elif isinstance(frame, TickerFrame) and book.synced and frame.update_id == book.last_update_id:
            seen["equal" if book.best() == (*frame.bid, *frame.ask) else "unequal"] += 1
        elif isinstance(frame, TradeFrame):
            seen["trades"] += 1
    assert not decoder.unknown
    return book, seen


def test_the_recorded_book_never_gaps_and_equals_every_best_quote_of_its_update_id(session_2024: Path) -> None:
    book, seen = _replayed(session_2024, USDM)
    assert book.synced
    assert seen == {"diffs": 6_551, "trades": 21_313, "equal": 126}


def test_the_spot_rule_loses_the_recorded_futures_book_at_its_second_diff(session_2024: Path) -> None:
    with pytest.raises(StaleBook, match="expected a diff that continues"):
        _replayed(session_2024, SPOT)


def test_the_seven_recorded_seconds_of_2022_decode_without_a_gap(data_dir: Path) -> None:
    path = _there(data_dir / "ws_raw_binance" / "usdm_btcusdt_20220811.gz")
    book, seen = _replayed(path, USDM)
    assert (book.synced, seen) == (True, {"diffs": 206, "trades": 1_326})
    first = next(read_lines([path]))
    assert first.receive_ns // 10**9 == 1_660_228_022  # the file has microseconds
    found = second_bars(read_lines([path]))
    # In that session trades came up to 462 ms after depth: what a seal did not wait for is late, and is counted.
    assert (len(found.bars[SYMBOL]), found.late, found.refused.total()) == (6, 22, 0)


def test_five_recorded_minutes_equal_their_trades_and_the_quarter_hours_official_kline(
    session_2024: Path, data_dir: Path,
) -> None:
    minutes = minute_bars(second_bars(read_lines([session_2024])).bars[SYMBOL])
    raw = _naive_minutes(session_2024)
    assert [bar.open_time // MINUTE_NS for bar in minutes] == sorted(raw)[1:]  # 23:54 was not recorded whole
    for bar in minutes:
        prices, quantities, taker = raw[bar.open_time // MINUTE_NS]
        assert (bar.open, bar.high, bar.low, bar.close) == tuple(
            float(price) for price in (prices[0], max(prices), min(prices), prices[-1]))
        assert to_steps(bar.volume) == sum(quantities) * STEP
        assert to_steps(bar.taker_buy_volume or 0.0) == taker * STEP
        assert to_steps(bar.quote_volume) == sum(p * q for p, q in zip(prices, quantities, strict=True)) * STEP
        assert bar.trades == len(prices)
    # No minute klines of that day are among the data; the quarter of an hour that ends with the session is.
    kline, after = _quarters(data_dir, minutes[-1].close_time)
    assert (min(bar.low for bar in minutes), minutes[-1].close, minutes[-1].close) == (
        kline["low"], kline["close"], after["open"])
    assert sum(bar.volume for bar in minutes) < kline["volume"]


def _naive_minutes(path: Path) -> dict[int, tuple[list[Decimal], list[Decimal], Decimal]]:
    """Minute → prices, quantities, bought quantity, by nothing but the standard library."""
    trades: dict[int, list[dict[str, Any]]] = {}
    with gzip.open(path, "rt") as lines:
        for line in lines:
            data = json.loads(line.partition(" ")[2]).get("data", {})
            if data.get("e") == "trade":
                trades.setdefault(data["T"] // 60_000, []).append(data)
    return {
        minute: ([Decimal(trade["p"]) for trade in rows], [Decimal(trade["q"]) for trade in rows],
                 sum((Decimal(trade["q"]) for trade in rows if not trade["m"]), Decimal(0)))
        for minute, rows in trades.items()
    }


def _quarters(data_dir: Path, close_ns: int) -> tuple[Any, Any]:
    """The official quarter of an hour that ends at a time, and the one that begins there."""
    import pandas as pd

    path = _there(data_dir / "klines_binance" / "btcusdt_usdm_15m.parquet")
    klines = pd.read_parquet(path).set_index("date")
    end = pd.Timestamp(close_ns, unit="ns", tz="UTC")
    return klines.loc[end - pd.Timedelta(minutes=15)], klines.loc[end]
