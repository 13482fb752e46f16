"""What waited and what is fresh travel side by side: over a slow link, and within limits of the agent's own."""

import random
import time

import pytest

from tests.fault.proxy import Proxy
from tests.harness import Agent, Collector, Stack, until

READINGS = 60_000
PER_WRITE = 1_000
SLOW = 96 * 1024
FRESH = 4


def _backlog(agent: Agent) -> None:
    """Fill the spool with noise of an hour ago, and start anew so that none of it counts as just cut."""
    noise = random.Random(7)
    start = time.time_ns() - 3_600_000_000_000
    for first in range(0, READINGS, PER_WRITE):
        lines = (
            f"old,device=d{at % 9} v={noise.random()} {start + at * 1_000_000}\n"
            for at in range(first, first + PER_WRITE)
        )
        assert agent.write("".join(lines)) == 204
    until("the backlog is in batches", agent.in_batches)
    assert agent.process is not None
    agent.process.stop()
    agent.start()


def _fresh(agent: Agent, number: int) -> None:
    assert agent.write(f"fresh v={number}\n") == 204


def _seen(collector: Collector, number: int) -> bool:
    return any(series["latest"]["value"] == number for series in collector.latest("fresh.v"))


@pytest.mark.parametrize("slow", ["link", "limit"])
def test_fresh_readings_arrive_while_the_backlog_drains(stack: Stack, slow: str) -> None:
    """Each fresh reading is stored while older ones still wait, those get fewer meanwhile, and in the end all are there once."""
    collector = stack.collector()
    with Proxy(collector.grpc) as proxy:
        proxy.cut()
        lanes = "" if slow == "link" else f'[uplink.lanes]\nlimit = "{SLOW}B/s"\n'
        extra = f'[spool]\nbatch_bytes = "16KiB"\n{lanes}'
        agent = stack.agent(collector, extra=extra, start=False)
        agent.config.write_text(agent.config.read_text().replace(f":{collector.grpc}", f":{proxy.port}"))
        agent.start()
        _backlog(agent)
        if slow == "link":
            proxy.limit(up=SLOW)
        proxy.mend()
        until("the session is open", lambda: agent.status()["link"]["connected"])
        left = [agent.status()["link"]["backlog"]["bytes"]]
        for number in range(1, FRESH + 1):
            _fresh(agent, number)
            until("the fresh reading is stored", lambda number=number: _seen(collector, number))
            waiting = agent.status()["link"]["backlog"]
            assert waiting["batches"] > 0, "it came only after the backlog"
            left.append(waiting["bytes"])
        assert left[-1] < left[0], "the backlog stood still"
        told = agent.status()["link"]
        assert told["lanes"]["limit"] == (0 if slow == "link" else SLOW)
        assert told["transport"] == "grpc"
        agent.wait_drained()
    assert sum(len(values) for values in collector.values("old.v")) == READINGS
