"""Bybit's settled funding rates over REST (v5, linear contracts): the second source of funding.

    >>> funding_rates(b'{"retCode":0,"retMsg":"OK","result":{"category":"linear","list":[{"symbol":"BTCUSDT",'
    ...               b'"fundingRate":"0.0001","fundingRateTimestamp":"1767801600000"}]}}')
    [Reading(ts_event=1767801600000000000, value=0.0001)]

An error comes with status 200 and its own `retCode`.
https://bybit-exchange.github.io/docs/v5/market/history-fund-rate
"""

from __future__ import annotations

from feature_repo.contracts import MINUTE_NS, InvalidMessage
from streaming.venues.reading import Reading, decimal, entry, parsed, whole

MILLISECOND_NS = 1_000_000
FUNDING_PATH = "/v5/market/funding/history"
OWN_DOMAINS = ("bybit.com", "bytick.com")


def funding_rates(body: bytes) -> list[Reading]:
    """Settled rates, ascending. Raises `InvalidMessage`, also for an answer that is an error."""
    answer = parsed(body, "funding/history")
    if (code := entry(answer, "retCode", int)) != 0:
        raise InvalidMessage(f"funding/history: expected retCode 0, found {code} {answer.get('retMsg')!s:.80}")
    rows = entry(entry(answer, "result", dict), "list", list)
    return sorted(
        Reading(whole(entry(row, "fundingRateTimestamp", str), "fundingRateTimestamp") * MILLISECOND_NS
                // MINUTE_NS * MINUTE_NS, decimal(row.get("fundingRate"), "fundingRate"))
        for row in rows
    )
