"""The schema's history in PostgreSQL: numbered SQL files as in store/migrations, each applied once in one transaction.

A file that was ever released never changes; a change is a new file. Names of applied ones stand in `schema_step`.
"""

from telemetryx.store.migrations import refuse_newer, scripts
from telemetryx.store.postgres import numbering
from telemetryx.store.postgres.database import PostgresDatabase
from telemetryx.store.postgres.engine import MIGRATION_LOCK

_STEPS = """CREATE TABLE IF NOT EXISTS schema_step (
  name TEXT COLLATE "C" PRIMARY KEY,
  applied_at TIMESTAMPTZ NOT NULL DEFAULT now()
)"""


def migrate(database: PostgresDatabase) -> list[str]:
    """Apply what is missing, all of it or nothing, and return the names. Raises SchemaTooNew for steps that we don't know.

    Collectors that start together do it one after the other: the lock ends with the transaction.
    """
    known = scripts(__package__)
    database.begin()
    try:
        database.execute("SELECT pg_advisory_xact_lock(?)", (MIGRATION_LOCK,))
        # Not where another schema of `search_path` has it: IF NOT EXISTS looks into the first alone.
        if database.execute("SELECT to_regclass('schema_step') IS NULL").fetchone()[0]:
            database.execute(_STEPS)
        applied = [row[0] for row in database.execute("SELECT name FROM schema_step ORDER BY name")]
        refuse_newer(applied, known)
        pending = [name for name in known if name not in applied]
        for name in pending:
            database.script(known[name])
            database.execute("INSERT INTO schema_step (name) VALUES (?)", (name,))
        # Also without a new step: a dump may have been restored into a server whose transactions count from less.
        numbering.keep_ascending(database)
        database.commit()
    except BaseException:
        database.rollback()
        raise
    return pending
