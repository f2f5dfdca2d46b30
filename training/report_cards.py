"""Report cards: each part of the report page, from the scores and the decisions behind them, as HTML.

Every function answers one section, or nothing where there is nothing to show. Names of forecasters and rules are
escaped here; charts come from `training.drawing`.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from html import escape
from typing import Any

import numpy as np

from feature_repo.contracts import DAY_NS
from feature_repo.grid import Floats, Ints
from training import figures, metrics
from training.drawing import WHOLE, WIDE, Axis, Dot, Guide, Series, axis, dot_chart, legend, plot, thinned, time_axis
from training.figures import Points
from training.score_table import day_text, grid, number, score_tables, span
from training.scored import Scored
from training.targets import HORIZONS

Found = Mapping[str, Any]
COLORS = ("c1", "c2", "c3", "c4", "c5", "c6")
COVER = (0.75, 0.85)
ALERT = 0.7


def flags(found: Sequence[Found]) -> str:
    """What is too good to be true or does not mean what it says."""
    if not found:
        return ('<section class="flags" aria-label="Red flags"><p><b class="good">No red flag.</b> No score is beyond '
                "what has been shown on minute bars, and chances and intervals hold what they say.</p></section>")
    suspicious = [each for each in found if each["level"] == "suspicious"]
    level, title = ("suspicious", "Suspicious: too good to be true") if suspicious else ("warning", "Read with care")
    items = "".join(
        f'<li><b>{escape(each["rule"])}</b>: {each["found"]:.3f}, limit {each["limit"]:g}. {escape(each["why"])}.</li>'
        for each in [*suspicious, *(each for each in found if each["level"] != "suspicious")]
    )
    note = "<p>A score beyond these limits is a leak until proven otherwise.</p>" if suspicious else ""
    return (f'<section class="flags {level}" aria-label="Red flags"><p><b class="{"bad" if suspicious else "warn"}">'
            f"{title}.</b></p>{note}<ul>{items}</ul></section>")


def headline(report: Found, scored: Scored) -> str:
    """The few figures that say what the model can do."""
    tiles = [*_volatility_tiles(scored), *_risk_tile(scored), *_direction_tile(scored), *_cover_tile(scored),
             *_trade_tile(report)]
    inside = "".join(f"<div><dt>{name}</dt><dd>{value}</dd><dd>{note}</dd></div>" for name, value, note in tiles)
    return f'<dl class="tiles">{inside}</dl>'


def _volatility_tiles(scored: Scored) -> Iterable[tuple[str, str, str]]:
    for h in (15, 60):
        k = HORIZONS.index(h)
        y, f, har = scored.rv_NK[:, k], scored.rv_hat_NK[:, k], scored.rv_har_NK[:, k]
        known = np.logical_and.reduce([np.isfinite(c) & (c > 0) for c in (y, f, har)])
        if known.any():
            own, other = (metrics.qlike_loss(y[known], g[known]) for g in (f, har))
            ratio = metrics.day_block_ratio(own, other, scored.days[known])
            tone = "good" if ratio.high < 1 else "bad" if ratio.low > 1 else "warn"
            yield (f"Volatility, {h} min: QLIKE", number(float(own.mean())),
                   f'<b class="{tone}">{ratio.value:.3f}</b> of HAR’s {span(ratio.low, ratio.high)}')


def _risk_tile(scored: Scored) -> Iterable[tuple[str, str, str]]:
    known = np.isfinite(scored.risky_N) & np.isfinite(scored.risk_score_N)
    y, p = scored.risky_N[known], scored.risk_score_N[known]
    if len(np.unique(y)) == 2:
        fired = p > ALERT
        found = f"{y[fired].mean():.0%} right above {ALERT}" if fired.any() else f"never above {ALERT}"
        yield "Risk: AUC", number(metrics.auc(y, p)), f"base rate {y.mean():.1%}; {found}"


def _direction_tile(scored: Scored) -> Iterable[tuple[str, str, str]]:
    known = np.isfinite(scored.up) & np.isfinite(scored.p_up_N)
    if known.any():
        right = ((scored.p_up_N[known] > 0.5) == (scored.up[known] > 0.5)).astype(np.float64)
        found = metrics.day_block_interval(right, scored.days[known])
        yield ("Direction, 1 min", f"{found.value:.1%} right",
               f"[{found.low:.1%}, {found.high:.1%}]; a coin has 50 %")


def _cover_tile(scored: Scored) -> Iterable[tuple[str, str, str]]:
    k = HORIZONS.index(15)
    moved, bound = np.abs(scored.returns[15]), scored.return_bound_NK[:, k]
    known = np.isfinite(moved) & np.isfinite(bound)
    if known.any():
        found = metrics.day_block_interval((moved[known] <= bound[known]).astype(np.float64), scored.days[known])
        yield "80 % interval, 15 min", f"{found.value:.1%}", f"inside [{found.low:.1%}, {found.high:.1%}]"


def _trade_tile(report: Found) -> Iterable[tuple[str, str, str]]:
    rows = {at["horizon_min"]: at["strategies"]["model"]["at_settings"] for at in report.get("pnl", {}).values()
            if "model" in at["strategies"]}
    if not rows:
        return
    cost = next(iter(rows.values()))["cost_per_side_bps"]
    trades = sum(row["trades"] for row in rows.values())
    net = "; ".join(f"{h} min {row['net_bps']['value']:+.2f} bps".replace("-", "−")
                    for h, row in rows.items() if row["net_bps"] is not None)
    value = f"{trades:,} trades" if trades else "no trade"
    yield "should_trade", value, f"{net or 'no edge pays'} at {cost:g} bps a side"


def scores(report: Found) -> str:
    """Every score beside every baseline's."""
    tables = score_tables(report)
    if not tables:
        return ""
    told = "Lower QLIKE, Brier and ECE are better; an AUC of 0.5 is chance. All on the same rows; the best is bold."
    return f"<section><h2>Scores</h2><p>{told}</p>{''.join(tables)}</section>"


