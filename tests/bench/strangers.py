"""Strangers' clients at the local exchange: their books beside ours, level by level, at the same update id.

    candlewick bench strangers --json                # 5 minutes, BTCUSDT and ETHUSDT, both clients at once
    candlewick bench strangers --usdm --json         # the recorded USD-M session, BTCUSDT, by pu

python-binance and unicorn-binance-local-depth-cache run unchanged in an environment of their own (`infra.strangers`)
and tell their books once a second. Ours is `LocalBook` over the same exchange by ingest's pieces; a told book is
compared with ours as it was at that very update.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import json
import os
import time
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx

from feature_repo.contracts import StaleBook
from feature_repo.settings import LOOPBACK, ROOT, Settings, load_settings
from streaming.exchange import Exchange, ExchangeConfig, load_market
from streaming.order_book import LocalBook
from streaming.venue_link import open_link
from streaming.venues.binance import Decoder, DepthFrame, Snapshot
from streaming.venues.binance_rest import RestClient
from streaming.venues.market import market_of, one_market

CLIENT = ROOT / "tests" / "strangers" / "client.py"
SYMBOLS = ("BTCUSDT", "ETHUSDT")
USDM_SYMBOLS = ("BTCUSDT-PERP.BINANCE",)
UNICORN = "unicorn-binance-local-depth-cache"
DEPTHS: Mapping[str, int | None] = {"python-binance": None, UNICORN: 100, f"{UNICORN}-futures": 100}
"""Levels a side that are compared; None: every one. unicorn cuts its book to 1,000 and never learns again what it
cut: in 5 recorded minutes the price moved so far that its 466th level differed."""
CLIENTS = {"spot": ("python-binance", UNICORN), "usdm": (f"{UNICORN}-futures",)}
GRACE_S = 90.0
"""For clients to start and to stop."""


@dataclass(frozen=True)
class Told:
    """One book that a client told, best levels first, in steps."""

    symbol: str
    update_id: int
    bids: list[tuple[int, int]]
    asks: list[tuple[int, int]]


@dataclass
class Heard:
    """One symbol's own way: the snapshot and every diff, in order."""

    snapshot: Snapshot | None = None
    diffs: list[DepthFrame] = field(default_factory=list)


@dataclass
class Verdict:
    """One client's books beside ours."""

    books: int = 0
    levels: int = 0
    unequal: int = 0
    first_difference: str | None = None

    def compare(self, told: Told, ours: LocalBook | None, depth: int | None) -> None:
        """Count one told book; `ours` is None when we never stood at its update."""
        self.books += 1
        found = None if ours is None else (_top(reversed(ours.bids.items()), depth), _top(ours.asks.items(), depth))
        theirs = (told.bids[:depth], told.asks[:depth])
        self.levels += sum(map(len, theirs))
        if found != theirs:
            self.unequal += 1
            self.first_difference = self.first_difference or _difference(told, found, theirs)


def verdicts(told: Mapping[str, Sequence[Told]], heard: Mapping[str, Heard]) -> dict[str, dict[str, Verdict]]:
    """Client → symbol → verdict: our book is played forward once a symbol and looked at wherever somebody stood."""
    found = {client: {symbol: Verdict() for symbol in heard} for client in told}
    for symbol, own in heard.items():
        wanted: dict[int, list[tuple[str, Told]]] = {}
        for client, books in told.items():
            for book in books:
                if book.symbol == symbol:
                    wanted.setdefault(book.update_id, []).append((client, book))
        for ours in _played(symbol, own):
            for client, book in wanted.pop(ours.last_update_id, ()):
                found[client][symbol].compare(book, ours, DEPTHS[client])
        for client, book in (pair for pairs in wanted.values() for pair in pairs):
            found[client][symbol].compare(book, None, DEPTHS[client])
    return found


def _played(symbol: str, own: Heard) -> Iterable[LocalBook]:
    book = LocalBook(symbol, market_of(symbol).rule)
    assert own.snapshot is not None, "we have a snapshot before strangers begin"
    book.on_snapshot(own.snapshot)
    for diff in own.diffs:
        book.on_diff(diff)
        yield book


def _top(levels: Iterable[tuple[int, int]], depth: int | None) -> list[tuple[int, int]]:
    return list(levels)[:depth]


def _difference(told: Told, ours: Any, theirs: Any) -> str:
    if ours is None:
        return f"{told.symbol}: expected an update id of the stream, found {told.update_id}"
    for side, own, other in zip(("bid", "ask"), ours, theirs, strict=True):
        for level, (a, b) in enumerate(zip(own, other, strict=False)):
            if a != b:
                return f"{told.symbol} {told.update_id}: {side} {level}: expected {a}, found {b}"
    return f"{told.symbol} {told.update_id}: expected {[len(s) for s in ours]} levels, found {[len(s) for s in theirs]}"


