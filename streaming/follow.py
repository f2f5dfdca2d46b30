"""Follow: add instruments to those that the running stack follows, and remove them; nothing is started anew.

    candlewick symbols add SOLUSDT
    candlewick symbols remove SOLUSDT

An instrument is added when the venue's own list says that it is traded. Its topics are made first, then everybody is
told (`feature_repo.symbols`): ingest subscribes and brings its history, the service, the publisher and the monitor
follow. Of a removed one the streams end; what was written stays as long as its topics and the lake keep it.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import httpx

from feature_repo import topics
from feature_repo.contracts import FollowedSymbol, VenueRefused
from feature_repo.settings import LOOPBACK, Settings
from feature_repo.symbols import announce, read_followed
from streaming.venue_link import MOST_SYMBOLS
from streaming.venues.binance import Instrument
from streaming.venues.binance_rest import RestClient
from streaming.venues.market import Market, one_market

TRADING = "TRADING"


async def listed(settings: Settings, with_venue: bool = False) -> dict[str, Any]:
    """What is followed; `with_venue`: and what could be, by the venue's list."""
    found: dict[str, Any] = {"followed": list(read_followed(settings.kafka, settings.symbols))}
    if with_venue:
        found["venue"] = sorted(i.symbol for i in await _venue_list(settings) if i.status == TRADING)
    return found


async def add(settings: Settings, symbol: str, now_ns: Callable[[], int] = time.time_ns) -> dict[str, Any]:
    """Follow an instrument. Raises `ValueError` for one that the venue does not trade or that is one too many."""
    _market(settings, symbol)
    before = read_followed(settings.kafka, settings.symbols)
    if symbol in before:
        return _result(symbol, before, is_changed=False)
    if len(before) >= MOST_SYMBOLS:
        raise ValueError(f"symbols: expected at most {MOST_SYMBOLS}, the streams of one connection; remove one first")
    await _check_traded(settings, symbol)
    made = topics.create_topics(settings.kafka, topics.topics((symbol,)))
    announce(settings.kafka, FollowedSymbol(symbol=symbol, ts_init=now_ns(), followed=True))
    created = sorted(name for name, what in made.items() if what == "created")
    return _result(symbol, (*before, symbol), is_changed=True) | {"topics_created": created}


def remove(settings: Settings, symbol: str, now_ns: Callable[[], int] = time.time_ns) -> dict[str, Any]:
    """Follow an instrument no longer. Raises `ValueError` for the last one and for one that is not followed."""
    before = read_followed(settings.kafka, settings.symbols)
    if symbol not in before:
        raise ValueError(f"symbols: expected one of the followed {', '.join(before)}; found {symbol[:40]!r}")
    if len(before) == 1:
        raise ValueError(f"symbols: {symbol} is the last one followed; add another first")
    announce(settings.kafka, FollowedSymbol(symbol=symbol, ts_init=now_ns(), followed=False))
    return _result(symbol, tuple(name for name in before if name != symbol), is_changed=True)


def _result(symbol: str, after: tuple[str, ...], is_changed: bool) -> dict[str, Any]:
    return {"symbol": symbol, "changed": is_changed, "followed": list(after)}


async def _check_traded(settings: Settings, symbol: str) -> None:
    try:
        found = await _venue_list(settings, symbol)
    except VenueRefused as refused:
        if "Invalid symbol" not in str(refused):
            raise
        found = []
    status = next((instrument.status for instrument in found if instrument.symbol == symbol), "no such instrument")
    if status != TRADING:
        raise ValueError(
            f"symbols: expected an instrument that the venue trades, found {symbol} ({status}); "
            "`candlewick symbols list --venue` names them")


async def _venue_list(settings: Settings, symbol: str | None = None) -> list[Instrument]:
    market = _market(settings, symbol)
    _, hosts = market.hosts(settings)
    trust_env = not any(LOOPBACK in host for host in hosts)
    async with httpx.AsyncClient(timeout=httpx.Timeout(10.0), trust_env=trust_env) as http:
        return await RestClient(hosts, http, time.time_ns, market=market).instruments(symbol)


def _market(settings: Settings, symbol: str | None) -> Market:
    """The settings' market. Raises `ValueError` for a symbol of another one, or that is none."""
    market = one_market((*settings.symbols, *([symbol] if symbol else [])))
    if symbol:
        market.word(symbol)
    return market
