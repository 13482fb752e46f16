"""The commit of a group of batches: ledger, definitions, data, latest and counts in one transaction, a savepoint each.

What one batch is refused for undoes that batch alone; what the store itself fails at undoes the group, and nothing of it
is acknowledged. Order inside a batch: ledger first (a duplicate costs one look-up), definitions, numbers, data.
"""

import sqlite3
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Final

import numpy as np
import orjson

from telemetryx.store.sqlite import blocks, ledger
from telemetryx.store.sqlite.numbers import Numbers, define
from telemetryx.types import (
    F64,
    I64,
    U8,
    Committed,
    Conflict,
    Decoded,
    Duplicate,
    EventBlock,
    LossFrame,
    NeedDefinitions,
    Outcome,
    Refused,
    SampleBlock,
    Stored,
    WindowBlock,
)

EPOCH_BYTES: Final = 16
MAX_SEQ: Final = (1 << 63) - 2
MAX_TIME: Final = 9_200_000_000_000_000_000
"""Beyond it bucket arithmetic would leave 64 bits."""
MAX_NUMBERS: Final = 10_000
"""So many missing numbers are named in one answer."""
NO_CHECKSUM: Final = bytes(16)

_LATEST = (
    "INSERT INTO latest VALUES (?, ?, ?, ?) ON CONFLICT DO UPDATE SET "
    "time_ns = excluded.time_ns, value = excluded.value, flags = excluded.flags WHERE excluded.time_ns >= time_ns"
)
_LOSS = (
    "INSERT INTO loss VALUES (?, ?, ?, ?, ?) ON CONFLICT DO UPDATE SET count = count + excluded.count, "
    "first_ns = min(first_ns, excluded.first_ns), last_ns = max(last_ns, excluded.last_ns)"
)


class _Undo(Exception):  # noqa: N818 - carries an outcome out of a savepoint
    def __init__(self, outcome: Outcome) -> None:
        self.outcome = outcome


@dataclass(slots=True)
class _Group:
    """What a group of batches adds to tables that hold one row a series or an agent: written once, at its end."""

    series: list[I64] = field(default_factory=list)
    times: list[I64] = field(default_factory=list)
    values: list[F64] = field(default_factory=list)
    flags: list[U8] = field(default_factory=list)
    stored: dict[int, int] = field(default_factory=dict)
    newest: dict[int, int] = field(default_factory=dict)
    loss: dict[tuple[int, int], tuple[int, int, int]] = field(default_factory=dict)


class Committer:
    """Commits groups on the writer's connection."""

    def __init__(self, now_ns: Callable[[], int]) -> None:
        """Use this clock for arrival times."""
        self._now_ns = now_ns
        self.numbers = Numbers()

    def commit(self, connection: sqlite3.Connection, batches: Sequence[Decoded]) -> list[Outcome]:
        """Store the batches; the caller's transaction makes them durable."""
        group = _Group()
        now = self._now_ns()
        outcomes = [self._guarded(connection, batch, group, now) for batch in batches]
        _finish(connection, group, now)
        return outcomes

    def _guarded(self, connection: sqlite3.Connection, batch: Decoded, group: _Group, now: int) -> Outcome:
        connection.execute("SAVEPOINT batch")
        try:
            outcome = self._store(connection, batch, group, now)
        except _Undo as undo:
            outcome = undo.outcome
        except (sqlite3.IntegrityError, sqlite3.DataError, OverflowError, UnicodeError) as error:
            outcome = Refused("content", f"the store can't hold this batch: {error}")
        else:
            connection.execute("RELEASE batch")
            return outcome
        connection.execute("ROLLBACK TO batch")
        connection.execute("RELEASE batch")
        if batch.definitions:
            self.numbers.forget()
        return outcome

    def _store(self, connection: sqlite3.Connection, batch: Decoded, group: _Group, now: int) -> Outcome:
        if len(batch.key.epoch) != EPOCH_BYTES or not 1 <= batch.key.seq <= MAX_SEQ:
            raise _Undo(
                Refused(
                    "key", f"epoch of {len(batch.key.epoch)} bytes and seq {batch.key.seq} are no batch key"
                )
            )
        agent = ledger.agent_id(connection, batch.key.agent, now)
        epoch = ledger.epoch_id(connection, agent, batch.key.epoch, now)
        if not ledger.enter(connection, epoch, batch.key.seq):
            known = ledger.checksum(connection, epoch, batch.key.seq)
            differs = known is not None and known != batch.checksum
            raise _Undo(Conflict(known) if differs and known is not None else Duplicate())
        ledger.remember(connection, epoch, batch.key.seq, batch.checksum)
        if batch.definitions:
            if define(connection, agent, epoch, batch.definitions, now) is not None:
                raise _Undo(Conflict(NO_CHECKSUM))
            self.numbers.forget_epoch(epoch)
        samples, windows = self._numbered(connection, batch, epoch)
        t0, t1 = _time_range(windows, batch)
        cursor = _insert(connection, batch, (agent, epoch, now, t0, t1))
        events = _events(connection, batch, agent, cursor)
        if windows is not None:
            _insert_windows(connection, windows, cursor, epoch, batch.key.seq)
        _note(group, batch, agent, samples, windows, t0, t1)
        return Stored(cursor, Committed(cursor, batch.key, now, t0, t1, samples, windows, events))

    def _numbered(
        self, connection: sqlite3.Connection, batch: Decoded, epoch: int
    ) -> tuple[SampleBlock, WindowBlock | None]:
        """Turn the agent's numbers into ids, or ask for definitions."""
        ids, missing = self.numbers.ids(connection, epoch, batch.samples.series)
        windows = None
        if batch.windows is not None and len(batch.windows):
            rows, missing_rows = self.numbers.ids(connection, epoch, batch.windows.series)
            missing = np.union1d(missing, missing_rows)
            if not len(missing):
                windows = blocks.windows(batch.windows, rows, batch.clock_offset_ns)
        if len(missing):
            raise _Undo(NeedDefinitions(tuple(missing[:MAX_NUMBERS].tolist())))
        return blocks.samples(batch.samples, ids, batch.clock_offset_ns), windows


