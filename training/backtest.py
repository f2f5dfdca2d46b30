"""Backtest: what a side at every whole minute would have earned, from prices that could be had, after costs.

    quotes = Quotes.of(scored, horizon_min=15)
    trades = trade(quotes, should_trade(scored.edge_bps[15], cost, ~scored.out_of_distribution_N), cost)
    trades.net_bps.sum() / 15 == equity(quotes, trades).net_bps_E[-1]      # to rounding

One engine for every strategy. A decision at the close of minute t enters at the open of minute t + 1 and leaves at the
close of minute t + h; each side pays `cost_per_side_bps` (fee, half spread and slippage together, `training.costs`) of
what it turns over. Each trade stakes 1 / h of its symbol's capital, which is the same all along: at most h trades of a
symbol are open at once, exposure is at most 1, and results add up instead of compounding. Capital is shared equally
between symbols. A decision whose entry or exit has no price is no trade; it is counted.

`quotes.one_at_a_time()` is the other way to hold longer than a minute: a decision while a trade of its symbol is open
is passed over and counted, and a trade stakes the symbol's whole capital. Which trades are made then is known without
looking ahead: one whose exit turns out to have no price keeps later ones away all the same.

Shapes: N decisions · T trades · E minutes of the equity curve.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from feature_repo.contracts import MINUTE_NS
from training.day_blocks import day_of
from training.edge import Floats, Ints, Sides
from training.scored import Scored

BPS = 1e4


@dataclass(frozen=True)
class Quotes:
    """Prices around N decisions, ascending per symbol; NaN where there was none."""

    horizon_min: int
    symbol_N: NDArray[np.str_]
    decision_ns_N: Ints
    """Close of the whole minute decided on, ns UTC."""
    price_N: Floats
    """That close: marks what is held, is never traded at."""
    entry_N: Floats
    """Open of the next minute."""
    exit_N: Floats
    """Close of minute t + h."""
    is_one_at_a_time: bool = False
    """Whether a decision is passed over while a trade of its symbol is open."""

    @classmethod
    def of(cls, scored: Scored, horizon_min: int) -> Quotes:
        """Those of scored decisions; `horizon_min` is one of `scored.had`."""
        exits = scored.entry_N * np.exp(scored.had[horizon_min])
        return cls(horizon_min, scored.symbol_N, scored.close_ns_N, scored.price_N, scored.entry_N, exits)

    @classmethod
    def of_bars(cls, symbol: str, close_ns: Ints, opens: Floats, closes: Floats, horizon_min: int) -> Quotes:
        """Those of one symbol's minute bars, ascending, holes allowed: a decision at every bar."""
        entry = _at(close_ns, opens, close_ns + MINUTE_NS)
        exits = _at(close_ns, closes, close_ns + horizon_min * MINUTE_NS)
        return cls(horizon_min, np.full(len(close_ns), symbol), close_ns, closes, entry, exits)

    def one_at_a_time(self) -> Quotes:
        """The same prices for whoever holds at most one position of a symbol; of one minute it changes nothing."""
        return replace(self, is_one_at_a_time=True)

    @property
    def days(self) -> Ints:
        """UTC day number of each decision: the blocks of every bootstrap."""
        return day_of(self.decision_ns_N)

    @cached_property
    def day_names(self) -> Ints:
        """The days on which there were decisions, ascending."""
        return np.unique(self.days)

    @cached_property
    def symbols(self) -> tuple[str, ...]:
        """The symbols, ascending; kept, for sorting half a million names takes longer than trading them."""
        return tuple(np.unique(self.symbol_N).tolist())

    @property
    def stake(self) -> float:
        """Share of the capital behind one trade."""
        return 1.0 / ((1 if self.is_one_at_a_time else self.horizon_min) * len(self.symbols))

    def per_symbol(self) -> Iterator[tuple[str, NDArray[np.bool_]]]:
        """Each symbol with the mask of its decisions."""
        for symbol in self.symbols:
            yield symbol, self.symbol_N == symbol


def _at(known_ns: Ints, values: Floats, wanted_ns: Ints) -> Floats:
    """The value at each wanted time, NaN where that very time is not known. `known_ns` ascends."""
    place = np.minimum(np.searchsorted(known_ns, wanted_ns), len(known_ns) - 1)
    return np.where(known_ns[place] == wanted_ns, values[place], np.nan)


