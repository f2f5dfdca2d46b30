"""Chaos of the feed: a scenario of faults against the local exchange, and what ingest made of it.

    report = asyncio.run(run_scenario(scenario, market, time.time_ns))      # an exchange and an ingest of its own

The report's figures are held against what the exchange really had: every trade id once and as it was, every published
book the exchange's at its update id. Times are wall seconds: of a reconnect without any frame since the fault, and from
the moment the old connection was left; of a resync from the loss of the book.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import httpx

from feature_repo.contracts import SECOND_NS
from feature_repo.logs import configure
from feature_repo.settings import LOOPBACK, load_settings
from streaming.chaos_truth import Truth, told
from streaming.chaos_watch import Link, Watch, p95
from streaming.exchange import Exchange, ExchangeConfig, endless_market, load_market
from streaming.exchange_control import PATH
from streaming.exchange_faults import Fault, plain
from streaming.exchange_market import Market
from streaming.ingest import Ingest, IngestConfig
from streaming.ingest_metrics import IngestMetrics
from streaming.scenario import Scenario, find
from streaming.venues.binance_rest import RestClient

LOOK_EVERY_S = 0.01
START_S = 60.0
SEALS_AT_START = 3
SEALED_PAST_S = 2
TRADE_RATE = 20.0
"""In a sparser market a trade that comes after the next one may be later than the grace: late, and rightly so."""
"""Ingest is whole again when it has sealed this much past the end of the last fault, with every book synced."""
Broken = tuple[str, float]
"""A fault of the connection, and when it was declared."""
OF_CONNECTIONS = frozenset({"half_open", "reset", "cut", "server_shutdown"})


class FeedUnderTest:
    """One exchange, one ingest, and the watch over them."""

    def __init__(
        self, exchange: Exchange, ingest: Ingest, watch: Watch, control: Callable[[Fault], Awaitable[None]],
    ) -> None:
        self.exchange, self.ingest, self.watch, self.break_down = exchange, ingest, watch, control

    def look(self) -> None:
        link = self.ingest.link
        seen = None if link is None else Link(id(link), link.opened_s, link.last_frame_s)
        synced = {symbol: feed.book.synced for symbol, feed in self.ingest.feeds.items()}
        self.watch.look(seen, synced, self.exchange.streams.served)

    def is_whole(self, sealed_past_ns: int) -> bool:
        """Whether every symbol has its book, no missing trade, and seals with a book past that venue time."""
        return self.ingest.link is not None and all(
            feed.book.synced and feed.sealer.missing() is None and (feed.sealer.prev_close or 0) > sealed_past_ns
            and self.watch.seals[symbol][-1].book_valid for symbol, feed in self.ingest.feeds.items())


@contextlib.asynccontextmanager
async def feed_under_test(
    market: Market, symbols: Sequence[str], wall: Callable[[], int],
) -> AsyncIterator[tuple[FeedUnderTest, asyncio.Task[None]]]:
    """An exchange on a free port, and an ingest in this process that follows it; its task ends when it crashes."""
    exchange = Exchange(market, wall)
    host = f"{LOOPBACK}:{await exchange.start(0)}"
    async with httpx.AsyncClient(timeout=httpx.Timeout(10.0), trust_env=False) as http:
        watch = Watch(time.monotonic)
        rest = RestClient((f"http://{host}",), http, wall)
        config = IngestConfig(tuple(symbols), (f"ws://{host}",), "chaos")
        ingest = Ingest(config, watch, rest, wall, IngestMetrics(), {})

        async def declare(fault: Fault) -> None:
            (await http.post(f"http://{host}{PATH}", json=plain(fault))).raise_for_status()

        under = FeedUnderTest(exchange, ingest, watch, declare)
        running, looking = asyncio.create_task(ingest.run()), asyncio.create_task(_look(under))
        try:
            yield under, running
        finally:
            ingest.stop()
            await asyncio.wait({running}, timeout=10.0)
            looking.cancel()
            running.cancel()
            await asyncio.gather(looking, running, return_exceptions=True)
            await exchange.stop()


async def _look(under: FeedUnderTest) -> None:
    while True:
        under.look()
        await asyncio.sleep(LOOK_EVERY_S)


async def run_scenario(
    scenario: Scenario, market: Market, wall: Callable[[], int], symbols: Sequence[str] = (),
) -> dict[str, Any]:
    """Run a scenario against an exchange and an ingest of its own. Returns the report, `unmet` and `passed` in it."""
    began = time.monotonic()
    async with feed_under_test(market, symbols or sorted(market.symbols), wall) as (under, running):
        started = await _until(lambda: under.is_whole(0) and _sealed(under) >= SEALS_AT_START, running, START_S)
        at, until_s = await break_down(scenario, under.break_down) if started else ([], time.monotonic())
        await asyncio.wait({running}, timeout=max(0.0, until_s - time.monotonic()))
        past = market.clock.now() + round(SEALED_PAST_S * market.clock.speed * SECOND_NS)
        settled = await _until(lambda: under.is_whole(past), running, scenario.settle_s)
        under.look()
        found = {
            "source": market.source, "symbols": sorted(under.ingest.feeds), "started": started, "settled": settled,
            "crashed": repr(running.exception()) if running.done() else None, **figures(under, at),
        }
    return judged(scenario, found, began)


def judged(scenario: Scenario, found: Mapping[str, Any], began_s: float) -> dict[str, Any]:
    """The report of a scenario begun at a monotonic time: what it is, what was found, what is not as expected."""
    report = {
        "scenario": scenario.name, "shows": scenario.shows, "seconds": round(time.monotonic() - began_s, 1),
        "faults": sum(step.repeat for step in scenario.steps), **found,
    }
    unmet = scenario.judge(report)
    return report | {"unmet": unmet, "passed": not unmet}


def _sealed(under: FeedUnderTest) -> int:
    return min((len(under.watch.seals[symbol]) for symbol in under.ingest.feeds), default=0)


async def _until(condition: Callable[[], bool], running: asyncio.Task[None], seconds: float) -> bool:
    """Wait for a condition; False when it did not come, or ingest ended before."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline or running.done():
            return False
        await asyncio.sleep(LOOK_EVERY_S)
    return True


