"""From publishing a reading to its alert on the WebSocket, while others send at a steady rate."""

import asyncio
import http.client
import subprocess
import time

import aiohttp

from tests.harness import Agent
from tests.load.bed import Bed, settle

RULE = """rules:
  - name: triggered
    select: trigger
    agg: last
    window: 1s
    interval: reading
    when: "> 0"
    severity: critical
"""
PAUSE_S = 0.05
PATIENCE_S = 10.0


def alert(bed: Bed) -> None:
    """Each trigger is a series of its own that crosses its limit at its first reading."""
    for rate, connections, lines in ((0, 0, 0), (10_000, 4, 25), (100_000, 8, 100)):
        with bed.stack() as stack:
            rules = stack.folder / "rules.yaml"
            rules.write_text(RULE, encoding="utf-8")
            collector = stack.collector(f'[rules]\nfiles = ["{rules}"]\n')
            agent = stack.agent(collector)
            settle(2)
            seconds = max(bed.seconds, 5)
            others = None
            if rate:
                words = ["--port", agent.http, "--connections", connections, "--lines", lines, "--rate", rate]
                command = [str(bed.example("line_load")), *map(str, words), "--seconds", str(seconds + 2)]
                others = subprocess.Popen(command, stdout=subprocess.DEVNULL)
            time.sleep(1)
            count = int(seconds / PAUSE_S)
            ages = sorted(asyncio.run(_triggers(agent, collector.http, count)))
            if others is not None:
                others.wait(60)
        what = f"{rate:,} events/s beside" if rate else "nothing beside"
        at = {part: ages[min(int(len(ages) * part), len(ages) - 1)] * 1e3 for part in (0.5, 0.99)}
        bed.add("alert", f"{what}: published to alert on the WebSocket, p50 of {len(ages)}", at[0.5], "ms")
        target = 5 if rate == 100_000 else None  # noqa: PLR2004 - DESIGN's
        bed.add(
            "alert", f"{what}: published to alert on the WebSocket, p99", at[0.99], "ms", target, at_most=True
        )


async def _triggers(agent: Agent, console: int, count: int) -> list[float]:
    sent: dict[str, float] = {}
    ages: list[float] = []
    door = http.client.HTTPConnection("127.0.0.1", agent.http, timeout=30)

    async with (
        aiohttp.ClientSession() as session,
        session.ws_connect(f"http://127.0.0.1:{console}/api/v1/live") as live,
    ):
        await live.send_json({"subscribe": {"alerts": True}, "cursor": None, "max_hz": 4})

        async def listen() -> None:
            while len(ages) < count:
                message = await live.receive_json(timeout=PATIENCE_S)
                found = message.get("alert")
                if found and (begin := sent.pop(found["labels"].get("device"), None)) is not None:
                    ages.append(time.perf_counter() - begin)

        listening = asyncio.create_task(listen())
        await asyncio.sleep(0.5)
        for number in range(count):
            device = f"t{number}"
            # The clock runs from before the request: what HTTP and the fsync take is part of it.
            sent[device] = time.perf_counter()
            line = f"trigger,device={device} value=1 {time.time_ns()}"
            await asyncio.to_thread(_post, door, line)
            await asyncio.sleep(PAUSE_S)
        await listening
    return ages


def _post(door: http.client.HTTPConnection, line: str) -> None:
    door.request("POST", "/write", line.encode())
    answer = door.getresponse()
    answer.read()
    assert answer.status == 204, answer.status  # noqa: PLR2004
