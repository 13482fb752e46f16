"""Series, devices and latest values: what there is to ask about."""

from collections.abc import Sequence
from typing import Any, Final

import numpy as np
import orjson

from telemetryx.fleet import Device
from telemetryx.store import selector
from telemetryx.store.interface import DevicePage, DeviceQuery, SeriesPage, SeriesQuery
from telemetryx.store.regex import regex
from telemetryx.store.tables import by_id, reals
from telemetryx.store.tables.database import Database
from telemetryx.store.tables.reading import portions
from telemetryx.types import F64, I64, Latest, Matcher, Series

TIED: Final = 256
"""In flags of `latest`: several readings of the series have that time. The last committed is there; to readers it is the last in the order of batches."""
IN_ONE: Final = 500
_SERIES = "series.id, agent.name, series.name, series.labels, series.unit"
_FROM = "FROM series JOIN agent ON agent.id = series.agent_id"


def conditions(connection: Database, matchers: Sequence[Matcher], agent: str | None) -> tuple[str, list[Any]]:
    """Turn matchers into SQL. A label that is missing counts as empty."""
    parts: list[str] = []
    values: list[Any] = []
    if agent is not None:
        parts.append("agent.name = ?")
        values.append(agent)
    for matcher in matchers:
        part, more = _condition(connection, matcher)
        parts.append(part)
        values += more
    return (" WHERE " + " AND ".join(parts) if parts else ""), values


def _condition(connection: Database, matcher: Matcher) -> tuple[str, list[Any]]:
    if matcher.name == selector.OUR_AGENT:
        return _agent_condition(connection, matcher)
    column = {selector.NAME: "series.name", selector.AGENT: "agent.name"}.get(matcher.name)
    negated = matcher.op in {"!=", "!~"}
    if column is not None:
        plain = {"=": f"{column} = ?", "!=": f"{column} != ?"}
        if matcher.op in plain:
            return plain[matcher.op], [matcher.value]
        test, wanted = connection.matching(matcher.value, column.partition(".")[0], column)
        return f"{'NOT ' if negated else ''}({test})", [wanted]
    having = "SELECT series_id FROM series_label WHERE name = ?"
    if matcher.op in {"=", "!="}:
        empty, test, wanted = matcher.value == "", "value = ?", matcher.value
    else:
        empty = regex(matcher.value).matches("")
        test, wanted = connection.matching(matcher.value, "series_label", "value", matcher.name)
    # Met by an empty value: everything but those that have the label with a value that doesn't meet it.
    inside = f"series.id NOT IN ({having} AND NOT {test})" if empty else f"series.id IN ({having} AND {test})"
    return (f"NOT ({inside})" if negated else inside), [matcher.name, wanted]


def _agent_condition(connection: Database, matcher: Matcher) -> tuple[str, list[Any]]:
    """Ask the series' own label `agent` where there is one, else the agent's name."""
    positive = matcher.op in {"=", "=~"}
    named, own = (
        Matcher(selector.AGENT, "=" if matcher.op in {"=", "!="} else "=~", matcher.value),
        "value = ?",
    )
    name, (wanted,) = _condition(connection, named)
    asked = wanted
    if named.op == "=~":
        own, asked = connection.matching(matcher.value, "series_label", "value", matcher.name)
    having = "SELECT series_id FROM series_label WHERE name = ?"
    met = f"({name} AND series.id NOT IN ({having}) OR series.id IN ({having} AND {own}))"
    return (met if positive else f"NOT {met}"), [wanted, matcher.name, matcher.name, asked]


def series(
    connection: Database, matchers: Sequence[Matcher], agent: str | None, limit: int, after: int
) -> list[Series]:
    """Return series that meet all matchers, by id, those behind one."""
    where, values = conditions(connection, matchers, agent)
    rows = connection.execute(
        f"SELECT {_SERIES} {_FROM}{where}{' AND' if where else ' WHERE'} series.id > ? ORDER BY series.id LIMIT ?",
        (*values, after, limit),
    )
    return [_series(row) for row in rows]


def series_page(connection: Database, query: SeriesQuery) -> SeriesPage:
    """Return one page of series."""
    where, values = conditions(connection, query.matchers, query.agent)
    found = by_id.page(connection, by_id.Wanted(_SERIES, f"{_FROM}{where}", values, "series.id"), query)
    return SeriesPage([_series(row) for row in found.rows], found.total, found.skipped)


