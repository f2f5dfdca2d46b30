"""Check: every feature, slow view and label in worlds that agree up to an instant and differ after it.

    result = check(bars, minutes, CheckConfig(seed=1, instants=20))
    result["passed"]                       # nothing changed that was decided before the worlds part

Six ways are looked at: rows of the stream, rows made again from raw, inputs of a training set, labels and their split,
rows of the slow views, and the history through Feast. What the given bars lack (a book, trades) is shown on a made
market instead.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path as Folder
from typing import Any

import numpy as np

from feature_repo.context import CONTEXT_FEATURE
from feature_repo.contracts import DAY_NS, HOUR_NS, MINUTE_NS, Bar
from feature_repo.features import DECLARED, FEATURE_NAMES, FEATURE_SET
from feature_repo.slow_features import SLOW_NAMES
from monitoring.leakcheck import joins, slow
from monitoring.leakcheck.bars import with_minutes
from monitoring.leakcheck.paths import SEQUENCE, Path, recomputed, stream, tell
from monitoring.leakcheck.plants import PLANTS, Plant
from monitoring.leakcheck.report import Report
from monitoring.leakcheck.sets import check_inputs, check_labels, inputs, random_rows, set_of
from monitoring.leakcheck.world import MINUTES_BEFORE, Table, World, around, cuts, made_bars, variants
from training.dataset import kernel_rows
from training.klines import MinuteBars
from training.targets import AHEAD

PATHS: Mapping[str, Path] = {"stream": stream, "recompute": recomputed}
CONSTANT = tuple(f.name for f in DECLARED if not f.needs)
"""Names that no bar moves: the calendar's."""
MADE_END_NS = 19_944 * DAY_NS + HOUR_NS // 4
"""A made market ends a quarter of an hour after a midnight, so that what restarts with the day is seen."""
PLANT_CUTS = 3


