"""Long native work lets other threads run: an acknowledgement doesn't wait for somebody's percentiles."""

import sys
import threading
import time
from collections.abc import Callable, Iterator

import numpy as np
import pytest

from telemetryx import _native

ONE = _native.sketch_build(np.arange(1.0, 2_000.0))
MANY = tuple(np.tile(column, 200) for column in ONE)
GROUPS = np.arange(200, dtype=np.int64) % 3
VALUES = np.arange(1.0, 500_000.0)
STARTS = np.arange(0, len(VALUES), 60)
FIGURES = (np.diff(np.append(STARTS, len(VALUES))), VALUES[STARTS] * 60, VALUES[STARTS], VALUES[STARTS] + 59)
PACKED = _native.rollup_samples(VALUES, STARTS, FIGURES)
HOURS = np.arange(0, len(STARTS), 60)
PATIENCE_S = 60.0


@pytest.fixture(autouse=True)
def no_turns() -> Iterator[None]:
    """Have no thread give way by itself."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1_000.0)
    yield
    sys.setswitchinterval(before)


@pytest.mark.parametrize(
    "work",
    [
        lambda: _native.sketch_build(VALUES),
        lambda: _native.sketch_merge(*MANY, GROUPS),
        lambda: _native.sketch_quantile(*MANY, 0.5),
        lambda: _native.rollup_samples(VALUES, STARTS, FIGURES),
        lambda: _native.rollup_merge(*PACKED, FIGURES, HOURS, tuple(one[HOURS] for one in FIGURES)),
        lambda: _native.rollup_group(*PACKED, FIGURES, STARTS % 3),
        lambda: _native.rollup_faults(*PACKED, FIGURES),
    ],
    ids=["build", "merge", "quantile", "rollups", "hours", "groups", "faults"],
)
def test_the_interpreter_is_free_while_sketches_are_worked_on(work: Callable[[], object]) -> None:
    """A thread that waits for the interpreter gets it during the call: nothing else gives way here."""
    gate = threading.Lock()
    ran: list[bool] = []

    def wait() -> None:
        with gate:
            ran.append(True)

    gate.acquire()
    other = threading.Thread(target=wait)
    other.start()
    gate.release()
    until = time.monotonic() + PATIENCE_S
    while not ran and time.monotonic() < until:
        work()
    assert ran
    other.join(PATIENCE_S)
