"""The gate before a model is published: what the agent has, and the same numbers as onnxruntime (promise P7)."""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import onnx
import onnxruntime
from numpy.typing import NDArray

from telemetryx import _native
from telemetryx.training.errors import CheckFailed

F32 = NDArray[np.float32]

#: |a - b| <= TOLERANCE * max(1, |b|), b being onnxruntime's.
TOLERANCE = 1e-5


@dataclass(frozen=True, slots=True)
class Parity:
    """How near the agent's evaluator came to onnxruntime."""

    rows: int
    worst: float
    """The largest |a - b| / max(1, |b|)."""


def operators(model: bytes) -> list[str]:
    """Return the operators that a file uses, those of another domain with it in front."""
    nodes: Iterable[onnx.NodeProto] = onnx.load_from_string(model).graph.node
    return sorted({f"{node.domain}.{node.op_type}" if node.domain else node.op_type for node in nodes})


def check_operators(model: bytes) -> None:
    """Refuse a file with an operator that the agent's evaluator doesn't have."""
    unknown = sorted(set(operators(model)) - set(_native.OPERATORS))
    if unknown:
        raise CheckFailed(f"the agent's evaluator doesn't have {', '.join(unknown)}; export without them")


def reference(model: bytes, rows: F32) -> F32:
    """Evaluate with onnxruntime, on one thread."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    (result,) = session.run(None, {session.get_inputs()[0].name: rows})
    return np.asarray(result, dtype=np.float32).reshape(-1)


def parity(model: bytes, rows: F32) -> Parity:
    """Evaluate with both engines; refuse a model whose scores differ."""
    ours = _native.evaluate(model, rows).astype(np.float64)
    theirs = reference(model, rows).astype(np.float64)
    worst = float(np.max(np.abs(ours - theirs) / np.maximum(1.0, np.abs(theirs)), initial=0.0))
    if not worst <= TOLERANCE:
        raise CheckFailed(
            f"the agent's score differs from onnxruntime's by {worst:.3g}; at most {TOLERANCE} is allowed"
        )
    return Parity(rows=len(rows), worst=worst)


def check(manifest: bytes, model: bytes, rows: F32) -> Parity:
    """Run the whole gate: operators, the agent's own load and manifest check, parity on these rows and on wild ones."""
    check_operators(model)
    try:
        _native.verify(manifest, model)
    except ValueError as error:
        raise CheckFailed(f"an agent would refuse the model: {error}") from error
    wild = np.random.default_rng(7).normal(0.0, 6.0, (512, rows.shape[1])).astype(np.float32)
    edges = np.asarray([[level] * rows.shape[1] for level in (-10.0, 0.0, 10.0)], dtype=np.float32)
    return parity(model, np.concatenate([rows, wild, edges]))
