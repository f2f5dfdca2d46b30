"""FRED's daily series, the second provider of the macro series, and the first of the 10-year yield; no key.

    >>> closes(b"observation_date,DGS10\\n2026-01-06,4.18\\n2026-01-07,.\\n")
    [Reading(ts_event=1767733200000000000, value=4.18)]

`GET /graph/fredgraph.csv?id=<series>&cosd=<first day>`. A day without a value is `.` or empty: a holiday, or not told
yet. FRED tells a day on the next one; the trade-weighted dollar (DTWEXBGS) a week at a time.
"""

from __future__ import annotations

from datetime import date

from feature_repo.contracts import InvalidMessage
from feature_repo.slow_series import session_close
from streaming.venues.reading import Reading, decimal

PATH = "/graph/fredgraph.csv"
OWN_DOMAINS = ("stlouisfed.org",)
DATE_NAMES = ("observation_date", "DATE")


def closes(body: bytes) -> list[Reading]:
    """Values by the close of their day's session, ascending. Raises `InvalidMessage`."""
    lines = body.decode("utf-8", "replace").splitlines()
    if not lines or lines[0].split(",")[0] not in DATE_NAMES:
        raise InvalidMessage(f"fredgraph: expected a header of {' or '.join(DATE_NAMES)}, found {body[:80]!r}")
    return sorted(reading for line in lines[1:] if line and (reading := _reading(line)) is not None)


def _reading(line: str) -> Reading | None:
    day, comma, text = line.partition(",")
    try:
        at = session_close(date.fromisoformat(day))
    except ValueError as error:
        raise InvalidMessage(f"fredgraph: expected a day, found {line!r:.80}") from error
    if not comma:
        raise InvalidMessage(f"fredgraph: expected a day and its value, found {line!r:.80}")
    return None if text in ("", ".") else Reading(at, decimal(text, "fredgraph"))