def count_series(connection: Database, matchers: Sequence[Matcher], agent: str | None) -> int:
    """Count series that meet all matchers."""
    where, values = conditions(connection, matchers, agent)
    return int(connection.execute(f"SELECT count(*) {_FROM}{where}", values).fetchone()[0])


def series_by_id(connection: Database, ids: Sequence[int]) -> dict[int, Series]:
    """Return series by id."""
    out: dict[int, Series] = {}
    for marks, part in portions(list(dict.fromkeys(ids))):
        for row in connection.execute(f"SELECT {_SERIES} {_FROM} WHERE series.id IN ({marks})", part):
            out[row[0]] = _series(row)
    return out


def _series(row: tuple[Any, ...]) -> Series:
    return Series(row[0], row[1], row[2], orjson.loads(row[3]), row[4])


def latest(connection: Database, ids: Sequence[int]) -> dict[int, Latest]:
    """Return the newest values by event time."""
    out: dict[int, Latest] = {}
    for marks, part in portions(list(dict.fromkeys(ids))):
        for row in connection.execute(
            f"SELECT series_id, time_ns, value, flags FROM latest WHERE series_id IN ({marks})", part
        ):
            out[row[0]] = Latest(row[0], row[1], reals.value(row[2]), row[3] & ~TIED)
    return out


def newest(connection: Database, ids: Sequence[int]) -> tuple[I64, I64, F64, I64]:
    """Return the same as columns, ascending by series: series, times, values, and flags with TIED."""
    rows: list[tuple[Any, ...]] = []
    for begun in range(0, len(ids), IN_ONE):
        among, part = connection.among("series_id", ids[begun : begun + IN_ONE])
        rows += connection.execute(
            f"SELECT series_id, time_ns, value, flags FROM latest WHERE {among} ORDER BY series_id", part
        ).fetchall()
    series, times, values, flags = zip(*rows, strict=True) if rows else ((), (), (), ())
    return (
        np.array(series, np.int64),
        np.array(times, np.int64),
        reals.read(values),
        np.array(flags, np.int64),
    )


_DEVICE = "agent.name, series.site, series.device"


def devices(connection: Database, query: DeviceQuery) -> DevicePage:
    """Return one page of devices."""
    parts: list[str] = ["series.device != ''"]
    values: list[Any] = []
    for column, wanted in (("agent.name", query.agent), ("series.site", query.site)):
        if wanted is not None:
            parts.append(f"{column} = ?")
            values.append(wanted)
    if query.filter:
        parts.append("(instr(lower(series.device), lower(?)) > 0 OR instr(lower(series.site), lower(?)) > 0)")
        values += [query.filter, query.filter]
    where = " AND ".join(parts)

    def count(more: str = "", place: Sequence[str] = ()) -> int:
        found = f"SELECT 1 {_FROM} WHERE {where}{more} GROUP BY {_DEVICE}"
        row = connection.execute(f"SELECT count(*) FROM ({found}) AS found", (*values, *place)).fetchone()
        return int(row[0])

    place, edges = "", list[str]()
    for sign, key in ((">", query.after), ("<", query.before)):
        if key is not None:
            place += f" AND ({_DEVICE}) {sign} (?, ?, ?)"
            edges += key
    backward = query.before is not None and query.after is None
    turned = " DESC" if backward else ""
    rows = connection.execute(
        f"SELECT {_DEVICE}, count(*), coalesce(max(latest.time_ns), 0) FROM series "
        "JOIN agent ON agent.id = series.agent_id LEFT JOIN latest ON latest.series_id = series.id "
        f"WHERE {where}{place} GROUP BY {_DEVICE} "
        f"ORDER BY agent.name{turned}, series.site{turned}, series.device{turned} LIMIT ? OFFSET ?",
        (*values, *edges, query.limit, query.offset),
    ).fetchall()
    found = [Device(*row) for row in (reversed(rows) if backward else rows)]
    total = count()
    if not edges:
        skipped = min(query.offset, total)
    elif found:
        skipped = count(f" AND ({_DEVICE}) < (?, ?, ?)", (found[0].agent, found[0].site, found[0].device))
    else:
        skipped = 0 if backward else total
    return DevicePage(found, total, skipped)
