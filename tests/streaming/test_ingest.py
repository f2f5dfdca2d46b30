"""Ingest over the local exchange: what was played is sealed once, exactly, whatever happens on the way."""

from __future__ import annotations

import json
import time
from itertools import pairwise

import httpx
import pytest
from websockets.asyncio.server import ServerConnection, serve
from websockets.http11 import Request, Response

from feature_repo.contracts import SECOND_NS, Bar, DeadLetter, OrderBook, SecondClosed, Trade
from streaming.bars import distinct
from streaming.exchange_market import Market
from streaming.frame_bars import second_bars
from streaming.recording import Line
from streaming.tail import find_last_seal
from tests.streaming.made_exchange import market_of, served, tape_of
from tests.streaming.made_ingest import Memory, ingesting, read_bars, until

SPEED = 15.0
FIGURES = ("open", "high", "low", "close", "volume", "quote_volume", "trades", "taker_buy_volume", "last_trade_id")


def played_once(lines: list[Line], speed: float = SPEED) -> Market:
    return market_of(tape_of(lines), time.time_ns, once=True, original_time=True, speed=speed)


def figures(bars: list[Bar]) -> dict[int, tuple]:
    return {bar.close_time: tuple(getattr(bar, name) for name in FIGURES) for bar in bars}


def expected(lines: list[Line]) -> dict[int, tuple]:
    return figures(second_bars(lines).bars["BTCUSDT"])


def last_close(memory: Memory) -> int:
    return max((seal.close for seal in memory.of(SecondClosed)), default=0)


async def test_replay_is_sealed_exactly_and_nothing_is_late(simulated_frames: list[Line]) -> None:
    wanted, memory = expected(simulated_frames), Memory()
    async with served(played_once(simulated_frames), time.time_ns) as host, ingesting(host, memory):
        await until(lambda: last_close(memory) >= max(wanted))
    bars = figures(read_bars([message for _, message in memory.sent]))
    assert bars.items() <= wanted.items()
    assert set(wanted) - set(bars) <= set(sorted(wanted)[:12])  # the first seconds before ingest was connected
    assert not any(trade.late for trade in memory.of(Trade))
    assert len(memory.of(Trade)) == len(distinct(memory.of(Trade)))
    seals = memory.of(SecondClosed)
    assert [b.prev_close for a, b in pairwise(seals)] == [a.close for a, b in pairwise(seals)]
    assert all(seal.book_valid for seal in seals[20:])


async def test_order_books_come_at_least_four_times_a_second(simulated_frames: list[Line]) -> None:
    memory = Memory()
    async with served(played_once(simulated_frames), time.time_ns) as host, ingesting(host, memory):
        await until(lambda: len(memory.of(OrderBook)) > 200)
    books = memory.of(OrderBook)[100:]
    assert (books[-1].ts_event - books[0].ts_event) / SECOND_NS <= len(books) / 4


async def test_history_is_published_before_the_first_seal(simulated_frames: list[Line]) -> None:
    memory = Memory()
    async with served(played_once(simulated_frames), time.time_ns) as host, ingesting(host, memory):
        await until(lambda: memory.of(SecondClosed))
    kinds = [type(message) for _, message in memory.sent]
    minutes = [bar for bar in memory.of(Bar) if bar.interval_s == 60]
    assert kinds.index(SecondClosed) > len(kinds) - 1 - kinds[::-1].index(Bar)
    assert len(minutes) == 1_570
    assert {bar.provenance for bar in minutes} == {"backfill"}
    assert memory.of(SecondClosed)[0].prev_close is None


@pytest.mark.parametrize("lost", [0, 40])
async def test_restart_in_the_middle_seals_each_second_once(simulated_frames: list[Line], lost: int) -> None:
    """`lost`: messages the broker had not acknowledged when ingest was killed."""
    wanted, memory = expected(simulated_frames), Memory()
    async with served(played_once(simulated_frames), time.time_ns) as host:
        async with ingesting(host, memory):
            await until(lambda: len(memory.of(SecondClosed)) >= 30)
        del memory.sent[len(memory.sent) - lost :]
        last = find_last_seal(memory.records(), "BTCUSDT")
        assert last is not None
        async with ingesting(host, memory, last):
            await until(lambda: last_close(memory) >= max(wanted))
    messages = [message for _, message in memory.sent]
    bars = figures(read_bars(messages))
    assert bars.items() <= wanted.items()
    closes = [message.close for message in messages if isinstance(message, SecondClosed)]
    assert closes == list(range(closes[0], max(wanted) + SECOND_NS, SECOND_NS))
    assert not any(trade.late for trade in memory.of(Trade))


