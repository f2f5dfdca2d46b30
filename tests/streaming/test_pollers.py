"""Every poller against a local server that answers, refuses, breaks off and lies in the shapes of the real ones."""

from __future__ import annotations

import asyncio
import math
from dataclasses import replace
from typing import Any

import httpx
import pytest

from feature_repo import topics
from feature_repo.contracts import DAY_NS, HOUR_NS, MARKET, MINUTE_NS, SECOND_NS, Message, VenueRefused
from feature_repo.settings import Settings
from feature_repo.slow_series import MACRO, SERIES
from streaming.fetch import Fetcher, retry_after_ns
from streaming.poller_metrics import PollerMetrics
from streaming.pollers import Pollers
from streaming.slow_sources import LOCAL_REASON, sources
from streaming.venues import binance_context, fred
from tests.streaming.made_providers import (
    NOW_NS,
    Bench,
    Play,
    binance_funding,
    bybit_funding,
    fng,
    fred_csv,
    polling,
    providing,
    settings_at,
    yahoo_chart,
)

FUNDING, BYBIT, OPEN_INTEREST = "/fapi/v1/fundingRate", "/v5/market/funding/history", "/fapi/v1/openInterest"
SPY, FRED, FNG = "/v8/finance/chart/SPY", "/graph/fredgraph.csv", "/fng/"
SETTLED = NOW_NS // (8 * HOUR_NS) * 8 * HOUR_NS


def seen(bench: Bench) -> list[tuple[str, str, int, float]]:
    return [(o.symbol, o.provider, o.ts_event, o.value) for o in bench.observations]


