"""Report page: one model's scores as one HTML file that needs nothing beside it, dark or light as its reader's machine.

    write(Path("report.html"), page(report, scored, made_ns=now_ns, ablation=ablation, stability=blocks))

`report` is what `candlewick evaluate` answers, `scored` the decisions behind it; the pictures are made from `scored`,
so they show every row and not what somebody chose to report. Parts that were not given are left out, not drawn empty.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from html import escape
from pathlib import Path
from typing import Any

import numpy as np

from training import report_cards as cards
from training.page_style import STYLE
from training.red_flags import red_flags
from training.report_money import money
from training.scored import Scored

Found = Mapping[str, Any]


def page(
    report: Found, scored: Scored, made_ns: int, ablation: Found | None = None,
    stability: Sequence[Found] | None = None, others: Mapping[str, Scored] | None = None,
) -> str:
    """The page. `made_ns` is when, UTC.

    `ablation`: feature family → {"value", "low", "high"}, what QLIKE at 15 minutes rises by without it.
    `stability`: walk-forward blocks, each {"block", "qlike_ratio": {"15": {"value", "low", "high"}, …}}, against the
    reference named by `"against"`. `others`: baselines scored on the same decisions, drawn beside the model.
    Raises `ValueError` when nothing was scored.
    """
    if not len(scored):
        raise ValueError("expected scored decisions to draw, found none")
    flags = report.get("red_flags")
    sections = (
        cards.flags([*_seen(report, scored), *(red_flags(scored) if flags is None else flags)]),
        cards.headline(report, scored),
        cards.scores(report), cards.volatility(scored), cards.calibration(scored), cards.intervals(scored),
        cards.risk(scored), money(report, scored, others or {}), cards.stability(stability or ()),
        cards.ablation(ablation or {}), cards.worst(scored),
    )
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{escape(scored.model)}: evaluation</title><style>{STYLE}</style></head><body>"
        f'{_head(report, scored, made_ns)}<main id="main">{"".join(sections)}</main>{_foot(report)}</body></html>\n'
    )


def _seen(report: Found, scored: Scored) -> list[Found]:
    """A flag where the model has learnt from some of the rows that it is scored on."""
    seen = int(report.get("seen_in_training", 0))
    return [] if not seen else [{
        "rule": "share of these minutes seen in training", "level": "warning", "found": seen / len(scored),
        "limit": 0.0, "why": "scores on rows that a model has learnt from say nothing of rows that it has not",
    }]


def stability_of(walk: Found, model: str, reference: str) -> list[Found]:
    """What `candlewick walkforward` answered, as the page's `stability`: the model over a reference, block by block.

    Raises `ValueError` when the walk did not compare the two.
    """
    ratios = walk["ratios"].get(f"{model}/{reference}")
    if ratios is None:
        raise ValueError(f"expected {model}/{reference} among the walk's ratios, found {', '.join(walk['ratios'])}")
    return [
        {"block": block["from"][:10], "against": reference.replace("_", " "),
         "qlike_ratio": {h: found["by_block"][i] for h, found in ratios.items()}}
        for i, block in enumerate(walk["blocks"])
    ]


def write(path: Path, html: str) -> None:
    """Write a page so that a reader sees the old file or the new one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    made = path.with_suffix(f"{path.suffix}.tmp")
    made.write_text(html, encoding="utf-8")
    made.replace(path)


def _head(report: Found, scored: Scored, made_ns: int) -> str:
    symbols = ", ".join(np.unique(scored.symbol_N).tolist())
    first, last = (_time(int(ns)) for ns in (scored.close_ns_N.min(), scored.close_ns_N.max()))
    days = len(np.unique(scored.days))
    source = f' · {escape(str(report["source"]))}' if "source" in report else ""
    return (
        '<a class="skip" href="#main">To the scores</a><header>'
        f'<div><p class="over">Model evaluation</p><h1>{escape(scored.model)}</h1></div>'
        f'<p class="span"><b>{escape(symbols)}</b>{source}<br>{first} to {last} UTC<br>{len(scored):,} decisions on '
        f"{days:,} days · made {_time(made_ns)}</p></header>"
    )


def _foot(report: Found) -> str:
    made = "".join(f"<div><dt>{name}</dt><dd><code>{escape(str(report[key]))}</code></dd></div>" for name, key in (
        ("Command", "command"), ("Commit", "commit"), ("Data set", "dataset"), ("Feature set", "feature_set"),
    ) if report.get(key))
    how = f"<dl>{made}</dl>" if made else ""
    return (
        f"<footer>{how}<p>Brackets and whiskers are 95 % intervals from a bootstrap over whole days. Forecasts are "
        "scored on close-to-close minute returns after the decision; money only on prices that could be had after it. "
        "A score without its interval and a baseline is not a result. Meanings: docs/model.md and "
        "docs/backtest.md.</p></footer>"
    )


def _time(ns: int) -> str:
    return datetime.fromtimestamp(ns / 1e9, UTC).strftime("%Y-%m-%d %H:%M")
