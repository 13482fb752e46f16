"""Promise P7 on every model that is shipped: the edge's score is the collector's."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from telemetryx import _native
from telemetryx.training import Columns
from telemetryx.training.check import TOLERANCE, check, operators, reference
from telemetryx.types import F64

MODELS = Path(__file__).parents[3] / "models/default"
SECOND = 1_000_000_000
SHIPPED = sorted(path.stem for path in MODELS.glob("*.onnx"))


def shipped(name: str) -> tuple[bytes, bytes]:
    """Return manifest and file."""
    return (MODELS / f"{name}.json").read_bytes(), (MODELS / f"{name}.onnx").read_bytes()


def journey(hosts: Any, fault: str | None) -> tuple[Columns, F64]:
    """A gateway for half an hour, with a fault in its last five minutes; scores as an agent ships them."""
    kind = hosts.KINDS[1]
    levels = hosts.calm(kind, 180, np.random.default_rng(21))
    if fault:
        levels = hosts.with_fault(levels, kind, fault, 150, 180)
    columns = hosts.columns([("gw-1", levels)])
    order = np.argsort(columns.times, kind="stable")
    times = columns.times[order]
    arrivals, starts = np.unique(times, return_index=True)
    replay = _native.fold_replay(
        b"{}",
        columns.names,
        columns.labels,
        columns.series[order],
        times,
        columns.values[order],
        np.append(starts, len(times)).astype(np.int64),
        arrivals,
        [("host", *shipped("host"))],
    )
    scores = [at for at, (name, _) in enumerate(replay["series"]) if name == _native.SCORE_SERIES]
    chosen = np.isin(replay["samples"]["series"], scores)
    assert chosen.sum() == len(replay["samples"]["values"]) - len(times)
    return columns, replay["samples"]["values"][chosen]


@pytest.mark.parametrize("name", SHIPPED)
def test_the_agent_gives_what_onnxruntime_gives(name: str, calm: Columns) -> None:
    """Operators, load, manifest and parity: the gate that a new version passes too."""
    manifest, onnx = shipped(name)
    _, _, _, matrix, _ = calm.features()
    assert check(manifest, onnx, matrix).rows > 4_000
    assert set(operators(onnx)) <= set(_native.OPERATORS)


def test_scores_out_of_the_fold_equal_those_recomputed_from_stored_samples(hosts: Any) -> None:
    """Bit-equal features from the same samples in another order, then onnxruntime: within 1e-5."""
    columns, edge = journey(hosts, "burst")
    shuffled = np.random.default_rng(1).permutation(len(columns.times))
    again = Columns(
        columns.names,
        columns.labels,
        columns.series[shuffled],
        columns.times[shuffled],
        columns.values[shuffled],
    )
    _, _, _, matrix, ready = again.features()
    manifest, onnx = shipped("host")
    threshold = json.loads(manifest)["threshold"]
    ours = _native.evaluate(onnx, matrix[ready]).astype(np.float64) / threshold
    assert edge.tobytes() == ours.tobytes(), "the collector's features are the edge's, to the bit"
    theirs = reference(onnx, matrix[ready]).astype(np.float64) / threshold
    assert np.max(np.abs(edge - theirs) / np.maximum(1.0, np.abs(theirs))) <= TOLERANCE


def test_a_burst_of_load_scores_above_one_within_three_cells_and_calm_never(hosts: Any) -> None:
    """Twenty-five calm minutes stay below 1, the burst rises above it within 30 s."""
    _, calm_scores = journey(hosts, None)
    assert calm_scores.max() < 1.0
    _, scores = journey(hosts, "burst")
    before = 150 - 18
    assert scores[:before].max() < 1.0
    assert scores[before : before + 3].max() > 1.0
    assert scores[before + 3 :].min() > 1.0


def test_a_manifest_that_does_not_fit_its_file_is_refused() -> None:
    """A flipped bit in the file, another threshold, another definition of features: each by name."""
    manifest, onnx = shipped("host")
    with pytest.raises(ValueError, match="SHA-256"):
        _native.verify(manifest, onnx[:-1] + bytes([onnx[-1] ^ 1]))
    for key, value in (("threshold", 0.0), ("features", "host/9"), ("inputs", []), ("format", 7)):
        other = json.dumps({**json.loads(manifest), key: value}).encode()
        with pytest.raises(ValueError, match=key):
            _native.verify(other, onnx)
