"""Makes the ONNX files that the evaluator's tests read: `python make.py`, with the collector's training dependencies.

host.onnx isn't among them: tests take the one that is shipped (models/default).
"""

from pathlib import Path

import numpy as np
from sklearn.ensemble import IsolationForest
from telemetryx.training import export

HERE = Path(__file__).resolve().parent
WIDTH = 6


def autoencoder(rng: np.random.Generator) -> bytes:
    """Return a network of 6-4-2-4-6 with invented weights."""
    sizes = [WIDTH, 4, 2, 4, WIDTH]
    layers = [(rng.normal(size=(a, b)), rng.normal(size=b)) for a, b in zip(sizes, sizes[1:], strict=False)]
    return export.autoencoder(rng.normal(size=WIDTH), rng.uniform(0.5, 2.0, WIDTH), layers)


def forest(rng: np.random.Generator) -> bytes:
    """Return an isolation forest of 20 trees."""
    fitted = IsolationForest(n_estimators=20, max_samples=64, random_state=1).fit(rng.normal(size=(500, WIDTH)))
    return export.isolation_forest(fitted, WIDTH)


def operators(rng: np.random.Generator) -> bytes:
    """Return one graph with every operator that the others don't have."""
    graph = export.Graph(width=WIDTH)
    x = graph.add(
        "Scaler", "features", domain="ai.onnx.ml", offset=[0.5] * WIDTH, scale=rng.uniform(0.5, 2.0, WIDTH).tolist()
    )
    half = graph.add("Div", x, graph.constant(2.0))
    squashed = graph.add("Sigmoid", half)
    logged = graph.add("Log", graph.add("Add", graph.add("Abs", x), graph.constant(1.0)))
    both = graph.add("Concat", squashed, logged, graph.add("Relu", graph.add("Neg", x)), axis=-1)
    square = graph.add("Reshape", both, graph.axes(0, 3, WIDTH))
    shrunk = graph.add("Clip", square, graph.constant(-2.0), graph.constant(2.0))
    parts = [
        graph.add("ReduceMean", shrunk, graph.axes(2), keepdims=0),
        graph.add("ReduceMax", shrunk, graph.axes(-1), keepdims=0),
        graph.add("ReduceMin", shrunk, graph.axes(2), keepdims=0),
        graph.add("ReduceL1", shrunk, graph.axes(2), keepdims=0),
        graph.add("ReduceL2", shrunk, graph.axes(2), keepdims=0),
        graph.add("Cast", graph.add("ArgMin", shrunk, axis=2, keepdims=0), to=1),
        graph.add("Cast", graph.add("ArgMax", shrunk, axis=2, keepdims=0), to=1),
    ]
    joined = graph.add("Concat", *parts, axis=1)
    smallest = graph.add("Min", joined, graph.constant(3.0))
    summed = graph.add("ReduceSum", smallest, graph.axes(1), keepdims=1)
    scaled = graph.add("Gemm", summed, graph.constant([[0.5]]), graph.constant([1.0]), transB=1, alpha=0.5, beta=2.0)
    return graph.finish(graph.add("Exp", graph.add("Mul", scaled, graph.constant(0.1))), "operators")


if __name__ == "__main__":
    for name, make in (("autoencoder", autoencoder), ("forest", forest), ("operators", operators)):
        (HERE / f"{name}.onnx").write_bytes(make(np.random.default_rng(3)))
