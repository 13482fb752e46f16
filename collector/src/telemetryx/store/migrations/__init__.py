"""The schema's history: one numbered SQL file a step, applied once each, in order, in a transaction of its own.

A file that was ever released never changes; a change is a new file. Applied names are kept by sqlite-utils in
`_sqlite_migrations`; a name there that isn't here means that a newer collector wrote the file.
"""

import sqlite3
from collections.abc import Iterable
from importlib import resources
from typing import TYPE_CHECKING

from telemetryx.errors import SchemaTooNew

if TYPE_CHECKING:
    import sqlite_utils

SET = "telemetryx"


def scripts(package: str = __package__ or "") -> dict[str, str]:
    """Return every step's text by name, in order; `package` is the folder of an engine."""
    files = (entry for entry in resources.files(package).iterdir() if entry.name.endswith(".sql"))
    return {
        entry.name.removesuffix(".sql"): entry.read_text(encoding="utf-8") for entry in sorted(files, key=str)
    }


def statements(script: str) -> list[str]:
    """Cut a script into statements, as sqlite3 understands them (executescript would end our transaction)."""
    out: list[str] = []
    part = ""
    for line in script.splitlines(keepends=True):
        part += line
        if sqlite3.complete_statement(part):
            out.append(part)
            part = ""
    return [*out, part] if part.strip() else out


def refuse_newer(applied: Iterable[str], known: Iterable[str]) -> None:
    """Raise SchemaTooNew when steps were applied that aren't known here."""
    names = set(known)
    if newer := [name for name in applied if name not in names]:
        raise SchemaTooNew(
            f"this store was written by a newer collector (schema step {newer[-1]}; this one knows up to {max(names)}): "
            "upgrade the collector, or restore a copy from before"
        )


def migrate(connection: sqlite3.Connection) -> list[str]:
    """Apply what is missing and return its names. Raises SchemaTooNew when the file knows steps that we don't."""
    # A tenth of a second to load, and whoever only reads a store never migrates it.
    import sqlite_utils  # noqa: PLC0415
    from sqlite_utils.migrations import Migrations  # noqa: PLC0415

    database = sqlite_utils.Database(connection)
    steps = Migrations(SET)
    known = scripts()
    for name, text in known.items():
        steps(name=name)(_step(statements(text)))
    applied = [step.name for step in steps.applied(database)]
    refuse_newer(applied, known)
    pending = [step.name for step in steps.pending(database)]
    steps.apply(database)
    return pending


class _step:  # noqa: N801 - used as a function; sqlite-utils asks for a __name__
    """One migration: runs its statements."""

    __name__ = "step"

    def __init__(self, parts: list[str]) -> None:
        self._parts = parts

    def __call__(self, db: "sqlite_utils.Database", /) -> None:
        for part in self._parts:
            db.execute(part)
