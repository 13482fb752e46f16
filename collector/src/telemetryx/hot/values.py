"""The newest values by event time, as packed records in one array indexed by series id: a feed is a few vector operations.

A record is 17 bytes: time (int64), value (float64), flags (uint8). Blocks of 256 records are what is marked as changed and
what goes over the wire to other processes, as it lies in memory.
"""

from collections.abc import Iterable
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from telemetryx.types import F64, I64, U8, Committed, Latest

MAX_SERIES: Final = 1 << 22
"""Series with higher ids aren't kept hot: 17 bytes each would add up."""
BLOCK: Final = 256
"""Records that travel together: a process that takes in few series of a block sends some bytes for nothing, not many."""
RECORD: Final = np.dtype([("time", "<i8"), ("value", "<f8"), ("flags", "u1")])
BLOCK_BYTES: Final = BLOCK * RECORD.itemsize
NEVER: Final = int(np.iinfo(np.int64).min)

_EMPTY: Final = np.array([(NEVER, float("nan"), 0)], RECORD)


class Values:
    """The records, and which blocks changed since they were last taken."""

    def __init__(self) -> None:
        """Begin empty."""
        self._records = np.repeat(_EMPTY, BLOCK)
        self._changed: NDArray[np.bool_] = np.zeros(1, np.bool_)
        self._used: NDArray[np.bool_] = np.zeros(1, np.bool_)

    def feed(self, committed: Committed) -> None:
        """Take in a commit."""
        samples = committed.samples
        full = samples.offsets[1:] > samples.offsets[:-1]
        last = samples.offsets[1:][full] - 1
        flags = np.zeros(len(last), np.uint8) if samples.flags is None else samples.flags[last]
        self._keep(samples.series[full], samples.times[last], samples.values[last], flags)
        windows = committed.windows
        if windows is not None and len(windows):
            self._keep(windows.series, windows.last_time, windows.last, np.zeros(len(windows), np.uint8))

    def _keep(self, series: I64, times: I64, values: F64, flags: U8) -> None:
        kept = series < MAX_SERIES
        if not kept.all():
            series, times, values, flags = series[kept], times[kept], values[kept], flags[kept]
        if not len(series):
            return
        self._grow(int(series.max()) + 1)
        # Windows: several rows a series; the newest of them counts.
        if bool((series[1:] == series[:-1]).any()):
            order = np.lexsort((times, series))
            newest = order[np.append(series[order][1:] != series[order][:-1], True)]
            series, times, values, flags = series[newest], times[newest], values[newest], flags[newest]
        newer = times >= self._records["time"][series]
        at = series[newer]
        self._records["time"][at] = times[newer]
        self._records["value"][at] = values[newer]
        self._records["flags"][at] = flags[newer]
        self._changed[at // BLOCK] = True

    def _grow(self, size: int) -> None:
        have = len(self._records)
        if size <= have:
            return
        more = -(-max(size, 2 * have) // BLOCK) * BLOCK - have
        self._records = np.concatenate((self._records, np.repeat(_EMPTY, more)))
        blank = np.zeros(more // BLOCK, np.bool_)
        self._changed = np.concatenate((self._changed, blank))
        self._used = np.concatenate((self._used, blank))

    def latest(self, series_ids: Iterable[int]) -> dict[int, Latest]:
        """Return the records of these series, where there are any."""
        return {
            series: found
            for series in series_ids
            if 0 <= series < len(self._records) and (found := as_latest(series, self._records[series]))
        }

    @property
    def blocks(self) -> int:
        """How many blocks were ever taken: what others should hold of us."""
        return int(self._used.sum())

    def take(self, most: int) -> dict[int, bytes]:
        """Return changed blocks, at most so many, as bytes; they count as unchanged from now on."""
        numbers = np.flatnonzero(self._changed)[:most]
        self._changed[numbers] = False
        self._used[numbers] = True
        return {
            number: self._records[number * BLOCK : (number + 1) * BLOCK].tobytes()
            for number in numbers.tolist()
        }

    def give_back(self) -> None:
        """Count everything that was taken as changed again: what was sent is lost, or may be."""
        self._changed |= self._used
        self._used[:] = False


def as_latest(series: int, record: Any) -> Latest | None:  # noqa: ANN401 - NumPy's type of one record
    """Read one record; None when it was never written."""
    time_ns, value, flags = record.item()
    return None if time_ns == NEVER else Latest(series, time_ns, value, flags)


def from_block(data: bytes) -> NDArray[Any] | None:
    """Read a block that another process sent; None when it is something else."""
    return np.frombuffer(data, RECORD) if len(data) == BLOCK_BYTES else None
