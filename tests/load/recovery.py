"""How long an agent with a backlog takes from its start, after kill -9, until it takes readings and has caught up."""

import time

from tests.harness import Agent, free_port, until
from tests.load.bed import Bed, settle

GIB = 2**30
TARGET_BYTES = 10_000_000_000


def recovery(bed: Bed) -> None:
    """Kill an agent whose collector is away; readings are shipped raw; `--backlog GIB` says how much must be waiting."""
    with bed.stack() as stack:
        agent = Agent(stack.folder / "agent", free_port(), extra='[spool]\nmax_bytes = "64GiB"\n')
        stack.agents.append(agent)
        agent.start()
        while agent.status()["spool"]["disk_bytes"] < bed.backlog_gib * GIB:
            bed.load("line_load", "--port", agent.http, "--connections", 8, "--seconds", bed.seconds)
        full = agent.status()["spool"]
        assert agent.process is not None
        agent.process.kill()
        settle()
        begin = time.monotonic()
        agent.start()
        ready = time.monotonic() - begin
        until("the journal is folded", lambda: not agent.status()["fold"]["recovering"])
        done = time.monotonic() - begin
        again = agent.status()["spool"]
        assert again["batches"] >= full["batches"], (full, again)
    what = f"{full['disk_bytes'] / GIB:.2f} GiB, {full['batches']:,} batches waiting"
    # The target is for 10 GB; less says nothing about it.
    target = 1 if full["disk_bytes"] >= TARGET_BYTES else None
    bed.add("recovery", f"{what}: start to inputs open", ready, "s", target, at_most=True)
    bed.add("recovery", f"{what}: start to journal folded", done, "s")
