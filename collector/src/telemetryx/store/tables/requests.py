"""Tables `agent_request` and `agent_answer`: what was asked of agents, and what they answered, in pieces.

    waiting ─▶ asked ─▶ done | failed          one process asks: whoever has the agent's session and claims the row
       └─▶ lapsed                              the agent wasn't connected in time

An answer is written piece by piece as it comes, so that neither memory nor a transaction holds the whole of it.
"""

import json
from collections.abc import Mapping, Sequence
from typing import Any, Final

from telemetryx.store.care import (
    KEPT_NS,
    MAX_KEPT,
    MAX_OPEN,
    MAX_WAITING,
    CareRefused,
    Kind,
    Request,
    RequestState,
)
from telemetryx.store.tables.database import Database

PIECE: Final = 16
"""Pieces of an answer that one transaction deletes, 16 MiB at most."""
_ROW: Final = (
    "id, mark, agent, kind, args, author, state, reason, size, created_ns, until_ns, changed_ns, expires_ns"
)


def add(
    connection: Database,
    mark: bytes,
    agent: str,
    kind: Kind,
    args: Mapping[str, object],
    author: str,
    now_ns: int,
    until_ns: int,
) -> Request:
    """Enter one. Raises CareRefused when the agent isn't known, has enough to do, or too much is kept."""
    if connection.execute("SELECT 1 FROM agent WHERE name = ?", (agent,)).fetchone() is None:
        raise CareRefused(f"no agent is called {agent[:80]!r}", "GET /api/v1/agents lists them", missing=True)
    (open_,) = connection.execute(
        "SELECT count(*) FROM agent_request WHERE agent = ? AND state IN ('waiting', 'asked')", (agent,)
    ).fetchone()
    if open_ >= MAX_WAITING:
        raise CareRefused(
            f"{open_} requests to agent {agent!r} have no answer yet; at most {MAX_WAITING} may wait",
            "wait for their answers, or until they lapse",
            conflict=True,
        )
    (open_,) = connection.execute(
        "SELECT count(*) FROM agent_request WHERE state IN ('waiting', 'asked')"
    ).fetchone()
    if open_ >= MAX_OPEN:
        raise CareRefused(
            f"{open_} requests to agents have no answer yet; at most {MAX_OPEN} may wait",
            "ask agents that are connected, or for a shorter `wait`",
            conflict=True,
        )
    (kept,) = connection.execute(
        "SELECT CAST(coalesce(sum(size), 0) AS BIGINT) FROM agent_request"
    ).fetchone()
    if kept >= MAX_KEPT:
        raise CareRefused(
            f"answers of {kept >> 20} MiB are kept already; at most {MAX_KEPT >> 20} may be",
            "each goes 24 hours after its request",
            conflict=True,
        )
    row = connection.execute(
        "INSERT INTO agent_request (mark, agent, kind, args, author, state, reason, size, created_ns, until_ns, changed_ns, "
        f"expires_ns) VALUES (?, ?, ?, ?, ?, 'waiting', '', 0, ?, ?, ?, ?) RETURNING {_ROW}",
        (
            mark,
            agent,
            kind.value,
            json.dumps(dict(args), ensure_ascii=False),
            author,
            now_ns,
            until_ns,
            now_ns,
            now_ns + KEPT_NS,
        ),
    ).fetchone()
    return _request(row)


def find(connection: Database, number: int) -> Request | None:
    """Return one."""
    row = connection.execute(f"SELECT {_ROW} FROM agent_request WHERE id = ?", (number,)).fetchone()
    return None if row is None else _request(row)


def page(connection: Database, agent: str | None, limit: int) -> list[Request]:
    """Return requests, newest first."""
    rows = connection.execute(
        f"SELECT {_ROW} FROM agent_request WHERE CAST(? AS TEXT) IS NULL OR agent = ? ORDER BY id DESC LIMIT ?",
        (agent, agent, limit),
    )
    return [_request(row) for row in rows.fetchall()]


def waiting(connection: Database, limit: int) -> list[Request]:
    """Return those that nobody has sent yet, oldest first."""
    rows = connection.execute(
        f"SELECT {_ROW} FROM agent_request WHERE state = 'waiting' ORDER BY id LIMIT ?", (limit,)
    )
    return [_request(row) for row in rows.fetchall()]


def claim(connection: Database, numbers: Sequence[int], now_ns: int) -> list[int]:
    """Take requests on; return those that nobody else has taken on."""
    return [
        number
        for number in sorted(numbers)
        if connection.execute(
            "UPDATE agent_request SET state = 'asked', changed_ns = ? WHERE id = ? AND state = 'waiting'",
            (now_ns, number),
        ).rowcount
        == 1
    ]