def _time_range(windows: WindowBlock | None, batch: Decoded) -> tuple[int, int]:
    """Return earliest and latest corrected time inside, and refuse times that 64 bits barely hold."""
    offset = batch.clock_offset_ns
    raw = [batch.samples.times]
    if windows is not None and batch.windows is not None:
        raw += [batch.windows.start, batch.windows.first_time, batch.windows.last_time]
        if int(batch.windows.length.max()) > MAX_TIME // 2:
            raise _Undo(Refused("time", "a window is longer than a century"))
    if batch.events is not None:
        raw.append(batch.events.times)
    raw = [column for column in raw if len(column)]
    if not raw:
        return 0, 0
    low = min(int(column.min()) for column in raw) + offset
    high = max(int(column.max()) for column in raw) + offset
    if low < -MAX_TIME or high > MAX_TIME:
        raise _Undo(
            Refused(
                "time", f"times from {low} to {high} ns are outside what can be stored (years 1678 to 2261)"
            )
        )
    return low, high


def _insert(connection: sqlite3.Connection, batch: Decoded, about: tuple[int, int, int, int, int]) -> int:
    agent, epoch, now, t0, t1 = about
    cursor = connection.execute(
        "INSERT INTO batch (agent_id, epoch_id, seq, lane, received_ns, t0_ns, t1_ns, clock_offset_ns, series, samples, "
        "windows, events, payload) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        (
            agent,
            epoch,
            batch.key.seq,
            batch.lane,
            now,
            t0,
            t1,
            batch.clock_offset_ns,
            len(batch.samples.series),
            len(batch.samples),
            0 if batch.windows is None else len(batch.windows),
            0 if batch.events is None else len(batch.events),
            batch.payload,
        ),
    ).lastrowid
    return int(cursor or 0)


def _events(connection: sqlite3.Connection, batch: Decoded, agent: int, cursor: int) -> EventBlock | None:
    block = batch.events
    if block is None or not len(block):
        return None
    (last,) = connection.execute("SELECT coalesce(max(id), 0) FROM event").fetchone()
    ids = np.arange(last + 1, last + 1 + len(block), dtype=np.int64)
    corrected = blocks.events(block, batch.clock_offset_ns, ids)
    attributes = [
        orjson.dumps(entry, option=orjson.OPT_PASSTHROUGH_SUBCLASS).decode() for entry in block.attributes
    ]
    numbered = ids.tolist()
    connection.executemany(
        "INSERT INTO event VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
        zip(
            numbered,
            [agent] * len(block),
            [cursor] * len(block),
            corrected.times.tolist(),
            block.severity.tolist(),
            block.source,
            block.body,
            attributes,
            strict=True,
        ),
    )
    connection.executemany(
        "INSERT INTO event_text (rowid, source, body, attributes) VALUES (?, ?, ?, ?)",
        zip(numbered, block.source, block.body, attributes, strict=True),
    )
    return corrected


