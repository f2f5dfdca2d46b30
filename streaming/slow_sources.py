"""Slow sources: who is asked for each slow series, in which order, and how the answer is read.

    asked = sources(load_settings(), ("BTCUSDT", "ETHUSDT"), local=False)
    asked[0].series, [endpoint.provider for endpoint in asked[0].endpoints]     # ('funding_rate', ['binance', 'bybit'])

With no market in reach the local exchange stands in for Binance's funding and open interest, marked as simulated; no
one stands in for the others, which are off, with the reason.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from urllib.parse import quote, urlsplit

from feature_repo.contracts import MARKET, NANOS, Source, VenueRefused
from feature_repo.settings import Settings
from feature_repo.slow_series import MACRO, SERIES, contract_word
from streaming.venues import alternative_me, binance_context, bybit, fred, yahoo
from streaming.venues.reading import Reading

LOCAL_REASON = "no market in reach: nothing stands in for it"
NOT_LIVE: tuple[Source, ...] = ("recording", "simulated")
BINANCE_DOMAINS = ("binance.com", "binance.vision")
HISTORY_DAYS = 130
"""Of daily series: what a beta over 60 sessions looks back on, and a month more."""
Parse = Callable[[bytes, int], list[Reading]]
"""(body, now in ns) → values, ascending. Raises `InvalidMessage`."""


@dataclass(frozen=True)
class Endpoint:
    """One provider of one series. The hosts are tried in order."""

    provider: str
    instrument: str
    symbol: str
    hosts: tuple[str, ...]
    path: str
    params: Callable[[int], Mapping[str, str]]
    """Of the time, ns UTC."""
    parse: Parse
    domains: tuple[str, ...]
    """Whose hosts are the provider's own: others must say what they are."""

    def source(self, host: str, headers: Mapping[str, str]) -> tuple[Source, str]:
        """Where an answer comes from, and its session. Raises `VenueRefused` for a stranger who does not say so."""
        said = headers.get("x-candlewick-source")
        if said in NOT_LIVE:
            return said, headers.get("x-candlewick-session", "")
        name = urlsplit(host).hostname or ""
        if said is None and any(name == domain or name.endswith(f".{domain}") for domain in self.domains):
            return "live", ""
        raise VenueRefused(
            f"{host}: expected a host of {', '.join(self.domains)} or the header x-candlewick-source of "
            f"{', '.join(NOT_LIVE)}, found {said!r}")


@dataclass(frozen=True)
class Asked:
    """One series of one symbol and who is asked for it, the first who answers well; none: it is off."""

    series: str
    symbol: str
    endpoints: tuple[Endpoint, ...] = field(repr=False)
    off: str = ""
    """Why nobody is asked."""

    @property
    def name(self) -> str:
        """
        >>> Asked("funding_rate", "BTCUSDT", ()).name, Asked("vix", MARKET, ()).name
        ('funding_rate BTCUSDT', 'vix')
        """
        return self.series if self.symbol == MARKET else f"{self.series} {self.symbol}"


def sources(settings: Settings, symbols: Sequence[str], *, local: bool) -> list[Asked]:
    """Everything that is asked for while these symbols are followed."""
    words = sorted({contract_word(symbol) for symbol in symbols})
    contracts = [make(settings, word, local=local) for word in words for make in (_funding, _open_interest)]
    if local:
        return [*contracts, *(Asked(name, MARKET, (), LOCAL_REASON) for name in ("fear_greed", *MACRO))]
    return [*contracts, _fear_greed(settings), *(_macro(settings, name) for name in MACRO)]


def _funding(settings: Settings, word: str, *, local: bool) -> Asked:
    binance = Endpoint(
        "binance", "BINANCE", f"{word}-PERP.BINANCE", settings.venue_usdm_rest, binance_context.FUNDING_PATH,
        lambda _now: {"symbol": word, "limit": "30"}, lambda body, _now: binance_context.funding_rates(body),
        BINANCE_DOMAINS)
    second = Endpoint(
        "bybit", "BYBIT", f"{word}-PERP.BYBIT", settings.bybit_rest, bybit.FUNDING_PATH,
        lambda _now: {"category": "linear", "symbol": word, "limit": "30"},
        lambda body, _now: bybit.funding_rates(body), bybit.OWN_DOMAINS)
    return Asked("funding_rate", word, (binance,) if local else (binance, second))


def _open_interest(settings: Settings, word: str, *, local: bool) -> Asked:  # noqa: ARG001 - as `_funding`
    return Asked("open_interest", word, (Endpoint(
        "binance", "BINANCE", f"{word}-PERP.BINANCE", settings.venue_usdm_rest, binance_context.OPEN_INTEREST_PATH,
        lambda _now: {"symbol": word}, lambda body, _now: binance_context.open_interest(body), BINANCE_DOMAINS),))


def _fear_greed(settings: Settings) -> Asked:
    return Asked("fear_greed", MARKET, (Endpoint(
        "alternative.me", "FNG", MARKET, settings.fear_greed_rest, alternative_me.PATH, lambda _now: {"limit": "10"},
        lambda body, _now: alternative_me.fear_greed(body), alternative_me.OWN_DOMAINS),))


def _macro(settings: Settings, name: str) -> Asked:
    instruments = SERIES[name].instruments
    return Asked(name, MARKET, tuple(
        _yahoo(settings, each) if each in yahoo.TICKERS else _fred(settings, each) for each in instruments))


def _yahoo(settings: Settings, instrument: str) -> Endpoint:
    return Endpoint(
        "yahoo", instrument, MARKET, settings.yahoo_rest, yahoo.PATH + quote(yahoo.TICKERS[instrument]),
        lambda _now: {"range": "6mo", "interval": "1d"}, yahoo.closes, yahoo.OWN_DOMAINS)


def _fred(settings: Settings, instrument: str) -> Endpoint:
    def since(now_ns: int) -> Mapping[str, str]:
        first = datetime.fromtimestamp(now_ns // NANOS, UTC) - timedelta(days=HISTORY_DAYS)
        return {"id": instrument, "cosd": f"{first:%Y-%m-%d}"}

    return Endpoint(
        "fred", instrument, MARKET, settings.fred_rest, fred.PATH, since,
        lambda body, _now: fred.closes(body), fred.OWN_DOMAINS)
