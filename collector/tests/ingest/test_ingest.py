"""Ingest: one transaction for all who wait, order kept, memory bounded, failure told and left behind."""

import asyncio
import contextlib
import random
import threading
import time
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from types import SimpleNamespace

import pytest
import structlog

from reference_agent import T0, defined, events, samples
from telemetryx.errors import (
    IngestClosed,
    QueueFull,
    SchemaBroken,
    StoreDamaged,
    StoreError,
    StoreUnavailable,
)
from telemetryx.ingest import ingest as module
from telemetryx.ingest.ingest import Ingest
from telemetryx.ingest.trial import Trial
from telemetryx.store.sqlite.store import SqliteStore
from telemetryx.store.tables.cardinality import SeriesLimits
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
    async with asyncio.timeout(60):
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


class Whole:
    """A store whose tables are all there."""

    async def try_write(self, size: int) -> None:
        """Take it."""

    async def check_schema(self) -> None:
        """Find nothing missing."""


async def test_a_table_that_is_missing_is_noticed_while_batches_are_stored(store: Gated) -> None:
    """No batch touches it; nor is it over with a commit or a trial, but with the table."""
    ingest = Ingest(store)
    running = asyncio.create_task(ingest.run())
    missing, looked = [True], asyncio.Event()

    class Broken(Whole):
        async def check_schema(self) -> None:
            looked.set()
            if missing:
                raise SchemaBroken("table silence is missing")

    stop = asyncio.Event()
    trial = asyncio.create_task(Trial(Broken(), ingest, quiet_s=0.0, trouble_s=0.01, schema_s=0.0).run(stop))
    async with asyncio.timeout(60):
        await looked.wait()
        while ingest.health().ready:
            await asyncio.sleep(0.01)
        assert ingest.health().reason == "table silence is missing"
        assert isinstance(await ingest.submit("a", batch(1)), Stored)
        looked.clear()
        await looked.wait()
        assert not ingest.health(time.monotonic() + 1).ready
        missing.clear()
        while not ingest.health().ready:
            await asyncio.sleep(0.01)
    stop.set()
    await trial
    await ingest.close()
    await running


@pytest.mark.parametrize("reason", ["full", "read_only"])
async def test_a_failure_is_over_when_a_trial_succeeds_though_its_agent_went_elsewhere(
    store: Gated, reason: str
) -> None:
    """No small write is proof of room: a heartbeat isn't, a trial of the failed size is."""
    ingest = Ingest(store)
    running = asyncio.create_task(ingest.run())
    store.failing = StoreUnavailable("no room", reason)
    with pytest.raises(StoreUnavailable):
        await ingest.submit("a", batch(1))
    assert not ingest.health(time.monotonic() + 1_000).ready, "a heartbeat says nothing of room"
    assert ingest.doubt_bytes is not None
    assert ingest.doubt_bytes > 0
    sizes: list[int] = []
    failures = [StoreUnavailable("still no room", reason)]

    class Trying(Whole):
        async def try_write(self, size: int) -> None:
            sizes.append(size)
            if failures:
                raise failures.pop()

    stop = asyncio.Event()
    trial = asyncio.create_task(Trial(Trying(), ingest, trouble_s=0.01).run(stop))
    async with asyncio.timeout(60):
        while not ingest.health().ready:
            await asyncio.sleep(0.01)
    assert len(sizes) >= 2
    assert min(sizes) > 0
    stop.set()
    await trial
    await ingest.close()
    await running


async def test_damage_is_not_over_with_a_trial_and_a_broken_link_is_over_with_any_write(store: Gated) -> None:
    """A page that can't be read isn't met by what a trial writes; a link that carries a heartbeat works."""
    ingest = Ingest(store)
    running = asyncio.create_task(ingest.run())
    store.failing = StoreDamaged("a page is damaged")
    with pytest.raises(StoreDamaged):
        await ingest.submit("a", batch(1))
    ingest.tried(None, time.monotonic() + 1)
    assert not ingest.health().ready
    await asyncio.sleep(ingest.retry_after_ms() / 1000)
    store.failing = StoreUnavailable("another program writes", "locked")
    async with asyncio.timeout(60):
        while ingest.health().reason != "another program writes":
            with contextlib.suppress(StoreError):
                await ingest.submit("a", batch(1))
            await asyncio.sleep(0.01)
    assert not ingest.health().ready
    assert ingest.health(time.monotonic() + 1).ready
    await ingest.close()
    await running


