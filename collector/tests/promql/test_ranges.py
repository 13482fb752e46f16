"""Windows over samples are found alike, whether few evaluation times are searched in all series at once or each series by itself."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from telemetryx.promql.data import Block, Bounds, Parts
from telemetryx.promql.over_time import least, most, number, total
from telemetryx.promql.ranges import lively, ranges

#: The bits that Prometheus writes where a series ended.
MARK = np.array([0x7FF0000000000002], np.uint64).view(np.float64)[0]
TIMES = st.lists(st.integers(0, 60) | st.integers(-(2**61), 2**61), max_size=12)


@given(st.lists(TIMES, min_size=1, max_size=6), TIMES, st.integers(0, 30), st.sampled_from((1, 40)))
def test_windows_hold_the_samples_between_their_ends(
    series: list[list[int]], ends: list[int], span: int, repeated: int
) -> None:
    """Of every series, also of one without samples, and with times so far apart that they leave 64 bits."""
    columns = [sorted(set(times)) for times in series]
    offsets = np.concatenate(([0], np.cumsum([len(one) for one in columns]))).astype(np.int64)
    times = np.array([at for one in columns for at in one], np.int64)
    block = Block([(("n", str(n)),) for n in range(len(columns))], offsets, times, times.astype(np.float64))
    until = np.array(sorted(ends * repeated), np.int64)
    found = ranges(block, until - span, until, Bounds())
    for row, one in enumerate(columns):
        for column, end in enumerate(until.tolist()):
            inside = times[found.lo[row, column] : found.hi[row, column]].tolist()
            assert inside == [at for at in one if end - span < at <= end]
            assert found.lo[row, column] >= offsets[row] or not inside


@pytest.mark.parametrize("ends", [[5], list(range(100))])
def test_no_samples_give_empty_windows(ends: list[int]) -> None:
    """A selector that nothing meets, and a series without samples."""
    for labels in ([], [(("a", "b"),)]):
        block = Block(list(labels), np.zeros(len(labels) + 1, np.int64), np.empty(0, np.int64), np.empty(0))
        found = ranges(block, np.array(ends) - 1, np.array(ends), Bounds())
        assert found.counts.shape == (len(labels), len(ends))
        assert not found.counts.any()


@pytest.mark.parametrize("marked", [(), (0,), (2, 5), (0, 1, 2, 3, 4, 5)])
def test_marks_of_ended_series_are_no_samples_of_a_range_and_take_no_other_row_along(
    marked: tuple[int, ...],
) -> None:
    """As Prometheus has it: a staleness marker is never returned by a range selector. What other rows stand for stays."""
    counts = np.array([60.0, 30, 1, 60, 7, 1])
    values = np.arange(6.0)
    values[list(marked)] = MARK
    at = np.arange(6.0)
    parts = Parts(counts, counts * 2, at - 1, at + 1)
    labels = [(("n", "a"),), (("n", "b"),)]
    block = lively(Block(labels, np.array([0, 3, 6]), np.arange(6) * 10, values, parts))
    ends = np.array([100])
    found = ranges(block, ends - 200, ends, Bounds())
    left = [[at for at in rows if at not in marked] for rows in (range(3), range(3, 6))]
    for row, some in enumerate(left):
        assert found.counts[row, 0] == len(some)
        if some:
            assert number(found)[row, 0] == counts[some].sum()
            assert total(found)[row, 0] == 2 * counts[some].sum()
            assert most(found)[row, 0] == max(some) + 1
            assert least(found)[row, 0] == min(some) - 1


def test_a_nan_that_was_measured_is_a_sample_of_a_range() -> None:
    """Prometheus counts it, and only the marker's own bits are left out."""
    values = np.array([1.0, np.nan, MARK, 4.0])
    block = lively(Block([(("n", "a"),)], np.array([0, 4]), np.arange(4), values))
    found = ranges(block, np.array([-1]), np.array([10]), Bounds())
    assert number(found)[0, 0] == 3
    assert np.isnan(total(found)[0, 0])
