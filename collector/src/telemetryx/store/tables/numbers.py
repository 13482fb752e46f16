"""An agent's series numbers, by epoch, to the store's ids: sorted arrays, looked up for a whole batch at once.

What a number stands for changes only when its series has ended (ending.py) and its agent defines it anew. So a reader may keep what it has
seen, while no series ends, and looks again when a number is missing. The writer forgets everything after a rollback.
"""

import json
import threading
from collections.abc import Mapping, Sequence
from typing import Final

import numpy as np

from telemetryx.store.tables.cardinality import Cardinality
from telemetryx.store.tables.database import Database
from telemetryx.store.tables.ended import ended
from telemetryx.store.tables.shipped import Opened
from telemetryx.types import DEVICE, I64, SITE, Definition

_KEPT: Final = 512
"""Epochs whose numbers stay in memory."""
_TEXT: Final = json.JSONEncoder(ensure_ascii=False, separators=(",", ":")).encode
"""Made once: a batch may define ten thousand series."""


class Numbers:
    """Number to id. The writer has its own; all readers share one, and with it the batches that they opened lately."""

    def __init__(self) -> None:
        """Know nothing yet."""
        self.opened = Opened()
        self._epochs: dict[int, tuple[int, tuple[I64, I64]]] = {}
        """With how often series had ended."""
        self._lock = threading.Lock()

    def forget(self) -> None:
        """Drop everything: a transaction was undone."""
        self._epochs.clear()

    def forget_epoch(self, epoch: int) -> None:
        """Drop one epoch: a savepoint was undone, or it got new numbers."""
        self._epochs.pop(epoch, None)

    def ids(self, connection: Database, epoch: int, numbers: I64) -> tuple[I64, I64]:
        """Return (ids of these numbers, numbers that nobody defined)."""
        since, known = self._epochs.get(epoch, (-1, None))
        if known is not None and since == ended(connection):
            ids, missing = _look_up(known, numbers)
            if not len(missing):
                return ids, missing
        known = self._load(connection, epoch)
        return _look_up(known, numbers)

    def _load(self, connection: Database, epoch: int) -> tuple[I64, I64]:
        rows = connection.execute(
            "SELECT number, series_id FROM series_number WHERE epoch_id = ? ORDER BY number", (epoch,)
        ).fetchall()
        table = np.array(rows, np.int64).reshape(-1, 2)
        known = np.ascontiguousarray(table[:, 0]), np.ascontiguousarray(table[:, 1])
        with self._lock:
            if len(self._epochs) >= _KEPT:
                self._epochs.pop(next(iter(self._epochs)))
            self._epochs[epoch] = ended(connection), known
        return known


def _look_up(known: tuple[I64, I64], numbers: I64) -> tuple[I64, I64]:
    if not len(known[0]):
        return numbers[:0], numbers
    at = np.minimum(np.searchsorted(known[0], numbers), len(known[0]) - 1)
    missing = numbers[known[0][at] != numbers]
    return known[1][at], missing


def canonical(labels: Sequence[tuple[str, str]] | dict[str, str]) -> str:
    """Write labels as the text that identifies them: JSON with sorted keys. An empty value is no label."""
    return _TEXT(stored_labels(labels))


def stored_labels(labels: Sequence[tuple[str, str]] | Mapping[str, str]) -> dict[str, str]:
    """Return labels as they are stored: in order, and without those that are empty."""
    return dict(sorted((key, value) for key, value in dict(labels).items() if value))


def define(
    connection: Database,
    agent: int,
    epoch: int,
    definitions: Sequence[Definition],
    now_ns: int,
    cardinality: Cardinality,
) -> Definition | None:
    """Enter definitions; return one whose number already stands for another series, having entered some or all.

    Series that are new and above the limit aren't entered; their numbers are remembered.
    """
    refused: dict[int, Definition] = {}
    for definition in definitions:
        series = _series(connection, agent, definition, now_ns, cardinality)
        if series is None:
            refused[definition.number] = definition
            continue
        row = connection.execute(
            "INSERT INTO series_number VALUES (?, ?, ?) ON CONFLICT (epoch_id, number) DO UPDATE "
            "SET series_id = series_number.series_id RETURNING series_id",
            (epoch, definition.number, series),
        ).fetchone()
        if row[0] != series:
            return definition
    numbers = np.fromiter((one.number for one in definitions), np.int64, len(definitions))
    if refused:
        known = connection.execute(
            "SELECT number FROM series_number WHERE epoch_id = ? AND number BETWEEN ? AND ?",
            (epoch, min(refused), max(refused)),
        )
        for (number,) in known:
            if number in refused:
                return refused[number]
    cardinality.defined(epoch, numbers, np.array(sorted(refused), np.int64))
    return None


def _series(
    connection: Database, agent: int, definition: Definition, now_ns: int, cardinality: Cardinality
) -> int | None:
    labels = {key: value for key, value in definition.labels.items() if value}
    identity = canonical(labels)
    if cardinality.surely_new(connection, agent, definition.name, identity):
        return None
    find = f"SELECT id, unit FROM series WHERE agent_id = ?1 AND name = ?2 AND {connection.same_labels}"
    row = connection.execute(find, (agent, definition.name, identity)).fetchone()
    if row is not None:
        if not row[1] and definition.unit:
            connection.execute("UPDATE series SET unit = ? WHERE id = ?", (definition.unit, row[0]))
        return int(row[0])
    if not cardinality.admit(connection, agent):
        return None
    # Another process may be entering it, for another epoch of the agent: then it is there once that one has committed.
    entered = connection.execute(
        "INSERT INTO series (agent_id, name, labels, unit, site, device, created_ns) VALUES (?, ?, ?, ?, ?, ?, ?) "
        "ON CONFLICT DO NOTHING RETURNING id",
        (
            agent,
            definition.name,
            identity,
            definition.unit,
            labels.get(SITE, ""),
            labels.get(DEVICE, ""),
            now_ns,
        ),
    ).fetchone()
    if entered is None:
        (known,) = connection.execute(find, (agent, definition.name, identity)).fetchone()[:1]
        return int(known)
    series = int(entered[0])
    connection.executemany(
        "INSERT INTO series_label VALUES (?, ?, ?)", [(key, value, series) for key, value in labels.items()]
    )
    return series
