"""PostgresStore: the store in one PostgreSQL database. What is done stands in store/tables; here are schema and server."""

import asyncio

import structlog

from telemetryx.clock import Clock, SystemClock
from telemetryx.store.postgres.engine import PostgresEngine
from telemetryx.store.postgres.migrations import migrate
from telemetryx.store.tables.commit import MAX_TIME
from telemetryx.store.tables.lease import Member
from telemetryx.store.tables.store import TableStore

log = structlog.get_logger(__name__)


class PostgresStore(TableStore):
    """A Store in a PostgreSQL database. Make one with `await PostgresStore.open(engine)`."""

    def __init__(
        self, engine: PostgresEngine, clock: Clock, readers: int, future_limit_ns: int, member: Member
    ) -> None:
        """Connect, bring the schema up to date, start the threads. Blocking: `open` runs it in a thread."""
        first = engine.open({}, 600.0)
        try:
            engine.lock(first)
            steps = migrate(first)
            (durable,) = first.execute("SHOW fsync").fetchone()
        except Exception as error:
            raise engine.translate(error) or error from error
        finally:
            first.finish()
        if steps:
            log.info("store.migrated", steps=steps)
        if durable != "on":
            log.warning(
                "store.not_durable", reason="the server runs with fsync = off: an acknowledgement may be lost"
            )
        super().__init__(engine, clock, readers, future_limit_ns, member)

    @classmethod
    async def open(
        cls,
        engine: PostgresEngine,
        *,
        clock: Clock | None = None,
        readers: int = 4,
        future_limit_ns: int = MAX_TIME,
        member: Member = Member(),  # noqa: B008 - a value that never changes
    ) -> "PostgresStore":
        """Open a store, creating its tables; a schema of an older collector is brought up to date.

        Collectors on one database have different members. Batches with times further ahead of the clock than the limit are kept apart.
        """
        return await asyncio.to_thread(cls, engine, clock or SystemClock(), readers, future_limit_ns, member)
