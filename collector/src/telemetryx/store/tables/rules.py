"""Alerts, the rules' state and the outbox (tables of migrations/0002_alerts.sql).

Each method is one transaction of the store's one writer, or one snapshot of a reader. A step of the rules is applied
whole: its alerts, what each group remembers, what receivers are to be told, and the cursor.
"""

import json
import uuid
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, Final, Protocol, TypeVar

import orjson

from telemetryx.store.alerts import (
    MAX_WAITING,
    Alert,
    AlertChange,
    AlertQuery,
    AlertState,
    ChangeKind,
    Delivery,
    GroupRow,
    OutboxUsage,
    RuleRow,
    RulesCommit,
    merge,
    notable,
    ready_ns,
)
from telemetryx.store.tables import silences
from telemetryx.store.tables.database import Database

T = TypeVar("T")
#: Alerts that one message names; the others are counted in it.
NAMED: Final = 100
#: Groups that one statement asks for.
GROUPS_AT_ONCE: Final = 200
_GROUP: Final = '"group"'
#: How long alert changes wait for who follows them.
TOLD_NS: Final = 600_000_000_000

_COLUMNS: Final = (
    'id, rule, "group", state, severity, labels, annotations, summary, value, threshold, started_ns, fired_ns, '
    "resolved_ns, detected_ns, changed_ns, late, revision, trace"
)
#: What matters most comes first in a message that can't name all.
_FIRST: Final = {AlertState.FIRING: 0, AlertState.RESOLVED: 1, AlertState.RETRACTED: 2, AlertState.CLOSED: 3}


class Lender(Protocol):
    """What a store lends: its one writer and its readers."""

    async def write(self, work: Callable[[Database], T]) -> T:
        """Run work in a transaction of its own, durable on return."""
        ...

    async def read(self, work: Callable[[Database], T]) -> T:
        """Run work on a snapshot."""
        ...


