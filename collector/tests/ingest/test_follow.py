"""The follower: what any process committed is told once, in order, and nothing is read for nobody."""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import structlog

from telemetryx.hot.wake import LocalWake
from telemetryx.ingest import follow
from telemetryx.ingest.follow import Follower
from telemetryx.rules.feed import Feed
from telemetryx.store.alerts import Alert
from telemetryx.store.tables.follow import News
from telemetryx.types import BatchKey, Committed, SampleBlock


def commit(number: int) -> Committed:
    """Make a commit with one reading."""
    block = SampleBlock(np.array([1]), np.array([0, 1]), np.array([number]), np.zeros(1))
    return Committed(number, BatchKey("a", b"e", number), 0, 0, 0, block, None)


@dataclass
class Shared:
    """A store that several processes write to, as far as a follower sees it."""

    commits: list[Committed] = field(default_factory=list)
    bound: int = 1
    gone: int = 0
    asked: list[tuple[bool, list[int]]] = field(default_factory=list)

    async def cursor(self) -> int:
        """Return where the follower begins."""
        return 0

    async def holder(self) -> str:
        """Name a culprit."""
        return "process 7"

    async def news(self, cursor: int, known: Mapping[int, Committed], *, data: bool, limit: int = 2) -> News:
        """Return what a store would."""
        skipped, cursor = cursor < self.gone and data, max(cursor, self.gone)
        found = [one for one in self.commits if cursor < one.cursor < self.bound] if data else []
        self.asked.append((data, [one.cursor for one in found[:2] if one.cursor not in known]))
        more = len(found) >= limit > 0 and len(found) > 2
        upto = found[1].cursor if more else self.bound - 1
        held = any(one.cursor >= self.bound for one in self.commits)
        return News(upto, [known.get(one.cursor, one) for one in found[:2]] if more else
                    [known.get(one.cursor, one) for one in found], (), more, held, skipped)  # fmt: skip


def follower(store: Shared) -> tuple[Follower, list[tuple[int, int]], list[bool]]:
    """Make one that notes what it tells, and a switch for whether anybody wants it."""
    made = Follower(store, LocalWake(), lambda: 0.0)
    told: list[tuple[int, int]] = []
    wanted = [True]
    made.subscribe(lambda batch, after: told.append((batch.cursor, after)), lambda: wanted[-1])
    return made, told, wanted


async def test_each_commit_is_told_once_with_the_one_it_follows() -> None:
    """Ours are taken from memory, the others' are read; the feed of the rules believes it without a gap."""
    store = Shared([commit(number) for number in (5, 9, 12, 20)], bound=30)
    made, told, _ = follower(store)
    mine = store.commits[1]
    made.committed(mine)
    feed = Feed()
    made.subscribe(feed.offer, lambda: True)
    cursor, wait = 0, 0.0
    while not wait:
        wait, cursor = await made.step(cursor)
    assert [number for number, _ in told] == [5, 9, 12, 20]
    assert [after for _, after in told[1:]] == [5, 9, 12]
    assert [number for _, read in store.asked for number in read] == [5, 12, 20]
    found = feed.after(told[0][1] if told[0][1] >= 0 else 5, 10)
    assert found is not None
    assert [one.cursor for one in found][-3:] == [9, 12, 20]


async def test_nothing_is_read_while_nobody_wants_it_and_the_feed_knows_of_the_gap() -> None:
    """The cursor goes on; who comes later hears of what comes later, after a number up to which it heard nothing."""
    store = Shared([commit(5)], bound=10)
    made, told, wanted = follower(store)
    wanted.append(False)
    _, cursor = await made.step(0)
    assert (told, cursor, store.asked) == ([], 9, [(False, [])])
    wanted.append(True)
    store.commits.append(commit(15))
    store.bound = 20
    await made.step(cursor)
    assert told == [(15, 9)]


async def test_commits_that_were_compacted_unread_are_a_gap_that_is_told() -> None:
    """A follower that was held up says so, and goes on behind it."""
    store = Shared([commit(5), commit(9)], bound=10, gone=7)
    made, told, _ = follower(store)
    gaps: list[int] = []
    made.subscribe_gaps(gaps.append)
    await made.step(2)
    assert (told, gaps) == ([(9, -1)], [9])


async def test_commits_that_wait_for_an_older_transaction_are_said_once_with_its_owner() -> None:
    """After a while, and again when they are shown."""
    store = Shared([commit(15)], bound=10)
    now = [0.0]
    made = Follower(store, LocalWake(), lambda: now[0])
    with structlog.testing.capture_logs() as logs:
        for at in (0.0, 3.0, 6.0, 9.0):
            now[0] = at
            wait, _ = await made.step(0)
            assert wait == follow.HELD_POLL_S
        assert made.held_s == 9.0
        store.bound = 20
        wait, _ = await made.step(9)
    assert (wait, made.held_s) == (follow.POLL_S, 0.0)
    assert [(line["event"], line.get("by")) for line in logs] == [
        ("commits_held_back", "process 7"), ("commits_shown_again", None),
    ]  # fmt: skip


async def test_a_wake_up_ends_the_wait_and_stop_the_task() -> None:
    """It runs until it is told to stop, and a commit of this process is told without waiting for the poll."""
    store = Shared(bound=1)
    wake = LocalWake()
    made = Follower(store, wake, lambda: 0.0)
    heard: asyncio.Queue[int] = asyncio.Queue()
    made.subscribe(lambda batch, _after: heard.put_nowait(batch.cursor), lambda: True)
    alerts: list[Alert] = []

    async def alerted(changed: object) -> None:
        del changed
        alerts.clear()

    made.subscribe_alerts(alerted)
    stop = asyncio.Event()
    running = asyncio.create_task(made.run(stop))
    for number in (3, 4):
        store.commits.append(commit(number))
        store.bound = number + 1
        made.committed(store.commits[-1])
        assert await asyncio.wait_for(heard.get(), 60) == number
    stop.set()
    await asyncio.wait_for(running, 60)
