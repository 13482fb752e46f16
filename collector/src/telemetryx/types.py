"""The collector's words: batch key, series, blocks of columns, and what a commit may answer.

Floor 0: every other module imports this one, and this one imports none of them. It says what the parts tell each
other, never what they do. Times are nanoseconds since the epoch, UTC, in int64; ranges are half-open [start, end).
Blocks are columns (NumPy): nothing here or above touches one sample at a time.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import IntEnum
from typing import Literal

import numpy as np
from numpy.typing import NDArray

I32 = NDArray[np.int32]
I64 = NDArray[np.int64]
U8 = NDArray[np.uint8]
U32 = NDArray[np.uint32]
U64 = NDArray[np.uint64]
F64 = NDArray[np.float64]

Attribute = bool | int | float | str

#: Names of an agent's series that the console and the API treat as columns.
SITE = "site"
DEVICE = "device"


class Flag(IntEnum):
    """Marks of one sample, or-ed; 0 for an ordinary one."""

    ARRIVAL_TIME = 1
    """The sender gave no time: the time is that of arrival."""
    RETAINED = 2
    """A retained MQTT value whose payload differs from the last one seen on that topic."""
    CLOCK_UNCERTAIN = 4
    """The clock that gave the time was not known to be right: the device's own, or the host's before it was set. Where the host's
    clock was set later the time is corrected, and the mark is gone."""


class Cause(IntEnum):
    """One term of the loss ledger; the codes are those of the agent (telemetry::Cause) and never change.

    received + derived = rejected + deduplicated + reduced + shipped (`balance` checks it); shipped = stored + expired + overflowed + damaged + refused + in flight.
    """

    RECEIVED = 1
    SHIPPED = 2
    REJECTED_SYNTAX = 16
    REJECTED_ENCODING = 17
    REJECTED_TYPE = 18
    REJECTED_NOT_FINITE = 19
    REJECTED_TIME = 20
    REJECTED_LIMIT = 21
    REJECTED_SERIES_LIMIT = 22
    REJECTED_FORBIDDEN = 23
    REJECTED_UNMAPPED = 24
    DEDUPLICATED = 32
    DEDUPLICATED_RETAINED = 33
    REDUCED_WINDOW = 48
    REDUCED_DEADBAND = 49
    REDUCED_RATE = 50
    REDUCED_DROP = 51
    EXPIRED = 64
    OVERFLOWED = 65
    DAMAGED = 66
    REFUSED = 67
    REFUSED_SERIES_LIMIT = 68
    """The collector's alone: a reading of a series above [ingest] max_series_per_agent or max_series."""
    DERIVED = 80


def cause_name(code: int) -> str:
    """Name a cause as metrics, the API and the console do; an unknown code (a newer agent) is named by its number."""
    try:
        return Cause(code).name.lower()
    except ValueError:
        return f"cause_{code}"


#: Causes that mean: this reading will never be stored.
LOST: tuple[Cause, ...] = (
    Cause.EXPIRED,
    Cause.OVERFLOWED,
    Cause.DAMAGED,
    Cause.REFUSED,
    Cause.REFUSED_SERIES_LIMIT,
)


class Lane(IntEnum):
    """Which of the agent's two queues a batch came on."""

    UNSPECIFIED = 0
    LIVE = 1
    BACKLOG = 2


class Severity(IntEnum):
    """OpenTelemetry's severity numbers, one a range of four."""

    TRACE = 1
    DEBUG = 5
    INFO = 9
    WARN = 13
    ERROR = 17
    FATAL = 21


@dataclass(frozen=True, slots=True, order=True)
class BatchKey:
    """A batch's name: seq counts from 1 in (agent, epoch), without gaps."""

    agent: str
    epoch: bytes
    seq: int


@dataclass(frozen=True, slots=True)
class Definition:
    """What an agent says one of its series numbers stands for, within one epoch."""

    number: int
    name: str
    labels: Mapping[str, str]
    unit: str = ""


@dataclass(frozen=True, slots=True)
class Series:
    """One series of the store. `id` is the store's own; the identity is (agent, name, labels)."""

    id: int
    agent: str
    name: str
    labels: Mapping[str, str]
    unit: str = ""


