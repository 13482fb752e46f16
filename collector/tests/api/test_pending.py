"""What waits for a live client: complete while it keeps up, the latest when it doesn't, bounded always."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from telemetryx.api.live import pending
from telemetryx.api.live.pending import MAX_COMMITS, MAX_POINTS, Pending, Wanted, highest
from telemetryx.types import BatchKey, Committed, SampleBlock, WindowBlock


def commit(
    cursor: int, columns: dict[int, list[tuple[int, float]]], windows: WindowBlock | None = None
) -> Committed:
    """Make a commit of these series."""
    ids = sorted(columns)
    counts = [len(columns[number]) for number in ids]
    block = SampleBlock(
        np.array(ids, np.int64),
        np.concatenate(([0], np.cumsum(counts))).astype(np.int64),
        np.array([point[0] for number in ids for point in columns[number]], np.int64),
        np.array([point[1] for number in ids for point in columns[number]], np.float64),
    )
    return Committed(cursor, BatchKey("a", b"e" * 16, cursor), 0, 0, 0, block, windows)


@given(
    st.lists(
        st.dictionaries(
            st.integers(1, 5),
            st.lists(st.tuples(st.integers(0, 99), st.floats(-1, 1)), max_size=4),
            max_size=4,
        ),
        max_size=8,
    ),
    st.frozensets(st.integers(1, 6)),
)
def test_a_client_that_keeps_up_gets_each_wanted_sample_once_in_time_order(
    commits: list[dict[int, list[tuple[int, float]]]], wanted: frozenset[int]
) -> None:
    """Nothing else, nothing twice; equal times stay in commit order."""
    waiting = Pending()
    expected: dict[int, list[tuple[int, float]]] = {}
    for cursor, columns in enumerate(commits, start=1):
        ordered = {number: sorted(points, key=lambda point: point[0]) for number, points in columns.items()}
        waiting.offer(commit(cursor, ordered))
        for number, points in ordered.items():
            if number in wanted:
                expected.setdefault(number, []).extend(points)
    series, dropped = waiting.take(Wanted(wanted))
    got = {int(key): list(zip(part["times_ns"], part["values"], strict=True)) for key, part in series.items()}
    assert {k: v for k, v in got.items() if v} == {
        number: sorted(points, key=lambda point: point[0]) for number, points in expected.items() if points
    }
    assert dropped == 0
    assert waiting.cursor == len(commits)
    assert waiting.take(Wanted(wanted)) == ({}, 0)


@given(st.frozensets(st.integers(0, 9)), st.lists(st.integers(0, 12)))
def test_the_series_that_are_wanted_are_told_apart(wanted: frozenset[int], series: list[int]) -> None:
    """In whatever order they are asked about, below the lowest and above the highest too."""
    said = Wanted(wanted).among(np.array(series, np.int64)).tolist()
    assert said == [number in wanted for number in series]


def test_a_client_that_does_not_read_loses_the_oldest_and_is_told() -> None:
    """Commits of the past go; the newest stay."""
    waiting = Pending()
    for cursor in range(1, MAX_COMMITS + 11):
        waiting.offer(commit(cursor, {1: [(cursor, 0.0)]}))
    series, dropped = waiting.take(Wanted({1}))
    assert dropped == 10
    assert series["1"]["times_ns"][0] == 11


def test_waiting_samples_are_bounded_however_large_the_commits() -> None:
    """One commit may be larger than the bound; two never are kept together then."""
    waiting = Pending()
    large = commit(1, {1: [(time, 0.0) for time in range(pending.MAX_WAITING // 2 + 1)]})
    for _ in range(4):
        waiting.offer(large)
    assert len(waiting.commits) == 1


def test_a_message_holds_the_newest_points_of_each_series() -> None:
    """A busy series is cut to its latest; the rest is counted."""
    waiting = Pending()
    waiting.offer(commit(1, {1: [(time, float(time)) for time in range(MAX_POINTS + 5)]}))
    series, dropped = waiting.take(Wanted({1}))
    assert dropped == 5
    assert series["1"]["times_ns"][-1] == MAX_POINTS + 4


def test_a_window_is_shown_by_its_last_sample() -> None:
    """As the newest value of a series is."""
    one = np.array([7], np.int64)
    number = np.array([2.5])
    block = WindowBlock(
        one,
        one,
        one,
        np.array([3], np.uint64),
        number,
        number,
        number,
        one,
        number,
        np.array([9], np.int64),
        number,
    )
    waiting = Pending()
    waiting.offer(commit(1, {}, block))
    assert Wanted({7}).touched(waiting.commits[0])
    assert not Wanted({8}).touched(waiting.commits[0])
    assert highest(waiting.commits[0]) == 7
    series, _ = waiting.take(Wanted({7}))
    assert series["7"]["times_ns"].tolist() == [9]
    assert series["7"]["values"].tolist() == [2.5]