class StoredRules:
    """The part of a store that rules and notify use (`AlertStore`)."""

    def __init__(self, store: Lender) -> None:
        """Share the store's writer and readers."""
        self._store = store

    async def rules_cursor(self, consumer: str) -> int:
        """Return the number of the last commit that this consumer has worked through; 0 at first."""

        def work(connection: Database) -> int:
            row = connection.execute("SELECT cursor FROM consumer WHERE name = ?", (consumer,)).fetchone()
            return int(row[0]) if row else 0

        return await self._store.read(work)

    async def rules_known(self) -> list[RuleRow]:
        """Return what is remembered of each rule."""

        def work(connection: Database) -> list[RuleRow]:
            return [
                RuleRow(*row)
                for row in connection.execute("SELECT name, fingerprint, error, note FROM rule ORDER BY name")
            ]

        return await self._store.read(work)

    async def rules_groups(self, rule: str) -> list[GroupRow]:
        """Return the saved state of every group of a rule."""

        def work(connection: Database) -> list[GroupRow]:
            rows = connection.execute(
                'SELECT rule, "group", state FROM rule_group WHERE rule = ? ORDER BY "group"', (rule,)
            )
            return [GroupRow(*row) for row in rows]

        return await self._store.read(work)

    async def rules_group_counts(self) -> dict[str, int]:
        """Count the groups of each rule."""
        return await self._store.read(
            lambda db: dict(db.execute("SELECT rule, count(*) FROM rule_group GROUP BY rule").fetchall())
        )

    async def rules_groups_of(self, keys: Sequence[tuple[str, str]]) -> list[GroupRow]:
        """Return the saved states of these (rule, group)."""

        def work(connection: Database) -> list[GroupRow]:
            index, found = connection.index_of_group, []
            wanted = list(dict.fromkeys(keys))
            for at in range(0, len(wanted), GROUPS_AT_ONCE):
                part = wanted[at : at + GROUPS_AT_ONCE]
                named = ", ".join([f"(?, {index.replace(_GROUP, '?')})"] * len(part))
                found += connection.execute(
                    f'SELECT rule, "group", state FROM rule_group WHERE (rule, {index}) IN (VALUES {named})',
                    [value for key in part for value in key],
                ).fetchall()
            return [GroupRow(*row) for row in found]

        return await self._store.read(work)

    async def rules_commit(self, commit: RulesCommit) -> list[Alert]:
        """Apply one step; return the alerts that it changed, as they now stand (a forgotten one as retracted)."""
        return await self._store.write(lambda connection: _commit(connection, commit))

    async def rules_alerts(self, query: AlertQuery) -> list[Alert]:
        """Return alerts, newest start first."""
        return await self._store.read(lambda connection: _alerts(connection, query))

    async def rules_forget(self, before_ns: int, limit: int) -> int:
        """Delete alerts that ended before a time, at most `limit`; return how many went."""

        def work(connection: Database) -> int:
            gone = connection.execute(
                "DELETE FROM alert WHERE id IN (SELECT id FROM alert WHERE state IN ('resolved', 'retracted', 'closed') "
                "AND changed_ns < ? ORDER BY id LIMIT ?)",
                (before_ns, limit),
            ).rowcount
            silences.forget(connection, before_ns)
            return gone

        return await self._store.write(work)

    async def outbox_claim(self, receiver: str, now_ns: int, limit: int) -> Delivery | None:
        """Return the message that is due next for a receiver, first putting one together from what waits."""
        return await self._store.write(lambda connection: _claim(connection, receiver, now_ns, limit))

    async def outbox_next(self, receiver: str) -> int | None:
        """Return when something will be due for this receiver; None when nothing waits."""

        def work(connection: Database) -> int | None:
            # A message under way goes first: order is kept, and what comes meanwhile joins the next one.
            for table, column in (("delivery", "next_ns"), ("outbox", "ready_ns")):
                row = connection.execute(
                    f"SELECT min({column}) FROM {table} WHERE receiver = ?", (receiver,)
                ).fetchone()
                if row[0] is not None:
                    return int(row[0])
            return None

        return await self._store.read(work)

    async def outbox_done(self, delivery: int) -> None:
        """Forget a message that has arrived."""

        def work(connection: Database) -> None:
            connection.execute(
                "UPDATE receiver SET last_error = NULL WHERE name = (SELECT receiver FROM delivery WHERE id = ?)",
                (delivery,),
            )
            connection.execute("DELETE FROM delivery WHERE id = ?", (delivery,))

        await self._store.write(work)

    async def outbox_retry(self, delivery: int, next_ns: int, error: str) -> None:
        """Note a failed attempt and when the next one is due."""

        def work(connection: Database) -> None:
            connection.execute(
                "UPDATE delivery SET attempts = attempts + 1, next_ns = ? WHERE id = ?", (next_ns, delivery)
            )
            _note(connection, delivery, 0, error)

        await self._store.write(work)

    async def outbox_drop(self, delivery: int, error: str) -> None:
        """Give a message up, and count its alerts as dropped."""

        def work(connection: Database) -> None:
            row = connection.execute(
                "SELECT alerts, omitted FROM delivery WHERE id = ?", (delivery,)
            ).fetchone()
            if row is not None:
                _note(connection, delivery, len(orjson.loads(row[0])) + int(row[1]), error)
                connection.execute("DELETE FROM delivery WHERE id = ?", (delivery,))

        await self._store.write(work)

    async def outbox_usage(self, receiver: str) -> OutboxUsage:
        """Return what waits and what was dropped."""

        def work(connection: Database) -> OutboxUsage:
            waiting = connection.execute(
                "SELECT count(*) FROM outbox WHERE receiver = ?", (receiver,)
            ).fetchone()[0]
            count, oldest = connection.execute(
                "SELECT count(*), min(created_ns) FROM delivery WHERE receiver = ?", (receiver,)
            ).fetchone()
            row = connection.execute(
                "SELECT dropped, last_error FROM receiver WHERE name = ?", (receiver,)
            ).fetchone()
            dropped, error = row or (0, None)
            return OutboxUsage(waiting, count, dropped, oldest, error)

        return await self._store.read(work)


def _commit(connection: Database, commit: RulesCommit) -> list[Alert]:
    changed: list[Alert] = []
    for change in commit.changes:
        after = _apply(connection, change, commit.receivers)
        if after is not None:
            changed.append(after)
    for receiver in commit.receivers if changed else ():
        _bound(connection, receiver)
    connection.executemany(
        f"DELETE FROM rule_group WHERE rule = ?1 AND {connection.same_group}",
        [(row.rule, row.group) for row in commit.groups if row.state is None],
    )
    connection.executemany(
        'INSERT INTO rule_group (rule, "group", state) VALUES (?, ?, ?) '
        f"ON CONFLICT (rule, {connection.index_of_group}) DO UPDATE SET state = excluded.state",
        [(row.rule, row.group, row.state) for row in commit.groups if row.state is not None],
    )
    for rule in commit.forget_rules:
        connection.execute("DELETE FROM rule_group WHERE rule = ?", (rule,))
        connection.execute("DELETE FROM rule WHERE name = ?", (rule,))
    connection.executemany(
        "INSERT INTO rule (name, fingerprint, error, note) VALUES (?, ?, ?, ?) ON CONFLICT (name) DO UPDATE "
        "SET fingerprint = excluded.fingerprint, error = excluded.error, note = excluded.note",
        [(row.name, row.fingerprint, row.error, row.note) for row in commit.rules],
    )
    if commit.cursor is not None:
        connection.execute(
            "INSERT INTO consumer (name, cursor) VALUES (?, ?) ON CONFLICT (name) DO UPDATE SET cursor = excluded.cursor",
            (commit.consumer, commit.cursor),
        )
    if changed and connection.shared:
        _tell(connection, changed)
    return changed


