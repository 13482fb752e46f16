"""How often series have ended (ending.py): who remembers something of series in memory looks whether it is still so.

It is counted in the transaction that deletes them, under the locks that commits of their agent take.
"""

from typing import Final

from telemetryx.store.tables.database import Database

_KEY: Final = "series_ended"


def note_ended(connection: Database) -> None:
    """Have everybody who remembers numbers of before look again."""
    connection.execute(
        "INSERT INTO meta VALUES (?, 1) ON CONFLICT (key) DO UPDATE SET value = meta.value + 1", (_KEY,)
    )


def ended(connection: Database) -> int:
    """Count the times that series ended, as this transaction sees it: asked once in it."""
    if connection.ended is None:
        connection.ended = connection.noted(_KEY) or 0
    return connection.ended
