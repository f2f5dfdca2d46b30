"""Faults on request: declared strictly, applied to the frames, connections and answers they name, and to no other."""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from itertools import pairwise
from typing import Any

import aiohttp
import pytest

from feature_repo.contracts import NANOS
from streaming.exchange_faults import ConnectionFaults, ServerFaults, parse
from streaming.exchange_mutations import MEGABYTE, MUTATIONS
from streaming.recording import Line
from streaming.tape import Tape
from tests.streaming.made_exchange import connected, from_the_minute, market_of, served, tape_of

DEPTH, TRADE, ETH = "btcusdt@depth@100ms", "btcusdt@trade", "ethusdt@trade"
JSON = {"Content-Type": "application/json"}


def sent(connection: ConnectionFaults, *frames: tuple[str, str], now_s: float = 0.0) -> list[Any]:
    return [payload for stream, text in frames for payload in connection.on_frame(stream, text, now_s)]


def with_fault(**body: Any) -> ConnectionFaults:
    connection = ConnectionFaults()
    connection.add(parse(body), now_s=0.0)
    return connection


@pytest.mark.parametrize(("fault", "expected"), [
    ({"fault": "gap", "count": 2}, ["c", "d"]),
    ({"fault": "duplicate", "count": 2}, ["a", "a", "b", "b", "c", "d"]),
    ({"fault": "reorder", "count": 2}, ["b", "a", "d", "c"]),
    ({"fault": "silence"}, []),
])
def test_frames_are_dropped_doubled_and_exchanged_as_many_as_declared(fault: dict, expected: list[str]) -> None:
    assert sent(with_fault(**fault), *((DEPTH, text) for text in "abcd")) == expected


def test_fault_takes_only_frames_of_its_symbol_and_stream() -> None:
    connection = with_fault(fault="gap", symbol="BTCUSDT", stream="trade", count=9)
    assert sent(connection, (DEPTH, "a"), (ETH, "b"), (TRADE, "c"), (DEPTH, "d")) == ["a", "b", "d"]


def test_reordering_exchanges_frames_of_one_stream_only() -> None:
    connection = with_fault(fault="reorder")
    assert sent(connection, (DEPTH, "d1"), (TRADE, "t1"), (DEPTH, "d2")) == ["d2", "d1"]


def test_silent_stream_speaks_when_its_time_is_over_or_when_it_is_asked_for_again() -> None:
    connection = with_fault(fault="silence", stream="depth", seconds=5)
    assert sent(connection, (DEPTH, "a"), now_s=4.9) == []
    assert sent(connection, (DEPTH, "b"), now_s=5.0) == ["b"]
    connection = with_fault(fault="silence", stream="depth")
    connection.on_subscribe([TRADE])
    assert sent(connection, (DEPTH, "a"), now_s=1e9) == []
    connection.on_subscribe([DEPTH])
    assert sent(connection, (DEPTH, "b"), now_s=1e9) == ["b"]


def test_one_fault_takes_a_frame_and_the_next_fault_the_next_frame() -> None:
    connection = with_fault(fault="gap")
    connection.add(parse({"fault": "duplicate"}), 0.0)
    assert sent(connection, (DEPTH, "a"), (DEPTH, "b"), (DEPTH, "c")) == ["b", "b", "c"]


