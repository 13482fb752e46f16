"""Events: filters by column, words by FTS5."""

import sqlite3
from typing import Any

import orjson

from telemetryx.store.interface import EventQuery
from telemetryx.types import Event


def query(connection: sqlite3.Connection, wanted: EventQuery) -> list[Event]:
    """Return events, newest id first."""
    parts: list[str] = ["1"]
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
    words = match(wanted.q)
    if words:
        parts.append("event.id IN (SELECT rowid FROM event_text WHERE event_text MATCH ?)")
        values.append(words)
    rows = connection.execute(
        "SELECT event.id, agent.name, time_ns, severity, source, body, attributes FROM event "
        f"JOIN agent ON agent.id = agent_id WHERE {' AND '.join(parts)} ORDER BY event.id DESC LIMIT ?",
        (*values, wanted.limit),
    )
    return [
        Event(number, agent, time_ns, severity, source, body, orjson.loads(attributes))
        for number, agent, time_ns, severity, source, body, attributes in rows
    ]


def match(text: str) -> str:
    """Turn what a person typed into an FTS5 expression: all words, the last as a prefix; nothing in it is an operator."""
    words = ['"' + word.replace('"', '""') + '"' for word in text.split() if any(map(str.isalnum, word))]
    return " ".join(words) + "*" if words else ""


def sources(connection: sqlite3.Connection) -> list[str]:
    """Return the distinct sources of events."""
    return [
        row[0] for row in connection.execute("SELECT DISTINCT source FROM event ORDER BY source LIMIT 1000")
    ]
