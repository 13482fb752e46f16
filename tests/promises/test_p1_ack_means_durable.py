"""P1: an acknowledgement means durable: what was acknowledged survives the loss of all that was not synced.

kill -9 alone is in test_p2_stored_exactly_once.py; docs/reliability.md has how often each fault was tried.
"""

from contextlib import ExitStack

import pytest

from tests.fault.disk import Disk, impossible
from tests.fault.power import SMALL, Power
from tests.fault.rounds import rounds
from tests.harness import Stack, until

needs_disk = pytest.mark.skipif(
    bool(impossible()), reason=f"no file system to cut the power of: {impossible()}"
)


@needs_disk
@pytest.mark.waits(seconds=90)
def test_twenty_power_cuts_lose_nothing_acknowledged_and_store_nothing_twice(stack: Stack) -> None:
    """Agent and collector lose all that was not synced, at random points, and start again; MQTT, HTTP and TCP."""
    with ExitStack() as disks:
        try:
            report = rounds(stack, Power(stack.folder, disks), 20, seed=7)
        finally:
            stack.close()
    assert report.agent_strikes == 20
    assert report.collector_strikes == 2
    assert report.asked / 4 < report.sent < report.asked * 2
    assert report.acknowledged > 2_000
    assert report.good, report


@needs_disk
def test_nothing_is_acknowledged_while_the_disk_takes_nothing(stack: Stack) -> None:
    """Every write and fsync fails: 503, the agent lives and says so; after a new start all that was acknowledged arrives."""
    collector = stack.collector(start=False)
    with Disk(stack.folder / "disk", 64) as disk:
        agent = stack.agent(collector, extra=SMALL, start=False)
        disk.holds(agent.data)
        agent.start()
        acked = {number for number in range(100) if agent.write(f"n value={number}i") == 204}
        assert acked == set(range(100))
        disk.cut()
        assert {agent.write(f"n value={number}i") for number in range(100, 130)} == {503}
        assert agent.process is not None
        assert agent.process.running
        # Now and then it tries to open its journal anew.
        until("it says so", lambda: agent.status()["journal"]["poisoned"])
        agent.process.kill()
        disk.unmount()
        disk.mount()
        agent.start()
        collector.start()
        assert agent.write(f"n value={1_000}i") == 204
        agent.wait_drained()
        until("the last is stored", lambda: 1_000.0 in collector.values("n")[0])
        (values,) = collector.values("n")
        stack.close()
    assert sorted(values) == [*map(float, sorted(acked)), 1_000.0]