def volatility(scored: Scored) -> str:
    """QLIKE over time beside HAR."""
    cards = [_qlike_card(scored, h) for h in HORIZONS if len(figures.qlike_by_day(scored, h)[0])]
    if not cards:
        return card_section("Volatility over time", "HAR is not at hand for these rows: nothing to compare with.", [])
    return card_section(
        "Volatility over time",
        "Mean QLIKE of each UTC day, the model’s beside HAR’s. Lower is better; violent days are hard for both.", cards,
    )


def _qlike_card(scored: Scored, h: int) -> str:
    days, model, har = figures.qlike_by_day(scored, h)
    at = days.astype(np.float64) * DAY_NS
    x_model, y_model = _broken(at, model)
    _, y_har = _broken(at, har)
    series = [Series("model", x_model, y_model, "c1"), Series("HAR", x_model, y_har, "c2", dashed=True)]
    better = int((model < har).sum())
    x = time_axis(int(at[0]), int(at[-1]))
    # One wild day may be ten times the rest: the axis ends where 98 % of days do, the rest is cut at its edge.
    top = float(np.quantile(np.concatenate([model, har]), 0.98)) * 1.05
    cut = int((np.maximum(model, har) > top * 1.25).sum())
    y = axis([0.0, top])
    told = f"The model is better on {better} of {len(days)} days."
    note = f" {cut} {'day lies' if cut == 1 else 'days lie'} beyond the top." if cut else ""
    rows = [(day_text(int(d)), number(float(m)), number(float(r)), f"{m / r:.3f}")
            for d, m, r in zip(days, model, har, strict=True)]
    table = grid(("day", "model", "HAR", "ratio"), rows[-60:])
    return card(f"{h} minutes", f"better on {better} of {len(days)} days", legend(series)
                 + plot(f"QLIKE by day, {h} minutes", told, x, y, series) + (f"<p>{note}</p>" if note else "")
                 + _details("The last days as a table", table))


def _broken(at: Floats, values: Floats) -> tuple[Floats, Floats]:
    """A line with a gap wherever more than two days are missing."""
    holes = np.flatnonzero(np.diff(at) > 2.5 * DAY_NS) + 1
    return np.insert(at, holes, at[holes - 1] + DAY_NS if len(holes) else []), np.insert(values, holes, np.nan)


def calibration(scored: Scored) -> str:
    """Reliability of every chance."""
    cards = [_reliability_card(head, scored.days) for head in figures.heads(scored)]
    return card_section(
        "Do the chances mean what they say?",
        "Each point is a tenth of all decisions: what was said (across) against how often it came (upright). On the "
        "dotted line a chance is honest.", cards,
    )


