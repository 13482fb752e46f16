"""P7: what an agent scored at the edge is what the collector computes from the readings it stored."""

import json
import time
from pathlib import Path
from typing import Any

import numpy as np

from telemetryx import _native
from telemetryx.training.check import TOLERANCE, reference
from tests.harness import Collector, Stack
from tests.harness.recording import Recording

MODELS = Path(__file__).parents[2] / "models/default"


def raw(collector: Collector) -> list[dict[str, Any]]:
    """Return every series with its raw samples."""
    known = collector.get("/api/v1/series", agent="edge", limit=1000)["series"]
    answer = collector.get(
        "/api/v1/query_range",
        series=[one["id"] for one in known],
        start="-1d",
        end="now",
        agg="raw",
        max_points=1_000_000,
    )
    assert not answer["truncated"]
    return list(answer["series"])


def test_stored_scores_equal_those_recomputed_from_stored_readings(stack: Stack) -> None:
    """To the bit with the agent's own code, over a kill of the agent in the fault; within 1e-5 with onnxruntime."""
    collector = stack.collector()
    agent = stack.agent(collector)
    recordings = [
        Recording(calm=90, fault=15, after=15, device="gw-1"),
        Recording(calm=60, fault=30, after=30, seed=8, device="gw-2"),
    ]
    starts = [recording.start(time.time_ns()) for recording in recordings]
    for tick, lines in enumerate(
        zip(*(one.play(start) for one, start in zip(recordings, starts, strict=True)), strict=True)
    ):
        assert agent.write("\n".join(lines)) == 204
        if tick == 95:
            assert agent.process is not None
            agent.process.kill()
            agent.start()
    agent.wait_drained()

    stored = raw(collector)
    readings = [one for one in stored if one["name"] != _native.SCORE_SERIES]
    sizes = [len(one["values"]) for one in readings]
    assert sum(sizes) == sum(recording.ticks for recording in recordings) * 11
    devices, device, times, matrix, ready = _native.features(
        [one["name"] for one in readings],
        [one["labels"] for one in readings],
        np.repeat(np.arange(len(readings), dtype=np.int64), sizes),
        np.concatenate([np.asarray(one["times_ns"], dtype=np.int64) for one in readings]),
        np.concatenate([np.asarray(one["values"], dtype=np.float64) for one in readings]),
    )
    onnx = (MODELS / "host.onnx").read_bytes()
    manifest = json.loads((MODELS / "host.json").read_text())
    again = _native.evaluate(onnx, matrix).astype(np.float64) / manifest["threshold"]
    peer = reference(onnx, matrix).astype(np.float64) / manifest["threshold"]

    scores = [one for one in stored if one["name"] == _native.SCORE_SERIES]
    assert sorted(one["labels"]["device"] for one in scores) == ["gw-1", "gw-2"]
    for one in scores:
        assert (one["labels"]["model"], one["labels"]["model_version"]) == ("host", manifest["version"])
        here = (device == devices.index(("", one["labels"]["device"]))) & ready
        edge = np.asarray(one["values"], dtype=np.float64)
        # The last tick's cell, and the one before it by less than the fold's lateness, may still be open at the edge.
        assert len(edge) >= here.sum() - 2 == 100
        where = np.flatnonzero(here)[: len(edge)]
        assert one["times_ns"] == times[where].tolist()
        assert edge.tobytes() == again[where].tobytes()
        assert np.max(np.abs(edge - peer[where]) / np.maximum(1.0, np.abs(peer[where]))) <= TOLERANCE
        assert edge.max() > 1.0
        assert edge.min() < 1.0
