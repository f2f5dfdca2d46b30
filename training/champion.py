"""Champion: the model that a new one must not be worse than, and how the two are compared.

    champion = champion_of(settings, "live")                     # None: there is none to be compared with
    held, told = beside(champion, table, scored)                 # for `training.gate.judge`, and for the report
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from feature_repo.contracts import FeaturesDiffer
from feature_repo.settings import Settings
from training.card import read_meta
from training.dataset import TrainingSet
from training.evaluation import learnt_from
from training.export import verify
from training.gate import Beside, registered_name
from training.registry import champion_folder
from training.scored import Scored
from training.scores import differences
from training.scoring import Facts, artefact_answers, scored_rows, set_columns

COMPARED_DAYS = 2
"""Of test rows that the champion has not learnt from: with fewer it is asked for all of them, which is told."""


@dataclass(frozen=True)
class Champion:
    """The present champion, to be compared with."""

    folder: Path
    why_not: str = ""
    """Why it cannot be asked for rows of a set of this tree; empty where it can."""


def champion_of(settings: Settings, kind: str) -> Champion | None:
    """The present champion; None where there is none. Raises `ModelRefused` for one that is damaged.

    One of another feature set is compared as long as what it reads is declared as it was: the rule of serving.
    """
    folder = champion_folder(settings.mlflow, registered_name(kind), settings.run_dir / "models" / "compared")
    if folder is None:
        return None
    try:
        verify(folder, probe_ms=False)
        set_columns(read_meta(folder)["features"])
    except FeaturesDiffer as error:  # whole, its checksums are right: there is no asking it, and it is no fault of it
        return Champion(folder, str(error))
    return Champion(folder)


def beside(champion: Champion, table: TrainingSet, scored: Scored) -> tuple[Beside, dict[str, Any]]:
    """A model's decisions on the test part beside the champion's, for the gate and for the report.

    On rows that the champion has not learnt from. Where they are of less than `COMPARED_DAYS` it is asked for all of
    them, of which it knows the outcomes: it may look better than it is, never worse.
    """
    meta = read_meta(champion.folder)
    version, lacking = str(meta["version"]), _lacking(meta, table)
    if champion.why_not:
        told: dict[str, Any] = {"version": version, "not_compared": champion.why_not}
        return Beside(None, f"{version} is not compared: {champion.why_not}", lacking), told
    at = table.part("test")
    seen = learnt_from(meta, table, at)
    chosen = ~seen if len(np.unique(table.days(at[~seen]))) >= COMPARED_DAYS else np.ones(len(at), dtype=bool)
    answers = artefact_answers(champion.folder, table, at[chosen], meta["features"])
    other = scored_rows(version, table, at[chosen], answers, Facts.of(meta))
    found, known = differences(scored.only(chosen), other), int(seen[chosen].sum())
    on = f"{len(other):,} rows, " + (f"{known:,} of which it has learnt from" if known else "new to it")
    told = {"version": version, "decisions": len(other), "learnt_from": known, "model_minus_it": found}
    return Beside(found, f"{version} on {on}", lacking), told


def _lacking(meta: Mapping[str, Any], table: TrainingSet) -> tuple[str, ...]:
    """Symbols that a model has learnt and that are not in a set."""
    return tuple(sorted(set(str(meta["symbol"]).split("+")) - set(table.rows.symbol.split("+"))))
