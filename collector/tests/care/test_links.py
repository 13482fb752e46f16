"""The task that cares for live sessions goes on while the store is away, and nothing that agents said is lost by it."""

import asyncio
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import TypeVar

import pytest

from telemetryx.care import links as module
from telemetryx.care.links import Guest, Links, Part
from telemetryx.care.service import Care, Push
from telemetryx.clock import ManualClock
from telemetryx.errors import StoreUnavailable
from telemetryx.store.audit import Actor
from telemetryx.store.care import ConfigState, Kind, Phase, Request, RequestState, Target
from telemetryx.store.sqlite.store import SqliteStore
from telemetryx.store.tables.database import Database

T = TypeVar("T")
ANA = Actor("ana", "api")
MINUTE = 60 * 10**9


class Flaky:
    """A store that can be away."""

    def __init__(self, store: SqliteStore) -> None:
        """Begin with it there."""
        self._store = store
        self.away = False
        self.refused = 0

    async def read(self, work: Callable[[Database], T]) -> T:
        """Read, unless it is away."""
        self._look()
        return await self._store.read(work)

    async def write(self, work: Callable[[Database], T]) -> T:
        """Write, unless it is away."""
        self._look()
        return await self._store.write(work)

    def _look(self) -> None:
        if self.away:
            self.refused += 1
            raise StoreUnavailable("the store is away", "io")


class Line:
    """A session that keeps what it is told."""

    def __init__(self) -> None:
        """Begin with nothing."""
        self.configs: list[int] = []
        self.requests: list[Request] = []

    def configure(self, version: int, toml: str, digest: bytes) -> None:
        """Keep a version."""
        del toml, digest
        self.configs.append(version)

    def ask(self, request: Request) -> None:
        """Keep a request."""
        self.requests.append(request)


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[SqliteStore]:
    """A store with one agent."""
    opened = await SqliteStore.open(tmp_path / "t.db")
    await opened.session_opened("pump", "p", "1.0", {}, 0.0)
    yield opened
    await opened.close()


async def until(met: Callable[[], bool]) -> None:
    """Wait for a condition."""
    async with asyncio.timeout(60):
        while not met():
            await asyncio.sleep(0.005)


def entered(links: Links, line: Line, session: int = 1) -> Guest:
    """Have the agent's session begin."""
    return links.enter("pump", {}, ConfigState("pump", session, phase=Phase.NONE, requests=True), line)


