"""Every encoding of a column brings back every bit, and nothing a sender writes can do more than raise WireError."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from telemetryx.errors import UnknownVersion, WireError
from telemetryx.wire import columns
from telemetryx.wire.columns import (
    CONSTANT,
    DECIMAL,
    DELTA,
    DELTA_OF_DELTA,
    NARROW,
    PLANES,
    RAW,
    RUN_LENGTH,
    ZIGZAG,
    Raw,
)

KINDS = ["<i8", "<u8", "<i4", "<u4", "<u1", "<f8"]
CAP = 10_000


def arrays(dtype: str) -> st.SearchStrategy[np.ndarray]:
    """Arrays of a type: wild ones, slow walks, and runs."""
    kind = np.dtype(dtype)
    wild = hnp.arrays(kind, st.integers(0, 50), elements=hnp.from_dtype(kind))
    if kind.kind == "f":
        walk = st.tuples(st.integers(0, 9), st.lists(st.integers(-(2**40), 2**40), max_size=50)).map(
            lambda pair: np.array(pair[1], np.float64) / 10.0 ** pair[0]
        )
    else:
        walk = st.lists(st.integers(0, 100), max_size=50).map(lambda steps: np.cumsum(steps).astype(kind))
    runs = st.lists(st.tuples(hnp.from_dtype(kind), st.integers(1, 9)), max_size=9).map(
        lambda pairs: np.repeat(np.array([p[0] for p in pairs], kind), [p[1] for p in pairs])
    )
    return wild | walk | runs


def bits(items: np.ndarray) -> bytes:
    """What must be equal: the bytes."""
    return np.ascontiguousarray(items).tobytes()


def back(column: list, dtype: str) -> np.ndarray:
    """Decode what was encoded."""
    return columns.decode(Raw(column[0], column[1], tuple(column[2:-1]), column[-1]), dtype, CAP)


@pytest.mark.parametrize("dtype", KINDS)
@given(data=st.data())
def test_every_form_of_a_column_is_bit_exact(dtype: str, data: st.DataObject) -> None:
    """Whatever encoding is chosen, with or without byte planes, the same bits come back."""
    items = data.draw(arrays(dtype))
    assert bits(back(columns.encode(items, dtype), dtype)) == bits(items)
    if len(items):
        for form in columns._forms(items, np.dtype(dtype)):
            assert bits(back(form, dtype)) == bits(items), form[0]


@pytest.mark.parametrize(
    ("items", "dtype", "encoding"),
    [
        ([1, 2, 3, 5], "<i8", DELTA),
        ([1, 2, 3, 5], "<i8", DELTA_OF_DELTA),
        ([1, 2000, 3, 5], "<i8", DELTA + PLANES),
        ([1, 2000, 3, 5], "<i8", DELTA + ZIGZAG),
        ([1, 2000, 3, 5], "<i8", DELTA_OF_DELTA + ZIGZAG + PLANES),
        ([1.5, 2.25, 3.0], "<f8", DECIMAL + ZIGZAG),
        ([1.5, 2.25, 3.0], "<f8", DECIMAL),
        ([1000.5, 2.25, 3000.0], "<f8", DECIMAL + PLANES),
        ([7, 7, 7], "<u4", CONSTANT),
        ([1, 1, 1, 2, 2, 2], "<u8", RUN_LENGTH),
        ([300, 2, 3], "<u8", NARROW),
        ([300, 2, 3], "<u8", NARROW + PLANES),
        ([2.0, 3.0], "<f8", RAW + PLANES),
    ],
)
def test_each_encoding_is_reachable(items: list, dtype: str, encoding: int) -> None:
    """The encoder can write each encoding of the table, and the decoder reads it."""
    column = columns.encode(np.array(items), dtype, only=encoding)
    assert column[0] == encoding
    assert back(column, dtype).tolist() == items


@pytest.mark.parametrize(
    "special", [-0.0, float("nan"), float("inf"), -float("inf"), 5e-324, 1.7976931348623157e308]
)
def test_special_values_keep_their_bits(special: float) -> None:
    """-0.0, NaN, infinities and denormals come back as they went, among ordinary values."""
    items = np.array([1.5, special, 2.5])
    assert bits(back(columns.encode(items, "<f8"), "<f8")) == bits(items)


def test_a_nan_keeps_its_payload() -> None:
    """A NaN with a payload of its own is told from the usual one."""
    items = np.array([0x7FF8DEADBEEF0001, 0xFFF8000000000002], np.uint64).view(np.float64)
    assert bits(back(columns.encode(items, "<f8"), "<f8")) == bits(items)


@pytest.mark.parametrize(
    "column",
    [
        Raw(RAW, 3, (), b"12345678"),
        Raw(CONSTANT, 3, (), b"1234"),
        Raw(DELTA, 3, (1,), b"12"),
        Raw(DELTA, 3, (3, 0), b"12"),
        Raw(DELTA, 3, (1, 1 << 64), b"12"),
        Raw(DELTA, 4, (1, 0), b"12"),
        Raw(DELTA_OF_DELTA, 1, (1, 0, 0), b""),
        Raw(RUN_LENGTH, 3, (1,), b"\xff\xff\xff\xff12345678"),
        Raw(RUN_LENGTH, 3, (0,), b""),
        Raw(RUN_LENGTH, 3, (-1,), b""),
        Raw(RAW, 0, (), b"1"),
        Raw(RAW, -1, (), b""),
        Raw(CONSTANT, CAP + 1, (), b"12345678"),
        Raw(DECIMAL, 2, (2, 1, 0), b"1"),
    ],
)
def test_columns_that_cannot_be_are_refused(column: Raw) -> None:
    """Lengths that disagree, unknown widths, counts over the cap: WireError, and nothing is allocated for them."""
    with pytest.raises(WireError):
        columns.decode(column, "<i8", CAP)


@pytest.mark.parametrize("encoding", [7, 8, 15, 17, 21, 23, 32, 38, 49, 64, 255, -1])
def test_an_unknown_encoding_is_refused_by_number(encoding: int) -> None:
    """Encodings of the future, and byte planes where they can't be, are named, never guessed."""
    with pytest.raises(UnknownVersion, match=str(encoding)):
        columns.decode(Raw(encoding, 1, (), b"12345678"), "<i8", CAP)


