"""Tables `silence` and `acknowledgement`, and what silences do to the outbox (tables/rules.py)."""

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any, Final

from telemetryx.errors import QueryRefused
from telemetryx.store.alerts import OPEN, Alert
from telemetryx.store.audit import Actor
from telemetryx.store.silences import MAX_STANDING, Acknowledgement, Silence, holds
from telemetryx.store.tables import audit
from telemetryx.store.tables.database import Database
from telemetryx.store.tables.reading import portions

_SILENCE: Final = "id, match, starts_ns, ends_ns, author, comment, created_ns"
Waiting = tuple[int, int, int, int | None]
"""A row of the outbox: its id, the alert's, whether it is late, and since when silences hold it back."""


def page(connection: Database, now_ns: int, limit: int, *, ended: bool) -> list[Silence]:
    """Return silences that stand or are to come, those that end first at the top; or those that ended, newest end first."""
    test, order = ("ends_ns <= ?", "ends_ns DESC, id DESC") if ended else ("ends_ns > ?", "ends_ns, id")
    rows = connection.execute(
        f"SELECT {_SILENCE} FROM silence WHERE {test} ORDER BY {order} LIMIT ?", (now_ns, limit)
    )
    return [Silence(*row) for row in rows]


def add(connection: Database, silence: Silence, by: Actor | None = None) -> Silence:
    """Enter one; the id that it comes with doesn't count. Raises QueryRefused when too many stand."""
    (standing,) = connection.execute(
        "SELECT count(*) FROM silence WHERE ends_ns > ?", (silence.created_ns,)
    ).fetchone()
    if standing >= MAX_STANDING:
        raise QueryRefused(
            f"{standing} silences stand already; at most {MAX_STANDING} may: end some, or match more with one"
        )
    values = (
        silence.match, silence.starts_ns, silence.ends_ns, silence.author, silence.comment, silence.created_ns
    )  # fmt: skip
    row = connection.execute(
        f"INSERT INTO silence (match, starts_ns, ends_ns, author, comment, created_ns) VALUES (?, ?, ?, ?, ?, ?) "
        f"RETURNING {_SILENCE}",
        values,
    ).fetchone()
    made = Silence(*row)
    audit.note_by(connection, made.created_ns, by, "silence.add", made.id, None, _fields(made))
    return made


def end(connection: Database, number: int, now_ns: int, by: Actor | None = None) -> Silence | None:
    """End one now: what it held back is looked at again. None when there is no such silence; one that ended stays as it is."""
    before = _find(connection, number)
    connection.execute(
        "UPDATE silence SET ends_ns = ?1, starts_ns = CASE WHEN starts_ns > ?1 THEN ?1 ELSE starts_ns END "
        "WHERE id = ?2 AND ends_ns > ?1",
        (now_ns, number),
    )
    connection.execute(
        "UPDATE outbox SET ready_ns = ? WHERE held_ns IS NOT NULL AND ready_ns > ?", (now_ns, now_ns)
    )
    after = _find(connection, number)
    if before is not None and after is not None and before != after:
        audit.note_by(connection, now_ns, by, "silence.end", number, _fields(before), _fields(after))
    return after


def _find(connection: Database, number: int) -> Silence | None:
    row = connection.execute(f"SELECT {_SILENCE} FROM silence WHERE id = ?", (number,)).fetchone()
    return None if row is None else Silence(*row)


def _fields(silence: Silence) -> dict[str, Any]:
    return {name: value for name, value in asdict(silence).items() if name not in {"id", "created_ns"}}


def settle(
    connection: Database, waiting: Sequence[Waiting], alerts: Sequence[Alert], now_ns: int
) -> list[Alert]:
    """Return which of the alerts that wait are told now. Those that a silence holds wait for its end; the others leave the outbox.

    Nobody is told of an alert that was found and ended while a silence held it.
    """
    standing = [
        (one, one.matchers())
        for one in page(connection, now_ns, MAX_STANDING, ended=False)
        if one.starts_ns <= now_ns
    ]
    known = {alert.id: alert for alert in alerts}
    told: list[Alert] = []
    later: list[tuple[int, int, int]] = []
    for row, number, _, held in waiting:
        alert = known.get(number)
        if alert is None:  # deleted meanwhile by retention
            continue
        over = [
            one for one, matchers in standing if holds(matchers, alert.rule, alert.severity, alert.labels)
        ]
        if over:
            since = min(one.starts_ns for one in over)
            later.append((max(one.ends_ns for one in over), since if held is None else min(held, since), row))
        elif held is None or alert.state in OPEN or alert.detected_ns < held:
            told.append(alert)
    connection.executemany("UPDATE outbox SET ready_ns = ?, held_ns = ? WHERE id = ?", later)
    stay = {row for _, _, row in later}
    connection.executemany(
        "DELETE FROM outbox WHERE id = ?", [(row[0],) for row in waiting if row[0] not in stay]
    )
    return told


def acknowledge(
    connection: Database, said: Acknowledgement, by: Actor | None = None
) -> Acknowledgement | None:
    """Note who has taken an alert on; a second one takes the first's place. None when there is no such alert."""
    if connection.execute("SELECT 1 FROM alert WHERE id = ?", (said.alert_id,)).fetchone() is None:
        return None
    before = acknowledged(connection, [said.alert_id]).get(said.alert_id)
    connection.execute(
        "INSERT INTO acknowledgement (alert_id, at_ns, author, comment) VALUES (?, ?, ?, ?) ON CONFLICT (alert_id) DO UPDATE "
        "SET at_ns = excluded.at_ns, author = excluded.author, comment = excluded.comment",
        (said.alert_id, said.at_ns, said.author, said.comment),
    )
    audit.note_by(connection, said.at_ns, by, "alert.acknowledge", said.alert_id, _said(before), _said(said))
    return said


def withdraw(connection: Database, alert: int, now_ns: int, by: Actor | None = None) -> bool:
    """Take an acknowledgement back; False when there was none."""
    before = acknowledged(connection, [alert]).get(alert)
    if before is None:
        return False
    connection.execute("DELETE FROM acknowledgement WHERE alert_id = ?", (alert,))
    audit.note_by(connection, now_ns, by, "alert.withdraw", alert, _said(before), None)
    return True


def _said(said: Acknowledgement | None) -> dict[str, Any] | None:
    return None if said is None else {"author": said.author, "comment": said.comment}


def acknowledged(connection: Database, alerts: Sequence[int]) -> dict[int, Acknowledgement]:
    """Return what was said about these alerts."""
    found: dict[int, Acknowledgement] = {}
    for marks, part in portions(alerts):
        rows: Any = connection.execute(
            f"SELECT alert_id, at_ns, author, comment FROM acknowledgement WHERE alert_id IN ({marks})", part
        )
        found.update({row[0]: Acknowledgement(*row) for row in rows})
    return found


def forget(connection: Database, before_ns: int) -> None:
    """Delete silences that ended before a time, and what was said about alerts that are gone."""
    connection.execute("DELETE FROM silence WHERE ends_ns < ?", (before_ns,))
    connection.execute("DELETE FROM acknowledgement WHERE alert_id NOT IN (SELECT id FROM alert)")
