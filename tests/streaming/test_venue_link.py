"""Connections: a dying one is left for one that is open already, an announced end is no gap, a bad host is left."""

from __future__ import annotations

import asyncio
import time
from itertools import pairwise
from typing import Any, cast

import pytest

from feature_repo.contracts import SecondClosed, Trade
from streaming.bars import distinct
from streaming.clock import ClockSample, VenueClock
from streaming.connections import MOST_CONNECTS, Connections
from streaming.exchange_faults import parse
from streaming.recording import Line
from streaming.venue_link import LONGEST_QUIET_S, VenueLink
from streaming.venues.binance_rest import Identity, RestClient
from tests.streaming.made_exchange import exchanging, market_of, served, tape_of
from tests.streaming.made_ingest import Memory, ingesting, until

ORIGIN = Identity("recording", "s")


def link_of(quiet_s: float) -> VenueLink:
    clock = VenueClock(time.time_ns, 0, 0)
    link = VenueLink("ws://none", cast(Any, None), ORIGIN, clock, ("BTCUSDT", "ETHUSDT"), opened_s=100.0)
    link.quiet_s = quiet_s
    return link


async def test_connection_is_quiet_when_nothing_comes_and_not_before() -> None:
    link = link_of(quiet_s=0.3)
    quiet = asyncio.create_task(link.fell_quiet())
    for _ in range(20):  # two thirds of a second, as long as it speaks
        link.heard += 1
        await asyncio.sleep(0.033)
    assert not quiet.done()
    await asyncio.wait_for(quiet, 20)


async def test_process_that_was_held_up_suspects_nobody() -> None:
    link = link_of(quiet_s=0.3)
    quiet = asyncio.create_task(link.fell_quiet())
    await asyncio.sleep(0)
    time.sleep(0.6)  # noqa: ASYNC251 - the whole process stands still, the socket's buffer fills
    link.heard += 1
    await asyncio.sleep(0.15)
    assert not quiet.done()
    quiet.cancel()


async def test_pong_proves_no_silence_while_frames_before_it_wait_to_be_read() -> None:
    class Socket:
        async def ping(self) -> asyncio.Future[float]:
            pong = asyncio.get_running_loop().create_future()
            pong.set_result(0.0)
            return pong

    class Rest:
        async def time(self) -> tuple[ClockSample, None]:
            return ClockSample(0, 0, 7_000), None

    link = link_of(quiet_s=1.5)
    link.socket, link.is_read = cast(Any, Socket()), False
    before = link.alive_ns = -1  # silent since the last look: the venue is asked for its time
    proving = asyncio.create_task(link.keep_proving(cast(Any, Rest())))
    await until(lambda: link.heard)
    await asyncio.sleep(0.05)
    assert link.alive_ns == before
    link.is_read = True
    await until(lambda: link.alive_ns == 7_000)
    proving.cancel()


def test_connection_wrongly_suspected_is_given_more_time() -> None:
    link = link_of(quiet_s=1.5)
    link.was_wrongly_suspected()
    assert link.quiet_s == 3.0
    for _ in range(9):
        link.was_wrongly_suspected()
    assert link.quiet_s == LONGEST_QUIET_S


def test_silent_stream_is_told_by_itself_and_once_in_its_time() -> None:
    link = link_of(quiet_s=1.5)
    for symbol in link.symbols:
        for stream in ("trade", "depth", "bookTicker"):
            link.saw(symbol, stream, 100.0)
    link.saw("BTCUSDT", "depth", 109.0)
    for symbol in link.symbols:
        link.saw(symbol, "bookTicker", 109.0)
    assert link.silent_streams(110.5) == [("ETHUSDT", "depth")]
    assert link.silent_streams(111.0) == []
    assert not link.is_silent(120.0)


@pytest.mark.parametrize("fault", [{"fault": "server_shutdown", "seconds": 1.0}, {"fault": "half_open"}])
async def test_connection_that_ends_or_dies_is_left_for_another_and_no_id_is_lost(
    simulated_frames: list[Line], fault: dict,
) -> None:
    memory = Memory()
    market = market_of(tape_of(simulated_frames), time.time_ns, anchor_ns=time.time_ns())
    async with exchanging(market, time.time_ns) as (exchange, host), ingesting(host, memory, overlap_s=0.5) as ingest:
        await until(lambda: memory.of(SecondClosed))
        first = ingest.link
        exchange.streams.break_down(parse(fault))
        await until(lambda: ingest.link not in (None, first))
        sealed = len(memory.of(SecondClosed))
        await until(lambda: len(memory.of(SecondClosed)) > sealed + 3)
        assert exchange.streams.served == 2
        assert ingest.metrics.resyncs("BTCUSDT") == 0
    trades, seals = memory.of(Trade), memory.of(SecondClosed)
    assert len(trades) == len(distinct(trades))
    assert all(b.trade_id == a.trade_id + 1 for a, b in pairwise(distinct(trades)))
    assert all(b.prev_close == a.close for a, b in pairwise(seals))
    if fault["fault"] == "server_shutdown":  # the other one left frames unread: its seconds have trades and no book
        assert all(seal.book_valid for seal in seals[2:])


async def test_host_that_breaks_every_connection_at_once_is_left_for_the_next(simulated_frames: list[Line]) -> None:
    memory = Memory()
    tape = tape_of(simulated_frames)
    bad, good = (market_of(tape, time.time_ns, anchor_ns=time.time_ns()) for _ in range(2))
    async with (
        exchanging(bad, time.time_ns) as (exchange, bad_host), served(good, time.time_ns) as host,
        ingesting(host, memory, before=(f"ws://{bad_host}",)) as ingest,
    ):
        await until(lambda: ingest.link is not None and ingest.link.host == f"ws://{bad_host}")
        exchange.streams.break_down(parse({"fault": "cut"}))
        await until(lambda: ingest.link is not None and ingest.link.host == f"ws://{host}")
        await until(lambda: memory.of(SecondClosed))


def test_connections_in_five_minutes_are_bounded_below_what_the_venue_allows() -> None:
    never_asked = RestClient((), cast(Any, None), time.time_ns)
    connections = Connections((), "test", never_asked, time.time_ns, cast(Any, None))
    for second in range(MOST_CONNECTS):
        assert connections._connects.wait(second) == 0
        connections._connects.spend(second)
    assert connections._connects.wait(MOST_CONNECTS) == 300 - MOST_CONNECTS
    assert MOST_CONNECTS < 60