@dataclass(slots=True)
class SampleBlock:
    """Raw samples as columns: the samples of series[i] are the items offsets[i]:offsets[i+1] of times, values, flags.

    Sorted by series, then time; equal times keep the order (batch key, index in the batch).
    """

    series: I64
    offsets: I64
    times: I64
    values: F64
    flags: U8 | None = None

    def __len__(self) -> int:
        """Count the samples."""
        return len(self.times)

    @classmethod
    def empty(cls) -> "SampleBlock":
        """Make a block without a sample."""
        return cls(
            np.empty(0, np.int64), np.zeros(1, np.int64), np.empty(0, np.int64), np.empty(0, np.float64)
        )

    def of(self, series_id: int) -> tuple[I64, F64]:
        """Return times and values of one series (views, empty when it isn't here)."""
        at = int(np.searchsorted(self.series, series_id))
        if at == len(self.series) or int(self.series[at]) != series_id:
            return self.times[:0], self.values[:0]
        part = slice(int(self.offsets[at]), int(self.offsets[at + 1]))
        return self.times[part], self.values[part]


@dataclass(slots=True)
class SketchBlock:
    """DDSketch bins of many windows (relative accuracy 0.01): per window its positive, then its negative bins.

    counts[2*i] and counts[2*i+1] say how many positive and negative bins window i has in `keys` and `weights`.
    """

    counts: U32
    keys: I32
    weights: U64
    zero: U64


@dataclass(frozen=True, slots=True)
class DamagedSketch:
    """A sketch that isn't what was stored: of which series and time, of what, and which level was read in its place (None: none)."""

    series: int
    time_ns: int
    of: Literal["window", "1m", "1h"]
    instead: "Level | None" = None


@dataclass(slots=True)
class WindowBlock:
    """Closed or partial windows as columns of equal length, ascending by (series, start).

    One window may have several rows: late data gives a further partial, and readers merge.
    """

    series: I64
    start: I64
    length: I64
    count: U64
    sum: F64
    min: F64
    max: F64
    first_time: I64
    first: F64
    last_time: I64
    last: F64
    sketch: SketchBlock | None = None
    damaged: tuple[DamagedSketch, ...] = ()
    """Rows that come without their sketch, because it can't be read."""

    def __len__(self) -> int:
        """Count the rows."""
        return len(self.start)

    @classmethod
    def empty(cls) -> "WindowBlock":
        """Make a block without a row."""
        ints, floats = np.empty(0, np.int64), np.empty(0, np.float64)
        return cls(
            ints, ints, ints, np.empty(0, np.uint64), floats, floats, floats, ints, floats, ints, floats
        )


@dataclass(slots=True)
class PointBlock:
    """Readings and what stands for many of them, as columns: the rows of series[i] are the items offsets[i]:offsets[i+1].

    Ascending by series, then time. A row is a sample, or the last value of a window or rollup at the time of its last sample;
    the other columns say what it stands for, and are left out where every row is one sample. A rollup's first value may be a
    row of its own, that stands for none. `missing` readings of rows that were spread over the bins of their sketches are in none.
    """

    series: I64
    offsets: I64
    times: I64
    values: F64
    counts: F64 | None = None
    sums: F64 | None = None
    mins: F64 | None = None
    maxs: F64 | None = None
    level: "Level" = "raw"
    """What was read where both would do: rollups, or samples."""
    missing: int = 0
    damaged: tuple[DamagedSketch, ...] = ()
    rolled_until_ns: int | None = None
    """Before this rows are rollups, for raw data is deleted; None where none are for that."""
    lean: frozenset[Literal["rollups", "windows"]] = frozenset()
    """What has more readings than it gives rows: rollups (beside their first and last) of before that time, windows (beside their last)."""


@dataclass(slots=True)
class EventBlock:
    """Structured records (a log line, a user action) as columns of equal length. `ids` are the store's, after commit."""

    source: list[str]
    times: I64
    severity: U8
    body: list[str]
    attributes: list[dict[str, Attribute]]
    ids: I64 | None = None

    def __len__(self) -> int:
        """Count the events."""
        return len(self.source)


@dataclass(slots=True)
class Decoded:
    """A batch as decoded from the wire, not yet stored: its series are the agent's numbers of that epoch.

    Times are as the agent stamped them; `clock_offset_ns` is added at commit, so payload and checksum never change. It is 0
    unless they were counted from a boot whose clock wasn't set; `clock_uncertain` says that it is the agent's guess.
    """

    key: BatchKey
    checksum: bytes
    payload: bytes
    samples: SampleBlock
    windows: WindowBlock | None = None
    events: EventBlock | None = None
    counts: Mapping[int, int] = field(default_factory=dict)
    definitions: Sequence[Definition] = ()
    clock_offset_ns: int = 0
    clock_uncertain: bool = False
    lane: int = Lane.LIVE
    t0_ns: int = 0
    t1_ns: int = 0
    trace: str = ""


