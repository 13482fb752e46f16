"""The newest sample of each series before a time, out of chunks and batches as shipped: as little is read as can tell it.

A chunk that ends before that time has its newest sample at its end, one that goes on beyond it at its begin or later. So of each series those chunks
are read that end (or may have something) at the newest time known from their ranges alone: one, where data came in order. Of
these, times are decoded only where they are uneven, and values only up to the one that is wanted. Batches are opened from the newest on,
until no older one can have anything newer.

The order of equal times is that of every reader: batch key, index (chunks.py).
"""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np

from telemetryx.store.tables import blocks, chunks, moving, reading, rollup, shipped
from telemetryx.store.tables.blocks import Correction
from telemetryx.store.tables.database import Database
from telemetryx.store.tables.numbers import Numbers
from telemetryx.store.tables.spans import Span
from telemetryx.types import I64, SampleBlock

_IN_ONE: Final = 500
_BATCHES: Final = 8
"""Batches that are opened before it is looked whether older ones are wanted."""
_NEVER: Final = int(np.iinfo(np.int64).min)


@dataclass(slots=True)
class _Found:
    """What is newest so far, by the place of a series among the wanted."""

    wanted: I64
    times: I64 = field(init=False)
    values: Any = field(init=False)
    _orders: dict[int, chunks.Order] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.times = np.full(len(self.wanted), _NEVER, np.int64)
        self.values = np.empty(len(self.wanted), np.float64)

    def beaten(self, at: int, time: int, order: chunks.Order) -> bool:
        """Tell whether something at this time would not be the newest."""
        newest = int(self.times[at])
        return time < newest or (time == newest and order < self._orders[at])

    def put(self, at: int, time: int, order: chunks.Order, value: Any) -> None:  # noqa: ANN401 - a float64 to the bit
        """Take it: it isn't beaten."""
        self.times[at], self.values[at], self._orders[at] = time, value, order

    def block(self) -> SampleBlock:
        """Make a block of the series that have something."""
        there = self.times != _NEVER
        offsets = np.arange(int(there.sum()) + 1, dtype=np.int64)
        return SampleBlock(self.wanted[there], offsets, self.times[there], self.values[there], None)


def samples(connection: Database, numbers: Numbers, ids: Sequence[int], span: Span) -> SampleBlock:
    """Return the newest sample of each of these ascending series in [start, end), without flags; of what `reading.samples` would return."""
    start, end = span
    found = _Found(np.array(ids, np.int64))
    kept = max(start, rollup.samples_from(connection))
    if kept < end:
        _from_chunks(connection, found, (kept, end))
    shown = max(start, rollup.expiry(connection))
    if shown < end:
        _from_batches(connection, numbers, found, (shown, end))
    return found.block()


def _from_chunks(connection: Database, found: _Found, span: Span) -> None:
    places = {series: at for at, series in enumerate(found.wanted.tolist())}
    for begun in range(0, len(places), _IN_ONE):
        among, part = connection.among("series_id", list(places)[begun : begun + _IN_ONE])
        ranges = connection.execute(
            f"SELECT series_id, t0_ns, t1_ns, id FROM chunk WHERE {among} AND t1_ns >= ? AND t0_ns < ? "
            "ORDER BY series_id",
            (*part, *span),
        )
        wanted = [
            row_id
            for _, of_series in itertools.groupby(ranges, key=lambda row: row[0])
            for row_id in _candidates(list(of_series), span)
        ]
        for at in range(0, len(wanted), _IN_ONE):
            _decode(connection, found, places, wanted[at : at + _IN_ONE], span)


def _candidates(ranges: Sequence[tuple[int, int, int, int]], span: Span) -> list[int]:
    """Choose of one series' chunks (series, t0, t1, id) those that may have its newest sample."""
    start, end = span
    surely = max(t1 if t1 < end else t0 for _, t0, t1, _ in ranges)
    return [row_id for _, _, t1, row_id in ranges if t1 >= end or t1 >= max(surely, start)]


def _decode(
    connection: Database, found: _Found, places: dict[int, int], ids: Sequence[int], span: Span
) -> None:
    among, part = connection.among("chunk.id", ids)
    rows = connection.stream(
        'SELECT series_id, t0_ns, t1_ns, count, epoch.epoch, seq_first, part, times, "values" '
        f"FROM chunk CROSS JOIN epoch WHERE epoch.id = epoch_id AND {among}",
        part,
    )
    start, end = span
    for series, t0, t1, count, *order, times, values in rows:
        place = places[series]
        try:
            at, time = chunks.last_before(t0, t1, count, times, end)
            if time >= start and not found.beaten(place, time, (*order,)):
                found.put(place, time, (*order,), chunks.value_at(values, count, at))
        except chunks.UNREADABLE as error:
            raise chunks.damaged(series, t0, error) from error


def _from_batches(connection: Database, numbers: Numbers, found: _Found, span: Span) -> None:
    start, end = span
    moves = moving.moves(connection)
    waiting: list[tuple[int, shipped.Key, bytes, Correction]] = []
    for marks, part in reading.portions(list(reading.agents_of(connection, found.wanted.tolist()))):
        rows = connection.execute(
            "SELECT t1_ns, batch.id, epoch_id, seq, received_ns, epoch.epoch, clock_offset_ns, clock_uncertain "
            "FROM batch INDEXED BY batch_time CROSS JOIN epoch WHERE epoch.id = epoch_id "
            f"AND batch.agent_id IN ({marks}) AND t1_ns >= ? AND t0_ns < ? AND samples > 0",
            (*part, start, end),
        )
        waiting += [
            (min(row[0], end - 1), shipped.Key(*row[1:5]), row[5], Correction(row[6], bool(row[7])))
            for row in rows
        ]
    waiting.sort(key=lambda batch: -batch[0])
    for begun in range(0, len(waiting), _BATCHES):
        some = waiting[begun : begun + _BATCHES]
        if bool((found.times > some[0][0]).all()):
            return
        there = {key: (newest, epoch, correction) for newest, key, epoch, correction in some}
        for key, opened in numbers.opened.read(connection, list(there)):
            newest, epoch, correction = there[key]
            after = moving.upto(moves, key.epoch, key.seq)
            open_ = found.wanted[(found.times <= newest) & (found.wanted > after)]
            if not len(open_):
                continue
            named = reading.known(numbers.ids(connection, key.epoch, opened.series), key.row_id)
            for series, raw_times, values, _ in reading.of_batch(opened, named, open_, key.row_id):
                times, _ = blocks.corrected(raw_times, None, correction)
                at = int(np.searchsorted(times, end, side="left")) - 1
                place, order = int(np.searchsorted(found.wanted, series)), (epoch, key.seq, 0)
                if at >= 0 and times[at] >= start and not found.beaten(place, int(times[at]), order):
                    found.put(place, int(times[at]), order, values[at])
