"""Export: a fitted model as a folder that serving can trust: model.onnx, meta.json, SHA256SUMS, MODEL_CARD.md.

    write_artefact(graph, meta, card, folder)       # graph: of `training.agreement.agreed_graph`
    verify(folder)          # raises ModelRefused, or says what it checked

The graph takes raw float32 feature values (NaN = null) and gives final numbers; torch and ONNX Runtime agree to 1e-5
for any batch size, with nulls anywhere. A folder holds its four files and nothing else, and the graph all its weights.
"""

from __future__ import annotations

import hashlib
import json
import math
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from feature_repo.contracts import ModelRefused
from feature_repo.features import FORECAST_BAR, SEQUENCE_LENGTH
from feature_repo.models import readable
from training.artefact_meta import read_meta_bytes

Singles = NDArray[np.float32]
OPSET = 23
SUMS = "SHA256SUMS"
FILES = ("model.onnx", "meta.json", "MODEL_CARD.md")
SERVED = (
    "p_up", "p_flat", "volatility_5m", "volatility_15m", "volatility_60m", "volatility_15m_low", "volatility_15m_high",
    "spike_prob", "risk_score", "expected_edge_bps",
)
"""The outputs that serving asks for. A graph may have more; `training.forecaster.OUTPUTS` is what ours have."""
MAX_BYTES = 1_000_000
NETWORKS = ("transformer", "lstm")
MAX_TREE_BYTES = 64 * 1024 * 1024
"""A hundred trees of depth 10 take megabytes."""


def write_artefact(graph: bytes, meta: dict[str, Any], card: str, folder: Path) -> Path:
    """Write all four files; the checksums last, so that a half-written folder never verifies."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / SUMS).unlink(missing_ok=True)
    (folder / "model.onnx").write_bytes(graph)
    return describe(folder, meta, card)


def describe(folder: Path, meta: dict[str, Any], card: str) -> Path:
    """Write what is said of the graph that lies there, which stays as it was judged, and the checksums anew."""
    (folder / SUMS).unlink(missing_ok=True)
    (folder / "meta.json").write_text(json.dumps(plain(meta), indent=1, sort_keys=True, allow_nan=False) + "\n")
    (folder / "MODEL_CARD.md").write_text(card)
    sums = [f"{hashlib.sha256((folder / name).read_bytes()).hexdigest()}  {name}" for name in FILES]
    (folder / SUMS).write_text("\n".join(sums) + "\n")
    return folder


def plain(value: Any) -> Any:
    """The same with null for numbers that JSON has no word for: a slope without an error, say."""
    if isinstance(value, Mapping):
        return {name: plain(each) for name, each in value.items()}
    if isinstance(value, list | tuple):
        return [plain(each) for each in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def onnx_bytes(model: Any) -> bytes:
    """The graph with a free batch axis; a model's trees are nodes between the inputs' part and the heads' part."""
    import torch

    from training.abreast import abreast
    from training.forecaster import OUTPUTS
    from training.parts import Front, Heads, Whole
    from training.stack import Stack

    model = abreast(model) if isinstance(model, Stack) else model
    rows = torch.randn(2, SEQUENCE_LENGTH, len(FORECAST_BAR)).abs() * 1e-3
    inputs = {"sequence": rows, "context": torch.full((2, 1), 1e-3)}
    model.eval()
    if model.bank is None:
        return without_traces(lean(_exported(Whole(model), inputs, OUTPUTS)))
    front = _exported(Front(model), inputs, ["tabular"])
    heads = _exported(Heads(model), {**inputs, "trees": torch.zeros(2, len(model.bank.base))}, OUTPUTS)
    return without_traces(lean(_joined(front, model.bank, heads)))


