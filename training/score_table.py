"""Score table: every score of a model and its baselines as tables, from what `candlewick evaluate` answers.

    score_tables({"volatility": {"15": {"qlike": 0.28, "interval": {"qlike": {"low": 0.26, "high": 0.30}}}}})

A score is a number with its ends under the `"interval"` of its block, or {"value", "low", "high"}. A baseline's stands
under `report["baselines"][name]`, laid out as the report itself, and the paired differences under its
`"model_minus_it"`. What is missing is a dash.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from html import escape
from typing import Any

from feature_repo.contracts import DAY_NS

Found = Mapping[str, Any]
MODEL = "model"
NAMES = {"har": "HAR", "ewma": "EWMA", "lstm": "LSTM"}
"""How forecasters are called; the rest by their names with spaces."""


@dataclass(frozen=True)
class Column:
    """One score: where it stands in a report, how it is shown, and which way is better."""

    title: str
    path: tuple[str, ...]
    percent: bool = False
    best: int = 0
    """+1 more is better, −1 less is better, 0 not compared."""


TABLES: Mapping[str, tuple[Column, ...]] = {
    "Volatility": (
        *(Column(f"QLIKE {h} min", ("volatility", h, "qlike"), best=-1) for h in ("5", "15", "60")),
        *(Column(f"R² of logs {h} min", ("volatility", h, "r2_log"), best=1) for h in ("5", "15", "60")),
    ),
    "Spikes": (
        *(Column(f"AUC {h} min", ("spike", h, "auc"), best=1) for h in ("5", "15", "60")),
        *(Column(f"Brier skill {h} min", ("spike", h, "brier_skill"), best=1) for h in ("5", "15", "60")),
        *(Column(f"ECE {h} min", ("spike", h, "ece")) for h in ("5", "15", "60")),
    ),
    "Risk": (
        Column("AUC", ("risk", "auc"), best=1), Column("Brier skill", ("risk", "brier_skill"), best=1),
        Column("ECE", ("risk", "ece")), Column("reliability slope", ("risk", "reliability_slope")),
        Column("precision above 0.7", ("risk", "precision"), percent=True),
        Column("recall", ("risk", "recall"), percent=True),
    ),
    "Flat minutes": (
        Column("AUC", ("flat", "auc"), best=1), Column("Brier skill", ("flat", "brier_skill"), best=1),
        Column("ECE", ("flat", "ece")),
    ),
    "Direction, one minute": (
        Column("right", ("direction", "accuracy"), percent=True, best=1), Column("AUC", ("direction", "auc"), best=1),
        Column("Brier skill", ("direction", "brier_skill"), best=1), Column("ECE", ("direction", "ece")),
    ),
    "80 % intervals": (
        *(Column(f"covers, {h} min", ("intervals", h, "coverage"), percent=True) for h in ("5", "15", "60")),
        Column("volatility band covers, 15 min", ("intervals", "band_15", "coverage"), percent=True),
    ),
    "Interval score, bps": (
        *(Column(f"{h} min", ("intervals", h, "interval_score_bps"), best=-1) for h in ("5", "15", "60")),
        *(Column(f"the last hour’s RV × constant, {h} min", ("intervals", h, "interval_score_rv60_bps"))
          for h in ("5", "15", "60")),
    ),
}
PAIRED: Mapping[str, tuple[str, float]] = {
    **{f"QLIKE ratio {h} min": (f"qlike_ratio_{h}", -1.0) for h in ("5", "15", "60")},
    "AUC of direction": ("auc_up", 1.0), "AUC of spike 15 min": ("auc_spike_15", 1.0), "AUC of risk": ("auc_risk", 1.0),
}
"""Title → name of a paired difference, and the sign of what favours the model."""


def score_tables(report: Found) -> list[str]:
    """A titled table for every group of which the report has a score."""
    names = [MODEL, *baselines(report)]
    found = [table for title, columns in TABLES.items() if (table := _table(report, title, columns, names))]
    return [*found, *([paired] if (paired := _paired(report)) else [])]


def baselines(report: Found) -> list[str]:
    """Names of every baseline that a report speaks of, in its order."""
    return list(report.get("baselines", {}))


def score(report: Found, name: str, path: tuple[str, ...]) -> Any:
    """A forecaster's score with its interval where it has one, or None."""
    own = report if name == MODEL else report.get("baselines", {}).get(name, {})
    found, ends = _under(own, path), _under(own, (*path[:-1], "interval", path[-1]))
    return {**ends, "value": found} if isinstance(ends, Mapping) and not isinstance(found, Mapping) else found


