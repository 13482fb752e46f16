"""A reconnect storm: a whole fleet with backlog comes back in the moment in which the collector does.

    just fault storm --agents 200 [--batches 20] [--samples 500] [--json]

Each simulated agent speaks the real gRPC protocol over a connection of its own, honours credit and the times it is told,
drains its backlog and takes a live reading every second. Prints what was stored, lost and stored twice, how long agents
waited for their turn, the slowest live reading and the collector's peak memory; exit code 1 unless lost = twice = 0.
"""

import argparse
import asyncio
import contextlib
import random
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

import grpc

from telemetryx.wire._pb2 import link_pb2 as pb
from telemetryx.wire.payload import Payload
from tests.fault.figures import show
from tests.harness import Stack
from tests.harness.reference import Link, ReferenceAgent, defined, retry_after_s, samples

SECOND = 1_000_000_000
LIVE, BACKLOG = 1, 2
READINGS = 5
"""Live readings that each agent takes at least."""


@dataclass
class Report:
    """What the storm came to."""

    agents: int
    expected: int = 0
    stored: int = 0
    lost: int = 0
    twice: int = 0
    told_to_come_back: int = 0
    slowed_down: int = 0
    broken: int = 0
    """Sessions that ended before their agent was done, without being told to wait."""
    last_greeted_s: float = 0.0
    """From the collector's return to the last agent's greeting."""
    drained_s: float = 0.0
    """From the collector's return to the last batch's acknowledgement."""
    slowest_live_s: float = 0.0
    """A live reading of a connected agent, from taken to acknowledged."""
    median_live_s: float = 0.0
    peak_memory_bytes: int = 0


class Simulated(ReferenceAgent):
    """An agent that notes when what it cut was acknowledged."""

    cut_at: dict[tuple[bytes, int], float]
    waits: list[float]
    value: int = 0

    def take(self, count: int, lane: int) -> pb.Batch:
        """Cut a batch of so many readings, numbered over all batches."""
        first = self.value + 1
        self.value += count
        now = time.time_ns() - (0 if lane == LIVE else 3_600 * SECOND)
        rows = [(now + number, float(number)) for number in range(first, first + count)]
        frame = self.cut(Payload(samples({1: rows})), defined("storm", agent=self.name), lane=lane)
        if lane == LIVE:
            self.cut_at[frame.epoch, frame.seq] = time.monotonic()
        return frame

    def settle(self, holdings: Sequence[pb.Holdings]) -> int:
        """Note the time of each live batch that is let go."""
        done = super().settle(holdings)
        now = time.monotonic()
        for key in [key for key in self.cut_at if key not in self.unacked]:
            self.waits.append(now - self.cut_at.pop(key))
        return done


