"""Export: a fitted model as a folder that serving can trust: model.onnx, meta.json, SHA256SUMS, MODEL_CARD.md.

    write_artefact(model, meta, folder)
    verify(folder)          # raises ModelRefused, or says what it checked

The graph takes raw float32 feature values (NaN = null) and gives final numbers; torch and ONNX Runtime agree to 1e-5
for any batch size, with nulls anywhere.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from feature_repo.contracts import ModelRefused
from feature_repo.features import FEATURE_SET, FORECAST_BAR, SEQUENCE_LENGTH

Singles = NDArray[np.float32]
OPSET = 18
TOLERANCE = 1e-5
FILES = ("model.onnx", "meta.json", "MODEL_CARD.md")
MAX_BYTES = 1_000_000
NETWORKS = ("transformer", "lstm")
MAX_TREE_BYTES = 64 * 1024 * 1024
"""A hundred trees of depth 10 take megabytes."""


def write_artefact(model: Any, meta: dict[str, Any], card: str, folder: Path) -> Path:
    """Write all four files; the checksums last, so that a half-written folder never verifies."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "model.onnx").write_bytes(onnx_bytes(model))
    (folder / "meta.json").write_text(json.dumps(meta, indent=1, sort_keys=True) + "\n")
    (folder / "MODEL_CARD.md").write_text(card)
    sums = [f"{_sha256(folder / name)}  {name}" for name in FILES]
    (folder / "SHA256SUMS").write_text("\n".join(sums) + "\n")
    return folder


def onnx_bytes(model: Any) -> bytes:
    """The graph with a free batch axis; a model's trees are a node between the inputs' part and the heads' part."""
    import torch

    from training.forecaster import OUTPUTS
    from training.parts import Front, Heads, Whole

    rows = torch.randn(2, SEQUENCE_LENGTH, len(FORECAST_BAR)).abs() * 1e-3
    inputs = {"sequence": rows, "context": torch.full((2, 1), 1e-3)}
    model.eval()
    if model.bank is None:
        return without_traces(_exported(Whole(model), inputs, OUTPUTS))
    front = _exported(Front(model), inputs, ["tabular"])
    heads = _exported(Heads(model), {**inputs, "trees": torch.zeros(2, len(model.bank.base))}, OUTPUTS)
    return without_traces(_joined(front, model.bank, heads))


def _exported(part: Any, inputs: dict[str, Any], outputs: Sequence[str]) -> bytes:
    """One part by torch's exporter. Exported with a batch of 2: with 1 the axis would silently be fixed."""
    import io
    import logging
    import warnings

    import torch

    for name in ("onnx_ir", "onnxscript", "torch.onnx"):
        logging.getLogger(name).setLevel(logging.ERROR)  # hundreds of lines about constants it shares
    batch = torch.export.Dim("batch", min=1, max=4096)
    out = io.BytesIO()
    with warnings.catch_warnings():
        # torch's exporter warns about its own deprecated calls; the result is verified by value below.
        warnings.simplefilter("ignore")
        program = torch.onnx.export(
            part.eval(), tuple(inputs.values()), dynamo=True, opset_version=OPSET, verbose=False,
            input_names=list(inputs), output_names=list(outputs), dynamic_shapes=tuple({0: batch} for _ in inputs),
        )
    assert program is not None
    program.save(out)
    return out.getvalue()


def _joined(front: bytes, bank: Any, heads: bytes) -> bytes:
    """Front → trees → heads, as one graph with the heads' inputs but for the trees' answer."""
    import onnx
    from onnx import compose, helper

    from training.trees import ML_DOMAIN, ML_OPSET

    first = compose.add_prefix(onnx.load_from_string(front), "front/", rename_inputs=False, rename_outputs=False)
    last = onnx.load_from_string(heads)
    graph = helper.make_graph(
        [*first.graph.node, bank.node("tabular", "trees"), *last.graph.node], "forecaster",
        [x for x in last.graph.input if x.name != "trees"], last.graph.output,
        initializer=[*first.graph.initializer, *last.graph.initializer],
    )
    opsets = [*last.opset_import, helper.make_opsetid(ML_DOMAIN, ML_OPSET)]
    functions = list({(f.domain, f.name): f for f in (*first.functions, *last.functions)}.values())
    joined = helper.make_model(graph, ir_version=last.ir_version, opset_imports=opsets, functions=functions)
    onnx.checker.check_model(joined)
    return bytes(joined.SerializeToString())


def without_traces(graph: bytes) -> bytes:
    """The same graph without notes: torch writes a stack trace beside each node, which names the machine's folders."""
    import onnx

    model = onnx.load_from_string(graph)
    inner = model.graph
    values = (*inner.input, *inner.output, *inner.value_info, *inner.initializer)
    for noted in (model, inner, *inner.node, *values, *model.functions, *(n for f in model.functions for n in f.node)):
        noted.doc_string = ""
        del noted.metadata_props[:]
    return bytes(model.SerializeToString())


