"""Agents, their sessions and what they lost: what the fleet page and the rules about the link read."""

import json
from collections.abc import Mapping, Sequence
from typing import Any, Final

import orjson

from telemetryx.fleet import Agent, AgentState, AgentStatus, Connection, Gap, LossRow
from telemetryx.store.interface import AgentKey, AgentPage, AgentQuery
from telemetryx.store.tables.database import Database, greater
from telemetryx.store.tables.ledger import agent_id
from telemetryx.types import cause_name

BEHIND_NS: Final = 30_000_000_000
"""An agent whose oldest waiting reading is older than this is catching up."""

LOST: Final = "the collector is gone"
"""Why a session ended whose process says nothing any more."""

CONNECTED = "EXISTS (SELECT 1 FROM connection WHERE closed_ns = 0 AND connection.agent_id = agent.id)"
REVOKED = "EXISTS (SELECT 1 FROM enrolled WHERE enrolled.agent = agent.name AND enrolled.state = 'revoked')"
_STATE = (
    f"CASE WHEN NOT {CONNECTED} THEN CASE WHEN {REVOKED} THEN 'revoked' ELSE 'silent' END "
    f"WHEN oldest_ns != 0 AND oldest_ns < :now - {BEHIND_NS} THEN 'catching_up' ELSE 'live' END"
)
_RATE = f"CASE WHEN {CONNECTED} THEN rate ELSE 0.0 END"
_COLUMNS = (
    f"name, {_STATE} AS state, version, {CONNECTED} AS connected, last_seen_ns, last_event_ns, backlog_bytes, "
    f"backlog_batches, oldest_ns, skew_ms, {_RATE} AS rate, "
    "(SELECT count(*) FROM series WHERE series.agent_id = agent.id) AS series, stored, "
    "(SELECT count(*) FROM quarantine WHERE quarantine.agent_id = agent.id) AS quarantined, labels, status"
)
_SORT: Final = {
    "name": "name",
    "last_seen": "last_seen_ns",
    "last_event": "last_event_ns",
    "backlog": "backlog_bytes",
    "skew": "abs(skew_ms)",
    "rate": _RATE,
}


def agents(connection: Database, query: AgentQuery, now_ns: int) -> AgentPage:
    """Return one page of agents."""
    parts, values = (
        ["1 = 1"],
        {"now": now_ns, "filter": query.filter, "site": query.site, "state": query.state},
    )
    if query.filter:
        parts.append(
            "(instr(lower(name), lower(:filter)) > 0 OR EXISTS "
            f"(SELECT 1 FROM {connection.values_of_labels} WHERE instr(lower(value), lower(:filter)) > 0))"
        )
    if query.site is not None:
        parts.append(
            f"({connection.site_of_labels} = :site OR EXISTS "
            "(SELECT 1 FROM series WHERE series.agent_id = agent.id AND series.site = :site))"
        )
    if query.seen_before_ns is not None:
        # Who has just joined again, or was let in, is on its way: that is a sign of life too.
        parts.append(
            "last_seen_ns < :seen_before AND NOT EXISTS (SELECT 1 FROM enrolled WHERE enrolled.agent = agent.name "
            "AND enrolled.state != 'revoked' AND enrolled.changed_ns >= :seen_before)"
        )
        values["seen_before"] = query.seen_before_ns
    where = " AND ".join(parts)
    counts = dict.fromkeys(map(str, AgentState), 0)
    counts.update(
        connection.execute(
            f"SELECT {_STATE} AS state, count(*) FROM agent WHERE {where} GROUP BY 1", values
        ).fetchall()
    )
    total = sum(counts.values())
    if query.state is not None:
        total = counts.get(query.state, 0)
        where += f" AND {_STATE} = :state"
    rows, skipped = _page(connection, query, where, values, total)
    return AgentPage([_agent(row) for row in rows], total, counts, skipped)


