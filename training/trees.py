"""Trees: fitted decision trees as plain arrays, answered by ONNX nodes, wherever they were grown.

    bank = TreeBank.of_boosting([regressor, classifier])      # scikit-learn's, one output each
    bank.answer(x_NX)                                          # (N, T)

Inputs are float32 and go left where x ≤ threshold. A threshold is rounded down to float32, so that it parts float32
inputs exactly as scikit-learn's float64 one does. The same nodes are put into the exported graph: what is evaluated is
what is served, and nothing is pickled.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from feature_repo.grid import Floats, Ints

ML_DOMAIN, ML_OPSET = "ai.onnx.ml", 3
Singles = NDArray[np.float32]
Bools = NDArray[np.bool_]


@dataclass(frozen=True)
class Tree:
    """One tree of n nodes, the root first; a leaf is its own child."""

    feature: Ints
    threshold: Floats
    left: Ints
    right: Ints
    unknown_left: Bools
    """Whether NaN goes left."""
    value: Floats
    """(n, outputs); read at leaves."""
    outputs: tuple[int, ...]
    """Which outputs of the bank it adds to."""

    @property
    def leaf(self) -> Bools:
        return np.asarray(self.left == np.arange(len(self.left)))


_ROOT = np.zeros(1, dtype=np.int64)
NOTHING = Tree(_ROOT, np.zeros(1), _ROOT, _ROOT, np.ones(1, dtype=np.bool_), np.zeros((1, 1)), (0,))
"""A leaf that adds nothing: a bank has a tree."""


@dataclass(frozen=True)
class TreeBank:
    """Trees whose leaves add up, output by output."""

    trees: tuple[Tree, ...]
    base: Floats
    """(T,) what the sums start from."""
    inputs: int

    @classmethod
    def joined(cls, banks: Sequence[TreeBank]) -> TreeBank:
        """Several banks of the same inputs as one: the outputs of the first, then those of the second, …"""
        first = np.cumsum([0, *(len(bank.base) for bank in banks)])
        trees = [replace(tree, outputs=tuple(int(first[i]) + o for o in tree.outputs))
                 for i, bank in enumerate(banks) for tree in bank.trees]
        return cls(tuple(trees), np.concatenate([bank.base for bank in banks]), banks[0].inputs)

    def only(self, wanted: Sequence[bool]) -> TreeBank:
        """The same outputs, with the trees of those that are wanted."""
        kept = tuple(tree for tree in self.trees if any(wanted[output] for output in tree.outputs))
        return replace(self, trees=kept or (NOTHING,))

    def arrays(self) -> dict[str, NDArray[Any]]:
        """Itself as flat arrays, tree after tree."""
        sizes, widths = ([len(getattr(tree, name)) for tree in self.trees] for name in ("left", "outputs"))
        parts = ("feature", "threshold", "left", "right", "unknown_left")
        return {
            "base": self.base, "inputs": np.array(self.inputs), "sizes": np.array(sizes), "widths": np.array(widths),
            "outputs": np.concatenate([tree.outputs for tree in self.trees]),
            "values": np.concatenate([tree.value.ravel() for tree in self.trees]),
            **{name: np.concatenate([getattr(tree, name) for tree in self.trees]) for name in parts},
        }

    @classmethod
    def of_arrays(cls, held: Mapping[str, NDArray[Any]]) -> TreeBank:
        """What `arrays` gave."""
        sizes, widths = held["sizes"], held["widths"]
        nodes, outputs, values = np.cumsum(sizes), np.cumsum(widths), np.cumsum(sizes * widths)
        trees = []
        for i, (n, w) in enumerate(zip(sizes.tolist(), widths.tolist(), strict=True)):
            own = slice(nodes[i] - n, nodes[i])
            trees.append(Tree(
                held["feature"][own], held["threshold"][own], held["left"][own], held["right"][own],
                held["unknown_left"][own],
                held["values"][values[i] - n * w : values[i]].reshape(n, w),
                tuple(held["outputs"][outputs[i] - w : outputs[i]].tolist()),
            ))
        return cls(tuple(trees), held["base"], int(held["inputs"]))

    @classmethod
    def of_boosting(cls, members: Sequence[Any]) -> TreeBank:
        """scikit-learn's histogram boosting, one output each: a regressor's raw prediction, a classifier's logit."""
        trees = [_boosted(stage[0].nodes, t) for t, m in enumerate(members) for stage in m._predictors]  # noqa: SLF001
        trees = trees or [NOTHING]
        base = np.array([float(np.ravel(m._baseline_prediction)[0]) for m in members])  # noqa: SLF001
        return cls(tuple(trees), base, int(members[0].n_features_in_))

    @classmethod
    def of_forests(cls, forests: Sequence[tuple[Any, tuple[int, ...]]]) -> TreeBank:
        """scikit-learn's random forests of regression, each with the outputs it gives: means over its trees."""
        trees = [_grown(e.tree_, e.tree_.value[:, :, 0] / len(forest.estimators_), outputs)
                 for forest, outputs in forests for e in forest.estimators_]
        width = 1 + max(max(outputs) for _, outputs in forests)
        return cls(tuple(trees), np.zeros(width), int(forests[0][0].n_features_in_))

    @classmethod
    def of_isolation(cls, forest: Any) -> TreeBank:
        """An isolation forest's mean path length (Liu et al. 2008): short is anomalous."""
        trees = []
        for estimator in forest.estimators_:
            tree = estimator.tree_
            length = tree.compute_node_depths() - 1.0 + _average_path(tree.n_node_samples.astype(np.float64))
            trees.append(_grown(tree, length[:, None] / len(forest.estimators_), (0,)))
        return cls(tuple(trees), np.zeros(1), int(forest.n_features_in_))

    def nodes(self, source: str, answer: str) -> list[Any]:
        """The ONNX nodes that read `source` (N, X) and write `answer` (N, T)."""
        from onnx import helper

        banks = self._apart()
        if len(banks) == 1:
            return [_ensemble(self, source, answer)]
        parts = [f"{answer}_{i}" for i in range(len(banks))]
        ensembles = [_ensemble(bank, source, part) for bank, part in zip(banks, parts, strict=True)]
        return [*ensembles, helper.make_node("Concat", parts, [answer], name=f"join_{answer}", axis=1)]

    def _apart(self) -> list[TreeBank]:
        """Banks of consecutive outputs, one with trees in each: ONNX Runtime adds up one output faster than several.

        Itself where a tree is for several outputs.
        """
        owners = sorted({output for tree in self.trees for output in tree.outputs})
        if any(len(tree.outputs) > 1 for tree in self.trees):
            return [self]
        banks = []
        for first, end in pairwise([0, *owners[1:], len(self.base)]):
            own = [tree for tree in self.trees if first <= tree.outputs[0] < end]
            moved = tuple(replace(tree, outputs=(tree.outputs[0] - first,)) for tree in own)
            banks.append(TreeBank(moved, self.base[first:end], self.inputs))
        return banks

    def attributes(self) -> dict[str, Any]:
        """Itself as ONNX says trees."""
        sizes = [len(tree.left) for tree in self.trees]
        ids = np.concatenate([np.arange(n) for n in sizes])
        leaf = np.concatenate([tree.leaf for tree in self.trees])
        targets = list(self._weights())
        join = {name: np.concatenate([getattr(tree, name) for tree in self.trees])
                for name in ("feature", "threshold", "left", "right", "unknown_left")}
        return {
            "nodes_treeids": np.repeat(np.arange(len(sizes)), sizes).tolist(), "nodes_nodeids": ids.tolist(),
            "nodes_featureids": np.where(leaf, 0, join["feature"]).tolist(),
            "nodes_values": np.where(leaf, 0, _down(join["threshold"])).tolist(),
            "nodes_modes": np.where(leaf, "LEAF", "BRANCH_LEQ").tolist(),
            "nodes_truenodeids": np.where(leaf, 0, join["left"]).tolist(),
            "nodes_falsenodeids": np.where(leaf, 0, join["right"]).tolist(),
            "nodes_missing_value_tracks_true": (join["unknown_left"] & ~leaf).astype(int).tolist(),
            "target_treeids": [t for t, _, _, _ in targets], "target_nodeids": [n for _, n, _, _ in targets],
            "target_ids": [o for _, _, o, _ in targets], "target_weights": [w for _, _, _, w in targets],
        }

    def _weights(self) -> Iterator[tuple[int, int, int, float]]:
        """(tree, leaf, output, weight)."""
        for t, tree in enumerate(self.trees):
            for n in np.flatnonzero(tree.leaf).tolist():
                for i, output in enumerate(tree.outputs):
                    yield t, n, output, float(tree.value[n, i])

    @cached_property
    def _session(self) -> Any:
        import onnxruntime as ort
        from onnx import TensorProto, helper

        x = helper.make_tensor_value_info("x", TensorProto.FLOAT, [None, self.inputs])
        y = helper.make_tensor_value_info("y", TensorProto.FLOAT, [None, len(self.base)])
        model = helper.make_model(
            helper.make_graph(self.nodes("x", "y"), "trees", [x], [y]), ir_version=10,
            opset_imports=[helper.make_opsetid("", 18), helper.make_opsetid(ML_DOMAIN, ML_OPSET)],
        )
        options = ort.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        return ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])

    def answer(self, x_NX: Singles) -> Singles:
        """(N, T)."""
        [found] = self._session.run(None, {"x": np.ascontiguousarray(x_NX, dtype=np.float32)})
        return np.asarray(found)