async def break_down(
    scenario: Scenario, declare: Callable[[Fault], Awaitable[None]],
) -> tuple[list[Broken], float]:
    """Declare the faults in their time. Returns when connections were broken, and when the last fault is over."""
    broken, until_s = list[Broken](), time.monotonic()
    for wait_s, fault in scenario.schedule():
        await asyncio.sleep(wait_s)
        if fault.fault in OF_CONNECTIONS:
            broken.append((fault.fault, time.monotonic()))
        await declare(fault)
        until_s = max(until_s, time.monotonic() + (fault.seconds or 0.0))
    return broken, until_s


def figures(under: FeedUnderTest, broken: Sequence[Broken]) -> dict[str, Any]:
    """What ingest did, held against the truth."""
    watch, metrics = under.watch, under.ingest.metrics
    return {
        **watched(watch, broken), "connects": len(watch.served), "most_connects_in_5_min": watch.most_connects(),
        "resyncs": round(sum(metrics.resyncs(symbol) for symbol in under.ingest.feeds)),
        "resubscribed": round(metrics.total("candlewick_resubscribes_total")), **_held_against(under),
    }


def watched(watch: Watch, broken: Sequence[Broken]) -> dict[str, Any]:
    """What a watch has seen."""
    times = [(kind, time) for kind, at in broken if (time := watch.reconnect_time(at)) is not None]
    resyncs = watch.resync_times()
    return {
        "dead_letters": watch.reasons.total(), "reasons": dict(watch.reasons),
        "resync_p95_s": p95(resyncs), "resyncs_timed": len(resyncs), "connections_broken": len(broken),
        "reconnects_timed": len(times), "reconnect_p95_s": p95(left for _, (_, left) in times),
        "without_frames_p95_s": p95(fault for _, (fault, _) in times),
        "without_frames_s": {
            kind: {"n": len(own), "p95": p95(own), "max": p95(own[-1:])} for kind in sorted({kind for kind, _ in times})
            if (own := sorted(fault for of, (fault, _) in times if of == kind))
        },
        "seal_gaps": watch.gaps(), "doubled_ids": watch.doubled, "late_trades": watch.late,
    }


