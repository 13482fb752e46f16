"""Rows that stand for several readings are as many readings to quantile_over_time."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from telemetryx.promql import over_time
from telemetryx.promql.data import Block, Bounds, Parts
from telemetryx.promql.ranges import ranges

VALUES = st.one_of(
    st.integers(-5, 5).map(float), st.floats(-1e6, 1e6), st.sampled_from([np.inf, -np.inf, np.nan])
)
ROWS = st.lists(st.tuples(st.integers(1, 20), VALUES, st.integers(1, 5)), max_size=30)


def block(rows: list[list[tuple[int, float, int]]], *, repeated: bool) -> Block:
    """Series of (time, value, how many): a row each, or each as often as it stands for."""
    made = [
        sorted([row for row in some for _ in range(row[2] if repeated else 1)], key=lambda row: row[0])
        for some in rows
    ]
    offsets = np.cumsum([0, *map(len, made)]).astype(np.int64)
    every = [row for some in made for row in some]
    times = np.array([row[0] for row in every], np.int64)
    values = np.array([row[1] for row in every], np.float64)
    parts = None if repeated else Parts(np.array([float(row[2]) for row in every]), values, values, values)
    labels = [(("n", str(at)),) for at in range(len(rows))]
    return Block(labels, offsets, times, values, parts)


@given(
    rows=st.lists(ROWS, min_size=1, max_size=3),
    span=st.integers(1, 12),
    wanted=st.lists(st.floats(-0.5, 1.5), min_size=3, max_size=3),
)
def test_a_row_counts_as_often_as_it_stands_for(
    rows: list[list[tuple[int, float, int]]], span: int, wanted: list[float]
) -> None:
    """Bit for bit what each reading alone would give, NaN and infinities too; windows without a row have no value."""
    ends = np.array([5, 12, 20], np.int64)
    given_, alone = (
        over_time.quantile(
            ranges(block(rows, repeated=repeated), ends - span, ends, Bounds()), np.array(wanted), Bounds()
        )
        for repeated in (False, True)
    )
    np.testing.assert_array_equal(given_, alone)
