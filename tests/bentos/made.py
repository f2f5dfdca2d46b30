"""Made inputs for serving's tests: a feature row, its sequence, and a tiny verified model folder."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper

from bentos.predictor import LATER_OUTPUT_NAMES, OUTPUT_NAMES
from feature_repo.contracts import MINUTE_NS, SECOND_NS, FeatureRow, MarketSummary
from feature_repo.features import FEATURE_NAMES, FEATURE_SET, FORECAST_BAR, SEQUENCE_LENGTH
from feature_repo.online_row import OnlineRow
from feature_repo.store import OnlineWrite

MINUTE = 1_723_161_600_000_000_000
"""2024-08-09 00:00 UTC, a whole minute."""
CONTEXT = {"realized_vol_15m_p90_30d": 0.001}
Floats = np.ndarray[Any, np.dtype[np.float64]]


def made_row(ts_event: int = MINUTE, price: float = 60_000.0, **values: float | None) -> FeatureRow:
    """A row with 0.001 in every feature but those named."""
    return FeatureRow(
        symbol="BTCUSDT", ts_event=ts_event, ts_init=ts_event + SECOND_NS // 4, source="simulated", session="made",
        created=ts_event + SECOND_NS // 4, feature_set=FEATURE_SET, price=price,
        values=dict.fromkeys(FEATURE_NAMES, 0.001) | values, reasons={},
    )


def made_sequence(row: FeatureRow, seed: int = 1) -> Floats:
    """63 made minutes, then the row."""
    sequence = np.random.default_rng(seed).normal(0.001, 1e-4, (SEQUENCE_LENGTH, len(FORECAST_BAR)))
    sequence[-1] = [np.nan if row.values[name] is None else row.values[name] for name in FORECAST_BAR]
    return sequence


def made_online(row: FeatureRow, sequence: Floats | None = None, context_at: int | None = None) -> OnlineRow:
    held = made_sequence(row) if sequence is None else sequence
    return OnlineRow(row, held, CONTEXT, row.ts_event - 10 * MINUTE_NS if context_at is None else context_at)


def made_write(row: FeatureRow) -> OnlineWrite:
    return OnlineWrite(row, made_sequence(row), {})


def made_meta(**changes: Any) -> dict[str, Any]:
    return {
        "name": "made", "version": "1", "feature_set": FEATURE_SET, "features": list(FORECAST_BAR),
        "sequence_length": SEQUENCE_LENGTH, "horizon_s": 60,
        "cost_model": {"fee_bps": 1.0, "half_spread_bps": 0.5, "slippage_bps": 0.5},
        "tier_lambda": {"age_s": [0, 60, 300], "lambda": [1.0, 0.8, 0.5]},
        "ood": {
            "features": ["return_1m"], "center": [0.0], "scale": [0.01], "lower": [-0.01], "upper": [0.01],
            "max_distance": 5.0, "max_outside": 0,
        },
        **changes,
    }


def made_artefact(folder: Path, **changes: Any) -> Path:
    """A model folder whose graph looks only at the newest row.

    p_up = sigmoid(100 r), both edges = 1e4 r bps with r = return_1m; every volatility is realized_vol_15m;
    risk = sigmoid(volatility / context − 1), unknown without a context.
    """
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "model.onnx").write_bytes(made_graph().SerializeToString())
    (folder / "meta.json").write_text(json.dumps(made_meta(**changes)))
    (folder / "MODEL_CARD.md").write_text("# made\n")
    return sign(folder)


def sign(folder: Path) -> Path:
    """Write SHA256SUMS over what is there."""
    files = sorted(path for path in folder.iterdir() if path.name != "SHA256SUMS")
    lines = [f"{hashlib.sha256(path.read_bytes()).hexdigest()}  {path.name}\n" for path in files]
    (folder / "SHA256SUMS").write_text("".join(lines))
    return folder


def made_graph(answers: Sequence[str] = (*OUTPUT_NAMES, *LATER_OUTPUT_NAMES)) -> onnx.ModelProto:
    constants = {
        "zero": 0.0, "one": 1.0, "hundred": 100.0, "bps": 1e4, "flat": 0.04, "spike": 0.1, "low": 0.8, "high": 1.25,
    }
    indexes = {"last": SEQUENCE_LENGTH - 1, "r": FORECAST_BAR.index("return_1m"),
               "v": FORECAST_BAR.index("realized_vol_15m"), "first": 0}
    initializers = [helper.make_tensor(name, TensorProto.FLOAT, [], [value]) for name, value in constants.items()]
    initializers += [helper.make_tensor(f"at_{name}", TensorProto.INT64, [], [at]) for name, at in indexes.items()]

    def node(kind: str, *names: str, **attributes: Any) -> onnx.NodeProto:
        return helper.make_node(kind, list(names[:-1]), [names[-1]], **attributes)

    nodes = [
        node("Gather", "sequence", "at_last", "newest", axis=1),
        node("Gather", "newest", "at_r", "raw_r", axis=1), node("IsNaN", "raw_r", "no_r"),
        node("Where", "no_r", "zero", "raw_r", "return"),
        node("Gather", "newest", "at_v", "volatility", axis=1),
        node("Gather", "context", "at_first", "threshold", axis=1),
        node("Mul", "return", "hundred", "logit"), node("Sigmoid", "logit", "p_up"),
        node("Mul", "return", "bps", "expected_edge_bps"),
        node("Identity", "expected_edge_bps", "expected_edge_15m_bps"), node("Mul", "return", "zero", "nothing"),
        node("Add", "nothing", "flat", "p_flat"), node("Add", "nothing", "spike", "spike_prob"),
        *(node("Identity", "volatility", f"volatility_{h}m") for h in (5, 15, 60)),
        *(node("Mul", "volatility", edge, f"volatility_15m_{edge}") for edge in ("low", "high")),
        node("Div", "volatility", "threshold", "ratio"), node("Sub", "ratio", "one", "excess"),
        node("Sigmoid", "excess", "risk_score"),
    ]
    inputs = [
        helper.make_tensor_value_info("sequence", TensorProto.FLOAT, ["B", SEQUENCE_LENGTH, len(FORECAST_BAR)]),
        helper.make_tensor_value_info("context", TensorProto.FLOAT, ["B", 1]),
    ]
    outputs = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["B"]) for name in answers]
    graph = helper.make_graph(nodes, "made", inputs, outputs, initializers)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def made_summary(symbol: str = "BTCUSDT", ts_event: int = MINUTE, **fields: Any) -> MarketSummary:
    """A line of the table of markets: nothing moves in it but what is named."""
    return MarketSummary(**{
        "symbol": symbol, "ts_event": ts_event, "ts_init": ts_event + SECOND_NS // 4, "source": "simulated",
        "session": "made", "created": ts_event + SECOND_NS // 4, "price": 100.0, "average_1m": 100.0,
        "volatility_1m": 0.001, "volatility_5m": 0.001, "change_10s": 0.0, "change_1m": 0.0, "change_1h": 0.0,
        "change_24h": 0.0, "move_10s": 0.0, "moved": False, "alert_since": None, "volume_1m": 1.0,
        "quote_volume_1m": 100.0, "reasons": {}, **fields,
    })
