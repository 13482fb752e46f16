"""Values at points in time: against plain Python, and bit-equal whatever else was read along with them."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from telemetryx.rules.window import Agg, evaluate, gather
from telemetryx.types import SampleBlock, WindowBlock

AGGS: list[Agg] = ["avg", "min", "max", "last", "count"]
ROWS = st.lists(st.tuples(st.integers(0, 300), st.sampled_from([0.1, 0.2, 0.3, 1e9, -7.7])), max_size=30)


def block(*series: list[tuple[int, float]]) -> SampleBlock:
    """Make a block of series 1, 2 and so on."""
    ordered = [sorted(rows, key=lambda row: row[0]) for rows in series]
    flat = [row for rows in ordered for row in rows]
    return SampleBlock(
        np.arange(1, len(series) + 1, dtype=np.int64),
        np.cumsum([0, *map(len, ordered)]).astype(np.int64),
        np.array([row[0] for row in flat], np.int64),
        np.array([row[1] for row in flat], np.float64),
    )


@given(
    st.sampled_from(AGGS),
    ROWS,
    ROWS,
    st.integers(5, 100),
    st.sampled_from([0, 1, 5, 10]),
    st.integers(-20, 300),
    st.integers(0, 300),
)
def test_points_and_values_are_those_of_plain_python(
    agg: Agg,
    rows: list[tuple[int, float]],
    other: list[tuple[int, float]],
    window: int,
    interval: int,
    after: int,
    upto: int,
) -> None:
    """Each window (point - window, point] by itself."""
    readings = gather([[1], [2]], block(rows, other), None)
    bounds = np.array([after, after], np.int64), np.array([upto, upto], np.int64)
    points = evaluate(agg, window, interval, readings, *bounds)
    for group, mine in enumerate([rows, other]):
        mine = sorted(mine, key=lambda row: row[0])  # noqa: PLW2901
        grid = range(0, upto + 1, interval) if interval else sorted({t for t, _ in mine})
        expected = {}
        for point in grid:
            values = [value for time, value in mine if point - window < time <= point]
            if after < point <= upto and values:
                column = np.array(values)
                expected[point] = {
                    "avg": lambda c=column: np.add.reduceat(c, [0])[0] / len(c),
                    "min": column.min,
                    "max": column.max,
                    "last": lambda c=column: c[-1],
                    "count": lambda c=column: len(c),
                }[agg]()
        times, values = points.of(group)
        assert dict(zip(times.tolist(), values.tolist(), strict=True)) == expected


@given(ROWS.filter(bool), ROWS, st.integers(5, 100))
def test_a_value_is_bit_equal_however_much_was_read_around_it(
    rows: list[tuple[int, float]], noise: list[tuple[int, float]], window: int
) -> None:
    """Alone or beside another group, over a short range or a long one."""
    alone = gather([[1]], block(rows), None)
    beside = gather([[2], [1]], block(rows, noise), None)
    upto = 400
    whole = evaluate("avg", window, 10, alone, np.array([-50]), np.array([upto]))
    for at, point in enumerate(whole.times.tolist()):
        one = evaluate("avg", window, 10, beside, np.array([0, point - 1]), np.array([0, point]))
        assert one.of(1)[1].tobytes() == whole.values[at : at + 1].tobytes()


@pytest.mark.parametrize(
    ("agg", "value"), [("avg", 2.5), ("min", 1.0), ("max", 4.0), ("last", 3.0), ("count", 4.0)]
)
def test_windows_of_the_agent_count_for_all_their_readings(agg: Agg, value: float) -> None:
    """A sample and a window of three readings are four readings."""
    window = WindowBlock(
        np.array([1]), np.array([10]), np.array([10]), np.array([3], np.uint64), np.array([8.0]), np.array([1.0]),
        np.array([4.0]), np.array([11]), np.array([1.0]), np.array([19]), np.array([3.0]),
    )  # fmt: skip
    readings = gather([[1]], block([(12, 2.0)]), window)
    points = evaluate(agg, 20, 20, readings, np.array([0]), np.array([20]))
    assert points.values.tolist() == [value]


def test_nan_is_no_reading() -> None:
    """It is neither counted nor does it poison an average."""
    readings = gather([[1]], block([(1, float("nan")), (2, 3.0)]), None)
    points = evaluate("count", 10, 10, readings, np.array([0]), np.array([10]))
    assert points.values.tolist() == [1.0]


def test_groups_a_century_apart_are_judged_together() -> None:
    """Where one axis can't hold them, each is judged by itself."""
    far = 3 * 10**18
    readings = gather([[1], [2]], block([(5, 1.0)], [(far + 5, 2.0)]), None)
    points = evaluate("max", 10, 10, readings, np.array([0, far]), np.array([10, far + 10]))
    assert [points.of(group)[1].tolist() for group in (0, 1)] == [[1.0], [2.0]]
