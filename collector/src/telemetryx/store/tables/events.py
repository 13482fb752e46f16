"""Events: filters by column, words by the engine's own index."""

from typing import Any

import orjson

from telemetryx.store.interface import EventQuery
from telemetryx.store.tables.database import Database
from telemetryx.types import Event


def query(connection: Database, wanted: EventQuery) -> list[Event]:
    """Return events, newest id first."""
    parts: list[str] = ["1 = 1"]
    values: list[Any] = []
    for part, value in (
        ("event.source = ?", wanted.source),
        ("event.severity >= ?", wanted.min_severity or None),
        ("agent.name = ?", wanted.agent),
        ("event.time_ns >= ?", wanted.start_ns),
        ("event.time_ns < ?", wanted.end_ns),
        ("event.id < ?", wanted.before),
    ):
        if value is not None:
            parts.append(part)
            values.append(value)
    found = connection.events_with(wanted.q)
    if found is not None:
        parts.append(found[0])
        values.append(found[1])
    rows = connection.execute(
        "SELECT event.id, agent.name, time_ns, severity, source, body, attributes FROM event "
        f"JOIN agent ON agent.id = agent_id WHERE {' AND '.join(parts)} ORDER BY event.id DESC LIMIT ?",
        (*values, wanted.limit),
    )
    return [
        Event(number, agent, time_ns, severity, source, body, orjson.loads(attributes))
        for number, agent, time_ns, severity, source, body, attributes in rows
    ]


def sources(connection: Database) -> list[str]:
    """Return the distinct sources of events."""
    return [
        row[0] for row in connection.execute("SELECT DISTINCT source FROM event ORDER BY source LIMIT 1000")
    ]
