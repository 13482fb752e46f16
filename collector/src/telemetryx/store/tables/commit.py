"""The commit of a group of batches: ledger, definitions, data, latest and counts in one transaction, a savepoint each.

What one batch is refused for undoes that batch alone; what the store itself fails at undoes the group, and nothing of it
is acknowledged. Order inside a batch: ledger first (a duplicate costs one look-up), definitions, numbers, data.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Final

import numpy as np
import orjson

from telemetryx.errors import QueryRefused
from telemetryx.sets import union
from telemetryx.store.interface import Retention
from telemetryx.store.tables import blocks, ledger, quarantine, retention, rollup
from telemetryx.store.tables.blocks import Correction
from telemetryx.store.tables.cardinality import Cardinality, Excess, SeriesLimits
from telemetryx.store.tables.catalog import TIED
from telemetryx.store.tables.database import Database, greater
from telemetryx.store.tables.numbers import Numbers, define, stored_labels
from telemetryx.types import (
    F64,
    I64,
    U8,
    BatchKey,
    Cause,
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
    Series,
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
MAX_DEFINED: Final = 1_000
"""A commit tells of so many definitions; who wants more of them asks the store."""
MAX_KNOWN: Final = 10_000
"""Epochs whose ids are kept in memory."""

_LATEST = (
    "INSERT INTO latest VALUES (?, ?, ?, ?) ON CONFLICT (series_id) DO UPDATE SET time_ns = excluded.time_ns, "
    f"value = excluded.value, flags = excluded.flags | CASE WHEN excluded.time_ns = latest.time_ns THEN {TIED} ELSE 0 END "
    "WHERE excluded.time_ns >= latest.time_ns"
)
_OLDEST = "CASE WHEN 0 IN ({0}, {1}) THEN {0} + {1} WHEN {0} < {1} THEN {0} ELSE {1} END"
"""The earlier of two times, either of which may be 0: unknown."""
_NEWEST = "CASE WHEN 0 IN ({0}, {1}) THEN {0} + {1} WHEN {0} > {1} THEN {0} ELSE {1} END"
_LOSS = (
    "INSERT INTO loss VALUES (?, ?, ?, ?, ?) ON CONFLICT (agent_id, cause) DO UPDATE SET count = loss.count + excluded.count, "
    f"first_ns = {_OLDEST.format('loss.first_ns', 'excluded.first_ns')}, "
    f"last_ns = {_NEWEST.format('loss.last_ns', 'excluded.last_ns')}"
)
_GAP = (
    f"UPDATE gap SET last_seq = ?1, count = count + ?2, t0_ns = {_OLDEST.format('t0_ns', 'CAST(?3 AS BIGINT)')}, "
    f"t1_ns = {_NEWEST.format('t1_ns', 'CAST(?4 AS BIGINT)')} WHERE epoch_id = ?5 AND cause = ?6 AND last_seq = ?7"
)
_STORED = (
    f"UPDATE agent SET stored = stored + ?1, first_event_ns = {_OLDEST.format('first_event_ns', 'CAST(?2 AS BIGINT)')}, "
    f"last_event_ns = {greater('last_event_ns', '?3')}, last_seen_ns = {greater('last_seen_ns', '?4')} WHERE id = ?5"
)


class _Undo(Exception):  # noqa: N818 - carries an outcome out of a savepoint
    def __init__(self, outcome: Outcome) -> None:
        self.outcome = outcome


@dataclass(slots=True)
class _Group:
    """What a group of batches adds to tables that hold one row a series or an agent: written once, at its end."""

    now: int
    expiry: int
    """What is older than this is kept nowhere."""
    latest: int
    """What is later than this is kept apart: some clock is wrong."""
    series: list[I64] = field(default_factory=list)
    times: list[I64] = field(default_factory=list)
    values: list[F64] = field(default_factory=list)
    flags: list[U8] = field(default_factory=list)
    stored: dict[int, int] = field(default_factory=dict)
    range: dict[int, tuple[int, int]] = field(default_factory=dict)
    loss: dict[tuple[int, int], tuple[int, int, int]] = field(default_factory=dict)
    checksums: dict[tuple[int, int], bytes] = field(default_factory=dict)
    """By (epoch, seq), of what this group stored."""


class Committer:
    """Commits groups on the writer's connection."""

    def __init__(self, now_ns: Callable[[], int], future_limit_ns: int = MAX_TIME) -> None:
        """Use this clock for arrival times; keep batches apart that are further ahead of it than the limit."""
        self._now_ns = now_ns
        self._future_limit_ns = future_limit_ns
        self.numbers = Numbers()
        self.cardinality = Cardinality(SeriesLimits(), now_ns)
        self._known: dict[tuple[str, bytes], tuple[int, int]] = {}
        self.kept: Retention | None = None
        """How long everything is kept, where that is known."""

    def _expiry(self, connection: Database, now: int) -> int:
        """Return the time before which nothing is kept; a mark that a wrong clock set too late isn't waited for."""
        noted = rollup.expiry(connection)
        limit = None if self.kept is None else retention.expires(self.kept, now)
        return noted if limit is None else min(noted, limit)

    def commit(self, connection: Database, batches: Sequence[Decoded]) -> list[Outcome]:
        """Store the batches; the caller's transaction makes them durable."""
        now = self._now_ns()
        group = _Group(now, self._expiry(connection, now), now + self._future_limit_ns)
        keys = [(batch.key.agent, batch.key.epoch) for batch in batches]
        connection.lock_epochs(keys, [key[0] for key in keys if key not in self._known])
        outcomes = [self._guarded(connection, batch, group, now) for batch in batches]
        _finish(connection, group)
        return outcomes

    def _guarded(self, connection: Database, batch: Decoded, group: _Group, now: int) -> Outcome:
        connection.savepoint()
        self.cardinality.begin()
        try:
            outcome = self._store(connection, batch, group, now)
        except _Undo as undo:
            outcome = undo.outcome
        except connection.refusals as error:
            if (broken := connection.broken(error)) is not None:
                raise broken from error
            outcome = Refused("content", f"the store can't hold this batch: {error}")
        else:
            connection.release()
            return outcome
        connection.undo_savepoint()
        self.cardinality.undo()
        if batch.definitions:
            self.numbers.forget()
        return outcome

    def _store(self, connection: Database, batch: Decoded, group: _Group, now: int) -> Outcome:
        if len(batch.key.epoch) != EPOCH_BYTES or not 1 <= batch.key.seq <= MAX_SEQ:
            raise _Undo(
                Refused(
                    "key", f"epoch of {len(batch.key.epoch)} bytes and seq {batch.key.seq} are no batch key"
                )
            )
        agent, epoch = self._named(connection, batch.key, now)
        if not ledger.enter(connection, epoch, batch.key.seq):
            known = group.checksums.get((epoch, batch.key.seq))
            known = known or ledger.checksum(connection, epoch, batch.key.seq)
            differs = known is not None and known != batch.checksum
            raise _Undo(Conflict(known) if differs and known is not None else Duplicate())
        if batch.definitions:
            if define(connection, agent, epoch, batch.definitions, now, self.cardinality) is not None:
                raise _Undo(Conflict(NO_CHECKSUM))
            self.numbers.forget_epoch(epoch)
        batch, excess = self.cardinality.cut(connection, agent, epoch, batch)
        samples, windows = self._numbered(connection, batch, epoch)
        t0, t1 = _time_range(windows, batch)
        if t1 > group.latest:
            outcome: Outcome = _apart(connection, batch, group, (agent, epoch, now, t0, t1))
        else:
            committed = _put(connection, batch, group, (agent, epoch, now, t0, t1), samples, windows)
            committed = replace(
                committed,
                over_limit=0 if excess is None else excess.rows,
                defined=self._defined(connection, batch, epoch),
            )
            outcome = Stored(committed.cursor, committed)
        if excess is not None:
            _add_loss(
                group.loss, (agent, Cause.REFUSED_SERIES_LIMIT), excess.rows, _times(excess, batch, group)
            )
        group.checksums[epoch, batch.key.seq] = batch.checksum
        self._known[batch.key.agent, batch.key.epoch] = agent, epoch
        return outcome

    def _defined(self, connection: Database, batch: Decoded, epoch: int) -> tuple[Series, ...]:
        """Return the series that a batch defines, as they are stored; without those above a limit."""
        if not 0 < len(batch.definitions) <= MAX_DEFINED:
            return ()
        numbers = np.array([one.number for one in batch.definitions], np.int64)
        ids, missing = self.numbers.ids(connection, epoch, numbers)
        if len(missing):
            return ()
        return tuple(
            Series(number, batch.key.agent, one.name, stored_labels(one.labels), one.unit)
            for number, one in zip(ids.tolist(), batch.definitions, strict=True)
        )

    def _named(self, connection: Database, key: BatchKey, now: int) -> tuple[int, int]:
        """Return the ids of an agent and its epoch. They never change, so those that were committed are kept."""
        known = self._known.get((key.agent, key.epoch))
        if known is not None:
            return known
        if len(self._known) >= MAX_KNOWN:
            self._known.clear()
        agent = ledger.agent_id(connection, key.agent, now)
        return agent, ledger.epoch_id(connection, agent, key.epoch, now)

    def forget(self) -> None:
        """Drop what is remembered of the tables: a transaction was undone."""
        self._known.clear()
        self.numbers.forget()
        self.cardinality.forget()

    def release(self, connection: Database, row_id: int, shift_ns: int) -> Committed | None:
        """Let a quarantined batch in, its times moved by so much; the caller's transaction makes it durable.

        None: there is no such batch. Raises QueryRefused when its times are still too far ahead, or can't be stored.
        """
        now = self._now_ns()
        group = _Group(now, self._expiry(connection, now), now + self._future_limit_ns)
        found = quarantine.readmitted(connection, self.numbers, row_id, shift_ns, now)
        if found is None:
            return None
        agent, epoch, batch = found
        try:
            samples, windows = self._numbered(connection, batch, epoch)
            t0, t1 = _time_range(windows, batch)
        except _Undo as undo:
            raise QueryRefused(f"batch {row_id} can't be let in: {undo.outcome}") from undo
        if t1 > group.latest:
            ahead = (t1 - now) / 1e9
            raise QueryRefused(
                f"the times of batch {row_id} are {ahead:,.0f} s ahead of now, and would be so with a shift of {shift_ns} ns"
            )
        committed = _put(connection, batch, group, (agent, epoch, now, t0, t1), samples, windows)
        _finish(connection, group)
        expired, *_ = group.loss.get((agent, Cause.EXPIRED), (0,))
        return replace(committed, expired=expired)

    def _numbered(
        self, connection: Database, batch: Decoded, epoch: int
    ) -> tuple[SampleBlock, WindowBlock | None]:
        """Turn the agent's numbers into ids, or ask for definitions."""
        ids, missing = self.numbers.ids(connection, epoch, batch.samples.series)
        windows = None
        if batch.windows is not None and len(batch.windows):
            rows, missing_rows = self.numbers.ids(connection, epoch, batch.windows.series)
            missing = union(missing, missing_rows)
            if not len(missing):
                windows = blocks.windows(batch.windows, rows, batch.clock_offset_ns)
        if len(missing):
            raise _Undo(NeedDefinitions(tuple(missing[:MAX_NUMBERS].tolist())))
        return blocks.samples(
            batch.samples, ids, Correction(batch.clock_offset_ns, batch.clock_uncertain)
        ), windows


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