def _page(
    connection: Database, query: AgentQuery, where: str, values: Mapping[str, Any], total: int
) -> tuple[list[Any], int]:
    """Return the rows of a page, and how many stand before it."""
    backward = query.before is not None and query.after is None
    place, given = where, dict(values)
    for key, edge, behind in (("after", query.after, True), ("before", query.before, False)):
        if edge is not None:
            place += f" AND {_beyond(query, key, behind=behind)}"
            given |= _edge(key, edge)
    column, *tie = ["name"] if query.sort == "name" else [_SORT[query.sort], "name"]
    order = [f"{column} {'DESC' if query.descending != backward else 'ASC'}"]
    order += [f"{one} {'DESC' if backward else 'ASC'}" for one in tie]
    rows = connection.execute(
        f"SELECT {_COLUMNS} FROM agent WHERE {place} ORDER BY {', '.join(order)} LIMIT :limit OFFSET :offset",
        {**given, "limit": query.limit, "offset": query.offset},
    ).fetchall()
    if backward:
        rows.reverse()
    if query.after is None and query.before is None:
        return rows, min(query.offset, total)
    if not rows:
        return rows, 0 if backward else total
    first = _edge("first", query.place(_agent(rows[0])))
    (skipped,) = connection.execute(
        f"SELECT count(*) FROM agent WHERE {where} AND {_beyond(query, 'first', behind=False)}",
        {**values, **first},
    ).fetchone()
    return rows, int(skipped)


def _beyond(query: AgentQuery, key: str, *, behind: bool) -> str:
    """Return the condition that a row stands behind a place, or in front of it. Rows of one value are in the order of names."""
    first = ">" if behind != query.descending else "<"
    if query.sort == "name":
        return f"name {first} :{key}_name"
    column = _SORT[query.sort]
    return f"({column} {first} :{key}_value OR ({column} = :{key}_value AND name {'>' if behind else '<'} :{key}_name))"


def _edge(key: str, edge: AgentKey) -> dict[str, Any]:
    if isinstance(edge, str):
        return {f"{key}_name": edge}
    return {f"{key}_value": edge[0], f"{key}_name": edge[1]}


def agent(connection: Database, name: str, now_ns: int) -> Agent | None:
    """Return one agent."""
    row = connection.execute(
        f"SELECT {_COLUMNS} FROM agent WHERE name = :name", {"now": now_ns, "name": name}
    ).fetchone()
    return None if row is None else _agent(row)


def _agent(row: tuple[Any, ...]) -> Agent:
    name, state, version, connected, *rest = row
    numbers, (labels, status) = rest[:-2], rest[-2:]
    fields: tuple[Any, ...] = (
        name,
        AgentState(state),
        version,
        bool(connected),
        *numbers,
        json.loads(labels),
        status,
    )
    return Agent(*fields)


# --- the connection log


def opened(
    connection: Database,
    agent: str,
    peer: str,
    version: str,
    labels: Mapping[str, str],
    skew_ms: float,
    now_ns: int,
    member: str,
) -> int:
    """Log the start of a session, which this member serves."""
    known = agent_id(connection, agent, now_ns)
    connection.execute(
        "UPDATE agent SET version = ?1, labels = ?2, skew_ms = ?3, "
        f"last_seen_ns = {greater('last_seen_ns', '?4')} WHERE id = ?5",
        (version, orjson.dumps(dict(labels), option=orjson.OPT_SORT_KEYS).decode(), skew_ms, now_ns, known),
    )
    (session,) = connection.execute(
        "INSERT INTO connection (agent_id, peer, opened_ns, last_seen_ns, member) VALUES (?, ?, ?, ?, ?) RETURNING id",
        (known, peer, now_ns, now_ns, member),
    ).fetchone()
    return int(session)


def seen(connection: Database, sessions: Sequence[tuple[int, AgentStatus | None]], now_ns: int) -> None:
    """Note that sessions are alive, with their agents' newest statuses.

    One that was closed because its member was taken for dead is open again. Agents are touched in the order of their ids, as
    commits do, so that processes don't wait for each other in a circle.
    """
    found: dict[int, AgentStatus | None] = {}
    for session, status in sorted(sessions, key=lambda one: one[0]):
        row = connection.execute(
            f"UPDATE connection SET last_seen_ns = {greater('last_seen_ns', '?1')}, "
            "closed_ns = CASE WHEN reason = ?3 THEN 0 ELSE closed_ns END, reason = CASE WHEN reason = ?3 THEN '' ELSE reason END "
            "WHERE id = ?2 RETURNING agent_id",
            (now_ns, session, LOST),
        ).fetchone()
        if row is not None:
            found[int(row[0])] = found.get(int(row[0])) if status is None else status
    for agent, newest in sorted(found.items(), key=lambda one: one[0]):
        connection.execute(
            f"UPDATE agent SET last_seen_ns = {greater('last_seen_ns', '?1')} WHERE id = ?2", (now_ns, agent)
        )
        if newest is not None:
            connection.execute(
                "UPDATE agent SET backlog_bytes = ?, backlog_batches = ?, oldest_ns = ?, skew_ms = ?, rate = ?, status = ? "
                "WHERE id = ?",
                (
                    newest.backlog_bytes,
                    newest.backlog_batches,
                    newest.oldest_ns,
                    newest.skew_ms,
                    newest.rate,
                    newest.json,
                    agent,
                ),
            )


