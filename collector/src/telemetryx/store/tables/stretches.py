"""The samples of a run of batches, from the order of the batches into that of the series, in bounded memory.

Each batch is in order by itself, so what is sorted are its stretches (the samples of one series), and not each sample. Batches whose
stretches are short are joined while they are read: otherwise a run of 700,000 samples, a sample each, took six times what they take.
"""

from collections.abc import Iterator, Sequence
from typing import Final

import numpy as np

from telemetryx.store.tables import blocks
from telemetryx.types import F64, I32, I64, U8, SampleBlock

SLAB: Final = 131_072
"""Samples that are sorted and encoded at once, about: whole series, so one may be larger. So many of short stretches are joined."""
LONG: Final = 32
"""Samples of a stretch, on average, from which on it is copied as one, and not sample by sample."""

_NONE: Final = np.empty(0, np.int64)


class Loaded:
    """The samples of a run, batch by batch."""

    def __init__(self) -> None:
        """Hold none."""
        self._blocks: list[SampleBlock] = []
        self._joined = 0
        """So many of the first are as they stay."""
        self._waiting = 0

    def add(self, block: SampleBlock) -> None:
        """Take the samples of the next batch."""
        if not len(block):
            return
        self._blocks.append(block)
        self._waiting += len(block)
        if self._waiting >= SLAB:
            self._join()

    def _join(self) -> None:
        """Put those at the end into one, unless their stretches are long: these are fewer, and copied as they are."""
        some = self._blocks[self._joined :]
        if len(some) > 1 and self._waiting < LONG * sum(len(block.series) for block in some):
            del self._blocks[self._joined :]
            self._blocks.append(_one(some))
        self._joined, self._waiting = len(self._blocks), 0

    def slabs(self, expiry: int) -> Iterator[SampleBlock]:
        """Give them sorted by (series, time), without what is older than anything kept; some series at once. Nothing is held afterwards.

        The sort is stable, so equal times stay in the order of the batches.
        """
        self._join()
        some, self._blocks, self._joined = self._blocks, [], 0
        if not some:
            return
        # One after the other, in small numbers, and without what the blocks have of it: where each stretch is one sample, this is most of the memory.
        ids = np.concatenate([block.series for block in some])
        order = np.argsort(ids, kind="stable")
        ids = ids[order]
        lengths = np.concatenate([np.diff(block.offsets).astype(np.int32) for block in some])[order]
        starts = np.concatenate([block.offsets[:-1].astype(np.int32) for block in some])[order]
        counts = [len(block.series) for block in some]
        flagged = any(block.flags is not None for block in some)
        some = [
            SampleBlock(_NONE, _NONE, block.times, block.values, _flags_of(block) if flagged else None)
            for block in some
        ]
        sources = np.repeat(np.arange(len(some), dtype=np.int32), counts)[order]
        del order
        heads = np.append(np.flatnonzero(np.append(True, ids[1:] != ids[:-1])), len(ids))
        before = np.append(0, np.cumsum(np.add.reduceat(lengths, heads[:-1], dtype=np.int64)))
        at = 0
        while at < len(heads) - 1:
            end = max(at + 1, int(np.searchsorted(before, before[at] + SLAB, side="right")) - 1)
            cut = slice(int(heads[at]), int(heads[end]))
            at = end
            series = np.repeat(ids[cut], lengths[cut])
            times, values, flags = _gathered(some, sources[cut], starts[cut], lengths[cut])
            if len(times) and int(times.min()) < expiry:
                kept = times >= expiry
                series, times, values = series[kept], times[kept], values[kept]
                flags = None if flags is None else flags[kept]
            if len(times):
                yield blocks.collect(series, times, values, flags)


def _flags_of(block: SampleBlock) -> U8:
    return np.zeros(len(block), np.uint8) if block.flags is None else block.flags


def _one(some: Sequence[SampleBlock]) -> SampleBlock:
    """Put blocks one behind the other. Their series come again and again then."""
    ends = np.cumsum([len(block) for block in some])
    offsets = [
        block.offsets[:-1] + (end - len(block)) for block, end in zip(some, ends.tolist(), strict=True)
    ]
    flagged = any(block.flags is not None for block in some)
    return SampleBlock(
        np.concatenate([block.series for block in some]),
        np.concatenate([*offsets, ends[-1:]]),
        np.concatenate([block.times for block in some]),
        np.concatenate([block.values for block in some]),
        np.concatenate([_flags_of(block) for block in some]) if flagged else None,
    )


def _gathered(
    some: Sequence[SampleBlock], sources: I32, starts: I32, lengths: I32
) -> tuple[I64, F64, U8 | None]:
    """Put stretches of blocks one behind the other; each block has flags, or none has."""
    flagged = some[0].flags is not None
    total = int(lengths.sum(dtype=np.int64))
    if total < LONG * len(lengths):
        return _by_block(some, sources, starts.astype(np.int64), lengths.astype(np.int64))
    parts = [
        (some[source], slice(start, start + length))
        for source, start, length in zip(sources.tolist(), starts.tolist(), lengths.tolist(), strict=True)
    ]
    return (
        np.concatenate([block.times[part] for block, part in parts]),
        np.concatenate([block.values[part] for block, part in parts]),
        np.concatenate([_flags_of(block)[part] for block, part in parts]) if flagged else None,
    )


def _by_block(
    some: Sequence[SampleBlock], sources: I32, starts: I64, lengths: I64
) -> tuple[I64, F64, U8 | None]:
    """Do it for all stretches of a block at once, for those so short that indices cost less than slices."""
    ends = np.cumsum(lengths)
    times, values = np.empty(int(ends[-1]), np.int64), np.empty(int(ends[-1]), np.float64)
    flags = None if some[0].flags is None else np.empty(len(times), np.uint8)
    for source in np.flatnonzero(np.bincount(sources)).tolist():
        mine = sources == source
        block, here = some[source], blocks.ranges(starts[mine], lengths[mine])
        there = blocks.ranges(ends[mine] - lengths[mine], lengths[mine])
        times[there], values[there] = block.times[here], block.values[here]
        if flags is not None:
            flags[there] = _flags_of(block)[here]
    return times, values, flags
