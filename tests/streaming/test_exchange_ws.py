"""The exchange's WebSocket behaves as the venue's: streams, requests, limits; it ends, waits, disconnects as told."""

from __future__ import annotations

import asyncio
import json
import time
from itertools import pairwise
from typing import Any

import aiohttp
import pytest

from streaming.recording import Line
from streaming.tape import Tape
from tests.streaming.made_exchange import connected, frames_until_closed, market_of, served, tape_of

MINUTE = 60 * 1_000_000_000


@pytest.fixture(scope="module")
def tape(simulated_frames: list[Line]) -> Tape:
    return tape_of(simulated_frames)


def recorded_texts(lines: list[Line]) -> list[str]:
    return [line.text for line in lines if not line.text.startswith('{"lastUpdateId"')]


class Reply:
    """A client that takes requests' answers out of the stream."""

    def __init__(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        self.socket = socket

    async def to(self, text: str) -> dict[str, Any]:
        await self.socket.send_str(text)
        while True:
            body: dict[str, Any] = json.loads((await self.socket.receive(timeout=5)).data)
            if "result" in body or "error" in body:
                return body


@pytest.mark.parametrize("speed", [0.0, 300.0])
async def test_once_in_original_time_gives_every_client_the_recording_byte_for_byte(
    tape: Tape, simulated_frames: list[Line], speed: float,
) -> None:
    market = market_of(tape, time.time_ns, once=True, original_time=True, speed=speed)
    async with served(market, time.time_ns) as host:
        frames, code = await frames_until_closed(host)
    assert frames == recorded_texts(simulated_frames)
    assert code == aiohttp.WSCloseCode.OK


async def test_a_bounded_replay_waits_for_its_first_subscriber_and_then_ends(tape: Tape) -> None:
    from streaming.exchange import Exchange

    market = market_of(tape, time.time_ns, once=True, speed=0)
    exchange = Exchange(market, time.time_ns)
    host = f"127.0.0.1:{await exchange.start(0)}"
    ending = asyncio.create_task(exchange.streams.watch_end())
    await asyncio.sleep(0.3)
    assert not market.clock.started
    frames, _ = await frames_until_closed(host)
    assert len(frames) == len(tape)
    await asyncio.wait_for(ending, 5)
    assert exchange.summary()["frames"] == len(tape)
    await exchange.stop()


async def test_a_slow_client_loses_nothing_of_a_bounded_replay(tape: Tape) -> None:
    market = market_of(tape, time.time_ns, once=True, speed=1_000)
    async with served(market, time.time_ns) as host, connected(host) as socket:
        count, last_id = 0, 0
        async for message in socket:
            count += 1
            if count % 2_000 == 0:
                await asyncio.sleep(0.2)
            if (data := json.loads(message.data)["data"]).get("e") == "trade":
                assert last_id in (0, data["t"] - 1)
                last_id = data["t"]
    assert count == len(tape)


async def test_a_bounded_replay_waits_for_a_client_that_was_killed(tape: Tape) -> None:
    # A hundred trades are a second here: what is sent while this busy process cannot read is less than that.
    market = market_of(tape, time.time_ns, once=True, speed=5)
    async with served(market, time.time_ns) as host:
        async with connected(host, "/ws/btcusdt@trade") as first:
            before = [json.loads((await first.receive(timeout=5)).data)["t"] for _ in range(50)]
        await asyncio.sleep(4)  # twenty seconds of the recording, some 400 trades
        async with connected(host, "/ws/btcusdt@trade") as second:
            after = json.loads((await second.receive(timeout=5)).data)["t"]
    assert 1 <= after - before[-1] < 100


async def test_a_loop_disconnects_at_the_seam_and_goes_on_with_the_next_ids(tape: Tape) -> None:
    # 120 s laps at 60 times real time: two seconds each.
    market = market_of(tape, time.time_ns, speed=60, anchor_ns=time.time_ns())
    async with served(market, time.time_ns) as host:
        laps = []
        for _ in range(3):
            frames, code = await frames_until_closed(host)
            assert code == aiohttp.WSCloseCode.GOING_AWAY
            laps.append([json.loads(frame)["data"] for frame in frames])
    diffs = [[data for data in lap if data.get("e") == "depthUpdate"] for lap in laps]
    for lap in diffs:
        assert all(b["U"] == a["u"] + 1 for a, b in pairwise(lap))
    for before, after in pairwise(diffs):
        # What was streamed while nobody was connected is missing, in ids and in time alike.
        assert after[0]["U"] > before[-1]["u"]
        assert after[0]["E"] > before[-1]["E"]


async def test_a_connection_without_streams_does_not_outlive_its_lap(tape: Tape) -> None:
    market = market_of(tape, time.time_ns, speed=60, anchor_ns=time.time_ns())
    async with served(market, time.time_ns) as host, connected(host, "/ws") as socket:
        message = await socket.receive(timeout=6)
    assert message.type in (aiohttp.WSMsgType.CLOSE, aiohttp.WSMsgType.CLOSED)
    assert socket.close_code == aiohttp.WSCloseCode.GOING_AWAY


async def test_the_handshake_says_source_session_and_speed(tape: Tape) -> None:
    market = market_of(tape, time.time_ns, anchor_ns=time.time_ns())
    async with served(market, time.time_ns) as host, aiohttp.ClientSession() as session:
        async with session.get(f"http://{host}/api/v3/time") as answer:
            rest, server_ms = answer.headers, (await answer.json())["serverTime"]
        socket = await session.ws_connect(f"ws://{host}/ws")
        handshake = socket._response.headers
        await socket.close()
    for headers in (handshake, rest):
        assert headers["x-candlewick-source"] == "simulated"
        assert headers["x-candlewick-session"].startswith(tape.identity)
        assert headers["x-candlewick-session"].endswith("-loop0")
        assert headers["x-candlewick-speed"] == "1"
    assert abs(server_ms - time.time() * 1_000) < 1_000


async def test_events_arrive_when_they_happen(tape: Tape) -> None:
    market = market_of(tape, time.time_ns, anchor_ns=time.time_ns())
    ages_ms = []
    async with served(market, time.time_ns) as host, connected(host, "/ws/btcusdt@depth@100ms") as socket:
        while len(ages_ms) < 10:
            message = await socket.receive(timeout=5)
            ages_ms.append(time.time() * 1_000 - json.loads(message.data)["E"])
    assert min(ages_ms) >= 0
    assert sorted(ages_ms)[5] < 200


async def test_raw_streams_carry_the_payload_alone_and_requests_change_them(tape: Tape) -> None:
    market = market_of(tape, time.time_ns, anchor_ns=time.time_ns(), speed=5)
    async with served(market, time.time_ns) as host, connected(host, "/ws") as socket:
        reply = Reply(socket)
        subscribe = {"method": "SUBSCRIBE", "params": ["btcusdt@trade", "nosuch@trade"], "id": 1}
        assert await reply.to(json.dumps(subscribe)) == {"result": None, "id": 1}
        payload = json.loads((await socket.receive(timeout=5)).data)
        assert payload["e"] == "trade"
        listed = await reply.to('{"method":"LIST_SUBSCRIPTIONS","id":"a2"}')
        assert listed == {"result": ["btcusdt@trade", "nosuch@trade"], "id": "a2"}
        combined = '{"method":"SET_PROPERTY","params":["combined",true],"id":3}'
        assert await reply.to(combined) == {"result": None, "id": 3}
        frame = json.loads((await socket.receive(timeout=5)).data)
        assert frame["stream"] == "btcusdt@trade"
        await asyncio.sleep(1.1)
        assert (await reply.to('{"method":"UNSUBSCRIBE","params":["btcusdt@trade"],"id":4}'))["id"] == 4
        with pytest.raises(TimeoutError):
            await socket.receive(timeout=0.3)


@pytest.mark.parametrize(("request_text", "error"), [
    ("nonsense", {"code": 3, "msg": "Invalid JSON: expected value at line 1 column 1"}),
    ('{"id":1}', {"code": 2, "msg": "Invalid request: missing field `method` at line 1 column 8"}),
    ('{"method":"SUBSCRIBE","params":["x@trade"],"id":1.5}',
     {"code": 2, "msg": "Invalid request: request ID must be an unsigned integer"}),
    ('{"method":"GET_PROPERTY","params":["nope"],"id":1}', {"code": 0, "msg": "Unknown property"}),
    ('{"method":"SET_PROPERTY","params":["combined",1],"id":1}',
     {"code": 1, "msg": "Invalid value type: expected Boolean"}),
])
async def test_bad_requests_get_the_venues_codes(tape: Tape, request_text: str, error: dict[str, Any]) -> None:
    market = market_of(tape, time.time_ns)
    async with served(market, time.time_ns) as host, connected(host, "/ws") as socket:
        assert (await Reply(socket).to(request_text))["error"] == error


async def test_an_unknown_stream_is_accepted_and_silent(tape: Tape) -> None:
    market = market_of(tape, time.time_ns)
    async with served(market, time.time_ns) as host, connected(host, "/stream?streams=btcusdt@nosuchstream") as socket:
        with pytest.raises(TimeoutError):
            await socket.receive(timeout=0.5)
        assert not socket.closed


async def test_more_than_five_messages_a_second_end_the_connection(tape: Tape) -> None:
    market = market_of(tape, time.time_ns)
    async with served(market, time.time_ns) as host, connected(host, "/ws") as socket:
        for i in range(6):
            await socket.send_str(f'{{"method":"LIST_SUBSCRIPTIONS","id":{i}}}')
        answers = [message.data async for message in socket]
    assert len(answers) == 5
    assert socket.close_code == aiohttp.WSCloseCode.POLICY_VIOLATION


async def test_a_jump_of_the_clock_disconnects_instead_of_sending_old_data(tape: Tape) -> None:
    """As after SIGSTOP and SIGCONT: the wall clock has gone on, the process has not."""
    jump_ns = 0

    def wall() -> int:
        return time.time_ns() + jump_ns

    market = market_of(tape, wall, anchor_ns=time.time_ns() // MINUTE * MINUTE)
    async with served(market, wall) as host:
        async with connected(host, "/ws/btcusdt@depth@100ms") as socket:
            before = json.loads((await socket.receive(timeout=5)).data)
            jump_ns = 30 * 1_000_000_000
            after = [json.loads(message.data) async for message in socket]
        assert socket.close_code == aiohttp.WSCloseCode.POLICY_VIOLATION
        assert all(data["E"] - before["E"] < 5_000 for data in after)
        async with connected(host, "/ws/btcusdt@depth@100ms") as again:
            fresh = json.loads((await again.receive(timeout=5)).data)
        assert abs(fresh["E"] - wall() // 1_000_000) < 1_000