def past_return(quotes: Quotes, minutes: int) -> Floats:
    """Log return of the `minutes` up to each decision, (N,); NaN where the earlier minute is no decision of the set."""
    before = np.full(len(quotes.price_N), np.nan)
    for _, own in quotes.per_symbol():
        times = quotes.decision_ns_N[own]
        before[own] = _at(times, quotes.price_N[own], times - minutes * MINUTE_NS)
    return np.asarray(np.log(quotes.price_N / before))


@dataclass(frozen=True)
class Trades:
    """T trades of one strategy at one cost, in the order of their decisions per symbol."""

    horizon_min: int
    cost_per_side_bps: float
    symbol_T: NDArray[np.str_]
    decision_ns_T: Ints
    side_T: Sides
    entry_T: Floats
    exit_T: Floats
    decisions: int
    """How many there were, traded or not."""
    left_out: int
    """Decisions for a trade whose entry or exit has no price."""
    passed_over: int = 0
    """Decisions for a trade while another was open."""

    def __len__(self) -> int:
        return len(self.side_T)

    def at_cost(self, cost_per_side_bps: float) -> Trades:
        """The same trades at another cost."""
        return replace(self, cost_per_side_bps=cost_per_side_bps)

    @property
    def exit_ns(self) -> Ints:
        return self.decision_ns_T + self.horizon_min * MINUTE_NS

    @property
    def days(self) -> Ints:
        return day_of(self.decision_ns_T)

    @property
    def gross_bps(self) -> Floats:
        """side · (exit / entry − 1), of the trade's own stake."""
        return np.asarray(BPS * self.side_T * (self.exit_T / self.entry_T - 1))

    @property
    def turnover(self) -> Floats:
        """What both sides turn over, of the stake: 1 going in, exit / entry coming out."""
        return np.asarray(1 + self.exit_T / self.entry_T)

    @property
    def cost_bps(self) -> Floats:
        return np.asarray(self.cost_per_side_bps * self.turnover)

    @property
    def net_bps(self) -> Floats:
        return self.gross_bps - self.cost_bps

    def rows(self) -> list[dict[str, Any]]:
        """Each trade as plain data."""
        columns = {
            "symbol": self.symbol_T, "decision_ns": self.decision_ns_T, "exit_ns": self.exit_ns, "side": self.side_T,
            "entry": self.entry_T, "exit": self.exit_T, "gross_bps": self.gross_bps, "cost_bps": self.cost_bps,
            "net_bps": self.net_bps,
        }
        lists = [column.tolist() for column in columns.values()]
        return [dict(zip(columns, row, strict=True)) for row in zip(*lists, strict=True)]


def trade(quotes: Quotes, sides_N: Sides, cost_per_side_bps: float) -> Trades:
    """Every decision whose side is not 0 as a trade. Raises `ValueError` when sides are not one of −1, 0, 1 each."""
    if sides_N.shape != quotes.entry_N.shape or not np.isin(sides_N, (-1, 0, 1)).all():
        raise ValueError(f"expected {len(quotes.entry_N)} sides of -1, 0 or 1, found {sides_N.shape} of "
                         f"{np.unique(sides_N)[:5].tolist()}")
    asked = sides_N != 0
    could = asked & np.isfinite(quotes.entry_N)
    entered = _apart(quotes, could) if quotes.is_one_at_a_time else could
    done = entered & np.isfinite(quotes.exit_N)
    over = int(could.sum() - entered.sum())
    return Trades(
        quotes.horizon_min, cost_per_side_bps, quotes.symbol_N[done], quotes.decision_ns_N[done], sides_N[done],
        quotes.entry_N[done], quotes.exit_N[done], len(sides_N), int(asked.sum() - done.sum()) - over, over,
    )


