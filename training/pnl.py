"""P&L: what strategies earned on the same decisions, at every cost of the table, with intervals and break-even cost.

    report["pnl"] = compare(scored, {"logistic": logistic_scored}, CostModel.of(settings))

A strategy is a side for every decision, given the cost of a side: `should_trade` asks for less edge where trading is
cheap. Every figure per trade is of the trade's own stake; every figure per day or in all is of the capital. At 15
minutes each strategy is shown twice: with every decision a trade of a fifteenth of the capital, and `one_at_a_time`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from feature_repo.contracts import MINUTE_NS
from training import metrics
from training.backtest import Equity, Quotes, Trades, equity, past_return, trade
from training.costs import COST_TABLE_BPS, CostModel
from training.edge import Floats, Ints, Sides, should_trade
from training.scored import Scored

HORIZONS = (1, 15)
"""Minutes a trade lasts: one decision per whole minute and horizon (`definitions`)."""
MINIMUM_N_EFF = 1000
Strategy = Callable[[float], Sides]
"""Cost of a side in bps → side of every decision."""


def strategies(scored: Scored, others: Mapping[str, Scored], horizon_min: int) -> dict[str, Strategy]:
    """The model's rule, following it every minute, and what both must be seen beside.

    `others` are forecasters scored on the same decisions; each trades by the same rule, and every minute by its sign.
    """
    _same_decisions(scored, others)
    quotes = Quotes.of(scored, horizon_min)
    moved = _signs(past_return(quotes, horizon_min))
    found: dict[str, Strategy] = {}
    for name, each in {"model": scored, **others}.items():
        if horizon_min in each.edge_bps and np.isfinite(each.edge_bps[horizon_min]).any():
            found[name if each is scored else f"{name}_by_edge"] = _by_edge(each, horizon_min)
        if np.isfinite(each.p_up_N).any():
            found[f"{name}_every_minute"] = _always(_signs(each.p_up_N - 0.5))
    return {
        **found, "momentum": _always(moved), "reversal": _always(-moved), "always_long": _always(np.ones_like(moved)),
        "always_flat": _always(np.zeros_like(moved)),
    }


def _same_decisions(scored: Scored, others: Mapping[str, Scored]) -> None:
    for name, other in others.items():
        columns = ((scored.close_ns_N, other.close_ns_N), (scored.symbol_N, other.symbol_N))
        if not all(np.array_equal(mine, theirs) for mine, theirs in columns):
            raise ValueError(f"expected {name} on the same decisions as {scored.model}, found others")


def _by_edge(scored: Scored, horizon_min: int) -> Strategy:
    return lambda cost: should_trade(scored.edge_bps[horizon_min], cost, ~scored.out_of_distribution_N)


def _always(sides: Sides) -> Strategy:
    return lambda _: sides


def _signs(values: Floats) -> Sides:
    """An unknown value has no sign: no trade."""
    return np.sign(np.nan_to_num(values)).astype(np.int8)


def compare(
    scored: Scored, others: Mapping[str, Scored], costs: CostModel, table_bps: tuple[float, ...] = COST_TABLE_BPS,
) -> dict[str, Any]:
    """Every strategy at every cost by horizon ("1", "15"), as plain data; differences are paired by day.

    Raises `ValueError` when `others` were scored on other decisions or there are none.
    """
    return {
        str(horizon): _compare_at(scored, others, costs, table_bps, horizon)
        for horizon in HORIZONS if horizon in scored.had
    }


def _compare_at(
    scored: Scored, others: Mapping[str, Scored], costs: CostModel, table_bps: tuple[float, ...], horizon_min: int,
) -> dict[str, Any]:
    quotes, cost = Quotes.of(scored, horizon_min), costs.per_side_bps
    found = strategies(scored, others, horizon_min)
    own = daily_net(quotes, trade(quotes, found["model"](cost), cost)) if "model" in found else None
    return {
        "horizon_min": horizon_min, "decisions": len(scored), "costs": costs.as_dict(),
        "share_out_of_distribution": float(scored.out_of_distribution_N.mean()),
        "largest_edge_bps": _largest(scored.edge_bps.get(horizon_min)),
        "strategies": {name: _strategy(quotes, each, cost, table_bps, own) for name, each in found.items()},
        "buy_and_hold": buy_and_hold(quotes, cost),
    }


def _largest(edge_bps: Floats | None) -> float | None:
    """The largest expected edge of any decision, either way; None where the model expects none."""
    known = np.array([]) if edge_bps is None else np.abs(edge_bps[np.isfinite(edge_bps)])
    return float(known.max()) if len(known) else None


def _strategy(
    quotes: Quotes, strategy: Strategy, cost: float, table_bps: tuple[float, ...], own: Floats | None,
) -> dict[str, Any]:
    trades = trade(quotes, strategy(cost), cost)
    minus = None if own is None else own - daily_net(quotes, trades)
    return {
        "per_cost": {f"{c:g}": brief(quotes, trade(quotes, strategy(c), c)) for c in table_bps},
        "at_settings": summary(quotes, trades),
        "model_minus_it_bps_per_day": None if minus is None else _interval(minus, np.arange(len(minus))),
        # A trade of one minute has ended when the next is decided on.
        **({"one_at_a_time": _alone(quotes.one_at_a_time(), strategy, cost, table_bps)}
           if quotes.horizon_min > 1 else {}),
    }


def _alone(quotes: Quotes, strategy: Strategy, cost: float, table_bps: tuple[float, ...]) -> dict[str, Any]:
    """The strategy by whoever passes over what it says while a trade is open."""
    def of(told: Callable[[Quotes, Trades], dict[str, Any]], c: float) -> dict[str, Any]:
        trades = trade(quotes, strategy(c), c)
        return {**told(quotes, trades), "passed_over": trades.passed_over}

    return {"per_cost": {f"{c:g}": of(brief, c) for c in table_bps}, "at_settings": of(summary, cost)}


def brief(quotes: Quotes, trades: Trades) -> dict[str, Any]:
    """How often a strategy traded and what a trade and a day brought, before and after costs, with intervals."""
    net, days = trades.net_bps, trades.days
    daily = daily_net(quotes, trades)
    return {
        "cost_per_side_bps": trades.cost_per_side_bps, "trades": len(trades), "left_out": trades.left_out,
        "share_traded": len(trades) / max(trades.decisions, 1), **evidence(trades),
        "gross_bps": _interval(trades.gross_bps, days), "net_bps": _interval(net, days),
        "net_bps_per_day": _interval(daily, np.arange(len(daily))), "total_net_bps": float(daily.sum()),
    }


def summary(quotes: Quotes, trades: Trades) -> dict[str, Any]:
    """`brief`, and what the trades were like: hit rate, profit factor, exposure, drawdown, break-even cost."""
    net, long = trades.net_bps, trades.side_T > 0
    curve = equity(quotes, trades)
    return {
        **brief(quotes, trades), "share_long": float(long.mean()) if len(trades) else None,
        "hit_rate": _interval((net > 0).astype(np.float64), trades.days), "profit_factor": profit_factor(net),
        "exposure": exposure(quotes, curve), "max_drawdown": curve.deepest(),
        "break_even_cost_bps": break_even(trades),
    }


def daily_net(quotes: Quotes, trades: Trades) -> Floats:
    """What each day of the decisions brought, bps of capital, by the day of the decision; 0 without a trade."""
    place = np.searchsorted(quotes.day_names, trades.days)
    return np.asarray(quotes.stake * np.bincount(place, weights=trades.net_bps, minlength=len(quotes.day_names)))


def evidence(trades: Trades) -> dict[str, Any]:
    """n_eff: minutes in the market over the horizon, so that overlapping trades do not count as more than they are."""
    minutes = trades.horizon_min
    steps = np.diff(trades.decision_ns_T) // MINUTE_NS
    fresh = np.where(trades.symbol_T[1:] == trades.symbol_T[:-1], np.minimum(steps, minutes), minutes)
    found = int((fresh.sum() + minutes * min(len(trades), 1)) // minutes)
    return {"n_eff": found, **({"evidence": "too few"} if found < MINIMUM_N_EFF else {})}


def exposure(quotes: Quotes, curve: Equity) -> float:
    """Mean share of the capital in the market, over as many minutes as there were decisions of a symbol."""
    return float(curve.exposure_E.sum() * len(quotes.symbols) / len(quotes.decision_ns_N))


def profit_factor(net_bps: Floats) -> float | None:
    """What winning trades brought over what losing ones took; None where none lost."""
    lost = float(-net_bps[net_bps < 0].sum())
    return float(net_bps[net_bps > 0].sum()) / lost if lost > 0 else None


def break_even(trades: Trades) -> dict[str, Any] | None:
    """The cost of a side, in bps, at which these very trades bring nothing: Σ gross / Σ turnover.

    Below 0 they lose even when trading is free. The interval resamples whole days, both sums together. None: no trades.
    """
    if not len(trades):
        return None
    return _shown(metrics.day_block_ratio(trades.gross_bps, trades.turnover, trades.days))


def buy_and_hold(quotes: Quotes, cost_per_side_bps: float) -> dict[str, Any]:
    """One purchase at the first entry, one sale at the last exit, per symbol; costs paid once. Bps of capital."""
    net = []
    for _, own in quotes.per_symbol():
        entries, exits = (prices[own][np.isfinite(prices[own])] for prices in (quotes.entry_N, quotes.exit_N))
        if len(entries) and len(exits):
            ratio = float(exits[-1] / entries[0])
            net.append(1e4 * (ratio - 1) - cost_per_side_bps * (1 + ratio))
    return {"net_bps": float(np.mean(net)) if net else None, "symbols": len(net)}


def _interval(rows: Floats, days: Ints) -> dict[str, float | int | None] | None:
    """A mean with its day-block interval; no interval from fewer than two days, nothing of nothing."""
    if not len(rows):
        return None
    return _shown(metrics.day_block_interval(rows, days))


def _shown(found: metrics.Interval) -> dict[str, float | int | None]:
    plain = found.as_dict()
    return dict(plain) if found.days > 1 else {**plain, "low": None, "high": None}
