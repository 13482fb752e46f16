"""What agent and collector take when little happens: memory, and the CPU of host metrics every 10 s."""

import time

from tests.load.bed import Bed
from tests.load.usage import Watch, cpu_seconds, resident_mb

SETTLE_S = 15.0
LEAST_S = 60.0


def idle(bed: Bed) -> None:
    """One agent with host metrics at 10 s, scored, and the collector it ships to."""
    with bed.stack() as stack:
        collector = stack.collector()
        inputs = '[input.host]\ninterval = "10s"\n'
        agent = stack.agent(collector, inputs=inputs)
        assert agent.process is not None
        assert collector.process is not None
        time.sleep(SETTLE_S)
        # Whole rounds of the interval.
        seconds = max(LEAST_S, bed.seconds // 10 * 10)
        begin = cpu_seconds(collector.process.pid)
        with Watch(agent.process.pid) as watch:
            time.sleep(seconds)
        collecting = cpu_seconds(collector.process.pid) - begin
        assert agent.status()["link"]["connected"], "the agent did not ship"
        name = f"host metrics every 10 s, {seconds:.0f} s"
        bed.add(
            "idle",
            f"{name}: agent's CPU",
            watch.cpu_s / watch.seconds * 100,
            "% of a core",
            0.05,
            at_most=True,
        )
        bed.add("idle", f"{name}: agent's memory", resident_mb(agent.process.pid), "MB", 10, at_most=True)
        bed.add("idle", f"{name}: collector's CPU", collecting / watch.seconds * 100, "% of a core")
        bed.add(
            "idle", f"{name}: collector's memory", resident_mb(collector.process.pid), "MB", 200, at_most=True
        )