def _tell(connection: Database, changed: Sequence[Alert]) -> None:
    """Leave what changed for the other processes' live clients, for a while."""
    connection.execute(
        f"INSERT INTO alert_change VALUES (?, {connection.now_ns}, ?)",
        (connection.next_commit(), orjson.dumps(changed).decode()),
    )
    connection.execute(f"DELETE FROM alert_change WHERE at_ns < {connection.now_ns} - {TOLD_NS}")


def _apply(connection: Database, change: AlertChange, receivers: Sequence[str]) -> Alert | None:
    """Write one change; None when it changes nothing."""
    row = connection.execute(
        f"SELECT {_COLUMNS} FROM alert WHERE rule = ?1 AND {connection.same_group} AND started_ns = ?3",
        (change.rule, change.group, change.started_ns),
    ).fetchone()
    stored = None if row is None else _alert(row)
    after = merge(stored, change)
    if after is stored:  # also when there was none and nothing is kept
        return None
    if after is None:
        if stored is None:
            return None
        connection.execute("DELETE FROM alert WHERE id = ?", (stored.id,))
        state = AlertState.CLOSED if change.kind is ChangeKind.CLOSED else AlertState.RETRACTED
        return replace(stored, state=state, changed_ns=change.at_ns, revision=stored.revision + 1)
    after = _save(connection, after)
    if notable(stored, after, change.kind):
        connection.executemany(
            "INSERT INTO outbox (receiver, alert_id, ready_ns, late) VALUES (?, ?, ?, ?) "
            "ON CONFLICT (receiver, alert_id) DO NOTHING",
            [(receiver, after.id, ready_ns(after), after.late) for receiver in receivers],
        )
    return after


def _save(connection: Database, alert: Alert) -> Alert:
    values: dict[str, Any] = {
        "rule": alert.rule,
        "group": alert.group,
        "state": str(alert.state),
        "severity": alert.severity,
        "agent": alert.labels.get("agent", ""),
        "labels": json.dumps(dict(alert.labels), ensure_ascii=False),
        "annotations": json.dumps(dict(alert.annotations), ensure_ascii=False),
        "summary": alert.summary,
        "value": alert.value,
        "threshold": alert.threshold,
        "started_ns": alert.started_ns,
        "fired_ns": alert.fired_ns,
        "resolved_ns": alert.resolved_ns,
        "detected_ns": alert.detected_ns,
        "changed_ns": alert.changed_ns,
        "late": alert.late,
        "revision": alert.revision,
        "trace": alert.trace,
    }
    names = ", ".join(f'"{name}"' for name in values)
    updates = ", ".join(f'"{name}" = excluded."{name}"' for name in values)
    row = connection.execute(
        f"INSERT INTO alert ({names}) VALUES ({', '.join('?' * len(values))}) "
        f"ON CONFLICT (rule, {connection.index_of_group}, started_ns) DO UPDATE SET {updates} RETURNING id",
        tuple(values.values()),
    ).fetchone()
    return replace(alert, id=int(row[0]))


def _bound(connection: Database, receiver: str) -> None:
    """Drop the oldest of what waits beyond the limit, and count it."""
    over = (
        connection.execute("SELECT count(*) FROM outbox WHERE receiver = ?", (receiver,)).fetchone()[0]
        - MAX_WAITING
    )
    if over <= 0:
        return
    connection.execute(
        "DELETE FROM outbox WHERE id IN (SELECT id FROM outbox WHERE receiver = ? ORDER BY id LIMIT ?)",
        (receiver, over),
    )
    _count(
        connection, receiver, over, f"more than {MAX_WAITING} alert changes waited; the oldest were dropped"
    )