def test_decimal_delta_stays_inside_the_exact_integers() -> None:
    """A decimal column that leaves 2^53 can't be what its sender had, so it is refused."""
    with pytest.raises(WireError, match="exact"):
        columns.decode(Raw(DECIMAL, 2, (0, 8, (1 << 53) - 1), (5).to_bytes(8, "little")), "<f8", CAP)
    with pytest.raises(WireError, match="10\\^10"):
        columns.decode(Raw(DECIMAL, 1, (10, 1, 0), b""), "<f8", CAP)


@given(
    st.lists(
        st.lists(
            st.floats(width=64) | st.integers(-(2**50), 2**50).map(lambda i: i / 100), min_size=1, max_size=9
        ),
        min_size=1,
        max_size=6,
    )
)
def test_decimals_by_segment_are_bit_exact(parts: list[list[float]]) -> None:
    """Each series of a values column has a scale of its own, or none: the same bits come back."""
    from telemetryx.types import SampleBlock  # noqa: PLC0415
    from telemetryx.wire import payload  # noqa: PLC0415

    items = np.array([value for part in parts for value in part])
    lengths = [len(part) for part in parts]
    column = columns.encode(items, "<f8", only=columns.DECIMALS, segments=lengths)
    named = [
        columns.decode(Raw(c[0], c[1], tuple(c[2:-1]), c[-1]), d, CAP)
        for c, d in zip(column[2:], ("<u4", "<u1", "<i8", "<u8", "<f8"), strict=True)
    ]
    assert bits(columns.decode_segments(column[1], CAP, columns.Segments(*named))) == bits(items)
    offsets = np.concatenate(([0], np.cumsum(lengths)))
    times = np.concatenate([np.arange(length) for length in lengths])
    block = SampleBlock(np.arange(len(parts)), offsets, times, items)
    assert bits(payload.decode(payload.encode(payload.Payload(block))).samples.values) == bits(items)
