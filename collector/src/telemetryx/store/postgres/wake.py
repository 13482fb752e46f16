"""Wake-ups through PostgreSQL's LISTEN and NOTIFY: one connection of its own, on the collector's loop.

A process tells after its commit, from this connection and outside of any writing transaction: a NOTIFY inside one would make
all committing processes wait for each other. What several commits have to say is said once. While the connection is down,
those who follow commits poll (hot/interface.py).
"""

import asyncio
from typing import Any, Final

import asyncpg
import structlog

from telemetryx.bell import Bell
from telemetryx.store.postgres.engine import PostgresEngine

log = structlog.get_logger(__name__)

CHANNEL: Final = "telemetryx"
FIRST_PAUSE_S: Final = 0.5
LONGEST_PAUSE_S: Final = 10.0
TELL_S: Final = 5.0
"""A server that takes longer to pass a word on isn't there."""


class PostgresWake:
    """`Wake` over one database."""

    def __init__(self, engine: PostgresEngine) -> None:
        """Connect when `run` does."""
        self._engine = engine
        self._bell = Bell()
        self._tell = asyncio.Event()

    def committed(self, cursor: int) -> None:
        """Wake this process's task, and the others' soon."""
        del cursor
        self._bell.ring()
        self._tell.set()

    async def changed(self, timeout_s: float) -> bool:
        """Wait for a commit, here or elsewhere."""
        return await self._bell.heard(timeout_s)

    async def run(self, stop: asyncio.Event) -> None:
        """Keep listening and telling; connect again when the connection ends."""
        pause = FIRST_PAUSE_S
        ending = asyncio.create_task(self._wake_at(stop), name="wake-stop")
        try:
            while not stop.is_set():
                try:
                    connection = await self._engine.connect()
                except Exception as error:  # noqa: BLE001 - whatever it is, polling goes on and we try again
                    log.warning("wake_unreachable", error=str(error), again_in_s=pause)
                    await _either(stop, pause)
                    pause = min(LONGEST_PAUSE_S, 2 * pause)
                    continue
                pause = FIRST_PAUSE_S
                await self._use(connection, stop)
        finally:
            ending.cancel()
            await asyncio.gather(ending, return_exceptions=True)

    async def _wake_at(self, stop: asyncio.Event) -> None:
        await stop.wait()
        self._tell.set()

    async def _use(self, connection: Any, stop: asyncio.Event) -> None:  # noqa: ANN401 - asyncpg is untyped
        mine = connection.get_server_pid()

        def heard(_connection: object, pid: int, _channel: str, _payload: object) -> None:
            if pid != mine:
                self._bell.ring()

        connection.add_termination_listener(lambda _connection: self._tell.set())
        try:
            await connection.add_listener(CHANNEL, heard)
            while not stop.is_set() and not connection.is_closed():
                await self._tell.wait()
                self._tell.clear()
                if not stop.is_set():
                    await connection.execute(f"NOTIFY {CHANNEL}", timeout=TELL_S)
        except (OSError, TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError) as error:
            log.warning("wake_lost", error=str(error) or type(error).__name__)
        finally:
            connection.terminate()


async def _either(stop: asyncio.Event, seconds: float) -> None:
    try:
        async with asyncio.timeout(seconds):
            await stop.wait()
    except TimeoutError:
        return