def _apart(quotes: Quotes, could_N: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Of the trades that could be entered each symbol's first, the first decided when that one has ended, and so on."""
    entered_N = np.zeros_like(could_N)
    for _, own in quotes.per_symbol():
        places = np.flatnonzero(own & could_N)
        decided = quotes.decision_ns_N[places]
        free = np.searchsorted(decided, decided + quotes.horizon_min * MINUTE_NS).tolist()
        at = 0
        while at < len(places):
            entered_N[places[at]] = True
            at = free[at]
    return entered_N


@dataclass(frozen=True)
class Equity:
    """What is earned by each minute's close, open trades at that minute's price."""

    minute_ns_E: Ints
    """Closes of consecutive minutes, from the first decision to the last exit."""
    net_bps_E: Floats
    """Of the capital, which is the same all along: 0 at the first decision."""
    exposure_E: Floats
    """Share of the capital in the market during the minute, long and short added."""

    def drawdown_bps(self) -> Floats:
        """How far below its best so far, (E,), at least 0."""
        return np.maximum.accumulate(np.maximum(self.net_bps_E, 0.0)) - self.net_bps_E

    def deepest(self) -> dict[str, Any]:
        """The deepest fall: its size, the best minute before it, the worst, and the first at the old best again."""
        below = self.drawdown_bps()
        worst = int(below.argmax())
        best = int(self.net_bps_E[: worst + 1].argmax())
        again = np.flatnonzero(below[worst:] <= 0) if below[worst] > 0 else np.array([0])
        return {
            "bps": float(below[worst]), "from_ns": int(self.minute_ns_E[best]), "to_ns": int(self.minute_ns_E[worst]),
            "recovered_ns": int(self.minute_ns_E[worst + again[0]]) if len(again) else None,
        }

    def daily(self) -> tuple[Ints, Floats]:
        """UTC day numbers and the equity at the last minute of each. A minute closing at 00:00 ends its day."""
        days = day_of(self.minute_ns_E)
        last = np.flatnonzero(np.append(np.diff(days) != 0, True))
        return days[last], self.net_bps_E[last]


def equity(quotes: Quotes, trades: Trades) -> Equity:
    """The equity curve of trades made from `quotes`. Its end is the sum of what the trades earned, by their stakes."""
    if not len(quotes.decision_ns_N):
        raise ValueError("expected decisions to draw an equity curve of, found none")
    first = int(quotes.decision_ns_N.min())
    minutes = int(quotes.decision_ns_N.max() - first) // MINUTE_NS + quotes.horizon_min + 1
    earned_E, exposure_E = np.zeros(minutes), np.zeros(minutes)
    for symbol, own in quotes.per_symbol():
        chosen = trades.symbol_T == symbol
        if chosen.any():
            gain, held = _minutes(quotes, own, trades, chosen, first, minutes)
            earned_E += quotes.stake * gain
            exposure_E += quotes.stake * held
    return Equity(first + MINUTE_NS * np.arange(minutes), np.cumsum(earned_E), exposure_E)


def _minutes(
    quotes: Quotes, own: NDArray[np.bool_], trades: Trades, chosen: NDArray[np.bool_], first: int, minutes: int,
) -> tuple[Floats, Floats]:
    """What one symbol's trades earn in each minute, in bps of one stake, and how many of them are open."""
    def place(ns: Ints) -> Ints:
        return (ns - first) // MINUTE_NS

    entered, left = place(trades.decision_ns_T[chosen]) + 1, place(trades.exit_ns[chosen])
    entry, side = trades.entry_T[chosen], trades.side_T[chosen]
    marks = np.full(minutes, np.nan)
    marks[place(quotes.decision_ns_N[own])] = quotes.price_N[own]
    marks[left] = trades.exit_T[chosen]
    marks = _carried(marks)
    units = side / entry
    # Opened in this minute: from the open to its close. Opened before: from the last minute's mark.
    opened, count = _sum(entered, units, minutes), np.bincount(entered, minlength=minutes)
    closed, gone = _sum(left, units, minutes), np.bincount(left, minlength=minutes)
    open_before = np.concatenate([[0], np.cumsum(count - gone)[:-1]])
    before = np.where(open_before > 0, np.concatenate([[0.0], np.cumsum(opened - closed)[:-1]]), 0.0)
    paid = trades.cost_per_side_bps * (count + _sum(left, trades.exit_T[chosen] / entry, minutes))
    moved = np.concatenate([[0.0], np.diff(marks)])
    fresh = opened * marks - _sum(entered, side.astype(np.float64), minutes)
    gain = BPS * (np.where(before == 0, 0.0, before * moved) + np.where(count > 0, fresh, 0.0)) - paid
    return gain, (open_before + count).astype(np.float64)


def _sum(places: Ints, values: Floats, minutes: int) -> Floats:
    return np.asarray(np.bincount(places, weights=values, minlength=minutes), dtype=np.float64)


def _carried(marks: Floats) -> Floats:
    """Unknown marks take the one before: nothing is earned in a minute without a price."""
    known = np.where(np.isfinite(marks), np.arange(len(marks)), 0)
    return np.asarray(marks[np.maximum.accumulate(known)], dtype=np.float64)
