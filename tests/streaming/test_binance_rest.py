"""REST obeys the venue: hosts in turn, weights kept, Retry-After waited for, bans respected, sources told apart."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import asynccontextmanager
from typing import Any

import httpx
import pytest

from feature_repo.contracts import SECOND_NS, StaleBook, VenueRefused
from streaming.venues.binance_rest import Identity, RestClient, identity
from streaming.venues.market import SPOT

HOSTS = ("https://api.binance.com", "https://data-api.binance.vision")
Handler = Callable[[httpx.Request], httpx.Response]


class Time:
    """A wall clock that only sleeping moves."""

    def __init__(self) -> None:
        self.now = 1_000 * 60 * SECOND_NS
        self.slept: list[float] = []

    def __call__(self) -> int:
        return self.now

    async def sleep(self, seconds: float) -> None:
        self.slept.append(round(seconds, 3))
        self.now += round(seconds * SECOND_NS)


@asynccontextmanager
async def client(handler: Handler, time: Time) -> Any:
    async with httpx.AsyncClient(transport=httpx.MockTransport(handler)) as http:
        yield RestClient(HOSTS, http, time, time.sleep)


def answers(*responses: httpx.Response) -> tuple[Handler, list[str]]:
    """A handler that gives these in order, and the hosts it was asked at."""
    asked: list[str] = []

    def handler(request: httpx.Request) -> httpx.Response:
        asked.append(request.url.host)
        return responses[min(len(asked), len(responses)) - 1]

    return handler, asked


TIME = httpx.Response(200, json={"serverTime": 1_700_000_000_000})


@pytest.mark.parametrize("status", [451, 403, 500, 503])
async def test_next_host_is_asked_and_then_preferred(status: int) -> None:
    handler, asked = answers(httpx.Response(status), TIME, TIME)
    async with client(handler, Time()) as rest:
        await rest.time()
        sample, _ = await rest.time()
    assert sample.venue_ns == 1_700_000_000_000_000_000
    assert asked == ["api.binance.com", "data-api.binance.vision", "data-api.binance.vision"]


async def test_unreachable_host_is_left_for_the_next() -> None:
    def handler(request: httpx.Request) -> httpx.Response:
        if request.url.host == "api.binance.com":
            raise httpx.ConnectError("no route")
        return TIME

    async with client(handler, Time()) as rest:
        assert (await rest.get("time", 1)).host == HOSTS[1]


@pytest.mark.parametrize("answer", [
    pytest.param(httpx.Response(200, text="<html>sign in</html>"), id="a page in the host's place"),
    pytest.param(httpx.Response(200, content=b"\xff\xfe"), id="no text"),
])
async def test_a_host_that_does_not_answer_with_json_is_left_for_the_next(answer: httpx.Response) -> None:
    handler, asked = answers(answer, TIME)
    async with client(handler, Time()) as rest:
        await rest.time()
    assert asked == ["api.binance.com", "data-api.binance.vision"]


@pytest.mark.parametrize("body", [{}, [], {"serverTime": None}, {"serverTime": "soon"}])
async def test_an_answer_without_the_time_is_a_refusal(body: object) -> None:
    handler, _ = answers(httpx.Response(200, json=body))
    async with client(handler, Time()) as rest:
        with pytest.raises(VenueRefused, match="expected serverTime"):
            await rest.time()


async def test_every_host_failing_is_told_with_each_reason() -> None:
    handler, _ = answers(httpx.Response(451, text="restricted"), httpx.Response(500, text="oops"))
    async with client(handler, Time()) as rest:
        with pytest.raises(VenueRefused, match=r"451 restricted; .*500 oops"):
            await rest.get("time", 1)


@pytest.mark.parametrize("status", [429, 418])
async def test_nothing_is_asked_of_any_host_before_retry_after(status: int) -> None:
    handler, asked = answers(httpx.Response(status, headers={"Retry-After": "7"}), TIME)
    time = Time()
    async with client(handler, time) as rest:
        with pytest.raises(VenueRefused, match=str(status)):
            await rest.get("time", 1)
        assert asked == ["api.binance.com"]
        await rest.get("time", 1)
    assert time.slept == [7.0]


async def test_long_ban_is_told_at_once_instead_of_waited_for() -> None:
    handler, asked = answers(httpx.Response(418, headers={"Retry-After": "86400"}))
    async with client(handler, Time()) as rest:
        for _ in range(2):
            with pytest.raises(VenueRefused):
                await rest.get("time", 1)
    assert len(asked) == 1


async def test_wrong_request_is_not_repeated_elsewhere() -> None:
    handler, asked = answers(httpx.Response(400, json={"code": -1121, "msg": "Invalid symbol."}))
    async with client(handler, Time()) as rest:
        with pytest.raises(VenueRefused, match="Invalid symbol"):
            await rest.depth("NOPE")
    assert asked == ["api.binance.com"]


async def test_weight_used_by_others_of_our_address_is_counted_and_the_minute_waited_for() -> None:
    heavy = httpx.Response(200, json={"serverTime": 1}, headers={"x-mbx-used-weight-1m": str(SPOT.weight_budget)})
    handler, _ = answers(heavy, TIME)
    time = Time()
    async with client(handler, time) as rest:
        await rest.get("time", 1)
        await rest.get("time", 1)
    assert time.slept == [60.0]


@pytest.mark.parametrize("session", ["a-loop3", "a-loop4", None])
async def test_book_of_another_loop_than_the_connections_is_stale(session: str | None) -> None:
    headers = {"x-candlewick-session": session} if session else {}
    handler, _ = answers(httpx.Response(200, json={"lastUpdateId": 7, "bids": [], "asks": []}, headers=headers))
    async with client(handler, Time()) as rest:
        if session != "a-loop4":
            assert (await rest.depth("BTCUSDT", session="a-loop3")).last_update_id == 7
        else:
            with pytest.raises(StaleBook, match="expected the book of a-loop3, found that of a-loop4"):
                await rest.depth("BTCUSDT", session="a-loop3")


def trade_rows(first: int, count: int) -> list[dict[str, Any]]:
    return [
        {"id": i, "price": "10", "qty": "1", "quoteQty": "10", "time": i, "isBuyerMaker": False, "isBestMatch": True}
        for i in range(first, first + count)
    ]


async def test_historical_trades_are_read_page_by_page_to_the_last_wanted() -> None:
    def handler(request: httpx.Request) -> httpx.Response:
        return httpx.Response(200, json=trade_rows(int(request.url.params["fromId"]), 1000))

    async with client(handler, Time()) as rest:
        frames = await rest.trades("BTCUSDT", 5, 1_500, 0)
    assert [frame.trade_id for frame in frames] == list(range(5, 1_501))


async def test_without_historical_trades_recent_ones_and_lone_aggregates_are_used() -> None:
    aggregates = [
        {"a": 1, "p": "10", "q": "1", "f": 95, "l": 95, "T": 95, "m": False},
        {"a": 2, "p": "10", "q": "3", "f": 96, "l": 98, "T": 96, "m": False},
        {"a": 3, "p": "10", "q": "1", "f": 99, "l": 99, "T": 99, "m": False},
    ]

    def handler(request: httpx.Request) -> httpx.Response:
        path = request.url.path.rsplit("/", 1)[-1]
        if path == "historicalTrades":
            return httpx.Response(401, json={"code": -2014, "msg": "API-key format invalid."})
        return httpx.Response(200, json=trade_rows(100, 10) if path == "trades" else aggregates)

    async with client(handler, Time()) as rest:
        frames = await rest.trades("BTCUSDT", 94, None, 0)
    assert [frame.trade_id for frame in frames] == [95, 99, *range(100, 110)]


async def test_klines_are_read_page_by_page() -> None:
    starts = []

    def handler(request: httpx.Request) -> httpx.Response:
        start = int(request.url.params["startTime"])
        starts.append(start)
        last = int(request.url.params["endTime"])
        opens = range(-(-start // 1000) * 1000, last + 1, 1000)
        rows = [[at, "1", "1", "1", "1", "1", at + 999, "1", 1, "1", "1", "0"] for at in opens]
        return httpx.Response(200, json=rows[:1000])

    async with client(handler, Time()) as rest:
        rows = await rest.klines("BTCUSDT", "1s", 0, 1_500 * SECOND_NS)
    assert [row[0] for row in rows] == list(range(0, 1_500_000, 1000))
    assert starts == [0, 999_001]


def test_recording_says_who_it_is() -> None:
    headers = {"X-Candlewick-Source": "recording", "X-Candlewick-Session": "a-loop3", "X-Candlewick-Speed": "20"}
    found = identity("ws://127.0.0.1:18080", headers, "now")
    assert (found, found.series) == (Identity("recording", "a-loop3", 20.0), ("recording", "a"))


@pytest.mark.parametrize(
    ("url", "headers"),
    [
        ("ws://127.0.0.1:18080", {}), ("wss://binance.com.evil.example", {}), ("wss://notbinance.com", {}),
        ("wss://stream.binance.com", {"x-candlewick-source": "live"}),
        ("ws://127.0.0.1", {"x-candlewick-source": "recording", "x-candlewick-speed": "fast"}),
        ("ws://127.0.0.1", {"x-candlewick-source": "recording", "x-candlewick-speed": "-1"}),
    ],
)
def test_host_that_does_not_say_who_it_is_is_refused(url: str, headers: dict[str, str]) -> None:
    with pytest.raises(VenueRefused):
        identity(url, headers, "now")