async def test_a_store_that_is_quiet_is_tried_and_one_that_commits_is_not(store: Gated) -> None:
    """What is committed shows it."""
    ingest = Ingest(store)
    running = asyncio.create_task(ingest.run())
    tried = asyncio.Event()

    class Trying(Whole):
        async def try_write(self, size: int) -> None:
            assert size == 0
            tried.set()
            raise StoreUnavailable("the disk is full", "full")

    stop = asyncio.Event()
    trial = asyncio.create_task(Trial(Trying(), ingest, quiet_s=0.0, trouble_s=0.01).run(stop))
    await asyncio.wait_for(tried.wait(), 60)
    stop.set()
    await trial
    assert (ingest.health().ready, ingest.health().reason) == (False, "the disk is full")
    assert isinstance(await ingest.submit("a", batch(1)), Stored)
    assert ingest.health().ready
    again = Trial(store, ingest, quiet_s=1e9, trouble_s=0.0)
    store.engine = None  # type: ignore[assignment]
    stop = asyncio.Event()
    running_again = asyncio.create_task(again.run(stop))
    for _ in range(20):
        await asyncio.sleep(0)
    stop.set()
    await running_again
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


async def test_the_lag_is_the_age_of_what_waits_longest_and_ends_with_its_commit(store: Gated) -> None:
    """A younger batch behind it makes it no shorter; with nothing that waits there is none."""
    ingest = Ingest(store, max_group=1)
    running = asyncio.create_task(ingest.run())
    assert ingest.lag_s() == 0.0
    store.gate.clear()
    begin = time.monotonic()
    waiting = [await ingest.enqueue("a", batch(1))]
    queued = time.monotonic()
    while not store.groups:
        await asyncio.sleep(0)
    waiting.append(await ingest.enqueue("a", batch(2)))
    before = time.monotonic()
    lag = ingest.lag_s()
    assert before - queued <= lag <= time.monotonic() - begin
    store.gate.set()
    await asyncio.gather(*waiting)
    assert ingest.lag_s() == 0.0
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
    async with asyncio.timeout(60):
        while not store.groups:  # some wait in a commit, the others in the queue
            await asyncio.sleep(0)
    more = [await ingest.enqueue("a", batch(seq)) for seq in range(5, 9)]
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    results = await asyncio.wait_for(asyncio.gather(*waiting, *more, return_exceptions=True), 60)
    assert all(isinstance(result, IngestClosed) for result in results)
    store.gate.set()


async def test_series_above_the_limit_are_told_once_a_minute_however_many_batches(
    store: Gated, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each batch is acknowledged and counted; the log names the agents, and begins anew after a minute."""
    store.limit_series(SeriesLimits(per_agent=1))
    ingest = Ingest(store)
    running = asyncio.create_task(ingest.run())

    async def send(seq: int) -> None:
        content = Payload(samples({1: [(T0 + seq, 1.0)], 2: [(T0 + seq, 2.0)], 3: [(T0 + seq, 3.0)]}))
        defs = definitions.encode(defined("x", "y", "z"))
        one = frame.encode_batch(BatchKey("a", bytes(16), seq), content, defined=defs)
        assert isinstance(await ingest.submit("a", one), Stored)

    with structlog.testing.capture_logs() as lines:
        for seq in range(1, 21):
            await send(seq)
        monkeypatch.setattr(
            module,
            "time",
            SimpleNamespace(monotonic=lambda: time.monotonic() + 61, perf_counter=time.perf_counter),
        )
        await send(21)
    told = [line for line in lines if line["event"] == "ingest.series_limit"]
    assert [(line["readings"], line["most"]) for line in told] == [(2, {"a": 2}), (40, {"a": 40})]
    assert (ingest.counters.samples, ingest.counters.over_limit) == (21, 42)
    await ingest.close()
    await running


async def test_a_small_batch_is_decoded_where_it_is_and_a_large_one_beside_the_loop(store: Gated) -> None:
    """A hand-over to a thread and back costs a lone reading more than its decoding; a large batch would hold up everybody."""
    ingest = Ingest(store)
    running = asyncio.create_task(ingest.run())
    where: dict[int, str] = {}
    decode = frame.batch

    def seen(agent: str, one: pb.Batch) -> Decoded:
        where[one.seq] = threading.current_thread().name
        return decode(agent, one)

    large = Payload(samples({1: [(T0 + at, random.random()) for at in range(module.SMALL_BYTES // 4)]}))
    wordy = events(*((T0 + at, 9, "src", "x" * 1000, {}) for at in range(500)))
    bomb = frame.encode_batch(BatchKey("a", bytes(16), 3), Payload(events=wordy))
    assert len(bomb.payload) < module.SMALL_BYTES // 2
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module.wire, "batch", seen)
        assert isinstance(await ingest.submit("a", bomb), Stored)
        assert isinstance(await ingest.submit("a", batch(1)), Stored)
        assert isinstance(
            await ingest.submit("a", frame.encode_batch(BatchKey("a", bytes(16), 2), large)), Stored
        )
    assert where[1] == threading.main_thread().name
    assert where[2].startswith("ingest-decode")
    assert where[3].startswith("ingest-decode"), "few bytes that unpack to many"
    await ingest.close()
    await running
