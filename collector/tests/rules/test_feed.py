"""The feed: what it gives is what the store would give, and where it isn't sure it says so."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from telemetryx.rules.feed import Feed
from telemetryx.types import BatchKey, Committed, SampleBlock


def commit(cursor: int, readings: int = 1) -> Committed:
    """Make a commit."""
    block = SampleBlock(
        np.array([1]),
        np.array([0, readings]),
        np.arange(readings, dtype=np.int64),
        np.zeros(readings),
    )
    return Committed(cursor, BatchKey("a", b"e", cursor), 0, 0, 0, block, None)


def cursors(found: list[Committed] | None) -> list[int] | None:
    """Return the numbers."""
    return None if found is None else [one.cursor for one in found]


def test_what_was_offered_is_given_in_order_and_let_go_of_once_passed() -> None:
    """The engine asks with its cursor; limits hold."""
    feed = Feed()
    for cursor in (7, 8, 9):
        feed.offer(commit(cursor))
    assert cursors(feed.after(6, 2)) == [7, 8]
    assert cursors(feed.after(8, 2)) == [9]
    assert cursors(feed.after(9, 2)) == []
    assert cursors(feed.after(7, 2)) is None


def test_before_the_first_offer_and_behind_a_gap_only_the_store_knows() -> None:
    """A commit whose outcome was never known leaves a gap in the numbers."""
    feed = Feed()
    assert feed.after(0, 10) is None
    feed.offer(commit(5))
    assert feed.after(3, 10) is None
    feed.offer(commit(7))
    assert feed.after(5, 10) is None
    assert cursors(feed.after(6, 10)) == [7]
    feed.distrust()
    assert feed.after(7, 10) is None


@pytest.mark.parametrize("bounds", [{"max_readings": 10}, {"max_commits": 4}])
def test_it_stays_within_its_bounds(bounds: dict[str, int]) -> None:
    """Rules that fall behind cost no memory: the oldest are read from the store."""
    feed = Feed(**bounds)
    for cursor in range(1, 101):
        feed.offer(commit(cursor, 3))
    assert feed.after(50, 100) is None
    assert cursors(feed.after(98, 100)) == [99, 100]


@given(
    st.lists(st.tuples(st.integers(0, 3), st.booleans()), max_size=40),
    st.integers(1, 5),
    st.integers(1, 12),
)
def test_with_or_without_it_every_commit_is_met_once_and_in_order(
    steps: list[tuple[int, bool]], limit: int, room: int
) -> None:
    """Some commits are never offered, some come while the engine is behind."""
    feed, stored, met, cursor = Feed(max_commits=room), list[int](), list[int](), 0
    for new, offered in [*steps, (0, True)]:
        for _ in range(new):
            stored.append(len(stored) + 1)
            if offered:
                feed.offer(commit(stored[-1]))
        found = cursors(feed.after(cursor, limit))
        if found is None:
            found = [one for one in stored if one > cursor][:limit]
        met += found
        cursor = found[-1] if found else cursor
    feed.distrust()
    assert feed.after(cursor, limit) is None
    assert met == stored[: len(met)]
    assert cursor == len(met)
