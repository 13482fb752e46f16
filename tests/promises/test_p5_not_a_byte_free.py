"""P5: a disk on which others have taken the last byte.

The agent keeps blocks that nobody else gets. With them what is in journal and spool goes to the collector step by step, and
every acknowledgement gives the disk something back.
"""

import os
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.harness import Agent, Collector, Stack, until
from tests.harness.agent_tools import ask
from tests.harness.ledger import settled
from tests.harness.small_disk import Events, agent_on, disk_of, fill, free, has_reserve, leave

MIB = 1 << 20
disk = disk_of(24)
#: The spool blocks early, so that the journal holds the most; nothing is left to others by the agent's own choice.
CONFIG = """
[journal]
max_bytes = "8MiB"
segment_bytes = "256KiB"
[spool]
max_bytes = "1MiB"
segment_bytes = "256KiB"
min_free = "0B"
[[spool.class]]
overflow = "block"
"""


def with_backlog(agent: Agent) -> Events:
    """Take so much that the spool is at its cap and the journal holds the most; nothing moves any more then."""
    events = Events(agent)
    until("spool and journal hold readings", lambda: _filled(agent, events))
    until("the spool takes no more", lambda: agent.status()["fold"]["blocked"])
    return events


def _filled(agent: Agent, events: Events) -> bool:
    assert events.post() == 204
    status = agent.status()
    return status["spool"]["batches"] > 0 and status["journal"]["bytes"] > 3 * MIB


def restarted(agent: Agent) -> None:
    """Kill the agent, and start it where it was."""
    assert agent.process is not None
    agent.process.kill()
    agent.start()


def stored(collector: Collector) -> Counter[int]:
    """Return how often each event of the bulk is stored."""
    numbers: Counter[int] = Counter()
    before: dict[str, int] = {}
    while True:
        page = collector.get("/api/v1/events", source="bulk", start="0", limit=1000, **before)
        numbers.update(int(event["body"].partition(" ")[0]) for event in page["events"])
        if page["next"] is None:
            return numbers
        before = {"before": page["next"]}


def test_what_waits_on_a_disk_without_a_byte_arrives_once_and_readings_are_taken_again(
    stack: Stack, disk: Path
) -> None:
    """Filled by another program, and killed and started on it: all arrives while the other keeps what it has, and the disk is freed."""
    agent = agent_on(stack, disk, CONFIG)
    events = with_backlog(agent)
    ballast = fill(disk)
    assert free(disk) == 0
    until("readings are refused", lambda: events.post() == 503)
    restarted(agent)
    until(
        "the status says so", lambda: "no space is left" in (agent.status()["refusing"] or {"why": ""})["why"]
    )
    assert free(disk) == 0

    collector = stack.collectors[0]
    collector.start()
    counts = settled(collector, agent, events.taken)
    assert (counts["received"], counts["stored"]) == (events.taken, events.taken)
    until("the journal gives the disk something back", lambda: free(disk) > 2 * MIB)
    until("readings are taken again", lambda: events.post() == 204)
    until("the reserve is whole again", lambda: has_reserve(agent))
    settled(collector, agent, events.taken)
    assert stored(collector) == Counter(range(events.taken))
    assert ballast.stat().st_size > 10 * MIB, "nobody made room"


#: Below the floor and without a collector nothing is cut: what comes in stays in the journal.
FLOOR = """
[journal]
max_bytes = "8MiB"
segment_bytes = "256KiB"
[spool]
max_bytes = "16MiB"
segment_bytes = "256KiB"
min_free = "12MiB"
"""


def test_what_the_journal_alone_has_arrives_though_no_batch_is_there_whose_end_would_free_anything(
    stack: Stack, disk: Path
) -> None:
    """Not one batch is in the spool when the last byte goes: the agent's own blocks carry the first, and all others after it."""
    agent = agent_on(stack, disk, FLOOR)
    leave(disk, 8 * MIB).rename(disk / "ballast of before")
    events = Events(agent)
    until("the journal takes no more", lambda: events.post() == 503)
    assert events.taken > 20
    assert agent.status()["spool"]["batches"] == 0
    fill(disk)
    restarted(agent)
    assert free(disk) == 0
    assert agent.status()["spool"]["batches"] == 0
    collector = stack.collectors[0]
    collector.start()
    settled(collector, agent, events.taken)
    assert stored(collector) == Counter(range(events.taken))
    until("readings are taken again", lambda: events.post() == 204)


