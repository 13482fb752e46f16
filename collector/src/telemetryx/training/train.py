"""What is normal: principal components of calm feature vectors, and the distance from which on it isn't.

PCA with both of its statistics: T² says how far a vector lies along the directions in which hosts usually vary,
Q how far off them. A few hundred numbers, 0.2 µs a vector, and on real pump data better than an isolation forest.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from sklearn.decomposition import PCA

from telemetryx import _native
from telemetryx.training import export
from telemetryx.training.card import Card
from telemetryx.training.check import Parity, check
from telemetryx.training.columns import Columns
from telemetryx.training.errors import TooLittleData

F32 = NDArray[np.float32]
F64 = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Options:
    """How a model is fitted."""

    variance: float = 0.9
    """Components are kept until they hold this share of the variance."""
    quantile: float = 0.999
    """The limits of both statistics are this quantile of the calm rows."""
    margin: float = 1.25
    """The threshold is the quantile of the calm distances times this."""
    min_rows: int = 2_000
    """Fewer rows are refused: a quantile of 99.9 % of them says nothing."""
    smallest_scale: float = 0.25
    """A feature never counts in units below this; features are in spreads of the device already."""


@dataclass(frozen=True, slots=True)
class Trained:
    """A model that passed its check."""

    onnx: bytes
    manifest: bytes
    card: str
    parity: Parity
    threshold: float


def fit(rows: F32, options: Options) -> tuple[export.Pca, float]:
    """Fit calm rows; return the model and its threshold."""
    if len(rows) < options.min_rows:
        raise TooLittleData(len(rows), options.min_rows)
    values = rows.astype(np.float64)
    center = np.median(values, axis=0)
    scale = np.maximum(_spread(values - center), options.smallest_scale)
    scaled = (values - center) / scale
    # Rows far out are left away, so that some unnoticed trouble in the data doesn't become a direction of its own.
    inner = scaled[np.max(np.abs(scaled), axis=1) <= np.quantile(np.max(np.abs(scaled), axis=1), 0.995)]
    fitted = PCA(n_components=options.variance, svd_solver="full").fit(inner)
    # The graph has no second centre: fold the mean of the scaled rows into the first.
    center = center + fitted.mean_ * scale
    scaled = (values - center) / scale
    projected = scaled @ fitted.components_.T
    t2 = np.sum(projected**2 / fitted.explained_variance_, axis=1)
    q = np.sum((scaled - projected @ fitted.components_) ** 2, axis=1)
    limits = [max(float(np.quantile(statistic, options.quantile)), 1e-6) for statistic in (t2, q)]
    distance = np.sqrt(np.maximum(t2 / limits[0], q / limits[1]))
    threshold = float(np.quantile(distance, options.quantile)) * options.margin
    model = export.Pca(
        center=center,
        scale=scale,
        components=fitted.components_,
        variances=fitted.explained_variance_,
        t2_limit=limits[0],
        q_limit=limits[1],
    )
    return model, threshold


def _spread(centered: F64) -> F64:
    """Return a standard deviation that some far values don't move: from the median of absolute values."""
    return np.asarray(np.median(np.abs(centered), axis=0) * 1.4826, dtype=np.float64)


def manifest(model_id: str, version: int, onnx: bytes, threshold: float, created_ns: int) -> bytes:
    """Write the manifest of a `host/1` model."""
    content = {
        "format": 1,
        "id": model_id,
        "version": str(version),
        "features": _native.FEATURE_SET,
        "inputs": list(_native.FEATURE_NAMES),
        "grid_ns": _native.GRID_NS,
        "scaling": json.loads(_native.scaling_json()),
        "threshold": threshold,
        "sha256": hashlib.sha256(onnx).hexdigest(),
        "created_ns": created_ns,
    }
    return (json.dumps(content, indent=2) + "\n").encode()


def train(
    columns: Columns,
    *,
    model_id: str,
    version: int,
    created_ns: int,
    options: Options | None = None,
    about: Mapping[str, str] | None = None,
) -> Trained:
    """Train a host model on samples of calm hosts, and check it as it will be used."""
    options = options or Options()
    _, devices, _, matrix, ready = columns.features()
    rows = np.ascontiguousarray(matrix[ready])
    model, threshold = fit(rows, options)
    onnx = export.pca(model)
    written = manifest(model_id, version, onnx, threshold, created_ns)
    parity = check(written, onnx, rows)
    scores = _native.evaluate(onnx, rows).astype(np.float64) / threshold
    card = Card(
        model_id=model_id,
        version=version,
        created_ns=created_ns,
        devices=len(np.unique(devices[ready])),
        rows=len(rows),
        components=len(model.variances),
        variance=options.variance,
        threshold=threshold,
        above=float(np.mean(scores > 1.0)),
        parity=parity.worst,
        size=len(onnx),
        about=dict(about or {}),
    )
    return Trained(onnx=onnx, manifest=written, card=card.text(), parity=parity, threshold=threshold)
