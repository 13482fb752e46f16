"""Background work: what fails is seen and tried again, what stops is joined."""

import asyncio

import pytest
import structlog

from telemetryx import tasks
from telemetryx.errors import StoreUnavailable
from telemetryx.tasks import Tasks


async def test_failing_work_is_counted_shown_and_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """The other work isn't touched by it."""
    monkeypatch.setattr(tasks, "FIRST_PAUSE_S", 0.0)
    enough = asyncio.Event()
    runs = 0

    async def fail(_stop: asyncio.Event) -> None:
        nonlocal runs
        runs += 1
        if runs >= 3:
            enough.set()
            await asyncio.Event().wait()
        raise ValueError("no disk")

    owner = Tasks()
    owner.spawn("bad", fail)
    async with asyncio.timeout(60):
        await enough.wait()
    assert owner.states["bad"].failures == 2
    assert owner.states["bad"].reason == "ValueError: no disk"
    await owner.join()


async def test_a_store_that_cannot_be_used_is_told_in_a_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    """A full disk isn't a fault of ours: no traceback in the log, and no word of Python's in /readyz."""
    monkeypatch.setattr(tasks, "FIRST_PAUSE_S", 3_600.0)

    async def fail(_stop: asyncio.Event) -> None:
        raise StoreUnavailable("the disk is full: free space", "full")

    owner = Tasks()
    with structlog.testing.capture_logs() as lines:
        owner.spawn("compaction", fail)
        async with asyncio.timeout(60):
            while not owner.states["compaction"].failures:
                await asyncio.sleep(0)
    assert owner.states["compaction"].reason == "the disk is full: free space"
    (line,) = lines
    assert (line["event"], line["log_level"]) == ("task_failed", "warning")
    assert line["reason"] == "the disk is full: free space"
    assert "exc_info" not in line
    await owner.join()


async def test_join_cancels_and_waits() -> None:
    """Nothing runs on after a shutdown."""
    cleaned = asyncio.Event()
    started = asyncio.Event()

    async def work(_stop: asyncio.Event) -> None:
        try:
            started.set()
            await asyncio.Event().wait()
        finally:
            cleaned.set()

    owner = Tasks()
    owner.spawn("good", work)
    async with asyncio.timeout(60):
        await started.wait()
        await owner.join()
    assert cleaned.is_set()


async def test_periodic_work_goes_on_at_once_while_there_is_more() -> None:
    """A backlog is worked off without pauses."""
    left = 3
    done = asyncio.Event()

    async def work() -> bool:
        nonlocal left
        left -= 1
        if left == 0:
            done.set()
        return left > 0

    owner = Tasks()
    owner.every("upkeep", 3_600, work)
    async with asyncio.timeout(60):
        await done.wait()
    await owner.join()


async def test_work_that_is_told_to_end_finishes_what_it_has() -> None:
    """It isn't cut off while it keeps to its time, and isn't started again."""
    finished = 0
    started = asyncio.Event()

    async def work(stop: asyncio.Event) -> None:
        nonlocal finished
        started.set()
        await stop.wait()
        await asyncio.sleep(0)
        finished += 1

    owner = Tasks()
    owner.spawn("good", work)
    async with asyncio.timeout(60):
        await started.wait()
        await owner.end("good", 60)
        await owner.join()
    assert finished == 1


async def test_work_that_does_not_end_in_time_is_cancelled() -> None:
    """A shutdown has an end."""
    started = asyncio.Event()

    async def work(_stop: asyncio.Event) -> None:
        started.set()
        await asyncio.Event().wait()

    owner = Tasks()
    owner.spawn("stubborn", work)
    async with asyncio.timeout(60):
        await started.wait()
        await owner.end("stubborn", 0.01)
