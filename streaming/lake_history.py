"""Lake history: weeks of the venue's minute klines straight into the lake's clean zone, once, in a process of its own.

    python -m streaming.lake_history --days 30 --symbols BTCUSDT ETHUSDT --json

What is measured against a month (the risk's percentile) is then known from the first hour. The bars are written as
revisions named by their rows, so that doing it again changes nothing; the lake's own writer merges them.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import sys
import time
from collections.abc import Sequence

import httpx
import structlog

from feature_repo.contracts import DAY_NS, MINUTE_NS, CandlewickError
from feature_repo.logs import configure
from feature_repo.settings import LOOPBACK, Settings, load_settings
from streaming.backfill import closed_bars
from streaming.lake import LakeWriter
from streaming.venues.binance_rest import RestClient, identity
from streaming.venues.market import one_market

log = structlog.get_logger()

LIVE_SESSION = "history"
NICE = 10
"""The stream that starts at the same time goes first."""


async def fill(rest: RestClient, writer: LakeWriter, symbol: str, days: int) -> int:
    """Minute bars of the last whole `days` into the lake, a day at a time, newest first. Returns how many."""
    sample, answer = await rest.time()
    origin = identity(answer.host, answer.headers, LIVE_SESSION)
    end, count = sample.venue_ns // MINUTE_NS * MINUTE_NS, 0
    for day in range(days):
        last = end - day * DAY_NS
        bars = closed_bars(symbol, await rest.klines(symbol, "1m", last - DAY_NS, last), last, origin)
        writer.add_revision("clean", bars, "backfill")
        count += len(bars)
    return count


async def run(settings: Settings, days: int, symbols: Sequence[str]) -> dict[str, int]:
    """Fill the lake for some symbols. Returns bars by symbol."""
    writer = LakeWriter.open(settings.lake, settings.s3_endpoint)
    market = one_market(symbols)
    _, hosts = market.hosts(settings)
    trust_env = not any(LOOPBACK in host for host in hosts)
    async with httpx.AsyncClient(timeout=httpx.Timeout(10.0), trust_env=trust_env) as http:
        rest = RestClient(hosts, http, time.time_ns, market=market)
        return {symbol: await fill(rest, writer, symbol, days) for symbol in symbols}


def main() -> int:
    """Entry point: 0 done, 1 when the venue or the lake refused, 2 for settings that cannot be used."""
    parser = argparse.ArgumentParser(prog="streaming.lake_history", description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--days", type=int, default=30)
    parser.add_argument("--symbols", nargs="+", help="default: the settings'")
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    try:
        settings = load_settings()
        configure("lake_history", settings.log_level)
    except ValueError as error:
        sys.stderr.write(f"lake_history: {error}\n")
        return 2
    os.nice(NICE)
    try:
        written = asyncio.run(run(settings, given.days, given.symbols or settings.symbols))
    except (CandlewickError, OSError) as error:
        log.warning("lake_history_failed", error=f"{type(error).__name__}: {error}")
        return 1
    log.info("lake_history_written", bars=written)
    if given.json:
        sys.stdout.write(json.dumps(written) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