def lean(graph: bytes) -> bytes:
    """The same graph with equal operations on equal values merged: both its parts and all members begin alike.

    Equal weights of more than 1,024 numbers are left apart (onnx_ir's limit): no two members share such.
    """
    import onnx
    import onnx_ir
    from onnx_ir.passes import common

    model = onnx_ir.from_proto(onnx.load_from_string(graph))
    once = onnx_ir.passes.Sequential(common.DeduplicateInitializersPass(), common.CommonSubexpressionEliminationPass())
    merged = onnx_ir.to_proto(once(model).model)
    onnx.checker.check_model(merged)
    return bytes(merged.SerializeToString())


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
        [*first.graph.node, *bank.nodes("tabular", "trees"), *last.graph.node], "forecaster",
        [x for x in last.graph.input if x.name != "trees"], last.graph.output,
        initializer=[*first.graph.initializer, *last.graph.initializer],
    )
    opsets = [*last.opset_import, helper.make_opsetid(ML_DOMAIN, ML_OPSET)]
    functions = list({(f.domain, f.name): f for f in (*first.functions, *last.functions)}.values())
    joined = helper.make_model(graph, ir_version=last.ir_version, opset_imports=opsets, functions=functions)
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
    return session_of((folder / "model.onnx").read_bytes(), threads)


def session_of(graph: bytes, threads: int = 1) -> Any:
    """Built from bytes, not from a path: nothing beside the graph can be read, and nothing swapped after its check."""
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = threads
    return ort.InferenceSession(graph, options, providers=["CPUExecutionProvider"])


def forecast(running: Any, sequence: Singles, context: Singles, batch: int = 4096) -> dict[str, NDArray[np.float64]]:
    """Outputs by name over many rows: sequence (N, 64, F), context (N, 1)."""
    names = [o.name for o in running.get_outputs()]
    parts = [
        running.run(None, {"sequence": sequence[i : i + batch], "context": context[i : i + batch]})
        for i in range(0, len(sequence), batch)
    ]
    return {name: np.concatenate([part[i] for part in parts]).astype(np.float64) for i, name in enumerate(names)}


def verify(folder: Path, probe_ms: bool = True) -> dict[str, Any]:
    """Check a folder as serving does and a little more, of whichever feature set.

    Raises `ModelRefused` naming what does not match: `FeaturesDiffer` of a whole folder whose features are not here.
    """
    contents = _checked_contents(folder)
    meta = read_meta_bytes(contents["meta.json"])
    features = len(readable(meta).features)
    size = sum(path.stat().st_size for path in folder.iterdir())
    limit = MAX_BYTES if meta.get("kind", "transformer") in NETWORKS else MAX_TREE_BYTES
    if size > limit:
        raise ModelRefused(f"expected a folder of at most {limit} bytes, found {size}")
    _check_whole(contents["model.onnx"])
    running = _started(contents["model.onnx"])
    _check_doors(running, meta["outputs"], features)
    _check_answers(running, features)
    report = {"folder": str(folder), "name": meta["name"], "version": meta["version"], "bytes": size,
              "feature_set": meta["feature_set"], "verified": True}
    return {**report, "p50_ms": latency_ms(running, features)} if probe_ms else report


def _checked_contents(folder: Path) -> dict[str, bytes]:
    """Every file by name, its bytes as its checksum says; a file without a checksum is a reason to refuse them all."""
    present = {path.name for path in folder.iterdir()} if folder.is_dir() else set()
    if SUMS not in present:
        raise ModelRefused(f"expected {SUMS} in {folder}, found none; train a model or restore the folder")
    if unlisted := sorted(present - {*FILES, SUMS}):
        raise ModelRefused(
            f"expected only {', '.join((*FILES, SUMS))} in {folder}, found {', '.join(unlisted)} beside them; remove "
            "what no checksum speaks for, or restore the folder",
        )
    lines = [line.split("  ", 1) for line in (folder / SUMS).read_text(errors="replace").splitlines()]
    if wrong := [line for line in lines if len(line) != 2]:
        raise ModelRefused(f"{SUMS}: expected lines `<sha256>  <file>`, found {wrong[0]}; restore the folder")
    listed = {name: digest for digest, name in lines}
    _expect(f"files in {SUMS}", sorted(FILES), sorted(listed))
    contents = {name: _read(folder / name) for name in FILES}
    for name, content in contents.items():
        _expect(f"checksum of {name}", listed[name], hashlib.sha256(content).hexdigest())
    return contents


