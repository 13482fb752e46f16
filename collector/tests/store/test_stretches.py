"""A run's samples come out in the order of series, time and batch, however they are joined on the way."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from telemetryx.store.tables import stretches
from telemetryx.types import SampleBlock

Row = tuple[int, int, float, int]


def block(series: dict[int, list[int]], number: int, *, flagged: bool) -> SampleBlock:
    """Make a batch of these series' times; each value names the batch and the sample in it."""
    some = sorted((one, sorted(times)) for one, times in series.items() if times)
    times = np.array([time for _, own in some for time in own], np.int64)
    return SampleBlock(
        np.array([one for one, _ in some], np.int64),
        np.append(0, np.cumsum([len(own) for _, own in some])).astype(np.int64),
        times,
        np.arange(len(times), dtype=np.float64) + 1_000 * number,
        np.full(len(times), number % 200, np.uint8) if flagged else None,
    )


def rows(some: list[SampleBlock]) -> list[Row]:
    """Name the samples of blocks one by one."""
    return [
        (
            int(one),
            int(found.times[at]),
            float(found.values[at]),
            0 if found.flags is None else int(found.flags[at]),
        )
        for found in some
        for place, one in enumerate(found.series)
        for at in range(int(found.offsets[place]), int(found.offsets[place + 1]))
    ]


BATCHES = st.lists(
    st.tuples(
        st.dictionaries(st.integers(1, 6), st.lists(st.integers(0, 30), max_size=40), max_size=6),
        st.booleans(),
    ),
    max_size=12,
)


@given(BATCHES, st.sampled_from([1, 7, 40, 10_000]), st.sampled_from([1, 3, 1_000]), st.integers(-1, 31))
@settings(deadline=None)
def test_whatever_is_joined_comes_out_in_order(
    batches: list[tuple[dict[int, list[int]], bool]], slab: int, long: int, expiry: int
) -> None:
    """By series, then time, then batch and place in it; nothing of before the expiry; each series in one block."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(stretches, "SLAB", slab)
        patch.setattr(stretches, "LONG", long)
        before = [block(series, number, flagged=flagged) for number, (series, flagged) in enumerate(batches)]
        wanted = [row for row in sorted(rows(before), key=lambda row: row[:2]) if row[1] >= expiry]
        loaded = stretches.Loaded()
        for one in before:
            loaded.add(one)
        found = list(loaded.slabs(expiry))
    assert rows(found) == wanted
    series = [one for some in found for one in some.series.tolist()]
    assert series == sorted(set(series))
    assert list(loaded.slabs(expiry)) == []
