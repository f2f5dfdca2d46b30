"""Alternative.me's Crypto Fear & Greed Index, 0 (fear) to 100 (greed), one a day.

    >>> fear_greed(b'{"data":[{"value":"42","timestamp":"1767744000","time_until_update":"68499"}],'
    ...            b'"metadata":{"error":null}}')
    [Reading(ts_event=1767744000000000000, value=42.0)]

`GET /fng/?limit=<days>`. A value is stamped with the 00:00 UTC at whose turn it is made, of the day before it; it comes
some minutes later.
https://alternative.me/crypto/fear-and-greed-index/#api
"""

from __future__ import annotations

from feature_repo.contracts import SECOND_NS, InvalidMessage
from streaming.venues.reading import Reading, decimal, entry, parsed, whole

PATH = "/fng/"
OWN_DOMAINS = ("alternative.me",)


def fear_greed(body: bytes) -> list[Reading]:
    """Values, ascending. Raises `InvalidMessage`."""
    answer = parsed(body, "fng")
    if entry(answer, "metadata", dict).get("error") is not None:
        raise InvalidMessage(f"fng: expected no error, found {answer['metadata']['error']!s:.80}")
    return sorted(
        Reading(whole(entry(row, "timestamp", str), "timestamp") * SECOND_NS, decimal(row.get("value"), "value"))
        for row in entry(answer, "data", list)
    )