def _held_against(under: FeedUnderTest) -> dict[str, Any]:
    """Trades and books held against the exchange's own."""
    truth, watch = Truth(under.exchange.market), under.watch
    found = {
        "trades": 0, "missing_ids": 0, "wrong_trades": 0, "books": 0, "wrong_books": 0, "seals": 0,
        "seals_with_book": 0, "wrong_seals": 0, "books_equal": True,
    }
    for symbol, feed in under.ingest.feeds.items():
        published, book = watch.trades[symbol], feed.book
        last = watch.seals[symbol][-1].last_trade_id if watch.seals[symbol] else None
        if published and last is not None:
            there = truth.trades(symbol, min(published), last)
            found["trades"] += len(there)
            found["missing_ids"] += len(there.keys() - published.keys())
            found["wrong_trades"] += sum(told(published[i]) != there[i] for i in there.keys() & published.keys())
            found["wrong_trades"] += len([i for i in published if i <= last and i not in there])
        found["books"] += len(watch.books[symbol])
        found["wrong_books"] += sum(not truth.is_true(message) for message in watch.books[symbol])
        found["seals"] += len(watch.seals[symbol])
        found["seals_with_book"] += sum(seal.book_valid for seal in watch.seals[symbol])
        found["wrong_seals"] += sum(not truth.seal_is_true(seal) for seal in watch.seals[symbol])
        whole = truth.book(symbol, feed.origin.session, book.last_update_id) if book.synced else None
        found["books_equal"] &= whole is not None and (dict(book.bids), dict(book.asks)) == (whole.bids, whole.asks)
    return found


def run(what: str, quick: bool, recorded: bool, stack: bool) -> dict[str, Any]:
    """Run a scenario, or `all`: side by side, each with an exchange of its own, or one by one against the stack.

    Raises `ValueError` for one that is unknown.
    """
    import uvloop

    scenarios = [scenario.quick() if quick else scenario for scenario in find(what)]
    settings = load_settings()
    configure("chaos", "error")
    if stack:
        from streaming.chaos_stack import run_on_stack

        reports = [run_on_stack(scenario, settings) for scenario in scenarios]
        return {"scenarios": reports, "passed": all(report["passed"] for report in reports)}
    config = ExchangeConfig(trade_rate=TRADE_RATE)
    market = load_market(config, settings, time.time_ns) if recorded else endless_market(
        config, settings.symbols, time.time_ns)
    reports = uvloop.run(run_scenarios(scenarios, market, time.time_ns))
    return {"scenarios": reports, "passed": all(report["passed"] for report in reports)}


async def run_scenarios(
    scenarios: Sequence[Scenario], market: Market, wall: Callable[[], int],
) -> list[dict[str, Any]]:
    """Run scenarios side by side, each against its own copy of a market."""
    return await asyncio.gather(*(run_scenario(scenario, replace(market), wall) for scenario in scenarios))


def text(result: dict[str, Any]) -> str:
    """A line a scenario, and what is not as expected."""
    lines = []
    for report in result["scenarios"]:
        lines.append(f"{'passed' if report['passed'] else 'FAILED'}  {report['scenario']:<24} {report['shows']}")
        lines += [f"        {unmet}" for unmet in report["unmet"]]
    return "\n".join(lines)
