"""Slow series: what comes once in minutes, hours or days, who tells it, and when it counts as known.

    >>> SERIES["sp500"].lag_ns == DAY_NS, SERIES["sp500"].instruments
    (True, ('SPY', 'SP500'))

An observation describes the moment `ts_event` and is known at `created`. Live, that is when it came. Of the past only
the time it describes is on record, so it counts as known `lag_ns` later: a bound on what the provider ever took, and
what a training set may not undercut. Values of two instruments (a fund and the index that it follows) are never
compared with each other; of one moment the instrument named first counts.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, datetime, time
from functools import cache
from zoneinfo import ZoneInfo

from feature_repo.contracts import DAY_NS, HOUR_NS, MINUTE_NS, SECOND_NS, InvalidMessage, Observation

SESSION_ENDS = time(16)


@dataclass(frozen=True)
class Series:
    """One declaration: the range that is believed, the publication lag, and how old its newest value may be."""

    name: str
    unit: str
    instruments: tuple[str, ...]
    """The providers' names of it, the preferred one first; of a perpetual contract the venues' suffixes."""
    low: float
    high: float
    """Bounds, inclusive, beyond which a provider is not believed."""
    lag_ns: int
    """From the moment a value describes to when it counts as known, where nobody noted when it came."""
    every_ns: int
    """How often a poller asks."""
    stale_ns: int
    """A newest value that describes a moment longer ago is stale: a period of the series, its lag, and some grace."""

    def check(self, observation: Observation) -> None:
        """Raises `InvalidMessage` for a value that is not believed, or a name that is not the series'."""
        if observation.instrument not in self.instruments:
            raise InvalidMessage(
                f"{self.name}: expected an instrument of {', '.join(self.instruments)}; found {observation.instrument}")
        if not self.low <= observation.value <= self.high:
            raise InvalidMessage(f"{self.name}: expected {self.low:g} to {self.high:g} {self.unit}, "
                                 f"found {observation.value:g}")


def _close(name: str, instruments: tuple[str, ...], high: float = 1e6) -> Series:
    return Series(name, "price", instruments, 0.01, high, DAY_NS, HOUR_NS, 6 * DAY_NS)


# Of a session's close the next session's evening is late enough for every provider here (FRED: the next morning).
_ALL = (
    Series("funding_rate", "fraction a settlement", ("BINANCE", "BYBIT"), -0.05, 0.05,
           MINUTE_NS, 5 * MINUTE_NS, 9 * HOUR_NS),
    Series("open_interest", "base", ("BINANCE",), 0.0, 1e12, 5 * MINUTE_NS, 5 * MINUTE_NS, 20 * MINUTE_NS),
    Series("fear_greed", "index, 0 to 100", ("FNG",), 0.0, 100.0, DAY_NS, HOUR_NS, 2 * DAY_NS),
    _close("sp500", ("SPY", "SP500")),
    _close("nasdaq", ("QQQ", "NASDAQ100")),
    _close("dollar", ("UUP", "DTWEXBGS")),
    _close("gold", ("GLD",)),
    Series("vix", "points", ("VIX", "VIXCLS"), 1.0, 500.0, DAY_NS, HOUR_NS, 6 * DAY_NS),
    Series("us10y", "percent a year", ("DGS10", "TNX"), -5.0, 50.0, DAY_NS, HOUR_NS, 6 * DAY_NS),
)
SERIES: Mapping[str, Series] = {series.name: series for series in _ALL}
PERPETUAL = frozenset({"funding_rate", "open_interest"})
"""Series of perpetual contracts, `instrument` being the venue; the others are the whole market's."""
PRICES = ("sp500", "nasdaq", "dollar", "gold")
"""Macro series whose returns and betas are features."""
LEVELS = ("vix", "us10y")
"""Macro series whose level and change are."""
MACRO = (*PRICES, *LEVELS)


def session_close(day: date) -> int:
    """Close of a New York session, ns UTC: 16:00 there, half days too.

    >>> [session_close(date(2025, month, 8)) // HOUR_NS % 24 for month in (1, 7)]
    [21, 20]
    """
    return int(datetime.combine(day, SESSION_ENDS, _new_york()).timestamp()) * SECOND_NS


@cache
def _new_york() -> ZoneInfo:
    # Looked up when asked for: most who import this module need no time zone, and a bare machine may have none.
    return ZoneInfo("America/New_York")


def contract_word(symbol: str) -> str:
    """What a spot pair and its perpetual contracts have in common.

    >>> contract_word("BTCUSDT-PERP.BYBIT") == contract_word("BTCUSDT")
    True
    """
    return symbol.partition("-")[0].partition(".")[0]
