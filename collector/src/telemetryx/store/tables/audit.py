"""Table `audit` (store/audit.py says what it is)."""

import json
from typing import Any, Final

from telemetryx.store.audit import MAX_TEXT, Actor, Audited, AuditQuery, Entry, Fields, shown
from telemetryx.store.tables.database import Database

_COLUMNS: Final = 'id, at_ns, actor, via, peer, action, target, "before", "after"'


def note(connection: Database, at_ns: int, entry: Entry) -> None:
    """Add an entry, in the transaction of what it tells of."""
    connection.execute(
        'INSERT INTO audit (at_ns, actor, via, peer, action, target, "before", "after") VALUES (?, ?, ?, ?, ?, ?, ?, ?)',
        (
            at_ns,
            *(text[:MAX_TEXT] for text in (entry.actor.name, entry.actor.via, entry.actor.peer)),
            entry.action,
            entry.target[:MAX_TEXT],
            _written(entry.before),
            _written(entry.after),
        ),
    )


def note_by(
    connection: Database,
    at_ns: int,
    by: Actor | None,
    action: str,
    target: object,
    before: Fields | None,
    after: Fields | None,
) -> None:
    """Add an entry where it is known who does it; a collector's own work leaves none."""
    if by is not None:
        note(connection, at_ns, Entry(by, action, str(target), before, after))


def query(connection: Database, wanted: AuditQuery) -> list[Audited]:
    """Return entries, newest first."""
    tests: list[str] = []
    values: list[Any] = []
    for test, value in (
        ("actor = ?", wanted.actor),
        ("target = ?", wanted.target),
        ("at_ns >= ?", wanted.start_ns),
        ("at_ns < ?", wanted.end_ns),
        ("id < ?", wanted.before),
    ):
        if value is not None:
            tests.append(test)
            values.append(value)
    if wanted.action is not None:
        tests.append("(action = ? OR (action >= ? AND action < ?))")
        # The noun's own actions: everything between `noun.` and what follows the dot.
        values += [wanted.action, f"{wanted.action}.", f"{wanted.action}/"]
    where = f"WHERE {' AND '.join(tests)} " if tests else ""
    rows = connection.execute(
        f"SELECT {_COLUMNS} FROM audit {where}ORDER BY id DESC LIMIT ?", (*values, wanted.limit)
    )
    return [
        Audited(number, at_ns, Actor(name, via, peer), action, target, _read(before), _read(after))
        for number, at_ns, name, via, peer, action, target, before, after in rows
    ]


def _written(fields: Fields | None) -> str | None:
    return None if fields is None else json.dumps(shown(fields), ensure_ascii=False, separators=(",", ":"))


def _read(text: str | None) -> Fields | None:
    if text is None:
        return None
    fields: Fields = json.loads(text)
    return fields
