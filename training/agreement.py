"""Agreement: what torch says of real rows, and what the exported graph says of them, before an artefact is written.

    graph, gap = agreed_graph(model, table.sequences(at), table.context[at, None])      # at: `sample(table)`

The card and the scores are those of the graph; a graph that is not the model would be judged and served all the same.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

from feature_repo.contracts import ModelRefused
from feature_repo.grid import Ints
from training.dataset import TrainingSet
from training.export import forecast, onnx_bytes, session_of
from training.forecaster import OUTPUTS, Forecaster

BATCHES = (1, 3, 64)
"""Rows at once: serving's one, an odd few, and a whole batch."""
TOLERANCE = 1e-5
"""Largest difference: of a chance as it is, of a volatility relative to it (5e-4 is usual, so 1e-5 would say nothing),
of an edge in bps relative to it where it is above 1."""
Singles = NDArray[np.float32]


def sample(table: TrainingSet) -> Ints:
    """Positions of real rows, spread evenly over the calibration part: calm and wild days, full and masked rows."""
    at = table.part("calibration")
    return np.asarray(at[np.linspace(0, len(at) - 1, max(BATCHES)).astype(np.int64)])


def agreed_graph(model: Forecaster, sequence_NLF: Singles, context_N1: Singles) -> tuple[bytes, float]:
    """The exported graph, and how far it is at most from torch on these rows. Raises `ModelRefused` above `TOLERANCE`.

    N is at least 64. What both do not know (NaN) is agreed; what one of them alone does not know is infinitely far.
    """
    graph = onnx_bytes(model)
    gaps = {f"{name}, {batch} rows": gap for batch in BATCHES
            for name, gap in _gaps(model, graph, sequence_NLF[:batch], context_N1[:batch]).items()}
    worst = max(gaps, key=lambda name: gaps[name])
    if not gaps[worst] <= TOLERANCE:
        raise ModelRefused(
            f"model.onnx: expected torch's answers to within {TOLERANCE:g}, found {gaps[worst]:.3g} ({worst}); the "
            "export changed the model, which is not registered",
        )
    return graph, gaps[worst]


def _gaps(model: Forecaster, graph: bytes, sequence_BLF: Singles, context_B1: Singles) -> dict[str, float]:
    """How far ONNX Runtime is at most from torch, by output."""
    model.eval()
    with torch.no_grad():
        said = model(torch.from_numpy(sequence_BLF), torch.from_numpy(context_B1))
    answered = forecast(session_of(graph), sequence_BLF, context_B1)
    return {name: _gap(values_B.double().numpy(), answered[name], 0.0 if name.startswith("volatility") else 1.0)
            for name, values_B in zip(OUTPUTS, said, strict=True)}


def _gap(torch_B: NDArray[np.float64], onnx_B: NDArray[np.float64], least: float) -> float:
    """Largest |torch − ONNX Runtime| / max(`least`, |torch|)."""
    unknown_B = np.isnan(torch_B) & np.isnan(onnx_B)
    far_B = np.abs(torch_B - onnx_B) / np.maximum(least, np.abs(torch_B))
    return float(np.where(unknown_B, 0.0, np.nan_to_num(far_B, nan=np.inf)).max())
