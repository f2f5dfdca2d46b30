"""Mirrors: the mirror keys, second forms under which an online row is written, beside the same made again from raw.

    check_mirrors(report, expected, samples.mirrors)

One script writes the row and its mirror keys, so those that are read after a row are of its second or a later one,
all of one second; they live `MIRROR_TTL_S` longer than their close, or a little more.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from feature_repo.contracts import SECOND_NS
from feature_repo.redis_layout import mirror_key
from feature_repo.views import MIRROR_TTL_S
from monitoring.parity.report import MIRROR, Report, Unreadable, time_text
from monitoring.parity.sampled import Mirrors
from streaming.recompute import Recomputation

PLACE = "mirror keys"
ROW = f"{MIRROR}.row"
MOST_SHOWN = 80
"""Characters of a key's value that are told where it is none."""
MARGIN_S = 5
"""Between the clock and the expiry of a key, before its absence is told."""


def check_mirrors(report: Report, expected: Recomputation, mirrors: Iterable[Mirrors]) -> None:
    """Each sight of the mirror keys: that they are there, of what second they are, and every value of each."""
    for seen in mirrors:
        for window, text in seen.torn.items():
            key = mirror_key(report.symbol, window)
            report.name(Unreadable(PLACE, key, "the value", "a JSON object", repr(text[:MOST_SHOWN])))
        if all(text is None for text in seen.texts.values()):
            _check_absence(report, seen)
            continue
        if not seen.close:
            report.differs(PLACE, ROW, seen.row_close, "JSON with a timestamp", repr([*seen.texts.values()]))
            continue
        if seen.close < seen.row_close:
            report.differs(PLACE, ROW, seen.row_close, f"of {time_text(seen.row_close)} or later, as the row read "
                           "before them", f"of {time_text(seen.close)}")
        if seen.close in expected.closes:
            wanted = _cells(expected.mirrors(seen.close), seen)
            found = {_name(window, name): value for window, told in seen.values.items() for name, value in told.items()}
            report.compare(PLACE, seen.close, {**dict.fromkeys(found), **wanted}, found)
        else:
            report.differs(PLACE, ROW, seen.close, "no mirror keys", "some")


def _check_absence(report: Report, seen: Mirrors) -> None:
    """A row's mirror keys outlive its close by their time to live at least."""
    if seen.row_close and seen.at_ns - seen.row_close < (MIRROR_TTL_S - MARGIN_S) * SECOND_NS:
        report.differs(PLACE, ROW, seen.row_close, "mirror keys", "none")


def _cells(values: Mapping[str, Mapping[str, float | None]], seen: Mirrors) -> dict[str, Any]:
    common = {"timestamp": seen.close // SECOND_NS, "ttl": MIRROR_TTL_S}
    return {_name(window, name): value for window, told in values.items() for name, value in {**told, **common}.items()}


def _name(window: str, name: str) -> str:
    return f"{MIRROR}.{window}.{name}"
