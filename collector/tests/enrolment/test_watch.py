"""What other processes on the store decide reaches this one, also after a time in which it couldn't read."""

import asyncio
from collections.abc import Callable
from typing import TypeVar

import pytest

from enrolment.conftest import DAY, OPERATOR, Host, Site
from telemetryx.enrolment import service
from telemetryx.enrolment.service import Enrolment, Policy
from telemetryx.errors import StoreUnavailable
from telemetryx.store.enrolment import Enrolled, State
from telemetryx.store.sqlite.store import SqliteStore
from telemetryx.store.tables.database import Database

T = TypeVar("T")


class Flaky:
    """A store that can be away."""

    def __init__(self, store: SqliteStore) -> None:
        """Begin with it there."""
        self._store = store
        self.away = False
        self.refused = asyncio.Event()

    async def read(self, work: Callable[[Database], T]) -> T:
        """Read, unless it is away."""
        if self.away:
            self.refused.set()
            raise StoreUnavailable("the store is away", "io")
        return await self._store.read(work)

    async def write(self, work: Callable[[Database], T]) -> T:
        """Write."""
        return await self._store.write(work)


async def test_a_revocation_of_another_process_is_heard_after_an_outage(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However long it was, and without the task's end."""
    monkeypatch.setattr(service, "WATCH_S", 0.01)
    await site.join(Host("pump"))
    flaky = Flaky(site.store)
    here = Enrolment(flaky, site.enrolment.authority, site.clock, Policy(90 * DAY))
    heard: list[Enrolled] = []
    revoked = asyncio.Event()

    def listen(one: Enrolled) -> None:
        heard.append(one)
        if one.state is State.REVOKED:
            revoked.set()

    here.subscribe(listen)
    stop = asyncio.Event()
    watching = asyncio.create_task(here.watch(stop))
    flaky.away = True
    async with asyncio.timeout(60):
        await flaky.refused.wait()
        await site.enrolment.revoke("pump", OPERATOR)
        site.clock.advance(DAY)
        flaky.away = False
        await revoked.wait()
        stop.set()
        await watching
    assert [one.state for one in heard if one.state is State.REVOKED] == [State.REVOKED]
