"""Binance over REST, spot or USD-M: several hosts, its weights kept, its 429, 418 and 451 obeyed.

    rest = RestClient(("https://api.binance.com", "https://data-api.binance.vision"), httpx.AsyncClient(), time.time_ns)
    book = await rest.depth("BTCUSDT")

A host that fails or answers 451 is left for the next one. 429 and 418 hold for the address, so for every host: until
Retry-After has passed nothing is asked. Who answers (`Identity`) is told by the local exchange in its headers; without
them only the venue's own hosts count as live.
https://developers.binance.com/docs/binance-spot-api-docs/rest-api/limits
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, get_args
from urllib.parse import urlsplit

import httpx
import structlog

from feature_repo.contracts import MINUTE_NS, SECOND_NS, Source, StaleBook, VenueRefused
from streaming.clock import ClockSample
from streaming.venues.binance import (
    MILLISECOND_NS,
    Instrument,
    Snapshot,
    TradeFrame,
    instruments,
    rest_aggregate,
    rest_trade,
    snapshot,
)
from streaming.venues.market import SPOT, Market

log = structlog.get_logger()

OWN_DOMAINS = ("binance.com", "binance.vision", "binance.us")
PAGE = 1_000
MOST_PAGES = 30
"""Pages of trades asked for in one go: more than a minute of the busiest symbol ever had."""
TRADES_WEIGHT = 25
LONGEST_WAIT_S = 60.0
Kline = Sequence[Any]


@dataclass(frozen=True)
class Identity:
    """Where data come from. `speed`: venue seconds in a wall second; 0: as fast as we can take them."""

    source: Source
    session: str
    speed: float = 1.0

    @property
    def series(self) -> tuple[str, str]:
        """Within one series trade ids go on: the venue's are one, a recording's loops are one."""
        return self.source, "" if self.source == "live" else self.session.rpartition("-loop")[0] or self.session


@dataclass(frozen=True)
class TradesPage:
    """Trades by ascending id; ids that the venue no longer has are left out. `is_last`: it tells none after them."""

    frames: list[TradeFrame]
    is_last: bool


@dataclass(frozen=True)
class Answer:
    """A good answer: its body, headers (lower case) and host."""

    body: Any
    headers: Mapping[str, str]
    host: str


def identity(url: str, headers: Mapping[str, str], connected_at: str) -> Identity:
    """Who answered. Raises `VenueRefused` for a host that is neither the venue's own nor says what it is.

    >>> identity("wss://stream.binance.com:9443", {}, "2026-11-21T04:00:00Z").source
    'live'
    """
    said = {name.lower(): value for name, value in headers.items()}
    source = said.get("x-candlewick-source")
    if source in ("recording", "simulated"):
        return Identity(
            "recording" if source == "recording" else "simulated", said.get("x-candlewick-session", connected_at),
            _speed(said.get("x-candlewick-speed", "1")),
        )
    host = urlsplit(url).hostname or ""
    if source is None and any(host == domain or host.endswith("." + domain) for domain in OWN_DOMAINS):
        return Identity("live", connected_at)
    raise VenueRefused(
        f"{url}: expected the venue's own host or the header x-candlewick-source of {', '.join(get_args(Source)[1:])}, "
        f"found {source!r}"
    )


class RestClient:
    """One venue's REST. Time and sleep are injected; not for use from several event loops."""

    def __init__(
        self, hosts: Sequence[str], http: httpx.AsyncClient, wall: Callable[[], int],
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep, market: Market = SPOT,
    ) -> None:
        self.market = market
        self._hosts = list(hosts)
        self._http = http
        self._wall = wall
        self._sleep = sleep
        self._blocked_until = 0
        self._minute = self._used = 0

    async def get(self, path: str, weight: int, share: float = 1.0, **params: Any) -> Answer:
        """One answer of the first host that gives one. Raises `VenueRefused` when none does.

        `share` of the weight budget is what may be used when this is asked: who asks much leaves room for others.
        """
        failures = []
        for host in tuple(self._hosts):
            await self._wait_for_weight(weight, share)
            try:
                response = await self._http.get(f"{host}{self.market.rest}/{path}", params=params)
            except httpx.HTTPError as error:
                failures.append(f"{host}: {type(error).__name__}")
                continue
            self._read_weight(response)
            if response.status_code == httpx.codes.OK:
                try:
                    answer = Answer(response.json(), response.headers, host)
                except ValueError:  # a proxy or a sign-in page answers in the host's place
                    failures.append(f"{host}: expected JSON, found {response.text[:100]!r}")
                    continue
                self._prefer(host)
                return answer
            failures.append(f"{host}: {response.status_code} {response.text[:200]}")
            self._refuse_if_final(response, failures[-1])
        raise VenueRefused(f"{path}: {'; '.join(failures)}")

    async def time(self) -> tuple[ClockSample, Answer]:
        """The venue's clock, and the answer that says who it is."""
        sent = self._wall()
        answer = await self.get("time", 1)
        try:
            venue_ms = int(answer.body["serverTime"])
        except (KeyError, TypeError, ValueError) as error:
            raise VenueRefused(f"{answer.host}: expected serverTime, found {str(answer.body)[:100]}") from error
        return ClockSample(sent, self._wall(), venue_ms * MILLISECOND_NS), answer

    async def instruments(self, symbol: str | None = None) -> list[Instrument]:
        """The venue's list, or one of it. Raises `VenueRefused` for a symbol that it does not know."""
        market = self.market
        asked: dict[str, Any] = {"symbol": market.word(symbol)} if symbol is not None and market.lists_one else {}
        return instruments((await self.get("exchangeInfo", 20, **asked)).body, market.canonical)

    async def depth(self, symbol: str, whole_when_short: bool = True, session: str | None = None) -> Snapshot:
        """The book as deep as the venue tells it; a shorter answer is its whole book (a recording's is not).

        Raises `StaleBook` for the book of another session than a connection's: at a seam REST may be a loop ahead.
        """
        limit = self.market.depth_limit
        answer = await self.get("depth", self.market.depth_weight, symbol=self.market.word(symbol), limit=limit)
        found = answer.headers.get("x-candlewick-session", session)
        if session is not None and found != session:
            raise StaleBook(f"{answer.host}: expected the book of {session}, found that of {found}")
        return snapshot(answer.body, limit if whole_when_short else None)

    async def klines(self, symbol: str, interval: str, start_ns: int, end_ns: int) -> list[Kline]:
        """Klines that open in [start_ns, end_ns), ascending, in the venue's own form."""
        rows: list[Kline] = []
        start, last = -(-start_ns // MILLISECOND_NS), (end_ns - 1) // MILLISECOND_NS
        while start <= last:
            answer = await self.get(
                "klines", 2, symbol=self.market.word(symbol), interval=interval, startTime=start, endTime=last,
                limit=PAGE,
            )
            rows += answer.body
            if len(answer.body) < PAGE:
                break
            start = int(answer.body[-1][0]) + 1
        return rows

    async def trades(self, symbol: str, first: int, last: int | None, since_ns: int) -> list[TradeFrame]:
        """Trades of ids `first`…`last` (None: to the newest), as many as the venue tells one by one in 30 pages."""
        frames: list[TradeFrame] = []
        for _ in range(MOST_PAGES):
            page = await self.trades_page(symbol, first, last, since_ns)
            frames += page.frames
            if page.is_last:
                break
            first = page.frames[-1].trade_id + 1
        return frames

    async def trades_page(
        self, symbol: str, first: int, last: int | None, since_ns: int | None, share: float = 1.0,
    ) -> TradesPage:
        """The first of the trades of ids `first`…`last` (None: to the newest).

        `since_ns`: a time not after the first of them, for the way by recent trades and aggregates where the venue
        refuses to tell trades by id; None: not by that way.
        """
        try:
            answer = await self.get(
                "historicalTrades", TRADES_WEIGHT, share, symbol=self.market.word(symbol), fromId=first, limit=PAGE)
        except VenueRefused as refused:
            if since_ns is None:
                raise
            log.warning("historical_trades_refused", symbol=symbol, reason=str(refused))
            return TradesPage(_within(await self._recent(symbol, first, since_ns), first, last), is_last=True)
        page = [rest_trade(symbol, row) for row in answer.body]
        frames = _within(page, first, last)
        return TradesPage(frames, is_last=len(page) < PAGE or not frames or frames[-1].trade_id == last)

    async def newest_trade_id(self, symbol: str) -> int:
        """The id of the last trade there was. Raises `VenueRefused` for a symbol that never had one."""
        answer = await self.get("trades", TRADES_WEIGHT, symbol=self.market.word(symbol), limit=1)
        if not answer.body:
            raise VenueRefused(f"{answer.host}: expected a trade of {symbol}, found none")
        return rest_trade(symbol, answer.body[-1]).trade_id

    async def _recent(self, symbol: str, first: int, since_ns: int) -> list[TradeFrame]:
        """The newest thousand trades, and before them down to `first` those that stand alone in their aggregate."""
        recent = await self.get("trades", TRADES_WEIGHT, symbol=self.market.word(symbol), limit=PAGE)
        frames = [rest_trade(symbol, row) for row in recent.body]
        if frames and frames[0].trade_id > first:
            frames = await self._aggregates(symbol, frames[0].trade_id - 1, since_ns) + frames
        return frames

    async def _aggregates(self, symbol: str, last: int, since_ns: int) -> list[TradeFrame]:
        """Trades up to id `last` that stand alone in their aggregate: only those can be told exactly."""
        frames: list[TradeFrame] = []
        where: dict[str, int] = {"startTime": since_ns // MILLISECOND_NS}
        for _ in range(MOST_PAGES):
            answer = await self.get("aggTrades", 4, symbol=self.market.word(symbol), limit=PAGE, **where)
            frames += [frame for row in answer.body if (frame := rest_aggregate(symbol, row)) is not None]
            if len(answer.body) < PAGE or answer.body[-1]["l"] >= last:
                break
            where = {"fromId": int(answer.body[-1]["a"]) + 1}
        return [frame for frame in frames if frame.trade_id <= last]

    async def _wait_for_weight(self, weight: int, share: float) -> None:
        while True:
            await self._wait_until(self._blocked_until, "blocked by the venue")
            minute = self._wall() // MINUTE_NS
            if minute != self._minute:
                self._minute, self._used = minute, 0
            # Others may have waited for the same minute, and used it: judge anew after each wait.
            if self._used + weight <= max(weight, share * self.market.weight_budget):
                self._used += weight
                return
            await self._wait_until((minute + 1) * MINUTE_NS, "request weight used up")

    async def _wait_until(self, until: int, why: str) -> None:
        seconds = (until - self._wall()) / SECOND_NS
        if seconds > LONGEST_WAIT_S:
            raise VenueRefused(f"{why} for {seconds:.0f} s more")
        if seconds > 0:
            log.warning("rest_waits", reason=why, seconds=round(seconds, 1))
            await self._sleep(seconds)

    def _read_weight(self, response: httpx.Response) -> None:
        used = response.headers.get("x-mbx-used-weight-1m", "")
        if used.isdigit():
            self._used = max(self._used, int(used))

    def _refuse_if_final(self, response: httpx.Response, failure: str) -> None:
        """Raises `VenueRefused` where another host would say the same or must not be asked."""
        if response.status_code in (418, 429):
            wait = response.headers.get("retry-after", "")
            self._blocked_until = self._wall() + (int(wait) if wait.isdigit() else 60) * SECOND_NS
            raise VenueRefused(failure)
        if 400 <= response.status_code < 500 and response.status_code not in (403, 451):
            raise VenueRefused(failure)

    def _prefer(self, host: str) -> None:
        if self._hosts[0] != host:
            self._hosts.remove(host)
            self._hosts.insert(0, host)


def _within(frames: Iterable[TradeFrame], first: int, last: int | None) -> list[TradeFrame]:
    return [frame for frame in frames if frame.trade_id >= first and (last is None or frame.trade_id <= last)]


def _speed(text: str) -> float:
    try:
        speed = float(text)
    except ValueError:
        speed = -1.0
    if not 0 <= speed < 1e6:
        raise VenueRefused(f"x-candlewick-speed: expected a number of 0 or more, found {text!r}")
    return speed
