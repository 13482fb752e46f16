"""A full disk, at the agent and then at the collector, under load: who can't keep it must not acknowledge it.

    just fault disk-full [--rounds N] [--seed N] [--state FILE] [--fresh] [--json]

Each round fills an agent's file system of 64 MB while the collector is away and keeps pushing; the collector's return must be
enough for everything to work again. Then the collector's own disk is full for a while: batches wait at the agent, people's
questions are answered, and it goes on by itself once there is room. Nothing is restarted. Needs root and a loop device.
"""

import base64
import random
import sys
import tempfile
import time
from collections import Counter
from contextlib import closing
from dataclasses import asdict, dataclass
from pathlib import Path

from tests.fault.disk import Disk, impossible
from tests.fault.load import Load
from tests.fault.power import SMALL
from tests.fault.rounds import balances, keep
from tests.fault.tally import MUST_BE_ZERO, Tally, options
from tests.harness import Agent, Collector, Stack, until

MIB = 1 << 20
DISK_MIB = 64
#: The collector's must hold all that waited, once there is room again.
COLLECTOR_MIB = 512
#: An event's text: as random as base64 can be, so that it takes its room.
TEXT_BYTES = 48_000
#: How long is pushed against a full disk.
PUSH_S = 10.0
#: A batch that has waited this long at the agent waits for the collector's disk.
WAITS_S = 5


@dataclass
class Report:
    """What a round came to."""

    rounds: int = 1
    acknowledged: int = 0
    refused: int = 0
    """503: come back later."""
    other_answers: int = 0
    """Anything but 204 and 503."""
    said_so: int = 0
    """The agent's status told of the full disk."""
    answered_while_full: int = 0
    """The collector's API."""
    acknowledged_and_lost: int = 0
    stored_twice: int = 0
    failures_to_start: int = 0
    died: int = 0
    stuck: int = 0
    """Something that had to happen did not."""
    books_off: int = 0

    @property
    def good(self) -> bool:
        """Whether nothing happened that must not."""
        return not any(getattr(self, name) for name in MUST_BE_ZERO) and bool(self.said_so)


class Events:
    """Large events, numbered in their text."""

    def __init__(self, agent: Agent, seed: int) -> None:
        """Begin at 0."""
        self._agent = agent
        self._noise = random.Random(seed)
        self.sent = 0
        self.acked: set[int] = set()
        self.answers: Counter[int] = Counter()

    def post(self) -> int:
        """Send one, never again; returns the status."""
        text = base64.b64encode(self._noise.randbytes(TEXT_BYTES * 3 // 4)).decode()
        number, self.sent = self.sent, self.sent + 1
        status = self._agent.write(f'{{"source":"bulk","message":"{number} {text}"}}', "/v1/events")
        self.answers[status] += 1
        if status == 204:
            self.acked.add(number)
        return status

    def stored(self, collector: Collector) -> Counter[int]:
        """Return how often each is stored."""
        found: Counter[int] = Counter()
        before: int | None = None
        while True:
            page = collector.get(
                "/api/v1/events",
                source="bulk",
                start="0",
                limit=1000,
                **({"before": before} if before else {}),
            )
            found.update(int(event["body"].partition(" ")[0]) for event in page["events"])
            before = page["next"]
            if before is None:
                return found


def agent_full(stack: Stack, folder: Path, seed: int, report: Report) -> None:
    """Fill the agent's disk with the collector away, push on, and let the collector come back."""
    collector = stack.collector(start=False)
    agent = stack.agent(collector, extra=SMALL, start=False)
    with Disk(folder / "agent-disk", DISK_MIB) as disk, closing(stack):
        disk.holds(agent.data)
        agent.start()
        load, events = Load(agent), Events(agent, seed)
        load.start()
        while events.post() == 204:
            pass
        end = time.monotonic() + PUSH_S
        while time.monotonic() < end:
            events.post()
            status = agent.status()
            report.said_so |= int(bool(status["journal"]["disk_full"] or status["spool"]["trouble"]))
        collector.start()
        until("a reading is taken again", lambda: events.post() == 204)
        _judge(load, events, collector, agent, report)


def collector_full(stack: Stack, folder: Path, seed: int, report: Report) -> None:
    """Fill the collector's disk while it takes batches, ask it things, and make room."""
    collector = stack.collector(start=False)
    with Disk(folder / "collector-disk", COLLECTOR_MIB) as disk, closing(stack):
        disk.holds(collector.folder / "data")
        collector.start()
        agent = stack.agent(collector)
        load, events = Load(agent), Events(agent, seed)
        load.start()
        assert events.post() == 204
        until("an event is stored", lambda: events.stored(collector))
        ballast = disk.fill()

        def push() -> None:
            # A fast machine would send more than the disk holds once there is room again.
            if events.sent * TEXT_BYTES < COLLECTOR_MIB * MIB // 3:
                events.post()

        def waits() -> bool:
            # What room its files still had must be used up first.
            push()
            spool = agent.status()["spool"]
            return spool["batches"] > 1 and spool["oldest_ns"] < time.time_ns() - WAITS_S * 10**9

        until("batches wait at the agent", waits)
        end = time.monotonic() + PUSH_S
        while time.monotonic() < end:
            push()
            assert collector.get("/api/v1/agents")["agents"]
            assert collector.latest("n")
            report.answered_while_full += 1
        ballast.unlink()
        _judge(load, events, collector, agent, report)


def _judge(load: Load, events: Events, collector: Collector, agent: Agent, report: Report) -> None:
    load.stop()
    report.died += sum(part.process is None or not part.process.running for part in (agent, collector))
    acknowledged = load.acknowledged + len(events.acked)
    report.acknowledged += acknowledged
    report.refused += events.answers[503]
    report.other_answers += sum(count for answer, count in events.answers.items() if answer not in {204, 503})
    report.books_off += not balances(collector, agent, acknowledged)
    stored = events.stored(collector)
    lost, twice = load.judge(collector)
    report.acknowledged_and_lost += lost + len(events.acked - stored.keys())
    report.stored_twice += twice + sum(count > 1 for count in stored.values())


def one(folder: Path, seed: int) -> Report:
    """Run both, each with an agent and a collector of its own."""
    report = Report()
    for scene in (agent_full, collector_full):
        inside = folder / scene.__name__
        inside.mkdir()
        stack = Stack(inside)
        try:
            scene(stack, inside, seed, report)
        except (AssertionError, OSError) as error:
            print(f"{scene.__name__.replace('_', ' ')}: {error}", file=sys.stderr, flush=True)
            report.stuck += 1
            stack.close()
    return report


def main() -> int:
    """Run from the command line."""
    parser = options("disk-full", __doc__)
    parser.set_defaults(rounds=1)
    given = parser.parse_args()
    if why := impossible():
        print(f"no small file system is possible here: {why}", file=sys.stderr)
        return 3
    tally = Tally(given.state, fresh=given.fresh)
    seed = int(time.time()) if given.seed is None else given.seed
    for at in range(given.rounds):
        with tempfile.TemporaryDirectory(prefix="telemetryx-full-") as name:
            report = one(Path(name), seed + at)
            if not report.good:
                keep(Path(name), "disk-full", seed + at)
        tally.add(seed + at, asdict(report))
    tally.show(as_json=given.json)
    return tally.verdict()


if __name__ == "__main__":
    raise SystemExit(main())
