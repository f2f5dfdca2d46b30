"""Scoring: forecasts of an artefact, or of a fitted model, on rows of a set, beside what happened: `Scored`.

    answers = artefact_answers(folder, table, at, meta["features"])
    scored = scored_rows("20250711-…", table, at, answers, Facts.of(meta))
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from feature_repo.contracts import SECOND_NS, FeaturesDiffer
from feature_repo.features import FORECAST_BAR
from feature_repo.grid import Floats, Ints
from training.dataset import TrainingSet
from training.export import forecast, session
from training.models import ALL, MODELS, Family
from training.reference import is_out
from training.scored import RETURN_HORIZONS, Scored
from training.targets import HORIZONS

if TYPE_CHECKING:
    from training.forecaster import Forecaster

BATCH = 4096
EDGES = {1: "expected_edge_bps", 15: "expected_edge_15m_bps"}
"""Expected edge by horizon in minutes; artefacts of before it was forecast lack the second."""
Answers = Mapping[str, Floats]


@dataclass(frozen=True)
class Facts:
    """What a `Scored` needs to know of a model besides its answers."""

    return_bounds: tuple[float, ...]
    """80 % of |return over h| lie within this times forecast · √h, by horizon; NaN: not known."""
    ood: Mapping[str, Any] | None = None
    """The out-of-distribution rule of `training.reference`; None: no row is."""
    speaks_of: tuple[Family, ...] = ALL

    @classmethod
    def of(cls, meta: Mapping[str, Any]) -> Facts:
        """Of an artefact; those from before the bounds of every horizon have the 15-minute one alone."""
        found = meta["calibration"]
        bounds = found.get("return_intervals") or {"15": found["return_interval_15m"]}
        kind = MODELS.get(meta.get("kind", ""))
        return cls(
            tuple(float(bounds.get(str(h), np.nan)) for h in HORIZONS), meta["ood"], kind.speaks_of if kind else ALL,
        )


def set_columns(features: Sequence[str]) -> list[int]:
    """Where a model's inputs are in a set's rows. Raises `FeaturesDiffer` for one that reads what no set holds now.

    An older model can read less than a set holds, in another order. What it alone still reads (of `RETIRED`) is written
    for serving and is not among a set's columns.
    """
    if beyond := [name for name in features if name not in FORECAST_BAR]:
        raise FeaturesDiffer(
            f"expected a model that reads what a set of this tree holds, found one that reads {', '.join(beyond)}; "
            "evaluate it at its own commit, or train on this feature set",
        )
    return [FORECAST_BAR.index(name) for name in features]


def artefact_answers(
    folder: Path, table: TrainingSet, at: Ints, features: Sequence[str] = FORECAST_BAR,
) -> Answers:
    """The exported graph's outputs on rows, by name. `features`: what it reads. Raises as `set_columns`."""
    running, columns = session(folder), set_columns(features)
    parts = [forecast(running, table.sequences(rows).take(columns, axis=2), table.context[rows, None])
             for rows in _batches(at)]
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def model_answers(model: Forecaster, table: TrainingSet, at: Ints) -> Answers:
    """A calibrated model's outputs on rows, by name."""
    import torch

    from training.forecaster import OUTPUTS

    model.eval()
    with torch.no_grad():
        parts = [model(torch.from_numpy(table.sequences(rows)), torch.from_numpy(table.context[rows, None]))
                 for rows in _batches(at)]
    return {name: torch.cat([part[i] for part in parts]).double().numpy() for i, name in enumerate(OUTPUTS)}


def _batches(at: Ints) -> list[Ints]:
    return np.split(at, range(BATCH, len(at), BATCH))


def scored_rows(
    name: str, table: TrainingSet, at: Ints, answers: Answers, facts: Facts, har: Answers | None = None,
) -> Scored:
    """Decisions at dense positions `at`. `har`: calibrated HAR's answers on the same rows."""
    unknown = np.full(len(at), np.nan)

    def told(output: str, family: Family) -> Floats:
        return np.asarray(answers.get(output, unknown)) if family in facts.speaks_of else unknown

    rv_hat = np.column_stack([told(f"volatility_{h}m", "volatility") for h in HORIZONS])
    spikes = [told("spike_prob" if h == 15 else f"spike_prob_{h}m", "spike") for h in HORIZONS]
    newest = table.newest(at).astype(np.float64)
    return Scored(
        model=name, symbol_N=table.symbol_M[at], close_ns_N=table.close_ns[at], t_ns_N=table.close_ns[at] + SECOND_NS,
        price_N=table.closes[at], entry_N=_opens(table)[at + 1], returns=_returns(table, at, table.closes[at]),
        had=_returns(table, at, _opens(table)[at + 1]), p_up_N=told("p_up", "direction"),
        p_flat_N=told("p_flat", "direction"),
        edge_bps={h: answers[name] for h, name in EDGES.items() if name in answers and "direction" in facts.speaks_of},
        rv_NK=np.column_stack([table.targets[f"rv_{h}"][at] for h in HORIZONS]), rv_hat_NK=rv_hat,
        rv_har_NK=np.column_stack([unknown if har is None else har[f"volatility_{h}m"] for h in HORIZONS]),
        rv_low_N=told("volatility_15m_low", "volatility"), rv_high_N=told("volatility_15m_high", "volatility"),
        rv_hour_N=newest[:, FORECAST_BAR.index("realized_vol_60m")],
        return_bound_NK=rv_hat * np.array(facts.return_bounds) * np.sqrt(np.array(HORIZONS)),
        spiked_NK=np.column_stack([table.targets["spike" if h == 15 else f"spike_{h}"][at] for h in HORIZONS]),
        spike_prob_NK=np.column_stack(spikes), risky_N=table.targets["risk"][at],
        risk_score_N=told("risk_score", "risk"),
        out_of_distribution_N=np.zeros(len(at), dtype=bool) if facts.ood is None else is_out(newest, dict(facts.ood)),
    )


def _opens(table: TrainingSet) -> Floats:
    """Dense opens, one minute longer than the set."""
    dense = np.full(len(table.close_ns) + 1, np.nan)
    dense[table.place] = table.rows.opens
    return dense


def _returns(table: TrainingSet, at: Ints, start: Floats) -> dict[int, Floats]:
    """ln(close h minutes later / start); NaN where that minute is missing, or another symbol's or beyond the end."""
    closes = np.append(table.closes, np.full(max(RETURN_HORIZONS), np.nan))
    return {h: np.asarray(np.log(closes[at + h] / start)) for h in RETURN_HORIZONS}