def test_a_kill_in_the_middle_of_it_loses_and_doubles_nothing(stack: Stack, disk: Path) -> None:
    """Killed again and again while it drains without a byte free: each start goes on where the disk stands."""
    agent = agent_on(stack, disk, CONFIG)
    events = with_backlog(agent)
    fill(disk)
    collector = stack.collectors[0]
    collector.start()
    for _ in range(4):
        acked = agent.status()["spool"]["acked"]
        until("something was acknowledged", lambda acked=acked: _acked(agent, acked))
        restarted(agent)
    settled(collector, agent, events.taken)
    assert stored(collector) == Counter(range(events.taken))


def _acked(agent: Agent, before: int) -> bool:
    spool = agent.status()["spool"]
    return bool(spool["acked"] > before or spool["batches"] == 0)


@contextmanager
def thief(disk: Path) -> Iterator[None]:
    """Take whatever comes free on the disk, as soon as it does; let go of all in the end."""
    ended = threading.Event()
    path = disk / "stolen"

    def steal(file: int) -> None:
        while not ended.is_set():
            try:
                os.write(file, bytes(4096))
            except OSError:
                ended.wait(0.001)

    file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    thread = threading.Thread(target=steal, args=(file,))
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()
        os.close(file)
        path.unlink()


def test_somebody_who_takes_each_block_that_comes_free_delays_it_and_costs_nothing(
    stack: Stack, disk: Path
) -> None:
    """What the reserve carries arrives past the thief; the rest waits in the journal, and arrives when he is gone."""
    agent = agent_on(stack, disk, CONFIG)
    events = with_backlog(agent)
    fill(disk)
    collector = stack.collectors[0]
    with thief(disk):
        collector.start()
        until("the spool is empty, or has no room for the journal's", lambda: _carried(agent))
        restarted(agent)
        until("the collector has some", lambda: len(stored(collector)) > 0)
        assert agent.process is not None
        assert agent.process.running
    settled(collector, agent, events.taken)
    assert stored(collector) == Counter(range(events.taken))
    until("readings are taken again", lambda: events.post() == 204)


def _carried(agent: Agent) -> bool:
    status = agent.status()
    return bool(status["link"]["acked_batches"]) and status["spool"]["batches"] == 0


#: Windows that nobody closes here: the fold's state is what grows.
WINDOWS = """
[journal]
max_bytes = "8MiB"
segment_bytes = "256KiB"
[spool]
max_bytes = "256MiB"
min_free = "0B"
[[fold.route]]
match = "*"
to = "window"
window = "1h"
"""


def test_a_fold_state_that_grows_on_a_full_disk_lets_the_journal_go(stack: Stack, disk: Path) -> None:
    """Thousands of open windows are first written down without a byte free: the journal that they came from is freed all the same."""
    agent = agent_on(stack, disk, WINDOWS)
    before = (agent.data / "fold.checkpoint").stat().st_size
    for first in range(0, 2_000, 100):
        lines = "\n".join(f"m{n},place={'x' * 200} v={n}" for n in range(first, first + 100))
        assert agent.write(lines) == 204
    # What the fold held is in the journal alone, and so is folded again.
    assert agent.process is not None
    agent.process.kill()
    fill(disk)
    agent.start()
    taken = agent.status()["journal"]["bytes"]
    assert taken > MIB // 2
    until("the journal is let go", lambda: agent.status()["journal"]["bytes"] <= taken // 2)
    assert (agent.data / "fold.checkpoint").stat().st_size > before
    status = agent.status()["fold"]
    assert (status["checkpoint"], status["blocked"]) == (None, None)


def test_a_full_disk_is_told_with_what_is_kept_for_it(stack: Stack, disk: Path) -> None:
    """A start without room for the reserve says what is missing of it, and takes it once there is room."""
    agent = agent_on(stack, disk, CONFIG)
    assert agent.process is not None
    agent.process.stop()
    for part in (agent.data / "spool/reserve").iterdir():
        part.unlink()
    ballast = fill(disk)
    agent.start()
    until("it is told", lambda: "kept for a full disk" in ask("status", "--config", agent.config).stdout)
    found = ask("doctor", "--json", "--config", agent.config).stdout
    assert "kept for a full disk" in found
    assert ask("spool", "ls", "--config", agent.config).returncode == 0
    assert ask("spool", "verify", "--config", agent.config).returncode == 0
    ballast.unlink()
    until("it is taken", lambda: has_reserve(agent))
