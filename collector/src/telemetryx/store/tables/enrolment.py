"""Tables `enrolment_token`, `enrolled`, `certificate` and `enrolment_seen` (store/enrolment.py says what they mean).

Every refusal is decided in the transaction that would have granted the request: of two hosts with one token, one joins.
"""

from collections.abc import Sequence
from typing import Any, Final

from telemetryx.store.enrolment import (
    MAX_STANDING,
    Enrolled,
    EnrolledQuery,
    EnrolmentRefused,
    Issue,
    Issued,
    Joining,
    Life,
    State,
    Token,
)
from telemetryx.store.tables.database import Database

_ROW: Final = "id, site, agent, may_replace, uses, used, author, created_ns, expires_ns, revoked_ns"
_NEWEST: Final = (
    "(SELECT {} FROM certificate WHERE certificate.agent = enrolled.agent "
    "AND certificate.issued_ns >= enrolled.asked_ns ORDER BY certificate.issued_ns DESC, certificate.serial LIMIT 1)"
)
_ENROLLED: Final = ", ".join(
    [
        "agent, state, public_key, site, token_id, peer, asked_ns, changed_ns",
        *(_NEWEST.format(column) for column in ("expires_ns", "issued_ns", "serial")),
    ]
)
_MAKE: Final = "on the collector, `telemetryx enroll token` makes another"


# --- tokens


def add_token(connection: Database, digest: bytes, token: Token) -> Token:
    """Enter one; the id that it comes with doesn't count."""
    (standing,) = connection.execute(
        "SELECT count(*) FROM enrolment_token WHERE used < uses AND revoked_ns IS NULL AND expires_ns > ?",
        (token.created_ns,),
    ).fetchone()
    if standing >= MAX_STANDING:
        raise EnrolmentRefused(
            "tokens",
            f"{standing} enrolment tokens can be used already; at most {MAX_STANDING} may",
            "revoke some, or make one with more uses",
        )
    row = connection.execute(
        "INSERT INTO enrolment_token (digest, site, agent, may_replace, uses, used, author, created_ns, expires_ns) "
        f"VALUES (?, ?, ?, ?, ?, 0, ?, ?, ?) RETURNING {_ROW}",
        (
            digest,
            token.site,
            token.agent,
            int(token.may_replace),
            token.uses,
            token.author,
            token.created_ns,
            token.expires_ns,
        ),
    ).fetchone()
    return _token(row)


def tokens(connection: Database, limit: int, before: int | None = None) -> list[Token]:
    """Return tokens, newest first; only those with a smaller id than `before`."""
    where, values = ("WHERE id < ? ", [before]) if before is not None else ("", [])
    rows = connection.execute(
        f"SELECT {_ROW} FROM enrolment_token {where}ORDER BY id DESC LIMIT ?", (*values, limit)
    )
    return [_token(row) for row in rows]


def revoke_token(connection: Database, number: int, now_ns: int) -> Token | None:
    """Let nobody use it any more; those who joined with it stay. None when there is no such token."""
    connection.execute(
        "UPDATE enrolment_token SET revoked_ns = ? WHERE id = ? AND revoked_ns IS NULL", (now_ns, number)
    )
    return find_token(connection, number)


def find_token(connection: Database, number: int) -> Token | None:
    """Return one."""
    row = connection.execute(f"SELECT {_ROW} FROM enrolment_token WHERE id = ?", (number,)).fetchone()
    return None if row is None else _token(row)


# --- agents


def enrolled(connection: Database, wanted: EnrolledQuery) -> list[Enrolled]:
    """Return enrolled agents by name."""
    tests: list[tuple[str, str]] = []
    if wanted.state is not None:
        tests.append(("state = ?", wanted.state))
    if wanted.after is not None:
        tests.append(("agent > ?", wanted.after))
    if wanted.filter:
        tests.append(("instr(lower(agent), lower(?)) > 0", wanted.filter))
    where = f"WHERE {' AND '.join(test for test, _ in tests)} " if tests else ""
    rows = connection.execute(
        f"SELECT {_ENROLLED} FROM enrolled {where}ORDER BY agent LIMIT ?",
        (*(value for _, value in tests), wanted.limit),
    )
    return [_enrolled(row) for row in rows]


def find(connection: Database, agent: str) -> Enrolled | None:
    """Return one."""
    row = connection.execute(f"SELECT {_ENROLLED} FROM enrolled WHERE agent = ?", (agent,)).fetchone()
    return None if row is None else _enrolled(row)


