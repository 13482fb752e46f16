"""Leases at work: work runs where its lease is, ends when it is lost, and knows under which it writes."""

import asyncio
from collections.abc import Callable, Mapping, Sequence

import pytest

import telemetryx.leases
from telemetryx.clock import ManualClock
from telemetryx.errors import StoreUnavailable
from telemetryx.leases import Leases
from telemetryx.store.tables import lease
from telemetryx.store.tables.lease import Beat, Held, Lease, Member

PATIENCE_S = 60.0


class Registrar:
    """Grants what the test says, and counts what is asked."""

    def __init__(self, *, shared: bool = True) -> None:
        self.member = Member("me")
        self.shared = shared
        self.grant: dict[str, Held] = {}
        self.broken = False
        self.beats = 0
        self.left: list[Sequence[Held]] = []

    async def beat(self, tasks: Sequence[str], held: Mapping[str, Held], ttl_ns: int) -> Beat:
        """Grant."""
        del held, ttl_ns
        self.beats += 1
        if self.broken:
            raise StoreUnavailable("away", "io")
        found = {task: self.grant[task] for task in tasks if task in self.grant}
        return Beat(
            found, [Lease(one.task, one.owner, one.fence, 1) for one in found.values()], [self.member], ()
        )

    async def release(self, held: Sequence[Held], *, leave: bool = False) -> None:
        """Note it."""
        assert leave
        self.left.append(held)


class Worker:
    """Work that says under which lease it runs, and when it was cancelled."""

    def __init__(self) -> None:
        self.runs: asyncio.Queue[Held | None] = asyncio.Queue()
        self.cancelled: asyncio.Queue[None] = asyncio.Queue()

    async def __call__(self, stop: asyncio.Event) -> None:
        """Run until told."""
        await self.runs.put(lease.current.get())
        try:
            await stop.wait()
        except asyncio.CancelledError:
            await self.cancelled.put(None)
            raise


async def heard(queue: "asyncio.Queue[Held | None]") -> Held | None:
    """Wait for a run."""
    return await asyncio.wait_for(queue.get(), PATIENCE_S)


async def test_work_runs_under_its_lease_and_begins_anew_under_the_next() -> None:
    """Its writes carry the number; one that was lost and granted again has another; stop lets go."""
    store, worker = Registrar(), Worker()
    leases = Leases(store, ttl_s=60, beat_s=0.01)
    stop = asyncio.Event()
    tasks = [asyncio.create_task(leases.under("rules", worker)(stop)), asyncio.create_task(leases.run(stop))]
    store.grant = {"rules": Held("rules", "me", 1)}
    assert await heard(worker.runs) == Held("rules", "me", 1)
    assert (leases.holds("rules"), leases.owners()) == (True, {"rules": "me"})
    assert lease.current.get() is None, "whoever runs beside it writes as before"
    store.grant = {"rules": Held("rules", "me", 3)}
    await asyncio.wait_for(worker.cancelled.get(), PATIENCE_S)
    assert await heard(worker.runs) == Held("rules", "me", 3)
    store.grant = {}
    await asyncio.wait_for(worker.cancelled.get(), PATIENCE_S)
    assert (leases.holds("rules"), leases.owners()) == (False, {"rules": ""})
    store.grant = {"rules": Held("rules", "me", 5)}
    await heard(worker.runs)
    stop.set()
    await asyncio.wait_for(asyncio.gather(*tasks), PATIENCE_S)
    assert store.left == [[Held("rules", "me", 5)]]


async def test_an_owner_that_cannot_renew_in_time_stops_by_its_own_clock() -> None:
    """Nobody need tell it: the heartbeat fails until the lease must be over."""
    store, worker = Registrar(), Worker()
    leases = Leases(store, ttl_s=0.2, beat_s=0.01)
    stop = asyncio.Event()
    store.grant = {"rules": Held("rules", "me", 1)}
    tasks = [asyncio.create_task(leases.under("rules", worker)(stop)), asyncio.create_task(leases.run(stop))]
    await heard(worker.runs)
    store.broken = True
    # On a busy machine it may have been late before, too, and have got its lease back.
    async with asyncio.timeout(PATIENCE_S):
        while leases.holds("rules"):
            await asyncio.sleep(0.001)
        await worker.cancelled.get()
        while not worker.runs.empty():
            worker.runs.get_nowait()
    assert not leases.holds("rules")
    store.broken = False
    await heard(worker.runs)
    stop.set()
    await asyncio.wait_for(asyncio.gather(*tasks), PATIENCE_S)