def session(folder: Path, threads: int = 1) -> Any:
    """An ONNX Runtime session of the artefact, single-threaded as in serving."""
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = threads
    return ort.InferenceSession(str(folder / "model.onnx"), options, providers=["CPUExecutionProvider"])


def forecast(running: Any, sequence: Singles, context: Singles, batch: int = 4096) -> dict[str, NDArray[np.float64]]:
    """Outputs by name over many rows: sequence (N, 64, F), context (N, 1)."""
    names = [o.name for o in running.get_outputs()]
    parts = [
        running.run(None, {"sequence": sequence[i : i + batch], "context": context[i : i + batch]})
        for i in range(0, len(sequence), batch)
    ]
    return {name: np.concatenate([part[i] for part in parts]).astype(np.float64) for i, name in enumerate(names)}


def verify(folder: Path, probe_ms: bool = True) -> dict[str, Any]:
    """Check a folder as serving does and a little more. Raises `ModelRefused` naming what does not match."""
    _check_sums(folder)
    meta = json.loads((folder / "meta.json").read_text())
    _expect("feature set", FEATURE_SET, meta["feature_set"])
    _expect("feature names", list(FORECAST_BAR), meta["features"])
    size = sum(path.stat().st_size for path in folder.iterdir() if path.is_file())
    limit = MAX_BYTES if meta.get("kind", "transformer") in NETWORKS else MAX_TREE_BYTES
    if size > limit:
        raise ModelRefused(f"expected a folder of at most {limit} bytes, found {size}")
    running = session(folder)
    _expect("inputs", ["sequence", "context"], [i.name for i in running.get_inputs()])
    _expect("outputs", meta["outputs"], [o.name for o in running.get_outputs()])
    _check_answers(running)
    report = {"folder": str(folder), "name": meta["name"], "version": meta["version"], "bytes": size,
              "feature_set": meta["feature_set"], "verified": True}
    return {**report, "p50_ms": latency_ms(running)} if probe_ms else report


def _check_sums(folder: Path) -> None:
    sums = folder / "SHA256SUMS"
    if not sums.exists():
        raise ModelRefused(f"expected SHA256SUMS in {folder}, found none; train a model or restore the folder")
    lines = [line.split("  ", 1) for line in sums.read_text().splitlines()]
    listed = {name: found for found, name in lines}
    _expect("files in SHA256SUMS", sorted(FILES), sorted(listed))
    for name, expected in listed.items():
        _expect(f"checksum of {name}", expected, _sha256(folder / name))


def _check_answers(running: Any) -> None:
    """Full rows and rows with nulls, batches of 1, 2 and 7: probabilities within [0, 1], volatilities above 0."""
    for batch in (1, 2, 7):
        sequence = np.full((batch, SEQUENCE_LENGTH, len(FORECAST_BAR)), 1e-3, dtype=np.float32)
        sequence[-1, :40] = np.nan
        sequence[-1, -1, : len(FORECAST_BAR) // 4] = np.nan
        answers = forecast(running, sequence, np.full((batch, 1), 1e-3, dtype=np.float32))
        for name, values in answers.items():
            if values.shape != (batch,) or not np.isfinite(values).all():
                raise ModelRefused(f"{name}: expected {batch} finite values, found {values}")
            if name.startswith("volatility") and not (values > 0).all():
                raise ModelRefused(f"{name}: expected values above 0, found {values}")
            if name in ("p_up", "p_flat", "spike_prob", "risk_score") and not ((values >= 0) & (values <= 1)).all():
                raise ModelRefused(f"{name}: expected values within [0, 1], found {values}")


def latency_ms(running: Any, runs: int = 300) -> float:
    """Median of one batch-1 inference, milliseconds."""
    inputs = {
        "sequence": np.full((1, SEQUENCE_LENGTH, len(FORECAST_BAR)), 1e-3, dtype=np.float32),
        "context": np.full((1, 1), 1e-3, dtype=np.float32),
    }
    times = []
    for _ in range(runs):
        start = time.perf_counter()
        running.run(None, inputs)
        times.append(time.perf_counter() - start)
    return round(1e3 * float(np.median(times)), 4)


def _expect(what: str, expected: Any, found: Any) -> None:
    if expected != found:
        raise ModelRefused(f"{what}: expected {expected}, found {found}; serve the model of this feature set")


def _sha256(path: Path) -> str:
    if not path.exists():
        raise ModelRefused(f"expected {path.name} in {path.parent}, found none; restore the folder")
    return hashlib.sha256(path.read_bytes()).hexdigest()