def _times(excess: Excess, batch: Decoded, group: _Group) -> tuple[int, int]:
    """Return the times of what was left out, corrected; that of arrival where they can't be."""
    t0, t1 = excess.t0_ns + batch.clock_offset_ns, excess.t1_ns + batch.clock_offset_ns
    return (t0, t1) if t0 >= -MAX_TIME and t1 <= min(MAX_TIME, group.latest) else (group.now, group.now)


def _apart(
    connection: Database, batch: Decoded, group: _Group, about: tuple[int, int, int, int, int]
) -> Outcome:
    """Keep a batch where nobody reads it: a time ahead of ours would be the latest value for as long as it is ahead.

    Its readings are counted as refused, at the time of arrival: their own is what is wrong.
    """
    agent, epoch, now, t0, t1 = about
    rows = len(batch.samples)
    rows += 0 if batch.windows is None else len(batch.windows)
    rows += 0 if batch.events is None else len(batch.events)
    connection.execute(
        "INSERT INTO quarantine (agent_id, epoch_id, seq, received_ns, t0_ns, t1_ns, clock_offset_ns, clock_uncertain, rows, "
        "payload) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        (
            agent,
            epoch,
            batch.key.seq,
            now,
            t0,
            t1,
            batch.clock_offset_ns,
            batch.clock_uncertain,
            rows,
            batch.payload,
        ),
    )
    for cause, count in (*batch.counts.items(), (Cause.REFUSED, rows)):
        if count:
            _add_loss(group.loss, (agent, cause), count, (now, now))
    return Stored(0)


