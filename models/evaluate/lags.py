"""Turns a series into rows for a model, and alarms into figures: shared by the measurements here."""

import numpy as np
from numpy.typing import NDArray
from telemetryx import _native
from telemetryx.training import export
from telemetryx.training.train import Options, fit

F32 = NDArray[np.float32]
F64 = NDArray[np.float64]


def lagged(values: F64, lags: int) -> F32:
    """Return for each point from `lags` on the last `lags` values and their first differences."""
    windows = np.lib.stride_tricks.sliding_window_view(values, lags)
    steps = np.diff(windows, axis=1)
    return np.concatenate([windows, steps], axis=1).astype(np.float32)


def distances(train: F32, rows: F32, options: Options) -> F64:
    """Fit on calm rows and return the score of all rows: the same fit, file and evaluator as the host model."""
    scale = np.std(train, axis=0) + 1e-9
    center = np.mean(train, axis=0)
    model, threshold = fit(((train - center) / scale).astype(np.float32), options)
    scaled = np.ascontiguousarray(((rows - center) / scale).astype(np.float32))
    return _native.evaluate(export.pca(model), scaled).astype(np.float64) / threshold


def runs(above: NDArray[np.bool_]) -> list[tuple[int, int]]:
    """Return the stretches where it holds, half open."""
    edges = np.diff(np.concatenate([[0], above.astype(np.int8), [0]]))
    return list(zip(np.flatnonzero(edges > 0).tolist(), np.flatnonzero(edges < 0).tolist(), strict=True))