def changed_since(connection: Database, since_ns: int) -> list[Enrolled]:
    """Return those whose state or key changed at or after a time."""
    rows = connection.execute(f"SELECT {_ENROLLED} FROM enrolled WHERE changed_ns >= ?", (since_ns,))
    return [_enrolled(row) for row in rows]


def counts(connection: Database) -> dict[str, int]:
    """Count them by state; one that none is in counts 0."""
    rows = connection.execute("SELECT state, count(*) FROM enrolled GROUP BY state")
    return {state.value: 0 for state in State} | {str(state): int(count) for state, count in rows}


def shut_out(connection: Database) -> frozenset[str]:
    """Name those that never come in again."""
    rows = connection.execute("SELECT agent FROM enrolled WHERE state = ?", (State.REVOKED.value,))
    return frozenset(str(agent) for (agent,) in rows)


def certificates(connection: Database, limit: int) -> list[Life]:
    """Return from when until when certificates last of agents that may come in, by name."""
    lasts = ", ".join(_NEWEST.format(column) for column in ("issued_ns", "expires_ns"))
    rows = connection.execute(
        f"SELECT agent, {lasts} FROM enrolled WHERE state = ? ORDER BY agent LIMIT ?",
        (State.ACTIVE.value, limit),
    )
    return [Life(*row) for row in rows if row[1] is not None]


def join(
    connection: Database, asked: Joining, now_ns: int, issue: Issue, *, approved: bool
) -> tuple[Enrolled, Issued | None]:
    """Let an agent in, or note that it waits for approval. Raises EnrolmentRefused, and nothing was used up then.

    Whoever joined with this very token and key asks again because it never heard our answer: that is no further use.
    """
    holder = find(connection, asked.agent)
    token = _usable(connection, asked, now_ns, holder)
    _once(connection, asked.csr, token.expires_ns, now_ns, "this request to join was sent before")
    if holder is not None and _same(holder, asked) and holder.token_id == token.id:
        return _with_certificate(connection, asked.agent, issue)
    _free(connection, asked, token, holder)
    # Of two that come at once with its last use, one finds it used.
    taken = connection.execute(
        "UPDATE enrolment_token SET used = used + 1 WHERE id = ? AND used < uses AND revoked_ns IS NULL",
        (token.id,),
    )
    if taken.rowcount != 1:
        raise _used(token)
    state = State.ACTIVE if approved else State.PENDING
    connection.execute("DELETE FROM enrolled WHERE agent = ?", (asked.agent,))
    connection.execute(
        "INSERT INTO enrolled (agent, state, public_key, site, token_id, peer, asked_ns, changed_ns) "
        "VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
        (asked.agent, state.value, asked.public_key, token.site, token.id, asked.peer, now_ns, now_ns),
    )
    return _with_certificate(connection, asked.agent, issue)


def renew(
    connection: Database, agent: str, challenge: bytes, until_ns: int, now_ns: int, issue: Issue
) -> tuple[Enrolled, Issued | None]:
    """Issue another certificate for the key that has this name; none while it waits. The challenge is taken once."""
    _once(connection, challenge, until_ns, now_ns, "this challenge was answered before")
    return _with_certificate(connection, agent, issue)


def approve(connection: Database, agent: str, now_ns: int) -> Enrolled | None:
    """Let in one that waits; one that isn't waiting stays as it is. None when there is no such agent."""
    return _change(connection, agent, State.PENDING, State.ACTIVE, now_ns)


def reject(connection: Database, agent: str, now_ns: int) -> Enrolled | None:
    """Shut one that waits out for good; the name is free for another host. None when there is no such agent."""
    found = find(connection, agent)
    if found is None:
        return None
    if found.state is not State.PENDING:
        raise EnrolmentRefused(
            "not_pending",
            f"agent {agent!r} doesn't wait for approval: it is {found.state.value}",
            "revoking shuts one out that was let in: `telemetryx agents revoke NAME`",
        )
    return _change(connection, agent, State.PENDING, State.REVOKED, now_ns)


def revoke(connection: Database, agent: str, now_ns: int) -> Enrolled | None:
    """Shut one out for good. None when there is no such agent."""
    found = find(connection, agent)
    if found is None or found.state is State.REVOKED:
        return found
    return _change(connection, agent, found.state, State.REVOKED, now_ns)


def _change(connection: Database, agent: str, before: State, after: State, now_ns: int) -> Enrolled | None:
    connection.execute(
        "UPDATE enrolled SET state = ?, changed_ns = ? WHERE agent = ? AND state = ?",
        (after.value, now_ns, agent, before.value),
    )
    return find(connection, agent)


def _same(holder: Enrolled, asked: Joining) -> bool:
    """Whether it is the host that has the name already: its request is signed with the key on record."""
    return holder.public_key == asked.public_key and holder.state is not State.REVOKED


