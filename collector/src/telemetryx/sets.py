"""Sets of numbers as ascending arrays. NumPy's own functions for them load `numpy.ma` at their first call: 6 MB, and 35 ms of whoever waits."""

import numpy as np
from numpy.typing import NDArray

from telemetryx.types import I64


def distinct(numbers: I64) -> I64:
    """Return the numbers ascending, each once."""
    ascending = np.sort(numbers)
    first = np.ones(len(ascending), np.bool_)
    np.not_equal(ascending[1:], ascending[:-1], out=first[1:])
    return ascending[first]


def union(one: I64, other: I64) -> I64:
    """Return what is in either, ascending, each once."""
    return distinct(np.concatenate((one, other)))


def among(numbers: I64, some: I64) -> NDArray[np.bool_]:
    """Tell for each number whether it is in `some`, in any order."""
    if not len(some):
        return np.zeros(len(numbers), np.bool_)
    ascending = np.sort(some)
    at = np.minimum(np.searchsorted(ascending, numbers), len(ascending) - 1)
    return np.asarray(ascending[at] == numbers)


def without(numbers: I64, some: I64) -> I64:
    """Return the numbers that aren't in `some`, ascending, each once."""
    left = distinct(numbers)
    return left[~among(left, some)]