def _claim(connection: Database, receiver: str, now_ns: int, limit: int) -> Delivery | None:
    row = connection.execute(
        "SELECT id, receiver, key, alerts, omitted, attempts, created_ns, next_ns FROM delivery WHERE receiver = ? "
        "ORDER BY id LIMIT 1",
        (receiver,),
    ).fetchone()
    if row is not None:
        return _delivery(row) if row[7] <= now_ns else None
    alerts: list[Alert] = []
    while not alerts:
        ready = _ready(connection, receiver, now_ns, limit)
        if not ready:
            return None
        found = _alerts(connection, AlertQuery(ids=[alert for _, alert, _, _ in ready], limit=limit))
        # What is silenced isn't ready any more, the rest has left the outbox: the next round sees others.
        alerts = silences.settle(connection, ready, found, now_ns)
    alerts.sort(key=lambda alert: (_FIRST.get(alert.state, 9), alert.started_ns, alert.id))
    key = uuid.uuid4().hex
    named = alerts[:NAMED]
    entered = connection.execute(
        "INSERT INTO delivery (receiver, key, alerts, omitted, created_ns, next_ns) VALUES (?, ?, ?, ?, ?, ?) RETURNING id",
        (receiver, key, orjson.dumps(named).decode(), len(alerts) - len(named), now_ns, now_ns),
    ).fetchone()
    return Delivery(int(entered[0]), receiver, key, named, len(alerts) - len(named), 0, now_ns, now_ns)


def _ready(connection: Database, receiver: str, now_ns: int, limit: int) -> list[silences.Waiting]:
    """Return the changes that may be told now."""
    rows = "SELECT id, alert_id, late, held_ns FROM outbox WHERE receiver = ? AND"
    last = "ORDER BY ready_ns, id LIMIT ?"
    ready = connection.execute(f"{rows} ready_ns <= ? {last}", (receiver, now_ns, limit)).fetchall()
    if not any(late for _, _, late, _ in ready):
        return ready
    # A digest takes along what else is late.
    return connection.execute(
        f"{rows} (ready_ns <= ? OR (late != 0 AND held_ns IS NULL)) {last}", (receiver, now_ns, limit)
    ).fetchall()


def _delivery(row: Sequence[Any]) -> Delivery:
    number, receiver, key, alerts, *rest = row
    named = [Alert(**{**item, "state": AlertState(item["state"])}) for item in orjson.loads(alerts)]
    return Delivery(number, receiver, key, named, *rest)


def _note(connection: Database, delivery: int, dropped: int, error: str) -> None:
    row = connection.execute("SELECT receiver FROM delivery WHERE id = ?", (delivery,)).fetchone()
    if row is not None:
        _count(connection, row[0], dropped, error)


def _count(connection: Database, receiver: str, dropped: int, error: str) -> None:
    connection.execute(
        "INSERT INTO receiver (name, dropped, last_error) VALUES (?, ?, ?) ON CONFLICT (name) DO UPDATE SET "
        "dropped = receiver.dropped + excluded.dropped, last_error = excluded.last_error",
        (receiver, dropped, error[:500]),
    )


def _alerts(connection: Database, query: AlertQuery) -> list[Alert]:
    conditions: list[str] = []
    values: list[Any] = []
    for column, value in (('"group"', query.group), ("rule", query.rule), ("agent", query.agent)):
        if value is not None:
            conditions.append(f"{column} = ?")
            values.append(value)
    if query.started_from_ns is not None:
        conditions.append("started_ns >= ?")
        values.append(query.started_from_ns)
    if query.states:
        conditions.append(f"state IN ({', '.join('?' * len(query.states))})")
        values += sorted(str(state) for state in query.states)
    if query.before is not None:
        conditions.append("(started_ns, id) < (?, ?)")
        values += query.before
    if query.ids:
        conditions.append(f"id IN ({', '.join('?' * len(query.ids))})")
        values += query.ids
    where = f"WHERE {' AND '.join(conditions)}" if conditions else ""
    rows = connection.execute(
        f"SELECT {_COLUMNS} FROM alert {where} ORDER BY started_ns DESC, id DESC LIMIT ?",
        (*values, query.limit),
    )
    return [_alert(row) for row in rows]


def _alert(row: Sequence[Any]) -> Alert:
    (
        number,
        rule,
        group,
        state,
        severity,
        labels,
        annotations,
        summary,
        value,
        threshold,
        *times,
        late,
        revision,
        trace,
    ) = row
    started, fired, resolved, detected, changed = times
    return Alert(
        id=number,
        rule=rule,
        group=group,
        state=AlertState(state),
        severity=severity,
        labels=orjson.loads(labels),
        annotations=orjson.loads(annotations),
        summary=summary,
        value=value,
        threshold=threshold,
        started_ns=started,
        fired_ns=fired,
        resolved_ns=resolved,
        detected_ns=detected,
        changed_ns=changed,
        late=bool(late),
        revision=revision,
        trace=trace,
    )
