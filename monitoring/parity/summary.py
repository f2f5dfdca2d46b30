"""Summary: a certificate in a few lines of text."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def text(found: Mapping[str, Any]) -> str:
    """What `Report.as_dict` gives, for people: the counts, then a line a feature that differs, then the revisions."""
    revised = found["as_revised"]
    span = f"{found['start']} to {found['end']}" if found["start"] else "no seconds"
    places = ", ".join(f"{place} {rows}" for place, rows in found["places"].items())
    lines = [
        f"{found['symbol']}  {span}  {'certified' if found['passed'] else 'NOT CERTIFIED'}",
        (f"  as known    {found['cells']} cells of {found['rows']} rows compared, "
         f"{_share(found['known_share'])} known, {found['mismatches']} mismatches"),
        f"  places      {places or 'none'}",
        f"  as revised  {revised['rows']} rows, {revised['cells']} cells changed, {revised['mismatches']} mismatches"
        + (f"; {revised['filled_in']} rows filled in later, not judged" if revised["filled_in"] else ""),
    ]
    lines += [f"  unproven    {n} predictions: {why}" for why, n in found["unproven_predictions"].items()]
    lines += [f"  set         {name}: {n['rows']} rows and {n['predictions']} predictions judged under it"
              for name, n in found["feature_sets"].items() if len(found["feature_sets"]) > 1]
    lines += [f"  not judged  {each['count']} in {each['where']}: {each['reason']}" for each in found["not_judged"]]
    lines += [f"  UNREADABLE  {each['where']}, {each['name']} of {each['key']}: expected {each['expected']}, found "
              f"{each['found']}" for each in found["unreadable"][:10]]
    lines += [line for feature in found["features"] if feature["worst"] for line in _feature(feature)]
    lines += [
        f"  revised     {cell['feature']} {cell['second']}: {_value(cell['as_known'])} → {_value(cell['as_revised'])}, "
        f"because {cell['because']}"
        for cell in revised["revisions"][:10]
    ]
    lines += [f"  revised     {_mismatch(example)}" for example in revised["examples"]]
    return "\n".join(lines)


def _feature(feature: Mapping[str, Any]) -> list[str]:
    worst = feature["worst"]
    lines = [f"  DIFFERS     {feature['name']}: {feature['mismatches']} of {feature['compared']}; {_mismatch(worst)}"]
    if (raw := worst["raw"]) and "observations" in raw:
        newest = raw["observations"][0] if raw["observations"] else None
        last = f", the newest {newest['value']!r} of {newest['moment']}, known {newest['known']}" if newest else ""
        lines.append(f"              raw: {len(raw['observations']) + raw['observations_left_out']} observations of "
                     f"{raw['topic']} known by {raw['known_by']}{last}")
    elif raw:
        newest = raw["newest"][-1] if raw["newest"] else None
        last = f", the last second trades {_ids(newest)}" if newest else ""
        lines.append(f"              raw: {raw['seconds']} seconds, {raw['trades']} trades, offsets "
                     f"{raw['first_offset']} to {raw['last_offset']} of {raw['topic']}{last}")
    return lines


def _mismatch(found: Mapping[str, Any]) -> str:
    by = "" if found["ulp"] is None else f", {found['ulp']} ulp or {found['absolute']:.3g}"
    return f"{found['where']} at {found['second']}: expected {found['expected']}, found {found['found']}{by}"


def _ids(second: Mapping[str, Any]) -> str:
    more = " …" if second["trade_ids_left_out"] else ""
    return f"{', '.join(map(str, second['trade_ids']))}{more} and seal {second['seal'] and second['seal']['offset']}"


def _value(value: float | None) -> str:
    return "null" if value is None else repr(value)


def _share(share: float | None) -> str:
    return "none" if share is None else f"{share:.1%}"