async def test_full_broker_makes_ingest_leave_the_venue_and_recover_all_of_it(simulated_frames: list[Line]) -> None:
    wanted, memory = expected(simulated_frames), Memory()
    async with served(played_once(simulated_frames), time.time_ns) as host, ingesting(host, memory) as ingest:
        await until(lambda: len(memory.of(SecondClosed)) >= 20)
        memory.full = True
        await until(lambda: ingest.link is None)
        assert ingest.reasons() == {"connection": "not connected to the venue"}
        memory.full = False
        await until(lambda: last_close(memory) >= max(wanted))
    bars = figures(read_bars([message for _, message in memory.sent]))
    assert bars.items() <= wanted.items()
    closes = sorted(bars)
    assert closes == list(range(closes[0], max(wanted) + SECOND_NS, SECOND_NS))


async def test_host_that_does_not_answer_is_left_for_the_next(simulated_frames: list[Line]) -> None:
    memory = Memory()
    async with served(played_once(simulated_frames), time.time_ns) as host:
        async with ingesting(host, memory, before=("ws://127.0.0.1:1",)) as ingest:
            await until(lambda: memory.of(SecondClosed))
        assert ingest.reasons() == {"connection": "not connected to the venue"}


FRAME = {"e": "trade", "E": 1, "s": "BTCUSDT", "t": 7, "p": "61837.63", "q": "0.02", "T": 1, "m": True, "M": True}


def combined(**changes: object) -> str:
    return json.dumps({"stream": "btcusdt@trade", "data": FRAME | changes})


async def test_frames_that_cannot_be_used_are_dead_letters_as_they_came_and_nothing_stops() -> None:
    venue_ms = time.time_ns() // 1_000_000
    bad = ["{", combined(p="0", T=venue_ms), combined(s="DOGEUSDT", T=venue_ms), combined(T=venue_ms + 3_600_000)]
    good = combined(T=venue_ms + 2_000)
    said = {"x-candlewick-source": "recording", "x-candlewick-session": "s"}

    async def venue(socket: ServerConnection) -> None:
        for text in [*bad, good]:
            await socket.send(text)
        await socket.wait_closed()

    def mark(_socket: ServerConnection, _request: Request, response: Response) -> Response:
        response.headers.update(said)
        return response

    def rest(_request: httpx.Request) -> httpx.Response:
        return httpx.Response(200, json={"serverTime": time.time_ns() // 1_000_000}, headers=said)

    memory = Memory()
    async with serve(venue, "127.0.0.1", 0, process_response=mark) as server:
        host = f"127.0.0.1:{server.sockets[0].getsockname()[1]}"
        async with ingesting(host, memory, transport=httpx.MockTransport(rest)) as ingest:
            await until(lambda: ingest.feeds["BTCUSDT"].last_event_ns == (venue_ms + 2_000) * 1_000_000)
    letters = memory.of(DeadLetter)
    assert [letter.payload.decode() for letter in letters] == bad
    assert [letter.reason for letter in letters] == ["InvalidMessage"] * 3 + ["StrayTime"]


async def test_loop_seam_is_passed_by_ids_and_the_session_changes(simulated_frames: list[Line]) -> None:
    memory = Memory()
    anchor = time.time_ns()
    market = market_of(tape_of(simulated_frames), time.time_ns, anchor_ns=anchor, speed=2 * SPEED)
    async with served(market, time.time_ns) as host, ingesting(host, memory):
        await until(lambda: len({seal.session for seal in memory.of(SecondClosed)}) == 2)
        await until(lambda: len(memory.of(SecondClosed)) > 150)
    seals = memory.of(SecondClosed)
    assert [b.prev_close for a, b in pairwise(seals)] == [a.close for a, b in pairwise(seals)]
    assert len(read_bars([message for _, message in memory.sent])) == len(seals)
    assert sum(trade.late for trade in memory.of(Trade)) == 0
