"""Binance USD-M's settled funding rates and open interest over REST.

    >>> funding_rates(b'[{"symbol":"BTCUSDT","fundingTime":1767801600001,"fundingRate":"0.00002885","markPrice":"9"}]')
    [Reading(ts_event=1767801600000000000, value=2.885e-05)]

`GET /fapi/v1/fundingRate` (500 requests in 5 minutes) and `/fapi/v1/openInterest` (weight 1). A settlement is stamped
some milliseconds after its whole hour; it describes the hour.
https://developers.binance.com/docs/derivatives/usds-margined-futures/market-data/rest-api
"""

from __future__ import annotations

from typing import Any

from feature_repo.contracts import MINUTE_NS, InvalidMessage
from streaming.venues.reading import Reading, decimal, entry, parsed

MILLISECOND_NS = 1_000_000
FUNDING_PATH, OPEN_INTEREST_PATH = "/fapi/v1/fundingRate", "/fapi/v1/openInterest"


def funding_rates(body: bytes) -> list[Reading]:
    """Settled rates, ascending. Raises `InvalidMessage`."""
    rows = parsed(body, "fundingRate")
    if not isinstance(rows, list):
        raise InvalidMessage(f"fundingRate: expected a list, found {rows!s:.80}")
    return sorted(Reading(_settled(row), decimal(row.get("fundingRate"), "fundingRate")) for row in rows)


def open_interest(body: bytes) -> list[Reading]:
    """Open interest, base currency, at the time of the answer. Raises `InvalidMessage`."""
    answer = parsed(body, "openInterest")
    value = decimal(answer.get("openInterest") if isinstance(answer, dict) else None, "openInterest")
    return [Reading(entry(answer, "time", int) * MILLISECOND_NS, value)]


def _settled(row: Any) -> int:
    at = int(entry(row, "fundingTime", int)) * MILLISECOND_NS
    return at // MINUTE_NS * MINUTE_NS