def _reliability_card(head: figures.Head, days: Ints) -> str:
    found = figures.reliability(head, days)
    y, p = head.outcome_N[head.known], head.p_N[head.known]
    error = metrics.calibration_error(y, p)
    said, came = axis(found.x, steps=6), axis([*found.value, *found.low, *found.high])
    ends = (max(said.low, came.low), min(said.high, came.high))
    honest = [Guide(ends, ends)] if ends[0] < ends[1] else []
    series = [Series("", found.x, found.value, "c1", marks=True, low=found.low, high=found.high)]
    told = f"Expected calibration error {error:.3f}, base rate {y.mean():.3f}."
    rows = [(number(a), number(b), span(lo, hi), f"{n:,}")
            for a, b, lo, hi, n in zip(found.x, found.value, found.low, found.high, found.rows, strict=True)]
    chart = plot(f"Reliability, {head.name}", told, said, came, series, honest)
    table = _details("As a table", grid(("said", "came", "interval", "rows"), rows))
    return card(head.name, f"ECE {error:.3f} · base rate {y.mean():.3f}", chart + table)


def intervals(scored: Scored) -> str:
    """Coverage of the 80 % intervals in calm and in wild times."""
    cards = [_cover_card(f"Return, {h} min", figures.coverage_by_quintile(scored, h)) for h in HORIZONS]
    cards.append(_cover_card("Volatility band, 15 min", figures.band_by_quintile(scored)))
    return card_section(
        "Do the intervals hold, calm or wild?",
        "Share of outcomes inside the 80 % interval, by quintile of the volatility forecast. Within the green band is "
        "good enough.", [card for card in cards if card], "halves",
    )


def _cover_card(name: str, found: Points) -> str:
    if not len(found.x):
        return ""
    low = min(0.7, float(np.nanmin(np.append(found.low, found.value.min()))))
    high = max(0.9, float(np.nanmax(np.append(found.high, found.value.max()))))
    y = axis([low, min(high, 1.0)], steps=4)
    names = ("calmest", "2", "3", "4", "wildest")
    x = Axis(0.5, 5.5, tuple((i + 1.0, name) for i, name in enumerate(names)))
    inside = int(((found.value >= COVER[0]) & (found.value <= COVER[1])).sum())
    series = [Series("", found.x, found.value, "c1", marks=True, low=found.low, high=found.high)]
    told = "; ".join(f"{names[int(i) - 1]} {value:.1%}" for i, value in zip(found.x, found.value, strict=True))
    chart = plot(f"Coverage, {name}", told, x, y, series, [Guide((0.5, 5.5), COVER, band=True)], WIDE)
    return card(name, f"{inside} of {len(found.x)} within 75–85 %", chart)


def risk(scored: Scored) -> str:
    """The risk score over time beside how often the next quarter of an hour was violent."""
    hours, score, came = figures.risk_by_hour(scored)
    if not len(hours):
        return ""
    (x, said), (_, happened) = (_thin_hours(hours, values) for values in (score, came))
    series = [Series("turned out risky", x, happened, "c5", area=True), Series("risk score", x, said, "c1")]
    told = f"Mean risk score {score.mean():.3f}, mean outcome {came.mean():.3f}."
    chart = legend(series) + plot(
        "Risk score by hour", told, time_axis(int(hours[0]), int(hours[-1]), 8), axis([0.0, 1.0]), series,
        [Guide((float(hours[0]), float(hours[-1])), (ALERT, ALERT))], WHOLE,
    )
    return card_section(
        "Risk over time",
        "Hourly means: the chance that the next 15 minutes are among the wildest tenth, and how often they were. "
        f"The dotted line is the alert at {ALERT}.",
        [card("By hour", f"{(score > ALERT).mean():.1%} of hours above {ALERT}", chart)], "whole",
    )


