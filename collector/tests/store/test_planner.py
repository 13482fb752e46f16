"""Compaction in a process of its own gives what the thread gives, and its death costs nothing."""

import os
import signal
from pathlib import Path

import pytest

from reference_agent import SECOND, T0, decoded, defined, samples
from telemetryx.store.sqlite.store import SqliteStore
from telemetryx.store.tables import planner
from telemetryx.types import BatchKey
from telemetryx.wire.payload import Payload


async def fill(store: SqliteStore, first: int, batches: int) -> None:
    """Commit batches of 50 samples."""
    for seq in range(first, first + batches):
        rows = [(T0 + (seq * 50 + i) * SECOND, float(i)) for i in range(50)]
        await store.commit(
            [decoded(BatchKey("a", bytes(16), seq), Payload(samples({1: rows})), defined("x"))]
        )


async def test_large_runs_are_planned_in_a_process_that_may_die(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The process starts with the first large run, is replaced by the thread when it is killed, and ends with the store."""
    monkeypatch.setattr(planner, "HEAVY", 100)
    store = await SqliteStore.open(tmp_path / "t.db")
    await fill(store, 1, 10)
    assert (await store.compact(everything=True)).samples == 500
    process = store._planner._process
    assert process is not None
    await fill(store, 11, 10)
    report = await store.compact(everything=True)
    assert (report.samples, store._planner._process) == (500, process)
    os.kill(process.pid, signal.SIGKILL)
    await fill(store, 21, 10)
    assert (await store.compact(everything=True)).samples == 500
    while (await store.compact(everything=True)).more:
        pass
    assert await store.verify() == []
    assert len(await store.samples([1], 0, 1 << 62)) == 1500
    assert (await store.range([1], T0, T0 + 3600 * SECOND, 3600 * SECOND)).series[0].counts.sum() == 1500
    last = store._planner._process
    await store.close()
    assert last is None or last._process.poll() is not None


async def test_an_idle_store_needs_no_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """After some rounds without work the process ends."""
    monkeypatch.setattr(planner, "HEAVY", 100)
    store = await SqliteStore.open(tmp_path / "t.db")
    await fill(store, 1, 10)
    await store.compact(everything=True)
    assert store._planner._process is not None
    for _ in range(planner.IDLE_ROUNDS):
        await store.compact(everything=True)
    assert store._planner._process is None
    await store.close()
