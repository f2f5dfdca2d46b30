"""The local exchange's funding and open interest: the venue's shapes, the same for whoever asks, marked as made up."""

from __future__ import annotations

from collections.abc import AsyncIterator

import httpx
import pytest

from feature_repo.contracts import HOUR_NS, MINUTE_NS
from streaming.exchange_context import Context
from streaming.recording import Line
from streaming.venues.binance_context import funding_rates, open_interest
from tests.streaming.made_exchange import Wall, market_of, served, tape_of

ANCHOR = 1_795_000_020 * 1_000_000_000
NOW = ANCHOR // MINUTE_NS * MINUTE_NS + 100 * 1_000_000_000


@pytest.fixture
async def http(simulated_frames: list[Line]) -> AsyncIterator[httpx.AsyncClient]:
    market = market_of(tape_of(simulated_frames), Wall(NOW), source="recording", anchor_ns=ANCHOR)
    async with served(market, Wall(NOW)) as host, httpx.AsyncClient(
        base_url=f"http://{host}/fapi/v1", trust_env=False,
    ) as client:
        yield client


async def test_it_says_simulated_also_where_the_exchange_plays_a_recording(http: httpx.AsyncClient) -> None:
    for path in ("premiumIndex", "fundingRate", "openInterest"):
        answer = await http.get(path, params={"symbol": "BTCUSDT"})
        assert answer.headers["x-candlewick-source"] == "simulated"
    assert (await http.get("/../../api/v3/time")).headers["x-candlewick-source"] == "recording"


async def test_rates_are_settled_every_eight_hours_up_to_now(http: httpx.AsyncClient) -> None:
    answer = await http.get("fundingRate", params={"symbol": "BTCUSDT", "limit": "30"})
    rates = funding_rates(answer.content)
    assert len(rates) == 30
    assert {rate.ts_event % (8 * HOUR_NS) for rate in rates} == {0}
    assert NOW - 8 * HOUR_NS < rates[-1].ts_event <= NOW
    assert rates[-1].value == Context("BTCUSDT").funding_rate(rates[-1].ts_event)
    begin = rates[3].ts_event // 1_000_000
    some = await http.get("fundingRate", params={"symbol": "BTCUSDT", "startTime": begin, "limit": "2"})
    assert funding_rates(some.content) == rates[3:5]


async def test_open_interest_and_the_rate_to_come_are_those_of_now(http: httpx.AsyncClient) -> None:
    [told] = open_interest((await http.get("openInterest", params={"symbol": "BTCUSDT"})).content)
    assert told.ts_event == NOW // 1_000_000 * 1_000_000
    assert told.value == Context("BTCUSDT").open_interest(NOW)
    premium = (await http.get("premiumIndex", params={"symbol": "BTCUSDT"})).json()
    assert premium["nextFundingTime"] * 1_000_000 - NOW in range(8 * HOUR_NS + 1)
    assert float(premium["markPrice"]) > 0


@pytest.mark.parametrize(
    ("params", "code"),
    [({}, -1102), ({"symbol": "NOPE"}, -1121), ({"symbol": "BTCUSDT", "startTime": "soon"}, -1100)],
)
async def test_a_bad_question_is_refused_as_the_venue_does(
    http: httpx.AsyncClient, params: dict[str, str], code: int,
) -> None:
    answer = await http.get("fundingRate", params=params)
    assert (answer.status_code, answer.json()["code"]) == (400, code)


def test_two_symbols_and_two_seeds_are_different_markets() -> None:
    at = 8 * HOUR_NS * 1_000
    assert len({Context(symbol, seed).funding_rate(at) for symbol in ("BTCUSDT", "ETHUSDT") for seed in (1, 2)}) == 4
