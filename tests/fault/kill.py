"""kill -9 rounds: publishers run, agent (each round) and collector (each tenth) are killed at random points.

    python -m tests.fault.kill --rounds 300 [--seed N] [--json]

Prints what was acknowledged, lost and stored twice; exit code 1 unless both are 0. `--rounds` of several runs add up.
"""

import argparse
import json
import random
import sys
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path

from tests.fault.publishers import CompletesAll, NeverResends, judge
from tests.harness import Stack
from tests.harness.ledger import settled

RATE = 500.0


@dataclass
class Report:
    """What the rounds came to."""

    rounds: int = 0
    agent_kills: int = 0
    collector_kills: int = 0
    sent: int = 0
    acknowledged: int = 0
    acknowledged_and_lost: int = 0
    stored_twice: int = 0
    completed: int = 0
    """By the QoS 2 publisher, who completes every handshake."""
    sent_to_complete: int = 0
    asked: int = 0
    """What both publishers were to send at their rate."""


def rounds(stack: Stack, count: int, seed: int, *, collector_every: int = 10, show: bool = False) -> Report:
    """Run the rounds and judge what is stored at the end."""
    draw = random.Random(seed)
    report = Report()
    collector = stack.collector()
    agent = stack.agent(collector)
    once = NeverResends(agent.mqtt, "load/once/n", RATE)
    twice = CompletesAll(agent.mqtt, "load/all/n", RATE)
    once.start()
    twice.start()
    for number in range(1, count + 1):
        # Random points of a real run are what this is about; nothing is awaited here.
        time.sleep(draw.uniform(0.2, 1.2))
        if number % collector_every == 0:
            assert collector.process is not None
            collector.process.kill()
            report.collector_kills += 1
            time.sleep(draw.uniform(0.0, 0.5))
            collector.start()
        else:
            assert agent.process is not None
            agent.process.kill()
            report.agent_kills += 1
            agent.start()
        report.rounds = number
        if show and number % 10 == 0:
            print(f"{number} rounds, {once.sent + twice.sent:,} messages sent", file=sys.stderr, flush=True)
    once.stop()
    twice.stop()

    report.sent = once.sent + twice.sent
    report.asked = once.asked + twice.asked
    report.completed, report.sent_to_complete = len(twice.completed), twice.sent
    report.acknowledged = len(once.acked) + len(twice.completed)
    # Both sums hold in there, whatever was killed when; how much never arrived is between the publishers and the sockets.
    settled(collector, agent, report.acknowledged)
    for publisher, must in ((once, once.acked), (twice, twice.completed)):
        device = publisher.topic.split("/")[1]
        found = collector.values(f'n{{site="load",device="{device}"}}')
        lost, double = judge(found[0] if found else [], must, publisher.sent)
        report.acknowledged_and_lost += lost
        report.stored_twice += double
    return report


def main() -> int:
    """Run from the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--seed", type=int, default=int(time.time()))
    parser.add_argument("--json", action="store_true", help="print the report as JSON")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="telemetryx-kill-") as folder:
        stack = Stack(Path(folder))
        try:
            report = rounds(stack, options.rounds, options.seed, show=True)
        finally:
            stack.close()
    if options.json:
        print(json.dumps({"seed": options.seed, **asdict(report)}))
    else:
        print(f"seed {options.seed}")
        for name, value in asdict(report).items():
            print(f"{name.replace('_', ' '):24} {value:,}")
    return 1 if report.acknowledged_and_lost or report.stored_twice else 0


if __name__ == "__main__":
    raise SystemExit(main())
