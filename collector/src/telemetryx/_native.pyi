"""The agent's own features, evaluator, sketches and fold (agent/crates/native), and JSON, on NumPy columns.

Times are nanoseconds since the epoch. A `ValueError` says what was wrong with an argument.
"""
# ruff: noqa: PYI054 - compiled code has no other place that an editor shows its words and defaults from

from collections.abc import Mapping, Sequence
from typing import Final, TypeAlias, TypedDict, final

import numpy as np
from numpy.typing import NDArray

F32: TypeAlias = NDArray[np.float32]
F64: TypeAlias = NDArray[np.float64]
I32: TypeAlias = NDArray[np.int32]
I64: TypeAlias = NDArray[np.int64]
U8: TypeAlias = NDArray[np.uint8]
U32: TypeAlias = NDArray[np.uint32]
U64: TypeAlias = NDArray[np.uint64]

FeatureTable: TypeAlias = tuple[list[tuple[str, str]], I64, I64, F32, NDArray[np.bool_]]
"""Devices as (site, device), the device of each row, the end of each cell, the matrix, past warm-up."""

SketchColumns: TypeAlias = tuple[U32, I32, U64, U64]
"""Bins of each window (positive, negative), keys, counts, zeros: as on the wire (proto/README.md)."""

Figures: TypeAlias = tuple[I64, F64, F64, F64]
"""Counts, sums, minima and maxima of rollup rows."""

PackedSketches: TypeAlias = tuple[bytes, I64]
"""Packed sketches of rollup rows one after the other, and their offsets: one more than there are rows."""

class ReplaySamples(TypedDict):
    """Raw samples and scores; `series` is an index into the result's series."""

    series: I64
    times: I64
    values: F64
    flags: U8

class ReplayWindows(TypedDict):
    """Windows, in the order in which they closed."""

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
    sketch: SketchColumns

class Replay(TypedDict):
    """What an agent would ship."""

    series: list[tuple[str, dict[str, str]]]
    samples: ReplaySamples
    windows: ReplayWindows
    counts: dict[str, int]
    status: str

OPTIMISED: Final[bool]
"""Whether it was built without the compiler's checks, as wheels have it."""
FEATURE_SET: Final[str]
FEATURE_NAMES: Final[tuple[str, ...]]
GRID_NS: Final[int]
OPERATORS: Final[list[str]]
SCORE_SERIES: Final[str]

@final
class Features:
    """Features with their state, fed piece by piece as a fold is."""

    def __new__(cls) -> Features: ...
    def add(
        self,
        names: Sequence[str],
        labels: Sequence[Mapping[str, str]],
        series: I64,
        times: I64,
        values: F64,
    ) -> None:
        """Take samples in the order given; `series` is an index into `names`."""

    def close(self, watermark: int | None = None) -> FeatureTable:
        """Close the cells that end at or before the watermark, or all of them."""

@final
class Model:
    """A loaded ONNX file, evaluated as the agent does."""

    def __new__(cls, onnx: bytes) -> Model: ...
    @property
    def inputs(self) -> int:
        """Values of a row."""

    @property
    def weight_bytes(self) -> int:
        """Bytes that its weights take in memory."""

    def evaluate(self, rows: F32) -> F32:
        """One output a row."""

def features(
    names: Sequence[str],
    labels: Sequence[Mapping[str, str]],
    series: I64,
    times: I64,
    values: F64,
) -> FeatureTable:
    """Features of samples in any order, from the first on."""

def scaling_json() -> str:
    """How features are scaled, as a manifest must repeat it."""

def evaluate(onnx: bytes, rows: F32) -> F32:
    """One output a row, of an ONNX file."""

def verify(manifest: bytes, onnx: bytes) -> tuple[str, str, float]:
    """Check manifest and file as an agent would; id, version and threshold."""

def fold_replay(
    config: bytes,
    names: Sequence[str],
    labels: Sequence[Mapping[str, str]],
    series: I64,
    times: I64,
    values: F64,
    records: I64,
    arrivals: I64,
    models: Sequence[tuple[str, bytes, bytes]] = ...,
    tick_ns: int = 1_000_000_000,
    drain_ns: int = 30_000_000_000,
) -> Replay:
    """Return what an agent with this configuration (JSON) and these models (slot, manifest, ONNX) would ship.

    `records` are R + 1 offsets that cut the samples into what arrived together, `arrivals` the R times of arrival. A
    tick is put in for each `tick_ns` that passes, and for `drain_ns` after the last.
    """

def json_i64(column: I64) -> bytes:
    """Write a column as a JSON array."""

def json_f64(column: F64) -> bytes:
    """Write a column as a JSON array, each number with the shortest digits that give it back, and null for what is no finite one."""

def rollup_samples(values: F64, starts: I64, figures: Figures) -> PackedSketches:
    """Make the sketch of each stretch of values, for the row with these figures."""

def rollup_windows(sizes: U32, keys: I32, counts: U64, zeros: U64, figures: Figures) -> PackedSketches:
    """Pack the sketch of each window; readings of one that has none, or none that can be its own, are missing."""

def rollup_merge(data: bytes, offsets: I64, figures: Figures, starts: I64, into: Figures) -> PackedSketches:
    """Merge the sketches of each stretch of rows, for the row with the figures `into`. The readings of a damaged one are missing."""

def rollup_group(data: bytes, offsets: I64, figures: Figures, groups: I64) -> tuple[I64, U64, SketchColumns]:
    """Merge the sketches of each group of rows; groups come back ascending. The second are the readings that are missing in each row's.

    A damaged one is a `ValueError` with the row as its second argument.
    """

def rollup_faults(data: bytes, offsets: I64, figures: Figures) -> U8:
    """Tell what is wrong with each row's sketch: 0 nothing, 1 its bytes were changed, 2 it doesn't fit the row's figures."""

def sketch_build(values: F64) -> SketchColumns:
    """Build the sketch of values, as columns of one."""

def sketch_merge(sizes: U32, keys: I32, counts: U64, zeros: U64, groups: I64) -> tuple[I64, SketchColumns]:
    """Merge the sketches of each group; groups come back ascending."""

def sketch_quantile(sizes: U32, keys: I32, counts: U64, zeros: U64, q: float) -> F64:
    """Value at quantile `q` of each sketch, to within 1 %; NaN of an empty one."""
