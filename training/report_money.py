"""Report money: the section of the report page that says what trading on the forecasts would have brought."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

import numpy as np

from feature_repo.grid import Floats
from training.backtest import Quotes, equity, trade
from training.costs import COST_TABLE_BPS
from training.pnl import strategies
from training.report_cards import card_section, line_card
from training.score_table import MODEL, called, grid, value
from training.scored import Scored

Found = Mapping[str, Any]
SIGNALS = ("model_every_minute", "logistic_every_minute", "momentum", "reversal", "always_long")
RULE = "should_trade"


def money(report: Found, scored: Scored, others: Mapping[str, Scored]) -> str:
    """Equity by cost, what the signals are worth before costs, and every strategy at every cost."""
    cards, tables = [], []
    for key, at in report.get("pnl", {}).items():
        horizon = int(key)
        cards += _charts(scored, others, horizon)
        tables.append(_tables(at))
    if not tables:
        return ""
    return card_section(
        "Does it pay?",
        "Entry at the next minute’s open, exit at the horizon, costs on both sides. Each trade stakes 1 / horizon of a "
        "capital that stays the same, so results add up; one position at a time stakes all of it and passes over what "
        "is decided meanwhile. should_trade decides anew at each cost.", cards, "halves",
        "".join(tables),
    )


def _charts(scored: Scored, others: Mapping[str, Scored], horizon: int) -> list[str]:
    quotes, found = Quotes.of(scored, horizon), strategies(scored, others, horizon)
    cards = []
    if "model" in found:
        lines = [(f"{cost:g} bps a side", *_curve(quotes, found["model"](cost), cost)) for cost in COST_TABLE_BPS]
        edge = np.abs(scored.edge_bps[horizon])
        told = f"Ends at {', '.join(f'{y[-1]:+.1f}' for _, _, y in lines)} bps for {', '.join(n for n, _, _ in lines)}."
        cards.append(line_card(
            f"should_trade, {horizon} min", "bps of capital", lines, told,
            note=f"Largest expected edge {float(np.nanmax(edge)):.2f} bps; a trade at cost c needs more than 2c.",
        ))
    free = [(_name(name), *_curve(quotes, found[name](0.0), 0.0)) for name in SIGNALS if name in found]
    told = f"Ends at {', '.join(f'{y[-1]:+.0f} for {n}' for n, _, y in free)} bps."
    cards.append(line_card(
        f"Every minute, {horizon} min, free of cost", "bps of capital", free, told,
        note="What a signal knows, before anybody is paid: at real costs every one of these is ruin.",
    ))
    return cards


def _curve(quotes: Quotes, sides: Any, cost: float) -> tuple[Floats, Floats]:
    curve = equity(quotes, trade(quotes, sides, cost))
    return curve.minute_ns_E.astype(np.float64), curve.net_bps_E


def _tables(at: Found) -> str:
    """Net by cost, then what the trades were like at the cost of the settings."""
    horizon, settings, found = at["horizon_min"], at["costs"]["per_side_bps"], at["strategies"]
    alone = {name: each["one_at_a_time"] for name, each in found.items() if "one_at_a_time" in each}
    net = _net_grid(f"Net bps a trade, {horizon} min", found, settings)
    net += _net_grid(f"One position at a time, {horizon} min", alone, settings) if alone else ""
    like = _grid((f"Trades at {settings:g} bps a side, {horizon} min", "trades", "n_eff", "gross bps", "exposure",
                  "hit rate", "profit factor", "deepest fall, bps", "break-even cost, bps a side"),
                 [(name, *_character(each["at_settings"])) for name, each in found.items()])
    return net + like + _hold(at)


def _net_grid(title: str, found: Mapping[str, Found], settings: float) -> str:
    costs = tuple(next(iter(found.values()))["per_cost"])
    return _grid((title, *(f"at {cost} bps a side" for cost in costs), f"at {settings:g}"), [
        (name, *(_net(each["per_cost"][cost]) for cost in costs), _net(each["at_settings"]))
        for name, each in found.items()
    ])


def _grid(columns: Sequence[str], rows: Sequence[tuple[str, ...]]) -> str:
    named = [(escape(_name(name)), *cells) for name, *cells in rows]
    return grid(columns, named, own=RULE)


def _name(strategy: str) -> str:
    """A strategy as people say it: whose forecasts, followed how."""
    if strategy == MODEL:
        return RULE
    for ending, how in (("_by_edge", RULE), ("_every_minute", "every minute")):
        if strategy.endswith(ending):
            return f"{called(strategy.removesuffix(ending))}, {how}"
    return called(strategy)


def _character(row: Found) -> tuple[str, ...]:
    hit, gross = value(row["hit_rate"]), row["gross_bps"]
    few = "<small>too few</small>" if "evidence" in row and row["trades"] else ""
    return (
        f"{row['trades']:,}", f"{row['n_eff']:,}{few}", "–" if gross is None else _signed(gross, 2),
        f"{row['exposure']:.1%}", "–" if hit is None else f"{hit:.1%}",
        "–" if row["profit_factor"] is None else f"{row['profit_factor']:.2f}",
        f"{row['max_drawdown']['bps']:,.0f}",
        "–" if row["break_even_cost_bps"] is None else _signed(row["break_even_cost_bps"], 3),
    )


def _net(row: Found) -> str:
    """Net bps a trade with its interval, in colour where the interval leaves no doubt."""
    found = row["net_bps"]
    if found is None:
        return "no trade"
    tone = "" if found["low"] is None else "good" if found["low"] > 0 else "bad" if found["high"] < 0 else ""
    return f'<span class="{tone}">{_signed(found, 2)}</span>'


def _signed(found: Found, digits: int) -> str:
    """A figure with its sign and, below it, its interval."""
    def text(number: float) -> str:
        return f"{number:+.{digits}f}".replace("-", "−")

    ends = "" if found["low"] is None else f"<small>[{text(found['low'])}, {text(found['high'])}]</small>"
    return f"{text(found['value'])}{ends}"


def _hold(at: Found) -> str:
    held = at["buy_and_hold"]["net_bps"]
    text = "" if held is None else f"Bought once and held: {held:+,.0f} bps after costs.".replace("-", "−")
    return f"<p>{text}</p>"
