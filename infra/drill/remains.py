"""Remains: what a run left in lake and Redis, and what it should have left.

    remains = read(settings, "BTCUSDT", first_close, last_close)
    judge(remains)                               # against the venue's own klines and a recomputation from raw
    differences(disturbed, undisturbed)          # one run beside another
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import httpx

from feature_repo.contracts import BOOK_FIELDS, SECOND_NS, Bar, FeatureRow
from feature_repo.features import DECLARED
from feature_repo.lake_layout import unflatten
from feature_repo.lake_reader import Lake
from feature_repo.settings import LOOPBACK, Settings
from feature_repo.store import FeatureStore, OnlineRow
from feature_repo.topics import base, trades_topic
from monitoring.parity import Report, check_lake, check_online, lake_rows
from streaming.recompute import Recomputation, recompute

EVER_NS = 2**63 - 1
TRADED = (
    "open", "high", "low", "close", "volume", "quote_volume", "trades", "taker_buy_volume", "first_trade_id",
    "last_trade_id",
)
"""What a bar says of its trades: the same in any run. Its book depends on which second a new book begins in."""
KLINE = ("open", "high", "low", "close", "volume", "quote_volume", "trades", "taker_buy_volume")
KLINES_AT_ONCE = 1_000
BOOKLESS = frozenset(feature.name for feature in DECLARED if feature.requires != "book")
Values = tuple[Any, ...]


@dataclass(frozen=True)
class Remains:
    """Live bars and rows between two closes, both included; all of it read, because the stack's folder goes with it."""

    symbol: str
    first: int
    last: int
    bars: tuple[Bar, ...]
    """As the lake holds them: a second that is there twice is here twice."""
    rows: tuple[FeatureRow, ...]
    klines: Mapping[int, Values]
    """Close → the venue's own second kline."""
    again: Recomputation
    online: OnlineRow | None

    @property
    def by_close(self) -> dict[int, Bar]:
        return {bar.close_time: bar for bar in self.bars}


def read(settings: Settings, symbol: str, first: int, last: int) -> Remains:
    """Read lake, Redis and the local exchange."""
    lake = Lake.open(settings.lake, settings.s3_endpoint)
    raw = lake.read_raw(base(symbol), trades_topic(symbol), 0, EVER_NS // 2).to_pylist()
    found = [unflatten("clean", record) for record in lake.read("clean", symbol, first, last).to_pylist()]
    return Remains(
        symbol, first, last,
        tuple(bar for bar in found if isinstance(bar, Bar) and bar.interval_s == 1),
        tuple(lake_rows(lake, symbol, first, last)),
        klines(settings.ports.exchange, symbol, first, last), recompute(symbol, raw),
        FeatureStore.open(settings).read(symbol),
    )


def klines(port: int, symbol: str, first: int, last: int) -> dict[int, Values]:
    """The local exchange's second klines that close in [first, last], made by it from what it sent."""
    found: dict[int, Values] = {}
    for start in range(first, last + 1, KLINES_AT_ONCE * SECOND_NS):
        answer = httpx.get(f"http://{LOOPBACK}:{port}/api/v3/klines", timeout=30, trust_env=False, params={
            "symbol": symbol, "interval": "1s", "limit": KLINES_AT_ONCE, "startTime": (start - SECOND_NS) // 10**6,
            "endTime": (min(start + (KLINES_AT_ONCE - 1) * SECOND_NS, last) - 1) // 10**6,
        })
        answer.raise_for_status()
        for opened_ms, *numbers in answer.json():
            prices = map(float, (*numbers[:5], numbers[6]))
            found[opened_ms * 10**6 + SECOND_NS] = (*prices, int(numbers[7]), float(numbers[8]))
    return found


def judge(remains: Remains) -> dict[str, Any]:
    """What is missing, doubled or wrong; nothing is when every count but the first is 0."""
    closes = range(remains.first, remains.last + 1, SECOND_NS)
    counts = Counter(bar.close_time for bar in remains.bars)
    report = Report(remains.symbol)
    expected = {at: bar for at, bar in remains.again.closes.items() if remains.first <= at <= remains.last}
    rows = dict(zip(expected, remains.again.rows(list(expected)), strict=True))
    check_lake(report, remains.rows, rows)
    online = remains.online
    check_online(report, remains.again, {online.row.ts_event if online else 0: online})
    return {
        "seconds": len(closes), "missing": sum(close not in counts for close in closes),
        "doubled": sum(count > 1 for count in counts.values()), "holes": remains.again.holes,
        "unlike_klines": sum(
            tuple(getattr(bar, name) for name in KLINE) != remains.klines.get(bar.close_time)
            for bar in remains.bars
        ),
        "rows_compared_with_raw": report.rows, "unlike_raw": report.mismatches,
        "examples": [vars(example) for example in report.examples],
        "seconds_without_book": sum(not bar.book_valid for bar in remains.bars),
    }


def clean(judged: Mapping[str, Any]) -> bool:
    """Whether a judgement found nothing."""
    faults = ("missing", "doubled", "holes", "unlike_klines", "unlike_raw")
    return bool(judged["seconds"] and judged["rows_compared_with_raw"]) and not any(judged[name] for name in faults)


def differences(ours: Remains, theirs: Remains) -> dict[str, Any]:
    """Two runs of one market beside each other, where both were there.

    Trades must agree in every second; the book and its features wherever both runs had one; other features wherever
    both are known (a run that began later knows less in its first quarter of an hour).
    """
    first, last = max(ours.first, theirs.first), min(ours.last, theirs.last)
    closes = range(first, last + 1, SECOND_NS)
    bars = [(ours.by_close.get(at), theirs.by_close.get(at)) for at in closes]
    both = [(a, b) for a, b in bars if a is not None and b is not None]
    pairs = list(_pairs(ours.rows, theirs.rows, first, last))
    return {
        "seconds": len(closes), "in_one_only": len(bars) - len(both),
        "trades_differ": sum(_values(a, TRADED) != _values(b, TRADED) for a, b in both),
        "books_compared": sum(a.book_valid and b.book_valid for a, b in both),
        "books_differ": sum(_book_differs(a, b) for a, b in both if a.book_valid and b.book_valid),
        "values_compared": len(pairs), "values_differ": sum(a != b for a, b in pairs),
    }


def equal(beside: Mapping[str, Any]) -> bool:
    """Whether `differences` compared something and found none."""
    faults = ("in_one_only", "trades_differ", "books_differ", "values_differ")
    return bool(beside["books_compared"] and beside["values_compared"]) and not any(beside[name] for name in faults)


def _pairs(
    ours: Iterable[FeatureRow], theirs: Iterable[FeatureRow], first: int, last: int,
) -> Iterable[tuple[float, float]]:
    """Features that no book is needed for, where both runs know them."""
    of = {row.ts_event: row.values for row in theirs if first <= row.ts_event <= last}
    for row in ours:
        for name in BOOKLESS if row.ts_event in of else ():
            a, b = row.values[name], of[row.ts_event][name]
            if a is not None and b is not None:
                yield a, b


def _book_differs(ours: Bar, theirs: Bar) -> bool:
    # A new book knows its first second's flow of orders only in part, and says null.
    flows = ours.order_flow_imbalance is not None and theirs.order_flow_imbalance is not None
    names = BOOK_FIELDS if flows else BOOK_FIELDS[:-1]
    return _values(ours, names) != _values(theirs, names)


def _values(bar: Bar, names: Iterable[str]) -> Values:
    return tuple(getattr(bar, name) for name in names)
