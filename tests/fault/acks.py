"""Lost acknowledgements: every one that the collector sends never reaches the agent, which sends the same batches again.

    just fault acks --count 10000 [--json]

A simulated agent speaks the real gRPC protocol. It sends a few batches and breaks the session off: half of the time once
their acknowledgements are on its own machine, unread, half of the time at once. In the next session it sends the same
batches under the same keys, loses those acknowledgements too, and goes on with new batches. Prints what was stored, lost
and stored twice; exit code 1 unless lost = twice = 0.
"""

import argparse
import asyncio
import random
import tempfile
import time
from collections import Counter
from dataclasses import asdict, dataclass
from pathlib import Path

import grpc

from telemetryx.wire._pb2 import link_pb2 as pb
from telemetryx.wire.payload import Payload
from tests.fault.figures import show
from tests.harness import Stack
from tests.harness.reference import ReferenceAgent, defined, retry_after_s, samples

SECOND = 1_000_000_000
EACH = 25
"""Batches of one session."""
READINGS = 4
"""Of one batch."""


@dataclass
class Report:
    """What became of it."""

    batches: int = 0
    sent: int = 0
    """Batches, each time that one was sent."""
    sessions: int = 0
    lost_acks: int = 0
    """Batches that the collector had acknowledged when the session was broken off, each time."""
    expected: int = 0
    stored: int = 0
    lost: int = 0
    twice: int = 0


class Deaf(ReferenceAgent):
    """An agent that lets go of nothing: what it is told never reaches its spool."""

    def settle(self, holdings: list[pb.Holdings]) -> int:  # type: ignore[override]
        """Count what it would have let go, and keep it."""
        kept = dict(self.unacked)
        told = super().settle(holdings)
        self.unacked = kept
        return told


def acked(agent: Deaf) -> set[tuple[bytes, int]]:
    """Return the batches that an Ack among what was received names."""
    found = set()
    for message in agent.received:
        for held in message.ack.holdings:
            ranges = [(1, held.upto), *((part.first, part.last) for part in held.ranges)]
            found |= {
                (held.epoch, seq)
                for epoch, seq in agent.unacked
                if epoch == held.epoch and any(first <= seq <= last for first, last in ranges)
            }
    return found


async def session(agent: Deaf, port: int, report: Report, *, wait: bool) -> None:
    """Send everything in one session, and break it off."""
    while True:
        agent.received.clear()
        try:
            async with agent.session(port) as link:
                report.sessions += 1
                await link.send(*agent.unacked.values())
                report.sent += len(agent.unacked)
                if wait:
                    await link.until(lambda: link.over or len(acked(agent)) == len(agent.unacked))
                told = len(acked(agent))
                report.lost_acks += told
                link.vanish()
        except (grpc.aio.AioRpcError, asyncio.InvalidStateError) as error:
            # It is not our turn yet, or no more.
            again = retry_after_s(error) if isinstance(error, grpc.aio.AioRpcError) else None
            await asyncio.sleep(again or 0.1)
        else:
            if not wait or told == len(agent.unacked):
                return


async def run(stack: Stack, count: int, seed: int) -> Report:
    """Lose so many acknowledgements, then compare the store with what was sent."""
    draw, report = random.Random(seed), Report()
    collector = stack.collector()
    agent = Deaf("deaf")
    begin = time.time_ns() - 3_600 * SECOND
    while report.lost_acks < count:
        for _ in range(EACH):
            rows = [(begin + n, float(n)) for n in range(report.expected + 1, report.expected + READINGS + 1)]
            agent.cut(Payload(samples({1: rows})), defined("deaf"))
            report.expected += READINGS
            report.batches += 1
        for _ in range(draw.choice((1, 2, 3))):
            await session(agent, collector.grpc, report, wait=draw.random() < 0.5)
        await session(agent, collector.grpc, report, wait=True)
        # It believes by now that they were never stored; what an agent with a full disk would drop, is dropped here.
        agent.unacked.clear()
    found = await asyncio.to_thread(collector.values, "deaf", "-2h")
    counted = Counter(found[0])
    report.stored = sum(counted.values())
    report.lost = len({float(number) for number in range(1, report.expected + 1)} - set(counted))
    report.twice = sum(number - 1 for number in counted.values())
    return report


def main() -> int:
    """Run from the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--count", type=int, default=10_000, help="acknowledgements to lose")
    parser.add_argument("--seed", type=int, default=int(time.time()))
    parser.add_argument("--json", action="store_true", help="print the report as JSON")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="telemetryx-acks-") as folder:
        stack = Stack(Path(folder))
        try:
            report = asyncio.run(run(stack, options.count, options.seed))
        finally:
            stack.close()
    show({"seed": options.seed, **asdict(report)}, as_json=options.json)
    return 1 if report.lost or report.twice else 0


if __name__ == "__main__":
    raise SystemExit(main())