async def test_an_outage_of_the_store_is_only_a_delay(
    store: SqliteStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was pushed, asked and said meanwhile goes out and is kept when it is over; an answer it couldn't keep fails."""
    monkeypatch.setattr(module, "WATCH_S", 0.01)
    flaky, clock = Flaky(store), ManualClock(1)
    links, line = Links(flaky, clock), Line()
    care = Care(store, clock)
    stop = asyncio.Event()
    watching = asyncio.create_task(links.watch(stop))
    guest = entered(links, line)
    asked = await care.ask("pump", Kind.DIAGNOSTICS, {}, MINUTE, ANA)
    await until(lambda: len(line.requests) == 1)
    flaky.away = True
    await until(lambda: flaky.refused > 2)
    made, _ = await care.push(Push("a = 1", Target()), ANA)
    links.said(guest, ConfigState("pump", 1, phase=Phase.FAILED, reason="said meanwhile", requests=True))
    await links.answered(guest, Part(asked.mark, 0, b"lost", done=True, error=""))
    refused = flaky.refused
    await until(lambda: flaky.refused > refused + 2)
    assert line.configs == []
    flaky.away = False
    await until(lambda: line.configs == [made.version])

    async def kept() -> bool:
        found = await care.state("pump")
        return found is not None and found[0].said is not None and found[0].said.reason == "said meanwhile"

    async with asyncio.timeout(60):
        while not await kept():
            await asyncio.sleep(0.005)
    assert (await care.request(asked.id)).state is RequestState.ASKED
    clock.advance(10 * MINUTE)
    await care.upkeep()
    assert (await care.request(asked.id)).state is RequestState.FAILED
    stop.set()
    await watching


async def test_what_was_said_last_is_kept_at_the_end(store: SqliteStore) -> None:
    """A collector that stops in order writes what agents said in its last second."""
    clock = ManualClock(1)
    links, line = Links(store, clock), Line()
    stop = asyncio.Event()
    watching = asyncio.create_task(links.watch(stop))
    guest = entered(links, line)
    await links.leave(guest)
    links.said(guest, ConfigState("pump", 1, phase=Phase.DECLINED))
    stop.set()
    async with asyncio.timeout(60):
        await watching
    found = await Care(store, clock).state("pump")
    assert found is not None
    assert found[0].said is not None
    assert found[0].said.phase is Phase.DECLINED


async def test_of_two_sessions_of_an_agent_the_newer_is_asked(store: SqliteStore) -> None:
    """The older one is dying: it is configured as well, for all that is known, and what it says last doesn't count."""
    clock = ManualClock(1)
    links, old, new = Links(store, clock), Line(), Line()
    care = Care(store, clock, links.changed)
    stop = asyncio.Event()
    first = entered(links, old)
    entered(links, new, 2)
    links.said(first, ConfigState("pump", 1, phase=Phase.FAILED, reason="late"))
    watching = asyncio.create_task(links.watch(stop))
    await care.ask("pump", Kind.DIAGNOSTICS, {}, MINUTE, ANA)
    await care.push(Push("a = 1", Target()), ANA)
    await until(lambda: bool(new.requests and new.configs and old.configs))
    assert old.requests == []
    stop.set()
    await watching
    found = await care.state("pump")
    assert found is not None
    assert found[0].said is not None
    assert (found[0].said.session, found[0].said.phase) == (2, Phase.NONE)


async def test_a_change_for_a_whole_fleet_goes_out_in_portions(
    store: SqliteStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No more is under way than may be in memory; each session that has written its own, or ended, makes room."""
    clock = ManualClock(1)
    links, care = Links(store, clock), Care(store, clock)
    text = "# " + "x" * 1_000
    monkeypatch.setattr(module, "MAX_UNDER_WAY", 3_000)
    await care.push(Push(text, Target()), ANA)
    lines = [Line() for _ in range(10)]
    guests = [
        links.enter(f"a{number}", {}, ConfigState(f"a{number}", 1), line) for number, line in enumerate(lines)
    ]
    stop = asyncio.Event()
    watching = asyncio.create_task(links.watch(stop))

    def told() -> int:
        return sum(bool(line.configs) for line in lines)

    await until(lambda: told() >= 3)
    for expected in (4, 5):
        # One makes room for one, and the count stands before the next does.
        gone = next(guest for guest in guests if guest.under_way)
        if expected == 4:
            links.written(gone)
        else:
            await links.leave(gone)
        await until(lambda expected=expected: told() >= expected)  # type: ignore[misc]
        assert told() == expected
        assert sum(guest.under_way for guest in guests) == 3 * len(text)
    while told() < 10:
        for guest in guests:
            links.written(guest)
        await asyncio.sleep(0.005)
    stop.set()
    await watching


async def test_an_answer_on_a_slow_link_is_seen_to_come_and_isnt_given_up(store: SqliteStore) -> None:
    """A part a minute for half an hour, far less than a piece in all."""
    clock = ManualClock(1)
    links, line = Links(store, clock), Line()
    care = Care(store, clock, links.changed)
    stop = asyncio.Event()
    watching = asyncio.create_task(links.watch(stop))
    guest = entered(links, line)
    asked = await care.ask("pump", Kind.DIAGNOSTICS, {}, MINUTE, ANA)
    await until(lambda: len(line.requests) == 1)
    for number in range(30):
        clock.advance(MINUTE)
        await links.answered(guest, Part(asked.mark, number * 100, b"x" * 100, done=number == 29, error=""))
        await care.upkeep()
        found = await care.request(asked.id)
        assert (found.state is RequestState.ASKED) == (number < 29)
        assert found.size == (number + 1) * 100
    assert found.state is RequestState.DONE
    stop.set()
    await watching
