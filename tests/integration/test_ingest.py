"""Ingest as a process over the real broker: killed, or away for an hour, it seals a second once and lacks no trade."""

from __future__ import annotations

import time
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import httpx
import pandas as pd
import pytest

from feature_repo import topics
from feature_repo.contracts import SECOND_NS, Bar, MissingTrades, SecondClosed, Trade
from feature_repo.settings import LOOPBACK
from streaming.bars import bars_from_trades, distinct, minute_bars
from streaming.tail import last_seal
from tests.conftest import Recorded
from tests.integration.conftest import free_port
from tests.integration.streaming_stack import SYMBOL, TRADES, StreamingStack, decoded, fresh_topics, records, until
from tests.streaming.made_ingest import read_bars

pytestmark = [pytest.mark.integration, pytest.mark.alone, pytest.mark.slow, pytest.mark.timeout(300)]
SPEED = "15"
# The first second that is sealed for certain, whatever time the start takes, and the last that the recording holds.
FIRST, LAST = (int(pd.Timestamp(at, tz="UTC").value) for at in ("2024-08-08 23:55:00", "2024-08-09 00:05:00"))


@pytest.fixture
def stack(tmp_path: Path, kafka: str) -> Iterator[StreamingStack]:
    fresh_topics(kafka, (TRADES, topics.order_book_topic(SYMBOL), topics.DEAD_LETTERS))
    made = StreamingStack.make(tmp_path, kafka, "redis://unused", free_port)
    yield made
    made.close()


def sealed_until(kafka: str, close: int) -> bool:
    found = last_seal(kafka, SYMBOL)
    return found is not None and found.resume.close >= close


def test_kills_in_a_replay_leave_each_second_once_and_the_official_minutes(
    stack: StreamingStack, kafka: str, recorded: Recorded,
) -> None:
    stack.start_exchange("--speed", SPEED)
    stack.start("streaming.ingest")
    for seconds in (180, 360):
        until(lambda at=FIRST + seconds * SECOND_NS: sealed_until(kafka, at), 90, "the replay gets on")
        stack.kill("ingest")
        stack.start("streaming.ingest")
    health = f"http://{LOOPBACK}:{stack.settings.ports.ingest}/healthz"
    until(lambda: stack.answers(stack.settings.ports.ingest), 20, f"{health} is well")
    until(lambda: sealed_until(kafka, LAST), 150, "the last second is sealed")
    began = time.monotonic()
    assert stack.stop("ingest") == 0
    assert time.monotonic() - began < 10

    messages = decoded(records(kafka, TRADES))
    seals = [message for message in messages if isinstance(message, SecondClosed)]
    closes = [seal.close for seal in seals]
    assert closes == list(range(closes[0], closes[-1] + SECOND_NS, SECOND_NS))
    trades = [message for message in messages if isinstance(message, Trade)]
    assert not any(trade.late for trade in trades)
    ids = [trade.trade_id for trade in distinct(trades)]
    assert ids == list(range(ids[0], ids[-1] + 1))
    assert decoded(records(kafka, topics.DEAD_LETTERS)) == []

    ours = pd.DataFrame([bar.model_dump() for bar in minute_bars(read_bars(messages))])
    ours.index = pd.to_datetime(ours["open_time"], utc=True)
    official = pd.read_parquet(recorded.klines_1m).set_index("date").loc["2024-08-08 23:55":"2024-08-09 00:04"]
    assert len(official) == 10
    for column in ("open", "high", "low", "close", "volume"):
        assert [f"{x:.8f}" for x in ours[column].loc[official.index]] == [f"{x:.8f}" for x in official[column]], column


