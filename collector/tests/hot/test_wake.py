"""The wake-up inside one process."""

import asyncio

from telemetryx.hot.interface import Wake
from telemetryx.hot.wake import LocalWake


async def test_a_commit_before_the_wait_ends_it_at_once() -> None:
    """What was told while nobody waited isn't lost; told twice it wakes once."""
    wake: Wake = LocalWake()
    wake.committed(1)
    wake.committed(2)
    assert await wake.changed(30)
    assert not await wake.changed(0.001)


async def test_a_commit_during_the_wait_ends_it() -> None:
    """A waiting task goes on as soon as somebody commits."""
    wake = LocalWake()
    waiting = asyncio.create_task(wake.changed(30))
    await asyncio.sleep(0)
    wake.committed(1)
    assert await waiting


async def test_it_runs_until_it_is_told_to_stop() -> None:
    """Its task needs nothing and ends when asked."""
    stop = asyncio.Event()
    running = asyncio.create_task(LocalWake().run(stop))
    stop.set()
    await running
