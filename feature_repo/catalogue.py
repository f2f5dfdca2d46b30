"""Catalogue: the declared features with two hashes each, of what is said of them and of what they compute.

    >>> [entry] = [e for e in catalogue() if e["name"] == "return_1m"]
    >>> entry["family"], len(entry["definition"]), len(entry["values"])
    ('price', 12, 12)

`definition` is of name, unit, window, requirement and formula, as `FEATURE_SET` is of all of them. `values` is of what
the code makes of one fixed market, to six digits: it changes when a formula's code does, whatever its words say. Run as
a program it prints the catalogue of the package that the path finds, which may be another revision's: nothing is
imported here that a revision may lack.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterator
from typing import Any

from feature_repo import features
from feature_repo.contracts import BOOK_FIELDS, MINUTE_NS, SECOND_NS, Bar
from feature_repo.features import FEATURE_SET, FEATURES
from feature_repo.history import BarHistory

BEGIN_NS = 19_944 * 86_400 * SECOND_NS - 10 * MINUTE_NS
MINUTES, SECONDS = 1_510, 1_140
ASKED = (300, 961, 1_020, 1_140)
RETIRED: tuple[Any, ...] = getattr(features, "RETIRED", ())
DECLARED = (*FEATURES, *RETIRED)
FLOOR = 1e-9
"""A z-score beside zero is a difference of logarithms over a small deviation: its digits are noise."""


def catalogue() -> list[dict[str, Any]]:
    """Every declaration without its code, in their order, the retired ones last."""
    values = _values()
    return [
        {"name": f.name, "family": f.family, "unit": f.unit, "window_s": f.window_s, "requires": f.requires,
         "formula": f.formula, "retired": f in RETIRED, "definition": definition(f), "values": values[f.name]}
        for f in DECLARED
    ]


def definitions() -> dict[str, str]:
    """Feature → hash of its definition: what a model's meta.json keeps of the features it was trained on."""
    return {f.name: definition(f) for f in DECLARED}


def definition(feature: Any) -> str:
    """12 hex digits of one feature's line in `FEATURE_SET`."""
    line = f"{feature.name}|{feature.unit}|{feature.window_s}|{feature.requires}|{feature.formula}"
    return hashlib.sha256(line.encode()).hexdigest()[:12]


def _values() -> dict[str, str]:
    history = BarHistory("BTCUSDT", seconds_kept=4_000, minutes_kept=4_000)
    for bar in _market():
        history.push(bar)
    rows = [history.row(BEGIN_NS + second * SECOND_NS)[0] for second in ASKED]
    return {
        f.name: hashlib.sha256("|".join(_digits(row[f.name]) for row in rows).encode()).hexdigest()[:12]
        for f in DECLARED
    }


def _digits(value: float | None) -> str:
    return "null" if value is None else f"{0.0 if abs(value) < FLOOR else value:.5e}"


def _market() -> Iterator[Bar]:
    """A day of minutes, then seconds with a book, over a midnight; decimal prices, the same on every machine."""
    for i in range(MINUTES):
        yield _bar(BEGIN_NS - (MINUTES - 1 - i) * MINUTE_NS, 60, i)
    for i in range(1, SECONDS + 1):
        yield _bar(BEGIN_NS + i * SECOND_NS, 1, MINUTES + i)


def _bar(close_ns: int, interval_s: int, i: int) -> Bar:
    before, price = (round(50_000 + 400 * math.sin(n / 90) + 30 * math.sin(1.7 * n), 2) for n in (i - 1, i))
    volume = round(1.0 + 0.9 * math.sin(2.3 * i) * math.sin(0.01 * i), 5)
    sides = {name: round(2.0 + math.sin(0.7 * i + n), 4) for n, name in enumerate(BOOK_FIELDS) if name != "book_valid"}
    book = {**sides, "book_valid": True, "bid_price": round(price - 0.5, 2), "ask_price": round(price + 0.5, 2)}
    return Bar(
        symbol="BTCUSDT", ts_event=close_ns, ts_init=close_ns, source="simulated", session="catalogue",
        interval_s=interval_s, open_time=close_ns - interval_s * SECOND_NS, close_time=close_ns,  # type: ignore[arg-type]
        open=before, high=round(max(before, price) + 1.0, 2), low=round(min(before, price) - 1.0, 2), close=price,
        volume=volume, quote_volume=round(volume * price, 6), vwap=price, trades=3,
        taker_buy_volume=round(volume * (0.5 + 0.4 * math.sin(3.1 * i)), 5), created=close_ns,
        **(book if interval_s == 1 else {}),  # type: ignore[arg-type]
    )


if __name__ == "__main__":
    print(json.dumps({"feature_set": FEATURE_SET, "features": catalogue()}))
