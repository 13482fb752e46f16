"""A host that believes it is 1970: its readings are kept, and stored at their real times once somebody knows the time."""

import re
import subprocess
import sys
import time

from playwright.sync_api import Page, expect

from tests.harness import Collector, Stack, until
from tests.harness.browser import picture
from tests.harness.clock import WallClock
from tests.harness.ledger import LOST, settled
from tests.harness.stack import AGENT

SECOND = 1_000_000_000
#: Three days, less what a status takes to the collector on a busy machine.
AHEAD = re.compile(r"259,(200|19\d)(\.\d)? s ahead")


def times(collector: Collector, selector: str) -> list[int]:
    """Return the times of a series, all that there are."""
    answer = collector.get(
        "/api/v1/query_range", match=selector, start="0", end="now", agg="raw", max_points=1000
    )
    return [at for series in answer["series"] for at in series["times_ns"]]


def test_readings_of_before_the_clock_was_set_are_stored_at_their_real_times(stack: Stack) -> None:
    """Nobody knows the time, then NTP sets the clock while the collector is away: all that was taken before is right."""
    collector = stack.collector(start=False)
    agent = stack.agent(collector, start=False)
    clock = WallClock(agent)
    agent.start()
    assert not agent.status()["clock_set"]
    began = time.time_ns()
    for number in range(20):
        assert agent.write(f"early,device=pump n={number}i") == 204
    # A device that has a clock of its own is believed.
    own = began - 60 * SECOND
    assert agent.write(f"own,device=pump n=1i {own}") == 204
    ended = time.time_ns()
    until("all is in batches", agent.in_batches)
    held = agent.status()["spool"]["clock_held"]
    assert held["boots"] == 1
    assert held["bytes"] > 0

    clock.set("+0")
    until("the agent has noticed", lambda: agent.status()["spool"]["clock_held"]["batches"] == 0)
    assert agent.write("early,device=pump n=20i") == 204
    collector.start()
    agent.wait_drained()

    stored = times(collector, "early.n")
    assert len(stored) == 21
    slack = SECOND // 2
    assert began - slack <= min(stored)
    assert sorted(stored)[19] <= ended + slack
    assert times(collector, "own.n") == [own]
    (event,) = until("the event is stored", lambda: collector.get("/api/v1/events", q="clock")["events"])
    assert (event["source"], event["severity"]) == ("telemetryx-agent", "warn")
    counts = settled(collector, agent, 22)
    assert counts["received"] == 22
    assert not set(counts) & set(LOST)


def test_a_clock_that_is_a_year_ahead_for_a_while_makes_nothing_expire(stack: Stack) -> None:
    """Within an outage the clock jumps ahead and readings come; what waited is kept, said so, and stored when it is right again."""
    collector = stack.collector(start=False)
    agent = stack.agent(collector, extra='[spool]\nmax_age = "1h"\n', start=False)
    clock = WallClock(agent)
    clock.set("+0")
    agent.start()
    began = time.time_ns()
    for number in range(20):
        assert agent.write(f"good,device=pump n={number}i") == 204
    until("they are in batches", agent.in_batches)
    assert agent.status()["spool"]["age_kept"] == 0

    clock.set("+365d")
    assert agent.write("wrong,device=pump n=1i") == 204
    until("they look too old, and are kept", lambda: agent.status()["spool"]["age_kept"] > 0)
    said = subprocess.run(
        [AGENT, "status", "--config", agent.config], capture_output=True, text=True, timeout=60, check=True
    )
    assert "older than spool.max_age by this host's clock alone" in said.stdout
    # Whoever starts it again doesn't make it forget.
    assert agent.process is not None
    agent.process.kill()
    agent.start()
    assert agent.write("wrong,device=pump n=2i") == 204
    until("they are kept still", lambda: agent.status()["spool"]["age_kept"] > 0)

    clock.set("+0")
    until("the clock is believed again", lambda: agent.status()["spool"]["age_kept"] == 0)
    assert agent.status()["spool"]["lost"] == []
    collector.start()
    agent.wait_drained()
    stored = times(collector, "good.n")
    assert len(stored) == 20
    assert began - SECOND // 2 <= min(stored)
    assert "expired" not in settled(collector, agent, 22)


def test_the_collectors_clock_helps_a_host_that_nobody_sets(stack: Stack) -> None:
    """A gateway without NTP: the greeting tells when its boot was, for what it took before and for what it takes after."""
    collector = stack.collector(start=False)
    agent = stack.agent(collector, start=False)
    WallClock(agent)
    agent.start()
    began = time.time_ns()
    for number in range(10):
        assert agent.write(f"early,device=pump n={number}i") == 204
    collector.start()
    until("the first are stored", lambda: len(times(collector, "early.n")) == 10)
    assert not agent.status()["clock_set"]
    assert agent.write("early,device=pump n=10i") == 204
    agent.wait_drained()
    ended = time.time_ns()

    # Its time is right to half of what the greeting took: it may be a little ahead of the collector's, who shows it then.
    until("all of them are stored", lambda: len(times(collector, "early.n")) == 11)
    stored = times(collector, "early.n")
    slack = 5 * SECOND
    assert began - slack <= min(stored) <= max(stored) <= ended + slack


def test_the_console_marks_clocks_that_are_off_and_counts_what_is_kept_apart(
    stack: Stack, page: Page
) -> None:
    """One host is three days ahead, one was never set: each has its own words; what is let in is kept apart no more."""
    collector = stack.collector()
    ahead, unset = (stack.agent(collector, name, start=False) for name in ("ahead", "unset"))
    WallClock(ahead).set("+3d")
    WallClock(unset)
    ahead.start()
    unset.start()
    assert ahead.write("level,device=tank v=7") == 204
    until("it is kept apart", lambda: collector.get("/api/v1/quarantine")["total"] == 1)
    until("both say how they are", lambda: collector.get("/api/v1/agents/unset")["clock_set"] is False)
    home = f"http://127.0.0.1:{collector.http}"
    page.goto(f"{home}/agent?name=ahead")
    facts = page.locator("dl.facts").first
    expect(facts).to_contain_text(AHEAD)
    expect(facts).to_contain_text("1 batch with times far ahead")
    picture(page, "agent-ahead")
    page.goto(f"{home}/agent?name=unset")
    expect(facts).to_contain_text("clock not set")
    expect(facts).not_to_contain_text("Kept apart")
    picture(page, "agent-unset")
    page.goto(home)
    agents = page.get_by_role("table", name="Agents")
    expect(agents.get_by_role("row", name="ahead").first).to_contain_text("s ahead")
    expect(agents.get_by_role("row", name="unset").first).to_contain_text("clock not set")
    picture(page, "fleet-clocks")

    (row,) = collector.get("/api/v1/quarantine")["quarantine"]
    command = [sys.executable, "-m", "telemetryx", "quarantine", "release", str(row["id"]), "--to-arrival"]
    subprocess.run([*command, "--url", home], check=True, timeout=60)
    assert len(times(collector, "level.v")) == 1
    page.goto(f"{home}/agent?name=ahead")
    expect(facts).to_contain_text(AHEAD)
    expect(facts).not_to_contain_text("Kept apart")
