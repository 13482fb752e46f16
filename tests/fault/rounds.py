"""Rounds of one fault under load: what every kind of sudden death of agent and collector shares.

Publishers run all the time; in each round the agent is struck at a random point, its recovery sometimes too, and in every
tenth round the collector as well. At the end what is stored is compared, number by number, with what was acknowledged.
"""

import random
import shutil
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Protocol

from tests.fault.load import Load
from tests.fault.tally import MUST_BE_ZERO, Tally, options
from tests.harness import Agent, Collector, Stack
from tests.harness.ledger import settled
from tests.harness.stack import ROOT

#: Rounds between two looks at what is stored: an interrupted run loses these at most.
STRETCH = 50
#: One start in so many is struck before it is complete.
STARTS_STRUCK = 5


class Fault(Protocol):
    """One way to die and to come back."""

    def agent(self, stack: Stack, collector: Collector) -> Agent:
        """Add an agent, started."""

    def collector(self, stack: Stack) -> Collector:
        """Add a collector, started."""

    def strike(self, part: Agent | Collector, draw: random.Random) -> None:
        """End it as the fault does; it can be started again afterwards."""


@dataclass
class Report:
    """What the rounds came to."""

    rounds: int = 0
    agent_strikes: int = 0
    struck_while_starting: int = 0
    collector_strikes: int = 0
    sent: int = 0
    acknowledged: int = 0
    acknowledged_and_lost: int = 0
    stored_twice: int = 0
    failures_to_start: int = 0
    books_off: int = 0
    """Whether the ledger's sums did not come out, or not in time."""
    completed: int = 0
    """By the QoS 2 publisher, who completes every handshake."""
    sent_to_complete: int = 0
    asked: int = 0
    """What the publishers were to send at their rates."""

    @property
    def good(self) -> bool:
        """Whether nothing happened that must not."""
        return not any(getattr(self, name, 0) for name in MUST_BE_ZERO)


def rounds(
    stack: Stack, fault: Fault, count: int, seed: int, *, collector_every: int = 10, show: bool = False
) -> Report:
    """Run the rounds and judge what is stored at the end; what does not start again ends them."""
    draw = random.Random(seed)
    report = Report()
    collector = fault.collector(stack)
    agent = fault.agent(stack, collector)
    load = Load(agent)
    load.start()
    try:
        for number in range(1, count + 1):
            # Random points of a real run are what this is about; nothing is awaited here.
            time.sleep(draw.uniform(0.2, 1.2))
            report.rounds = number
            fault.strike(agent, draw)
            report.agent_strikes += 1
            if number % collector_every == 0:
                fault.strike(collector, draw)
                report.collector_strikes += 1
            if draw.randrange(STARTS_STRUCK) == 0:
                agent.start(wait=False)
                time.sleep(draw.uniform(0.0, 0.08))
                fault.strike(agent, draw)
                report.struck_while_starting += 1
            for part in (agent, collector):
                if part.process is None or not part.process.running:
                    part.start()
            if show and number % 10 == 0:
                print(f"{number} rounds, {load.sent:,} readings sent", file=sys.stderr, flush=True)
    except AssertionError as error:
        print(f"round {report.rounds}: it does not start: {error}", file=sys.stderr, flush=True)
        report.failures_to_start += 1
    finally:
        load.stop()
    report.sent, report.asked = load.sent, load.asked
    report.completed, report.sent_to_complete = len(load.twice.acked), load.twice.sent
    report.acknowledged = load.acknowledged
    if not report.failures_to_start:
        # Both sums hold in there, whatever was struck when; how much never arrived is between the publishers and the sockets.
        report.books_off = int(not balances(collector, agent, report.acknowledged))
        report.acknowledged_and_lost, report.stored_twice = load.judge(collector)
    return report


def balances(collector: Collector, agent: Agent, acknowledged: int) -> bool:
    """Wait until all that was acknowledged is accounted for; say why when the ledger's sums don't come out."""
    try:
        settled(collector, agent, acknowledged)
    except AssertionError as error:
        print(f"the books do not balance: {error}", file=sys.stderr, flush=True)
        return False
    return True


def command(kind: str, doc: str | None, place: Callable[[Path], AbstractContextManager[Fault]]) -> int:
    """Run from the command line, stretch by stretch; `place` gives the fault in a folder of its own."""
    parser = options(kind, doc)
    given = parser.parse_args()
    if given.rounds < 1:
        parser.error(f"--rounds {given.rounds}: give at least 1")
    tally = Tally(given.state, fresh=given.fresh)
    seed = int(time.time()) if given.seed is None else given.seed
    left = given.rounds
    while left > 0:
        with tempfile.TemporaryDirectory(prefix=f"telemetryx-{kind}-") as name:
            folder = Path(name)
            with place(folder) as fault:
                stack = Stack(folder)
                try:
                    report = rounds(stack, fault, min(left, STRETCH), seed, show=not given.json)
                    if not report.good:
                        keep(folder, kind, seed)
                except BaseException:
                    keep(folder, kind, seed)
                    raise
                finally:
                    stack.close()
        tally.add(seed, asdict(report))
        if report.failures_to_start:
            break
        left -= report.rounds
        seed += 1
    tally.show(as_json=given.json)
    return tally.verdict()


def keep(folder: Path, kind: str, seed: int) -> None:
    """Keep logs and data of a run that went wrong, where they can be looked at."""
    where = ROOT / f".cache/fault/{kind}-seed-{seed}"
    shutil.rmtree(where, ignore_errors=True)
    # Links are followed: the data may be on a file system that goes with the run. Images and sockets say nothing.
    shutil.copytree(
        folder,
        where,
        ignore=shutil.ignore_patterns("*.sock", "image", "mnt"),
        ignore_dangling_symlinks=True,
        dirs_exist_ok=True,
    )
    print(f"logs and data are kept in {where}", file=sys.stderr, flush=True)
