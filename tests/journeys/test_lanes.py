"""What waited and what is fresh travel side by side: over a slow link, and within limits of the agent's own."""

import random
import subprocess
import time
from datetime import UTC, datetime, timedelta

import pytest

from tests.fault.proxy import Proxy
from tests.harness import Agent, Collector, Stack, until
from tests.harness.stack import AGENT

READINGS = 200_000
PER_WRITE = 5_000
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
        left = agent.status()["link"]["backlog"]["bytes"]
        for number in range(1, FRESH + 1):
            _fresh(agent, number)
            until("the fresh reading is stored", lambda number=number: _seen(collector, number))
            assert agent.status()["link"]["backlog"]["batches"] > 0, "it came only after the backlog"
        until("the backlog gets less", lambda: agent.status()["link"]["backlog"]["bytes"] < left)
        told = agent.status()["link"]
        assert told["lanes"]["limit"] == (0 if slow == "link" else SLOW)
        assert told["transport"] == "grpc"
        # The rest has all of the link: a backlog that outlasts the fresh ones on a busy machine too would take long.
        if slow == "link":
            proxy.limit()
        else:
            assert agent.process is not None
            agent.process.stop()
            agent.config.write_text(agent.config.read_text().replace(lanes, ""))
            agent.start()
        agent.wait_drained()
    assert sum(len(values) for values in collector.values("old.v")) == READINGS


def test_outside_its_hours_the_backlog_waits_and_says_until_when(stack: Stack) -> None:
    """Fresh readings are stored meanwhile; status, top and JSON name the hour and promise nothing; without a link they know it too."""
    collector = stack.collector()
    opens = datetime.now(UTC) + timedelta(hours=3)
    until_ = f"{opens:%H:%M} UTC"
    hours = f"{opens:%H:%M}-{opens + timedelta(hours=1):%H:%M} UTC"
    agent = stack.agent(collector, extra=f'[uplink.lanes]\nbacklog_hours = "{hours}"\n', start=False)
    config = agent.config.read_text()
    agent.config.write_text(config.replace(f":{collector.grpc}", ":1"))
    agent.start()
    _backlog(agent)
    until("all of it is known again", lambda: agent.status()["link"]["backlog"]["batches"] > 0)

    def said(command: str, *more: str) -> str:
        told = subprocess.run(
            [AGENT, command, *more, "--config", agent.config],
            capture_output=True,
            text=True,
            timeout=60,
            check=True,
        )
        return told.stdout

    def waits() -> None:
        link = agent.status()["link"]
        assert not link["lanes"]["backlog_open"]
        at = datetime.fromtimestamp(link["backlog"]["waits_until_ns"] / 1e9, UTC)
        assert f"{at:%H:%M} UTC" == until_
        assert link["backlog"]["caught_up_s"] is None
        for shown in (said("status"), said("top", "--once")):
            assert f"backlog waits until {until_}" in shown
            assert "caught up in" not in shown

    waits()
    assert agent.process is not None
    agent.process.kill()
    agent.config.write_text(config)
    agent.start()
    until("the session is open", lambda: agent.status()["link"]["connected"])
    _fresh(agent, 1)
    until("the fresh reading is stored", lambda: _seen(collector, 1))
    until("only the backlog is left", lambda: agent.status()["spool"]["in_flight"] == 0)
    until("the session knows that it waits", lambda: agent.status()["link"]["backlog"]["waits_until_ns"])
    waits()
    assert collector.values("old.v") == []
