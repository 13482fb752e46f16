"""The end of series: one that nothing refers to any more is deleted, so that names that change don't fill the limits for ever.

ended       no chunk, window, rollup, plain row or entry of `dirty` has it, its newest reading is older than everything that is kept, no batch of
            its agent that waits may hold it, no batch that is kept apart, no alert that stands; and it isn't younger than YOUNG_NS
a batch that waits   isn't opened. While its agent has some, the series' row of `latest` goes first: every commit with a reading of it writes
            one. If there still is none when the batches of then are gone, none of those that wait holds it
numbers     go with their series, of whichever epoch. An agent that uses one again is asked for its definition, and the series begins anew, under an
            id that was never given: the newest series stays. `meta` counts each time (series_ended): who remembers numbers looks there (ended.py)
bounded     each read looks at LOOK ids, each transaction ends ENDS series of one agent, under the locks that its commits take
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import orjson

from telemetryx.store import selector
from telemetryx.store.tables import rollup
from telemetryx.store.tables.database import Database, Read, Write
from telemetryx.store.tables.ended import note_ended

LOOK: Final = 20_000
"""Ids that one read looks at: some ten milliseconds of a reader's."""
ENDS: Final = 100
"""Series that one transaction ends: some milliseconds."""
YOUNG_NS: Final = 3_600_000_000_000
"""A series that was defined later than so long ago may get its first reading yet."""
MARKED: Final = 1_000_000
"""Series that are waited for, at most; the others have their turn later."""
_UNUSED: Final = (
    "NOT EXISTS (SELECT 1 FROM chunk WHERE chunk.series_id = series.id) "
    'AND NOT EXISTS (SELECT 1 FROM "window" WHERE "window".series_id = series.id) '
    "AND NOT EXISTS (SELECT 1 FROM rollup_1m WHERE rollup_1m.series_id = series.id) "
    "AND NOT EXISTS (SELECT 1 FROM rollup_1h WHERE rollup_1h.series_id = series.id) "
    "AND NOT EXISTS (SELECT 1 FROM dirty WHERE dirty.series_id = series.id) "
    "AND NOT EXISTS (SELECT 1 FROM sample WHERE sample.series_id = series.id) "
    "AND NOT EXISTS (SELECT 1 FROM series_number JOIN quarantine ON quarantine.epoch_id = series_number.epoch_id "
    "WHERE series_number.series_id = series.id)"
)
_FROM: Final = "FROM series LEFT JOIN latest ON latest.series_id = series.id"
_PAST: Final = "(latest.time_ns IS NULL OR latest.time_ns < ?) AND series.created_ns < ?"
_STANDING: Final = """SELECT "group" FROM alert WHERE state NOT IN ('resolved', 'retracted', 'closed')"""


@dataclass(frozen=True, slots=True)
class _Found:
    """A look at some ids."""

    by_agent: dict[int, list[int]]
    after: int | None
    """Where to go on; None at the end."""


def find(connection: Database, after: int, now_ns: int) -> _Found:
    """Look at the ids behind one; return series that may have ended, by their agents."""
    (newest,) = connection.execute("SELECT coalesce(max(id), 0) FROM series").fetchone()
    upto = min(after + LOOK, int(newest) - 1)
    found: dict[int, list[int]] = {}
    for series, agent in connection.execute(
        f"SELECT series.id, agent_id {_FROM} WHERE series.id > ? AND series.id <= ? AND {_PAST} AND {_UNUSED} ORDER BY series.id",
        (after, upto, rollup.expiry(connection), now_ns - YOUNG_NS),
    ):
        found.setdefault(agent, []).append(series)
    return _Found(found, None if upto >= newest - 1 else upto)


def end(
    connection: Database, agent: int, some: Sequence[int], marks: Mapping[int, int], now_ns: int
) -> tuple[list[int], dict[int, int]]:
    """End those of an agent's series that have ended; return them, and the marks of those that are to be looked at again."""
    (name,) = connection.execute("SELECT name FROM agent WHERE id = ?", (agent,)).fetchone()
    epochs = connection.execute("SELECT epoch FROM epoch WHERE agent_id = ?", (agent,)).fetchall()
    connection.lock_epochs([(name, epoch) for (epoch,) in epochs], [name])
    oldest, newest = connection.execute(
        "SELECT min(id), max(id) FROM batch WHERE agent_id = ?", (agent,)
    ).fetchone()
    among, ids = connection.among("series.id", some)
    rows = connection.execute(
        f"SELECT series.id, labels, latest.series_id IS NULL {_FROM} WHERE {among} AND {_PAST} AND {_UNUSED}",
        (*ids, rollup.expiry(connection), now_ns - YOUNG_NS),
    ).fetchall()
    standing = [orjson.loads(group) for (group,) in connection.execute(_STANDING)]
    ended: list[tuple[int, dict[str, str]]] = []
    marked: dict[int, int] = {}
    for series, text, silent in rows:
        labels = orjson.loads(text)
        if any(_of_group(group, labels, name) for group in standing):
            continue
        if oldest is None or (silent and marks.get(series, oldest) < oldest):
            ended.append((series, labels))
        else:
            marked[series] = marks[series] if silent and series in marks else newest
    forget = [(series,) for series in marked if series not in marks or marked[series] == newest]
    connection.executemany("DELETE FROM latest WHERE series_id = ?", forget)
    _delete(connection, ended)
    return [series for series, _ in ended], marked


def _of_group(group: Mapping[str, str], labels: Mapping[str, str], agent: str) -> bool:
    """Tell whether a series may be of the group that an alert is about."""
    own = {selector.OUR_AGENT: agent, **labels}
    return all(own.get(key, "") == value for key, value in group.items())


def _delete(connection: Database, ended: Sequence[tuple[int, Mapping[str, str]]]) -> None:
    if not ended:
        return
    ids = [(series,) for series, _ in ended]
    connection.executemany(
        "DELETE FROM series_label WHERE name = ? AND value = ? AND series_id = ?",
        [(key, value, series) for series, labels in ended for key, value in labels.items()],
    )
    for table, column in (("series_number", "series_id"), ("latest", "series_id"), ("series", "id")):
        connection.executemany(f"DELETE FROM {table} WHERE {column} = ?", ids)
    note_ended(connection)


@dataclass(slots=True)
class Ending:
    """Looks through all series, once a round."""

    read: Read
    write: Write
    marks: dict[int, int] = field(default_factory=dict)
    """The newest batch of a series' agent when its row of `latest` went."""

    async def round(self, now_ns: int) -> int:
        """End what has ended; return how many series."""
        count, after, seen = 0, 0, set[int]()
        while True:
            start = after
            found: _Found = await self.read(lambda db, start=start: find(db, start, now_ns))  # type: ignore[misc]
            for agent, some in found.by_agent.items():
                seen.update(some)
                for at in range(0, len(some), ENDS):
                    part = some[at : at + ENDS]
                    ended, marked = await self._end(agent, part, now_ns)
                    count += len(ended)
                    for series in part:
                        self.marks.pop(series, None)
                    if len(self.marks) < MARKED:
                        self.marks |= marked
            if found.after is None:
                self.marks = {series: mark for series, mark in self.marks.items() if series in seen}
                return count
            after = found.after

    async def _end(self, agent: int, some: list[int], now_ns: int) -> tuple[list[int], dict[int, int]]:
        result: Any = await self.write(lambda db: end(db, agent, some, self.marks, now_ns))
        ended, marked = result
        return ended, marked
