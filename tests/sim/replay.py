"""Replays what the simulation recorded against the real ingest with the real SQLite store.

    cd agent && cargo run -p sim -- --seeds 1000 --traces 1000 --record ../.cache/sim
    python -m tests.sim.replay .cache/sim

Each trace (agent/sim/src/record.rs draws the lines) holds the sessions and frames that reached the simulated collector, in the
order of their commits, and where it was killed. Here they go to `Ingest`; a kill is a copy of the store's files as they are. Each
outcome and greeting must be the reference collector's, and so must be what is stored in the end, and the loss ledger.
"""

import argparse
import asyncio
import base64
import json
import multiprocessing
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from itertools import groupby
from pathlib import Path
from typing import Any

from telemetryx.clock import ManualClock
from telemetryx.ingest.ingest import Ingest
from telemetryx.store.sqlite.store import SqliteStore
from telemetryx.types import Cause, Conflict, Duplicate, NeedDefinitions, Outcome, Stored
from telemetryx.wire import frame as wire
from telemetryx.wire._pb2 import link_pb2 as pb

AGENT = "edge"
FOREVER = 1 << 62
# How often a long run says how far it is, in seconds.
TELL_EVERY = 15.0
# What is stored is asked, not whether a disk keeps it: in memory, where there is a folder that is.
MEMORY = Path("/dev/shm")  # noqa: S108 (folders in it have names that nobody can foresee)
NAMES: dict[type, str] = {
    Stored: "stored",
    Duplicate: "duplicate",
    Conflict: "conflict",
    NeedDefinitions: "need_definitions",
}


class Collector:
    """A store and an ingest, and their death."""

    def __init__(self, folder: Path) -> None:
        """Keep the store's files in folders below this one, one a life."""
        self._folder = folder
        self._life = 0
        self._clock = ManualClock()
        self.store: SqliteStore
        self._ingest: Ingest
        self._running: asyncio.Task[None]

    async def start(self) -> None:
        """Open the store as the life before left it."""
        path = self._path()
        path.parent.mkdir(exist_ok=True)
        self.store = await SqliteStore.open(path, clock=self._clock, readers=1)
        self._ingest = Ingest(self.store)
        self._running = asyncio.create_task(self._ingest.run())

    def _path(self) -> Path:
        return self._folder / f"{self._life}" / "store.db"

    async def kill(self) -> None:
        """Go on from a copy of the files as they are now: nobody says goodbye to it."""
        before = self._path().parent
        self._life += 1
        shutil.copytree(before, self._path().parent)
        await self.stop()
        await self.start()

    async def stop(self) -> None:
        """End properly."""
        await self._ingest.close()
        await self._running
        await self.store.close()

    async def submit(self, frames: Sequence[pb.Batch | pb.Loss]) -> list[Outcome]:
        """Submit frames at once, as sessions do; they share a commit."""
        waiting = [await self._ingest.enqueue(AGENT, frame) for frame in frames]
        return list(await asyncio.gather(*waiting))


def _frames(commit: list[list[str]]) -> Iterator[tuple[pb.Batch | pb.Loss, str]]:
    for data, outcome in commit:
        frame = pb.FromAgent.FromString(base64.b64decode(data))
        yield (frame.loss if frame.WhichOneof("frame") == "loss" else frame.batch), outcome


async def _commit(collector: Collector, commit: list[list[str]]) -> list[str]:
    """Return what came out differently."""
    different = []
    # Within a group ingest enters losses before batches; the reference takes them as they come.
    for _, run in groupby(_frames(commit), key=lambda pair: isinstance(pair[0], pb.Loss)):
        pairs = list(run)
        outcomes = await collector.submit([frame for frame, _ in pairs])
        for (frame, expected), outcome in zip(pairs, outcomes, strict=True):
            name = NAMES.get(type(outcome)) or repr(outcome)
            if name != expected:
                different.append(f"seq {frame.seq}: {name}, expected {expected}")
    return different


