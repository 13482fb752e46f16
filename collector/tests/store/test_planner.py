"""Compaction in a process of its own gives what the thread gives, and its death costs nothing."""

import copy
import io
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from reference_agent import SECOND, T0, decoded, defined, samples
from store_batches import swapped
from telemetryx.store.sqlite.store import SqliteStore
from telemetryx.store.tables import compaction, planner, refresh, rollup
from telemetryx.store.tables.swap import Piece, Swap
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


async def test_no_large_run_is_encoded_where_batches_are_committed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither the first: what decoding it takes would stay with the collector for as long as it runs."""
    monkeypatch.setattr(planner, "HEAVY", 100)
    sizes: list[int] = []
    encode = compaction._encode

    def encoded(*given: Any) -> Any:
        swap = encode(*given)
        sizes.append(swap.samples)
        return swap

    monkeypatch.setattr(compaction, "_encode", encoded)
    store = await SqliteStore.open(tmp_path / "t.db")
    await fill(store, 1, 1)
    assert (await store.compact(everything=True)).samples == 50
    assert store._planner._process is None
    await fill(store, 2, 10)
    assert (await store.compact(everything=True)).samples == 500
    assert sizes == [50]
    await store.close()


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


HOLDS = """
import numpy as np
from pathlib import Path
from telemetryx.store.tables import planner

def resident():
    return int(Path("/proc/self/statm").read_text().split()[1]) >> 8

some = [np.ones(512) for _ in range(15_000)]
last = np.ones(512)
del some
before = resident()
planner._giving_back()()
print(before - resident())
"""


def test_the_process_gives_back_what_a_run_took() -> None:
    """Between two runs it is small: the allocator would hold 59 MB here for the sake of the one array that lies behind them."""
    done = subprocess.run([sys.executable, "-c", HOLDS], check=True, capture_output=True, text=True)
    assert int(done.stdout) > 40


def test_no_answer_is_unpickled_in_one_go_that_grows_with_the_series(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """While it is unpickled no other thread runs: a swap of many series comes in slices, rollups come as columns."""
    monkeypatch.setattr(planner, "SLICE", 7)
    late = rollup.Late([(1, 2, 3)] * 9, [(4, 5, 6)] * 8)
    pieces = [Piece(1, list(range(20)), [(1, b"x")] * 30, [(1, 2, 3)] * 7, late)] * 2
    swap = Swap(1, (1, 2), 0, [1, 2], [[1, 2]], 5, 0, plain=False, pieces=pieces)
    sent = copy.deepcopy(swap)
    pipe = io.BytesIO()
    planner._send_answer(pipe, sent)
    pipe.seek(0)
    while pipe.tell() < len(pipe.getvalue()):
        found = planner._receive(pipe)
        lists = planner._lists(found) if isinstance(found, Piece) else (found,)
        assert all(len(rows) <= 7 for rows in lists if isinstance(rows, list))
    pipe.seek(0)
    assert planner._receive_answer(pipe) == swap


async def test_recomputed_rollups_are_columns_until_they_are_written(tmp_path: Path) -> None:
    """Rows are made a transaction at a time."""
    store = await SqliteStore.open(tmp_path / "t.db")
    await fill(store, 1, 10)
    swap = await store._plan(400_000, (), everything=True)
    assert swap is not None
    await swapped(store, swap)
    work = await store.read(lambda db: refresh.plan(db, 1_000))
    assert isinstance(work.minutes[0], np.ndarray)
    assert len(work.minutes[0]) == len(work.minutes[1]) == 9
    await store.close()