def add_piece(connection: Database, number: int, position: int, data: bytes, now_ns: int) -> bool:
    """Keep a piece of an answer; False when nobody waits for it any more."""
    if not _moved(connection, number, position + len(data), now_ns):
        return False
    connection.execute(
        "INSERT INTO agent_answer (request_id, position, data) VALUES (?, ?, ?)", (number, position, data)
    )
    return True


def finish(connection: Database, number: int, state: RequestState, reason: str, now_ns: int) -> bool:
    """End one; of one that failed nothing is kept. False when it has ended already."""
    ended = (
        connection.execute(
            "UPDATE agent_request SET state = ?, reason = ?, changed_ns = ?, "
            "size = CASE WHEN CAST(? AS TEXT) = 'done' THEN size ELSE 0 END "
            "WHERE id = ? AND state IN ('waiting', 'asked')",
            (state.value, reason, now_ns, state.value, number),
        ).rowcount
        == 1
    )
    if ended and state is not RequestState.DONE:
        connection.execute("DELETE FROM agent_answer WHERE request_id = ?", (number,))
    return ended


def piece(connection: Database, number: int, after: int) -> tuple[int, bytes] | None:
    """Return the piece of an answer at or after a position, and where it begins; None behind the last."""
    row = connection.execute(
        "SELECT position, data FROM agent_answer WHERE request_id = ? AND position >= ? ORDER BY position LIMIT 1",
        (number, after),
    ).fetchone()
    return None if row is None else (int(row[0]), bytes(row[1]))


def lapse(connection: Database, now_ns: int, patience_ns: int) -> int:
    """End those whose agent didn't come in time, and those that have had no answer for so long; return how many."""
    gone = connection.execute(
        "UPDATE agent_request SET state = 'lapsed', changed_ns = ?, reason = 'the agent was not connected in time' "
        "WHERE state = 'waiting' AND until_ns <= ?",
        (now_ns, now_ns),
    ).rowcount
    late = connection.execute(
        "SELECT id FROM agent_request WHERE state = 'asked' AND changed_ns <= ?", (now_ns - patience_ns,)
    ).fetchall()
    for (number,) in late:
        finish(connection, int(number), RequestState.FAILED, "the agent didn't answer in time", now_ns)
    return gone + len(late)


def overdue(connection: Database, now_ns: int, patience_ns: int) -> bool:
    """Tell whether `lapse` would end any."""
    row = connection.execute(
        "SELECT 1 FROM agent_request WHERE (state = 'waiting' AND until_ns <= ?) "
        "OR (state = 'asked' AND changed_ns <= ?) LIMIT 1",
        (now_ns, now_ns - patience_ns),
    ).fetchone()
    return row is not None


def expired(connection: Database, now_ns: int) -> bool:
    """Tell whether `forget` would find any."""
    row = connection.execute(
        "SELECT 1 FROM agent_request WHERE expires_ns <= ? LIMIT 1", (now_ns,)
    ).fetchone()
    return row is not None


def forget(connection: Database, now_ns: int) -> bool:
    """Delete a piece of what is past its time; True when there is more."""
    row = connection.execute(
        "SELECT id FROM agent_request WHERE expires_ns <= ? ORDER BY expires_ns LIMIT 1", (now_ns,)
    ).fetchone()
    if row is None:
        return False
    went = connection.execute(
        "DELETE FROM agent_answer WHERE request_id = ?1 AND position IN "
        f"(SELECT position FROM agent_answer WHERE request_id = ?1 ORDER BY position LIMIT {PIECE})",
        (row[0],),
    ).rowcount
    if went < PIECE:
        connection.execute("DELETE FROM agent_request WHERE id = ?", (row[0],))
    return True


def faults(connection: Database) -> list[str]:
    """Say which answers aren't whole."""
    rows = connection.execute(
        "SELECT id, size, (SELECT CAST(coalesce(sum(length(data)), 0) AS BIGINT) FROM agent_answer "
        "WHERE request_id = agent_request.id) FROM agent_request WHERE state = 'done' ORDER BY id"
    )
    return [
        f"request {number}: its answer has {there} bytes, not {size}"
        for number, size, there in rows
        if there != size
    ]


def _moved(connection: Database, number: int, size: int, now_ns: int) -> bool:
    return (
        connection.execute(
            "UPDATE agent_request SET size = ?, changed_ns = ? WHERE id = ? AND state = 'asked'",
            (size, now_ns, number),
        ).rowcount
        == 1
    )


def _request(row: Sequence[Any]) -> Request:
    number, mark, agent, kind, args, author, state, *rest = row
    return Request(
        number, bytes(mark), agent, Kind(kind), json.loads(args), author, RequestState(state), *rest
    )