def _put(
    connection: Database,
    batch: Decoded,
    group: _Group,
    about: tuple[int, int, int, int, int],
    samples: SampleBlock,
    windows: WindowBlock | None,
) -> Committed:
    """Write a batch where it is read."""
    agent, epoch, now, t0, t1 = about
    cursor = _insert(connection, batch, about)
    events = _events(connection, batch, agent, cursor)
    if windows is not None:
        _insert_windows(connection, windows, cursor, epoch, batch.key.seq)
    _note(group, batch, agent, samples, windows, t0, t1)
    return Committed(cursor, batch.key, now, t0, t1, samples, windows, events, trace=batch.trace)


def _insert(connection: Database, batch: Decoded, about: tuple[int, int, int, int, int]) -> int:
    agent, epoch, now, t0, t1 = about
    connection.place("batch", t1)
    (cursor,) = connection.execute(
        "INSERT INTO batch (id, agent_id, epoch_id, seq, lane, received_ns, t0_ns, t1_ns, clock_offset_ns, clock_uncertain, "
        "series, samples, windows, events, payload, trace) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?) RETURNING id",
        (
            connection.next_commit(),
            agent,
            epoch,
            batch.key.seq,
            batch.lane,
            now,
            t0,
            t1,
            batch.clock_offset_ns,
            batch.clock_uncertain,
            len(batch.samples.series),
            len(batch.samples),
            0 if batch.windows is None else len(batch.windows),
            0 if batch.events is None else len(batch.events),
            batch.payload,
            batch.trace or None,
        ),
    ).fetchone()
    return int(cursor)