@dataclass(frozen=True)
class CheckConfig:
    """One check."""

    seed: int = 1
    """The same instants and the same other worlds each time."""
    instants: int = 20
    """Where the bars are cut; each cut of a training set judges every decision before it, so a fourth of them do."""
    plant: bool = False
    """Also put in leaks on purpose and say whether each was found."""

    @property
    def set_cuts(self) -> int:
        return max(2, self.instants // 4)


def check(
    bars: Sequence[Bar], minutes: MinuteBars, config: CheckConfig, folder: Folder, given: str = "bars",
) -> dict[str, Any]:
    """Everything, over given bars (which may be none) and the minutes of a training set.

    `folder` is an empty one for the lakes of the joins.
    """
    report = Report()
    if bars:
        check_bars(report, list(bars), PATHS, config.instants, config)
    lacking = report.unproven((*FEATURE_NAMES, SEQUENCE), CONSTANT)
    if lacking:
        check_bars(report, made_market(config.seed), PATHS, config.instants if not bars else PLANT_CUTS, config)
    check_sets(report, minutes, config)
    join = joins.open_joins(folder)
    for at in _instants(config.instants, config):
        joins.check(report, join.ask, at, np.random.default_rng([config.seed, at % 2**32]))
    for at in _instants(config.set_cuts, config):
        slow.check(report, slow.made, at, np.random.default_rng([config.seed, at % 2**32]))
    found = {
        **report.as_dict(), "features": len(FEATURE_NAMES), "slow_features": len(SLOW_NAMES), "labels": len(AHEAD),
        "feature_set": FEATURE_SET,
        "seed": config.seed, "instants": config.instants, "bars": given if bars else "made",
        "shown_on_a_made_market": lacking if bars else [], "minutes": minutes.source,
        "unproven": report.unproven((*FEATURE_NAMES, SEQUENCE, CONTEXT_FEATURE, *SLOW_NAMES, *AHEAD), CONSTANT),
    }
    if config.plant:
        found["planted"] = prove(list(bars) or made_market(config.seed), minutes, config, join)
        found["passed"] = found["passed"] and all(plant["found"] for plant in found["planted"])
    return found


def check_bars(
    report: Report, bars: list[Bar], paths: Mapping[str, Path], instants: int, config: CheckConfig,
) -> None:
    """Rows of single seconds and minutes, each path in each pair of worlds."""
    rng = np.random.default_rng(config.seed)
    for n, cut in enumerate(cuts(bars, instants, rng)):
        world = around(cut.symbol, bars, cut, MINUTES_BEFORE[n % 4 > 0])
        as_it_was = _tables(world, paths)
        for how, base, other in variants(world, cut.created, rng):
            ones = as_it_was if base is world else _tables(base, paths)
            for (name, one), two in zip(ones.items(), _tables(other, paths).values(), strict=True):
                report.compare(name, how, cut.created, (one, two))


def _tables(world: World, paths: Mapping[str, Path]) -> dict[str, Table]:
    records = tell(world)
    return {name: path(world, records) for name, path in paths.items()}


def check_sets(report: Report, minutes: MinuteBars, config: CheckConfig) -> None:
    """Inputs, labels and split of a training set."""
    rng = np.random.default_rng(config.seed)
    check_inputs(report, minutes, inputs, random_rows(minutes.close_ns, config.set_cuts, rng), rng)
    rows = kernel_rows(minutes)
    check_labels(report, rows, set_of, random_rows(minutes.close_ns, config.instants, rng), rng)


def prove(bars: list[Bar], minutes: MinuteBars, config: CheckConfig, join: joins.Joins) -> list[dict[str, Any]]:
    """Each planted leak, in a few of the same worlds: whether it was found, and where first."""
    return [_proven(plant, bars, minutes, config, join) for plant in PLANTS]


def _proven(
    plant: Plant, bars: list[Bar], minutes: MinuteBars, config: CheckConfig, join: joins.Joins,
) -> dict[str, Any]:
    report, rng = Report(), np.random.default_rng(config.seed)
    if plant.bars is not None:
        check_bars(report, bars, {"planted": plant.bars}, PLANT_CUTS, config)
    elif plant.inputs is not None:
        check_inputs(report, minutes, plant.inputs, [_within_an_hour(minutes, rng)], rng)
    elif plant.labels is not None:
        check_labels(report, kernel_rows(minutes), plant.labels, random_rows(minutes.close_ns, PLANT_CUTS, rng), rng)
    elif plant.slow is not None:
        for at in _instants(PLANT_CUTS, config):
            slow.check(report, plant.slow, at, rng)
    elif plant.known is not None:
        planted = joins.Joins(join.folder, plant.known)
        for at in _instants(PLANT_CUTS, config):
            joins.check(report, planted.ask, at, rng)
    leak = next((leak for leak in report.leaks if leak.name == plant.finds), None)
    return {"leak": plant.name, "name": plant.finds, "found": leak is not None,
            "instant": leak.instant if leak else None, "how": leak.how if leak else None,
            "values": report.counts.get(plant.finds, 0)}


def _within_an_hour(minutes: MinuteBars, rng: np.random.Generator) -> int:
    """A row with enough of its hour to come that the slow view's next value is another one."""
    [row] = random_rows(minutes.close_ns, 1, rng)
    return row - int(minutes.close_ns[row] % HOUR_NS // MINUTE_NS) // 2


def _instants(count: int, config: CheckConfig) -> Iterable[int]:
    """Decision times for the joins, every third within a slow view's lag of a whole hour."""
    rng = np.random.default_rng([config.seed, count])
    for n in range(count):
        at = MADE_END_NS + int(rng.integers(0, DAY_NS))
        yield at if n % 3 else at // HOUR_NS * HOUR_NS + int(rng.integers(1, 50)) * 1_000_000_000


def made_market(seed: int) -> list[Bar]:
    """Bars with every field known, around a midnight."""
    return with_minutes(made_bars("BTCUSDT", seed, 1_640, 1_800, MADE_END_NS))
