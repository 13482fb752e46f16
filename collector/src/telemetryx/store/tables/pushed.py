"""Tables `agent_config`, `agent_config_canary` and `agent_config_state` (store/care.py says what they mean).

Each change to what agents should have moves a number on, in its own transaction: who watches it reads the rest only then.
"""

import json
from collections.abc import Iterable, Sequence
from hashlib import sha256
from typing import Any, Final

from telemetryx.store.care import (
    MAX_STANDING,
    CareRefused,
    Config,
    ConfigState,
    Known,
    Phase,
    Stage,
    Standing,
    Target,
)
from telemetryx.store.tables import fleet
from telemetryx.store.tables.database import Database

NUMBER: Final = "agent_config_change"
_ROW: Final = "id, digest, agent, match, stage, reason, author, note, created_ns, taken_back_ns, size"
_STATE: Final = "agent, session_id, version, digest, phase, reason, in_force, at_ns, requests"
_JOINED: Final = ", ".join(f"agent_config_state.{name}" for name in _STATE.split(", "))


def change(connection: Database) -> int:
    """Return the number of the last change; 0 before the first."""
    return connection.noted(NUMBER) or 0


def add(
    connection: Database,
    toml: str,
    target: Target,
    note: str,
    author: str,
    canary: Iterable[str],
    now_ns: int,
) -> Config:
    """Enter one; with first agents it reaches these alone for now. Raises CareRefused when too many stand."""
    _changed(connection)
    (standing,) = connection.execute(
        "SELECT count(*) FROM agent_config WHERE taken_back_ns IS NULL"
    ).fetchone()
    if standing >= MAX_STANDING:
        raise CareRefused(
            f"{standing} configurations stand already; at most {MAX_STANDING} may",
            "take those back that newer ones have replaced",
            conflict=True,
        )
    first = sorted(set(canary))
    (number,) = connection.execute(
        "INSERT INTO agent_config (toml, digest, size, agent, match, stage, reason, author, note, created_ns) "
        "VALUES (?, ?, ?, ?, ?, ?, '', ?, ?, ?) RETURNING id",
        (
            toml,
            sha256(toml.encode()).digest(),
            len(toml.encode()),
            target.agent,
            target.match,
            (Stage.CANARY if first else Stage.EVERYWHERE).value,
            author,
            note,
            now_ns,
        ),
    ).fetchone()
    connection.executemany(
        "INSERT INTO agent_config_canary (config_id, agent) VALUES (?, ?)", [(number, one) for one in first]
    )
    made = find(connection, int(number))
    if made is None:
        raise AssertionError(f"configuration {number} was entered in this transaction")
    return made


def find(connection: Database, version: int) -> Config | None:
    """Return one."""
    row = connection.execute(f"SELECT {_ROW} FROM agent_config WHERE id = ?", (version,)).fetchone()
    return None if row is None else _configs(connection, [row])[0]


def text(connection: Database, version: int) -> str | None:
    """Return the text of one."""
    row = connection.execute("SELECT toml FROM agent_config WHERE id = ?", (version,)).fetchone()
    return None if row is None else str(row[0])


def page(connection: Database, limit: int, before: int | None = None) -> list[Config]:
    """Return configurations, newest first, those that were taken back among them."""
    rows = connection.execute(
        f"SELECT {_ROW} FROM agent_config WHERE CAST(? AS BIGINT) IS NULL OR id < ? ORDER BY id DESC LIMIT ?",
        (before, before, limit),
    ).fetchall()
    return _configs(connection, rows)


def standing(connection: Database) -> Standing:
    """Return those that stand."""
    rows = connection.execute(
        f"SELECT {_ROW} FROM agent_config WHERE taken_back_ns IS NULL ORDER BY id"
    ).fetchall()
    return Standing.of(_configs(connection, rows))


def trying(connection: Database) -> bool:
    """Tell whether any has a canary that isn't decided."""
    row = connection.execute(
        "SELECT 1 FROM agent_config WHERE stage = ? AND taken_back_ns IS NULL LIMIT 1", (Stage.CANARY.value,)
    ).fetchone()
    return row is not None


def take_back(connection: Database, version: int, now_ns: int) -> Config | None:
    """Want it nowhere any more; None when there is no such one."""
    _changed(connection)
    connection.execute(
        "UPDATE agent_config SET taken_back_ns = ? WHERE id = ? AND taken_back_ns IS NULL", (now_ns, version)
    )
    return find(connection, version)