def long_ago(stack: StreamingStack, minutes: int) -> SecondClosed:
    """A seal as an ingest would have left it that was killed so long ago: right before a second that has trades."""
    asked = f"http://{LOOPBACK}:{stack.settings.ports.exchange}/api/v3"
    since_ms = httpx.get(f"{asked}/time", timeout=60).json()["serverTime"] - minutes * 60_000
    wanted = {"symbol": SYMBOL, "startTime": since_ms, "limit": 1000}
    answer = httpx.get(f"{asked}/aggTrades", params=wanted, timeout=60)
    before, after = next((a, b) for a, b in pairwise(answer.json()) if b["T"] // 1000 == a["T"] // 1000 + 1)
    close = after["T"] // 1000 * SECOND_NS
    return SecondClosed(
        symbol=SYMBOL, ts_event=close, ts_init=close, source="simulated",
        session=answer.headers["x-candlewick-session"], close=close, prev_close=None, n_trades=0, first_trade_id=None,
        last_trade_id=before["l"])


def klines(stack: StreamingStack, first: int, last: int) -> dict[int, tuple[float, ...]]:
    """The exchange's own second klines that open in [first, last): close, ns → the figures of a bar."""
    found = {}
    for start in range(first, last, 1_000 * SECOND_NS):
        end = min(start + 1_000 * SECOND_NS, last)
        rows = httpx.get(f"http://{LOOPBACK}:{stack.settings.ports.exchange}/api/v3/klines", timeout=60, params={
            "symbol": SYMBOL, "interval": "1s", "startTime": start // 10**6, "endTime": end // 10**6 - 1, "limit": 1000,
        }).json()
        found |= {row[0] * 10**6 + SECOND_NS: tuple(map(float, (*row[1:6], row[7], row[8], row[9]))) for row in rows}
    return found


def figures(bars: list[Bar]) -> dict[int, tuple[float | None, ...]]:
    return {
        bar.close_time: (bar.open, bar.high, bar.low, bar.close, bar.volume, bar.quote_volume, bar.trades,
                         bar.taker_buy_volume) for bar in bars}


@pytest.mark.parametrize(("minutes", "is_waited_for"), [(20, True), (65, False)])
def test_outage_of_more_than_a_minute_leaves_no_trade_missing_and_the_venues_own_bars(
    stack: StreamingStack, kafka: str, minutes: int, is_waited_for: bool,
) -> None:
    fresh_topics(kafka, (topics.MISSING,))
    stack.start("streaming.exchange", "--simulate", "--trade-rate", "2")
    until(lambda: stack.answers(stack.settings.ports.exchange), 60, "the exchange answers")
    left = long_ago(stack, minutes)
    sender = topics.producer(kafka, "test")
    topics.send(sender, TRADES, left).get(timeout=30)
    sender.close()
    stack.start("streaming.ingest")

    def found() -> tuple[list[SecondClosed], list[Trade]]:
        messages = decoded(records(kafka, TRADES))
        return ([m for m in messages if isinstance(m, SecondClosed)], [m for m in messages if isinstance(m, Trade)])

    def is_whole() -> bool:
        seals, trades = found()
        known, last = {trade.trade_id for trade in trades}, seals[-1].last_trade_id
        return len(seals) > 10 and last is not None and known >= set(range((left.last_trade_id or 0) + 1, last + 1))

    until(is_whole, 150, "every trade since the outage began is in the topic", every_s=2.0)
    until(lambda: sealed_until(kafka, time.time_ns() - 10 * SECOND_NS), 60, "the stream goes on")
    assert stack.stop("ingest") == 0

    seals, trades = found()
    history = [message for message in decoded(records(kafka, TRADES)) if isinstance(message, Bar)]
    assert bool(history) != is_waited_for
    ids = sorted(trade.trade_id for trade in trades)
    assert ids == list(range((left.last_trade_id or 0) + 1, ids[-1] + 1))
    holes = [(a.close, b.close) for a, b in pairwise(seals) if b.close - a.close != SECOND_NS]
    assert len(holes) == (0 if is_waited_for else 1)
    assert [seal.prev_close for seal in seals[1:]] == [seal.close for seal in seals[:-1]]
    official = klines(stack, left.close, seals[-1].close)
    sealed = figures(read_bars([*history, *trades, *seals[1:]]))
    assert sealed == {close: official[close] for close in sealed}
    assert figures(bars_from_trades(trades, left.close, seals[-1].close)) == official
    said = [message for message in decoded(records(kafka, topics.MISSING)) if isinstance(message, MissingTrades)]
    assert [bool(message.first_ids) for message in (*said[:1], *said[-1:])] == ([] if is_waited_for else [True, False])
    assert decoded(records(kafka, topics.DEAD_LETTERS)) == []


def test_ingest_without_an_exchange_is_unhealthy_and_says_why(stack: StreamingStack) -> None:
    stack.start("streaming.ingest")
    address = f"http://{LOOPBACK}:{stack.settings.ports.ingest}"

    def answered() -> bool:
        try:
            return httpx.get(f"{address}/livez").status_code == 200
        except httpx.TransportError:
            return False

    until(answered, 30, "ingest answers")
    answer = httpx.get(f"{address}/healthz")
    assert (answer.status_code, answer.json()["reasons"]) == (503, {"connection": "not connected to the venue"})
    assert "candlewick_sink_waiting 0.0" in httpx.get(f"{address}/metrics").text
    assert stack.stop("ingest") == 0
