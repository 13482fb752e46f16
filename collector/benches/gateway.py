# ruff: noqa: INP001, ASYNC110, ASYNC240 - a script, and nothing else runs while it waits
"""Measures the whole way in: gRPC, decode, commit, fsync, ack: `python benches/gateway.py DATA [--agents N] [--json FILE]`.

The collector's core (store, ingest, gateway, compaction beside it) runs in a process of its own; agents with ready-made
batches run here. Printed: samples acknowledged a second, the delay from sending a batch to its ack, the core's memory.
"""

import argparse
import asyncio
import json
import multiprocessing
import os
import sys
import tempfile
import time
from collections import deque
from multiprocessing.connection import Connection
from pathlib import Path

import grpc

import store as data
from telemetryx.clock import SystemClock
from telemetryx.gateway.server import Config, Gateway
from telemetryx.hot.memory import MemoryHot
from telemetryx.ingest.ingest import Ingest
from telemetryx.store.sqlite.store import SqliteStore
from telemetryx.wire._pb2 import link_pb2 as pb
from telemetryx.wire._pb2.link_pb2_grpc import LinkStub

SECONDS = 8.0


async def _serve(path: Path, pipe: Connection) -> None:
    store = await SqliteStore.open(path)
    ingest, hot = Ingest(store), MemoryHot(SystemClock())
    ingest.subscribe(hot.feed)
    gateway = Gateway(store, ingest, Config(port=0), rate=hot.rate)
    running = asyncio.create_task(ingest.run())

    async def compact() -> None:
        while True:
            if not (await store.compact()).more:
                await asyncio.sleep(0.5)

    compacting = asyncio.create_task(compact())
    pipe.send(await gateway.start())
    await asyncio.to_thread(pipe.recv)
    compacting.cancel()
    await asyncio.gather(compacting, return_exceptions=True)
    status = Path("/proc/self/status").read_text(encoding="ascii")
    peak = next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmHWM"))
    await gateway.close(2)
    await ingest.close()
    await running
    pipe.send((peak / 1024, (await store.usage()).batches, store.longest_ns()))
    await store.close()


def serve(path: Path, pipe: Connection) -> None:
    """Run the core until told to stop."""
    asyncio.run(_serve(path, pipe))


async def drive(port: int, name: str, batches: list[pb.Batch], pause_s: float, delays: list[float]) -> int:
    """Send batches for a while, within the credit; return how many were acknowledged."""
    async with grpc.aio.insecure_channel(f"localhost:{port}") as channel:
        call = LinkStub(channel).Session()
        epoch = os.urandom(16)
        await call.write(pb.FromAgent(hello=pb.Hello(wire=1, agent=name, epoch=epoch, next_seq=1)))
        credit = (await call.read()).greeting.credit_bytes
        sent: deque[tuple[int, float]] = deque()
        acked = 0
        eased = asyncio.Event()

        async def listen() -> None:
            nonlocal acked, credit
            while (message := await call.read()) is not grpc.aio.EOF:
                if message.WhichOneof("frame") == "ack":
                    upto, now = message.ack.holdings[0].upto, time.perf_counter()
                    while sent and sent[0][0] <= upto:
                        delays.append(now - sent.popleft()[1])
                    acked = upto
                elif message.WhichOneof("frame") == "credit":
                    credit += message.credit.bytes
                    eased.set()

        listening = asyncio.create_task(listen())
        end = time.perf_counter() + SECONDS
        for seq in range(1, 1 << 30):
            if time.perf_counter() > end:
                break
            batch = batches[(seq - 1) % len(batches)]
            size = len(batch.payload)
            while credit < size:
                eased.clear()
                await eased.wait()
            credit -= size
            frame = pb.Batch()
            frame.CopyFrom(batch)
            frame.epoch, frame.seq = epoch, seq
            frame.clock_offset_ns = (seq - 1) // len(batches) * len(batches) * 10 * 10**9
            if seq == 1:
                frame.definitions = batches[0].definitions
            sent.append((seq, time.perf_counter()))
            await call.write(pb.FromAgent(batch=frame))
            if pause_s:
                await asyncio.sleep(pause_s)
        while sent:
            await asyncio.sleep(0.005)
        await call.done_writing()
        await listening
        return acked


def once(batches: list[pb.Batch], agents: int, each: int, pause_s: float) -> tuple[float, list[float], tuple]:
    """Run core and agents; return samples a second, delays, what the core said."""
    with tempfile.TemporaryDirectory(dir=os.environ.get("BENCH_DIR")) as folder:
        ours, theirs = multiprocessing.Pipe()
        process = multiprocessing.get_context("spawn").Process(
            target=serve, args=(Path(folder) / "t.db", theirs)
        )
        process.start()
        port = ours.recv()
        delays: list[float] = []

        async def all_agents() -> int:
            each_acked = await asyncio.gather(
                *(drive(port, f"a{i}", batches, pause_s, delays) for i in range(agents))
            )
            return sum(each_acked)

        started = time.perf_counter()
        acked = asyncio.run(all_agents())
        seconds = time.perf_counter() - started
        ours.send("stop")
        said = ours.recv()
        process.join()
    return acked * each / seconds, delays, said


def main() -> None:
    """Print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path)
    parser.add_argument("--agents", type=int, default=4)
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    rows = []
    made = data.columns(given.data)
    for title, each, samples, pause in (
        ("full speed", 10, 2_000, 0.0),
        ("full speed", 100, 10_000, 0.0),
        ("100,000/s", 10, 2_000, 950 * given.agents / 100_000),
    ):
        batches = data.batches(made, samples, each)
        rate, delays, (peak, left, longest) = once(batches, given.agents, each * data.SERIES, pause)
        delays.sort()
        for name, value, unit, target in (
            ("acked", rate, "samples/s", 2_000_000 if not pause else None),
            ("send to ack p50", delays[len(delays) // 2] * 1e3, "ms", None),
            ("send to ack p99", delays[int(len(delays) * 0.99)] * 1e3, "ms", None),
            ("core memory, peak", peak, "MB", 200),
            ("batches not compacted at the end", left, "batches", None),
            ("longest upkeep write", longest["upkeep"] / 1e6, "ms", 10),
        ):
            label = f"gateway, {title}, {each * data.SERIES} a batch, {given.agents} agents: {name}"
            ratio = None if target is None else round(value / target, 3)
            rows.append({"bench": "gateway", "name": label, "value": round(value, 3), "unit": unit, "target": target, "peer": None, "peer_value": None, "ratio": ratio})  # fmt: skip
            sys.stdout.write(f"{label:84} {value:>14,.2f} {unit}\n")
    if given.json:
        given.json.write_text(json.dumps(rows, indent=1), encoding="utf-8")


if __name__ == "__main__":
    main()