@dataclass(frozen=True, slots=True)
class LossFrame:
    """A seq whose batch the agent dropped: it fills the hole and says what was in it."""

    key: BatchKey
    t0_ns: int
    t1_ns: int
    counts: Mapping[int, int]


@dataclass(frozen=True, slots=True)
class Committed:
    """A batch that is stored. `cursor` grows with each commit; series are the store's ids, times are corrected."""

    cursor: int
    key: BatchKey
    received_ns: int
    t0_ns: int
    t1_ns: int
    samples: SampleBlock
    windows: WindowBlock | None = None
    events: EventBlock | None = None
    over_limit: int = 0
    """Readings of this batch that were refused because their series are above the limit; the blocks are without them."""
    defined: tuple[Series, ...] = ()
    """Series that the batch defines, where that is known: whoever meets one for the first time needn't ask the store."""
    expired: int = 0
    """Samples and windows of a batch that was let in later which are past every retention: counted as lost, not stored."""
    trace: str = ""
    """W3C traceparent of its commit, where its trace is sampled."""


# --- what a commit answers for one batch


@dataclass(frozen=True, slots=True)
class Stored:
    """It is stored now, and was not before. For a loss frame the cursor is 0 and `committed` None."""

    cursor: int
    committed: Committed | None = None


@dataclass(frozen=True, slots=True)
class Duplicate:
    """It was stored before: acknowledge it again."""


@dataclass(frozen=True, slots=True)
class NeedDefinitions:
    """It uses series numbers that nobody defined in its epoch; not stored."""

    numbers: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Conflict:
    """Its key is known with another checksum, or one of its numbers with another series (then 16 zero bytes); not stored."""

    checksum: bytes


@dataclass(frozen=True, slots=True)
class Refused:
    """It can never be stored. `cause` is a word for metrics, `message` a sentence for a person."""

    cause: str
    message: str


Outcome = Stored | Duplicate | NeedDefinitions | Conflict | Refused


@dataclass(frozen=True, slots=True)
class Holding:
    """What the store has of one epoch: every seq up to `upto`, and these inclusive ranges above it."""

    epoch: bytes
    upto: int
    ranges: tuple[tuple[int, int], ...] = ()


# --- what queries ask and answer

Op = Literal["=", "!=", "=~", "!~"]


@dataclass(frozen=True, slots=True)
class Matcher:
    """One condition on a label; the label `__name__` is the metric name, `__agent__` the agent.

    A label that a series lacks counts as empty, as in Prometheus. Regular expressions are anchored at both ends.
    """

    name: str
    op: Op
    value: str


Aggregate = Literal["avg", "min", "max", "sum", "count", "last", "raw"]
Level = Literal["raw", "1m", "1h"]


@dataclass(frozen=True, slots=True)
class Stretch:
    """From when to when a level was read; several ascend by time."""

    level: Level
    start_ns: int
    end_ns: int


@dataclass(slots=True)
class RangeSeries:
    """One series of a range query. Aggregated: one item a step, `counts` 0 where there is no data (a gap, not a zero).

    With agg "raw" the items are the samples themselves, and min, max equal values.
    """

    id: int
    times: I64
    values: F64
    min: F64
    max: F64
    counts: I64


@dataclass(slots=True)
class RangeResult:
    """A range query's answer: span and step are those that were read, which may be wider than those asked for."""

    start_ns: int
    end_ns: int
    step_ns: int
    level: Level
    series: list[RangeSeries]
    raw_from_ns: int
    """Raw data from before this time is deleted: before it there are rollups alone."""
    cut: tuple[int, ...] = ()
    """Series that a limit left out, or whose readings it cut."""
    unshown: tuple[int, ...] = ()
    """Series with windows that aren't among their raw readings."""
    stretches: tuple[Stretch, ...] = ()

    @property
    def truncated(self) -> bool:
        """Whether a limit cut it."""
        return bool(self.cut)


@dataclass(frozen=True, slots=True)
class Latest:
    """A series' newest sample by event time (of a window: its last value)."""

    series: int
    time_ns: int
    value: float
    flags: int = 0


@dataclass(frozen=True, slots=True)
class Event:
    """One stored event. Ids grow in commit order."""

    id: int
    agent: str
    time_ns: int
    severity: int
    source: str
    body: str
    attributes: Mapping[str, Attribute]