def _paired(report: Found) -> str:
    """The model against each baseline: a ratio below 1 and a difference above 0 favour it, in colour where certain."""
    found = {name: _under(report, ("baselines", name, "model_minus_it")) or {} for name in baselines(report)}
    held = {title: key for title, key in PAIRED.items() if any(each.get(key[0]) for each in found.values())}
    rows = [(escape(called(name)), *(_difference(each.get(key), sign) for key, sign in held.values()))
            for name, each in found.items() if any(each.get(key) for key, _ in held.values())]
    return grid(("Model against it, paired by day", *held), rows) if rows else ""


def _difference(found: Found | None, sign: float) -> str:
    center = value(found)
    if found is None or center is None:
        return "–"
    low, high = found["low"], found["high"]
    if low is None or high is None:
        return number(center)
    better, worse = (high < 1, low > 1) if sign < 0 else (low > 0, high < 0)
    tone = "good" if better else "bad" if worse else ""
    return f'<span class="{tone}">{number(center)}</span>{_ends(found, percent=False)}'


def _under(found: Any, path: Iterable[str]) -> Any:
    for word in path:
        if not isinstance(found, Mapping) or word not in found:
            return None
        found = found[word]
    return found


def _table(report: Found, title: str, columns: Sequence[Column], names: Sequence[str]) -> str:
    held = [column for column in columns if value(score(report, MODEL, column.path)) is not None]
    if not held:
        return ""
    told = {name: [score(report, name, column.path) for column in held] for name in names}
    shown = {name: row for name, row in told.items() if any(value(each) is not None for each in row)}
    leaders = [_best(column, [value(row[i]) for row in shown.values()]) for i, column in enumerate(held)]
    rows = "".join(_line(name, row, held, leaders) for name, row in shown.items())
    head = "".join(f'<th scope="col">{column.title}</th>' for column in held)
    return (f'<div class="scroll" tabindex="0" role="region" aria-label="{title}"><table><thead><tr>'
            f'<th scope="col">{title}</th>{head}</tr></thead><tbody>{rows}</tbody></table></div>')


def _line(name: str, row: Sequence[Any], columns: Sequence[Column], leaders: Sequence[float | None]) -> str:
    cells = "".join(map(_cell, row, columns, leaders))
    own = ' class="own"' if name == MODEL else ""
    return f'<tr{own}><th scope="row">{escape(called(name))}</th>{cells}</tr>'


def called(name: str) -> str:
    """A forecaster's name as people say it."""
    return NAMES.get(name, name.replace("_", " "))


def _best(column: Column, values: Sequence[float | None]) -> float | None:
    known = [each for each in values if each is not None]
    if not column.best or len(set(known)) < 2:
        return None
    return max(known, key=lambda each: column.best * each)


def _cell(found: Any, column: Column, leader: float | None) -> str:
    center = value(found)
    if center is None:
        return "<td>–</td>"
    text = f"{center:.1%}" if column.percent else number(center)
    text = f"<b>{text}</b>" if leader is not None and center == leader else text
    ends = "" if not isinstance(found, Mapping) else _ends(found, column.percent)
    return f"<td>{text}{ends}</td>"


def _ends(found: Found, percent: bool) -> str:
    low, high = found.get("low"), found.get("high")
    if low is None or high is None:
        return ""
    return f"<small>[{low:.1%}, {high:.1%}]</small>" if percent else f"<small>{span(low, high)}</small>"


def value(found: Any) -> float | None:
    """The number of a score, None where it is unknown."""
    center = found.get("value") if isinstance(found, Mapping) else found
    return float(center) if isinstance(center, (int, float)) and math.isfinite(center) else None


def number(found: float) -> str:
    """Three or four digits, with a true minus.

    >>> number(0.28249), number(-1.5), number(float("nan"))
    ('0.2825', '−1.500', '–')
    """
    if not math.isfinite(found):
        return "–"
    return f"{found:.{4 if abs(found) < 1 else 3}f}".replace("-", "−")


def span(low: float, high: float) -> str:
    """An interval in brackets; nothing where it is unknown."""
    if not (math.isfinite(low) and math.isfinite(high)):
        return ""
    return f"[{low:.3f}, {high:.3f}]".replace("-", "−")


def grid(columns: Sequence[str], rows: Iterable[Sequence[str]], own: str = "") -> str:
    """A plain table whose first column names the row; the row named `own` stands out."""
    head = "".join(f'<th scope="col">{name}</th>' for name in columns)
    body = "".join(
        f'<tr{mark}><th scope="row">{row[0]}</th>{"".join(f"<td>{cell}</td>" for cell in row[1:])}</tr>'
        for row in rows for mark in [' class="own"' if own and row[0] == own else ""]
    )
    return (f'<div class="scroll" tabindex="0"><table><thead><tr>{head}</tr></thead>'
            f"<tbody>{body}</tbody></table></div>")


def day_text(day: int) -> str:
    """A UTC day number as a date.

    >>> day_text(20_240)
    '2025-06-01'
    """
    return datetime.fromtimestamp(day * DAY_NS / 1e9, UTC).strftime("%Y-%m-%d")