def _insert_windows(
    connection: sqlite3.Connection, windows: WindowBlock, cursor: int, epoch: int, seq: int
) -> None:
    connection.executemany(
        'INSERT INTO "window" (series_id, start_ns, length_ns, count, sum, min, max, first_ns, first, last_ns, last, sketch, '
        "batch_id, epoch_id, seq) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        zip(
            windows.series.tolist(),
            windows.start.tolist(),
            windows.length.tolist(),
            windows.count.tolist(),
            windows.sum.tolist(),
            windows.min.tolist(),
            windows.max.tolist(),
            windows.first_time.tolist(),
            windows.first.tolist(),
            windows.last_time.tolist(),
            windows.last.tolist(),
            blocks.sketch_blobs(windows.sketch, len(windows)),
            [cursor] * len(windows),
            [epoch] * len(windows),
            [seq] * len(windows),
            strict=True,
        ),
    )


def _note(
    group: _Group,
    batch: Decoded,
    agent: int,
    samples: SampleBlock,
    windows: WindowBlock | None,
    t0: int,
    t1: int,
) -> None:
    """Collect what the end of the group writes."""
    rows = len(samples)
    if rows:
        full = samples.offsets[1:] > samples.offsets[:-1]
        last = samples.offsets[1:][full] - 1
        group.series.append(samples.series[full])
        group.times.append(samples.times[last])
        group.values.append(samples.values[last])
        group.flags.append(np.zeros(len(last), np.uint8) if samples.flags is None else samples.flags[last])
    if windows is not None:
        rows += len(windows)
        group.series.append(windows.series)
        group.times.append(windows.last_time)
        group.values.append(windows.last)
        group.flags.append(np.zeros(len(windows), np.uint8))
    rows += 0 if batch.events is None else len(batch.events)
    group.stored[agent] = group.stored.get(agent, 0) + rows
    if rows:
        group.newest[agent] = max(t1, group.newest.get(agent, t1))
    for cause, count in batch.counts.items():
        if count:
            _add_loss(group.loss, (agent, cause), count, (t0, t1) if rows else (batch.t0_ns, batch.t1_ns))


def _add_loss(
    loss: dict[tuple[int, int], tuple[int, int, int]],
    key: tuple[int, int],
    count: int,
    times: tuple[int, int],
) -> None:
    before = loss.get(key)
    if before is None:
        loss[key] = (count, *times)
    else:
        loss[key] = (before[0] + count, min(before[1], times[0]), max(before[2], times[1]))


def _finish(connection: sqlite3.Connection, group: _Group, now: int) -> None:
    if group.series:
        series, times = np.concatenate(group.series), np.concatenate(group.times)
        order = np.lexsort((times, series))
        series = series[order]
        newest = order[np.append(series[1:] != series[:-1], True)]
        connection.executemany(
            _LATEST,
            zip(
                np.concatenate(group.series)[newest].tolist(),
                times[newest].tolist(),
                np.concatenate(group.values)[newest].tolist(),
                np.concatenate(group.flags)[newest].tolist(),
                strict=True,
            ),
        )
    connection.executemany(
        "UPDATE agent SET stored = stored + ?, last_event_ns = max(last_event_ns, ?), last_seen_ns = max(last_seen_ns, ?) "
        "WHERE id = ?",
        [(stored, group.newest.get(agent, 0), now, agent) for agent, stored in group.stored.items()],
    )
    connection.executemany(_LOSS, [(*key, *value) for key, value in group.loss.items()])


def commit_loss(connection: sqlite3.Connection, losses: Sequence[LossFrame], now: int) -> list[Outcome]:
    """Enter dropped seqs: the hole in the ledger is filled, and their counts are kept with their times."""
    return [_loss(connection, loss, now) for loss in losses]


def _loss(connection: sqlite3.Connection, loss: LossFrame, now: int) -> Outcome:
    key = loss.key
    if len(key.epoch) != EPOCH_BYTES or not 1 <= key.seq <= MAX_SEQ:
        return Refused("key", f"epoch of {len(key.epoch)} bytes and seq {key.seq} are no batch key")
    agent = ledger.agent_id(connection, key.agent, now)
    epoch = ledger.epoch_id(connection, agent, key.epoch, now)
    if not ledger.enter(connection, epoch, key.seq):
        return Duplicate()
    for cause, count in loss.counts.items():
        connection.execute(_LOSS, (agent, cause, count, loss.t0_ns, loss.t1_ns))
        joined = connection.execute(
            "UPDATE gap SET last_seq = ?, count = count + ?, t0_ns = min(t0_ns, ?), t1_ns = max(t1_ns, ?) "
            "WHERE epoch_id = ? AND cause = ? AND last_seq = ?",
            (key.seq, count, loss.t0_ns, loss.t1_ns, epoch, cause, key.seq - 1),
        ).rowcount
        if not joined:
            connection.execute(
                "INSERT INTO gap (epoch_id, first_seq, last_seq, cause, count, t0_ns, t1_ns) VALUES (?, ?, ?, ?, ?, ?, ?)",
                (epoch, key.seq, key.seq, cause, count, loss.t0_ns, loss.t1_ns),
            )
    return Stored(0)
