"""Walk page: what a walk-forward found as one HTML file, and what it and an ablation say on the report page.

    write(Path("walk.html"), page(walk, made_ns=now_ns, ablation=ablation))
    page_parts(answers(["walk.json", "ablation.json"]), "stack")  # what `training.report_page.page` takes of them

`walk` is what `candlewick walkforward --json` answers: blocks with each model's QLIKE, and the ratios of models to
references over all blocks and block by block.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from html import escape
from pathlib import Path
from typing import Any

from training import report_cards as cards
from training.drawing import Dot, axis, dot_chart
from training.page_style import STYLE
from training.report_page import stability_of
from training.score_table import called, grid, number, span
from training.targets import HORIZONS

Found = Mapping[str, Any]
REFERENCES = ("gradient_boosting", "har")
"""Of these the first that a walk has is what the report page's blocks are shown against."""


def page(walk: Found, made_ns: int, ablation: Found | None = None) -> str:
    """The page. `made_ns` is when, UTC; `ablation` as the report page takes it. Raises `ValueError` without blocks."""
    if not walk.get("blocks"):
        raise ValueError("expected the blocks of a walk-forward, found none")
    parts = (_over_all(walk), _by_block(walk), *_every_pair(walk), cards.ablation(ablation or {}))
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>Walk-forward</title><style>{STYLE}</style></head><body>"
        f'{_head(walk, made_ns)}<main id="main">{"".join(parts)}</main>{_foot(walk)}</body></html>\n'
    )


def answers(files: Sequence[str | Path]) -> dict[str, dict[str, Any]]:
    """Answers of `walkforward` and `ablation` that were kept as JSON, by the name of their file.

    Raises `ValueError` for a file that is neither.
    """
    found = {}
    for path in map(Path, files):
        try:
            held = json.loads(path.read_text())
        except (OSError, ValueError) as error:
            raise ValueError(f"{path.name}: expected an answer of walkforward or ablation (--json), found {error}"
                             ) from error
        if not isinstance(held, dict) or not {"ratios", "ablation"} & set(held):
            raise ValueError(f"{path.name}: expected an answer of walkforward or ablation (--json), found another one")
        found[path.name] = held
    return found


def page_parts(held: Mapping[str, Found], model: str) -> dict[str, Any]:
    """What answers say of a model, as `training.report_page.page` takes it: `stability`, `ablation`.

    Raises `ValueError` for an answer that does not speak of the model.
    """
    found: dict[str, Any] = {}
    for name, answer in held.items():
        if "ratios" in answer:
            reference = next((each for each in REFERENCES if f"{model}/{each}" in answer["ratios"]), REFERENCES[0])
            found["stability"] = stability_of(answer, model, reference)
        elif answer["model"] == model:
            found["ablation"] = answer["ablation"]
        else:
            raise ValueError(f"{name}: expected the ablation of {model}, found that of {answer['model']}")
    return found


def _pairs(walk: Found) -> dict[str, list[str]]:
    """Reference → the models compared with it, in the walk's order."""
    found: dict[str, list[str]] = {}
    for pair in walk["ratios"]:
        model, _, reference = pair.partition("/")
        found.setdefault(reference, []).append(model)
    return found


def _over_all(walk: Found) -> str:
    """Each model over each reference, all blocks together."""
    drawn = [_overall_card(walk, reference, models, h) for reference, models in _pairs(walk).items()
             for h in map(str, HORIZONS)]
    return cards.card_section(
        "Over all blocks",
        "QLIKE over the reference’s, sums over every block, with the interval of a bootstrap over whole days. Left of "
        "the dotted line the model is better.", drawn,
    )


def _overall_card(walk: Found, reference: str, models: Sequence[str], h: str) -> str:
    found = {model: walk["ratios"][f"{model}/{reference}"][h] for model in models}
    dots = sorted((_dot(called(model), each) for model, each in found.items()), key=lambda dot: dot.value)
    x = axis([1.0, *(v for dot in dots for v in (dot.value, dot.low, dot.high))], steps=4)
    told = "; ".join(f"{dot.label} {dot.value:.3f} {span(dot.low, dot.high)}" for dot in dots)
    certain = sum(dot.high < 1 for dot in dots)
    against = f"{h} minutes, over {called(reference)}"
    chart = dot_chart(f"QLIKE ratio, {against}", told, x, dots, 1.0)
    return cards.card(escape(against), f"{certain} of {len(dots)} certainly better", chart)


def _by_block(walk: Found) -> str:
    """QLIKE of every model in every block."""
    tables = []
    for h in map(str, HORIZONS):
        names = [name for name in walk["blocks"][0]["qlike"] if h in walk["blocks"][0]["qlike"][name]]
        rows = [(f"{block['from'][:10]} to {block['to'][:10]}", *_cells([block["qlike"][name][h] for name in names]))
                for block in walk["blocks"]]
        if names:
            tables.append(grid((f"QLIKE, {h} minutes", *(escape(called(name)) for name in names)), rows))
    told = "Of the seed whose score is the median. Lower is better; the best of a block is bold."
    return f"<section><h2>QLIKE by block</h2><p>{told}</p>{''.join(tables)}</section>" if tables else ""


def _cells(row: Sequence[float]) -> list[str]:
    return [f"<b>{number(each)}</b>" if each == min(row) else number(each) for each in row]


def _every_pair(walk: Found) -> list[str]:
    """Block by block: a section for each reference, a card for each model and horizon."""
    sections = []
    for reference, models in _pairs(walk).items():
        drawn = [_pair_card(stability_of(walk, model, reference), model, h) for model in models
                 for h in map(str, HORIZONS)]
        sections.append(cards.card_section(
            f"Block by block, over {escape(called(reference))}",
            "Each block is forecast from what came before it alone. Left of the dotted line the model is better.",
            drawn,
        ))
    return sections


def _pair_card(blocks: Sequence[Found], model: str, h: str) -> str:
    dots = [_dot(block["block"], block["qlike_ratio"][h]) for block in blocks]
    better = sum(dot.value < 1 for dot in dots)
    x = axis([1.0, *(v for dot in dots for v in (dot.value, dot.low, dot.high))], steps=4)
    title = f"{called(model)}, {h} minutes"
    chart = dot_chart(f"QLIKE ratio by block, {title}", f"Better in {better} of {len(dots)} blocks.", x, dots, 1.0)
    return cards.card(escape(title), f"better in {better} of {len(dots)}", chart)


def _dot(label: str, found: Found) -> Dot:
    return Dot(label, float(found["value"]), float(found["low"]), float(found["high"]), "c1")


def _head(walk: Found, made_ns: int) -> str:
    blocks = walk["blocks"]
    made = datetime.fromtimestamp(made_ns / 1e9, UTC).strftime("%Y-%m-%d %H:%M")
    return (
        '<a class="skip" href="#main">To the scores</a><header>'
        '<div><p class="over">Walk-forward</p><h1>Does it hold over time?</h1></div>'
        f'<p class="span"><b>{len(blocks)} blocks</b><br>{blocks[0]["from"][:10]} to {blocks[-1]["to"][:10]}<br>'
        f"made {made}</p></header>"
    )


def _foot(walk: Found) -> str:
    results = escape(Path(str(walk["folder"])).name)
    return (f"<footer><dl><div><dt>Results</dt><dd><code>{results}</code></dd></div></dl>"
            "<p>Brackets and whiskers are 95 % intervals from a bootstrap over whole days, paired. Blocks are UTC days "
            "that have bars; a model learns from all before its block, purged, with a day left out after each part. "
            "Meanings: docs/model.md and docs/bar-files.md.</p></footer>")