def _read(path: Path) -> bytes:
    if not path.is_file():
        raise ModelRefused(f"expected {path.name} in {path.parent}, found none; restore the folder")
    if path.stat().st_size > MAX_TREE_BYTES:
        raise ModelRefused(f"expected {path.name} of at most {MAX_TREE_BYTES} bytes, found {path.stat().st_size}")
    return path.read_bytes()


def _check_whole(graph: bytes) -> None:
    """The graph holds its own weights: data outside it have no checksum."""
    import onnx

    try:
        model = onnx.load_model_from_string(graph)
    except Exception as error:  # protobuf's own error, or ONNX's for another format
        raise ModelRefused(f"model.onnx: expected an ONNX graph, found {type(error).__name__}: {error}") from error
    outside = [tensor.name for tensor in _tensors(model)
               if tensor.data_location == onnx.TensorProto.EXTERNAL or tensor.external_data]
    if outside:
        raise ModelRefused(f"model.onnx: expected all weights inside the graph, found {', '.join(outside[:5])} in "
                           "files of their own; export it with its weights inside")


def _tensors(message: Any) -> Iterator[Any]:
    """Every tensor anywhere in a graph: of its subgraphs, attributes and functions too."""
    from onnx import TensorProto

    for part in (part for _, value in message.ListFields() for part in _messages(value)):
        if isinstance(part, TensorProto):
            yield part
        else:
            yield from _tensors(part)


def _messages(value: Any) -> Sequence[Any]:
    """The messages that a field holds: itself, each of its list, or none."""
    if hasattr(value, "ListFields"):
        return (value,)
    listed = not isinstance(value, str | bytes | int | float) and len(value) > 0 and hasattr(value[0], "ListFields")
    return tuple(value) if listed else ()


def _started(graph: bytes) -> Any:
    try:
        return session_of(graph)
    except Exception as error:  # ONNX Runtime has a dozen classes for a graph it cannot build
        raise ModelRefused(f"model.onnx: expected a graph that runs, found {type(error).__name__}: {error}") from error


def _check_doors(running: Any, outputs: Sequence[str], features: int) -> None:
    """The graph takes raw rows of its features and answers what its meta.json says and serving asks for."""
    shapes = {"sequence": (SEQUENCE_LENGTH, features), "context": (1,)}  # after the batch axis, which is free
    found = {item.name: (item.type, tuple(item.shape[1:])) for item in running.get_inputs()}
    _expect("inputs", {name: ("tensor(float)", shape) for name, shape in shapes.items()}, found)
    _expect("outputs", list(outputs), [item.name for item in running.get_outputs()])
    if missing := [name for name in SERVED if name not in outputs]:
        raise ModelRefused(f"outputs: expected {', '.join(SERVED)}, found none of {', '.join(missing)}")


def _check_answers(running: Any, features: int) -> None:
    """Full rows and rows with nulls, batches of 1, 2 and 7: chances within [0, 1], volatilities above 0."""
    for batch in (1, 2, 7):
        sequence = np.full((batch, SEQUENCE_LENGTH, features), 1e-3, dtype=np.float32)
        sequence[-1, :40] = np.nan
        sequence[-1, -1, : features // 4] = np.nan
        try:
            answers = forecast(running, sequence, np.full((batch, 1), 1e-3, dtype=np.float32))
        except Exception as error:  # ONNX Runtime's, of a graph that was built and cannot be run
            raise ModelRefused(f"model.onnx: expected answers for a batch of {batch}, found {error}") from error
        for name, values in answers.items():
            if values.shape != (batch,) or not np.isfinite(values).all():
                raise ModelRefused(f"{name}: expected {batch} finite values, found {values}")
            if name.startswith("volatility") and not (values > 0).all():
                raise ModelRefused(f"{name}: expected values above 0, found {values}")
            if name.startswith(("p_", "spike_prob", "risk_score")) and not ((values >= 0) & (values <= 1)).all():
                raise ModelRefused(f"{name}: expected values within [0, 1], found {values}")


def latency_ms(running: Any, features: int, runs: int = 300) -> float:
    """Median of one batch-1 inference, milliseconds."""
    inputs = {
        "sequence": np.full((1, SEQUENCE_LENGTH, features), 1e-3, dtype=np.float32),
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
