"""The log beside the file (`-wal`), which holds what was committed since the last checkpoint: noticed when somebody has deleted it alone.

while it runs    each connection knows the log that it began with and looks for it before each transaction (database.py). The one that writes still
                 has the deleted one open: it brings all of it into the file, and everybody begins with a new one. Nothing is lost
while it doesn't    before a checkpoint `meta` counts it in log_begun, and behind it, in the new log, in log_seen. So the file alone says log_begun
                 > log_seen, and with its log that both are equal, whoever brought that in. A file without a log that says so has lost it; so
                 has a copy of the file alone. Both rows go when the collector stops in order, and aren't in backups
not to be known  how much that was: what came after the last checkpoint. And a log that was deleted right after a checkpoint that SQLite made by
                 itself (64 MiB came faster than we made one), or after it was brought into the file because a write had failed
"""

from pathlib import Path
from typing import Any, Final, Protocol

from telemetryx.store.tables.today import day

_BEGUN: Final = "log_begun"
_SEEN: Final = "log_seen"
_MISSED: Final = "log_missed_ns"
"""When it was missing last."""
_PUT: Final = "INSERT INTO meta VALUES (?, ?) ON CONFLICT (key) DO UPDATE SET value = excluded.value"
KEYS: Final = (_BEGUN, _SEEN, _MISSED)


class _Connection(Protocol):
    def execute(self, statement: str, parameters: Any = ..., /) -> Any:  # noqa: ANN401 - sqlite3's, or a Database
        """Run a statement."""
        ...


def log_of(file: Path) -> Path:
    """Name a file's log."""
    return file.with_name(file.name + "-wal")


def missing(file: Path) -> bool:
    """Tell whether a file that is there has no log, or an empty one."""
    try:
        return file.stat().st_size > 0 and log_of(file).stat().st_size == 0
    except OSError:
        return file.exists()


def begin(connection: _Connection) -> int:
    """Count a checkpoint that is made next; what comes behind it lies in the log."""
    number = _read(connection, _BEGUN) + 1
    connection.execute(_PUT, (_BEGUN, number))
    return number


def seen(connection: _Connection, number: int) -> None:
    """Write into the log that a checkpoint was made."""
    connection.execute(_PUT, (_SEEN, number))


def end(connection: _Connection) -> None:
    """Count no more: all of the log goes into the file, and it is deleted."""
    connection.execute("DELETE FROM meta WHERE key IN (?, ?)", (_BEGUN, _SEEN))


def lost(connection: _Connection, file: Path) -> str:
    """Say that a file whose log is missing has lost it; "" when it hasn't."""
    if _read(connection, _BEGUN) == _read(connection, _SEEN):
        return ""
    return (
        f"the log {log_of(file)} is missing, and with it what agents had acknowledged since the last checkpoint: it was deleted while no collector ran, or {file} was "
        "copied without it; if there is a copy of both, stop the collector and put them back together, for agents don't send again what was acknowledged"
    )


def note(connection: _Connection, now_ns: int) -> None:
    """Remember that the log was missing. From here on the file is what there is."""
    connection.execute(_PUT, (_MISSED, now_ns))
    end(connection)


def missed(connection: _Connection) -> str:
    """Say that the log was missing at an earlier start; "" when it never was."""
    at = _read(connection, _MISSED)
    return f"the log (-wal) was missing at the start of {day(at)}: what it held is lost" if at else ""


def _read(connection: _Connection, key: str) -> int:
    row = connection.execute("SELECT value FROM meta WHERE key = ?", (key,)).fetchone()
    return 0 if row is None else int(row[0])
