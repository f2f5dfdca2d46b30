"""Bench: what a training costs, stage by stage, and a row in the graphs that come of it, beside baselines of its run.

    candlewick bench train --json                    # 500,000 minutes, the stack and its members: half an hour at most
    candlewick bench train --rows 30000 --simulated --json

The stages are those of `candlewick train --bars FILE --until NOW` up to the artefact, by the same functions and with
the same budget, in this process: its resident memory is forgotten before each stage and its peak read after it. The
bars are the data folder's newest, or a simulated market's where there is none. Beside the stages: the file read by
pandas alone, and scikit-learn's histogram boosting of one volatility on the newest rows. Beside the graphs: one that
hands on its inputs, asked in turn with them, a row at a time on one thread.
"""

from __future__ import annotations

import contextlib
import math
import os
import resource
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from feature_repo.features import FORECAST_BAR, SEQUENCE_LENGTH
from feature_repo.progress import step
from feature_repo.settings import Settings
from tests.training.made_files import bar_file
from training.bar_files import BarForm, read_bars
from training.calibration import calibrate
from training.dataset import TrainingSet, assemble, kernel_rows
from training.export import onnx_bytes, session
from training.fitting import FitConfig
from training.forecaster import Forecaster
from training.klines import KLINES, MinuteBars, simulated_klines
from training.models import fit_model, refuse_unknown
from training.stack import Stack
from training.train import until_windows

BAR_S, BAR_BYTES, BAR_ROW_MS = 1_800.0, 4_000_000_000, 0.3
WARM, ROUNDS, EACH = 200, 40, 50
IDENTITY = "identity"
STATUS, FORGET = Path("/proc/self/status"), Path("/proc/self/clear_refs")
Found = dict[str, Any]


def run(
    settings: Settings, rows: int, model: str, simulated: bool = False, config: FitConfig | None = None,
) -> Found:
    """Measure. Raises `ValueError` for a model that is not there."""
    refuse_unknown(model)
    load, stages = os.getloadavg()[0], Stages()
    with tempfile.TemporaryDirectory(prefix="candlewick-train-") as name:
        folder = Path(name)
        path, form = bars_file(settings, rows, simulated, folder)
        with stages("read"):
            bars = newest(read_bars([path], form)[0], rows)
        with stages("features"):
            known = kernel_rows(bars)
        with stages("sets"):
            table = assemble(known, until_windows(known.close_ns, int(known.close_ns[-1])))
        with stages("fit"):
            fitted = fit_model(model, table, config or FitConfig(seed=0))
        with stages("calibrate"):
            calibrate(fitted.model, table)
        with stages("export"):
            written(folder, model, onnx_bytes(fitted.model))
        others = Stages()
        beside(others, path, table)
        graphs = [model, *members(folder, fitted.model), identity(folder)]
        latency = latencies({graph: session(folder / graph) for graph in graphs}, table)
    return verdict(
        {"rows": len(bars.close_ns), "source": bars.source, "model": model, "train_rows": table.counts["train"],
         "calibration_rows": table.counts["calibration"], "stages": stages.found, "baselines": others.found,
         "latency_ms": latency, "cores": os.cpu_count(), "load_before": round(load, 2)},
    )


def verdict(found: Found) -> Found:
    """Sums, and whether the bars are met."""
    seconds = sum(stage["seconds"] for stage in found["stages"].values())
    peak = max(stage["peak_bytes"] for stage in found["stages"].values())
    slowest = max(each["p50"] for name, each in found["latency_ms"].items() if name != IDENTITY)
    return {
        **found, "seconds": round(seconds, 1), "rows_per_s": round(found["rows"] / seconds, 1), "peak_bytes": peak,
        "bar_s": BAR_S, "bar_bytes": BAR_BYTES, "bar_row_ms": BAR_ROW_MS,
        "passed": seconds <= BAR_S and peak <= BAR_BYTES and slowest <= BAR_ROW_MS,
    }


class Stages:
    """Seconds, processor seconds and peak resident memory of each stage."""

    def __init__(self) -> None:
        self.found: dict[str, dict[str, float]] = {}

    @contextmanager
    def __call__(self, name: str) -> Iterator[None]:
        step(name)
        forget_peak()
        began, cpu = time.perf_counter(), time.process_time()
        yield
        self.found[name] = {
            "seconds": round(time.perf_counter() - began, 2), "cpu_s": round(time.process_time() - cpu, 2),
            "peak_bytes": peak_bytes(),
        }


def forget_peak() -> None:
    """Let the kernel count the peak anew; where it does not, a stage shows the peak up to its end."""
    with contextlib.suppress(OSError):
        FORGET.write_text("5")


