"""The store's own number, made once: what lies outside of the store under series ids (the hot view, its place at a site's broker) is named by it.

A copy of a store is another one: both go on with the same ids for different series. So no copy, backup or restored store has the
number of its original; the first start makes it a new one.
"""

import secrets
from typing import Final

from telemetryx.store.tables.database import Database

_KEY: Final = "store_id"


def identity(connection: Database) -> int:
    """Return the number, making it in a store that has none yet."""
    connection.execute(
        "INSERT INTO meta VALUES (?, ?) ON CONFLICT (key) DO NOTHING", (_KEY, secrets.randbits(62))
    )
    (number,) = connection.execute("SELECT value FROM meta WHERE key = ?", (_KEY,)).fetchone()
    return int(number)


def forget(connection: Database) -> None:
    """Have the next start make a new number, and know nothing of a log beside a file (sqlite/wal.py)."""
    connection.execute("DELETE FROM meta WHERE key IN (?, 'log_begun', 'log_seen', 'log_missed_ns')", (_KEY,))