def _usable(connection: Database, asked: Joining, now_ns: int, holder: Enrolled | None) -> Token:
    row = connection.execute(
        f"SELECT {_ROW} FROM enrolment_token WHERE digest = ?", (asked.digest,)
    ).fetchone()
    if row is None:
        raise EnrolmentRefused("token_unknown", "this enrolment token isn't known here", _MAKE)
    token = _token(row)
    match token.state(now_ns):
        case "revoked":
            raise EnrolmentRefused("token_revoked", f"enrolment token {token.id} was revoked", _MAKE)
        case "used" if holder is None or not _same(holder, asked) or holder.token_id != token.id:
            raise _used(token)
        case "expired":
            raise EnrolmentRefused("token_expired", f"enrolment token {token.id} has expired", _MAKE)
        case _:
            pass
    if token.agent not in {"", asked.agent}:
        raise EnrolmentRefused(
            "token_agent",
            f"enrolment token {token.id} is for another agent than {asked.agent!r}",
            "give the agent the name that the token was made for, or make a token for this one",
        )
    return token


def _used(token: Token) -> EnrolmentRefused:
    times = "once" if token.uses == 1 else f"{token.uses} times"
    return EnrolmentRefused(
        "token_used", f"enrolment token {token.id} was used already: it can be used {times}", _MAKE
    )


def _free(connection: Database, asked: Joining, token: Token, holder: Enrolled | None) -> None:
    """Raise when the name or the key belongs to somebody else."""
    row = connection.execute(
        "SELECT agent FROM enrolled WHERE public_key = ?", (asked.public_key,)
    ).fetchone()
    if row is not None and row[0] != asked.agent:
        raise EnrolmentRefused(
            "key_taken",
            f"this key is enrolled as agent {row[0]!r}",
            "remove the folder `identity` in the agent's data_dir: the host then makes a key of its own",
        )
    if holder is not None and _same(holder, asked):
        return
    known = connection.execute("SELECT 1 FROM agent WHERE name = ?", (asked.agent,)).fetchone()
    if known is None and (holder is None or (holder.never_in and holder.public_key != asked.public_key)):
        return
    if not token.may_replace:
        if holder is not None and holder.never_in and holder.public_key == asked.public_key:
            raise EnrolmentRefused("rejected", *holder.shut_out())
        why = (
            "was revoked"
            if holder is not None and holder.state is State.REVOKED
            else "belongs to another host"
        )
        raise EnrolmentRefused(
            "name_taken",
            f"the name {asked.agent!r} {why}",
            f"choose another with --name; if this is that host, rebuilt: `telemetryx enroll token --agent {asked.agent} --replace` "
            "makes a token that may take its place",
        )
    if not asked.replace:
        raise EnrolmentRefused(
            "name_taken",
            f"the name {asked.agent!r} belongs to another host, and the agent didn't ask to take its place",
            "give `telemetryx-agent enroll` the option --replace",
        )


def _once(connection: Database, digest: bytes, expires_ns: int, now_ns: int, why: str) -> None:
    connection.execute("DELETE FROM enrolment_seen WHERE expires_ns < ?", (now_ns,))
    fresh = connection.execute(
        "INSERT INTO enrolment_seen (digest, expires_ns) VALUES (?, ?) ON CONFLICT (digest) DO NOTHING",
        (digest, expires_ns),
    )
    if fresh.rowcount != 1:
        raise EnrolmentRefused("replayed", why, "the agent makes a new one by itself when it is asked again")


def _with_certificate(connection: Database, agent: str, issue: Issue) -> tuple[Enrolled, Issued | None]:
    found = find(connection, agent)
    if found is None:
        raise EnrolmentRefused("revoked", f"agent {agent!r} isn't enrolled any more", _MAKE)
    if found.state is State.REVOKED:
        raise EnrolmentRefused("rejected" if found.never_in else "revoked", *found.shut_out())
    if found.state is State.PENDING:
        return found, None
    issued = issue(agent, found.public_key)
    connection.execute(
        "INSERT INTO certificate (serial, agent, issued_ns, expires_ns) VALUES (?, ?, ?, ?)",
        (issued.serial, agent, issued.issued_ns, issued.expires_ns),
    )
    return find(connection, agent) or found, issued


def _token(row: Sequence[Any]) -> Token:
    number, site, agent, may_replace, *rest = row
    return Token(number, site, agent, bool(may_replace), *rest)


def _enrolled(row: Sequence[Any]) -> Enrolled:
    agent, state, public_key, *rest = row
    return Enrolled(agent, State(state), bytes(public_key), *rest)
