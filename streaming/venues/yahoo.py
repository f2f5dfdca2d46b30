"""Yahoo Finance's daily closes, the first provider of the macro series.

    >>> body = (b'{"chart":{"result":[{"meta":{"gmtoffset":-18000},"timestamp":[1767796200],'
    ...         b'"indicators":{"quote":[{"close":[689.58]}]}}],"error":null}}')
    >>> closes(body, now_ns=1_767_823_300_000_000_000)
    [Reading(ts_event=1767819600000000000, value=689.58)]

`GET /v8/finance/chart/<ticker>` has no documentation and answers 429 as a matter of routine. A bar is stamped with its
session's opening; the running session's is no close yet, and is left out. Closes are not adjusted for dividends.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from feature_repo.contracts import InvalidMessage
from feature_repo.slow_series import session_close
from streaming.venues.reading import Reading, entry, parsed

PATH = "/v8/finance/chart/"
OWN_DOMAINS = ("yahoo.com",)
TICKERS = {
    "SPY": "SPY", "QQQ": "QQQ", "UUP": "UUP", "GLD": "GLD", "VIX": "^VIX", "TNX": "^TNX",
}
"""Our name of an instrument → Yahoo's."""


def closes(body: bytes, now_ns: int) -> list[Reading]:
    """Closes of the sessions that have ended by `now_ns`, ascending. Raises `InvalidMessage`."""
    chart = entry(parsed(body, "chart"), "chart", dict)
    if chart.get("error") is not None:
        raise InvalidMessage(f"chart: expected no error, found {chart['error']!s:.120}")
    results = entry(chart, "result", list)
    if len(results) != 1:
        raise InvalidMessage(f"chart: expected one result, found {len(results)}")
    [result] = results
    offset_s = entry(entry(result, "meta", dict), "gmtoffset", int)
    times = entry(result, "timestamp", list)
    [quote, *_] = entry(entry(result, "indicators", dict), "quote", list) or [None]
    values = entry(quote, "close", list)
    if len(times) != len(values):
        raise InvalidMessage(f"chart: expected a close for each of {len(times)} times, found {len(values)}")
    found = [_reading(at, value, offset_s) for at, value in zip(times, values, strict=True) if value is not None]
    return sorted(reading for reading in found if reading.ts_event <= now_ns)


def _reading(at_s: Any, value: Any, offset_s: int) -> Reading:
    if type(at_s) is not int or type(value) not in (int, float):
        raise InvalidMessage(f"chart: expected a time and a close, found {at_s!r:.40} and {value!r:.40}")
    day = datetime.fromtimestamp(at_s + offset_s, UTC).date()
    return Reading(session_close(day), float(value))
