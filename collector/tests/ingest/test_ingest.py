"""Ingest: one transaction for all who wait, order kept, memory bounded, failure told and left behind."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import pytest

from reference_agent import T0, defined, samples
from telemetryx.errors import IngestClosed, QueueFull, StoreError, StoreUnavailable
from telemetryx.ingest.ingest import Ingest
from telemetryx.store.sqlite.store import SqliteStore
from telemetryx.types import BatchKey, Committed, Decoded, Duplicate, Outcome, Refused, Stored
from telemetryx.wire import definitions, frame
from telemetryx.wire._pb2 import link_pb2 as pb
from telemetryx.wire.payload import Payload


def batch(seq: int) -> pb.Batch:
    """One small batch."""
    content = Payload(samples({1: [(T0 + seq, float(seq))]}))
    return frame.encode_batch(
        BatchKey("a", bytes(16), seq), content, defined=definitions.encode(defined("x"))
    )


class Gated(SqliteStore):
    """A store whose commits wait for a gate, and fail on demand."""

    gate: asyncio.Event
    failing: StoreError | None = None
    groups: list[int]

    async def commit(self, batches: Sequence[Decoded]) -> list[Outcome]:
        """Wait, fail, or commit."""
        self.groups.append(len(batches))
        await self.gate.wait()
        if self.failing is not None:
            raise self.failing
        return await super().commit(batches)


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[Gated]:
    """A store whose gate is open."""
    opened = await Gated.open(tmp_path / "t.db")
    opened.gate, opened.groups = asyncio.Event(), []
    opened.gate.set()
    yield opened
    await opened.close()


async def test_those_who_wait_share_a_transaction(store: Gated) -> None:
    """While one group commits, the next gathers; subscribers hear of every commit in order, after it."""
    ingest = Ingest(store, max_group=50)
    heard: list[Committed] = []
    leave = ingest.subscribe(heard.append)
    running = asyncio.create_task(ingest.run())
    store.gate.clear()
    waiting = [await ingest.enqueue("a", batch(seq)) for seq in range(1, 61)]
    await asyncio.sleep(0)
    assert not heard
    store.gate.set()
    outcomes = await asyncio.gather(*waiting)
    assert all(isinstance(outcome, Stored) for outcome in outcomes)
    assert len(store.groups) <= 4
    assert [commit.cursor for commit in heard] == list(range(1, 61))
    leave()
    assert isinstance(await ingest.submit("a", batch(1)), Duplicate)
    assert len(heard) == 60
    await ingest.close()
    await running


async def test_a_subscriber_that_fails_hurts_nobody(store: Gated) -> None:
    """The commit stands, the others hear of it, the sender is acknowledged."""
    ingest = Ingest(store)
    heard: list[Committed] = []
    ingest.subscribe(lambda _: 1 / 0)
    ingest.subscribe(heard.append)
    running = asyncio.create_task(ingest.run())
    assert isinstance(await ingest.submit("a", batch(1)), Stored)
    assert len(heard) == 1
    await ingest.close()
    await running


async def test_a_failing_store_drops_and_pauses_and_resumes(store: Gated) -> None:
    """Everything that waits gets the reason, nothing is queued meanwhile, and a later try works by itself."""
    ingest = Ingest(store)
    running = asyncio.create_task(ingest.run())
    store.failing = StoreUnavailable("the disk is full", "full")
    results = await asyncio.gather(
        *(ingest.submit("a", batch(seq)) for seq in range(1, 5)), return_exceptions=True
    )
    assert all(isinstance(result, StoreUnavailable) for result in results)
    health = ingest.health()
    assert (health.ready, health.reason, health.queued_bytes) == (False, "the disk is full", 0)
    with pytest.raises(StoreUnavailable):
        await ingest.submit("a", batch(9))
    store.failing = None
    async with asyncio.timeout(5):
        while True:
            try:
                outcome = await ingest.submit("a", batch(1))
                break
            except StoreUnavailable:
                await asyncio.sleep(ingest.retry_after_ms() / 1000)
    assert isinstance(outcome, Stored)
    assert ingest.health().ready
    await ingest.close()
    await running


async def test_the_queue_is_bounded(store: Gated) -> None:
    """At the limit senders wait; who waits too long is told to come back; the queue never grows past it."""
    ingest = Ingest(store, max_queue_bytes=5_000, max_group=2)
    running = asyncio.create_task(ingest.run())
    store.gate.clear()
    waiting = [await ingest.enqueue("a", batch(seq)) for seq in range(1, 4)]

    async def until_full() -> None:
        for seq in range(4, 100):
            waiting.append(await ingest.enqueue("a", batch(seq), patience_s=0.05))  # noqa: PERF401 - it raises on the way

    with pytest.raises(QueueFull):
        await until_full()
    assert ingest.health().queued_bytes <= 5_000
    store.gate.set()
    await asyncio.gather(*waiting)
    assert ingest.health().queued_bytes == 0
    await ingest.close()
    await running


async def test_a_bad_batch_is_refused_alone(store: Gated) -> None:
    """Garbage in a group is refused and counted; its neighbours are stored."""
    ingest = Ingest(store)
    running = asyncio.create_task(ingest.run())
    bad = pb.Batch(epoch=bytes(16), seq=2, codec=1, payload=b"junk", checksum=frame.checksum(b"junk"))
    outcomes = await asyncio.gather(
        ingest.submit("a", batch(1)), ingest.submit("a", bad), ingest.submit("a", batch(3))
    )
    assert isinstance(outcomes[1], Refused)
    assert outcomes[1].cause == "malformed"
    assert isinstance(outcomes[0], Stored)
    assert isinstance(outcomes[2], Stored)
    assert ingest.counters.refused == {"malformed": 1}
    await ingest.close()
    await running


async def test_closing_finishes_what_waits(store: Gated) -> None:
    """close() lets run() commit what is queued; later frames are turned away."""
    ingest = Ingest(store)
    waiting = [await ingest.enqueue("a", batch(seq)) for seq in range(1, 20)]
    running = asyncio.create_task(ingest.run())
    await ingest.close()
    await running
    assert all(isinstance(one.result(), Stored) for one in waiting)
    with pytest.raises(IngestClosed):
        await ingest.submit("a", batch(50))


async def test_a_cancelled_run_leaves_nobody_waiting(store: Gated) -> None:
    """When the task is cancelled, every waiting sender hears of it."""
    ingest = Ingest(store)
    running = asyncio.create_task(ingest.run())
    store.gate.clear()
    waiting = [await ingest.enqueue("a", batch(seq)) for seq in range(1, 5)]
    async with asyncio.timeout(5):
        while not store.groups:  # some wait in a commit, the others in the queue
            await asyncio.sleep(0)
    more = [await ingest.enqueue("a", batch(seq)) for seq in range(5, 9)]
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    results = await asyncio.wait_for(asyncio.gather(*waiting, *more, return_exceptions=True), 5)
    assert all(isinstance(result, IngestClosed) for result in results)
    store.gate.set()