def closed(connection: Database, session: int, reason: str, now_ns: int) -> None:
    """Log the end of a session."""
    connection.execute(
        f"UPDATE connection SET closed_ns = ?1, last_seen_ns = {greater('last_seen_ns', '?1')}, reason = ?2 "
        "WHERE id = ?3 AND closed_ns = 0",
        (now_ns, reason, session),
    )


def close_all(connection: Database, member: str) -> int:
    """End the sessions that a killed process of this name left open, at the time it last heard of them.

    In a store that one process has to itself they are all of its making. Those of a process that nobody knows came with a copy.
    """
    mine = "(member = ?1 OR member NOT IN (SELECT name FROM member))" if connection.shared else "?1 = ?1"
    return connection.execute(
        f"UPDATE connection SET closed_ns = {greater('last_seen_ns', '1')}, reason = 'the collector was restarted' "
        f"WHERE closed_ns = 0 AND {mine}",
        (member,),
    ).rowcount


def close_of(connection: Database, members: Sequence[str]) -> None:
    """End the sessions of processes that are gone, at the time these last heard of them."""
    connection.executemany(
        f"UPDATE connection SET closed_ns = {greater('last_seen_ns', '1')}, reason = ?2 WHERE closed_ns = 0 AND member = ?1",
        [(member, LOST) for member in members],
    )


def connections(connection: Database, agent: str | None, since_ns: int, limit: int) -> list[Connection]:
    """Return sessions that were open at or after a time, newest first."""
    rows = connection.execute(
        "SELECT connection.id, agent.name, peer, opened_ns, closed_ns, connection.last_seen_ns, reason "
        "FROM connection JOIN agent ON agent.id = agent_id WHERE (closed_ns = 0 OR closed_ns >= ?) "
        "AND (CAST(? AS TEXT) IS NULL OR agent.name = ?) ORDER BY connection.id DESC LIMIT ?",
        (since_ns, agent, agent, limit),
    )
    return [Connection(*row) for row in rows]


# --- the loss ledger


def loss(connection: Database, agent: str | None) -> list[LossRow]:
    """Return what became of readings, by agent and cause, and what was stored."""
    rows = connection.execute(
        "SELECT agent.name, cause, count, first_ns, last_ns FROM loss JOIN agent ON agent.id = agent_id "
        "WHERE CAST(? AS TEXT) IS NULL OR agent.name = ? ORDER BY agent.name, cause",
        (agent, agent),
    ).fetchall()
    out = [LossRow(name, cause_name(cause), count, first, last) for name, cause, count, first, last in rows]
    stored = connection.execute(
        "SELECT name, stored, first_event_ns, last_event_ns FROM agent WHERE stored > 0 AND (CAST(? AS TEXT) IS NULL OR name = ?) ORDER BY name",
        (agent, agent),
    ).fetchall()
    return out + [LossRow(name, "stored", *row) for name, *row in stored]


def gaps(connection: Database, agent: str | None, limit: int) -> list[Gap]:
    """Return dropped seqs, newest first."""
    rows = connection.execute(
        "SELECT agent.name, epoch.epoch, first_seq, last_seq, cause, count, t0_ns, t1_ns FROM gap "
        "JOIN epoch ON epoch.id = epoch_id JOIN agent ON agent.id = agent_id "
        "WHERE CAST(? AS TEXT) IS NULL OR agent.name = ? ORDER BY gap.id DESC LIMIT ?",
        (agent, agent, limit),
    )
    return [
        Gap(agent, epoch, first, last, cause_name(cause), count, t0, t1)
        for agent, epoch, first, last, cause, count, t0, t1 in rows
    ]
