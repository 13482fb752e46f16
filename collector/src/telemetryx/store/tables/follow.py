"""What is new in the store, whoever committed it: commits and alert changes after a cursor, in an order that nothing joins later."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import orjson

from telemetryx.store.alerts import Alert, AlertState
from telemetryx.store.tables import reading
from telemetryx.store.tables.database import Database
from telemetryx.store.tables.numbers import Numbers
from telemetryx.types import Committed

SAMPLES: Final = 500_000
"""Samples of one answer, about."""


@dataclass(frozen=True, slots=True)
class News:
    """What came after a cursor. Everything up to `cursor` is in it, and nothing will come there any more."""

    cursor: int
    commits: Sequence[Committed]
    alerts: Sequence[Alert]
    more: bool
    """Whether to ask again at once."""
    held_back: bool
    """Whether there are commits that can't be shown yet: an older transaction is still open."""
    skipped: bool
    """Whether commits after the cursor are compacted already, and left out."""


def news(
    db: Database, numbers: Numbers, cursor: int, limit: int, known: Mapping[int, Committed], *, data: bool
) -> News:
    """Read on from a cursor; commits in `known` aren't read again. Without `data` only alerts are read."""
    bound = db.settled()
    (beyond,) = db.execute(
        "SELECT EXISTS (SELECT 1 FROM batch WHERE id >= ?) OR EXISTS (SELECT 1 FROM alert_change WHERE id >= ?)",
        (bound, bound),
    ).fetchone()
    if cursor >= bound - 1:
        # Nothing new; or the server was put back to an earlier state, and numbers with it.
        return News(bound - 1, (), (), more=False, held_back=bool(beyond), skipped=False)
    upto, more, skipped = bound - 1, False, False
    commits: list[Committed] = []
    if data:
        oldest = reading.compacted(db)
        skipped = cursor < oldest
        cursor = max(cursor, oldest)
        rows = db.execute(
            "SELECT id, samples FROM batch WHERE id > ? AND id < ? ORDER BY id LIMIT ?",
            (cursor, bound, limit),
        ).fetchall()
        ids = _affordable(rows)
        if len(rows) == limit or len(ids) < len(rows):
            upto, more = ids[-1], True
        missing = [number for number in ids if number not in known]
        found = {one.cursor: one for one in reading.commits(db, numbers, missing)}
        commits = [known.get(number) or found[number] for number in ids]
    rows = db.execute(
        "SELECT alerts FROM alert_change WHERE id > ? AND id <= ? ORDER BY id", (cursor, upto)
    ).fetchall()
    alerts = [alert for row in rows for alert in unpacked(row[0])]
    return News(upto, commits, alerts, more, bool(beyond), skipped)


def _affordable(rows: Sequence[tuple[int, int]]) -> list[int]:
    """Take the first of these (number, samples), at least one, that fit into memory together."""
    ids: list[int] = []
    total = 0
    for number, samples in rows:
        total += samples
        if ids and total > SAMPLES:
            break
        ids.append(number)
    return ids


def unpacked(text: str) -> list[Alert]:
    """Read alerts that were stored as JSON."""
    return [Alert(**{**item, "state": AlertState(item["state"])}) for item in orjson.loads(text)]
