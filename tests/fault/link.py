"""Random faults of the link between agent and collector under load, through a proxy of our own.

    just fault link --rounds 100 [--seed N] [--state FILE] [--fresh] [--json]

Cuts, half-open links, black holes that nobody is told of (some of which forget their connections), slow and late links, and
connections whose bytes arrive after those of the next. Exit code 1 unless nothing acknowledged is lost and nothing is stored
twice.
"""

import random
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

from tests.fault.load import Load
from tests.fault.proxy import Proxy
from tests.fault.rounds import STRETCH, balances, keep
from tests.fault.tally import MUST_BE_ZERO, Tally, options
from tests.harness import Stack
from tests.harness.stack import Agent, Collector

#: Longest fault; a link that stays dead unnoticed for 20 s is given up by the agent, and one in so many does.
LONGEST_S, DEAD_S, DEAD_EVERY = 2.5, 25.0, 12


def through(stack: Stack, collector_extra: str = "") -> tuple[Collector, Agent, Proxy]:
    """Add a collector and an agent that reaches it through a proxy alone."""
    collector = stack.collector(collector_extra)
    proxy = Proxy(collector.grpc)
    agent = stack.agent(collector, start=False)
    direct = f'url = "http://127.0.0.1:{collector.grpc}"'
    config = agent.config.read_text()
    assert direct in config
    agent.config.write_text(config.replace(direct, f'url = "http://127.0.0.1:{proxy.port}"'))
    agent.start()
    return collector, agent, proxy


def _slow(proxy: Proxy, draw: random.Random) -> None:
    proxy.limit(up=draw.uniform(5e3, 1e5), down=draw.uniform(5e3, 1e5))


def _forgotten(proxy: Proxy, _draw: random.Random) -> None:
    proxy.black_hole()
    proxy.forget()


#: What can happen to a link, by name.
FAULTS: dict[str, Callable[[Proxy, random.Random], None]] = {
    "cut": lambda proxy, _: proxy.cut(),
    "reset": lambda proxy, _: proxy.reset(),
    "black_hole": lambda proxy, _: proxy.black_hole(),
    "forgotten": _forgotten,
    "acks_lost": lambda proxy, _: proxy.half_open(up=True),
    "batches_lost": lambda proxy, _: proxy.half_open(up=False),
    "slow": _slow,
    "late": lambda proxy, draw: proxy.delay(draw.uniform(0.05, 0.8)),
    "overtaken": lambda proxy, _: proxy.overtake(),
}


def rounds(stack: Stack, count: int, seed: int, *, show: bool = False) -> Counter[str]:
    """Run the rounds and judge what is stored at the end."""
    draw = random.Random(seed)
    report: Counter[str] = Counter(dict.fromkeys(("rounds", *FAULTS, *MUST_BE_ZERO), 0))
    collector, agent, proxy = through(stack)
    with proxy:
        load = Load(agent)
        load.start()
        for number in range(1, count + 1):
            time.sleep(draw.uniform(0.1, 0.8))
            fault = draw.choice(list(FAULTS))
            FAULTS[fault](proxy, draw)
            dead = draw.randrange(DEAD_EVERY) == 0
            time.sleep(DEAD_S if dead else draw.uniform(0.05, LONGEST_S))
            proxy.mend()
            proxy.limit()
            proxy.delay(0)
            report.update({"rounds": 1, fault: 1, "longer_than_the_agent_waits": int(dead)})
            if show and number % 10 == 0:
                print(f"{number} rounds, {load.sent:,} readings sent", file=sys.stderr, flush=True)
        load.stop()
        report["acknowledged"] = load.acknowledged
        report["died"] = sum(part.process is None or not part.process.running for part in (agent, collector))
        report["books_off"] = int(not balances(collector, agent, load.acknowledged))
        report["acknowledged_and_lost"], report["stored_twice"] = load.judge(collector)
        report["sessions"] = agent.status()["link"]["sessions"]
    return report


def main() -> int:
    """Run from the command line."""
    given = options("link", __doc__).parse_args()
    tally = Tally(given.state, fresh=given.fresh)
    seed = int(time.time()) if given.seed is None else given.seed
    left = given.rounds
    while left > 0:
        with tempfile.TemporaryDirectory(prefix="telemetryx-link-") as name:
            stack = Stack(Path(name))
            try:
                report = rounds(stack, min(left, STRETCH), seed, show=not given.json)
            finally:
                stack.close()
            if any(report[name] for name in MUST_BE_ZERO):
                keep(Path(name), "link", seed)
        tally.add(seed, report)
        left -= STRETCH
        seed += 1
    tally.show(as_json=given.json)
    return tally.verdict()


if __name__ == "__main__":
    raise SystemExit(main())