async def compare(
    python: Path, url: str, symbols: Sequence[str], seconds: float, time_url: str | None = None,
) -> dict[str, Any]:
    """A market's clients at an exchange that is there, and the verdict. `time_url`: where else they ask the time."""
    heard = {symbol: Heard() for symbol in symbols}
    market = one_market(symbols)
    clients = CLIENTS[market.name]
    at = f"{url},{time_url}" if time_url else url
    async with httpx.AsyncClient(timeout=10.0, trust_env=False) as http:
        rest = RestClient((url,), http, time.time_ns, market=market)
        link = await open_link(url.replace("http", "ws", 1), tuple(symbols), rest, time.time_ns, "strangers")
        listening = asyncio.create_task(_listen(link.socket, market.decoder(), heard))
        try:
            for symbol, own in heard.items():
                await _sync(rest, symbol, own)
            words = [market.word(symbol) for symbol in symbols]
            answers = await asyncio.gather(*(_client(python, name, at, words, seconds) for name in clients))
            for symbol, own in heard.items():
                await _caught_up(own, (await rest.depth(symbol)).last_update_id)
        finally:
            listening.cancel()
            await asyncio.gather(listening, return_exceptions=True)
            await link.close()
    # Not before: reading so much would hold up the exchange, which may live in this process.
    ids = {market.word(symbol): symbol for symbol in symbols}
    named = dict(zip(clients, answers, strict=True))
    told = {name: [_told(json.loads(line), ids) for line in answer.lines] for name, answer in named.items()}
    errors = {name: answer.error for name, answer in named.items() if answer.error}
    return report(verdicts(told, heard), errors, link.origin.source, seconds)


def report(
    found: Mapping[str, Mapping[str, Verdict]], errors: Mapping[str, str], source: str, seconds: float,
) -> dict[str, Any]:
    """What was seen; passed when every client told a book for two seconds of three and every one is ours."""
    every = [verdict for by_symbol in found.values() for verdict in by_symbol.values()]
    enough = min((verdict.books for verdict in every), default=0) >= seconds * 2 / 3
    return {
        "source": source, "seconds": seconds,
        "clients": {name: {symbol: dataclasses.asdict(v) for symbol, v in by.items()} for name, by in found.items()},
        "errors": dict(errors), "passed": enough and not errors and not any(verdict.unequal for verdict in every),
    }


async def _listen(socket: Any, decoder: Decoder, heard: Mapping[str, Heard]) -> None:
    async for text in socket:
        frame = decoder.frame(text)
        if isinstance(frame, DepthFrame):
            heard[frame.symbol].diffs.append(frame)


async def _sync(rest: RestClient, symbol: str, own: Heard) -> None:
    """A snapshot that our diffs go on from."""
    while True:
        snapshot = await rest.depth(symbol, whole_when_short=False)
        book = LocalBook(symbol, rest.market.rule)
        for diff in own.diffs:
            book.on_diff(diff)
        with contextlib.suppress(StaleBook):
            book.on_snapshot(snapshot)
            if own.diffs and own.diffs[0].last_id <= snapshot.last_update_id:
                own.snapshot = snapshot
                return
        await asyncio.sleep(0.1)


async def _caught_up(own: Heard, update_id: int) -> None:
    async with asyncio.timeout(GRACE_S):
        while not own.diffs or own.diffs[-1].last_id < update_id:  # noqa: ASYNC110 - once, at the end
            await asyncio.sleep(0.05)


@dataclass(frozen=True)
class Answer:
    """What one client told, and how it failed if it did."""

    lines: list[bytes]
    error: str | None


async def _client(python: Path, name: str, url: str, symbols: Sequence[str], seconds: float) -> Answer:
    process = await asyncio.create_subprocess_exec(
        str(python), str(CLIENT), name, url, str(seconds), *symbols, limit=1 << 24, env={**os.environ, "NO_PROXY": "*"},
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE)
    try:
        async with asyncio.timeout(seconds + GRACE_S):
            out, error = await process.communicate()
    except TimeoutError:
        process.kill()
        out, error = await process.communicate()
    failed = None if process.returncode == 0 else f"exit {process.returncode}: {error.decode()[-2000:]}"
    return Answer(out.splitlines(), failed)


def _told(line: Mapping[str, Any], symbols: Mapping[str, str]) -> Told:
    sides = ([(price, quantity) for price, quantity in line[side]] for side in ("bids", "asks"))
    return Told(symbols[line["symbol"]], line["update_id"], *sides)


@contextlib.asynccontextmanager
async def _serving(config: ExchangeConfig, settings: Settings) -> AsyncIterator[str]:
    exchange = Exchange(load_market(config, settings, time.time_ns), time.time_ns)
    try:
        yield f"http://{LOOPBACK}:{await exchange.start(0)}"
    finally:
        await exchange.stop()


async def at_own_exchange(python: Path, settings: Settings, seconds: float, simulate: bool = False) -> dict[str, Any]:
    """Spot at an exchange of our own: it begins a lap, so that no seam falls into 5 minutes."""
    async with _serving(ExchangeConfig(simulate=simulate), settings) as url:
        return await compare(python, url, SYMBOLS, seconds)


async def at_own_futures(python: Path, settings: Settings, seconds: float) -> dict[str, Any]:
    """USD-M: its recording once, from our own subscription on; a spot exchange tells the library the time."""
    frames = settings.data_dir / "ws_raw_binance" / "usdm_btcusdt_20240808.gz"
    async with (
        _serving(ExchangeConfig((frames,), once=True), settings) as url,
        _serving(ExchangeConfig(simulate=True), settings) as spot,
    ):
        return await compare(python, url, USDM_SYMBOLS, seconds, spot)


def run(seconds: float, simulate: bool = False, usdm: bool = False) -> dict[str, Any]:
    """Install the clients when they are not there, and compare."""
    from infra.strangers import install

    settings = dataclasses.replace(load_settings(), symbols=SYMBOLS)
    if usdm:
        return asyncio.run(at_own_futures(install(), settings, seconds))
    return asyncio.run(at_own_exchange(install(), settings, seconds, simulate))
