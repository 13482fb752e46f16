"""ONNX files by hand: a few nodes each, from the closed list of operators that the agent's evaluator has.

Converters would write hundreds of nodes (isolation forest), operators that no edge engine has, or shapes that are
wrong (MLPRegressor of skl2onnx 1.20). The scaling is part of the graph: the agent gives raw features in.

Every graph takes `features` of [rows, width] and gives `distance` of [rows, 1]: the larger, the less usual.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx
from numpy.typing import ArrayLike, NDArray
from onnx import TensorProto, helper, numpy_helper

F32 = NDArray[np.float32]

#: Written into each file: old enough for every engine, new enough for reductions with axes as an input.
OPSET = 18
OPSET_ML = 3
IR_VERSION = 9


@dataclass(slots=True)
class Graph:
    """Nodes and weights as they are added; each call names its result."""

    width: int
    nodes: list[onnx.NodeProto] = field(default_factory=list)
    weights: list[onnx.TensorProto] = field(default_factory=list)

    def constant(self, values: ArrayLike) -> str:
        """Add weights."""
        name = f"w{len(self.weights)}"
        self.weights.append(numpy_helper.from_array(np.asarray(values, dtype=np.float32), name))
        return name

    def axes(self, *axes: int) -> str:
        """Add axes, or a shape."""
        name = f"w{len(self.weights)}"
        self.weights.append(numpy_helper.from_array(np.asarray(axes, dtype=np.int64), name))
        return name

    def add(self, operator: str, *inputs: str, domain: str = "", **attributes: Any) -> str:  # noqa: ANN401 - ONNX's own
        """Add a node and return the name of its output."""
        name = f"v{len(self.nodes)}"
        self.nodes.append(
            helper.make_node(operator, list(inputs), [name], name=name, domain=domain, **attributes)
        )
        return name

    def scaled(self, center: ArrayLike, scale: ArrayLike) -> str:
        """Add (features - center) / scale."""
        centered = self.add("Sub", "features", self.constant(center))
        return self.add("Mul", centered, self.constant(1.0 / np.asarray(scale, dtype=np.float64)))

    def square_sum(self, value: str) -> str:
        """Add the sum of squares of each row."""
        return self.add("ReduceSumSquare", value, self.axes(1), keepdims=1)

    def finish(self, result: str, producer: str) -> bytes:
        """Close the graph over a result of [rows, 1]."""
        self.nodes.append(helper.make_node("Identity", [result], ["distance"], name="distance"))
        graph = helper.make_graph(
            self.nodes,
            producer,
            [helper.make_tensor_value_info("features", TensorProto.FLOAT, ["rows", self.width])],
            [helper.make_tensor_value_info("distance", TensorProto.FLOAT, ["rows", 1])],
            self.weights,
        )
        opsets = [helper.make_opsetid("", OPSET), helper.make_opsetid("ai.onnx.ml", OPSET_ML)]
        model = helper.make_model(graph, producer_name=f"telemetryx {producer}", opset_imports=opsets)
        model.ir_version = IR_VERSION
        onnx.checker.check_model(model, full_check=True)
        return bytes(model.SerializeToString(deterministic=True))


@dataclass(frozen=True, slots=True)
class Pca:
    """Principal components of scaled features, and the limits of both of their statistics."""

    center: NDArray[np.float64]
    scale: NDArray[np.float64]
    components: NDArray[np.float64]
    """[kept, width]"""
    variances: NDArray[np.float64]
    """[kept]"""
    t2_limit: float
    q_limit: float


def pca(model: Pca) -> bytes:
    """Write sqrt(max(T² / limit, Q / limit)): far along the usual directions, or off them."""
    graph = Graph(width=model.center.size)
    scaled = graph.scaled(model.center, model.scale)
    projected = graph.add("MatMul", scaled, graph.constant(model.components.T))
    white = graph.add("Mul", projected, graph.constant(1.0 / np.sqrt(model.variances)))
    t2 = graph.add("Mul", graph.square_sum(white), graph.constant([1.0 / model.t2_limit]))
    rebuilt = graph.add("MatMul", projected, graph.constant(model.components))
    residual = graph.add("Sub", scaled, rebuilt)
    q = graph.add("Mul", graph.square_sum(residual), graph.constant([1.0 / model.q_limit]))
    return graph.finish(graph.add("Sqrt", graph.add("Max", t2, q)), "pca")


def autoencoder(
    center: ArrayLike,
    scale: ArrayLike,
    layers: Sequence[tuple[ArrayLike, ArrayLike]],
    activation: str = "Tanh",
) -> bytes:
    """Write the distance between scaled features and what a network makes of them; `layers` are (weights, bias)."""
    width = np.asarray(center).size
    graph = Graph(width=width)
    scaled = value = graph.scaled(center, scale)
    for at, (weights, bias) in enumerate(layers):
        value = graph.add("Gemm", value, graph.constant(weights), graph.constant(bias))
        if at + 1 < len(layers):
            value = graph.add(activation, value)
    residual = graph.add("Sub", scaled, value)
    return graph.finish(graph.add("Sqrt", graph.square_sum(residual)), "autoencoder")


def isolation_forest(forest: Any, width: int) -> bytes:  # noqa: ANN401 - scikit-learn has no types
    """Write a fitted IsolationForest as one tree ensemble: 2^(-mean depth / expected depth)."""
    columns: dict[str, list[Any]] = {
        name: [] for name in ("tree", "id", "feature", "value", "mode", "yes", "no")
    }
    leaves: dict[str, list[Any]] = {name: [] for name in ("tree", "id", "weight")}
    for number, (tree, used) in enumerate(zip(forest.estimators_, forest.estimators_features_, strict=True)):
        _tree(tree.tree_, number, used, columns, leaves)
    graph = Graph(width=width)
    depth = graph.add(
        "TreeEnsembleRegressor",
        "features",
        domain="ai.onnx.ml",
        n_targets=1,
        aggregate_function="SUM",
        post_transform="NONE",
        nodes_treeids=columns["tree"],
        nodes_nodeids=columns["id"],
        nodes_featureids=columns["feature"],
        nodes_values=columns["value"],
        nodes_modes=columns["mode"],
        nodes_truenodeids=columns["yes"],
        nodes_falsenodeids=columns["no"],
        target_treeids=leaves["tree"],
        target_nodeids=leaves["id"],
        target_ids=[0] * len(leaves["id"]),
        target_weights=leaves["weight"],
    )
    expected = _path_length(np.asarray([forest.max_samples_]))[0] * len(forest.estimators_)
    return graph.finish(
        graph.add("Exp", graph.add("Mul", depth, graph.constant([-np.log(2.0) / expected]))), "forest"
    )


def _tree(
    tree: Any,  # noqa: ANN401 - scikit-learn has no types
    number: int,
    used: NDArray[np.int64],
    columns: dict[str, list[Any]],
    leaves: dict[str, list[Any]],
) -> None:
    depths = np.zeros(tree.node_count, dtype=np.int64)
    for node in range(tree.node_count):
        yes, no = int(tree.children_left[node]), int(tree.children_right[node])
        leaf = yes < 0
        columns["tree"].append(number)
        columns["id"].append(node)
        columns["mode"].append("LEAF" if leaf else "BRANCH_LEQ")
        columns["feature"].append(0 if leaf else int(used[tree.feature[node]]))
        columns["value"].append(0.0 if leaf else round_down(float(tree.threshold[node])))
        columns["yes"].append(0 if leaf else yes)
        columns["no"].append(0 if leaf else no)
        if leaf:
            leaves["tree"].append(number)
            leaves["id"].append(node)
            samples = np.asarray([tree.n_node_samples[node]])
            leaves["weight"].append(float(depths[node] + _path_length(samples)[0]))
        else:
            depths[yes] = depths[no] = depths[node] + 1


def round_down(threshold: float) -> float:
    """Return the largest float32 at or below: rounded up, a float32 feature would take the other branch."""
    near = np.float32(threshold)
    return float(near if float(near) <= threshold else np.nextafter(near, np.float32(-np.inf)))


def _path_length(samples: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return the mean depth at which a search in a random tree of so many samples ends without success."""
    n = samples.astype(np.float64)
    inner = np.maximum(n - 1.0, 1.0)
    length = 2.0 * (np.log(inner) + np.euler_gamma) - 2.0 * (n - 1.0) / np.maximum(n, 1.0)
    return np.where(n > 2, length, np.where(n == 2, 1.0, 0.0))  # noqa: PLR2004 - one and two samples are special
