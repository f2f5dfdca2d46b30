"""REST errors, weights and limits are the venue's own."""

from __future__ import annotations

from typing import Any

import aiohttp
import pytest

from streaming.exchange_rest import WEIGHT_LIMIT
from streaming.recording import Line
from streaming.tape import Tape
from tests.streaming.made_exchange import Wall, market_of, served, tape_of

NOW = 1_795_000_037_000_000_000
ILLEGAL_LIMIT = "Illegal characters found in parameter 'limit'; legal range is '^[0-9]{1,20}$'."


@pytest.fixture(scope="module")
def tape(simulated_frames: list[Line]) -> Tape:
    return tape_of(simulated_frames)


async def get(host: str, path: str) -> tuple[int, Any, Any]:
    async with aiohttp.ClientSession() as session, session.get(f"http://{host}{path}") as answer:
        return answer.status, await answer.json(), answer.headers


@pytest.mark.parametrize(("path", "code", "message"), [
    ("klines?symbol=NOPE&interval=1m", -1121, "Invalid symbol."),
    ("klines?symbol=btcusdt&interval=1m", -1100,
     "Illegal characters found in parameter 'symbol'; legal range is '^[A-Z0-9-_.]{1,20}$'."),
    ("klines?symbol=BTCUSDT&interval=7m", -1120, "Invalid interval."),
    ("klines?symbol=BTCUSDT", -1102, "Mandatory parameter 'interval' was not sent, was empty/null, or malformed."),
    ("depth", -1102, "Mandatory parameter 'symbol' was not sent, was empty/null, or malformed."),
    ("depth?symbol=BTCUSDT&limit=x", -1100, ILLEGAL_LIMIT),
    ("depth?symbol=BTCUSDT&limit=0", -1130, "Data sent for parameter 'limit' is not valid."),
    ("time?a=1&b=2", -1104, "Not all sent parameters were read; read '0' parameter(s) but was sent '2'."),
    ("aggTrades?symbol=BTCUSDT&fromId=1&startTime=2", -1128, "Combination of optional parameters invalid."),
])
async def test_bad_requests_have_the_venues_codes_and_words(tape: Tape, path: str, code: int, message: str) -> None:
    async with served(market_of(tape, Wall(NOW)), Wall(NOW)) as host:
        status, body, _ = await get(host, f"/api/v3/{path}")
    assert (status, body) == (400, {"code": code, "msg": message})


async def test_weight_adds_up_within_a_minute_and_a_flood_is_refused(tape: Tape) -> None:
    wall = Wall(NOW)
    async with served(market_of(tape, wall), wall) as host:
        _, _, headers = await get(host, "/api/v3/ping")
        assert headers["x-mbx-used-weight-1m"] == "1"
        _, _, headers = await get(host, "/api/v3/depth?symbol=BTCUSDT&limit=5000")
        assert headers["x-mbx-used-weight-1m"] == "251"
        for _ in range(WEIGHT_LIMIT // 250):
            status, body, headers = await get(host, "/api/v3/depth?symbol=BTCUSDT&limit=5000")
        assert (status, body["code"]) == (429, -1003)
        assert 0 < int(headers["Retry-After"]) <= 60
        wall.now_ns += 60 * 1_000_000_000
        status, _, headers = await get(host, "/api/v3/ping")
        assert (status, headers["x-mbx-used-weight-1m"]) == (200, "1")


async def test_an_unknown_path_is_not_found(tape: Tape) -> None:
    async with served(market_of(tape, Wall(NOW)), Wall(NOW)) as host, aiohttp.ClientSession() as session:
        answer = await session.get(f"http://{host}/api/v3/nothing")
        assert answer.status == 404
        assert answer.headers["x-candlewick-source"] == "simulated"