def _ensemble(bank: TreeBank, source: str, answer: str) -> Any:
    from onnx import helper

    return helper.make_node(
        "TreeEnsembleRegressor", [source], [answer], name=f"trees_{answer}", domain=ML_DOMAIN,
        n_targets=len(bank.base), base_values=bank.base.astype(np.float32).tolist(), aggregate_function="SUM",
        **bank.attributes(),
    )


def _boosted(nodes: NDArray[Any], output: int) -> Tree:
    own, leaf = np.arange(len(nodes)), nodes["is_leaf"].astype(bool)
    return Tree(
        nodes["feature_idx"].astype(np.int64), nodes["num_threshold"].astype(np.float64),
        np.where(leaf, own, nodes["left"]).astype(np.int64), np.where(leaf, own, nodes["right"]).astype(np.int64),
        nodes["missing_go_to_left"].astype(bool), nodes["value"].astype(np.float64)[:, None], (output,),
    )


def _grown(tree: Any, value: Floats, outputs: tuple[int, ...]) -> Tree:
    own, leaf = np.arange(tree.node_count), tree.children_left < 0
    return Tree(
        tree.feature.astype(np.int64), tree.threshold.astype(np.float64),
        np.where(leaf, own, tree.children_left).astype(np.int64),
        np.where(leaf, own, tree.children_right).astype(np.int64),
        np.asarray(tree.missing_go_to_left).astype(bool), np.asarray(value, dtype=np.float64), outputs,
    )


def _down(threshold: Floats) -> Singles:
    """The largest float32 that is not above."""
    single = threshold.astype(np.float32)
    return np.where(single.astype(np.float64) > threshold, np.nextafter(single, np.float32(-np.inf)), single)


def _average_path(n: Floats) -> Floats:
    """Mean depth of an unsuccessful search in a binary tree of n: what a leaf that was not split further stands for."""
    many = np.maximum(n, 3.0)
    path = 2.0 * (np.log(many - 1.0) + np.euler_gamma) - 2.0 * (many - 1.0) / many
    return np.where(n <= 1, 0.0, np.where(n == 2, 1.0, path))
