"""Klines become bars only when closed, to the last bit what the stream would have made."""

from __future__ import annotations

import time

import httpx
import pytest

from feature_repo.contracts import MINUTE_NS, SECOND_NS, InvalidMessage
from streaming.backfill import HISTORY_MINUTES, HISTORY_SECONDS, Span, closed_bars, history, kline_bar
from streaming.frame_bars import second_bars
from streaming.recording import Line
from streaming.venues.binance_rest import Identity, RestClient
from tests.streaming.made_exchange import Wall, market_of, served, tape_of

ORIGIN = Identity("recording", "s")


def row(at_s: int, volume: str = "3.0", taker: str = "1.0", length_s: int = 1) -> list:
    end_ms = (at_s + length_s) * 1000 - 1
    return [at_s * 1000, "10.0", "12.0", "9.0", "11.0", volume, end_ms, "31.5", 4, taker, "10", "0"]


def test_kline_that_has_not_closed_is_no_bar() -> None:
    bars = closed_bars("BTCUSDT", [row(0), row(1), row(2)], 2 * SECOND_NS, ORIGIN)
    assert [bar.close_time for bar in bars] == [SECOND_NS, 2 * SECOND_NS]


def test_taker_volume_of_zero_under_a_positive_volume_is_unknown_where_no_row_tells_one() -> None:
    untold = closed_bars("BTCUSDT", [row(0, taker="0"), row(1, taker="0")], 9 * SECOND_NS, ORIGIN)
    told = closed_bars("BTCUSDT", [row(0, taker="0"), row(1, taker="1.0")], 9 * SECOND_NS, ORIGIN)
    silent = closed_bars("BTCUSDT", [row(0, volume="0.0", taker="0")], 9 * SECOND_NS, ORIGIN)
    minute = closed_bars("BTCUSDT", [row(0, taker="0", length_s=60), row(60, length_s=60)], 999 * SECOND_NS, ORIGIN)
    found = [[bar.taker_buy_volume for bar in bars] for bars in (untold, told, silent, minute)]
    assert found == [[None, None], [0.0, 1.0], [0.0], [None, 1.0]]


@pytest.mark.parametrize("bad", [[], ["x"] * 12, row(0)[:8], [*row(0)[:5], "-3", *row(0)[6:]], None])
def test_anything_else_is_refused(bad: list) -> None:
    with pytest.raises(InvalidMessage):
        kline_bar("BTCUSDT", bad, ORIGIN)


async def test_history_ends_at_the_span_and_never_reaches_further_back_than_the_first_start(
    simulated_frames: list[Line],
) -> None:
    tape = tape_of(simulated_frames)
    anchor = time.time_ns() // MINUTE_NS * MINUTE_NS
    wall = Wall(anchor + 90 * SECOND_NS)
    market = market_of(tape, wall, anchor_ns=anchor)
    end = anchor + 80 * SECOND_NS
    async with served(market, wall) as host, httpx.AsyncClient(trust_env=False) as http:
        rest = RestClient((f"http://{host}",), http, wall)
        bars = await history(rest, "BTCUSDT", Span(None, end), ORIGIN)
        short = await history(rest, "BTCUSDT", Span(end - 70 * SECOND_NS, end), ORIGIN)
    minutes, seconds = ([bar for bar in bars if bar.interval_s == length] for length in (60, 1))
    assert [bar.close_time for bar in minutes][-1] == end // MINUTE_NS * MINUTE_NS
    assert len(minutes) == HISTORY_MINUTES
    assert seconds[-1].close_time == end
    assert len(seconds) <= HISTORY_SECONDS
    assert [bar.close_time for bar in short if bar.interval_s == 1] == list(
        range(end - 69 * SECOND_NS, end + SECOND_NS, SECOND_NS)
    )


async def test_backfilled_seconds_equal_the_streams_to_the_last_bit(simulated_frames: list[Line]) -> None:
    streamed = second_bars(simulated_frames).bars["BTCUSDT"]
    tape = tape_of(simulated_frames)
    wall = Wall(time.time_ns())
    market = market_of(tape, wall, once=True, original_time=True)
    market.clock.move_to(streamed[-1].close_time + SECOND_NS)
    async with served(market, wall) as host, httpx.AsyncClient(trust_env=False) as http:
        rest = RestClient((f"http://{host}",), http, wall)
        rows = await rest.klines("BTCUSDT", "1s", streamed[0].open_time, streamed[-1].close_time)
    filled = closed_bars("BTCUSDT", rows, streamed[-1].close_time, ORIGIN)
    names = ("open_time", "close_time", "open", "high", "low", "close", "volume", "quote_volume", "vwap", "trades",
             "taker_buy_volume")
    assert [[getattr(bar, name) for name in names] for bar in filled] == [
        [getattr(bar, name) for name in names] for bar in streamed
    ]
