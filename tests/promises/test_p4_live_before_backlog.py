"""P4: after an outage fresh readings come first; the backlog drains beside them.

No time is asserted but the order: with a backlog that needs minutes on the link that there is, what is sent after the
collector's return is stored while most of the backlog still waits in the agent.
"""

import random
import sqlite3
import time
from contextlib import closing

from tests.fault.proxy import Proxy
from tests.harness import Agent, Collector, Stack, until

SECOND = 1_000_000_000
#: A backlog of megabytes takes minutes on this link, however long the machine takes to look at what goes on.
LINK_BYTES_PER_SECOND = 50_000
#: Few bytes in flight, and small batches.
SLOW_COLLECTOR = 'credit = "64KiB"\n[store]\ncompact_interval = "1h"\n'
SMALL_BATCHES = '[spool]\nbatch_bytes = "4KiB"\n'
BACKLOG = 800_000
LINES = 2_000


def build_backlog(agent: Agent) -> None:
    """Send random values of an hour ago while nobody takes them, until all are in batches."""
    noise = random.Random(4)
    at = time.time_ns() - 3_600 * SECOND
    for first in range(0, BACKLOG, LINES):
        body = "\n".join(
            f"old v={noise.uniform(-1e9, 1e9)!r} {at + number * 1_000_000}"
            for number in range(first, first + LINES)
        )
        assert agent.write(body) == 204

    until("the backlog is in batches", agent.in_batches)


def fresh(collector: Collector) -> set[int]:
    """Return the fresh readings that are stored."""
    found = collector.values("fresh.n", start="-1h")
    return {int(value) for value in found[0]} if found else set()


def test_fresh_readings_are_stored_while_the_backlog_drains(stack: Stack) -> None:
    """What is sent after the return overtakes the backlog again and again; at the end both are complete, each value once."""
    collector = stack.collector(SLOW_COLLECTOR, start=False)
    agent = stack.agent(collector, extra=SMALL_BATCHES)
    build_backlog(agent)
    waiting = agent.status()["spool"]["batches"]
    assert waiting > 200
    # What was cut before this start is backlog from the first moment; else it would be for ten seconds what is fresh.
    assert agent.process is not None
    agent.process.kill()
    with Proxy(collector.grpc) as link:
        link.limit(up=LINK_BYTES_PER_SECOND)
        text = agent.config.read_text()
        agent.config.write_text(text.replace(f":{collector.grpc}", f":{link.port}"))
        agent.start()
        until("all of it is known again", lambda: agent.status()["spool"]["batches"] >= waiting)
        collector.start()
        until("the session returns", lambda: agent.status()["link"]["connected"])

        overtook: list[int] = []
        for number in range(5):
            assert agent.write(f"fresh n={number}i") == 204
            until("the fresh reading is stored", lambda number=number: number in fresh(collector))
            overtook.append(agent.status()["spool"]["batches"])
        link.limit()
        agent.wait_drained()

    # Seen from the agent: backlog was left when fresh readings were in the store already.
    assert overtook[0] > waiting // 2, overtook
    assert min(overtook) > 0, overtook
    # Seen from the store: the order of the commits.
    with closing(sqlite3.connect(f"file:{collector.database}?mode=ro", uri=True)) as store:
        lanes = [lane for (lane,) in store.execute("SELECT lane FROM batch ORDER BY id")]
    live, backlog = 1, 2
    assert set(lanes) == {live, backlog}
    after_first = lanes[lanes.index(live) :]
    assert after_first.count(backlog) > waiting // 2

    assert fresh(collector) == set(range(len(overtook)))
    (old,) = collector.values("old.v")
    assert len(old) == len(set(old)) == BACKLOG
