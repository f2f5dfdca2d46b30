"""Slow features: `SLOW_VIEWS` declares what is made of the slow series, and `row` makes one row of it.

    >>> [view.name for view in SLOW_VIEWS]
    ['funding', 'open_interest', 'fear_greed', 'macro']

A row describes a moment of its series and holds nothing known after its `created`; it is a pure function of the
observations (and, for a beta, of the symbol's own closes) that were known by then. So a value that comes late or is
corrected makes another version of the row, and never changes one that was. Windows of macro series count New York
sessions. A value that cannot be known is null with its reason: `warmup` (the history does not reach back so far),
`gap` (it does, and lacks the values), `requires closes` (the symbol has none), `undefined`.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from operator import attrgetter

from feature_repo import slow_formulas as formulas
from feature_repo.contracts import DAY_NS, HOUR_NS, Observation, Provenance, Source
from feature_repo.features import Expectation
from feature_repo.slow_formulas import AsOf, Formula, Unknown
from feature_repo.slow_known import Known
from feature_repo.slow_series import LEVELS, MACRO, PRICES, SERIES

BETA_WINDOWS = (20, 60)
CLOSE = "close"
"""Series of a symbol's own closes."""


@dataclass(frozen=True)
class SlowFeature:
    """One declaration; Feast's schema, the lake's columns, the expectations and the documentation derive from it."""

    name: str
    unit: str
    formula: str
    """In words: e is the moment the row describes."""
    compute: Formula
    expects: Expectation


@dataclass(frozen=True)
class SlowView:
    """One view: its lake zone has its name, its Feast view `<name>_features`."""

    name: str
    series: tuple[str, ...]
    features: tuple[SlowFeature, ...]
    ttl_ns: int
    """A row that describes a moment longer ago is no answer, online and in history alike."""
    description: str

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(feature.name for feature in self.features)

    def state(self, name: str) -> str:
        """The column of `source`, `provenance` or `reasons`."""
        return f"{self.name}_{name}"

    @property
    def lag_ns(self) -> int:
        """From the moment a backfilled row describes to its `created`: its series' greatest publication lag."""
        return max(SERIES[name].lag_ns for name in self.series)


@dataclass(frozen=True)
class SlowRow:
    """One row of a slow view. Identity: (symbol, ts_event, created) within the view; null is unknown, see `reasons`."""

    view: str
    symbol: str
    ts_event: int
    created: int
    source: Source
    provenance: Provenance
    values: Mapping[str, float | None]
    reasons: Mapping[str, str]


def rows(
    view: SlowView, symbol: str, observations: Sequence[Observation], news: Iterable[Observation],
    closes: Sequence[Observation] = (),
) -> list[SlowRow]:
    """A row for each moment at which one of `news` became known: that of the newest moment described by then.

    `observations` are the view's of the symbol, with `news` among them and as far back as a row looks; `closes` its own
    closes (`close_of`). Ascending by `created`. Older moments need no row: whoever asks is told the newest. What was
    simulated or recorded never meets what is live, and what a backfill filed counts for news that came after it.
    """
    made: list[SlowRow] = []
    told = list(news)
    for source in sorted({each.source for each in told}):
        ours, read, own = ([each for each in given if each.source == source] for given in (told, observations, closes))
        for part, held in _parts(ours, read):
            made += _of_source(view, symbol, held, part, own)
    return sorted(made, key=attrgetter("created"))


def _parts(
    news: Sequence[Observation], observations: list[Observation],
) -> Iterator[tuple[list[Observation], list[Observation]]]:
    """News, and what was held when they came: all but what a backfill filed later (`ts_init`).

    A file's value claims to have been known long before it was here. Whether it lies in the lake already when a row is
    made hangs on who is faster; by its `ts_init` the row is the same then, after a kill, and made again years later.
    """
    filed = sorted({each.ts_init for each in observations if each.provenance == "backfill"})
    came: dict[int, int] = {}
    for each in news:
        came[each.created] = max(came.get(each.created, 0), each.ts_init)
    parts: dict[int, list[Observation]] = {}
    for each in news:
        parts.setdefault(bisect_right(filed, came[each.created]), []).append(each)
    for count, part in sorted(parts.items()):
        later = frozenset(filed[count:])
        yield part, [o for o in observations if o.provenance != "backfill" or o.ts_init not in later]


def _of_source(
    view: SlowView, symbol: str, observations: list[Observation], news: list[Observation], closes: list[Observation],
) -> Iterator[SlowRow]:
    series = {name: Known((o for o in observations if o.series == name), SERIES[name].instruments)
              for name in view.series}
    own = Known(closes, (symbol,))
    told = {each.created: each for each in news}
    newest, waiting = 0, sorted(observations, key=attrgetter("created"), reverse=True)
    for known_ns in sorted(told):
        while waiting and waiting[-1].created <= known_ns:
            newest = max(newest, waiting.pop().ts_event)
        at = AsOf(newest, known_ns, series, own)
        yield row(view, symbol, at, told[known_ns].source, told[known_ns].provenance)


