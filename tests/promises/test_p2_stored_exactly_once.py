"""P2, with P1: what was acknowledged is stored, and nothing is stored twice."""

import asyncio
import shutil
import time
from collections import Counter

from tests.fault import acks, storm
from tests.fault.kill import Kill
from tests.fault.rounds import rounds
from tests.harness import Stack, until


def test_twenty_kills_lose_nothing_acknowledged_and_store_nothing_twice(stack: Stack) -> None:
    """Agent and collector are killed while publishers over MQTT, HTTP and TCP never resend and a QoS 2 one always does; the sums hold."""
    report = rounds(stack, Kill(), 20, seed=7, collector_every=4)
    # The load was the one that was meant, and the handshakes of QoS 2 were all completed.
    assert report.asked / 2 < report.sent < report.asked * 2
    assert report.completed == report.sent_to_complete
    assert report.acknowledged > 2_000
    assert report.acknowledged_and_lost == 0
    assert report.stored_twice == 0
    assert report.failures_to_start == 0


def test_a_cloned_image_loses_nothing_and_stores_nothing_twice(stack: Stack) -> None:
    """A data folder copied to a second machine: both send what they share, and each what it took afterwards."""
    collector = stack.collector(start=False)
    agent = stack.agent(collector)
    start = time.time_ns() - 3_600_000_000_000
    shared = [f"c,device=shared n={number}i {start + number}" for number in range(1, 2_001)]
    for first in range(0, len(shared), 100):
        assert agent.write("\n".join(shared[first : first + 100])) == 204
    assert agent.process is not None
    agent.process.kill()

    clone = stack.agent(collector, start=False)
    # The control socket of the killed agent is no file that a disk image would hold.
    shutil.copytree(agent.data, clone.data, ignore=shutil.ignore_patterns("*.sock"))
    agent.start()
    clone.start()
    for number in range(1, 501):
        assert agent.write(f"c,device=first n={number}i {start + number}") == 204
        assert clone.write(f"c,device=second n={number}i {start + number}") == 204
    collector.start()
    agent.wait_drained()
    clone.wait_drained()

    for device, count in (("shared", 2_000), ("first", 500), ("second", 500)):
        found = until(
            f"the readings of {device}",
            lambda device=device: collector.values(f'c.n{{device="{device}"}}', start="0"),
        )
        counted = Counter(found[0])
        assert set(counted) == {float(number) for number in range(1, count + 1)}, device
        assert max(counted.values()) == 1, device


def test_clones_whose_batches_differ_in_a_series_name_alone_lose_nothing(stack: Stack) -> None:
    """Each takes one reading of the same time and value, of a device of its own: both are stored."""
    collector = stack.collector(start=False)
    agent = stack.agent(collector)
    start = time.time_ns() - 3_600_000_000_000
    assert agent.write(f"c,device=shared n=1i {start}") == 204
    until("it is in a batch", lambda: agent.status()["spool"]["batches"] == 1)
    assert agent.process is not None
    agent.process.kill()
    clone = stack.agent(collector, start=False)
    shutil.copytree(agent.data, clone.data, ignore=shutil.ignore_patterns("*.sock"))
    for part, device in ((agent, "first"), (clone, "second")):
        part.start()
        assert part.write(f"c,device={device} n=1i {start + 1}") == 204
    collector.start()
    agent.wait_drained()
    clone.wait_drained()
    for device in ("shared", "first", "second"):
        assert collector.values(f'c.n{{device="{device}"}}') == [[1.0]], device


def test_three_hundred_lost_acknowledgements_store_nothing_twice(stack: Stack) -> None:
    """An agent that never hears an acknowledgement sends each batch again and again: one copy is stored, and none is missing."""
    report = asyncio.run(acks.run(stack, 300, seed=11))
    assert report.lost_acks >= 300
    assert report.sent > report.batches
    assert (report.stored, report.lost, report.twice) == (report.expected, 0, 0)


def test_a_fleet_that_returns_at_once_after_a_kill_loses_nothing(stack: Stack) -> None:
    """Twenty agents with backlog come back in the moment in which the killed collector does: all is stored, once."""
    report = asyncio.run(storm.run(stack, agents=20, batches=5, readings_each=50))
    assert report.expected > 20 * 5 * 50
    assert (report.stored, report.lost, report.twice) == (report.expected, 0, 0)
