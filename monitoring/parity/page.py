"""Page: a certificate as one HTML file that needs nothing beside it, dark or light as its reader's machine is.

    Path("certificate.html").write_text(page([report.as_dict()], made_ns))
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from html import escape
from typing import Any

from monitoring.parity.report import time_text

_STYLE = """
:root { color-scheme: light dark; --ink: light-dark(#16181d, #e8eaee); --soft: light-dark(#5b6270, #9aa2b1);
  --line: light-dark(#dfe2e8, #2b2f38); --ground: light-dark(#fbfbfc, #101216); --panel: light-dark(#fff, #171a20);
  --good: light-dark(#0b6b3a, #5fd08f); --bad: light-dark(#b3261e, #ff8a80); }
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 72rem; padding: 2rem 1.25rem 4rem; background: var(--ground); color: var(--ink);
  font: 15px/1.5 system-ui, sans-serif; }
h1 { font-size: 1.5rem; margin: 0 0 .25rem; } h2 { font-size: 1.2rem; margin: 2.5rem 0 .5rem; }
h3 { font-size: 1rem; margin: 1.5rem 0 .5rem; }
p { margin: .25rem 0 .75rem; color: var(--soft); max-width: 65ch; }
.verdict { font-weight: 600; } .good { color: var(--good); } .bad { color: var(--bad); }
.figures { display: flex; flex-wrap: wrap; gap: .75rem; margin: 1rem 0; padding: 0; }
.figures div { background: var(--panel); border: 1px solid var(--line); border-radius: .5rem; padding: .6rem .9rem; }
dt { color: var(--soft); font-size: .8rem; } dd { margin: 0; font-size: 1.15rem; font-variant-numeric: tabular-nums; }
.scroll { overflow-x: auto; border: 1px solid var(--line); border-radius: .5rem; background: var(--panel); }
table { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums; font-size: .875rem; }
th, td { padding: .35rem .75rem; border-bottom: 1px solid var(--line); text-align: left; vertical-align: top; }
tr:last-child td { border-bottom: 0; } th { color: var(--soft); font-weight: 500; white-space: nowrap; }
.n { text-align: right; } code { font: .85em/1.4 ui-monospace, monospace; overflow-wrap: anywhere; }
"""
_ALIGNED = dict.fromkeys(
    ("rows", "compared", "with a value", "matched", "predictions", "trades", "late", "count"), ' class="n"')
"""Columns of numbers."""
Found = Mapping[str, Any]


def page(reports: Sequence[Found], made_ns: int) -> str:
    """The certificates of some symbols, as `Report.as_dict` gives them; `made_ns` is when, UTC."""
    passed = bool(reports) and all(report["passed"] for report in reports)
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1"><title>Skew certificate</title>'
        f"<style>{_STYLE}</style></head><body><main><h1>Skew certificate</h1>"
        f'<p>Made {time_text(made_ns)}. What was served beside what the raw records give, bit for bit.</p>'
        f"{_verdict(passed)}{''.join(_symbol(report) for report in reports)}</main></body></html>\n"
    )


def _symbol(found: Found) -> str:
    revised = found["as_revised"]
    figures = _figures({
        "rows": _count(found["rows"]), "cells compared": _count(found["cells"]),
        "with a value": "–" if found["known_share"] is None else f"{found['known_share']:.1%}",
        "mismatches": _count(found["mismatches"]), "cells revised since": _count(revised["cells"]),
        "revised rows that do not follow": _count(revised["mismatches"]),
    })
    span = f"{found['start']} to {found['end']}" if found["start"] else "no seconds"
    return "".join((
        f"<h2>{escape(found['symbol'])}</h2><p>Closes {escape(span)}.</p>{figures}",
        _table("Where", ("place", "rows"), ((_text(place), _number(n)) for place, n in found["places"].items())),
        _table("By feature, as known", ("feature", "view", "compared", "with a value", "matched", "worst difference"),
               (_feature(feature) for feature in sorted(found["features"], key=lambda one: -one["mismatches"]))),
        _table("What cannot be read", ("where", "key", "field", "expected", "found"),
               (tuple(_code(each[name]) for name in ("where", "key", "name", "expected", "found"))
                for each in found["unreadable"])),
        *(_raw(feature) for feature in found["features"] if feature["worst"] and feature["worst"]["raw"]),
        _examples("First mismatches", found["examples"]), _revised(revised),
        _table("Predictions that name no inputs", ("reason", "predictions"),
               ((_text(reason), _number(n)) for reason, n in found["unproven_predictions"].items())),
        _table("Judged under the feature set that it was logged with", ("feature set", "rows", "predictions"),
               ((_code(name), _number(n["rows"]), _number(n["predictions"]))
                for name, n in found["feature_sets"].items())),
        _table("Not judged", ("where", "reason", "count"),
               ((_text(each["where"]), _text(each["reason"]), _number(each["count"]))
                for each in found["not_judged"])),
    ))


def _feature(feature: Found) -> tuple[str, ...]:
    numbers = (_number(feature[name]) for name in ("compared", "known", "matched"))
    return (_code(feature["name"]), _text(feature["view"]), *numbers, _text(_difference(feature["worst"])))


def _difference(worst: Found | None) -> str:
    if worst is None:
        return "none"
    where = f"{worst['where']}, {worst['second']}"
    if worst["ulp"] is None:
        return f"{worst['expected']} → {worst['found']} at {where}"
    return f"{worst['absolute']:.3g} ({_count(worst['ulp'])} ulp) at {where}"


def _raw(feature: Found) -> str:
    raw = feature["worst"]["raw"]
    if "observations" in raw:
        return _observations(feature["name"], raw)
    late = f", {_count(raw['late_trades'])} of them late" if raw["late_trades"] else ""
    rows = (_second(second) for second in reversed(raw["newest"]))
    columns = ("second", "seal, partition:offset", "trades", "late", "offsets", "trade ids")
    return (
        f"<h3>Raw events behind <code>{escape(feature['name'])}</code></h3>"
        f"<p>{_count(raw['seconds'])} seconds after {raw['after']} "
        f"to {raw['to']}: {_count(raw['trades'])} trades{late}, {_count(raw['history_bars'])} bars of history, offsets "
        f"{raw['first_offset']} to {raw['last_offset']} of <code>{escape(raw['topic'])}</code>. The newest seconds:</p>"
        + _grid(columns, rows)
    )


def _observations(name: str, raw: Found) -> str:
    names = ("series", "instrument", "provider", "moment", "known", "value")
    left = f" and {_count(raw['observations_left_out'])} older ones" if raw["observations_left_out"] else ""
    return (
        f"<h3>Raw observations behind <code>{escape(name)}</code></h3>"
        f"<p>Of <code>{escape(raw['topic'])}</code>, describing moments from {raw['after']} to {raw['to']}, known by "
        f"{raw['known_by']}: the newest{left}.</p>"
        + _grid(names, (tuple(_code(str(each[column])) for column in names) for each in raw["observations"]))
    )


def _second(second: Found) -> tuple[str, ...]:
    seal = second["seal"]
    ids = ", ".join(map(str, second["trade_ids"]))
    more = f" and {second['trade_ids_left_out']} more" if second["trade_ids_left_out"] else ""
    return (
        _text(second["second"]), _text(f"{seal['partition']}:{seal['offset']}" if seal else "none"),
        _number(second["trades"]), _number(second["late"]),
        _text(f"{second['first_offset']}–{second['last_offset']}"), _code(ids + more),
    )


def _examples(title: str, examples: Iterable[Found]) -> str:
    names = ("where", "feature", "second", "expected", "found")
    return _table(title, names, (tuple(_code(example[name]) for name in names) for example in examples))


def _revised(revised: Found) -> str:
    names = ("second", "feature", "as_known", "as_revised", "known_from", "because")
    left = f"<p>{_count(revised['left_out'])} more cells are not written out.</p>" if revised["left_out"] else ""
    filled = f"<p>{_count(revised['filled_in'])} rows were filled in later and are not judged: no raw record tells "
    told = _table("As revised", tuple(name.replace("_", " ") for name in names),
                  (tuple(_code("null" if cell[name] is None else str(cell[name])) for name in names)
                   for cell in revised["revisions"]))
    return (told + left + (f"{filled}them.</p>" if revised["filled_in"] else "")
            + _examples("Revised rows that do not follow from the revised bars", revised["examples"]))


def _verdict(passed: bool) -> str:
    if passed:
        return '<p class="verdict good">0 mismatches: online, offline and logged inputs are what raw gives.</p>'
    return '<p class="verdict bad">Not certified: something differs, or nothing could be compared.</p>'


def _figures(found: Mapping[str, str]) -> str:
    items = "".join(f"<div><dt>{name}</dt><dd>{value}</dd></div>" for name, value in found.items())
    return f'<dl class="figures">{items}</dl>'


def _table(title: str, columns: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table under its title; nothing where it would be empty."""
    held = list(rows)
    return f"<h3>{title}</h3>{_grid(columns, held)}" if held else ""


def _grid(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    head = "".join(f'<th scope="col"{_ALIGNED.get(name, "")}>{name}</th>' for name in columns)
    body = "".join(f"<tr>{''.join(row)}</tr>" for row in rows)
    return (f'<div class="scroll" tabindex="0"><table><thead><tr>{head}</tr></thead>'
            f"<tbody>{body}</tbody></table></div>")


def _text(value: str) -> str:
    return f"<td>{escape(value)}</td>"


def _code(value: str) -> str:
    return f"<td><code>{escape(value)}</code></td>"


def _number(value: int) -> str:
    return f'<td class="n">{_count(value)}</td>'


def _count(value: int) -> str:
    return f"{value:,}"