@pytest.mark.parametrize(
    ("series", "path", "answer", "topic", "expected"),
    [
        ("funding_rate", FUNDING, binance_funding("0.00010000", "0.00002885"), "crypto.btc.funding",
         [("BTCUSDT-PERP.BINANCE", "binance", SETTLED - 8 * HOUR_NS, 1e-4),
          ("BTCUSDT-PERP.BINANCE", "binance", SETTLED, 2.885e-5)]),
        ("open_interest", OPEN_INTEREST,
         {"openInterest": "73031.769", "symbol": "BTCUSDT", "time": NOW_NS // 1_000_000}, "crypto.btc.open_interest",
         [("BTCUSDT-PERP.BINANCE", "binance", NOW_NS, 73_031.769)]),
        ("fear_greed", FNG, fng("42", "40"), "sentiment.fear_greed",
         [(MARKET, "alternative.me", NOW_NS // DAY_NS * DAY_NS - DAY_NS, 40.0),
          (MARKET, "alternative.me", NOW_NS // DAY_NS * DAY_NS, 42.0)]),
        ("sp500", SPY, yahoo_chart(555.0, None, 558.25), "macro.feed",
         [(MARKET, "yahoo", NOW_NS - HOUR_NS - 2 * DAY_NS, 555.0), (MARKET, "yahoo", NOW_NS - HOUR_NS, 558.25)]),
        ("us10y", FRED, fred_csv("DGS10", "4.28", ".", "4.32"), "macro.feed",
         [(MARKET, "fred", NOW_NS - HOUR_NS - 2 * DAY_NS, 4.28), (MARKET, "fred", NOW_NS - HOUR_NS, 4.32)]),
    ],
)
async def test_an_answer_becomes_observations_on_its_topic_known_when_it_came(
    series: str, path: str, answer: Any, topic: str, expected: list[tuple[str, str, int, float]],
) -> None:
    async with polling(series) as bench:
        bench.provider.will(path, Play(answer))
        pause = await bench.poll()
        assert seen(bench) == expected
        assert {name for name, _ in bench.published} == {topic}
        assert {(o.created, o.ts_init, o.source, o.provenance) for o in bench.observations} == {
            (NOW_NS, NOW_NS, "recording", "live")}
        assert 0.9 * SERIES[series].every_ns <= pause <= SERIES[series].every_ns
        assert not bench.poller.stale


async def test_what_was_told_is_not_told_again_and_a_correction_is() -> None:
    async with polling("funding_rate") as bench:
        rates = ("0.0002", "0.0002", "0.0003")
        bench.provider.will(FUNDING, *(Play(binance_funding("0.0001", rate)) for rate in rates))
        for _ in range(3):
            await bench.poll()
        assert [o.value for o in bench.observations] == [1e-4, 2e-4, 3e-4]


async def test_a_running_session_is_no_close_yet() -> None:
    async with polling("sp500") as bench:
        bench.now_ns = NOW_NS - 2 * HOUR_NS
        bench.provider.will(SPY, Play(yahoo_chart(555.0, 556.0)))
        await bench.poll()
        assert [o.value for o in bench.observations] == [555.0]


async def test_unchanged_is_asked_for_with_its_etag_and_is_no_failure() -> None:
    async with polling("fear_greed") as bench:
        validators = {"ETag": '"a"', "Last-Modified": "Wed, 12 Mar 2025 00:00:00 GMT"}
        bench.provider.will(FNG, Play(fng("42"), headers=validators), Play(status=304))
        await bench.poll()
        await bench.poll()
        headers = bench.provider.asked[1][2]
        assert headers["If-None-Match"] == '"a"'
        assert headers["If-Modified-Since"] == "Wed, 12 Mar 2025 00:00:00 GMT"
        assert (len(bench.observations), bench.poller.failures, bench.poller.stale) == (1, 0, False)


@pytest.mark.parametrize("status", [429, 418, 503])
async def test_who_says_to_wait_is_not_asked_again_before_that(status: int) -> None:
    async with polling("fear_greed") as bench:
        bench.provider.will(FNG, Play(status=status, headers={"Retry-After": "120"}), Play(fng("42")))
        assert await bench.poll() == 120 * SECOND_NS
        bench.now_ns += 119 * SECOND_NS
        assert await bench.poll() == SECOND_NS * 5, "half of the bound of ten seconds, which is later"
        assert len(bench.provider.asked) == 1
        assert "said to wait, 1 s more" in bench.poller.reason
        bench.now_ns += SECOND_NS
        await bench.poll()
        assert (len(bench.provider.asked), len(bench.observations)) == (2, 1)


async def test_failures_back_off_with_full_jitter_up_to_the_interval() -> None:
    async with polling("fear_greed") as bench:
        bench.provider.will(FNG, Play(status=500))
        pauses = [await bench.poll() / SECOND_NS for _ in range(12)]
        assert pauses[:4] == [2.5, 5.0, 10.0, 20.0]
        assert pauses[-1] == SERIES["fear_greed"].every_ns / SECOND_NS / 2
        bench.poller.chance = lambda: 0.0
        assert await bench.poll() == SECOND_NS, "never at once"


@pytest.mark.parametrize(
    ("series", "path", "play", "reason"),
    [
        ("funding_rate", FUNDING, Play('[{"symbol":"BTCUSDT","fundingTime":17415'), "expected JSON"),
        ("funding_rate", FUNDING, Play([{"fundingTime": "soon", "fundingRate": "0.1"}]), "fundingTime: expected int"),
        ("funding_rate", FUNDING, Play([{"fundingTime": SETTLED // 10**6, "fundingRate": 0.0001}]), "decimal number"),
        ("funding_rate", FUNDING, Play(binance_funding("0.9")), "expected -0.05 to 0.05"),
        ("funding_rate", FUNDING, Play(binance_funding("0.1e400")), "decimal number"),
        ("funding_rate", FUNDING, Play(binance_funding("0.0001", last_ns=NOW_NS + DAY_NS)), "at most 10 s ahead"),
        ("open_interest", OPEN_INTEREST, Play([]), "decimal number, found None"),
        ("open_interest", OPEN_INTEREST, Play({"openInterest": "-1", "time": NOW_NS // 10**6}), "expected 0 to"),
        ("fear_greed", FNG, Play("<html>sign in</html>"), "expected JSON, found b'<html>"),
        ("fear_greed", FNG, Play(fng("fear")), "decimal number, found 'fear'"),
        ("fear_greed", FNG, Play({"data": [], "metadata": {"error": None}}), "expected values, found none"),
        ("fear_greed", FNG, Play({"data": None, "metadata": {"error": "busy"}}), "expected no error, found busy"),
        ("gold", "/v8/finance/chart/GLD", Play(yahoo_chart(250.0, -4.0)), "expected 0.01 to"),
        ("gold", "/v8/finance/chart/GLD", Play({"chart": {"result": None, "error": {"code": "Not Found"}}}),
         "expected no error, found {'code': 'Not Found'}"),
        ("gold", "/v8/finance/chart/GLD", Play('{"chart":{"result":[{"meta":{"gmtoffset":0},"timestamp":[1],'
         '"indicators":{"quote":[{"close":[NaN]}]}}],"error":null}}'), "NaN is no number"),
    ],
)
async def test_what_cannot_be_believed_is_a_dead_letter_with_its_reason(
    series: str, path: str, play: Play, reason: str,
) -> None:
    async with polling(series) as bench:
        bench.provider.will(path, play)
        await bench.poll()
        [letter] = bench.letters
        assert (letter.component, letter.reason, letter.topic) == (
            "pollers", "InvalidMessage", topics.slow_topic(series, letter.symbol or ""))
        assert reason in letter.detail
        assert letter.payload
        assert bench.observations == []
        assert (bench.poller.stale, bench.poller.failures) == (True, 1)
        assert reason[:20] in bench.poller.note


@pytest.mark.parametrize("body", [b"date;value\n", b"observation_date,X\n2025-03-1", b"observation_date,X\nsoon,1\n"])
def test_a_table_of_another_shape_is_refused(body: bytes) -> None:
    with pytest.raises(ValueError, match="fredgraph: expected"):
        fred.closes(body)


async def test_a_body_without_end_is_not_read_on() -> None:
    async with polling("fear_greed", most_bytes=10_000) as bench:
        bench.provider.will(FNG, Play(b"[" + b"0," * 500_000))
        await bench.poll()
        assert "expected at most 10000 bytes, found more" in bench.poller.reason
        assert (bench.letters, bench.observations) == ([], [])


@pytest.mark.parametrize("first", [Play(status=500), Play("{"), Play(status=451)])
async def test_when_binance_fails_funding_comes_from_bybit(first: Play) -> None:
    async with polling("funding_rate") as bench:
        bench.provider.will(FUNDING, first)
        bench.provider.will(BYBIT, Play(bybit_funding("0.00012", "0.0001")))
        await bench.poll()
        assert seen(bench)[-1] == ("BTCUSDT-PERP.BYBIT", "bybit", SETTLED, 0.00012)
        assert (bench.poller.failures, bench.poller.stale) == (0, False)
        assert bench.provider.asked[-1][1] == {"category": "linear", "symbol": "BTCUSDT", "limit": "30"}


async def test_an_error_of_bybit_is_no_answer() -> None:
    async with polling("funding_rate") as bench:
        bench.provider.will(BYBIT, Play({"retCode": 10001, "retMsg": "params error", "result": {}}))
        await bench.poll()
        assert "expected retCode 0, found 10001 params error" in bench.letters[-1].detail


async def test_when_yahoo_refuses_macro_comes_from_fred_as_another_instrument() -> None:
    async with polling("sp500") as bench:
        bench.provider.will(SPY, Play(status=429))
        bench.provider.will(FRED, Play(fred_csv("SP500", "5614.56", "5572.07")))
        await bench.poll()
        assert [(o.provider, o.instrument, o.value) for o in bench.observations] == [
            ("fred", "SP500", 5_614.56), ("fred", "SP500", 5_572.07)]
        assert bench.provider.asked[-1][1] == {"id": "SP500", "cosd": "2024-11-02"}


async def test_a_series_goes_stale_once_keeps_its_value_and_recovers() -> None:
    async with polling("open_interest") as bench:
        fresh = {"openInterest": "5.5", "symbol": "BTCUSDT", "time": NOW_NS // 1_000_000}
        bench.provider.will(OPEN_INTEREST, Play(fresh), Play(status=500))
        await bench.poll()
        for _ in range(3):
            bench.now_ns += 15 * MINUTE_NS
            await bench.poll()
        first, flag = bench.observations
        assert (first.stale, flag.stale) == (False, True)
        assert (flag.value, flag.ts_event, flag.created) == (5.5, NOW_NS, NOW_NS + 30 * MINUTE_NS)
        assert bench.poller.note.startswith("stale: binance: http://127.0.0.1")
        assert gauge(bench.metrics, "candlewick_series_stale") == 1.0
        later = {**fresh, "time": bench.now_ns // 1_000_000}
        bench.provider.will(OPEN_INTEREST, Play(later))
        await bench.poll()
        assert (bench.observations[-1].ts_event, bench.observations[-1].stale) == (bench.now_ns, False)
        assert (bench.poller.note, gauge(bench.metrics, "candlewick_series_stale")) == ("", 0.0)


async def test_an_old_timestamp_is_stale_although_the_answer_is_sound() -> None:
    async with polling("funding_rate") as bench:
        bench.provider.will(FUNDING, Play(binance_funding("0.0001", last_ns=NOW_NS - 2 * DAY_NS)))
        pause = await bench.poll()
        assert (bench.poller.stale, bench.poller.failures) == (True, 0)
        assert bench.poller.note == "stale: what is told is old"
        assert pause > 4 * MINUTE_NS


async def test_a_stranger_who_does_not_say_what_it_is_is_refused() -> None:
    [funding] = [each for each in sources(Settings(), ("BTCUSDT",), local=False) if each.series == "funding_rate"]
    [binance, _] = funding.endpoints
    assert binance.source("https://fapi.binance.com", {}) == ("live", "")
    assert binance.source("http://127.0.0.1:1", {"x-candlewick-source": "simulated"}) == ("simulated", "")
    strangers = (("https://fapi.binance.com.example", {}), ("http://127.0.0.1:1", {"x-candlewick-source": "live"}))
    for host, said in strangers:
        with pytest.raises(VenueRefused, match="expected a host of"):
            binance.source(host, said)


def test_without_a_market_only_what_the_local_exchange_tells_is_asked_for() -> None:
    asked = sources(Settings(), ("BTCUSDT", "ETHUSDT", "BTCUSDT-PERP.BINANCE"), local=True)
    on = [each.name for each in asked if each.endpoints]
    assert on == ["funding_rate BTCUSDT", "open_interest BTCUSDT", "funding_rate ETHUSDT", "open_interest ETHUSDT"]
    assert {each.off for each in asked if not each.endpoints} == {LOCAL_REASON}
    assert {endpoint.provider for each in asked for endpoint in each.endpoints} == {"binance"}


def test_a_wait_is_a_number_of_seconds_or_a_date_and_has_bounds() -> None:
    assert retry_after_ns("86400000", 0) == 6 * HOUR_NS
    assert retry_after_ns("whenever", 0) == retry_after_ns(None, 0) == MINUTE_NS
    assert retry_after_ns("Thu, 01 Jan 1970 00:00:00 GMT", HOUR_NS) == SECOND_NS


def test_a_settlement_describes_its_hour_however_late_its_stamp() -> None:
    body = b'[{"fundingTime":1767801600001,"fundingRate":"0.1"},{"fundingTime":1767801607000,"fundingRate":"0.1"}]'
    assert {reading.ts_event for reading in binance_context.funding_rates(body)} == {1_767_801_600 * SECOND_NS}


class Kept:
    """A publisher that keeps what it is given."""

    full = False
    waiting = 0

    def __init__(self) -> None:
        self.messages: list[tuple[str, Message]] = []

    def publish(self, topic: str, message: Message) -> None:
        self.messages.append((topic, message))

    def close(self, timeout_s: float) -> int:  # noqa: ARG002 - the protocol's
        return 0


async def test_the_service_follows_symbols_tells_what_is_off_and_is_well() -> None:
    async with providing() as (provider, url), httpx.AsyncClient(trust_env=False) as http:
        provider.will(FUNDING, Play(binance_funding("0.0001")))
        provider.will(OPEN_INTEREST, Play(status=500))
        kept, metrics = Kept(), PollerMetrics()
        settings = replace(settings_at(url), symbols=("BTCUSDT",))
        pollers = Pollers(lambda symbols: sources(settings, symbols, local=True), Fetcher(http, lambda: NOW_NS), kept,
                          metrics, lambda: NOW_NS, "s")
        pollers.follow(("BTCUSDT", "ETHUSDT"))
        async with asyncio.timeout(10):
            while len(provider.asked) < 4 or "open_interest ETHUSDT" not in pollers.notes():  # noqa: ASYNC110
                await asyncio.sleep(0.01)
        assert pollers.reasons() == {}, "stale and off are no ill health"
        assert set(pollers.notes()) == {"open_interest BTCUSDT", "open_interest ETHUSDT", "fear_greed", *MACRO}
        assert pollers.notes()["vix"] == f"off: {LOCAL_REASON}"
        assert {topic for topic, _ in kept.messages} == {"crypto.btc.funding", "crypto.eth.funding"}
        pollers.follow(("BTCUSDT",))
        assert "funding_rate ETHUSDT" not in pollers.polled
        assert gauge(metrics, "candlewick_series_stale", series="open_interest", symbol="ETHUSDT") is None
        await pollers.close()


def gauge(metrics: PollerMetrics, name: str, **labels: str) -> float | None:
    if labels:
        return metrics.registry.get_sample_value(name, labels)
    [found] = [s.value for family in metrics.registry.collect() for s in family.samples if s.name == name]
    assert math.isfinite(found)
    return found