def row(view: SlowView, symbol: str, at: AsOf, source: Source, provenance: Provenance) -> SlowRow:
    """The row of a view at one moment as known at another."""
    values: dict[str, float | None] = {}
    reasons: dict[str, str] = {}
    for feature in view.features:
        try:
            values[feature.name] = feature.compute(at)
        except Unknown as why:
            values[feature.name], reasons[feature.name] = None, str(why)
    return SlowRow(view.name, symbol, at.event_ns, at.known_ns, source, provenance, values, reasons)


def close_of(symbol: str, ts_event: int, created: int, price: float, source: Source) -> Observation:
    """A symbol's own close as what a beta reads."""
    return Observation(
        symbol=symbol, ts_event=ts_event, ts_init=created, created=created, source=source, session="", series=CLOSE,
        provider="lake", instrument=symbol, value=price,
    )


def _expect(low: float, high: float, series: str) -> Expectation:
    return Expectation(low, high, max_age_s=(SERIES[series].stale_ns + SERIES[series].lag_ns) // 10**9)


def _macro_features() -> Iterable[SlowFeature]:
    for name in PRICES:
        for back, bound in ((1, 0.25), (5, 0.4)):
            yield SlowFeature(f"{name}_return_{back}d", "log return", f"ln(close_e / close_{{n-{back}}})",
                              formulas.log_return(name, back), _expect(-bound, bound, name))
        for window in BETA_WINDOWS:
            yield SlowFeature(
                f"beta_{name}_{window}d", "ratio",
                f"cov(b, m) / var(m) over {window} sessions; log returns, b the symbol's, m the series'",
                formulas.beta(name, window), _expect(-25.0, 25.0, name))
    for name, unit, bound in zip(LEVELS, ("points", "percentage points"), (60.0, 2.0), strict=True):
        series = SERIES[name]
        yield SlowFeature(f"{name}_close_1d", series.unit, "close_e", formulas.level(name),
                          _expect(series.low, series.high, name))
        yield SlowFeature(f"{name}_change_1d", unit, "close_e - close_{n-1}", formulas.change(name),
                          _expect(-bound, bound, name))


SLOW_VIEWS: tuple[SlowView, ...] = (
    SlowView("funding", ("funding_rate",), (
        SlowFeature("funding_rate_8h", "fraction a settlement", "rate settled at e", formulas.funding,
                    _expect(-0.05, 0.05, "funding_rate")),
        SlowFeature("funding_rate_mean_7d", "fraction a settlement", "mean of the rates settled in (e - 7 d, e]",
                    formulas.funding_mean, _expect(-0.02, 0.02, "funding_rate")),
    ), DAY_NS, "funding of the perpetual contract, a row a settlement"),
    SlowView("open_interest", ("open_interest",), (
        SlowFeature("open_interest_5m", "base", "open interest at e", formulas.open_interest,
                    _expect(0.0, math.inf, "open_interest")),
        SlowFeature("open_interest_change_1h", "log ratio", "ln(OI_e / OI_{e-1h}), at most 10 min older",
                    formulas.open_interest_change(HOUR_NS), _expect(-1.0, 1.0, "open_interest")),
        SlowFeature("open_interest_change_1d", "log ratio", "ln(OI_e / OI_{e-1d}), at most 10 min older",
                    formulas.open_interest_change(DAY_NS), _expect(-2.0, 2.0, "open_interest")),
    ), HOUR_NS, "open interest of the perpetual contract, a row every five minutes"),
    SlowView("fear_greed", ("fear_greed",), (
        SlowFeature("fear_greed_1d", "index, 0 to 100", "index of the day e", formulas.fear_greed,
                    _expect(0.0, 100.0, "fear_greed")),
        SlowFeature("fear_greed_change_7d", "points", "index_e - index of 7 days before", formulas.fear_greed_change,
                    _expect(-100.0, 100.0, "fear_greed")),
    ), 3 * DAY_NS, "Fear & Greed index, a row a day"),
    SlowView("macro", MACRO, tuple(_macro_features()), 7 * DAY_NS,
             "macro series and the symbol's beta to them, a row a New York session"),
)
VIEW_OF: Mapping[str, SlowView] = {view.name: view for view in SLOW_VIEWS}
SERIES_VIEW: Mapping[str, SlowView] = {name: view for view in SLOW_VIEWS for name in view.series}
SLOW_NAMES: tuple[str, ...] = tuple(name for view in SLOW_VIEWS for name in view.names)