def _thin_hours(hours: Ints, values: Floats) -> tuple[Floats, Floats]:
    """Hours, or means of as many hours as leave some 300 points: a year's hours would be a smear."""
    size = max(1, len(values) // 300)
    edges = np.arange(0, len(values), size)
    sums = np.add.reduceat(values, edges) / np.diff(np.append(edges, len(values)))
    return hours[edges].astype(np.float64), np.asarray(sums)


def stability(blocks: Sequence[Found]) -> str:
    """QLIKE against a reference in each walk-forward block."""
    cards = []
    for h in map(str, HORIZONS):
        held = [block for block in blocks if h in block.get("qlike_ratio", {})]
        dots = [_dot(str(block["block"]), block["qlike_ratio"][h]) for block in held]
        if dots:
            against = str(held[0].get("against", "HAR"))
            better = sum(dot.value < 1 for dot in dots)
            x = axis([1.0, *(v for dot in dots for v in (dot.value, dot.low, dot.high))], steps=4)
            told = f"Better in {better} of {len(dots)} blocks."
            chart = dot_chart(f"QLIKE ratio by block, {h} minutes", told, x, dots, 1.0)
            cards.append(card(f"{h} minutes, over {escape(against)}", f"better in {better} of {len(dots)}", chart))
    return card_section(
        "Does it hold over time?",
        "QLIKE over the reference’s in each walk-forward block, trained on what came before it. Left of the dotted "
        "line the model is better.", cards,
    )


def ablation(found: Found) -> str:
    """What each feature family is worth."""
    dots = sorted((_dot(name.replace("_", " "), each) for name, each in found.items()), key=lambda dot: -dot.value)
    if not dots:
        return ""
    x = axis([0.0, *(v for dot in dots for v in (dot.value, dot.low, dot.high))], steps=4)
    told = "; ".join(f"{dot.label} {dot.value:+.4f}" for dot in dots)
    chart = dot_chart("What QLIKE rises by without a family", told, x, dots, 0.0, WHOLE)
    return card_section(
        "What is each feature family worth?",
        "How much QLIKE at 15 minutes rises when a family is withheld. Right of the dotted line it helps.",
        [card("Withheld family", "rise of QLIKE", chart)], "whole",
    )


def _dot(label: str, found: Found | float) -> Dot:
    if isinstance(found, Mapping):
        low, high = (math.nan if found.get(end) is None else float(found[end]) for end in ("low", "high"))
        return Dot(label, float(found["value"]), low, high, "c1")
    return Dot(label, float(found), math.nan, math.nan)


def worst(scored: Scored) -> str:
    """The days on which it did worst."""
    if not np.isfinite(scored.rv_hat_NK[:, HORIZONS.index(15)]).any():
        return ""
    rows = [
        (day_text(day.day), f"{day.rows:,}", number(day.qlike), number(day.qlike_har), f"{1e4 * day.volatility:.1f}",
         f"{1e4 * day.worst_minute:.0f}", "–" if math.isnan(day.risk) else f"{day.risk:.2f}",
         "–" if math.isnan(day.alarmed) else f"{day.alarmed:.0%}")
        for day in figures.worst_days(scored)
    ]
    columns = ("day (UTC)", "rows", "QLIKE 15 min", "HAR’s", "volatility, bps/√min", "wildest minute, bps", "mean risk",
               f"above {ALERT}")
    return ("<section><h2>Worst days</h2><p>By the 15-minute volatility forecast’s mean QLIKE: look here first.</p>"
            + grid(columns, rows) + "</section>")


def line_card(
    title: str, right: str, lines: Sequence[tuple[str, Floats, Floats]], told: str, note: str = "",
) -> str:
    """Lines over time (x in ns UTC), thinned without losing a peak."""
    series = [Series(name, *thinned(x, y), COLORS[i % len(COLORS)], dashed=i >= len(COLORS))
              for i, (name, x, y) in enumerate(lines)]
    first, last = (int(end) for end in (lines[0][1][0], lines[0][1][-1]))
    y_axis = axis([0.0, *(float(v) for each in series for v in (each.y.min(), each.y.max()))])
    return card(title, right, legend(series) + plot(title, told, time_axis(first, last, 6), y_axis, series,
                 [Guide((float(first), float(last)), (0.0, 0.0))], WIDE) + (f"<p>{note}</p>" if note else ""))


def card_section(title: str, told: str, cards: Sequence[str], width: str = "", after: str = "") -> str:
    """A titled section of cards, in thirds, `halves` or `whole`, with what follows them; nothing without cards."""
    if not cards:
        return ""
    kind = f"cards {width}".strip()
    return f'<section><h2>{title}</h2><p>{told}</p><div class="{kind}">{"".join(cards)}</div>{after}</section>'


def card(title: str, right: str, inside: str) -> str:
    """One panel of a section: its title, what is most worth knowing at the right of it, and what is inside."""
    return f'<article class="card"><h3>{title} <span>{right}</span></h3><div>{inside}</div></article>'


def _details(title: str, inside: str) -> str:
    return f"<details><summary>{title}</summary>{inside}</details>"