async def test_a_store_of_ones_own_is_asked_once() -> None:
    """No heartbeat is written to SQLite: an idle collector leaves its disk alone."""
    store, worker = Registrar(shared=False), Worker()
    leases = Leases(store, ttl_s=0.05, beat_s=0.01)
    stop = asyncio.Event()
    store.grant = {"rules": Held("rules", "me", 1)}
    tasks = [asyncio.create_task(leases.under("rules", worker)(stop)), asyncio.create_task(leases.run(stop))]
    await heard(worker.runs)
    before = store.beats
    await asyncio.sleep(0.1)
    assert store.beats == before <= 2
    stop.set()
    await asyncio.wait_for(asyncio.gather(*tasks), PATIENCE_S)


async def test_what_work_raises_reaches_whoever_owns_its_task() -> None:
    """So that it is logged, counted and tried again as any other."""

    async def fails(stop: asyncio.Event) -> None:
        del stop
        raise ValueError("broken")

    store = Registrar()
    leases = Leases(store, beat_s=0.01)
    stop = asyncio.Event()
    store.grant = {"rules": Held("rules", "me", 1)}
    running = asyncio.create_task(leases.under("rules", fails)(stop))
    beating = asyncio.create_task(leases.run(stop))
    found = await asyncio.wait_for(asyncio.gather(running, return_exceptions=True), PATIENCE_S)
    assert [str(error) for error in found] == ["broken"]
    stop.set()
    await asyncio.wait_for(beating, PATIENCE_S)


async def test_a_heartbeat_that_fails_or_waits_says_what_is_wrong_with_the_store() -> None:
    """Until one succeeds."""
    store = Registrar()
    leases = Leases(store, beat_s=0.001)
    stop = asyncio.Event()
    running = asyncio.create_task(leases.run(stop))

    async def until(said: str) -> None:
        async with asyncio.timeout(PATIENCE_S):
            while leases.trouble() != said:
                await asyncio.sleep(0.001)

    async with asyncio.timeout(PATIENCE_S):
        while not leases.wrote_at:
            await asyncio.sleep(0.001)
    assert leases.trouble() == ""
    store.broken = True
    await until("away")
    before = leases.wrote_at
    store.broken = False
    await until("")
    assert leases.wrote_at > before
    stop.set()
    await running


async def test_while_the_store_takes_nothing_nobody_is_noted_and_afterwards_since_then(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A failure of a moment counts for nothing."""
    monkeypatch.setattr(telemetryx.leases, "DEAF_S", 1.0)
    store, clock = Registrar(), ManualClock()
    store.member = Member("me", started_ns=clock.now_ns())
    leases = Leases(store, beat_s=0.05, clock=clock)
    stop = asyncio.Event()
    running = asyncio.create_task(leases.run(stop))

    async def until(what: Callable[[], bool]) -> None:
        async with asyncio.timeout(PATIENCE_S):
            while not what():
                await asyncio.sleep(0.001)

    await until(lambda: leases.since_ns() is not None)
    store.broken = True
    await until(lambda: leases.trouble() != "")
    clock.advance(180)
    assert leases.since_ns() == store.member.started_ns
    await until(lambda: leases.since_ns() == clock.now_ns())
    store.broken = False
    await until(lambda: leases.trouble() == "")
    back = clock.now_ns()
    clock.advance(60)
    assert leases.since_ns() == back
    stop.set()
    await running


async def test_a_store_that_takes_nothing_at_the_end_costs_a_sentence(
    capsys: pytest.CaptureFixture[str],
) -> None:
    """A process that is stopped while its database may only be read ended with a traceback; leases end by themselves."""

    class Closed(Registrar):
        async def release(self, held: Sequence[Held], *, leave: bool = False) -> None:
            del held, leave
            raise StoreUnavailable("only to be read", "read_only")

    store, worker = Closed(), Worker()
    leases = Leases(store, ttl_s=60, beat_s=0.01)
    stop = asyncio.Event()
    store.grant = {"rules": Held("rules", "me", 1)}
    tasks = [asyncio.create_task(leases.under("rules", worker)(stop)), asyncio.create_task(leases.run(stop))]
    await heard(worker.runs)
    stop.set()
    await asyncio.wait_for(asyncio.gather(*tasks), PATIENCE_S)
    assert "leases_not_released" in capsys.readouterr().out
    assert not leases.holds("rules")
