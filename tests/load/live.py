"""From sending a reading to its sample on the WebSocket, while others send at a steady rate; the disk's own delay beside it."""

import asyncio
import http.client
import json
import os
import subprocess
import time

import aiohttp

from tests.harness import Agent
from tests.load.bed import Bed, settle
from tests.load.usage import Watch

RATE = 100_000
PROBES = 200
#: Longer than the socket's own pace, so that what is measured isn't that.
PAUSE_S = 0.27
PATIENCE_S = 10.0
HZ = 4
SYNCS = 200


def live(bed: Bed) -> None:
    """Age of a reading when its sample is on the WebSocket, with 100,000 events/s beside it."""
    with bed.place() as place:
        slow = _syncs(place / "probe")
        bed.add("live", f"the disk's own fdatasync of 4 KiB, p99 of {SYNCS}", slow, "ms")
    for rate in (0, RATE):
        with bed.stack() as stack:
            collector = stack.collector()
            agent = stack.agent(collector)
            assert agent.process is not None
            assert collector.process is not None
            settle(2)
            others = None
            if rate:
                words = ["--port", agent.http, "--connections", 8, "--lines", 100, "--rate", rate]
                command = [
                    str(bed.example("line_load")),
                    *map(str, words),
                    "--seconds",
                    str(int(PROBES * PAUSE_S) + 15),
                ]
                others = subprocess.Popen(command, stdout=subprocess.DEVNULL)
            time.sleep(1)
            with Watch(agent.process.pid) as watch, Watch(collector.process.pid) as other:
                ages = sorted(asyncio.run(_probes(agent, collector.http, PROBES)))
            if others is not None:
                others.wait(120)
        what = f"{rate:,} events/s beside" if rate else "nothing beside"
        at = {part: ages[min(int(len(ages) * part), len(ages) - 1)] * 1e3 for part in (0.5, 0.99)}
        target = 5 if rate else None
        name = f"{what}: sent to sample on the WebSocket"
        bed.add("live", f"{name}, p50 of {len(ages)}", at[0.5], "ms")
        bed.add("live", f"{name}, p99", at[0.99], "ms", target, at_most=True)
        bed.add("live", f"{what}: agent's memory, highest", watch.peak_mb, "MB", 64, at_most=True)
        bed.add("live", f"{what}: collector's memory, highest", other.peak_mb, "MB", 200, at_most=True)


def _syncs(path: os.PathLike[str]) -> float:
    """Return the p99 of writing and syncing a page, in ms."""
    took = []
    file = os.open(path, os.O_CREAT | os.O_WRONLY)
    try:
        for number in range(SYNCS):
            started = time.perf_counter()
            os.pwrite(file, bytes(4096), number * 4096)
            os.fdatasync(file)
            took.append((time.perf_counter() - started) * 1e3)
    finally:
        os.close(file)
    return sorted(took)[int(SYNCS * 0.99)]


async def _probes(agent: Agent, console: int, count: int) -> list[float]:
    """Send readings one by one, each with a value of its own, and time each until the WebSocket has it."""
    sent: dict[float, float] = {}
    ages: list[float] = []
    door = http.client.HTTPConnection("127.0.0.1", agent.http, timeout=30)

    async with (
        aiohttp.ClientSession() as session,
        session.ws_connect(f"http://127.0.0.1:{console}/api/v1/live") as socket,
    ):
        await socket.send_json({"subscribe": {"match": "probe"}, "cursor": None, "max_hz": HZ})

        async def listen() -> None:
            while len(ages) < count:
                message = json.loads((await socket.receive(timeout=PATIENCE_S)).data)
                now = time.perf_counter()
                for series in message.get("series", {}).values():
                    ages.extend(now - sent.pop(value) for value in series["values"] if value in sent)

        listening = asyncio.create_task(listen())
        await asyncio.sleep(0.5)
        for number in range(count):
            # The clock runs from before the request: what HTTP and the fsync take is part of it.
            sent[float(number)] = time.perf_counter()
            await asyncio.to_thread(_post, door, f"probe,device=p value={number} {time.time_ns()}")
            await asyncio.sleep(PAUSE_S)
        await listening
    return ages


def _post(door: http.client.HTTPConnection, line: str) -> None:
    door.request("POST", "/write", line.encode())
    answer = door.getresponse()
    answer.read()
    assert answer.status == 204, answer.status  # noqa: PLR2004
