"""MLflow model: an artefact's graph in the form that MLflow's own loaders read, beside the folder that ours verify.

    logged = log_model(client, run_id, folder, tags)
    mlflow.pyfunc.load_model("models:/candlewick-forecast@champion").predict({"sequence": …, "context": …})

Flavour ONNX, one thread as in serving: `MLmodel`, the same bytes of the graph, a signature of both inputs and every
output, an input example, requirements. No pickle. It lies in a place of its own, because MLflow writes notes of its own
into what it loads, and our doors refuse a folder with a file that no checksum speaks for.
"""

from __future__ import annotations

import hashlib
import json
import tempfile
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from feature_repo.features import SEQUENCE_LENGTH

GRAPH = "model.onnx"
NEEDS = ("numpy", "onnx", "onnxruntime")
"""What whoever loads it must install beside MLflow."""
CARD_LIMIT = 5000
"""Letters that MLflow's database keeps of a version's description."""
REST = "\n\nThe rest is in `MODEL_CARD.md`, among the run's artefacts under `model`.\n"


def log_model(client: Any, run_id: str, folder: Path, tags: Mapping[str, str]) -> Any:
    """Log a folder's graph as a model of a run: MLflow's `LoggedModel`, with `model_id` and `artifact_location`."""
    from mlflow.entities import LoggedModelOutput
    from mlflow.models import Model

    meta = json.loads((folder / "meta.json").read_text())
    graph = (folder / GRAPH).read_bytes()
    experiment = client.get_run(run_id).info.experiment_id
    logged = client.create_logged_model(
        experiment, name=str(meta["name"]), source_run_id=run_id, tags=dict(tags), model_type=meta.get("kind", ""),
    )
    about = Model(
        artifact_path=logged.artifact_location, run_id=run_id, model_id=logged.model_id, model_uuid=logged.model_id,
        metadata={"version": meta["version"], "feature_set": meta["feature_set"], "features": list(meta["features"]),
                  "graph_sha256": hashlib.sha256(graph).hexdigest()},
    )
    with tempfile.TemporaryDirectory(prefix="candlewick-mlflow-") as place:
        _save(Path(place) / "model", about, graph, meta)
        client.log_model_artifacts(logged.model_id, str(Path(place) / "model"))
    client.finalize_logged_model(logged.model_id, "READY")
    client.log_outputs(run_id, [LoggedModelOutput(logged.model_id, step=0)])
    return logged


def _save(into: Path, about: Any, graph: bytes, meta: Mapping[str, Any]) -> None:
    import mlflow.onnx
    import onnx

    mlflow.onnx.save_model(
        onnx.load_from_string(graph), str(into), mlflow_model=about,
        signature=_signature(len(meta["features"]), meta["outputs"]), input_example=example(len(meta["features"])),
        pip_requirements=[f"{name}=={version(name)}" for name in NEEDS],
        onnx_execution_providers=["CPUExecutionProvider"],
        onnx_session_options={"intra_op_num_threads": 1, "inter_op_num_threads": 1}, save_as_external_data=False,
    )
    # MLflow writes the graph anew; what is loaded by alias must be what the gate judged.
    (into / GRAPH).write_bytes(graph)


def _signature(features: int, outputs: Sequence[str]) -> Any:
    """Two tensors in, one number a row out of each name; the batch axis is free."""
    from mlflow.models import ModelSignature
    from mlflow.types import Schema, TensorSpec

    single = np.dtype(np.float32)
    shapes = {"sequence": (-1, SEQUENCE_LENGTH, features), "context": (-1, 1)}
    return ModelSignature(
        inputs=Schema([TensorSpec(single, shape, name) for name, shape in shapes.items()]),
        outputs=Schema([TensorSpec(single, (-1,), name) for name in outputs]),
    )


def example(features: int) -> dict[str, Any]:
    """One made row: no market data leave with a model."""
    return {"sequence": np.full((1, SEQUENCE_LENGTH, features), 1e-3, dtype=np.float32),
            "context": np.full((1, 1), 1e-3, dtype=np.float32)}


def description(card: str) -> str:
    """A card as the description of a version: whole sections, as many as the database keeps.

    >>> description("# model\\n")
    '# model\\n'
    >>> description("# m\\n\\n## Data\\n" + "x" * 4900 + "\\n\\n## Scores\\n" + "y" * 100).count("y" * 100)
    0
    """
    if len(card) <= CARD_LIMIT:
        return card
    kept = card[: CARD_LIMIT - len(REST)]
    return kept[: kept.rfind("\n\n## ")] + REST if "\n\n## " in kept else kept + REST


def dataset_input(facts: Mapping[str, Any]) -> Any:
    """A training set as an input of a run: `name`, `identity`, `rebuild` (the command) and `counts` of its rows."""
    from mlflow.entities import Dataset, DatasetInput, InputTag

    source = {"tags": {"mlflow.source.name": facts["rebuild"], "content": facts["content"]}}
    made = Dataset(
        facts["name"], facts["identity"], source_type="code", source=json.dumps(source),
        profile=json.dumps(facts["counts"]),
    )
    return DatasetInput(made, [InputTag("mlflow.data.context", "training")])
