"""Batches that are kept apart because their times are far ahead of the collector's clock: looked at, let in, or dropped.

A batch that is let in is stored under an epoch of the collector's own, made from the agent's: the chunks of the agent's epoch
may span its seq by now. Its series keep their numbers there. The agent's own seq stays in the dedup ledger either way, so
that nothing is stored twice.
"""

import hashlib
from typing import Any, Final

import numpy as np

from telemetryx.fleet import Quarantined, QuarantinedBatch, QuarantinedSeries
from telemetryx.sets import union
from telemetryx.store.interface import QuarantinePage, QuarantineQuery
from telemetryx.store.tables import by_id, ledger, reading
from telemetryx.store.tables.catalog import series_by_id
from telemetryx.store.tables.database import Database
from telemetryx.store.tables.numbers import Numbers
from telemetryx.types import I64, BatchKey, Cause, Decoded
from telemetryx.wire.payload import Payload

MAX_SHOWN: Final = 1_000
"""Series, and events, that are shown of one batch."""

_COLUMNS: Final = (
    "quarantine.id, agent.name, epoch.epoch, seq, received_ns, t0_ns, t1_ns, clock_offset_ns, clock_uncertain, rows, "
    "length(payload)"
)
_FROM: Final = (
    "FROM quarantine JOIN agent ON agent.id = quarantine.agent_id JOIN epoch ON epoch.id = epoch_id"
)
_ROWS: Final = f"SELECT {_COLUMNS} {_FROM}"


def page(connection: Database, query: QuarantineQuery) -> QuarantinePage:
    """Return one page of batches, newest first."""
    where, values = ("", ()) if query.agent is None else (" WHERE agent.name = ?", (query.agent,))
    wanted = by_id.Wanted(_COLUMNS, f"{_FROM}{where}", values, "quarantine.id", newest_first=True)
    found = by_id.page(connection, wanted, query)
    return QuarantinePage([_row(row) for row in found.rows], found.total, found.skipped)


def _row(row: tuple[Any, ...]) -> Quarantined:
    *about, uncertain, rows, size = row
    fields: tuple[Any, ...] = (*about, bool(uncertain), rows, size)
    return Quarantined(*fields)


def show(connection: Database, numbers: Numbers, row_id: int) -> QuarantinedBatch | None:
    """Return one batch with what is in it."""
    row = connection.execute(f"{_ROWS} WHERE quarantine.id = ?", (row_id,)).fetchone()
    if row is None:
        return None
    about = _row(row)
    epoch, payload = connection.execute(
        "SELECT epoch_id, payload FROM quarantine WHERE id = ?", (row_id,)
    ).fetchone()
    content = reading.decoded(row_id, payload)
    series = _series(connection, numbers, epoch, content, about.clock_offset_ns)
    events: list[tuple[int, str, str]] = []
    if content.events is not None:
        block = content.events
        times = (block.times[:MAX_SHOWN] + about.clock_offset_ns).tolist()
        events = list(zip(times, block.source[:MAX_SHOWN], block.body[:MAX_SHOWN], strict=True))
    return QuarantinedBatch(about, series, events)


def said(connection: Database, row_id: int) -> dict[str, Any] | None:
    """Return what the audit log says of one."""
    row = connection.execute(f"{_ROWS} WHERE quarantine.id = ?", (row_id,)).fetchone()
    if row is None:
        return None
    about = _row(row)
    return {
        "agent": about.agent,
        "epoch": about.epoch.hex(),
        "seq": about.seq,
        "rows": about.rows,
        "first_ns": about.t0_ns,
        "last_ns": about.t1_ns,
    }


def _series(
    connection: Database, numbers: Numbers, epoch: int, content: Payload, offset: int
) -> list[QuarantinedSeries]:
    """Sum up each series: its samples and windows, from when to when, and the value of the latest sample."""
    block, windows = content.samples, content.windows
    every: I64 = block.series if windows is None else union(block.series, windows.series)
    shown = every[:MAX_SHOWN]
    ids, _ = numbers.ids(connection, epoch, shown)
    known = series_by_id(connection, ids.tolist())
    out = []
    for number, series_id in zip(shown.tolist(), ids.tolist(), strict=True):
        times, values = block.of(number)
        edges = [times]
        count = 0
        if windows is not None:
            mine = windows.series == number
            count = int(mine.sum())
            edges += [windows.first_time[mine], windows.last_time[mine]]
        joined = np.concatenate(edges) + offset
        series = known[series_id]
        last = float(values[-1]) if len(values) else None
        out.append(
            QuarantinedSeries(
                series.name,
                series.labels,
                series.unit,
                len(times),
                count,
                int(joined.min()),
                int(joined.max()),
                last,
            )
        )
    return out


def readmitted(
    connection: Database, numbers: Numbers, row_id: int, shift_ns: int, now_ns: int
) -> tuple[int, int, Decoded] | None:
    """Give a batch a name of the collector's own, and take it out: agent, epoch and the batch as if it had just come.

    Its readings are no longer counted as refused; its other counts were taken when it came. None: there is no such batch.
    """
    row = connection.execute(
        "SELECT quarantine.agent_id, agent.name, epoch_id, epoch.epoch, clock_offset_ns, clock_uncertain, rows, payload FROM quarantine "
        "JOIN agent ON agent.id = quarantine.agent_id JOIN epoch ON epoch.id = epoch_id WHERE quarantine.id = ?",
        (row_id,),
    ).fetchone()
    if row is None:
        return None
    agent, name, old, epoch_bytes, offset, uncertain, rows, payload = row
    if not drop(connection, row_id):  # another process let it in meanwhile
        return None
    content = reading.decoded(row_id, payload)
    epoch_bytes = hashlib.sha256(b"let in by the collector" + epoch_bytes).digest()[: len(epoch_bytes)]
    epoch = ledger.epoch_id(connection, agent, epoch_bytes, now_ns)
    (seq,) = connection.execute(
        "SELECT coalesce(max(last), 0) + 1 FROM ledger WHERE epoch_id = ?", (epoch,)
    ).fetchone()
    ledger.enter(connection, epoch, seq)
    used = content.samples.series
    if content.windows is not None:
        used = union(used, content.windows.series)
    connection.executemany(
        "INSERT INTO series_number SELECT CAST(? AS BIGINT), number, series_id FROM series_number WHERE epoch_id = ? AND number = ? "
        "ON CONFLICT DO NOTHING",
        [(epoch, old, number) for number in used.tolist()],
    )
    numbers.forget_epoch(epoch)
    connection.execute(
        "UPDATE loss SET count = count - ? WHERE agent_id = ? AND cause = ?", (rows, agent, Cause.REFUSED)
    )
    connection.execute(
        "DELETE FROM loss WHERE agent_id = ? AND cause = ? AND count <= 0", (agent, Cause.REFUSED)
    )
    batch = Decoded(
        BatchKey(name, epoch_bytes, seq),
        b"",
        payload,
        content.samples,
        content.windows,
        content.events,
        clock_offset_ns=offset + shift_ns,
        clock_uncertain=bool(uncertain) or shift_ns != 0,
    )
    return agent, epoch, batch


def drop(connection: Database, row_id: int) -> bool:
    """Delete a batch for good: its readings stay counted as refused. False: there is no such batch."""
    return connection.execute("DELETE FROM quarantine WHERE id = ?", (row_id,)).rowcount == 1
