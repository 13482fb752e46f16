"""Recent readings in memory: where the tail says it is complete, it equals the store."""

import asyncio
from typing import Any

import numpy as np
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from telemetryx.rules.tail import Tail

COMMITS = st.lists(
    st.lists(st.tuples(st.integers(0, 3), st.integers(0, 50), st.integers(0, 9)), min_size=1, max_size=8),
    min_size=1,
    max_size=12,
)


@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    commits=COMMITS,
    seqs=st.randoms(),
    room=st.integers(1, 40),
    missed=st.integers(0, 4),
    start=st.integers(0, 50),
)
def test_what_it_covers_equals_the_store(
    memory: Any, commits: list[list[tuple[int, int, int]]], seqs: Any, room: int, missed: int, start: int
) -> None:
    """Whatever came before it, in whatever order batches arrive, and however little room it has."""
    store = type(memory)()
    tail = Tail(max_readings=room)
    for number in range(4):
        tail.want(store.series_id("gw1", "m", {"d": str(number)}))
    order = list(range(1, len(commits) + 1))
    seqs.shuffle(order)
    for index, (seq, rows) in enumerate(zip(order, commits, strict=True)):
        batch = store.commit_samples(
            seq, [("m", {"d": str(one)}, time, float(value)) for one, time, value in rows]
        )
        if index == missed:
            tail.restart(batch.cursor)
            newest = asyncio.run(store.latest([1, 2, 3, 4]))
            tail.learn({series: latest.time_ns for series, latest in newest.items()})
        else:
            tail.add(batch, index)
            tail.add(batch, index)
    for ids in ([1], [2, 3], [1, 2, 3, 4]):
        column = np.array(ids, np.int64)
        if tail.covers(column, start):
            mine = tail.samples(column, start, 40)
            whole = asyncio.run(store.samples(ids, start, 40))
            for series in ids:
                assert [part.tolist() for part in mine.of(series)] == [
                    part.tolist() for part in whole.of(series)
                ]
    assert len(tail) <= room


def test_it_covers_everything_of_series_that_began_after_it(memory: Any) -> None:
    """And, once evicted, nothing that it let go of."""
    tail = Tail()
    tail.want(memory.series_id("gw1", "m", {}))
    tail.add(memory.commit_samples(1, [("m", {}, 10, 1.0)]), 5)
    ids = np.array([1], np.int64)
    assert tail.covers(ids, 0)
    tail.evict(6)
    assert (tail.covers(ids, 10), tail.covers(ids, 11), len(tail)) == (False, True, 0)
    assert not tail.covers(np.array([10**6], np.int64), 0)