def _events(connection: Database, batch: Decoded, agent: int, cursor: int) -> EventBlock | None:
    block = batch.events
    if block is None or not len(block):
        return None
    ids = connection.event_ids(len(block))
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
    connection.index_events(list(zip(numbered, block.source, block.body, attributes, strict=True)))
    return corrected


def _insert_windows(connection: Database, windows: WindowBlock, cursor: int, epoch: int, seq: int) -> None:
    connection.executemany(
        'INSERT INTO "window" (series_id, start_ns, length_ns, count, sum, min, max, first_ns, first, last_ns, last, sketch, '
        "batch_id, epoch_id, seq) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        zip(
            windows.series.tolist(),
            windows.start.tolist(),
            windows.length.tolist(),
            windows.count.tolist(),
            connection.reals(windows.sum),
            connection.reals(windows.min),
            connection.reals(windows.max),
            windows.first_time.tolist(),
            connection.reals(windows.first),
            windows.last_time.tolist(),
            connection.reals(windows.last),
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
    # Counts without a reading have no event time: theirs is the arrival.
    times = (t0, t1) if rows else (group.now, group.now)
    for cause, count in batch.counts.items():
        if count:
            _add_loss(group.loss, (agent, cause), count, times)
    kept: tuple[int, int] = times
    if rows and t0 < group.expiry:
        expired, kept = _split(batch, samples, windows, group.expiry)
        if len(expired):
            rows -= len(expired)
            span = int(expired.min()), int(expired.max())
            _add_loss(group.loss, (agent, Cause.EXPIRED), len(expired), span)
    group.stored[agent] = group.stored.get(agent, 0) + rows
    if rows:
        group.range[agent] = _joined(group.range.get(agent, (0, 0)), kept)


def _split(
    batch: Decoded, samples: SampleBlock, windows: WindowBlock | None, expiry: int
) -> tuple[I64, tuple[int, int]]:
    """Return the times of readings that are older than anything kept, and the range of the others.

    Compaction drops those; so they are counted as expired here, in the batch's transaction. Events have a retention of their own.
    """
    starts, ends = [samples.times], [samples.times]
    if windows is not None:
        starts.append(windows.start)
        ends.append(windows.last_time)
    begun, ended = np.concatenate(starts), np.concatenate(ends)
    gone = begun < expiry
    rest = [begun[~gone], ended[~gone]]
    if batch.events is not None:
        rest.append(batch.events.times + batch.clock_offset_ns)
    left = np.concatenate(rest)
    kept = (int(left.min()), int(left.max())) if len(left) else (0, 0)
    return begun[gone], kept


def _joined(one: tuple[int, int], other: tuple[int, int]) -> tuple[int, int]:
    """Join two time ranges, in which 0 is unknown."""
    starts = [start for start, _ in (one, other) if start]
    ends = [end for _, end in (one, other) if end]
    return min(starts, default=0), max(ends, default=0)


def _add_loss(
    loss: dict[tuple[int, int], tuple[int, int, int]],
    key: tuple[int, int],
    count: int,
    times: tuple[int, int],
) -> None:
    before = loss.get(key, (0, 0, 0))
    loss[key] = (before[0] + count, *_joined(before[1:], times))


def _finish(connection: Database, group: _Group) -> None:
    ledger.remember(connection, [(*key, checksum) for key, checksum in group.checksums.items()])
    if group.series:
        series, times = np.concatenate(group.series), np.concatenate(group.times)
        order = np.lexsort((times, series))
        same = series[order][1:] == series[order][:-1]
        last = np.append(~same, True)
        tied = np.append(False, same & (np.diff(times[order]) == 0))[last]
        newest = order[last]
        connection.executemany(
            _LATEST,
            zip(
                series[newest].tolist(),
                times[newest].tolist(),
                connection.reals(np.concatenate(group.values)[newest]),
                (np.concatenate(group.flags)[newest] | np.where(tied, TIED, 0)).tolist(),
                strict=True,
            ),
        )
    connection.executemany(
        _STORED,
        [
            (stored, *group.range.get(agent, (0, 0)), group.now, agent)
            for agent, stored in sorted(group.stored.items())
        ],
    )
    connection.executemany(_LOSS, [(*key, *value) for key, value in sorted(group.loss.items())])


def commit_loss(connection: Database, losses: Sequence[LossFrame], now: int) -> list[Outcome]:
    """Enter dropped seqs: the hole in the ledger is filled, and their counts are kept with their times."""
    keys = [(loss.key.agent, loss.key.epoch) for loss in losses]
    connection.lock_epochs(keys, [agent for agent, _ in keys])
    return [_loss(connection, loss, now) for loss in losses]


def _loss(connection: Database, loss: LossFrame, now: int) -> Outcome:
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
            _GAP,
            (key.seq, count, loss.t0_ns, loss.t1_ns, epoch, cause, key.seq - 1),
        ).rowcount
        if not joined:
            connection.execute(
                "INSERT INTO gap (epoch_id, first_seq, last_seq, cause, count, t0_ns, t1_ns) VALUES (?, ?, ?, ?, ?, ?, ?)",
                (epoch, key.seq, key.seq, cause, count, loss.t0_ns, loss.t1_ns),
            )
    return Stored(0)
