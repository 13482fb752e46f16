"""Tells live streams when who may ask has changed: a session ended, a password or role is another, a token was revoked.

Each such change leaves an entry in the audit log, whichever process made it: this one, another collector on the store, the command
line. So one look at the newest entry answers for all streams of this process, and none is made while there is none.
"""

import asyncio
import contextlib
from collections.abc import Iterator
from typing import Final

from telemetryx.errors import StoreError
from telemetryx.store.audit import AuditQuery
from telemetryx.store.interface import Store

LOOK_S: Final = 1.0
"""How often the newest entry is looked at."""


class Changes:
    """The number of changes seen. A stream remembers it, looks whether its session holds, and waits until it is another."""

    def __init__(self, store: Store) -> None:
        """Know nothing yet."""
        self._store = store
        self._newest: int | None = None
        self._streams = 0
        self._begun = asyncio.Event()
        self._changed = asyncio.Event()
        self.number = 0

    @contextlib.contextmanager
    def watched(self) -> Iterator[None]:
        """Look while a stream lasts."""
        self._streams += 1
        self._begun.set()
        try:
            yield
        finally:
            self._streams -= 1

    async def after(self, seen: int, timeout_s: float) -> None:
        """Wait until there is a change that isn't `seen`, at most so long."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(timeout_s):
                while self.number == seen:
                    await self._changed.wait()

    async def run(self) -> None:
        """Look again and again while there is a stream; runs until it is cancelled."""
        while True:
            if self._streams <= 0:
                # What changes while nobody waits is found by each stream's own first look.
                self._newest = None
                self._begun.clear()
                await self._begun.wait()
            with contextlib.suppress(StoreError):
                await self._look()
            await asyncio.sleep(LOOK_S)

    async def _look(self) -> None:
        rows = await self._store.audited(AuditQuery(limit=1))
        newest = rows[0].id if rows else 0
        if newest != self._newest:
            self._newest = newest
            self.number += 1
            woken, self._changed = self._changed, asyncio.Event()
            woken.set()
