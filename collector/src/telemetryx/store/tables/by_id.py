"""Pages of rows in the order of their ids, told apart by places: the page behind an id, or in front of it.

No row that comes or goes between two pages moves another one across a place, as it does with an offset.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from telemetryx.store.interface import QuarantineQuery, SeriesQuery
from telemetryx.store.tables.database import Database


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which rows: columns, of which the first is the id; a FROM clause with its conditions and their parameters."""

    columns: str
    source: str
    values: Sequence[Any]
    id: str
    newest_first: bool = False


@dataclass(frozen=True, slots=True)
class Page:
    """Rows, how many there are, and how many of these stand before them."""

    rows: list[Any]
    total: int
    skipped: int


def page(connection: Database, wanted: Wanted, query: SeriesQuery | QuarantineQuery) -> Page:
    """Return one page."""
    on, back = ("<", ">") if wanted.newest_first else (">", "<")
    joint = "AND" if " WHERE " in wanted.source else "WHERE"

    def count(more: str = "", *place: int) -> int:
        statement = f"SELECT count(*) {wanted.source}{more}"
        return int(connection.execute(statement, (*wanted.values, *place)).fetchone()[0])

    placed, edges = "", list[int]()
    for sign, place in ((on, query.after), (back, query.before)):
        if place is not None:
            placed += f" {'AND' if placed else joint} {wanted.id} {sign} ?"
            edges.append(place)
    backward = query.before is not None and query.after is None
    turned = "DESC" if wanted.newest_first != backward else "ASC"
    rows = connection.execute(
        f"SELECT {wanted.columns} {wanted.source}{placed} ORDER BY {wanted.id} {turned} LIMIT ? OFFSET ?",
        (*wanted.values, *edges, query.limit, query.offset),
    ).fetchall()
    if backward:
        rows.reverse()
    total = count()
    if not edges:
        skipped = min(query.offset, total)
    elif rows:
        skipped = count(f" {joint} {wanted.id} {back} ?", rows[0][0])
    else:
        skipped = 0 if backward else total
    return Page(rows, total, skipped)
