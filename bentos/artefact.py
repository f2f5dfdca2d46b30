"""Artefact: a model folder verified before one byte of it is used, and run by ONNX Runtime.

    >>> load_artefact(Path("models/bootstrap"))          # doctest: +SKIP
    Artefact(name='forecast-bar', version='…')

A folder holds `model.onnx`, `meta.json`, `SHA256SUMS`, `MODEL_CARD.md` and nothing else: a file that is not
on that list (a pickle, say) is a reason to refuse the whole folder. The graph is built from the very bytes
whose checksum was compared, so a file swapped after the check is never read, and a graph that points to
data outside itself cannot be built.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bentos.distribution import Bounds
from bentos.predictor import LATER_OUTPUT_NAMES, OUTPUT_NAMES, Costs, ModelFacts, Outputs
from feature_repo.contracts import ModelRefused
from feature_repo.features import SEQUENCE_FEATURES, SEQUENCE_LENGTH
from feature_repo.models import META, readable

MODEL, SUMS, CARD = "model.onnx", "SHA256SUMS", "MODEL_CARD.md"
ALLOWED = frozenset({MODEL, META, SUMS, CARD})
MAX_BYTES = 64 * 1024 * 1024
"""A forecast model is well below this; a larger file is not read into the service."""

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Artefact:
    """A verified model: its facts, its identity and its running graph."""

    facts: ModelFacts
    sha256: str
    """Of `model.onnx`."""
    session: Any = field(repr=False)
    columns: tuple[int, ...]
    """Where its inputs are in a stored sequence."""
    outputs: tuple[str, ...]
    """What it is asked for: of `Outputs`, what its graph answers."""

    def run(self, sequence: Floats, risk_threshold: float | None) -> Outputs:
        """Forecast from a stored sequence of raw values, NaN where unknown, of which it reads its own columns, and the
        volatility percentile (None: unknown)."""
        threshold = np.nan if risk_threshold is None else risk_threshold
        feeds = {
            "sequence": np.ascontiguousarray(sequence[:, self.columns], dtype=np.float32)[None],
            "context": np.array([[threshold]], dtype=np.float32),
        }
        values = self.session.run(list(self.outputs), feeds)
        return Outputs(**{name: float(value[0]) for name, value in zip(self.outputs, values, strict=True)})


def load_artefact(folder: Path) -> Artefact:
    """Verify and load. Raises `ModelRefused` saying what was expected and found."""
    contents = _verified_contents(folder)
    meta = _meta(contents[META])
    features = readable(meta).features
    facts = _facts(meta)
    session = _session(contents[MODEL])
    outputs = _checked_outputs(session, len(features))
    columns = tuple(SEQUENCE_FEATURES.index(name) for name in features)
    return Artefact(facts, hashlib.sha256(contents[MODEL]).hexdigest(), session, columns, outputs)


def _verified_contents(folder: Path) -> dict[str, bytes]:
    present = {path.name for path in folder.iterdir()} if folder.is_dir() else set()
    if missing := {MODEL, META, SUMS} - present:
        raise ModelRefused(f"expected {', '.join(sorted(missing))} in {folder}, found none")
    if foreign := present - ALLOWED:
        allowed = ", ".join(sorted(ALLOWED))
        raise ModelRefused(f"expected only {allowed} in {folder}; found {', '.join(sorted(foreign))}")
    contents = {name: _read(folder / name) for name in present}
    sums = _sums(contents.pop(SUMS))
    for name, content in contents.items():
        found = hashlib.sha256(content).hexdigest()
        if sums.get(name) != found:
            raise ModelRefused(f"{name}: expected sha256 {sums.get(name)} from {SUMS}, found {found}")
    return contents


def _read(path: Path) -> bytes:
    if not path.is_file() or path.stat().st_size > MAX_BYTES:
        raise ModelRefused(f"expected {path.name} to be a file of at most {MAX_BYTES} bytes")
    return path.read_bytes()


def _sums(text: bytes) -> dict[str, str]:
    """File name → hex digest, from the lines that `sha256sum` writes."""
    lines = [line.split(maxsplit=1) for line in text.decode("ascii", "replace").splitlines() if line.strip()]
    if any(len(parts) != 2 for parts in lines):
        raise ModelRefused(f"{SUMS}: expected lines `<sha256>  <file>`")
    return {name.lstrip("*"): digest.lower() for digest, name in lines}


def _meta(text: bytes) -> dict[str, Any]:
    try:
        meta = json.loads(text)
    except ValueError as error:
        raise ModelRefused(f"{META}: expected JSON; {error}") from error
    if not isinstance(meta, dict):
        raise ModelRefused(f"{META}: expected an object, found {type(meta).__name__}")
    return meta


def _facts(meta: Mapping[str, Any]) -> ModelFacts:
    try:
        return ModelFacts(
            name=str(meta["name"]), version=str(meta["version"]), feature_set=str(meta["feature_set"]),
            horizon_s=int(meta["horizon_s"]),
            costs=Costs(**{f.name: float(meta["cost_model"][f.name]) for f in fields(Costs)}),
            decay=_decay(meta["tier_lambda"]), bounds=_bounds(meta["ood"]),
        )
    except (KeyError, TypeError, ValueError) as error:
        raise ModelRefused(f"{META}: {type(error).__name__}: {error}") from error


def _decay(meta: Mapping[str, Any]) -> tuple[tuple[float, float], ...]:
    decay = tuple((float(age), float(value)) for age, value in zip(meta["age_s"], meta["lambda"], strict=True))
    ages = [age for age, _ in decay]
    if len(decay) < 2 or ages != sorted(set(ages)) or not all(0.0 <= value <= 1.0 for _, value in decay):
        raise ValueError(f"tier_lambda: expected at least two ascending ages with values in [0, 1], found {decay}")
    return decay


def _bounds(meta: Mapping[str, Any]) -> Bounds:
    """Every list as long as `features`, every scale above 0."""
    lists = {name: tuple(map(float, meta[name])) for name in ("center", "scale", "lower", "upper")}
    features = tuple(map(str, meta["features"]))
    if any(len(values) != len(features) for values in lists.values()) or not min(lists["scale"], default=1.0) > 0:
        raise ValueError("ood: expected center, scale > 0, lower and upper for every one of features")
    return Bounds(features, **lists, max_distance=float(meta["max_distance"]), max_outside=int(meta["max_outside"]))


def _session(graph: bytes) -> Any:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 3
    try:
        return onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # ONNX Runtime has a dozen classes for a graph it cannot build
        raise ModelRefused(f"{MODEL}: {type(error).__name__}: {error}") from error


def _checked_outputs(session: Any, features: int) -> tuple[str, ...]:
    """The outputs to ask for; the graph has the agreed inputs and outputs and answers with one value each."""
    wanted = {"sequence": (SEQUENCE_LENGTH, features), "context": (1,)}
    inputs = {item.name: tuple(item.shape[1:]) for item in session.get_inputs()}
    if inputs != wanted:
        raise ModelRefused(f"{MODEL}: expected inputs {wanted} after the batch axis, found {inputs}")
    present = {item.name for item in session.get_outputs()}
    if missing := set(OUTPUT_NAMES) - present:
        raise ModelRefused(f"{MODEL}: expected outputs {', '.join(sorted(missing))}, found none")
    empty = {name: np.full((1, *shape), np.nan, dtype=np.float32) for name, shape in wanted.items()}
    outputs = (*OUTPUT_NAMES, *(name for name in LATER_OUTPUT_NAMES if name in present))
    answers = session.run(list(outputs), empty)
    shapes = {name: value.shape for name, value in zip(outputs, answers, strict=True)}
    if wrong := {name: shape for name, shape in shapes.items() if shape != (1,)}:
        raise ModelRefused(f"{MODEL}: expected every output of shape (1,), found {wrong}")
    return outputs
