"""Pollers: the service that asks for the slow series and publishes what it is told.

    python -m streaming.pollers            # what the providers of the settings tell
    python -m streaming.pollers --local    # no market in reach: what the local exchange tells, the rest is off

One process, one event loop, a task a series. `/healthz` and `/metrics` on the settings' port; a series that is stale
or off is no ill health, and is told in `notes`, which `candlewick status` shows.
"""

from __future__ import annotations

import argparse
import asyncio
import signal
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial

import httpx
import structlog

from feature_repo import topics
from feature_repo.contracts import SECOND_NS
from feature_repo.health import serve
from feature_repo.logs import configure
from feature_repo.settings import LOOPBACK, Settings, load_settings
from feature_repo.symbols import SymbolWatch
from streaming.fetch import Fetcher
from streaming.poller import Poller
from streaming.poller_metrics import PollerMetrics
from streaming.sink import KafkaSink, Publisher
from streaming.slow_sources import Asked, sources

log = structlog.get_logger()

TIMEOUT_S = 10.0
HEARTBEAT_S = 30.0
CLOSE_S = 6.0
AGENT = "Mozilla/5.0 (compatible; candlewick)"
"""Yahoo answers 429 to the names of HTTP libraries."""
FULL_PAUSE_NS = 5 * SECOND_NS


@dataclass
class Pollers:
    """A task for each series that is asked for. `publisher`, clock and sleep are seams."""

    asked: Callable[[Sequence[str]], list[Asked]]
    """Symbols followed → what is asked for."""
    fetcher: Fetcher
    publisher: Publisher
    metrics: PollerMetrics
    wall: Callable[[], int]
    session: str
    polled: dict[str, Poller] = field(default_factory=dict)
    """By name."""
    _tasks: dict[str, asyncio.Task[None]] = field(default_factory=dict)

    def follow(self, symbols: Sequence[str]) -> None:
        """Ask for the series of these symbols from now on and for no others. To be called in the event loop."""
        wanted = {each.name: each for each in self.asked(symbols)}
        for name in self.polled.keys() - wanted.keys():
            self._tasks.pop(name).cancel()
            self.metrics.forget(self.polled.pop(name).asked)
        for name in wanted.keys() - self.polled.keys():
            self.polled[name] = Poller(
                wanted[name], self.fetcher, self.publisher.publish, self.metrics, session=self.session)
            self._tasks[name] = asyncio.create_task(self._keep_polling(self.polled[name]), name=name)

    def notes(self) -> dict[str, str]:
        """Series → why it has nothing new."""
        return {name: poller.note for name, poller in sorted(self.polled.items()) if poller.note}

    def reasons(self) -> dict[str, str]:
        """Why the process is not healthy: a poller has died of what nobody expected, or the broker is away."""
        died = {name: repr(task.exception()) for name, task in self._tasks.items()
                if task.done() and not task.cancelled() and task.exception() is not None}
        return died | ({"broker": f"{self.publisher.waiting} messages wait"} if self.publisher.full else {})

    async def close(self) -> None:
        """End every task."""
        for task in self._tasks.values():
            task.cancel()
        await asyncio.gather(*self._tasks.values(), return_exceptions=True)

    async def _keep_polling(self, poller: Poller) -> None:
        while poller.asked.endpoints:
            pause_ns = FULL_PAUSE_NS if self.publisher.full else await poller.poll(self.wall())
            await asyncio.sleep(pause_ns / SECOND_NS)


async def run(settings: Settings, *, local: bool) -> None:
    """Poll until a signal comes."""
    session = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    metrics = PollerMetrics()
    sink = KafkaSink(partial(topics.producer, settings.kafka, "candlewick-pollers"))
    stop, loop = asyncio.Event(), asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    # A proxy of the environment is for the world outside, not for this machine.
    async with httpx.AsyncClient(
        timeout=TIMEOUT_S, trust_env=not local, headers={"User-Agent": AGENT}, follow_redirects=True,
    ) as http:
        pollers = Pollers(
            lambda symbols: sources(settings, symbols, local=local), Fetcher(http, time.time_ns), sink, metrics,
            time.time_ns, session)
        pollers.follow(settings.symbols)
        watch = SymbolWatch(
            settings.kafka, settings.symbols, lambda now: loop.call_soon_threadsafe(pollers.follow, now)).start()
        server = serve(LOOPBACK, settings.ports.pollers, pollers.reasons, metrics.registry, pollers.notes)
        log.info("pollers_ready", port=settings.ports.pollers, series=sorted(pollers.polled))
        try:
            await _beat(pollers, metrics, stop)
        finally:
            watch.stop()
            server.shutdown()
            await pollers.close()
    if left := sink.close(CLOSE_S):
        log.warning("not_published", messages=left)


async def _beat(pollers: Pollers, metrics: PollerMetrics, stop: asyncio.Event) -> None:
    while not stop.is_set():
        metrics.waiting.set(pollers.publisher.waiting)
        log.info("heartbeat", series=len(pollers.polled), notes=pollers.notes())
        try:
            await asyncio.wait_for(stop.wait(), HEARTBEAT_S)
        except TimeoutError:
            continue


def parse(arguments: Sequence[str]) -> Mapping[str, bool]:
    """Command line → how to run."""
    parser = argparse.ArgumentParser(prog="streaming.pollers", description="The pollers of slow series.")
    parser.add_argument("--local", action="store_true", help="ask the local exchange alone")
    return vars(parser.parse_args(arguments))


def main(arguments: Sequence[str] | None = None) -> int:
    """Entry point: runs until SIGTERM."""
    given = parse(sys.argv[1:] if arguments is None else arguments)
    settings = load_settings()
    configure("pollers", settings.log_level)
    asyncio.run(run(settings, local=given["local"]))
    return 0


if __name__ == "__main__":
    sys.exit(main())