@pytest.mark.parametrize(("body", "message"), [
    ("gap", "expected an object with a fault"), ({"fault": "quake"}, "fault: expected one of"),
    ({"fault": "gap", "seconds": 3}, "expected no parameter but count, stream, symbol; found seconds"),
    ({"fault": "gap", "count": 0}, "count"), ({"fault": "gap", "count": "3"}, "count"),
    ({"fault": "gap", "count": True}, "count"), ({"fault": "gap", "symbol": "../x"}, "symbol"),
    ({"fault": "silence", "stream": "kline"}, "stream"), ({"fault": "half_open", "seconds": -1}, "seconds"),
    ({"fault": "half_open", "seconds": float("nan")}, "seconds"), ({"fault": "status"}, "expected status"),
    ({"fault": "status", "status": 200}, "status"), ({"fault": "slow_snapshot"}, "expected seconds"),
])
def test_declaration_that_is_not_understood_is_refused_with_what_was_expected(body: object, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        parse(body)


def test_answers_are_broken_as_often_as_declared_and_only_of_their_endpoint() -> None:
    server = ServerFaults()
    server.add(parse({"fault": "status", "status": 429, "seconds": 7, "endpoint": "klines", "count": 2}), 0.0)
    found = [server.on_request(name) for name in ("depth", "klines", "klines", "klines")]
    assert [answer.status for answer in found] == [None, 429, 429, None]
    assert found[1].retry_after_s == 7


FRAMES = {
    "trade": {"e": "trade", "E": 5, "s": "BTCUSDT", "t": 7, "p": "10.5", "q": "0.02", "T": 4, "m": True, "M": True},
    "depth": {"e": "depthUpdate", "E": 5, "s": "BTCUSDT", "U": 5, "u": 9, "b": [["10.4", "0.1"]], "a": []},
    "empty": {"e": "depthUpdate", "E": 5, "s": "BTCUSDT", "U": 5, "u": 9, "b": [], "a": [["10.6", "1.5"]]},
    "bookTicker": {"u": 9, "s": "BTCUSDT", "b": "10.4", "B": "3.7", "a": "10.6", "A": "1.5"},
}


@pytest.mark.parametrize("name", sorted(MUTATIONS))
@pytest.mark.parametrize("kind", sorted(FRAMES))
@pytest.mark.parametrize("raw", [False, True])
def test_every_mutation_gives_a_frame_of_every_stream(name: str, kind: str, raw: bool) -> None:
    body = FRAMES[kind] if raw else {"stream": f"btcusdt@{kind}", "data": FRAMES[kind]}
    changed = MUTATIONS[name](json.dumps(body))
    timeless = kind == "bookTicker" and name in ("unit_flip", "clock_jump")
    one_sided = kind == "trade" and name == "crossed_book"
    assert (changed == json.dumps(body, separators=(",", ":"))) == (timeless or one_sided)


def test_mutations_do_what_they_are_called() -> None:
    text = json.dumps({"stream": TRADE, "data": FRAMES["trade"]})
    data = {name: json.loads(MUTATIONS[name](text))["data"]
            for name in ("unit_flip", "zero_price", "nan_text", "long_decimals", "wrong_symbol", "huge_frame")}
    assert (data["unit_flip"]["E"], data["unit_flip"]["T"]) == (5_000, 4_000)
    assert (data["zero_price"]["p"], data["nan_text"]["p"]) == ("0.00000000", "NaN")
    assert len(data["long_decimals"]["p"].partition(".")[2]) == 40
    assert data["wrong_symbol"]["s"] == "WRONGUSDT"
    assert len(data["huge_frame"]["padding"]) == MEGABYTE
    with pytest.raises(UnicodeDecodeError):
        bytes(MUTATIONS["not_utf8"](text)).decode()  # type: ignore[arg-type]
    with pytest.raises(RecursionError):
        json.loads(MUTATIONS["deep_nesting"](text))


# --- over sockets ---


@pytest.fixture(scope="module")
def tape(simulated_frames: list[Line]) -> Tape:
    return tape_of(simulated_frames)


@asynccontextmanager
async def exchange(tape: Tape, speed: float = 5) -> AsyncIterator[str]:
    """Served from a second into its first lap: before there is nothing that a stale snapshot could be of."""
    wall, anchor_ns = from_the_minute()

    def wall_ns() -> int:
        return wall() + NANOS

    async with served(market_of(tape, wall_ns, anchor_ns=anchor_ns, speed=speed), wall_ns) as host:
        yield host


async def declare(host: str, body: Any, **options: Any) -> tuple[int, Any]:
    data = body if isinstance(body, (str, bytes)) else json.dumps(body)
    url = f"http://{host}/control/faults"
    async with aiohttp.ClientSession() as http, http.post(url, data=data, headers=JSON | options) as answer:
        return answer.status, await answer.json()


async def diffs(socket: aiohttp.ClientWebSocketResponse, count: int) -> list[dict]:
    return [json.loads((await socket.receive(timeout=10)).data) for _ in range(count)]


async def test_declared_gap_is_a_gap_in_the_stream_of_connections_that_are_open(tape: Tape) -> None:
    async with exchange(tape) as host, connected(host, f"/ws/{DEPTH}") as socket:
        [before] = await diffs(socket, 1)
        assert await declare(host, {"fault": "gap", "stream": "depth", "count": 2}) == (
            201, {"fault": {"fault": "gap", "stream": "depth", "count": 2}, "connections": 1})
        found = [before, *await diffs(socket, 20)]
        jumps = [b["U"] - a["u"] for a, b in pairwise(found)]
        assert len([jump for jump in jumps if jump > 1]) == 1
        async with connected(host, f"/ws/{DEPTH}") as sound:
            found = await diffs(sound, 10)
    assert all(b["U"] == a["u"] + 1 for a, b in pairwise(found))


async def kinds_until_silent(socket: aiohttp.ClientWebSocketResponse) -> list[aiohttp.WSMsgType]:
    """The kinds of the messages that come until none comes for a second, or until the connection has ended."""
    kinds = []
    with contextlib.suppress(TimeoutError):
        while not socket.closed:
            kinds.append((await socket.receive(timeout=1.0)).type)
    return kinds


async def test_half_open_connection_neither_sends_nor_answers_but_stays(tape: Tape) -> None:
    async with exchange(tape, speed=1) as host, aiohttp.ClientSession() as http:
        socket = await http.ws_connect(f"ws://{host}/ws/{DEPTH}", autoping=False)
        await diffs(socket, 1)
        assert (await declare(host, {"fault": "half_open"}))[0] == 201
        await socket.ping()
        before = await kinds_until_silent(socket)  # what was on its way when the fault began
        assert set(before) <= {aiohttp.WSMsgType.TEXT}
        assert not socket.closed
        async with http.delete(f"http://{host}/control/faults") as answer:
            assert answer.status == 200
        async with asyncio.timeout(20):
            while (await socket.receive()).type is not aiohttp.WSMsgType.PONG:
                assert not socket.closed
        await socket.close()


@pytest.mark.parametrize(("body", "code"), [
    ({"fault": "cut"}, 1001), ({"fault": "server_shutdown", "seconds": 0.2}, 1012), ({"fault": "reset"}, 1006),
])
async def test_connection_is_ended_as_declared(tape: Tape, body: dict, code: int) -> None:
    async with exchange(tape) as host, connected(host, f"/ws/{DEPTH}") as socket:
        await diffs(socket, 1)
        await declare(host, body)
        try:
            texts = [message.data async for message in socket]
        except ConnectionResetError:
            texts = []
        events = [data["e"] for text in texts if (data := json.loads(text))]
    assert socket.close_code == code
    assert ("serverShutdown" in events) == (body["fault"] == "server_shutdown")


async def test_frame_of_bytes_that_are_no_text_is_sent_as_text(tape: Tape) -> None:
    async with exchange(tape) as host, connected(host, f"/ws/{DEPTH}") as socket:
        await diffs(socket, 1)
        await declare(host, {"fault": "not_utf8"})
        async for _ in socket:
            pass
    assert socket.close_code == aiohttp.WSCloseCode.INVALID_TEXT


async def test_connections_are_refused_until_the_fault_is_cleared(tape: Tape) -> None:
    async with exchange(tape) as host, aiohttp.ClientSession() as http:
        await declare(host, {"fault": "refuse_connections", "seconds": 600})
        with pytest.raises(aiohttp.WSServerHandshakeError, match="503"):
            async with connected(host):
                pass
        await http.delete(f"http://{host}/control/faults")
        async with connected(host) as socket:
            assert (await socket.receive(timeout=10)).type is aiohttp.WSMsgType.TEXT


async def test_answers_are_refused_late_and_old_as_declared(tape: Tape) -> None:
    async with exchange(tape) as host, aiohttp.ClientSession() as http:
        url = f"http://{host}/api/v3/depth?symbol=BTCUSDT&limit=5"
        await declare(host, {"fault": "status", "status": 418, "seconds": 9})
        async with http.get(url) as answer:
            assert (answer.status, answer.headers["Retry-After"]) == (418, "9")
        async with http.get(url) as answer:
            sound = (await answer.json())["lastUpdateId"]
        await declare(host, {"fault": "stale_snapshot", "seconds": 1})
        async with http.get(url) as answer:
            assert (await answer.json())["lastUpdateId"] < sound
        await declare(host, {"fault": "slow_snapshot", "seconds": 0.3})
        began = time.monotonic()
        async with http.get(url) as answer:
            assert answer.status == 200
        assert time.monotonic() - began >= 0.3


@pytest.mark.parametrize(("body", "headers", "status"), [
    ("{", {}, 400), ("[" * 4_000, {}, 400), ({"fault": "nope"}, {}, 400), ("x" * 5_000, {}, 413),
    ({"fault": "cut"}, {"Content-Type": "text/plain"}, 415), ({"fault": "cut"}, {"Host": "evil.example"}, 403),
])
async def test_control_takes_json_of_this_machine_only(tape: Tape, body: Any, headers: dict, status: int) -> None:
    async with exchange(tape) as host:
        found, answer = await declare(host, body, **headers)
    assert found == status
    assert answer["error"]


async def test_active_faults_and_known_ones_are_listed(tape: Tape) -> None:
    async with exchange(tape) as host, connected(host, f"/ws/{DEPTH}") as socket, aiohttp.ClientSession() as http:
        await diffs(socket, 1)
        await declare(host, {"fault": "silence", "stream": "depth"})
        await declare(host, {"fault": "slow_snapshot", "seconds": 3})
        async with http.get(f"http://{host}/control/faults") as answer:
            listed = await answer.json()
    assert listed["connections"] == [[{"fault": "silence", "stream": "depth"}]]
    assert listed["server"] == [{"fault": "slow_snapshot", "seconds": 3.0}]
    assert listed["known"]["gap"] == ["count", "stream", "symbol"]
