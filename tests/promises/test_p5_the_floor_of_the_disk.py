"""P5: a disk on which others are to have more than is free.

The agent leaves it to them, says why it takes nothing, and goes on by itself: at once in small steps where a collector is
there, and without end once there is room.
"""

import json
from pathlib import Path

import pytest

from tests.harness import Agent, Stack, until
from tests.harness.agent_tools import ask
from tests.harness.ledger import settled
from tests.harness.small_disk import Events, agent_on, disk_of, free, leave

MIB = 1 << 20
disk = disk_of(20)
MIN_FREE = 12 * MIB
#: What journal and spool may hold below the floor, and the logs of sessions and keys beside them.
RESERVE = 4 * MIB
#: The spool blocks early, so that the journal is what fills the disk.
CONFIG = """
[journal]
max_bytes = "8MiB"
segment_bytes = "256KiB"
[spool]
max_bytes = "1MiB"
segment_bytes = "256KiB"
min_free = "12MiB"
free_floor = "{floor}"
[[spool.class]]
overflow = "block"
"""


def says_so(agent: Agent, part: str) -> None:
    """Whoever asks the agent hears that readings are refused, why, and what to do."""
    refusing = until("the status says so", lambda: _refusing(agent, part))
    assert "free some space" in refusing["remedy"], refusing
    shown = ask("status", "--config", agent.config)
    assert "REFUSED" in shown.stdout
    assert part in shown.stdout
    healthy = ask("status", "--healthy", "--config", agent.config)
    assert healthy.returncode == 1
    assert "readings are refused" in healthy.stderr
    report = json.loads(ask("doctor", "--json", "--config", agent.config).stdout)
    found = [one for one in report["findings"] if one["check"] == "inputs"]
    assert [one["level"] for one in found] == ["problem"], found
    assert "REFUSED" in ask("top", "--once", "--config", agent.config).stdout


def _refusing(agent: Agent, part: str) -> dict[str, str] | None:
    said: dict[str, str] | None = agent.status()["refusing"]
    return said if said is not None and part in said["why"] else None


@pytest.mark.parametrize("floor", ["wait", "drop"])
def test_a_journal_that_holds_the_disk_drains_while_the_link_is_up(
    stack: Stack, disk: Path, floor: str
) -> None:
    """Others take the disk below the floor while the collector is away: its return is enough, and nothing is lost."""
    agent = agent_on(stack, disk, CONFIG.format(floor=floor))
    events = Events(agent)
    events.until_refused()
    assert free(disk) >= MIN_FREE - MIB, (
        "inputs were pushed back before others had less than they are to have"
    )
    assert agent.status()["journal"]["bytes"] > 3 * MIB
    says_so(agent, "spool.min_free")
    leave(disk, MIN_FREE // 2)
    assert agent.process is not None
    agent.process.kill()
    agent.start()
    says_so(agent, "spool.min_free")

    collector = stack.collectors[0]
    collector.start()
    until("a reading is taken again", lambda: events.post() == 204)
    for _ in range(50):
        until("the next one too", lambda: events.post() == 204)
    counts = settled(collector, agent, events.taken)
    assert (counts["received"], counts["stored"]) == (events.taken, events.taken)

    # Without the collector it takes no more than the reserve, and after it is back it goes on.
    assert collector.process is not None
    collector.process.stop()
    before = free(disk)
    events.until_refused()
    assert before - free(disk) <= RESERVE
    collector.start()
    until("a reading is taken again", lambda: events.post() == 204)
    settled(collector, agent, events.taken)
    (disk / "ballast").unlink()
    until("nothing is said any more", lambda: quiet(agent))


def quiet(agent: Agent) -> bool:
    """Whether the status has no trouble left."""
    status = agent.status()
    return status["refusing"] is None and status["spool"]["floor"] is None and not status["spool"]["trouble"]


def test_a_start_on_a_disk_without_space_says_that_readings_are_refused(stack: Stack, disk: Path) -> None:
    """Killed, and no byte is left at the start: before anyone sends anything the status names cause and way out."""
    agent = agent_on(stack, disk, CONFIG.format(floor="wait"))
    assert agent.write("m v=1") == 204
    assert agent.process is not None
    agent.process.kill()
    ballast = leave(disk, 0)
    agent.start()
    says_so(agent, "no space is left")
    ballast.unlink()
    until("nothing is said any more", lambda: quiet(agent))
    assert agent.write("m v=2") == 204