def decide(connection: Database, version: int, stage: Stage, reason: str) -> bool:
    """End the canary of one; False when it has ended already, or was taken back meanwhile."""
    _changed(connection)
    return (
        connection.execute(
            "UPDATE agent_config SET stage = ?, reason = ? WHERE id = ? AND stage = ? AND taken_back_ns IS NULL",
            (stage.value, reason, version, Stage.CANARY.value),
        ).rowcount
        == 1
    )


# --- what agents say


def note(connection: Database, states: Sequence[ConfigState]) -> None:
    """Keep what agents said; what one said in an older session than the last known doesn't count."""
    for one in sorted(states, key=lambda state: state.agent):
        connection.execute(
            f"INSERT INTO agent_config_state ({_STATE}) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT (agent) DO UPDATE SET "
            "session_id = excluded.session_id, version = excluded.version, digest = excluded.digest, phase = excluded.phase, "
            "reason = excluded.reason, in_force = excluded.in_force, at_ns = excluded.at_ns, requests = excluded.requests "
            "WHERE excluded.session_id >= agent_config_state.session_id",
            (
                one.agent,
                one.session,
                one.version,
                one.digest,
                one.phase.value,
                one.reason,
                one.in_force,
                one.at_ns,
                int(one.requests),
            ),
        )


def known(connection: Database, agent: str | None = None) -> list[Known]:
    """Return agents by name, with what they said, without such as were shut out and get nothing any more; or one, whatever became of it."""
    rows = connection.execute(
        f"SELECT agent.name, agent.labels, {fleet.CONNECTED}, {_JOINED} FROM agent "
        "LEFT JOIN agent_config_state ON agent_config_state.agent = agent.name "
        f"WHERE (CAST(? AS TEXT) IS NULL AND NOT {fleet.REVOKED}) OR agent.name = ? ORDER BY agent.name",
        (agent, agent),
    ).fetchall()
    return [
        Known(name, json.loads(labels), bool(connected), None if said[0] is None else _state(said))
        for name, labels, connected, *said in rows
    ]


def counts(connection: Database) -> dict[str, int]:
    """Count agents by what they said last; a phase that none is in counts 0."""
    rows = connection.execute("SELECT phase, count(*) FROM agent_config_state GROUP BY phase")
    phases = {phase.value: 0 for phase in Phase if phase is not Phase.WAITING}
    return phases | {str(phase): int(count) for phase, count in rows}


def faults(connection: Database) -> list[str]:
    """Say which texts aren't what their digests say."""
    rows = connection.execute("SELECT id, toml, digest FROM agent_config ORDER BY id")
    return [
        f"agent configuration {number}: its text isn't what its digest says"
        for number, toml, digest in rows
        if sha256(str(toml).encode()).digest() != bytes(digest)
    ]


def _changed(connection: Database) -> None:
    """Move the number on, first of all: who comes second waits here, so numbers follow the order of the commits."""
    connection.execute(
        "INSERT INTO meta (key, value) VALUES (?, 1) ON CONFLICT (key) DO UPDATE SET value = meta.value + 1",
        (NUMBER,),
    )


def _configs(connection: Database, rows: Sequence[Any]) -> list[Config]:
    numbers = [int(row[0]) for row in rows]
    first: dict[int, set[str]] = {number: set() for number in numbers}
    if numbers:
        for number, agent in connection.execute(
            "SELECT config_id, agent FROM agent_config_canary WHERE config_id >= ? AND config_id <= ?",
            (min(numbers), max(numbers)),
        ):
            if number in first:
                first[number].add(str(agent))
    return [
        Config(
            number,
            bytes(digest),
            Target(agent, match),
            Stage(stage),
            reason,
            author,
            note,
            created_ns,
            taken_back_ns,
            size,
            frozenset(first[number]),
        )
        for number, digest, agent, match, stage, reason, author, note, created_ns, taken_back_ns, size in rows
    ]


def _state(row: Sequence[Any]) -> ConfigState:
    agent, session, version, digest, phase, reason, in_force, at_ns, requests = row
    return ConfigState(
        agent, session, version, bytes(digest), Phase(phase), reason, in_force, at_ns, bool(requests)
    )
