"""The hot view: newest by event time, rates that fade."""

import numpy as np
import pytest

from reference_agent import T0, samples, window
from telemetryx.clock import ManualClock
from telemetryx.hot.memory import MemoryHot
from telemetryx.hot.values import MAX_SERIES
from telemetryx.types import BatchKey, Committed, SampleBlock, WindowBlock


def commit(block: SampleBlock, windows: WindowBlock | None = None) -> Committed:
    """A commit of agent a."""
    return Committed(1, BatchKey("a", bytes(16), 1), 0, 0, 0, block, windows)


def test_the_newest_by_event_time_stays() -> None:
    """Late data doesn't overwrite; windows count by their last sample; unknown series are left out."""
    hot = MemoryHot(ManualClock())
    hot.feed(commit(samples({1: [(T0, 1.0), (T0 + 5, 2.0)], 5000: [(T0, 7.0)]}, {1: [0, 4], 5000: [0]})))
    hot.feed(commit(samples({1: [(T0 + 1, 9.0)]}), window(2, T0, [3.0, 4.0])))
    found = hot.latest([1, 2, 3, 5000, -1, 10**9])
    assert {series: (row.value, row.flags) for series, row in found.items()} == {
        1: (2.0, 4),
        2: (4.0, 0),
        5000: (7.0, 0),
    }


def test_rates_follow_and_fade() -> None:
    """A steady agent's rate is its readings a second; a silent one's goes to nothing."""
    clock = ManualClock()
    hot = MemoryHot(clock)
    for _ in range(100):
        hot.feed(commit(samples({1: [(T0, float(i)) for i in range(50)]})))
        clock.advance(1_000_000_000)
    assert hot.rate("a") == pytest.approx(50, rel=0.1)
    assert hot.total("a") == 5000
    clock.advance(120_000_000_000)
    assert hot.rate("a") < 0.01
    assert hot.rates() == {}
    assert hot.rate("nobody") == 0


def test_a_huge_id_costs_no_memory() -> None:
    """Ids beyond the cap aren't kept hot."""
    hot = MemoryHot(ManualClock())
    block = samples({1: [(T0, 1.0)]})
    block.series = np.array([MAX_SERIES + 5], np.int64)
    hot.feed(commit(block))
    assert hot.latest([MAX_SERIES + 5]) == {}