async def _greet(collector: Collector, line: dict[str, Any]) -> list[str]:
    """Compare holdings and conflicts, as the gateway's session asks for them."""
    hello = pb.Hello.FromString(base64.b64decode(line["greeting"]))
    expected = pb.Greeting.FromString(base64.b64decode(line["answer"]))
    epochs = list(dict.fromkeys([hello.epoch, *(held.epoch for held in hello.unacked)]))
    holdings = await collector.store.holdings(AGENT, epochs)
    known = await collector.store.checksums(AGENT, [(held.epoch, held.seq) for held in hello.unacked])
    conflicts = [
        pb.Held(epoch=held.epoch, seq=held.seq, checksum=theirs)
        for held in hello.unacked
        if (theirs := known.get((held.epoch, held.seq))) is not None and theirs != held.checksum
    ]
    found = [wire.holdings(holdings[epoch]) for epoch in epochs]
    if found != list(expected.holdings) or conflicts != list(expected.conflicts):
        return [f"a greeting differs: {found} {conflicts}, expected {expected}"]
    return []


async def _stored(store: SqliteStore, end: dict[str, Any]) -> list[str]:
    """Compare what is stored and the ledger with what the reference collector has."""
    different = []
    series = [one.id for one in await store.series(limit=100_000)]
    samples = await store.samples(series, -FOREVER, FOREVER) if series else None
    values = [] if samples is None else sorted(int(value) for value in samples.values.tolist())
    if values != end["readings"]:
        missing, more = set(end["readings"]) - set(values), len(values) - len(set(values))
        different.append(
            f"{len(values)} samples, expected {len(end['readings'])}: {len(missing)} missing, {more} twice"
        )
    windows = await store.windows(series, -FOREVER, FOREVER) if series else None
    count, total = (0, 0.0) if windows is None else (int(windows.count.sum()), float(windows.sum.sum()))
    if [count, total] != end["windows"]:
        different.append(f"windows of {count} readings that add up to {total}, expected {end['windows']}")
    ledger = {row.cause: row.count for row in await store.loss(AGENT)}
    expected = {Cause(int(code)).name.lower(): count for code, count in end["counts"].items()}
    if end["rows"]:
        expected["stored"] = end["rows"]
    if {cause: count for cause, count in ledger.items() if count} != expected:
        different.append(f"the ledger says {ledger}, expected {expected}")
    return different


async def replay(lines: Sequence[str], folder: Path) -> list[str]:
    """Replay one trace; return what came out differently."""
    collector = Collector(folder)
    await collector.start()
    different: list[str] = []
    for text in lines:
        line = json.loads(text)
        if "greeting" in line:
            different += await _greet(collector, line)
        elif "commit" in line:
            different += await _commit(collector, line["commit"])
        elif "crash" in line:
            await collector.kill()
        else:
            different += await _stored(collector.store, line["end"])
    await collector.stop()
    return different


def _replay_file(path: Path) -> list[str]:
    with tempfile.TemporaryDirectory(dir=MEMORY if MEMORY.is_dir() else None) as folder:
        return asyncio.run(replay(path.read_text().splitlines(), Path(folder)))


def main(arguments: Sequence[str]) -> int:
    """Replay all traces of a folder."""
    parser = argparse.ArgumentParser(prog="python -m tests.sim.replay", description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path, help="what `sim --record` wrote")
    parser.add_argument("--jobs", type=int, default=4, help="how many are replayed at once")
    parser.add_argument("--json", action="store_true", help="print the figures as JSON")
    options = parser.parse_args(arguments)
    started = time.monotonic()
    traces = sorted(options.folder.glob("*.jsonl"))
    failed = {}
    told = started
    with ProcessPoolExecutor(options.jobs, multiprocessing.get_context("spawn")) as processes:
        for done, (path, different) in enumerate(
            zip(traces, processes.map(_replay_file, traces), strict=True)
        ):
            if time.monotonic() - told >= TELL_EVERY:
                told = time.monotonic()
                print(f"{done} of {len(traces)} traces, {len(failed)} differ", file=sys.stderr)
            if different:
                failed[path.stem] = different
                print(f"seed {path.stem} DIFFERS", *different[:5], sep="\n  ", file=sys.stderr)
    took = time.monotonic() - started
    if options.json:
        print(json.dumps({"traces": len(traces), "seconds": took, "failed": failed}))
    else:
        print(
            f"{len(traces)} traces replayed against ingest and SQLite in {took:.1f} s, {len(failed)} differ"
        )
    return 1 if failed or not traces else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