@dataclass
class Fleet:
    """The agents, and what they met."""

    port: int
    agents: list[Simulated] = field(default_factory=list)
    returned: float = 0.0
    told: int = 0
    slowed: int = 0
    broken: list[str] = field(default_factory=list)
    last_greeted: float = 0.0

    async def visit(self, agent: Simulated, readings: int) -> None:
        """Connect as often as it takes until nothing is left to send, with at least so many live readings."""
        left = readings
        while left or agent.unacked:
            try:
                async with asyncio.timeout(60), agent.session(self.port) as link:
                    self.last_greeted = max(self.last_greeted, time.monotonic())
                    left = await self._exchange(agent, link, left)
                    pause = self._after(link)
            except (grpc.aio.AioRpcError, AssertionError, TimeoutError) as error:
                told = retry_after_s(error) if isinstance(error, grpc.aio.AioRpcError) else None
                if told is not None:
                    self.told += 1
                    # As agents do: never earlier, a little later, so that a fleet doesn't march in step.
                    pause = told * random.uniform(1.0, 1.1)
                else:
                    pause = random.uniform(0.1, 0.5)
            await asyncio.sleep(pause)

    def _after(self, link: Link) -> float:
        """Note how a session ended, and return the seconds until the next."""
        if link.slow_down is not None:
            self.slowed += 1
            return link.slow_down.after_ms / 1000
        if link.ended is not None:
            self.broken.append(f"{link.ended.code()} {link.ended.details()}")
            return retry_after_s(link.ended) or 0.1
        return 0.0

    async def _exchange(self, agent: Simulated, link: Link, left: int) -> int:
        """Drain the backlog and take live readings beside it; return how many readings are still to be taken."""
        # Whatever it has by now, live readings of a session that broke among them.
        backlog = asyncio.create_task(self._drain(link, list(agent.unacked.values())))
        try:
            while not link.over and (left or agent.unacked):
                if left:
                    await link.send_within_credit(agent.take(1, LIVE))
                    left -= 1
                with contextlib.suppress(TimeoutError):
                    await link.until(lambda: link.over or not (left or agent.unacked), 1.0)  # noqa: B023 - awaited here
        finally:
            backlog.cancel()
            await asyncio.gather(backlog, return_exceptions=True)
        return left

    async def _drain(self, link: Link, batches: Sequence[pb.Batch]) -> None:
        reserve = link.credit // 4
        for batch in batches:
            if not await link.send_within_credit(batch, reserve):
                return


async def run(stack: Stack, agents: int, batches: int, readings_each: int) -> Report:
    """Make the storm and judge what is stored."""
    collector = stack.collector()
    report = Report(agents)
    fleet = Fleet(collector.grpc)
    for number in range(agents):
        agent = Simulated(f"storm-{number:04}")
        agent.cut_at, agent.waits = {}, []
        fleet.agents.append(agent)
    await asyncio.gather(*(fleet.visit(agent, 1) for agent in fleet.agents))
    assert collector.process is not None
    collector.process.kill()

    for agent in fleet.agents:
        agent.waits.clear()
        for _ in range(batches):
            agent.take(readings_each, BACKLOG)
    fleet.told = fleet.slowed = 0
    fleet.broken.clear()
    visits = [asyncio.create_task(fleet.visit(agent, READINGS)) for agent in fleet.agents]
    await asyncio.to_thread(collector.start)
    fleet.returned = time.monotonic()
    await asyncio.gather(*visits)
    report.drained_s = time.monotonic() - fleet.returned
    report.last_greeted_s = fleet.last_greeted - fleet.returned
    report.told_to_come_back, report.slowed_down, report.broken = fleet.told, fleet.slowed, len(fleet.broken)
    for reason, count in Counter(fleet.broken).most_common(3):
        print(f"{count} sessions ended with {reason}", file=sys.stderr)
    waits = sorted(wait for agent in fleet.agents for wait in agent.waits)
    report.slowest_live_s, report.median_live_s = waits[-1], waits[len(waits) // 2]
    report.peak_memory_bytes = collector.process.peak_memory

    for agent in fleet.agents:
        found = await asyncio.to_thread(collector.values, f'storm{{agent="{agent.name}"}}', "-2h")
        counted = Counter(found[0]) if found else Counter()
        report.expected += agent.value
        report.stored += sum(counted.values())
        report.lost += len({float(number) for number in range(1, agent.value + 1)} - set(counted))
        report.twice += sum(count - 1 for count in counted.values())
    return report


def main() -> int:
    """Run from the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--agents", type=int, default=200)
    parser.add_argument("--batches", type=int, default=20, help="in each agent's backlog")
    parser.add_argument("--samples", type=int, default=500, help="in each of them")
    parser.add_argument("--json", action="store_true", help="print the report as JSON")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="telemetryx-storm-") as folder:
        stack = Stack(Path(folder))
        try:
            report = asyncio.run(run(stack, options.agents, options.batches, options.samples))
        finally:
            stack.close()
    show(asdict(report), as_json=options.json)
    return 1 if report.lost or report.twice else 0


if __name__ == "__main__":
    raise SystemExit(main())
