"""Quality report: the lake's newest feature rows against what `FEATURES` expects of them, by symbol.

    report(lake, "BTCUSDT", hours=24)["missed"]      # feature → the expectations that its rows do not meet
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import Any, cast

from feature_repo.contracts import DAY_NS, HOUR_NS, SECOND_NS
from feature_repo.features import DECLARED, FEATURE_SET
from feature_repo.lake_layout import Zone
from feature_repo.lake_reader import Lake
from feature_repo.quality import examine, examine_slow, out_of_order
from feature_repo.slow_features import SLOW_VIEWS, SlowView

TIME = "time"
SLOW_DAYS = 30


def report(lake: Lake, symbol: str, hours: int) -> dict[str, Any]:
    """What was found of a symbol's rows of the last hours before its newest row; `rows` is 0 where it has none."""
    newest = lake.newest("features", symbol)
    if newest is None:
        return {"symbol": symbol, "rows": 0, "passed": False, "missed": {}, "features": {}}
    rows = lake.read("features", symbol, newest - hours * HOUR_NS + 1, newest)
    found, disordered = examine(rows), out_of_order(rows)
    features = {f.name: found[f.name].as_dict(f) for f in DECLARED}
    slow = {view.name: slow_report(lake, symbol, view) for view in SLOW_VIEWS}
    missed = {name: column["missed"] for name, column in features.items() if column["missed"]}
    return {
        "symbol": symbol, "rows": rows.num_rows, "newest": datetime.fromtimestamp(newest // SECOND_NS, UTC).isoformat(),
        "hours": hours, "feature_set": FEATURE_SET, "out_of_order": disordered,
        "passed": not missed and not disordered and not any(view["missed"] for view in slow.values()),
        "missed": missed | ({TIME: ["order"]} if disordered else {}), "features": features, "slow": slow,
    }


def slow_report(lake: Lake, symbol: str, view: SlowView) -> dict[str, Any]:
    """What was found of a slow view's rows of the month before its newest; `rows` is 0 where there is none."""
    zone = cast(Zone, view.name)
    newest = lake.newest(zone, symbol)
    if newest is None:
        return {"rows": 0, "missed": {}, "features": {}}
    rows = lake.read(zone, symbol, newest - SLOW_DAYS * DAY_NS + 1, newest)
    found = examine_slow(rows, view)
    features = {f.name: found[f.name].as_dict(f) for f in view.features}
    return {
        "rows": rows.num_rows, "newest": datetime.fromtimestamp(newest // SECOND_NS, UTC).isoformat(),
        "missed": {name: column["missed"] for name, column in features.items() if column["missed"]},
        "features": features,
    }


def text(found: Iterable[dict[str, Any]]) -> str:
    """Reports for people: one line a feature."""
    lines = []
    for each in found:
        lines.append(f"{each['symbol']}: {each['rows']} rows, {each.get('out_of_order', 0)} out of order")
        lines += _lines(each["features"])
        for view, slow in each.get("slow", {}).items():
            lines.append(f"{each['symbol']} {view}: {slow['rows']} rows")
            lines += _lines(slow["features"])
    return "\n".join(lines)


def _lines(features: Mapping[str, Any]) -> list[str]:
    return [
        f"  {name:<28} {_number(c['low']):>12} … {_number(c['high']):<12} null {c['null_share']:.2%}"
        f" excused {c['excused']}  {' '.join(c['missed']) or 'ok'}"
        for name, c in features.items()
    ]


def _number(value: float | None) -> str:
    return "null" if value is None else f"{value:.4g}"
