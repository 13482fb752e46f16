"""An agent's series numbers, by epoch, to the store's ids: sorted arrays, looked up for a whole batch at once.

The table `series_number` only grows, and what a number stands for never changes; so a reader may keep what it has seen,
and looks again when a number is missing. The writer forgets everything after a rollback.
"""

import json
import threading
from collections.abc import Sequence
from typing import Final

import numpy as np

from telemetryx.store.tables.database import Database
from telemetryx.types import DEVICE, I64, SITE, Definition

_KEPT: Final = 512
"""Epochs whose numbers stay in memory."""


class Numbers:
    """Number to id. The writer has its own; all readers share one."""

    def __init__(self) -> None:
        """Know nothing yet."""
        self._epochs: dict[int, tuple[I64, I64]] = {}
        self._lock = threading.Lock()

    def forget(self) -> None:
        """Drop everything: a transaction was undone."""
        self._epochs.clear()

    def forget_epoch(self, epoch: int) -> None:
        """Drop one epoch: a savepoint was undone, or it got new numbers."""
        self._epochs.pop(epoch, None)

    def ids(self, connection: Database, epoch: int, numbers: I64) -> tuple[I64, I64]:
        """Return (ids of these numbers, numbers that nobody defined)."""
        known = self._epochs.get(epoch)
        if known is not None:
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
            self._epochs[epoch] = known
        return known


def _look_up(known: tuple[I64, I64], numbers: I64) -> tuple[I64, I64]:
    if not len(known[0]):
        return numbers[:0], numbers
    at = np.minimum(np.searchsorted(known[0], numbers), len(known[0]) - 1)
    missing = numbers[known[0][at] != numbers]
    return known[1][at], missing


def canonical(labels: Sequence[tuple[str, str]] | dict[str, str]) -> str:
    """Write labels as the text that identifies them: JSON with sorted keys. An empty value is no label."""
    pairs = sorted((key, value) for key, value in dict(labels).items() if value)
    return json.dumps(dict(pairs), ensure_ascii=False, separators=(",", ":"))


def define(
    connection: Database, agent: int, epoch: int, definitions: Sequence[Definition], now_ns: int
) -> Definition | None:
    """Enter definitions; return one whose number already stands for another series, having entered some or all."""
    for definition in definitions:
        series = _series(connection, agent, definition, now_ns)
        row = connection.execute(
            "INSERT INTO series_number VALUES (?, ?, ?) ON CONFLICT (epoch_id, number) DO UPDATE "
            "SET series_id = series_number.series_id RETURNING series_id",
            (epoch, definition.number, series),
        ).fetchone()
        if row[0] != series:
            return definition
    return None


def _series(connection: Database, agent: int, definition: Definition, now_ns: int) -> int:
    labels = {key: value for key, value in definition.labels.items() if value}
    identity = canonical(labels)
    row = connection.execute(
        f"SELECT id, unit FROM series WHERE agent_id = ?1 AND name = ?2 AND {connection.same_labels}",
        (agent, definition.name, identity),
    ).fetchone()
    if row is not None:
        if not row[1] and definition.unit:
            connection.execute("UPDATE series SET unit = ? WHERE id = ?", (definition.unit, row[0]))
        return int(row[0])
    (series,) = connection.execute(
        "INSERT INTO series (agent_id, name, labels, unit, site, device, created_ns) VALUES (?, ?, ?, ?, ?, ?, ?) RETURNING id",
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
    connection.executemany(
        "INSERT INTO series_label VALUES (?, ?, ?)", [(key, value, series) for key, value in labels.items()]
    )
    return int(series)