def peak_bytes() -> int:
    """Peak resident memory of this process since it was last forgotten."""
    if STATUS.exists():
        line = next(line for line in STATUS.read_text().splitlines() if line.startswith("VmHWM"))
        return int(line.split()[1]) * 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def bars_file(settings: Settings, rows: int, simulated: bool, folder: Path) -> tuple[Path, BarForm]:
    """The data folder's klines, else as many minutes of a made market."""
    if not simulated and (settings.data_dir / KLINES).exists():
        return settings.data_dir / KLINES, BarForm()
    made = newest(simulated_klines(days=math.ceil(rows / 1440), seed=1), rows)
    return bar_file(folder, made), BarForm(source="simulated")


def newest(bars: MinuteBars, rows: int) -> MinuteBars:
    return replace(bars, close_ns=bars.close_ns[-rows:], columns={k: v[-rows:] for k, v in bars.columns.items()})


def beside(others: Stages, path: Path, table: TrainingSet) -> None:
    """What is read and what one output costs without any of ours."""
    import pandas as pd
    from sklearn.ensemble import HistGradientBoostingRegressor

    with others("pandas reads the file"):
        pd.read_parquet(path)
    at = table.part("train")
    x, y = table.newest(at), np.log(table.targets["rv_15"][at])
    with others("scikit-learn boosts one output"):
        HistGradientBoostingRegressor(random_state=0).fit(x, y)


def members(folder: Path, model: Forecaster) -> list[str]:
    """A stack's members as graphs of their own."""
    if not isinstance(model, Stack):
        return []
    for name, member in model.members.items():
        written(folder, name, onnx_bytes(member))
    return list(model.members)


def identity(folder: Path) -> str:
    """A graph of the same inputs that does nothing with them."""
    from onnx import TensorProto, helper

    shapes = {"sequence": [None, SEQUENCE_LENGTH, len(FORECAST_BAR)], "context": [None, 1]}
    inputs = [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in shapes.items()]
    outputs = [helper.make_tensor_value_info(f"{name}_again", TensorProto.FLOAT, shape)
               for name, shape in shapes.items()]
    nodes = [helper.make_node("Identity", [name], [f"{name}_again"]) for name in shapes]
    graph = helper.make_model(helper.make_graph(nodes, IDENTITY, inputs, outputs), ir_version=10,
                              opset_imports=[helper.make_opsetid("", 18)])
    written(folder, IDENTITY, graph.SerializeToString())
    return IDENTITY


def written(folder: Path, name: str, graph: bytes) -> None:
    (folder / name).mkdir()
    (folder / name / "model.onnx").write_bytes(graph)


def latencies(running: Mapping[str, Any], table: TrainingSet, rounds: int = ROUNDS) -> dict[str, dict[str, float]]:
    """Milliseconds of one row, warm, every graph in turn so that all meet the same machine."""
    at = table.part("calibration")[-1:]
    inputs = {"sequence": table.sequences(at), "context": table.context[at, None]}
    took: dict[str, list[float]] = {name: [] for name in running}
    for each in running.values():
        for _ in range(WARM):
            each.run(None, inputs)
    for _ in range(rounds):
        for name, graph in running.items():
            for _ in range(EACH):
                began = time.perf_counter()
                graph.run(None, inputs)
                took[name].append(1e3 * (time.perf_counter() - began))
    found = {}
    for name, ms in took.items():
        cuts = statistics.quantiles(ms, n=100, method="inclusive")
        found[name] = {"p50": round(cuts[49], 4), "p99": round(cuts[98], 4), "rows": len(ms)}
    return found


def text(found: Found) -> str:
    """For people: a line a stage, a line a graph."""
    stages = [f"{name:<32} {each['seconds']:9.2f} s  {each['cpu_s']:9.2f} s of a processor  "
              f"{each['peak_bytes'] / 1e6:7.0f} MB at most"
              for kind in ("stages", "baselines") for name, each in found[kind].items()]
    graphs = [f"{name:<32} {each['p50']:9.4f} ms a row  {each['p99']:9.4f} ms at p99"
              for name, each in found["latency_ms"].items()]
    head = (f"{found['model']} on {found['rows']:,} {found['source']} minutes: {found['seconds']:,.0f} s, "
            f"{found['rows_per_s']:,.0f} rows/s, {found['peak_bytes'] / 1e6:,.0f} MB at most; "
            f"{'passed' if found['passed'] else 'failed'}")
    return "\n".join([head, *stages, *graphs])
